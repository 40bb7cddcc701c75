/* The plan of a sandbox. See plan.h. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>

#include "daemon/sandbox/fail.h"
#include "daemon/sandbox/plan.h"
#include "devices/process/contract.h"

static const struct {
	const char *name;
	bool in_parent;
	const char *reason;
} step_infos[] = {
	[PLAN_CGROUP] = { "cgroup", true,
			  "everything of the device can be counted, limited and killed at once" },
	[PLAN_CLONE] = { "namespaces", true, "the device sees no object of the host by name" },
	[PLAN_MAP_IDS] = { "id map", true,
			   "the namespace knows one user and one group, the device's own, and no "
			   "root" },
	[PLAN_DESCRIPTOR] = { "descriptor", false, NULL },
	[PLAN_CLOSE_OTHERS] = { "close others", false,
				"nothing of vmdevd or of another device is inherited" },
	[PLAN_SIGNALS] = { "signals", false,
			   "vmdevd blocks and ignores signals that the device must see" },
	[PLAN_SESSION] = { "session", false,
			   "no controlling terminal, no foreground group, no mode mask of "
			   "vmdevd's" },
	[PLAN_CGROUP_NAMESPACE] = { "cgroup namespace", false,
				    "made after the device is in its cgroup, so that this is its "
				    "root" },
	[PLAN_HOSTNAME] = { "host name", false,
			    "the host's name is none of the device's business" },
	[PLAN_SECUREBITS] = { "securebits", false,
			      "neither user 0 nor an exec ever brings a capability back; locked" },
	[PLAN_IDS] = { "ids", false,
		       "own user and group, no supplementary groups: no file of another's is "
		       "ours" },
	[PLAN_ROOT] = { "root", false,
			"an empty, read-only file system is all there is; no /proc, no /dev" },
	[PLAN_RLIMIT] = { "rlimit", false, NULL },
	[PLAN_CAPABILITIES] = { "capabilities", false,
				"permitted, effective, inheritable, bounding and ambient: all "
				"empty" },
	[PLAN_NOT_DUMPABLE] = { "not dumpable", false,
				"no core and no tracer of the same user; the program repeats it, "
				"as "
				"exec resets it" },
	[PLAN_NO_NEW_PRIVS] = { "no new privileges", false,
				"no exec grants anything; filters may be installed without "
				"privilege" },
	[PLAN_LANDLOCK] = { "landlock", false, NULL },
	[PLAN_FILTER] = { "filter", false,
			  "the keeper's system calls and those of a starting worker, nothing "
			  "else" },
	[PLAN_PROGRAM] = { "program", false,
			   "executed by descriptor: its path does not exist here; no environment" },
};
static_assert(sizeof(step_infos) / sizeof(*step_infos) == _PLAN_STEP_TYPE_N, "a step has no name");

static const struct {
	const char *name;
	int number;
	const char *reason;
} fd_infos[] = {
	[PLAN_FD_INPUT] = { "null", 0,
			    "/dev/null; the keeper fills the gaps in the contract's numbers with "
			    "it" },
	[PLAN_FD_OUTPUT] = { "null", 1, "/dev/null: what a library prints by mistake ends here" },
	[PLAN_FD_LOG] = { "log", CONTRACT_FD_LOG,
			  "records reach vmdevd's journal with our name on" },
	[PLAN_FD_CONTROL] = { "control", CONTRACT_FD_CONTROL,
			      "vmdevd hears of readiness and death" },
	[PLAN_FD_LISTEN] = { "listen", CONTRACT_FD_LISTEN,
			     "front-ends connect; vmdevd keeps it too" },
	[PLAN_FD_PROGRAM] = { "program", CONTRACT_FD_PROGRAM, "the keeper executes itself anew" },
	[PLAN_FD_FILTER] = { "filter", CONTRACT_FD_FILTER,
			     "the worker's own, tighter filter; sealed" },
	[PLAN_FD_IMAGE] = { "image", CONTRACT_FD_BLK_IMAGE,
			    "the disk: the one thing of the host's" },
};
static_assert(sizeof(fd_infos) / sizeof(*fd_infos) == _PLAN_FD_N, "a descriptor has no number");

const char *plan_step_to_string(enum plan_step_type type)
{
	return step_infos[type].name;
}

bool plan_step_in_parent(enum plan_step_type type)
{
	return step_infos[type].in_parent;
}

static struct plan_step *add(struct plan *plan, enum plan_step_type type)
{
	struct plan_step *step = &plan->steps[plan->n_steps++];

	assert(plan->n_steps <= PLAN_MAX_STEPS);
	*step = (struct plan_step){ .type = type, .reason = step_infos[type].reason };
	return step;
}

static void add_descriptors(struct plan *plan)
{
	for (int role = 0; role < _PLAN_FD_N; role++) {
		struct plan_step *step = add(plan, PLAN_DESCRIPTOR);

		step->reason = fd_infos[role].reason;
		step->fd.role = (enum plan_fd)role;
		step->fd.number = fd_infos[role].number;
	}
	add(plan, PLAN_CLOSE_OTHERS);
}

static void add_rlimits(struct plan *plan, const struct policy *policy)
{
	for (size_t i = 0; i < policy->n_rlimits; i++) {
		struct plan_step *step = add(plan, PLAN_RLIMIT);

		step->rlimit = &policy->rlimits[i];
		step->reason = policy->rlimits[i].comment;
	}
}

/* The contract needs descriptors up to its limit; a policy may not take them away or add to them.
 */
