/*
 * Launching: from "what this device is" to a running keeper in its sandbox.
 *
 * Runs in: vmdevd; the code between clone and exec runs in the exec child.
 * Trusts:  the specification, which daemon/config has checked. The image that it names may be
 *          anything: it is opened by vmdevd, looked at with fstat only, and never read.
 *
 * The caller owns what it passes; launch_device duplicates listen_fd into the child and leaves the
 * caller's own descriptor alone.
 *
 * Invariants:
 *  1. On failure nothing is left behind: no process, no descriptor, no cgroup, no lock.
 *  2. The child begins with an empty signal mask and default dispositions, whatever vmdevd blocks.
 *  3. SO_PASSCRED is set on control_fd before the child exists, so that no message comes without
 *     its sender's credentials.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Limits of the device's cgroup, in systemd.resource-control's notation; NULL: no limit. */
struct launch_limits {
	const char *cpu;    /* CPUQuota=, "150%" */
	const char *memory; /* MemoryMax=, "512M" */
	const char *pids;   /* TasksMax=, "64" */
};

struct launch_spec {
	const char *name;	  /* VM/DEVICE, for messages */
	const char *program_path; /* absolute */
	char *const *argv;	  /* NULL-terminated, argv[0] included */
	int listen_fd;		  /* becomes CONTRACT_FD_LISTEN */
	const char *policy; /* a name below policy_dir, an absolute path, or NULL: the type's own */
	const char *policy_dir;
	const char *image_path;
	bool readonly;
	const char *cache;  /* "none", "writeback", "writethrough" */
	uint32_t uid_index; /* the device's user is 1900000000 + uid_index */
	const struct launch_limits *limits;
	const char *cgroup_name; /* one path component */
};

struct launched {
	pid_t keeper_pid; /* a child of vmdevd: vmdevd reaps it */
	int pidfd;
	int control_fd; /* vmdevd's end of the contract socket: non-blocking, SO_PASSCRED */
	int log_fd;	/* read end of the child's stderr: non-blocking */
	int cgroup_fd;	/* the device's cgroup directory; -1: there is none */
};

/*
 * Can the resources be had now? Opens nothing lasting and takes no lock. Negative errno, and a text
 * that says what, where and how to mend it; the caller frees the text.
 */
int launch_check(const struct launch_spec *spec, char **ret_error);

/* Starts the device. Errors as above; *ret is untouched on failure. The caller owns *ret's fds. */
int launch_device(const struct launch_spec *spec, struct launched *ret, char **ret_error);

/* Kills everything in the sandbox at once: cgroup.kill where there is a cgroup, else the keeper. */
int launch_kill(const struct launched *launched);

/*
 * The sandbox has ended and was reaped: removes what outlives it, its cgroup. The descriptors stay
 * the caller's.
 */
void launch_forget(const struct launched *launched);
