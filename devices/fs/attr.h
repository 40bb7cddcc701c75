/*
 * Attributes on the wire: statx → fuse_attr, entries with their validity.
 *
 * Runs in: worker. Trusts: the host's kernel.
 */
#pragma once

#include <linux/fuse.h>
#include <sys/stat.h>

struct fs;
struct inode;

/* What every statx of ours asks for. */
#define ATTR_STATX_MASK (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)

/* st as the guest sees it. */
void attr_fill(const struct fs *fs, const struct statx *st, struct fuse_attr *ret);

/* The answer of LOOKUP, MKDIR, …: i counted as looked up. */
void attr_entry(const struct fs *fs, const struct inode *i, const struct statx *st,
		struct fuse_entry_out *ret);

/* The answer of LOOKUP for a name that is not there and that the guest may remember as that. */
void attr_no_entry(const struct fs *fs, struct fuse_entry_out *ret);
