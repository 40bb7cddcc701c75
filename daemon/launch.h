/*
 * Launching: from "what this device is" to a running keeper in its sandbox.
 *
 * Runs in: vmdevd; the code between clone and exec runs in the exec child.
 * Trusts:  the specification, which daemon/config has checked. What it names may be anything: it is
 *          looked at before it is opened, and never read.
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

#include "daemon/sandbox/plan.h"

/* Limits of the device's cgroup, in systemd.resource-control's notation; NULL: no limit. */
struct launch_limits {
	const char *cpu;    /* CPUQuota=, "150%" */
	const char *memory; /* MemoryMax=, "512M" */
	const char *pids;   /* TasksMax=, "64" */
};

/* What of the host's the device is for: opened by vmdevd, so that the device need not. */
struct launch_resource {
	/*
	 * What the sandbox is like for it, and which descriptors it gets; uid_index is
	 * launch_spec's.
	 */
	struct plan_spec plan;
	const void *what; /* the resource, for the two functions */
	/* Could it be had now? Opens nothing lasting. Negative errno and a text, as below. */
	int (*check)(const void *what, char **ret_error);
	/* NULL, both: it is for nothing of the host's. */
	/* All plan.n_resources of them, in the order of the table; on failure none is left open. */
	int (*open)(const void *what, uint32_t uid_index, int *ret_fds, char **ret_error);
};

struct launch_spec {
	const char *name;	  /* VM/DEVICE, for messages */
	const char *program_path; /* absolute */
	char *const *argv;	  /* NULL-terminated, argv[0] included */
	int listen_fd;		  /* becomes CONTRACT_FD_LISTEN */
	const char *policy; /* a name below policy_dir, an absolute path, or NULL: the type's own */
	const char *policy_dir;
	struct launch_resource resource;
	uint32_t uid_index; /* the device's user is 1900000000 + uid_index */
	const struct launch_limits *limits;
	const char *cgroup_name; /* one path component */
};

struct launched {
	pid_t keeper_pid; /* a child of vmdevd: vmdevd reaps it */
	int pidfd;
	int control_fd; /* vmdevd's end of the contract socket: non-blocking, SO_PASSCRED */
	int log_fd;	/* read end of the child's stderr: non-blocking, like the child's end */
	int cgroup_fd;	/* the device's cgroup directory; -1: there is none */
};

/*
 * Can the resources be had now? Opens nothing lasting and takes no lock. Negative errno, and a text
 * that says what, where and how to mend it; the caller frees the text.
 */
int launch_check(const struct launch_spec *spec, char **ret_error);

/*
 * Starts the device. Errors as above, or what resource.open returns; *ret is untouched on failure.
 * The caller owns *ret's fds.
 */
int launch_device(const struct launch_spec *spec, struct launched *ret, char **ret_error);

/*
 * Where the device's policy allows more than the one that is shipped for its type
 * (sandbox/wider.h). 0 and a text to be freed, NULL if nowhere; a negative errno if one of the two
 * cannot be read.
 */
int launch_wider(const struct launch_spec *spec, char **ret);

/* Kills everything in the sandbox at once: cgroup.kill where there is a cgroup, else the keeper. */
int launch_kill(const struct launched *launched);

/*
 * The sandbox has ended and was reaped: removes what outlives it, its cgroup. The descriptors stay
 * the caller's.
 */
void launch_forget(const struct launched *launched);
