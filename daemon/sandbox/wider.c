/* Two policies compared. See wider.h. */
#include "daemon/sandbox/wider.h"

#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct remarks {
	FILE *out;
	const char *group; /* the last that was named */
};

static void name(struct remarks *l, const char *group, const char *what)
{
	if (l->group && strcmp(l->group, group) == 0)
		fprintf(l->out, ", %s", what);
	else
		fprintf(l->out, "%s%s: %s", l->group ? "; " : "", group, what);
	l->group = group;
}

/* System calls */

static bool lets_through(uint32_t action)
{
	return action == SCMP_ACT_ALLOW || action == SCMP_ACT_LOG;
}

static bool has_arg(const struct policy_rule *rule, const struct policy_arg *a)
{
	for (size_t i = 0; i < rule->n_args; i++)
		if (rule->args[i].index == a->index && rule->args[i].op == a->op &&
		    rule->args[i].value == a->value &&
		    (a->op != SCMP_CMP_MASKED_EQ || rule->args[i].value_two == a->value_two))
			return true;
	return false;
}

/* Whatever passes rule passes shipped. */
static bool is_within(const struct policy_rule *rule, const char *call,
		      const struct policy_rule *shipped)
{
	bool named = false;

	for (size_t i = 0; i < shipped->n_names; i++)
		named = named || strcmp(shipped->names[i], call) == 0;
	if (!named || !lets_through(shipped->action) || (shipped->includes & ~rule->includes) ||
	    (shipped->excludes & ~rule->excludes))
		return false;
	for (size_t i = 0; i < shipped->n_args; i++)
		if (!has_arg(rule, &shipped->args[i]))
			return false;
	return true;
}

static bool is_within_any(const struct policy_rule *rule, const char *call,
			  const struct policy_seccomp *shipped)
{
	for (size_t i = 0; i < shipped->n_rules; i++)
		if (is_within(rule, call, &shipped->rules[i]))
			return true;
	return false;
}

/* more: another list of what is shipped; NULL: none. */
static void compare_calls(struct remarks *l, const char *group, const struct policy_seccomp *s,
			  const struct policy_seccomp *shipped, const struct policy_seccomp *more)
{
	for (size_t i = 0; i < s->n_rules; i++) {
		const struct policy_rule *rule = &s->rules[i];

		if (!lets_through(rule->action))
			continue;
		for (size_t n = 0; n < rule->n_names; n++)
			if (!is_within_any(rule, rule->names[n], shipped) &&
			    !(more && is_within_any(rule, rule->names[n], more)))
				name(l, group, rule->names[n]);
	}
}

/* The rest */

static void compare_capabilities(struct remarks *l, const struct policy *p,
				 const struct policy *shipped)
{
	for (size_t i = 0; i < p->n_capabilities; i++) {
		const struct policy_capability *c = &p->capabilities[i];
		bool found = false;

		for (size_t k = 0; k < shipped->n_capabilities; k++)
			found = found || (shipped->capabilities[k].number == c->number &&
					  (shipped->capabilities[k].includes & ~c->includes) == 0);
		if (!found)
			name(l, "capabilities", c->name);
	}
}

static const struct policy_rlimit *rlimit_of(const struct policy *p, int resource)
{
	for (size_t i = 0; i < p->n_rlimits; i++)
		if (p->rlimits[i].resource == resource)
			return &p->rlimits[i];
	return NULL;
}

/* A limit that is not set stays what vmdevd has. */
static void compare_rlimits(struct remarks *l, const struct policy *p, const struct policy *shipped)
{
	for (size_t i = 0; i < shipped->n_rlimits; i++) {
		const struct policy_rlimit *was = &shipped->rlimits[i];
		const struct policy_rlimit *is = rlimit_of(p, was->resource);

		if (!is || is->value.rlim_cur > was->value.rlim_cur ||
		    is->value.rlim_max > was->value.rlim_max)
			name(l, "rlimits", was->type);
	}
}

static void compare_opcodes(struct remarks *l, const struct policy *p, const struct policy *shipped)
{
	for (size_t i = 0; i < p->n_opcodes; i++) {
		bool found = false;

		for (size_t k = 0; k < shipped->n_opcodes; k++)
			found = found || shipped->opcodes[k].number == p->opcodes[i].number;
		if (!found)
			name(l, "io_uring", p->opcodes[i].name);
	}
}

static void compare_landlock(struct remarks *l, const struct policy *p,
			     const struct policy *shipped)
{
	if (shipped->landlock_required && !p->landlock_required)
		name(l, "landlock", "not required");
	if (p->landlock_files && !shipped->landlock_files)
		name(l, "landlock", "files");
}

int policy_wider(const struct policy *policy, const struct policy *shipped, char **ret)
{
	char *text = NULL;
	size_t len = 0;
	struct remarks l = { .out = open_memstream(&text, &len) };

	if (!l.out)
		return -ENOMEM;
	compare_calls(&l, "seccomp", &policy->worker, &shipped->worker, NULL);
	compare_calls(&l, "keeper.seccomp", &policy->keeper, &shipped->keeper, &shipped->worker);
	compare_capabilities(&l, policy, shipped);
	compare_rlimits(&l, policy, shipped);
	compare_landlock(&l, policy, shipped);
	compare_opcodes(&l, policy, shipped);
	if (fclose(l.out) != 0) {
		free(text);
		return -ENOMEM;
	}
	if (!l.group) {
		free(text);
		text = NULL;
	}
	*ret = text;
	return 0;
}
