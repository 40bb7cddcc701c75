/*
 * Launching. See launch.h.
 *
 * Everything that can fail for a reason of the host's (policy, resource, lock, cgroup) is done
 * before the clone, so that its error is a sentence for a person and not an exit status. What the
 * child needs is collected in a struct launch with raised descriptors, the plan is made, and
 * apply_start() goes on.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/launch.h"
#include "daemon/lend.h"
#include "daemon/sandbox/apply.h"
#include "daemon/sandbox/cgroup.h"
#include "daemon/sandbox/descriptors.h"
#include "daemon/sandbox/fail.h"
#include "daemon/sandbox/host.h"
#include "daemon/sandbox/plan.h"
#include "daemon/sandbox/policy.h"
#include "daemon/sandbox/seccomp.h"
#include "daemon/sandbox/wider.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"

#define OPTION_NO_IO_URING "--no-io-uring"
#define OPTION_OPCODES	   "--io-uring-opcodes="

/* A launch in the making: owns all of it until the child exists. */
struct launch {
	struct policy *policy;
	struct plan plan;
	struct apply_input input;
	char **argv;
	char opcodes[48]; /* one of argv */
	int control_fd;
	int log_fd;
};

static void launch_init(struct launch *launch)
{
	*launch = (struct launch){ .control_fd = -1, .log_fd = -1 };
	for (int role = 0; role < _PLAN_FD_N; role++)
		launch->input.fds[role] = -1;
	launch->input.cgroup_fd = -1;
}

static void launch_done(struct launch *launch)
{
	for (int role = 0; role < _PLAN_FD_N; role++)
		fd_close(launch->input.fds[role]);
	fd_close(launch->input.cgroup_fd);
	fd_close(launch->control_fd);
	fd_close(launch->log_fd);
	free(launch->input.filter.filter);
	free(launch->argv);
	policy_free(launch->policy);
}

/* Moves fd into its place among the child's, with a number that is in no other's way. */
static int give(struct launch *launch, int role, int fd)
{
	int raised = descriptors_raise(fd);

	fd_close(fd);
	if (raised < 0)
		return raised;
	launch->input.fds[role] = raised;
	return 0;
}

/* io_uring */

static bool has_option(char *const *argv, const char *option)
{
	for (; *argv; argv++)
		if (strcmp(*argv, option) == 0)
			return true;
	return false;
}

/*
 * Program and filter must agree on whether there are rings, and rings are made by the program: it
 * is told by options.
 */
static int make_argv(struct launch *launch, const struct launch_spec *spec, unsigned *ret_features)
{
	/* A helper has no rings, and is told nothing about them. */
	bool has = !spec->resource.plan.helper && !has_option(spec->argv, OPTION_NO_IO_URING);
	bool add = has && !host_has_io_uring();
	size_t n = 0;

	while (spec->argv[n])
		n++;
	launch->argv = calloc(n + 3, sizeof(*launch->argv));
	if (!launch->argv)
		return -ENOMEM;
	memcpy(launch->argv, spec->argv, n * sizeof(*launch->argv));
	if (add)
		launch->argv[n++] = (char *)OPTION_NO_IO_URING;
	(void)snprintf(launch->opcodes, sizeof(launch->opcodes), OPTION_OPCODES "%" PRIu64,
		       policy_opcodes(launch->policy));
	if (!spec->resource.plan.helper)
		launch->argv[n] = launch->opcodes;
	launch->input.argv = launch->argv;
	*ret_features = has && !add ? POLICY_FEATURE_IO_URING : 0;
	return 0;
}

/* Policy, plan and filters */

/* "vmdev-blk" → "blk": a device without a policy of its own has its type's. */
static const char *default_policy(const struct launch_spec *spec)
{
	const char *base = strrchr(spec->program_path, '/');

	base = base ? base + 1 : spec->program_path;
	return strncmp(base, "vmdev-", strlen("vmdev-")) == 0 ? base + strlen("vmdev-") : base;
}

