/* The plan of a sandbox. See plan.h. */
#include <assert.h>
#include <cap-ng.h>
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
	[PLAN_MAP_IDS] = { "id map", true, NULL },
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
	[PLAN_PROC] = { "proc", false,
			"held files are opened anew by number; nothing but this sandbox's "
			"processes is shown, and it is mounted nowhere" },
	[PLAN_ROOT] = { "root", false, NULL },
	[PLAN_FILES] = { "files", false,
			 "the host's programs and libraries, read-only, and its name servers; "
			 "nothing else of the host's" },
	[PLAN_RLIMIT] = { "rlimit", false, NULL },
	[PLAN_CAPABILITIES] = { "capabilities", false,
				"permitted, effective, inheritable, bounding and ambient: no other "
				"than these, for ever" },
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
	[PLAN_EXECUTE] = { "execute", false,
			   "a program of the host's, which confines itself further; no "
			   "environment" },
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
};
static_assert(sizeof(fd_infos) / sizeof(*fd_infos) == PLAN_FD_RESOURCE,
	      "a descriptor has no number");

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

static void add_descriptor(struct plan *plan, int role, const char *name, int number,
			   const char *reason)
{
	struct plan_step *step = add(plan, PLAN_DESCRIPTOR);

	step->reason = reason;
	step->fd.role = role;
	step->fd.number = number;
	step->fd.name = name;
}

