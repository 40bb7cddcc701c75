/*
 * Launching a program that is not ours, from the host's packages: by its path, with the host's
 * programs and libraries in sight, read-only, and in the host's network.
 *
 * Runs in: vmdevd; the code between clone and exec runs in the exec child.
 * Trusts:  the specification. The program is trusted to be what its package says, not to be without
 *          faults: it gets no capability, a user of its own, and the one descriptor that it is for.
 *
 * What of a device's sandbox (launch.h, sandbox/plan.h) it has: cgroup, user, process, mount, IPC,
 * UTS and cgroup namespaces, its own user, no supplementary groups, descriptors, locked securebits,
 * no capabilities, no_new_privs, limits. What it has not, and why: a network namespace (the host's
 * network is what it is for); a filter and Landlock of ours (it is to confine itself, and needs
 * calls for that which we forbid to everybody else: passt makes namespaces and leaves its root
 * directory for an empty one, with a filter of its own, before it looks at a frame).
 */
#pragma once

#include "daemon/launch.h"

enum {
	FOREIGN_FD = 3, /* the one descriptor that it is for */
};

struct foreign_spec {
	const char *name; /* for messages */
	const char *path; /* absolute, below /usr */
	char *const *argv;
	int fd; /* becomes FOREIGN_FD; the caller's stays open */
	uint32_t uid_index;
	const char *cgroup_name;
};

/* Could it be started? Negative errno and a text, which says what package is missing. */
int foreign_check(const char *path, const char *package, char **ret_error);

/* As launch_device; there is no contract socket. */
int foreign_launch(const struct foreign_spec *spec, struct launched *ret, char **ret_error);
