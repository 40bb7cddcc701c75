/* Carrying out a plan. See apply.h. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/sandbox/apply.h"
#include "daemon/sandbox/caps.h"
#include "daemon/sandbox/descriptors.h"
#include "daemon/sandbox/fail.h"
#include "daemon/sandbox/ids.h"
#include "daemon/sandbox/landlock.h"
#include "daemon/sandbox/namespaces.h"
#include "daemon/sandbox/process.h"
#include "daemon/sandbox/root.h"
#include "daemon/sandbox/seccomp.h"
#include "devices/base/error.h"
#include "devices/base/log.h"
#include "devices/base/scope.h"
#include "devices/process/contract.h"

struct child {
	const struct plan *plan;
	const struct apply_input *input;
};

typedef int (*step_fn)(const struct child *child, const struct plan_step *step);

static int apply_descriptor(const struct child *child, const struct plan_step *step)
{
	return descriptors_place(child->input->fds[step->fd.role], step->fd.number);
}

/* The plan lists descriptors in the order of their roles, which is that of their numbers. */
static int apply_close_others(const struct child *child, const struct plan_step *step)
{
	int numbers[_PLAN_FD_N];
	unsigned n = 0;

	(void)step;
	for (size_t i = 0; i < child->plan->n_steps; i++) {
		const struct plan_step *other = &child->plan->steps[i];

		if (other->type != PLAN_DESCRIPTOR)
			continue;
		assert(n < _PLAN_FD_N && (n == 0 || numbers[n - 1] < other->fd.number));
		numbers[n++] = other->fd.number;
	}
	return descriptors_close_others(numbers, n);
}

static int apply_signals(const struct child *child, const struct plan_step *step)
{
	return process_reset_signals();
}

static int apply_session(const struct child *child, const struct plan_step *step)
{
	return process_leave_session();
}

static int apply_cgroup_namespace(const struct child *child, const struct plan_step *step)
{
	return namespaces_enter_cgroup();
}

static int apply_hostname(const struct child *child, const struct plan_step *step)
{
	return namespaces_hide_hostname();
}

static int apply_securebits(const struct child *child, const struct plan_step *step)
{
	return ids_lock_securebits();
}

static int apply_ids(const struct child *child, const struct plan_step *step)
{
	return ids_become(step->id);
}

static int apply_proc(const struct child *child, const struct plan_step *step)
{
	return root_make_proc(CONTRACT_FD_FS_PROC);
}

static int apply_root(const struct child *child, const struct plan_step *step)
{
	return step->tree ? root_enter_tree(CONTRACT_FD_FS_ROOT) : root_enter();
}

static int apply_rlimit(const struct child *child, const struct plan_step *step)
{
	return process_limit(step->rlimit);
}

static int apply_capabilities(const struct child *child, const struct plan_step *step)
{
	return caps_keep(step->kept);
}

static int apply_not_dumpable(const struct child *child, const struct plan_step *step)
{
	return process_forbid_dumps();
}

static int apply_no_new_privs(const struct child *child, const struct plan_step *step)
{
	return process_forbid_new_privileges();
}

static int apply_landlock(const struct child *child, const struct plan_step *step)
{
	int r = landlock_deny(CONTRACT_FD_PROGRAM, step->landlock.files);

	if (step->landlock.required || (r != -ENOSYS && r != -EOPNOTSUPP))
		return r;
	log_notice("sandbox: this kernel has no Landlock; the other mechanisms hold without it");
	return 0;
}

static int apply_filter(const struct child *child, const struct plan_step *step)
{
	return seccomp_install(&child->input->filter);
}

static int apply_program(const struct child *child, const struct plan_step *step)
{
	char *const environment[] = { NULL };

	syscall(SYS_execveat, CONTRACT_FD_PROGRAM, "", child->input->argv, environment,
		AT_EMPTY_PATH);
	return -errno;
}

static int apply_files(const struct child *child, const struct plan_step *step)
{
	return root_enter_files();
}

static int apply_execute(const struct child *child, const struct plan_step *step)
{
	char *const environment[] = { NULL };

	execve(child->input->path, child->input->argv, environment);
	return -errno;
}