static void add_descriptors(struct plan *plan, const struct plan_spec *spec)
{
	for (int role = 0; role < PLAN_FD_RESOURCE; role++)
		if (role != PLAN_FD_LISTEN || !spec->helper)
			add_descriptor(plan, role, fd_infos[role].name, fd_infos[role].number,
				       fd_infos[role].reason);
	for (uint32_t i = 0; i < spec->n_resources; i++) {
		const struct plan_resource *resource = &spec->resources[i];

		add_descriptor(plan, PLAN_FD_RESOURCE + (int)i, resource->name, resource->number,
			       resource->reason);
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
static int check_nofile(const struct policy *policy, uint32_t limit, char **ret_error)
{
	for (size_t i = 0; i < policy->n_rlimits; i++) {
		const struct policy_rlimit *rlimit = &policy->rlimits[i];

		if (rlimit->resource == RLIMIT_NOFILE && rlimit->value.rlim_cur == limit &&
		    rlimit->value.rlim_max == limit)
			return 0;
	}
	return fail(ret_error, -EINVAL, "%s: rlimits: RLIMIT_NOFILE must be there and be %" PRIu32,
		    policy->path, limit);
}

/*
 * Another type's would be a filter under which this one dies, or that leaves it more than it needs.
 */
static int check_type(const struct policy *policy, const char *type, char **ret_error)
{
	if (strcmp(policy->type, type) == 0)
		return 0;
	return fail(ret_error, -EINVAL, "%s: type: it is for \"%s\", and this is of type \"%s\"",
		    policy->path, policy->type, type);
}

static int check(const struct policy *policy, const struct plan_spec *spec, char **ret_error)
{
	int r = check_type(policy, spec->type, ret_error);

	if (r == 0)
		r = check_nofile(policy, spec->fd_limit, ret_error);
	if (r < 0)
		return r;
	assert(spec->n_resources <= PLAN_MAX_RESOURCES);
	if (policy->n_rlimits > RLIM_NLIMITS)
		return fail(ret_error, -EINVAL, "%s: rlimits: names one twice", policy->path);
	if (policy->n_capabilities > 0 && !spec->tree)
		return fail(ret_error, -EINVAL,
			    "%s: capabilities: must be [] for a device that shares no directory",
			    policy->path);
	if (spec->uid_index >= PLAN_UID_RANGE)
		return fail(ret_error, -ERANGE, "no user is left for the device: index %" PRIu32,
			    spec->uid_index);
	return 0;
}

uint32_t plan_range_start(uint32_t uid_index)
{
	return PLAN_RANGE_BASE + uid_index * PLAN_RANGE_LEN;
}

static uint32_t host_id(const struct plan_spec *spec)
{
	return (spec->helper ? PLAN_UID_HELPERS : PLAN_UID_BASE) + spec->uid_index;
}

/* The device's own user, as seen inside. */
static uint32_t own_id(const struct plan_spec *spec)
{
	return spec->ids == PLAN_IDS_RANGE ? PLAN_RANGE_LEN - 1 : host_id(spec);
}

static void add_id_map(struct plan *plan, const struct plan_spec *spec)
{
	struct plan_step *step;
	uint32_t own = host_id(spec);

	if (spec->ids == PLAN_IDS_HOST)
		return;
	step = add(plan, PLAN_MAP_IDS);
	if (spec->ids == PLAN_IDS_ONE) {
		step->map.inside = step->map.outside = own;
		step->map.count = 1;
		step->reason = "the namespace knows one user and one group, the device's own, and "
			       "no root";
		return;
	}
	step->map.outside = plan_range_start(spec->uid_index);
	step->map.count = PLAN_RANGE_LEN;
	step->reason = "the guest's users and groups are ids that nobody else on this host has";
}

static uint64_t clone_flags(const struct policy *policy, const struct plan_spec *spec)
{
	uint64_t flags = 0;

	for (size_t i = 0; i < policy->n_namespaces; i++)
		flags |= policy->namespaces[i].flag;
	return spec->ids == PLAN_IDS_HOST ? flags & ~(uint64_t)CLONE_NEWUSER : flags;
}

static void add_root(struct plan *plan, const struct plan_spec *spec)
{
	struct plan_step *step;

	if (spec->tree)
		add(plan, PLAN_PROC);
	step = add(plan, PLAN_ROOT);
	step->tree = spec->tree;
	step->reason = spec->tree ? "the shared directory is all there is; no set-user-id and no "
				    "device node works in it"
				  : "an empty, read-only file system is all there is; no /proc, no "
				    "/dev";
}

static void add_landlock(struct plan *plan, const struct policy *policy)
{
	struct plan_step *step = add(plan, PLAN_LANDLOCK);

	step->landlock.required = policy->landlock_required;
	step->landlock.files = policy->landlock_files;
	step->reason = policy->landlock_comment;
}

int plan_make(const struct policy *policy, const struct plan_spec *spec, struct plan *ret,
	      char **ret_error)
{
	struct plan plan = { 0 };
	uint64_t flags = clone_flags(policy, spec);
	int r = check(policy, spec, ret_error);

	if (r < 0)
		return r;
	add(&plan, PLAN_CGROUP);
	/* The cgroup namespace takes its root from the cgroup that its maker is in: made later. */
	add(&plan, PLAN_CLONE)->clone_flags = flags & ~(uint64_t)CLONE_NEWCGROUP;
	add_id_map(&plan, spec);
	add_descriptors(&plan, spec);
	add(&plan, PLAN_SIGNALS);
	add(&plan, PLAN_SESSION);
	if (flags & CLONE_NEWCGROUP)
		add(&plan, PLAN_CGROUP_NAMESPACE);
	add(&plan, PLAN_HOSTNAME);
	add(&plan, PLAN_SECUREBITS);
	add(&plan, PLAN_IDS)->id = own_id(spec);
	add_root(&plan, spec);
	add_rlimits(&plan, policy);
	add(&plan, PLAN_CAPABILITIES)->kept = policy_capabilities(policy, spec->features);
	add(&plan, PLAN_NOT_DUMPABLE);
	add(&plan, PLAN_NO_NEW_PRIVS);
	add_landlock(&plan, policy);
	add(&plan, PLAN_FILTER);
	add(&plan, PLAN_PROGRAM);
	*ret = plan;
	return 0;
}

/* Limits of a program that is not ours: enough for many connections, nothing for anything else. */
static const struct policy_rlimit foreign_rlimits[] = {
	{ .resource = RLIMIT_NOFILE,
	  .type = (char *)"RLIMIT_NOFILE",
	  .value = { 16384, 16384 },
	  .comment = (char *)"a socket and a pipe for each connection of the guest's" },
	{ .resource = RLIMIT_CORE,
	  .type = (char *)"RLIMIT_CORE",
	  .value = { 1, 1 },
	  .comment = (char *)"frames never reach a core dump, nor a core_pattern that is a pipe" },
	{ .resource = RLIMIT_NPROC,
	  .type = (char *)"RLIMIT_NPROC",
	  .value = { 8, 8 },
	  .comment = (char *)"it may fork once as it starts; no fork bomb" },
	{ .resource = RLIMIT_MSGQUEUE,
	  .type = (char *)"RLIMIT_MSGQUEUE",
	  .value = { 0, 0 },
	  .comment = (char *)"no message queues" },
	{ .resource = RLIMIT_NICE,
	  .type = (char *)"RLIMIT_NICE",
	  .value = { 0, 0 },
	  .comment = (char *)"never ahead of other processes" },
	{ .resource = RLIMIT_RTPRIO,
	  .type = (char *)"RLIMIT_RTPRIO",
	  .value = { 0, 0 },
	  .comment = (char *)"never real-time" },
};

int plan_make_foreign(uint32_t uid_index, const struct plan_resource *resource, struct plan *ret,
		      char **ret_error)
{
	const struct plan_spec spec = { .uid_index = uid_index, .helper = true };
	const struct policy limits = { .rlimits = (struct policy_rlimit *)foreign_rlimits,
				       .n_rlimits =
					       sizeof(foreign_rlimits) / sizeof(*foreign_rlimits) };
	struct plan plan = { 0 };

	if (uid_index >= PLAN_UID_RANGE)
		return fail(ret_error, -ERANGE, "no user is left for it: index %" PRIu32,
			    uid_index);
	add(&plan, PLAN_CGROUP);
	add(&plan, PLAN_CLONE)->clone_flags =
		CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;
	add_id_map(&plan, &spec);
	for (int role = PLAN_FD_INPUT; role <= PLAN_FD_LOG; role++)
		add_descriptor(&plan, role, fd_infos[role].name, fd_infos[role].number,
			       fd_infos[role].reason);
	add_descriptor(&plan, PLAN_FD_RESOURCE, resource->name, resource->number, resource->reason);
	add(&plan, PLAN_CLOSE_OTHERS);
	add(&plan, PLAN_SIGNALS);
	add(&plan, PLAN_SESSION);
	add(&plan, PLAN_CGROUP_NAMESPACE);
	add(&plan, PLAN_HOSTNAME);
	add(&plan, PLAN_SECUREBITS);
	add(&plan, PLAN_IDS)->id = own_id(&spec);
	add(&plan, PLAN_FILES);
	add_rlimits(&plan, &limits);
	add(&plan, PLAN_CAPABILITIES);
	add(&plan, PLAN_NO_NEW_PRIVS);
	add(&plan, PLAN_EXECUTE);
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

static void describe_capabilities(uint64_t kept, char *text, size_t size)
{
	size_t len = (size_t)snprintf(text, size, "%s", kept ? "" : "none");

	for (unsigned cap = 0; cap < 64; cap++) {
		const char *name = kept >> cap & 1 ? capng_capability_to_name(cap) : NULL;

		if (name && len < size)
			len += (size_t)snprintf(text + len, size - len, "%s%s", len ? " " : "",
						name);
	}
}

void plan_step_describe(const struct plan_step *step, char *text, size_t size)
{
	const char *name = step_infos[step->type].name;

	switch ((int)step->type) {
	case PLAN_CLONE:
		describe_namespaces(step->clone_flags, text, size);
		break;
	case PLAN_MAP_IDS:
		snprintf(text, size, "%" PRIu32 " = host %" PRIu32 ", %" PRIu32, step->map.inside,
			 step->map.outside, step->map.count);
		break;
	case PLAN_IDS:
		snprintf(text, size, "%s %" PRIu32, name, step->id);
		break;
	case PLAN_ROOT:
		snprintf(text, size, "%s", step->tree ? "shared directory" : "empty");
		break;
	case PLAN_CAPABILITIES:
		describe_capabilities(step->kept, text, size);
		break;
	case PLAN_DESCRIPTOR:
		snprintf(text, size, "%d %s", step->fd.number, step->fd.name);
		break;
	case PLAN_RLIMIT:
		snprintf(text, size, "%s %ju", step->rlimit->type,
			 (uintmax_t)step->rlimit->value.rlim_cur);
		break;
	case PLAN_LANDLOCK:
		snprintf(text, size, "deny all%s%s", step->landlock.files ? " but files" : "",
			 step->landlock.required ? ", required" : "");
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
