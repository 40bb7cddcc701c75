/*
 * Reading a policy. See policy.h, and policies/README.md for the format.
 *
 * Every object of the document has a table of the keys that it knows, each with the function that
 * reads its value; what is in no table is an error. The reader carries the path of the key that it
 * is at ("seccomp.syscalls[3].args[0].op"), so that an error can say where.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <unistd.h>

#include "daemon/sandbox/fail.h"
#include "daemon/sandbox/policy.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

enum { POLICY_MAX_LEN = 1024 * 1024 };

struct reader {
	const char *path; /* of the file */
	char key[256];	  /* of the value at hand */
	char **ret_error;
};

typedef int (*read_fn)(struct reader *r, struct json_object *value, void *object);

struct reader_key {
	const char *name;
	read_fn read;
	bool required;
};

struct word {
	const char *name;
	uint64_t value;
};

static int bad(struct reader *r, const char *what)
{
	return fail(r->ret_error, -EINVAL, "%s: %s: %s", r->path, r->key[0] ? r->key : "document",
		    what);
}

/* Go down to a member; returns the length to give to reader_up. */
static size_t reader_down(struct reader *r, const char *name)
{
	size_t len = strlen(r->key);

	snprintf(r->key + len, sizeof(r->key) - len, "%s%s", len ? "." : "", name);
	return len;
}

static size_t reader_down_index(struct reader *r, size_t i)
{
	size_t len = strlen(r->key);

	snprintf(r->key + len, sizeof(r->key) - len, "[%zu]", i);
	return len;
}

static void reader_up(struct reader *r, size_t len)
{
	r->key[len] = '\0';
}

static int read_known_key(struct reader *r, const struct reader_key *keys, const char *name,
			  struct json_object *value, void *object)
{
	size_t len = reader_down(r, name);
	int e;

	for (; keys->name && strcmp(keys->name, name) != 0; keys++)
		;
	e = keys->name ? keys->read(r, value, object) : bad(r, "unknown key");
	if (e >= 0)
		reader_up(r, len);
	return e;
}

/* Reads the members of an object by a table that ends with a NULL name. */
static int read_object(struct reader *r, struct json_object *value, const struct reader_key *keys,
		       void *object)
{
	if (!json_object_is_type(value, json_type_object))
		return bad(r, "must be an object");
	json_object_object_foreach (value, name, member) {
		int e = read_known_key(r, keys, name, member, object);

		if (e < 0)
			return e;
	}
	for (; keys->name; keys++) {
		if (!keys->required || json_object_object_get_ex(value, keys->name, NULL))
			continue;
		reader_down(r, keys->name);
		return bad(r, "is missing");
	}
	return 0;
}

/*
 * Reads an array into a fresh one of elements of this size. *array and *n are set at once, so that
 * whatever is half read when an element turns out bad is freed with the policy.
 */
static int read_array(struct reader *r, struct json_object *value, read_fn read, size_t size,
		      void **array, size_t *n)
{
	size_t n_elements;

	if (!json_object_is_type(value, json_type_array))
		return bad(r, "must be an array");
	n_elements = json_object_array_length(value);
	*array = calloc(n_elements ? n_elements : 1, size);
	if (!*array)
		return -ENOMEM;
	for (size_t i = 0; i < n_elements; i++) {
		size_t len = reader_down_index(r, i);
		int e;

		*n = i + 1;
		e = read(r, json_object_array_get_idx(value, i), (char *)*array + i * size);
		if (e < 0)
			return e;
		reader_up(r, len);
	}
	return 0;
}

