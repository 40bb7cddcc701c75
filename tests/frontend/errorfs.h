/* A file system that fails: whatever is to change something in it gets the error that its name says. Served by a child process. */
#pragma once

#include <sys/types.h>

struct errorfs {
	char dir[700]; /* where it is mounted */
	pid_t pid;
};

/* Mounted at dir, which is there, in the caller's mount namespace. 0, or negative errno; -ENOENT: no FUSE here. */
int errorfs_start(struct errorfs *e, const char *dir);
void errorfs_stop(struct errorfs *e);
