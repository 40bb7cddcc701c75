/* Open files in claims about a file system device. What fails fails the claim, but where a function returns a result. */
#pragma once

#include "tests/frontend/fs-claim.h"

struct file {
	uint64_t node, fh;
	uint32_t open_flags;
	uint32_t flags; /* as the guest has them now: it sends them with each write */
};

/* In the claim's directory: a new file, one that is there, and what comes of opening one. */
struct file create(struct fs_claim *f, const char *name, uint32_t flags);
struct file open_existing(struct fs_claim *f, const char *name, uint32_t flags);
int open_file(struct fs_claim *f, const char *name, uint32_t flags, struct file *ret);

/* An operation with fixed arguments that answers with nothing, or with *ret. 0 or negative errno. */
int run_op(struct fs_claim *f, struct fc_op op, const void *in, size_t len, void *ret);
int falloc(struct fs_claim *f, const struct file *file, struct fuse_fallocate_in in);

/* How much was written, or negative errno. */
int write_flags(struct fs_claim *f, const struct file *file, struct fuse_write_in in,
		const char *text);
int write_text(struct fs_claim *f, const struct file *file, uint64_t offset, const char *text);
/* Reading so much there gives just this text. */
void reads(struct fs_claim *f, const struct file *file, uint64_t offset, size_t len,
	   const char *text);
