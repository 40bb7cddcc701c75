/*
 * Claims that what the host's file systems refuse reaches the guest as it is.
 *
 * Runs in: a test program of its own, as root, in a mount namespace of its own. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/errorfs.h"
#include "tests/frontend/fs-claim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <unistd.h>

static const struct backend_spec plain = { .share = "",
					   .n_queues = 1,
					   .args = (const char *const[]){ "--xattr", NULL } };
static const struct backend_spec limited = { .share = "", .n_queues = 1 };
static bool may_mount;

static void mount_tmpfs(const struct fs_claim *f, const char *name, const char *options)
{
	if (!may_mount)
		claim_skip("no mount namespace can be made here");
	expect_is(mkdir(fs_claim_path(f, name), 0755), 0);
	expect(mount("vmdev-test", fs_claim_path(f, name), "tmpfs", 0, options) == 0, "%s: %s",
	       name, strerror(errno));
}

static uint64_t node_of(struct fs_claim *f, uint64_t parent, const char *name)
{
	struct fuse_entry_out e;

	expect_ok(fc_lookup(&f->c, parent, name, &e));
	return e.nodeid;
}

static int with_args(struct fs_claim *f, uint32_t opcode, uint64_t node, const void *in, size_t len)
{
	struct fc_op op = {
		.opcode = opcode, .nodeid = node, .part = { { in, len } }, .n_parts = 1
	};

	return fc_run(&f->c, &op);
}

static int falloc(struct fs_claim *f, uint64_t node, uint64_t fh, uint64_t len)
{
	struct fuse_fallocate_in in = { .fh = fh, .length = len };

	return with_args(f, FUSE_FALLOCATE, node, &in, sizeof(in));
}

static int set_size(struct fs_claim *f, uint64_t node, uint64_t size)
{
	struct fuse_setattr_in in = { .valid = FATTR_SIZE, .size = size };

	return fc_setattr(&f->c, node, &in, NULL);
}

static void a_file_refuses(struct fs_claim *f, uint64_t mounted, int error)
{
	struct fuse_setattr_in mode = { .valid = FATTR_MODE, .mode = 0600 };
	struct fuse_fsync_in sync = {};
	struct fuse_open_out o;
	uint64_t node;
	char name[16], text[8] = "text";

	snprintf(name, sizeof(name), "f%d", error);
	node = node_of(f, mounted, name);
	expect_ok(fc_open(&f->c, node, O_RDWR, &o));
	expect_is(fc_write(&f->c, node, o.fh, 0, text, 4), -error);
	expect_is(fc_read(&f->c, node, o.fh, 0, text, 4), -error);
	expect_is(falloc(f, node, o.fh, 4096), -error);
	expect_is(set_size(f, node, 5), -error);
	expect_is(fc_setattr(&f->c, node, &mode, NULL), -error);
	expect_is(fc_setxattr(&f->c, node, "user.x", "y", 1, 0), -error);
	sync.fh = o.fh;
	expect_is(with_args(f, FUSE_FSYNC, node, &sync, sizeof(sync)), -error);
	expect_ok(fc_release(&f->c, node, o.fh));
}

static void a_directory_refuses(struct fs_claim *f, uint64_t mounted, int error)
{
	char name[16];
	uint64_t node;

	snprintf(name, sizeof(name), "d%d", error);
	node = node_of(f, mounted, name);
	expect_is(fc_mkdir(&f->c, node, "x", 0755, NULL), -error);
	expect_is(fc_mknod(&f->c, node, "x", S_IFREG | 0644, 0, NULL), -error);
	expect_is(fc_symlink(&f->c, node, "x", "y", NULL), -error);
	expect_is(fc_create(&f->c, node, "x", O_CREAT | O_RDWR, S_IFREG | 0644, NULL), -error);
}

static void errors_reach_the_guest_as_they_are(struct claim_context *x)
{
	static const int errors[] = { EDQUOT, ENOSPC, EROFS, EIO, EPERM, EFBIG, EUCLEAN, ENOMEM };
	struct fs_claim *f = fs_claim_begin(x, "errors", NULL);
	struct errorfs e;
	uint64_t mounted;
	int r;

	if (!may_mount)
		claim_skip("no mount namespace can be made here");
	expect_is(mkdir(fs_claim_path(f, "mounted"), 0755), 0);
	r = errorfs_start(&e, fs_claim_path(f, "mounted"));
	if (r == -ENOENT || r == -ENODEV)
		claim_skip("this kernel has no FUSE");
	expect_ok(r);
	mounted = node_of(f, f->dir, "mounted");
	for (unsigned i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		a_file_refuses(f, mounted, errors[i]);
		a_directory_refuses(f, mounted, errors[i]);
	}
	fs_claim_end(f);
	errorfs_stop(&e);
}

/* Bytes that a file of a full file system takes, up to the error. */
static uint64_t fill(struct fs_claim *f, uint64_t node, uint64_t fh, int *ret_error)
{
	static char data[64 << 10];
	uint64_t at = 0;
	int n;

	while ((n = fc_write(&f->c, node, fh, at, data, sizeof(data))) > 0)
		at += (uint64_t)n;
	*ret_error = n;
	return at;
}