static int load_policy(const struct launch_spec *spec, struct policy **ret, char **ret_error)
{
	return policy_load(spec->policy ? spec->policy : default_policy(spec), spec->policy_dir,
			   ret, ret_error);
}

static int prepare_filters(struct launch *launch, unsigned features, char **ret_error)
{
	scope_fd int keeper = -1;
	int worker = -1;
	int r = seccomp_compile_keeper(launch->policy, &keeper, ret_error);

	if (r >= 0)
		r = seccomp_read(keeper, &launch->input.filter);
	if (r >= 0)
		r = seccomp_compile_worker(launch->policy, features, &worker, ret_error);
	return r < 0 ? r : give(launch, PLAN_FD_FILTER, worker);
}

/* Descriptors */

static int open_program(const struct launch_spec *spec, int *ret_fd, char **ret_error)
{
	scope_fd int fd = -1;
	struct stat st;
	int r = lend_file(spec->program_path, O_RDONLY, &fd);

	if (r >= 0)
		r = errno_or(fstat(fd, &st));
	if (r < 0)
		return fail(ret_error, r, "device program %s cannot be opened: %s",
			    spec->program_path, error_text(r));
	/* The device's own user executes it, and that is nobody's user and in nobody's group. */
	if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IXOTH))
		return fail(
			ret_error, -EACCES,
			"device program %s is not a file that everybody may execute (chmod 755)",
			spec->program_path);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int prepare_program(struct launch *launch, const struct launch_spec *spec, char **ret_error)
{
	int fd = -1;
	int r = open_program(spec, &fd, ret_error);

	return r < 0 ? r : give(launch, PLAN_FD_PROGRAM, fd);
}

static int prepare_resource(struct launch *launch, const struct launch_spec *spec, char **ret_error)
{
	uint32_t n = spec->resource.plan.n_resources;
	int fds[PLAN_MAX_RESOURCES];
	int r;

	if (!spec->resource.open)
		return 0;
	r = spec->resource.open(spec->resource.what, spec->uid_index, fds, ret_error);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++) {
		int given = give(launch, PLAN_FD_RESOURCE + (int)i, fds[i]);

		r = r < 0 ? r : given;
	}
	return r;
}