static int read_text(struct reader *r, struct json_object *value, char **ret)
{
	const char *text;

	if (!json_object_is_type(value, json_type_string))
		return bad(r, "must be a text");
	text = json_object_get_string(value);
	if (text[0] == '\0')
		return bad(r, "may not be empty");
	free(*ret);
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int read_u64(struct reader *r, struct json_object *value, uint64_t *ret)
{
	if (!json_object_is_type(value, json_type_int) ||
	    (json_object_get_int64(value) < 0 && json_object_get_uint64(value) == 0))
		return bad(r, "must be a whole number, not negative");
	*ret = json_object_get_uint64(value);
	return 0;
}

static int read_bool(struct reader *r, struct json_object *value, bool *ret)
{
	if (!json_object_is_type(value, json_type_boolean))
		return bad(r, "must be true or false");
	*ret = json_object_get_boolean(value);
	return 0;
}

/* Reads one of the words of a table that ends with a NULL name. */
static int read_word(struct reader *r, struct json_object *value, const struct word *words,
		     uint64_t *ret)
{
	const char *text = json_object_get_string(value);

	if (!json_object_is_type(value, json_type_string))
		return bad(r, "must be a text");
	for (; words->name; words++) {
		if (strcmp(words->name, text) == 0) {
			*ret = words->value;
			return 0;
		}
	}
	return fail(r->ret_error, -EINVAL, "%s: %s: unknown word \"%s\"", r->path, r->key, text);
}

/* seccomp: one argument's comparison */

static const struct word compare_words[] = {
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
	int e = read_u64(r, value, &index);

	if (e < 0)
		return e;
	if (index > 5)
		return bad(r, "must be 0 to 5");
	arg->index = (unsigned)index;
	return 0;
}

static int read_arg_value(struct reader *r, struct json_object *value, void *object)
{
	return read_u64(r, value, &((struct policy_arg *)object)->value);
}

static int read_arg_value_two(struct reader *r, struct json_object *value, void *object)
{
	return read_u64(r, value, &((struct policy_arg *)object)->value_two);
}

static int read_arg_op(struct reader *r, struct json_object *value, void *object)
{
	uint64_t op = 0;
	int e = read_word(r, value, compare_words, &op);

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
	return read_object(r, value, arg_keys, object);
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
	int e = read_text(r, value, name);

	if (e < 0)
		return e;
	if (seccomp_syscall_resolve_name(*name) == __NR_SCMP_ERROR)
		return bad(r, "no such system call");
	return 0;
}

static int read_rule_names(struct reader *r, struct json_object *value, void *object)
{
	struct policy_rule *rule = ((struct rule_reader *)object)->rule;
	int e = read_array(r, value, read_rule_name, sizeof(char *), (void **)&rule->names,
			   &rule->n_names);

	if (e >= 0 && rule->n_names == 0)
		return bad(r, "names no system call");
	return e;
}

static const struct word action_words[] = {
	{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },
	{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP },
	{ "SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0) },
	{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS },
	{ NULL },
};

static int read_action(struct reader *r, struct json_object *value, uint32_t *ret)
{
	uint64_t action = 0;
	int e = read_word(r, value, action_words, &action);

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
	int e = read_u64(r, value, &reader->errno_value);

	if (e >= 0 && (reader->errno_value == 0 || reader->errno_value > 4095))
		return bad(r, "must be the number of an errno");
	reader->has_errno = true;
	return e;
}

static int read_rule_args(struct reader *r, struct json_object *value, void *object)
{
	struct policy_rule *rule = ((struct rule_reader *)object)->rule;
	unsigned seen = 0;

	if (!json_object_is_type(value, json_type_array))
		return bad(r, "must be an array");
	if (json_object_array_length(value) > 6)
		return bad(r, "has more than six members");
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		size_t len = reader_down_index(r, i);
		int e = read_arg(r, json_object_array_get_idx(value, i), &rule->args[i]);

		if (e < 0)
			return e;
		if (seen & 1u << rule->args[i].index)
			return bad(
				r,
				"the same argument twice: make it two rules (either is enough) or "
				"one masked comparison");
		seen |= 1u << rule->args[i].index;
		rule->n_args = i + 1;
		reader_up(r, len);
	}
	return 0;
}

static const struct word feature_words[] = {
	{ "io_uring", POLICY_FEATURE_IO_URING },
	{ NULL },
};

static int read_features(struct reader *r, struct json_object *value, void *object)
{
	unsigned *features = object;

	if (!json_object_is_type(value, json_type_array))
		return bad(r, "must be an array");
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		size_t len = reader_down_index(r, i);
		uint64_t feature = 0;
		int e = read_word(r, json_object_array_get_idx(value, i), feature_words, &feature);

		if (e < 0)
			return e;
		*features |= (unsigned)feature;
		reader_up(r, len);
	}
	return 0;
}

