/*
 * The file system device model (VIRTIO 1.3 §5.11): one shared directory, served by FUSE requests.
 *
 * Runs in: worker. Trusts: its options; nothing of the guest's.
 *
 * Queue 0 is the high-priority queue (FORGET, INTERRUPT), the others carry requests. Every I/O
 * thread serves its queues one request after the other, by plain system calls: when a thread is
 * dead, so is its system call. What would have it wait for a disk is done aside, through its second
 * I/O ring (errand.h), behind the fence of process/; its first one is not used.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/process/contract.h"
#include "devices/process/program.h"

enum fs_cache {
	FS_CACHE_NONE,	   /* the guest keeps nothing: direct I/O, no validity */
	FS_CACHE_METADATA, /* as none, but names and attributes are believed */
	FS_CACHE_AUTO,	   /* believed for a second; page cache kept while the file is unchanged */
	FS_CACHE_ALWAYS,   /* nobody else changes the directory */
};

struct fs_config {
	const char *path; /* by hand: the shared directory */
	const char *tag;
	bool readonly;
	enum fs_cache cache;
	bool writeback; /* the guest may keep writes in its page cache */
	bool direct_io; /* the guest's O_DIRECT reaches the host's file system */
	bool no_locks;	/* on files: the guest keeps them by itself */
	bool xattr;
	const char *xattr_map; /* prefix of what trusted. and security. become; NULL: none */
	bool acl;
	bool announce_submounts;
	bool device_nodes; /* may be made */
};

struct fs; /* fs-private.h */

enum { FS_EXTRA_QUEUES = CONTRACT_FS_EXTRA_QUEUES }; /* the high-priority queue */

/* For struct program. */
int fs_begin(void);
int fs_thread_begin(void);
struct model *fs_create(void *config, const struct options *o);
