/*
 * The filters of a policy: rules, actions, comparisons of arguments. See policy-reader.h.
 */
#include <errno.h>
#include <seccomp.h>

#include "daemon/sandbox/policy-reader.h"

/* seccomp: one argument's comparison */

static const struct reader_word compare_words[] = {
	{ "SCMP_CMP_NE", SCMP_CMP_NE },
	{ "SCMP_CMP_LT", SCMP_CMP_LT },
	{ "SCMP_CMP_LE", SCMP_CMP_LE },
	{ "SCMP_CMP_EQ", SCMP_CMP_EQ },
	{ "SCMP_CMP_GE", SCMP_CMP_GE },
	{ "SCMP_CMP_GT", SCMP_CMP_GT },
	{ "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ },
	{ NULL },
};

static int read_arg_index(struct reader *r, struct json_object *value, void *object)
{
	struct policy_arg *arg = object;
	uint64_t index = 0;
	int e = reader_u64(r, value, &index);

	if (e < 0)
		return e;
	if (index > 5)
		return reader_refuse(r, "must be 0 to 5");
	arg->index = (unsigned)index;
	return 0;
}

static int read_arg_value(struct reader *r, struct json_object *value, void *object)
{
	return reader_u64(r, value, &((struct policy_arg *)object)->value);
}

static int read_arg_value_two(struct reader *r, struct json_object *value, void *object)
{
	return reader_u64(r, value, &((struct policy_arg *)object)->value_two);
}

static int read_arg_op(struct reader *r, struct json_object *value, void *object)
{
	uint64_t op = 0;
	int e = reader_word(r, value, compare_words, &op);

	((struct policy_arg *)object)->op = (int)op;
	return e;
}

static const struct reader_key arg_keys[] = {
	{ "index", read_arg_index, true },
	{ "value", read_arg_value, true },
	{ "valueTwo", read_arg_value_two, false },
	{ "op", read_arg_op, true },
	{ NULL },
};

static int read_arg(struct reader *r, struct json_object *value, void *object)
{
	return reader_object(r, value, arg_keys, object);
}

/* seccomp: one rule */

struct rule_reader {
	struct policy_rule *rule;
	uint64_t errno_value;
	bool has_errno;
};

static int read_rule_name(struct reader *r, struct json_object *value, void *object)
{
	char **name = object;
	int e = reader_text(r, value, name);

	if (e < 0)
		return e;
	if (seccomp_syscall_resolve_name(*name) == __NR_SCMP_ERROR)
		return reader_refuse(r, "no such system call");
	return 0;
}

static int read_rule_names(struct reader *r, struct json_object *value, void *object)
{
	struct policy_rule *rule = ((struct rule_reader *)object)->rule;
	int e = reader_array(r, value, read_rule_name, sizeof(char *), (void **)&rule->names,
			     &rule->n_names);

	if (e >= 0 && rule->n_names == 0)
		return reader_refuse(r, "names no system call");
	return e;
}

static const struct reader_word action_words[] = {
	{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },
	{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP },
	{ "SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0) },
	{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS },
	{ NULL },
};

static int read_action(struct reader *r, struct json_object *value, uint32_t *ret)
{
	uint64_t action = 0;
	int e = reader_word(r, value, action_words, &action);

	*ret = (uint32_t)action;
	return e;
}

static int read_rule_action(struct reader *r, struct json_object *value, void *object)
{
	return read_action(r, value, &((struct rule_reader *)object)->rule->action);
}

static int read_rule_errno(struct reader *r, struct json_object *value, void *object)
{
	struct rule_reader *reader = object;
	int e = reader_u64(r, value, &reader->errno_value);

	if (e >= 0 && (reader->errno_value == 0 || reader->errno_value > 4095))
		return reader_refuse(r, "must be the number of an errno");
	reader->has_errno = true;
	return e;
}

static int read_rule_args(struct reader *r, struct json_object *value, void *object)
{
	struct policy_rule *rule = ((struct rule_reader *)object)->rule;
	unsigned seen = 0;

	if (!json_object_is_type(value, json_type_array))
		return reader_refuse(r, "must be an array");
	if (json_object_array_length(value) > 6)
		return reader_refuse(r, "has more than six members");
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		size_t len = reader_down_index(r, i);
		int e = read_arg(r, json_object_array_get_idx(value, i), &rule->args[i]);

		if (e < 0)
			return e;
		if (seen & 1u << rule->args[i].index)
			return reader_refuse(
				r,
				"the same argument twice: make it two rules (either is enough) or "
				"one masked comparison");
		seen |= 1u << rule->args[i].index;
		rule->n_args = i + 1;
		reader_up(r, len);
	}
	return 0;
}

static int read_rule_includes(struct reader *r, struct json_object *value, void *object)
{
	return reader_condition(r, value, &((struct rule_reader *)object)->rule->includes);
}

static int read_rule_excludes(struct reader *r, struct json_object *value, void *object)
{
	return reader_condition(r, value, &((struct rule_reader *)object)->rule->excludes);
}

static int read_rule_comment(struct reader *r, struct json_object *value, void *object)
{
	return reader_text(r, value, &((struct rule_reader *)object)->rule->comment);
}

static const struct reader_key rule_keys[] = {
	{ "names", read_rule_names, true },	   { "action", read_rule_action, true },
	{ "errnoRet", read_rule_errno, false },	   { "args", read_rule_args, false },
	{ "includes", read_rule_includes, false }, { "excludes", read_rule_excludes, false },
	{ "comment", read_rule_comment, true },	   { NULL },
};

static int read_rule(struct reader *r, struct json_object *value, void *object)
{
	struct rule_reader reader = { .rule = object };
	struct policy_rule *rule = object;
	int e = reader_object(r, value, rule_keys, &reader);

	if (e < 0)
		return e;
	if ((rule->action == SCMP_ACT_ERRNO(0)) != reader.has_errno)
		return reader_refuse(r, "SCMP_ACT_ERRNO and errnoRet go together");
	if (reader.has_errno)
		rule->action = SCMP_ACT_ERRNO(reader.errno_value);
	return 0;
}

/* seccomp: the whole filter */

static int read_seccomp_default(struct reader *r, struct json_object *value, void *object)
{
	struct policy_seccomp *seccomp = object;
	int e = read_action(r, value, &seccomp->default_action);

	if (e < 0)
		return e;
	if (seccomp->default_action != SCMP_ACT_TRAP &&
	    seccomp->default_action != SCMP_ACT_KILL_PROCESS)
		return reader_refuse(
			r,
			"must be SCMP_ACT_TRAP or SCMP_ACT_KILL_PROCESS: what no rule names is a "
			"fault, and is reported");
	return 0;
}

static const struct reader_word arch_words[] = {
	{ "SCMP_ARCH_X86_64", SCMP_ARCH_X86_64 },
	{ "SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64 },
	{ NULL },
};

static int read_seccomp_architectures(struct reader *r, struct json_object *value, void *object)
{
	bool native = false;

	if (!json_object_is_type(value, json_type_array))
		return reader_refuse(r, "must be an array");
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		size_t len = reader_down_index(r, i);
		uint64_t arch = 0;
		int e = reader_word(r, json_object_array_get_idx(value, i), arch_words, &arch);

		if (e < 0)
			return e;
		native |= arch == seccomp_arch_native();
		reader_up(r, len);
	}
	return native ? 0 : reader_refuse(r, "does not name this machine's architecture");
}

static int read_seccomp_rules(struct reader *r, struct json_object *value, void *object)
{
	struct policy_seccomp *seccomp = object;

	return reader_array(r, value, read_rule, sizeof(*seccomp->rules), (void **)&seccomp->rules,
			    &seccomp->n_rules);
}

static const struct reader_key seccomp_keys[] = {
	{ "defaultAction", read_seccomp_default, true },
	{ "architectures", read_seccomp_architectures, true },
	{ "syscalls", read_seccomp_rules, true },
	{ NULL },
};

int reader_seccomp(struct reader *r, struct json_object *value, struct policy_seccomp *seccomp)
{
	int e = reader_object(r, value, seccomp_keys, seccomp);

	if (e < 0)
		return e;
	for (size_t i = 0; i < seccomp->n_rules; i++)
		if (seccomp->rules[i].action == seccomp->default_action)
			return reader_refuse(r,
					     "a rule has the default action and so says nothing");
	return 0;
}
