/*
 * What is done to a file system device while its worker dies: requests whose answers, and what the host then has, are known in
 * advance, wherever the death comes.
 */
#pragma once

#include "tests/frontend/fuse-client.h"

#include <sys/stat.h>
#include <sys/types.h>

enum {
	FS_SCRIPT_BATCH = 12, /* requests in flight together */
};

struct fs_script {
	const char *socket;
	const char *share; /* the directory on the host */
	pid_t keeper;
	bool kill_too; /* the worker is killed from outside once */
	/* What is done besides; each may be NULL: a session has begun, a batch has been sent. */
	void (*begun)(struct fs_script *s);
	void (*sent)(struct fs_script *s);
	unsigned n_known; /* files known/0, known/1, … of the share are looked up in each session */
	unsigned round;	  /* of the same script in the same share */
	struct fc c;
	struct fc_call calls[FS_SCRIPT_BATCH];
	uint64_t dir;	/* node id of a directory for this script */
	char path[300]; /* of that directory on the host */
};

/* End the test program with what was wrong, unless r is 0. */
void fs_script_must(struct fs_script *s, const char *step, int r);

#define MUST(call)   fs_script_must(s, #call, call)
#define CLAIM(truth) fs_script_must(s, #truth, (truth) ? 0 : -EBADMSG)

/* A session, and a fresh directory of this name and round in the share, looked up. */
void fs_script_begin(struct fs_script *s, const char *name);
/* Nothing of it is left in the device: inodes, handles, descriptors. */
void fs_script_end(struct fs_script *s);

/* All FS_SCRIPT_BATCH calls are in flight: let the device have them, wait; each must have been answered with 0. */
void fs_script_run(struct fs_script *s, const char *step);

/* lstat() of name in the script's directory. 0 or negative errno. */
int fs_script_stat(const struct fs_script *s, const char *name, struct stat *ret);

/* How often the guest has looked up nodeid is exactly n: it is known until n are forgotten, and then no more. */
void fs_script_forget(struct fs_script *s, uint64_t nodeid, uint64_t n);

/* The scripts. */
void fs_script_names(struct fs_script *s);
void fs_script_files(struct fs_script *s);