static const struct reader_key condition_keys[] = {
	{ "features", read_features, true },
	{ NULL },
};

static int read_rule_includes(struct reader *r, struct json_object *value, void *object)
{
	return read_object(r, value, condition_keys,
			   &((struct rule_reader *)object)->rule->includes);
}

static int read_rule_excludes(struct reader *r, struct json_object *value, void *object)
{
	return read_object(r, value, condition_keys,
			   &((struct rule_reader *)object)->rule->excludes);
}

static int read_rule_comment(struct reader *r, struct json_object *value, void *object)
{
	return read_text(r, value, &((struct rule_reader *)object)->rule->comment);
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
	int e = read_object(r, value, rule_keys, &reader);

	if (e < 0)
		return e;
	if ((rule->action == SCMP_ACT_ERRNO(0)) != reader.has_errno)
		return bad(r, "SCMP_ACT_ERRNO and errnoRet go together");
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
		return bad(
			r,
			"must be SCMP_ACT_TRAP or SCMP_ACT_KILL_PROCESS: what no rule names is a "
			"fault, and is reported");
	return 0;
}

static const struct word arch_words[] = {
	{ "SCMP_ARCH_X86_64", SCMP_ARCH_X86_64 },
	{ "SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64 },
	{ NULL },
};

static int read_seccomp_architectures(struct reader *r, struct json_object *value, void *object)
{
	bool native = false;

	if (!json_object_is_type(value, json_type_array))
		return bad(r, "must be an array");
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		size_t len = reader_down_index(r, i);
		uint64_t arch = 0;
		int e = read_word(r, json_object_array_get_idx(value, i), arch_words, &arch);

		if (e < 0)
			return e;
		native |= arch == seccomp_arch_native();
		reader_up(r, len);
	}
	return native ? 0 : bad(r, "does not name this machine's architecture");
}

static int read_seccomp_rules(struct reader *r, struct json_object *value, void *object)
{
	struct policy_seccomp *seccomp = object;

	return read_array(r, value, read_rule, sizeof(*seccomp->rules), (void **)&seccomp->rules,
			  &seccomp->n_rules);
}

static const struct reader_key seccomp_keys[] = {
	{ "defaultAction", read_seccomp_default, true },
	{ "architectures", read_seccomp_architectures, true },
	{ "syscalls", read_seccomp_rules, true },
	{ NULL },
};

static int read_seccomp(struct reader *r, struct json_object *value, struct policy_seccomp *seccomp)
{
	int e = read_object(r, value, seccomp_keys, seccomp);

	if (e < 0)
		return e;
	for (size_t i = 0; i < seccomp->n_rules; i++)
		if (seccomp->rules[i].action == seccomp->default_action)
			return bad(r, "a rule has the default action and so says nothing");
	return 0;
}

static int read_worker_seccomp(struct reader *r, struct json_object *value, void *object)
{
	return read_seccomp(r, value, &((struct policy *)object)->worker);
}

static int read_keeper_seccomp(struct reader *r, struct json_object *value, void *object)
{
	return read_seccomp(r, value, &((struct policy *)object)->keeper);
}

static const struct reader_key keeper_keys[] = {
	{ "seccomp", read_keeper_seccomp, true },
	{ NULL },
};

static int read_keeper(struct reader *r, struct json_object *value, void *object)
{
	return read_object(r, value, keeper_keys, object);
}

/* namespaces */

static const struct word namespace_words[] = {
	{ "user", CLONE_NEWUSER },     { "pid", CLONE_NEWPID },
	{ "mount", CLONE_NEWNS },      { "network", CLONE_NEWNET },
	{ "ipc", CLONE_NEWIPC },       { "uts", CLONE_NEWUTS },
	{ "cgroup", CLONE_NEWCGROUP }, { NULL },
};

static int read_namespace_type(struct reader *r, struct json_object *value, void *object)
{
	struct policy_namespace *ns = object;
	int e = read_word(r, value, namespace_words, &ns->flag);

	return e < 0 ? e : read_text(r, value, &ns->type);
}

