/*
 * The device's own cgroup: a place in the hierarchy of cgroup v2 below vmdevd's, its limits, its
 * end.
 *
 *	BASE/vmdev/NAME		BASE is vmdevd's own cgroup
 *	BASE/supervisor		vmdevd itself, as soon as some device has a limit: a cgroup that
 *				hands controllers to its children may hold no process (cgroups(7))
 *
 * Runs in: vmdevd. Trusts: the kernel's files.
 *
 * Invariants:
 *  1. A limit that was asked for is in force, or cgroup_create fails and says which controller is
 *     missing.
 *  2. A device is never put into a cgroup that holds another process.
 */
#pragma once

#include "daemon/launch.h"

/*
 * A fresh, empty cgroup of the wanted name (or NAME.1, NAME.2, … where others live in cgroups of
 * that name) with these limits (NULL: none). *ret_fd is its directory, or -1 where the machine has
 * no cgroup v2 (an error if there are limits).
 */
int cgroup_create(const char *wanted, const struct launch_limits *limits, int *ret_fd,
		  char **ret_error);

/* Could these limits be set? Changes nothing. */
int cgroup_check(const struct launch_limits *limits, char **ret_error);

/* SIGKILL to everything in it at once. 0 or a negative errno. */
int cgroup_kill(int fd);

/* Removes the cgroup that fd refers to. -EBUSY while something lives in it. */
int cgroup_remove(int fd);

/*
 * A limit in systemd's notation as the kernel's file wants it: "max" or numbers. 0 or a negative
 * errno.
 */
enum { CGROUP_MAX_LIMIT_LEN = 48 };
int cgroup_format_cpu(const char *text, char *value, size_t size);
int cgroup_format_memory(const char *text, char *value, size_t size);
int cgroup_format_pids(const char *text, char *value, size_t size);
