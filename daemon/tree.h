/*
 * A directory of the host's as a mount of its own, attached nowhere: what a file system device
 * serves.
 *
 * Runs in: vmdevd.
 * Trusts:  the document's path as a wish: what is found there is looked at before it is used.
 *
 * The mount shows the directory and what is mounted below it, without set-user-id and device nodes,
 * read-only where asked, and with other owners where ids are mapped (MOUNT_ATTR_IDMAP, Linux 5.12):
 * in the mount, a file of host id H has the id that the sandbox sees as guest id G.
 *
 * Where a file system of the kernel's own switches is below it, it is shared only to be read
 * (daemon/mounts.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { TREE_MAX_RANGES = 8 };

/* Users and groups alike. */
struct id_range {
	uint64_t guest, host, count;
};

struct tree {
	const char *path;
	bool readonly;
	bool own_ids; /* guest ids are a range of the device's own (sandbox/plan.h) */
	const struct id_range *ranges; /* what is on disk as host is guest's; none: as it is */
	uint32_t n_ranges;
};

/* Is it a directory that can be shared so? Negative errno and a text. what: a struct tree. */
int tree_check(const void *what, char **ret_error);

/* The mount, for the device with this index. */
int tree_open(const void *what, uint32_t uid_index, int *ret_fds, char **ret_error);