static int read_namespace_comment(struct reader *r, struct json_object *value, void *object)
{
	return read_text(r, value, &((struct policy_namespace *)object)->comment);
}

static const struct reader_key namespace_keys[] = {
	{ "type", read_namespace_type, true },
	{ "comment", read_namespace_comment, true },
	{ NULL },
};

static int read_namespace(struct reader *r, struct json_object *value, void *object)
{
	return read_object(r, value, namespace_keys, object);
}

static int read_namespaces(struct reader *r, struct json_object *value, void *object)
{
	struct policy *policy = object;
	uint64_t seen = 0;
	int e = read_array(r, value, read_namespace, sizeof(*policy->namespaces),
			   (void **)&policy->namespaces, &policy->n_namespaces);

	if (e < 0)
		return e;
	for (size_t i = 0; i < policy->n_namespaces; i++) {
		if (seen & policy->namespaces[i].flag)
			return bad(r, "names a namespace twice");
		seen |= policy->namespaces[i].flag;
	}
	for (const struct word *word = namespace_words; word->name; word++)
		if (!(seen & word->value))
			return fail(r->ret_error, -EINVAL,
				    "%s: %s: \"%s\" is missing: a device has all seven of its own",
				    r->path, r->key, word->name);
	return 0;
}

/* rlimits */

