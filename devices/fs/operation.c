/* Opcode → operation. See operation.h. */
#include "devices/fs/operation.h"

#include <linux/fuse.h>
#include <stddef.h>

#include "devices/fs/proto.h"

/*
 * SETXATTR without FUSE_SETXATTR_EXT ends before its last two words; INIT before 7.36 with flags.
 */
#define SETXATTR_SHORT_LEN offsetof(struct fuse_setxattr_in, setxattr_flags)
#define INIT_SHORT_LEN	   (offsetof(struct fuse_init_in, flags) + sizeof(uint32_t))

enum { W = OPERATION_WRITES, TEXT = 1 /* at least a NUL */ };

#define ROW(opcode, fn, fixed, what)                                                               \
	[opcode] = { .name = #fn, .run = op_##fn, .args_min = (fixed), .flags = (what) }
#define IN(type) sizeof(struct type)

static const struct operation rows[] = {
	ROW(FUSE_LOOKUP, lookup, TEXT, 0),
	ROW(FUSE_FORGET, forget, IN(fuse_forget_in), 0),
	ROW(FUSE_BATCH_FORGET, batch_forget, IN(fuse_batch_forget_in), 0),
	ROW(FUSE_GETATTR, getattr, IN(fuse_getattr_in), 0),
	ROW(FUSE_SETATTR, setattr, IN(fuse_setattr_in), W),
	ROW(PROTO_STATX, statx, IN(proto_statx_in), 0),
	ROW(FUSE_ACCESS, access, IN(fuse_access_in), 0),
	ROW(FUSE_STATFS, statfs, 0, 0),
	ROW(FUSE_READLINK, readlink, 0, 0),
	ROW(FUSE_MKNOD, mknod, IN(fuse_mknod_in) + TEXT, W),
	ROW(FUSE_MKDIR, mkdir, IN(fuse_mkdir_in) + TEXT, W),
	ROW(FUSE_SYMLINK, symlink, TEXT, W),
	ROW(FUSE_LINK, link, IN(fuse_link_in) + TEXT, W),
	ROW(FUSE_CREATE, create, IN(fuse_create_in) + TEXT, W),
	ROW(FUSE_TMPFILE, tmpfile, IN(fuse_create_in), W),
	ROW(FUSE_UNLINK, unlink, TEXT, W),
	ROW(FUSE_RMDIR, rmdir, TEXT, W),
	ROW(FUSE_RENAME, rename, IN(fuse_rename_in) + TEXT, W),
	ROW(FUSE_RENAME2, rename2, IN(fuse_rename2_in) + TEXT, W),
	ROW(FUSE_SETXATTR, setxattr, SETXATTR_SHORT_LEN + TEXT, W),
	ROW(FUSE_GETXATTR, getxattr, IN(fuse_getxattr_in) + TEXT, 0),
	ROW(FUSE_LISTXATTR, listxattr, IN(fuse_getxattr_in), 0),
	ROW(FUSE_REMOVEXATTR, removexattr, TEXT, W),
	ROW(FUSE_OPEN, open, IN(fuse_open_in), 0),
	ROW(FUSE_RELEASE, release, IN(fuse_release_in), 0),
	ROW(FUSE_OPENDIR, opendir, IN(fuse_open_in), 0),
	ROW(FUSE_RELEASEDIR, releasedir, IN(fuse_release_in), 0),
	ROW(FUSE_FLUSH, flush, IN(fuse_flush_in), 0),
	ROW(FUSE_READ, read, IN(fuse_read_in), 0),
	ROW(FUSE_WRITE, write, IN(fuse_write_in), W | OPERATION_DATA),
	ROW(FUSE_FSYNC, fsync, IN(fuse_fsync_in), 0),
	ROW(FUSE_FSYNCDIR, fsyncdir, IN(fuse_fsync_in), 0),
	ROW(FUSE_SYNCFS, syncfs, IN(fuse_syncfs_in), 0),
	ROW(FUSE_FALLOCATE, fallocate, IN(fuse_fallocate_in), W),
	ROW(FUSE_LSEEK, lseek, IN(fuse_lseek_in), 0),
	ROW(FUSE_COPY_FILE_RANGE, copy_file_range, IN(fuse_copy_file_range_in), W),
	ROW(FUSE_READDIR, readdir, IN(fuse_read_in), 0),
	ROW(FUSE_READDIRPLUS, readdirplus, IN(fuse_read_in), 0),
	ROW(FUSE_GETLK, getlk, IN(fuse_lk_in), 0),
	ROW(FUSE_SETLK, setlk, IN(fuse_lk_in), 0),
	ROW(FUSE_SETLKW, setlkw, IN(fuse_lk_in), 0),
	ROW(FUSE_INTERRUPT, interrupt, IN(fuse_interrupt_in), 0),
	ROW(FUSE_INIT, init, INIT_SHORT_LEN, OPERATION_BEFORE_INIT),
	ROW(FUSE_DESTROY, destroy, 0, OPERATION_BEFORE_INIT),
};

const struct operation *operation_find(uint32_t opcode)
{
	if (opcode >= sizeof(rows) / sizeof(*rows) || !rows[opcode].run)
		return NULL;
	return &rows[opcode];
}