static const step_fn child_steps[_PLAN_STEP_TYPE_N] = {
	[PLAN_DESCRIPTOR] = apply_descriptor,
	[PLAN_CLOSE_OTHERS] = apply_close_others,
	[PLAN_SIGNALS] = apply_signals,
	[PLAN_SESSION] = apply_session,
	[PLAN_CGROUP_NAMESPACE] = apply_cgroup_namespace,
	[PLAN_HOSTNAME] = apply_hostname,
	[PLAN_SECUREBITS] = apply_securebits,
	[PLAN_IDS] = apply_ids,
	[PLAN_PROC] = apply_proc,
	[PLAN_ROOT] = apply_root,
	[PLAN_FILES] = apply_files,
	[PLAN_RLIMIT] = apply_rlimit,
	[PLAN_CAPABILITIES] = apply_capabilities,
	[PLAN_NOT_DUMPABLE] = apply_not_dumpable,
	[PLAN_NO_NEW_PRIVS] = apply_no_new_privs,
	[PLAN_LANDLOCK] = apply_landlock,
	[PLAN_FILTER] = apply_filter,
	[PLAN_PROGRAM] = apply_program,
	[PLAN_EXECUTE] = apply_execute,
};

static _Noreturn void child_fail(const struct plan_step *step, int error)
{
	char text[128];

	plan_step_describe(step, text, sizeof(text));
	log_error("sandbox: step \"%s\" (%s) failed: %s", plan_step_to_string(step->type), text,
		  error_text(error));
	_exit(CONTRACT_EXIT_SANDBOX);
}

/* Until vmdevd has mapped our ids, nothing can be done; if it dies meanwhile, nothing is to be
 * done. */
static void child_await(const int sync[2])
{
	ssize_t n;
	char byte;

	close(sync[1]);
	do
		n = read(sync[0], &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(CONTRACT_EXIT_SANDBOX);
}

static _Noreturn void child_run(const struct child *child, const int sync[2])
{
	child_await(sync);
	/* First of all, so that what fails from here on is read by whom it concerns. */
	if (dup2(child->input->fds[PLAN_FD_LOG], CONTRACT_FD_LOG) < 0)
		_exit(CONTRACT_EXIT_SANDBOX);
	for (size_t i = 0; i < child->plan->n_steps; i++) {
		const struct plan_step *step = &child->plan->steps[i];
		int r;

		if (plan_step_in_parent(step->type))
			continue;
		assert(child_steps[step->type]);
		r = child_steps[step->type](child, step);
		if (r < 0)
			child_fail(step, r);
	}
	/* A plan without a program: our bug. */
	abort();
}

static const struct plan_step *find_step(const struct plan *plan, enum plan_step_type type)
{
	for (size_t i = 0; i < plan->n_steps; i++)
		if (plan->steps[i].type == type)
			return &plan->steps[i];
	return NULL;
}

/* With the host's ids there is nothing to map. */
static int map_ids(const struct plan *plan, pid_t pid)
{
	const struct plan_step *step = find_step(plan, PLAN_MAP_IDS);

	return step ? namespaces_map_ids(pid, &step->map, 1) : 0;
}

static void kill_child(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int apply_start(const struct plan *plan, const struct apply_input *input, pid_t *ret_pid,
		int *ret_pidfd, char **ret_error)
{
	const struct child child = { .plan = plan, .input = input };
	uint64_t flags = find_step(plan, PLAN_CLONE)->clone_flags;
	scope_fd int go = -1;
	scope_fd int await = -1;
	scope_fd int pidfd = -1;
	int sync[2];
	pid_t pid;
	int r;

	if (pipe2(sync, O_CLOEXEC) < 0)
		return fail(ret_error, -errno, "no pipe for the sandbox: %s", error_text(errno));
	await = sync[0];
	go = sync[1];
	pid = namespaces_clone(flags, input->cgroup_fd, &pidfd);
	if (pid == 0)
		child_run(&child, sync);
	if (pid < 0)
		return fail(ret_error, pid,
			    "the kernel refuses new namespaces: %s (see user.max_*_namespaces and "
			    "kernel.unprivileged_userns_clone in /proc/sys)",
			    error_text(pid));
	r = map_ids(plan, pid);
	if (r >= 0)
		r = fd_write_all(go, "", 1);
	if (r < 0) {
		kill_child(pid);
		return fail(ret_error, r, "the ids of the sandbox cannot be mapped: %s",
			    error_text(r));
	}
	*ret_pid = pid;
	*ret_pidfd = take_fd(&pidfd);
	return 0;
}