static const struct word rlimit_words[] = {
	{ "RLIMIT_AS", RLIMIT_AS },	      { "RLIMIT_CORE", RLIMIT_CORE },
	{ "RLIMIT_CPU", RLIMIT_CPU },	      { "RLIMIT_DATA", RLIMIT_DATA },
	{ "RLIMIT_FSIZE", RLIMIT_FSIZE },     { "RLIMIT_LOCKS", RLIMIT_LOCKS },
	{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK }, { "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
	{ "RLIMIT_NICE", RLIMIT_NICE },	      { "RLIMIT_NOFILE", RLIMIT_NOFILE },
	{ "RLIMIT_NPROC", RLIMIT_NPROC },     { "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
	{ "RLIMIT_RTTIME", RLIMIT_RTTIME },   { "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
	{ "RLIMIT_STACK", RLIMIT_STACK },     { NULL },
};

static int read_rlimit_type(struct reader *r, struct json_object *value, void *object)
{
	struct policy_rlimit *rlimit = object;
	uint64_t resource = 0;
	int e = read_word(r, value, rlimit_words, &resource);

	if (e < 0)
		return e;
	rlimit->resource = (int)resource;
	return read_text(r, value, &rlimit->type);
}

static int read_rlimit_soft(struct reader *r, struct json_object *value, void *object)
{
	uint64_t limit = 0;
	int e = read_u64(r, value, &limit);

	((struct policy_rlimit *)object)->value.rlim_cur = (rlim_t)limit;
	return e;
}

static int read_rlimit_hard(struct reader *r, struct json_object *value, void *object)
{
	uint64_t limit = 0;
	int e = read_u64(r, value, &limit);

	((struct policy_rlimit *)object)->value.rlim_max = (rlim_t)limit;
	return e;
}

static int read_rlimit_comment(struct reader *r, struct json_object *value, void *object)
{
	return read_text(r, value, &((struct policy_rlimit *)object)->comment);
}

static const struct reader_key rlimit_keys[] = {
	{ "type", read_rlimit_type, true },
	{ "soft", read_rlimit_soft, true },
	{ "hard", read_rlimit_hard, true },
	{ "comment", read_rlimit_comment, true },
	{ NULL },
};

static int read_rlimit(struct reader *r, struct json_object *value, void *object)
{
	struct policy_rlimit *rlimit = object;
	int e = read_object(r, value, rlimit_keys, rlimit);

	if (e >= 0 && rlimit->value.rlim_cur > rlimit->value.rlim_max)
		return bad(r, "soft is above hard");
	return e;
}

static int read_rlimits(struct reader *r, struct json_object *value, void *object)
{
	struct policy *policy = object;

	return read_array(r, value, read_rlimit, sizeof(*policy->rlimits),
			  (void **)&policy->rlimits, &policy->n_rlimits);
}

/* io_uring, landlock, and what must be empty */

static int read_opcode_name(struct reader *r, struct json_object *value, void *object)
{
	struct policy_opcode *opcode = object;
	int e = read_text(r, value, &opcode->name);

	if (e >= 0 && strncmp(opcode->name, "IORING_OP_", strlen("IORING_OP_")) != 0)
		return bad(r, "must be the name of an opcode, IORING_OP_…");
	return e;
}

static int read_opcode_comment(struct reader *r, struct json_object *value, void *object)
{
	return read_text(r, value, &((struct policy_opcode *)object)->comment);
}

static const struct reader_key opcode_keys[] = {
	{ "opcode", read_opcode_name, true },
	{ "comment", read_opcode_comment, true },
	{ NULL },
};

static int read_opcode(struct reader *r, struct json_object *value, void *object)
{
	return read_object(r, value, opcode_keys, object);
}

static int read_io_uring(struct reader *r, struct json_object *value, void *object)
{
	struct policy *policy = object;

	return read_array(r, value, read_opcode, sizeof(*policy->opcodes),
			  (void **)&policy->opcodes, &policy->n_opcodes);
}

static int read_landlock_required(struct reader *r, struct json_object *value, void *object)
{
	return read_bool(r, value, &((struct policy *)object)->landlock_required);
}

static int read_landlock_comment(struct reader *r, struct json_object *value, void *object)
{
	return read_text(r, value, &((struct policy *)object)->landlock_comment);
}

static const struct reader_key landlock_keys[] = {
	{ "required", read_landlock_required, true },
	{ "comment", read_landlock_comment, true },
	{ NULL },
};

static int read_landlock(struct reader *r, struct json_object *value, void *object)
{
	return read_object(r, value, landlock_keys, object);
}

static int read_empty(struct reader *r, struct json_object *value, void *object)
{
	(void)object;
	if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) > 0)
		return bad(r, "must be []: no device type has any");
	return 0;
}

/* the document */

static int read_type(struct reader *r, struct json_object *value, void *object)
{
	return read_text(r, value, &((struct policy *)object)->type);
}

static const struct reader_key policy_keys[] = {
	{ "type", read_type, true },
	{ "seccomp", read_worker_seccomp, true },
	{ "keeper", read_keeper, true },
	{ "capabilities", read_empty, true },
	{ "namespaces", read_namespaces, true },
	{ "rlimits", read_rlimits, true },
	{ "mounts", read_empty, true },
	{ "landlock", read_landlock, true },
	{ "io_uring", read_io_uring, true },
	{ NULL },
};

static unsigned line_of(const char *text, size_t offset)
{
	unsigned line = 1;

	for (size_t i = 0; i < offset && text[i]; i++)
		line += text[i] == '\n';
	return line;
}

static int parse_json(const char *text, const char *path, struct json_object **ret,
		      char **ret_error)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *root;
	enum json_tokener_error error;
	size_t end;

	if (!tokener)
		return -ENOMEM;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tokener, text, (int)strlen(text) + 1);
	error = json_tokener_get_error(tokener);
	end = json_tokener_get_parse_end(tokener);
	json_tokener_free(tokener);
	if (error != json_tokener_success)
		return fail(ret_error, -EINVAL, "%s:%u: not JSON: %s", path, line_of(text, end),
			    json_tokener_error_desc(error));
	if (text[end + strspn(text + end, " \t\r\n")] != '\0') {
		json_object_put(root);
		return fail(ret_error, -EINVAL, "%s:%u: something follows the document", path,
			    line_of(text, end));
	}
	*ret = root;
	return 0;
}

int policy_parse(const char *text, const char *path, struct policy **ret, char **ret_error)
{
	struct reader reader = { .path = path, .ret_error = ret_error };
	struct json_object *root = NULL;
	struct policy *policy;
	int r;

	*ret_error = NULL;
	if (strlen(text) > POLICY_MAX_LEN)
		return fail(ret_error, -EFBIG, "%s: longer than %d bytes", path, POLICY_MAX_LEN);
	r = parse_json(text, path, &root, ret_error);
	if (r < 0)
		return r;
	policy = calloc(1, sizeof(*policy));
	if (!policy || !(policy->path = strdup(path)))
		r = -ENOMEM;
	else
		r = read_object(&reader, root, policy_keys, policy);
	json_object_put(root);
	if (r < 0) {
		policy_free(policy);
		return r;
	}
	*ret = policy;
	return 0;
}

