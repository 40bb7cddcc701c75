/*
 * What of the FUSE protocol the <linux/fuse.h> of Debian 12 (7.38) does not name yet, under names
 * of ours.
 *
 * Runs in: worker. Trusts: nothing (definitions only).
 */
#pragma once

#include <assert.h>
#include <linux/fuse.h>
#include <stdint.h>

enum {
	PROTO_MINOR = 41, /* the newest that we know */

	PROTO_STATX = 52, /* opcode, 7.39 */

	/*
	 * Types of extensions behind the arguments (fuse_ext_header); up to the first they are
	 * counts of security contexts.
	 */
	PROTO_MAX_NR_SECCTX = 31,
	PROTO_EXT_GROUPS = 32,
};

/* Flags of INIT. */
#define PROTO_CREATE_SUPP_GROUP	   (UINT64_C(1) << 34)
#define PROTO_DIRECT_IO_ALLOW_MMAP (UINT64_C(1) << 36)
#define PROTO_NO_EXPORT_SUPPORT	   (UINT64_C(1) << 38)

/* PROTO_EXT_GROUPS: follows its fuse_ext_header. */
struct proto_supp_groups {
	uint32_t nr_groups;
	uint32_t groups[];
};

struct proto_statx_time {
	int64_t sec;
	uint32_t nsec;
	int32_t reserved;
};

struct proto_statx {
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t spare0;
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct proto_statx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor;
	uint32_t dev_major, dev_minor;
	uint64_t spare2[14];
};
static_assert(sizeof(struct proto_statx) == 256, "as on the wire");

struct proto_statx_in {
	uint32_t getattr_flags; /* FUSE_GETATTR_FH */
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct proto_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct proto_statx stat;
};