static int check_nofile(const struct policy *policy, char **ret_error)
{
	for (size_t i = 0; i < policy->n_rlimits; i++) {
		const struct policy_rlimit *rlimit = &policy->rlimits[i];

		if (rlimit->resource == RLIMIT_NOFILE &&
		    rlimit->value.rlim_cur == CONTRACT_FD_LIMIT &&
		    rlimit->value.rlim_max == CONTRACT_FD_LIMIT)
			return 0;
	}
	return fail(ret_error, -EINVAL, "%s: rlimits: RLIMIT_NOFILE must be there and be %d",
		    policy->path, CONTRACT_FD_LIMIT);
}

int plan_make(const struct policy *policy, uint32_t uid_index, struct plan *ret, char **ret_error)
{
	struct plan plan = { 0 };
	uint64_t flags = 0;
	struct plan_step *step;
	int r = check_nofile(policy, ret_error);

	if (r < 0)
		return r;
	if (policy->n_rlimits > RLIM_NLIMITS)
		return fail(ret_error, -EINVAL, "%s: rlimits: names one twice", policy->path);
	if (uid_index >= PLAN_UID_RANGE)
		return fail(ret_error, -ERANGE, "no user is left for the device: index %" PRIu32,
			    uid_index);
	for (size_t i = 0; i < policy->n_namespaces; i++)
		flags |= policy->namespaces[i].flag;

	add(&plan, PLAN_CGROUP);
	/* The cgroup namespace takes its root from the cgroup that its maker is in: made later. */
	add(&plan, PLAN_CLONE)->clone_flags = flags & ~(uint64_t)CLONE_NEWCGROUP;
	add(&plan, PLAN_MAP_IDS)->id = PLAN_UID_BASE + uid_index;
	add_descriptors(&plan);
	add(&plan, PLAN_SIGNALS);
	add(&plan, PLAN_SESSION);
	if (flags & CLONE_NEWCGROUP)
		add(&plan, PLAN_CGROUP_NAMESPACE);
	add(&plan, PLAN_HOSTNAME);
	add(&plan, PLAN_SECUREBITS);
	add(&plan, PLAN_IDS)->id = PLAN_UID_BASE + uid_index;
	add(&plan, PLAN_ROOT);
	add_rlimits(&plan, policy);
	add(&plan, PLAN_CAPABILITIES);
	add(&plan, PLAN_NOT_DUMPABLE);
	add(&plan, PLAN_NO_NEW_PRIVS);
	step = add(&plan, PLAN_LANDLOCK);
	step->required = policy->landlock_required;
	step->reason = policy->landlock_comment;
	add(&plan, PLAN_FILTER);
	add(&plan, PLAN_PROGRAM);
	*ret = plan;
	return 0;
}

static void describe_namespaces(uint64_t flags, char *text, size_t size)
{
	static const struct {
		uint64_t flag;
		const char *name;
	} names[] = {
		{ CLONE_NEWUSER, "user" },   { CLONE_NEWPID, "pid" }, { CLONE_NEWNS, "mount" },
		{ CLONE_NEWNET, "network" }, { CLONE_NEWIPC, "ipc" }, { CLONE_NEWUTS, "uts" },
	};
	size_t len = 0;

	text[0] = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(*names) && len < size; i++)
		if (flags & names[i].flag)
			len += (size_t)snprintf(text + len, size - len, "%s%s", len ? " " : "",
						names[i].name);
}

void plan_step_describe(const struct plan_step *step, char *text, size_t size)
{
	const char *name = step_infos[step->type].name;

	switch ((int)step->type) {
	case PLAN_CLONE:
		describe_namespaces(step->clone_flags, text, size);
		break;
	case PLAN_MAP_IDS:
	case PLAN_IDS:
		snprintf(text, size, "%s %" PRIu32, name, step->id);
		break;
	case PLAN_DESCRIPTOR:
		snprintf(text, size, "%d %s", step->fd.number, fd_infos[step->fd.role].name);
		break;
	case PLAN_RLIMIT:
		snprintf(text, size, "%s %ju", step->rlimit->type,
			 (uintmax_t)step->rlimit->value.rlim_cur);
		break;
	case PLAN_LANDLOCK:
		snprintf(text, size, "deny all%s", step->required ? ", required" : "");
		break;
	default:
		snprintf(text, size, "%s", name);
	}
}

void plan_print(const struct plan *plan, FILE *file)
{
	for (size_t i = 0; i < plan->n_steps; i++) {
		const struct plan_step *step = &plan->steps[i];
		char text[128];

		plan_step_describe(step, text, sizeof(text));
		fprintf(file, "%-7s %-17s %-32s %s\n",
			step_infos[step->type].in_parent ? "vmdevd" : "child",
			step_infos[step->type].name, text, step->reason);
	}
}