static int prepare_control(struct launch *launch)
{
	const int on = 1;
	int pair[2];
	int r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	launch->control_fd = pair[0];
	r = give(launch, PLAN_FD_CONTROL, pair[1]);
	if (r < 0)
		return r;
	if (setsockopt(launch->control_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return -errno;
	return fd_set_nonblock(launch->control_fd);
}

/* Neither end blocks: a device that is not listened to goes on, and loses records (base/log.h). */
static int prepare_log(struct launch *launch)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	launch->log_fd = ends[0];
	return give(launch, PLAN_FD_LOG, ends[1]);
}

/* Standard input and output, which the contract does not use. */
static int prepare_null(struct launch *launch)
{
	scope_fd int fd = -1;
	int r = lend_file("/dev/null", O_RDWR, &fd);

	if (r < 0)
		return r;
	r = give(launch, PLAN_FD_INPUT, fcntl(fd, F_DUPFD_CLOEXEC, 0));
	return r < 0 ? r : give(launch, PLAN_FD_OUTPUT, take_fd(&fd));
}

static int prepare_listen(struct launch *launch, const struct launch_spec *spec)
{
	int raised;

	if (spec->resource.plan.helper)
		return 0;
	raised = descriptors_raise(spec->listen_fd);
	if (raised < 0)
		return raised;
	launch->input.fds[PLAN_FD_LISTEN] = raised;
	return 0;
}

static int make_plan(const struct policy *policy, const struct launch_spec *spec, struct plan *ret,
		     char **ret_error)
{
	struct plan_spec plan = spec->resource.plan;

	plan.uid_index = spec->uid_index;
	return plan_make(policy, &plan, ret, ret_error);
}

/* The resource first: while it is locked, this is done again and again. */
static int prepare(struct launch *launch, const struct launch_spec *spec, char **ret_error)
{
	unsigned features = 0;
	int r = prepare_resource(launch, spec, ret_error);

	if (r >= 0)
		r = load_policy(spec, &launch->policy, ret_error);
	if (r >= 0)
		r = make_plan(launch->policy, spec, &launch->plan, ret_error);
	if (r >= 0)
		r = make_argv(launch, spec, &features);
	if (r >= 0)
		r = prepare_filters(launch, features, ret_error);
	if (r >= 0)
		r = prepare_program(launch, spec, ret_error);
	if (r >= 0)
		r = prepare_control(launch);
	if (r >= 0)
		r = prepare_log(launch);
	if (r >= 0)
		r = prepare_null(launch);
	if (r >= 0)
		r = prepare_listen(launch, spec);
	if (r >= 0)
		r = cgroup_create(spec->cgroup_name, spec->limits, &launch->input.cgroup_fd,
				  ret_error);
	return r;
}

int launch_wider(const struct launch_spec *spec, char **ret)
{
	struct policy *policy = NULL, *shipped = NULL;
	scope_free char *error = NULL;
	scope_free char *error_shipped = NULL;
	int r;

	*ret = NULL;
	if (!spec->policy || strcmp(spec->policy, default_policy(spec)) == 0)
		return 0; /* it is the one that is shipped */
	r = load_policy(spec, &policy, &error);
	if (r >= 0)
		r = policy_load(default_policy(spec), spec->policy_dir, &shipped, &error_shipped);
	if (r >= 0)
		r = policy_wider(policy, shipped, ret);
	policy_free(policy);
	policy_free(shipped);
	return r;
}

int launch_check(const struct launch_spec *spec, char **ret_error)
{
	scope_fd int program = -1;
	struct policy *policy = NULL;
	struct plan plan;
	int r;

	*ret_error = NULL;
	r = load_policy(spec, &policy, ret_error);
	if (r >= 0)
		r = make_plan(policy, spec, &plan, ret_error);
	policy_free(policy);
	if (r >= 0)
		r = open_program(spec, &program, ret_error);
	if (r >= 0)
		r = cgroup_check(spec->limits, ret_error);
	if (r >= 0 && spec->resource.check)
		r = spec->resource.check(spec->resource.what, ret_error);
	return r;
}

int launch_device(const struct launch_spec *spec, struct launched *ret, char **ret_error)
{
	struct launch launch;
	struct launched launched = { .pidfd = -1 };
	int r;

	*ret_error = NULL;
	launch_init(&launch);
	r = prepare(&launch, spec, ret_error);
	if (r >= 0)
		r = apply_start(&launch.plan, &launch.input, &launched.keeper_pid, &launched.pidfd,
				ret_error);
	if (r >= 0) {
		launched.control_fd = take_fd(&launch.control_fd);
		launched.log_fd = take_fd(&launch.log_fd);
		launched.cgroup_fd = take_fd(&launch.input.cgroup_fd);
		*ret = launched;
	} else {
		if (launch.input.cgroup_fd >= 0)
			cgroup_remove(launch.input.cgroup_fd);
		if (!*ret_error)
			fail(ret_error, r, "the device cannot be launched: %s", error_text(r));
	}
	launch_done(&launch);
	return r < 0 ? r : 0;
}

int launch_kill(const struct launched *launched)
{
	if (launched->cgroup_fd >= 0 && cgroup_kill(launched->cgroup_fd) >= 0)
		return 0;
	/* The keeper is PID 1 of its namespace: everything in there dies with it. */
	return errno_or((int)syscall(SYS_pidfd_send_signal, launched->pidfd, SIGKILL, NULL, 0));
}

void launch_forget(const struct launched *launched)
{
	if (launched->cgroup_fd >= 0)
		cgroup_remove(launched->cgroup_fd);
}