static int read_file(const char *path, char **ret_text)
{
	scope_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	scope_free char *text = malloc(POLICY_MAX_LEN + 2);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (!text)
		return -ENOMEM;
	while ((n = read(fd, text + len, POLICY_MAX_LEN + 1 - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return -errno;
	if (memchr(text, '\0', len))
		return -EINVAL;
	text[len] = '\0';
	*ret_text = take_ptr(text);
	return 0;
}

int policy_load(const char *name, const char *dir, struct policy **ret, char **ret_error)
{
	scope_free char *path = NULL;
	scope_free char *text = NULL;
	int r;

	*ret_error = NULL;
	if (name[0] == '/')
		r = asprintf(&path, "%s", name);
	else if (strchr(name, '/'))
		return fail(ret_error, -EINVAL,
			    "policy \"%s\": must be a name below %s or an absolute path", name,
			    dir);
	else
		r = asprintf(&path, "%s/%s.json", dir, name);
	if (r < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = read_file(path, &text);
	if (r < 0)
		return fail(ret_error, r, "policy %s cannot be read: %s", path, error_text(r));
	return policy_parse(text, path, ret, ret_error);
}

static void seccomp_done(struct policy_seccomp *seccomp)
{
	for (size_t i = 0; i < seccomp->n_rules; i++) {
		struct policy_rule *rule = &seccomp->rules[i];

		for (size_t k = 0; k < rule->n_names; k++)
			free(rule->names[k]);
		free(rule->names);
		free(rule->comment);
	}
	free(seccomp->rules);
}

struct policy *policy_free(struct policy *policy)
{
	if (!policy)
		return NULL;
	seccomp_done(&policy->worker);
	seccomp_done(&policy->keeper);
	for (size_t i = 0; i < policy->n_namespaces; i++) {
		free(policy->namespaces[i].type);
		free(policy->namespaces[i].comment);
	}
	for (size_t i = 0; i < policy->n_rlimits; i++) {
		free(policy->rlimits[i].type);
		free(policy->rlimits[i].comment);
	}
	for (size_t i = 0; i < policy->n_opcodes; i++) {
		free(policy->opcodes[i].name);
		free(policy->opcodes[i].comment);
	}
	free(policy->namespaces);
	free(policy->rlimits);
	free(policy->opcodes);
	free(policy->landlock_comment);
	free(policy->type);
	free(policy->path);
	free(policy);
	return NULL;
}

bool policy_rule_applies(const struct policy_rule *rule, unsigned features)
{
	return (rule->includes & ~features) == 0 && (rule->excludes & features) == 0;
}

/* Is this the first applying rule that allows name? (rule i, name k) */
static bool is_first_mention(const struct policy_seccomp *seccomp, unsigned features, size_t i,
			     size_t k)
{
	const char *name = seccomp->rules[i].names[k];

	for (size_t a = 0; a <= i; a++) {
		const struct policy_rule *rule = &seccomp->rules[a];

		if (rule->action != SCMP_ACT_ALLOW || !policy_rule_applies(rule, features))
			continue;
		for (size_t b = 0; b < (a == i ? k : rule->n_names); b++)
			if (strcmp(rule->names[b], name) == 0)
				return false;
	}
	return true;
}

size_t policy_count_allowed(const struct policy_seccomp *seccomp, unsigned features)
{
	size_t n = 0;

	for (size_t i = 0; i < seccomp->n_rules; i++) {
		const struct policy_rule *rule = &seccomp->rules[i];

		if (rule->action != SCMP_ACT_ALLOW || !policy_rule_applies(rule, features))
			continue;
		for (size_t k = 0; k < rule->n_names; k++)
			n += is_first_mention(seccomp, features, i, k);
	}
	return n;
}
