/*
 * Is the kernel's own business mounted below a directory?
 *
 * Runs in: vmdevd. Trusts: the kernel's mountinfo.
 *
 * In proc, sysfs, cgroup hierarchies and their like, files are not data but switches of the host's:
 * a directory with one of them in it, as the root directories of containers have, must not be
 * written by a guest.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

/* path, where it is mounted, and type are to be freed. */
struct mounts_found {
	char *path;
	char *type;
};

/*
 * The first such mount in a table like /proc/self/mountinfo, at or below the directory, or the one
 * with the id mount that the directory is in. 1 and *ret, 0 if there is none, or a negative errno.
 */
int mounts_find_switches(FILE *table, const char *directory, uint64_t mount,
			 struct mounts_found *ret);

/* The same of an open directory. */
int mounts_check_directory(int fd, struct mounts_found *ret);

void mounts_found_done(struct mounts_found *found);
