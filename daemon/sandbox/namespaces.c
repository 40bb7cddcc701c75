/* Namespaces. See namespaces.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/sandbox/namespaces.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"

enum { NAMESPACES_MAX_RANGES = 8 };

pid_t namespaces_clone(uint64_t flags, int cgroup_fd, int *ret_pidfd)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	long pid;

	if (cgroup_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup_fd;
	}
	/* No stack is given: the child goes on with a copy of ours, as after fork. */
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return -errno;
	if (pid > 0)
		*ret_pidfd = pidfd;
	return (pid_t)pid;
}

static int write_proc(pid_t pid, const char *name, const char *text)
{
	char path[64];
	scope_fd int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fd_write_all(fd, text, strlen(text));
}

int namespaces_map_ids(pid_t pid, const struct namespaces_map *maps, uint32_t n)
{
	char map[NAMESPACES_MAX_RANGES * sizeof("4294967295 4294967295 4294967295\n")];
	size_t len = 0;
	int r;

	if (n > NAMESPACES_MAX_RANGES)
		return -E2BIG;
	for (uint32_t i = 0; i < n; i++)
		len += (size_t)snprintf(map + len, sizeof(map) - len,
					"%" PRIu32 " %" PRIu32 " %" PRIu32 "\n", maps[i].inside,
					maps[i].outside, maps[i].count);
	/*
	 * setgroups stays allowed until the child has dropped vmdevd's groups (PLAN_IDS): "deny"
	 * would keep them. Afterwards nobody there has the capability for it, but a device that
	 * keeps CAP_SETGID over its own range.
	 */
	r = write_proc(pid, "gid_map", map);
	return r < 0 ? r : write_proc(pid, "uid_map", map);
}

/* The namespace needs a process until it is held by a descriptor. */
static int open_user(pid_t pid, int *ret_fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	*ret_fd = open(path, O_RDONLY | O_CLOEXEC);
	return *ret_fd < 0 ? -errno : 0;
}

/*
 * The process that the namespace needs meanwhile: until the other end of `await` is closed, or
 * vmdevd has died. Of vmdevd's descriptors, the lock of its runtime directory among them, it keeps
 * that one: a vmdevd that follows is not to find them held.
 */
static _Noreturn void wait_for_end(int await)
{
	char byte;

	if (dup2(await, 0) < 0 || close_range(1, ~0u, 0) < 0)
		_exit(1);
	while (read(0, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

int namespaces_make_user(const struct namespaces_map *maps, uint32_t n, int *ret_fd)
{
	scope_fd int pidfd = -1;
	int ends[2];
	pid_t pid;
	int r;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid = namespaces_clone(CLONE_NEWUSER, -1, &pidfd);
	if (pid == 0)
		wait_for_end(ends[0]);
	fd_close(ends[0]);
	r = pid < 0 ? pid : namespaces_map_ids(pid, maps, n);
	if (r >= 0)
		r = open_user(pid, ret_fd);
	fd_close(ends[1]);
	if (pid < 0)
		return r;
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}

int namespaces_enter_cgroup(void)
{
	return errno_or(unshare(CLONE_NEWCGROUP));
}

int namespaces_hide_hostname(void)
{
	static const char name[] = "vmdev";

	if (sethostname(name, sizeof(name) - 1) < 0)
		return -errno;
	return errno_or(setdomainname("", 0));
}
