/*
 * What this host has: asked when a device is launched, and by `vmdevctl doctor`.
 *
 * Runs in: vmdevd, vmdevctl. Trusts: the kernel's word.
 */
#pragma once

#include <stdbool.h>

/* May a process without privileges make I/O rings here? */
bool host_has_io_uring(void);

/*
 * Where cgroup v2 is mounted, and which cgroup of it is the mount's root; both to be freed. A
 * negative errno if nowhere.
 */
int host_find_cgroups(char **ret_point, char **ret_root);