static void a_full_file_system_says_so(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "full", NULL);
	struct fc_opened o;
	uint64_t dir, len;
	int error;

	mount_tmpfs(f, "small", "size=1000k,nr_inodes=4,mode=0755");
	dir = node_of(f, f->dir, "small");
	expect_ok(fc_create(&f->c, dir, "file", O_CREAT | O_RDWR, S_IFREG | 0644, &o));
	len = fill(f, o.entry.nodeid, o.open.fh, &error);
	expect_is(error, -ENOSPC);
	expect(len > 900 << 10 && len <= 1000 << 10, "%lu bytes", (unsigned long)len);
	/* A write of which a part has room is a short one. */
	expect_is(fs_claim_stat(f, "small/file").st_size, len);
	expect_is(falloc(f, o.entry.nodeid, o.open.fh, 2 << 20), -ENOSPC);
	expect_ok(set_size(f, o.entry.nodeid, 0));
	expect_is(fc_write(&f->c, o.entry.nodeid, o.open.fh, 0, "text", 4), 4);
	/* Inodes: root, file, two more. */
	expect_ok(fc_mkdir(&f->c, dir, "a", 0755, NULL));
	expect_ok(fc_mkdir(&f->c, dir, "b", 0755, NULL));
	expect_is(fc_mkdir(&f->c, dir, "c", 0755, NULL), -ENOSPC);
	expect_is(fc_create(&f->c, dir, "c", O_CREAT | O_RDWR, S_IFREG | 0644, NULL), -ENOSPC);
	expect_is(fc_lookup(&f->c, dir, "c", NULL), -ENOENT);
	fs_claim_end(f);
	umount2(fs_claim_path(f, "small"), MNT_DETACH);
}

static void what_is_mounted_read_only_is(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "read-only", NULL);
	uint64_t dir, file;

	mount_tmpfs(f, "fixed", "size=1m,mode=0755");
	fs_claim_write(f, "fixed/file", "text");
	expect_is(mount(NULL, fs_claim_path(f, "fixed"), NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	dir = node_of(f, f->dir, "fixed");
	file = node_of(f, dir, "file");
	expect_is(fc_open(&f->c, file, O_RDWR, NULL), -EROFS);
	expect_is(set_size(f, file, 1), -EROFS);
	expect_is(fc_mkdir(&f->c, dir, "a", 0755, NULL), -EROFS);
	expect_is(fc_unlink(&f->c, dir, "file"), -EROFS);
	expect_is(fc_rename(&f->c, dir, "file", dir, "other", 0), -EROFS);
	expect_is(fc_setxattr(&f->c, file, "user.x", "y", 1, 0), -EROFS);
	expect_is(fc_create(&f->c, dir, "other", O_CREAT | O_RDWR, S_IFREG | 0644, NULL), -EROFS);
	fs_claim_end(f);
	umount2(fs_claim_path(f, "fixed"), MNT_DETACH);
}

/* What stands for a file of 2^63 bytes is a signal to a process of the host's that goes too far. */
static void a_size_that_no_file_can_have_costs_an_error_only(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "too-far", NULL);
	struct fc_opened o;

	expect_ok(fc_create(&f->c, f->dir, "file", O_CREAT | O_RDWR, S_IFREG | 0644, &o));
	expect_is(set_size(f, o.entry.nodeid, UINT64_MAX), -EINVAL);
	expect_is(set_size(f, o.entry.nodeid, INT64_MAX), -EFBIG);
	expect_is(fc_write(&f->c, o.entry.nodeid, o.open.fh, INT64_MAX - 1, "text", 4), -EINVAL);
	expect_is(falloc(f, o.entry.nodeid, o.open.fh, INT64_MAX), -EFBIG);
	expect_is(fs_claim_stat(f, "file").st_size, 0);
	fs_claim_end(f);
}

#define CLAIM(name, spec)                                                                          \
	{                                                                                          \
#name, name, &spec                                                                 \
	}

static const struct claim claims[] = {
	CLAIM(errors_reach_the_guest_as_they_are, plain),
	CLAIM(a_full_file_system_says_so, plain),
	CLAIM(what_is_mounted_read_only_is, plain),
	CLAIM(a_size_that_no_file_can_have_costs_an_error_only, limited),
};

int main(int argc, char **argv)
{
	may_mount =
		unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
