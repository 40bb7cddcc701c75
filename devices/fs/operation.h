/*
 * The table of operations: FUSE opcode → what carries it out, and what it may look like.
 *
 * Runs in: worker. Trusts: nothing; sizes are checked here before an operation is called.
 *
 * Operations of a kind share a file: lookup.c (LOOKUP FORGET BATCH_FORGET), attr.c (GETATTR SETATTR
 * STATX ACCESS STATFS READLINK), make.c (MKNOD MKDIR SYMLINK LINK CREATE TMPFILE), remove.c (UNLINK
 * RMDIR RENAME RENAME2), xattr.c, open.c (OPEN RELEASE OPENDIR RELEASEDIR FLUSH), data.c (READ
 * WRITE FSYNC FSYNCDIR SYNCFS FALLOCATE LSEEK COPY_FILE_RANGE), readdir.c (READDIR READDIRPLUS),
 * lock.c (GETLK SETLK SETLKW, INTERRUPT), init.c (INIT DESTROY).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct request;

typedef int (*operation_fn)(struct request *rq);

enum {
	OPERATION_WRITES = 1 << 0,	/* refused with EROFS on a read-only device */
	OPERATION_BEFORE_INIT = 1 << 1, /* may come before INIT */
	OPERATION_DATA = 1 << 2, /* what follows the fixed arguments is data, not to be copied */
};

struct operation {
	const char *name;
	operation_fn run;
	uint16_t args_min; /* bytes of fixed arguments; with OPERATION_DATA only these are copied */
	uint16_t flags;
};

/* The row of an opcode; NULL: unknown (answer -ENOSYS). */
const struct operation *operation_find(uint32_t opcode);

/* lookup.c */
int op_lookup(struct request *rq);
int op_forget(struct request *rq);
int op_batch_forget(struct request *rq);
/* attr.c */
int op_getattr(struct request *rq);
int op_setattr(struct request *rq);
int op_statx(struct request *rq);
int op_access(struct request *rq);
int op_statfs(struct request *rq);
int op_readlink(struct request *rq);
/* make.c */
int op_mknod(struct request *rq);
int op_mkdir(struct request *rq);
int op_symlink(struct request *rq);
int op_link(struct request *rq);
int op_create(struct request *rq);
int op_tmpfile(struct request *rq);
/* remove.c */
int op_unlink(struct request *rq);
int op_rmdir(struct request *rq);
int op_rename(struct request *rq);
int op_rename2(struct request *rq);
/* xattr.c */
int op_setxattr(struct request *rq);
int op_getxattr(struct request *rq);
int op_listxattr(struct request *rq);
int op_removexattr(struct request *rq);
/* open.c */
int op_open(struct request *rq);
int op_release(struct request *rq);
int op_opendir(struct request *rq);
int op_releasedir(struct request *rq);
int op_flush(struct request *rq);
/* data.c */
int op_read(struct request *rq);
int op_write(struct request *rq);
int op_fsync(struct request *rq);
int op_fsyncdir(struct request *rq);
int op_syncfs(struct request *rq);
int op_fallocate(struct request *rq);
int op_lseek(struct request *rq);
int op_copy_file_range(struct request *rq);
/* readdir.c */
int op_readdir(struct request *rq);
int op_readdirplus(struct request *rq);
void readdir_name_gone(uint64_t parent); /* the guest has removed, moved or replaced one there */
/* lock.c */
int op_getlk(struct request *rq);
int op_setlk(struct request *rq);
int op_setlkw(struct request *rq);
int op_interrupt(struct request *rq);
/* init.c */
int op_init(struct request *rq);
int op_destroy(struct request *rq);
