/*
 * Namespaces: the child that is born in its own, and the one user that they know.
 *
 * Runs in: vmdevd (clone, map), the exec child (cgroup namespace, host name).
 * Trusts:  nothing.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/*
 * Like fork: returns 0 in the child, the pid in vmdevd, or a negative errno. The child is in these
 * new namespaces and, unless cgroup_fd is negative, in that cgroup from its first instruction on;
 * handlers of signals are reset. In vmdevd *ret_pidfd is the child's, CLOEXEC.
 *
 * The child shares no memory with vmdevd, but it is a copy of it: it may only apply its plan.
 */
pid_t namespaces_clone(uint64_t flags, int cgroup_fd, int *ret_pidfd);

/* A range of a user namespace's map, users and groups alike. */
struct namespaces_map {
	uint32_t inside, outside, count;
};

/* In vmdevd: the child's user namespace knows these users and groups and no others. */
int namespaces_map_ids(pid_t pid, const struct namespaces_map *maps, uint32_t n);

/* In vmdevd: a user namespace without a process, that has this map; for mounts with mapped ids. */
int namespaces_make_user(const struct namespaces_map *maps, uint32_t n, int *ret_fd);

/* In the child: a cgroup namespace whose root is the cgroup that the child is in. */
int namespaces_enter_cgroup(void);

/* In the child: the host's name is not told. */
int namespaces_hide_hostname(void);
