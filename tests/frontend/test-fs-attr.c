/*
 * Claims about looking names up in a shared directory, forgetting them, and attributes.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/fs-claim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

static const struct backend_spec plain = { .share = "", .n_queues = 1 };
static const struct backend_spec cached = {
	.share = "", .n_queues = 1, .args = (const char *const[]){ "--cache=always", NULL }
};
static const struct backend_spec uncached = {
	.share = "", .n_queues = 1, .args = (const char *const[]){ "--cache=none", NULL }
};
static const struct backend_spec announced = {
	.share = "", .n_queues = 1, .args = (const char *const[]){ "--announce-submounts", NULL }
};
static const struct backend_spec read_only = {
	.share = "", .n_queues = 1, .args = (const char *const[]){ "--read-only", NULL }
};

/* Mounts are made in a namespace of this program's own, where it may. */
static bool may_mount;

static uint64_t node_of(struct fs_claim *f, const char *name)
{
	struct fuse_entry_out e;

	expect_ok(fc_lookup(&f->c, f->dir, name, &e));
	return e.nodeid;
}

static uint64_t node_of_new(struct fs_claim *f, const char *name)
{
	fs_claim_write(f, name, "text");
	return node_of(f, name);
}

static int run(struct fs_claim *f, struct fc_op op, const void *in, size_t len, void *ret)
{
	int r;

	op.part[0].p = in;
	op.part[0].len = len;
	op.n_parts = len > 0;
	r = fc_run(&f->c, &op);
	if (r == 0 && ret) {
		expect_is(f->c.call.reply_len, op.room);
		memcpy(ret, f->c.call.reply, op.room);
	}
	return r;
}

static void a_name_is_found_with_its_attributes(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "found", NULL);
	struct fuse_entry_out e, again;
	struct stat st;

	fs_claim_write(f, "file", "some text");
	expect_ok(fc_lookup(&f->c, f->dir, "file", &e));
	st = fs_claim_stat(f, "file");
	expect_is(e.attr.ino, st.st_ino);
	expect_is(e.attr.size, 9);
	expect_is(e.attr.blocks, st.st_blocks);
	expect_is(e.attr.mode, st.st_mode);
	expect_is(e.attr.nlink, 1);
	expect_is(e.attr.blksize, st.st_blksize);
	expect_is(e.attr.mtime, st.st_mtim.tv_sec);
	expect_is(e.attr.mtimensec, st.st_mtim.tv_nsec);
	expect_is(e.attr.ctimensec, st.st_ctim.tv_nsec);
	expect(e.nodeid > FUSE_ROOT_ID, "no node id");
	expect_is(e.entry_valid, 1);
	expect_is(e.attr_valid, 1);
	/* Each look-up leads to the same node, as does each of its names. */
	expect_ok(fc_lookup(&f->c, f->dir, "file", &again));
	expect_is(again.nodeid, e.nodeid);
	expect_is(link(fs_claim_path(f, "file"), fs_claim_path(f, "other")), 0);
	expect_ok(fc_lookup(&f->c, f->dir, "other", &again));
	expect_is(again.nodeid, e.nodeid);
	expect_is(again.attr.nlink, 2);
	fs_claim_end(f);
}

static void an_absent_name_is_an_error(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "absent", NULL);

	expect_is(fc_lookup(&f->c, f->dir, "nothing", NULL), -ENOENT);
	fs_claim_write(f, "nothing", "");
	expect_ok(fc_lookup(&f->c, f->dir, "nothing", NULL));
	fs_claim_end(f);
}

static void an_absent_name_may_be_remembered_when_nobody_else_makes_it(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "remembered", NULL);
	struct fuse_entry_out e;

	expect_ok(fc_lookup(&f->c, f->dir, "nothing", &e));
	expect_is(e.nodeid, 0);
	expect_is(e.entry_valid, 86400);
	expect_ok(fc_mkdir(&f->c, f->dir, "nothing", 0755, &e));
	expect_is(e.entry_valid, 86400);
	fs_claim_end(f);
}

static void nothing_is_believed_uncached(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "uncached", NULL);
	struct fuse_entry_out e;

	expect_is(fc_lookup(&f->c, f->dir, "nothing", NULL), -ENOENT);
	fs_claim_write(f, "file", "");
	expect_ok(fc_lookup(&f->c, f->dir, "file", &e));
	expect(e.entry_valid == 0 && e.entry_valid_nsec == 0 && e.attr_valid == 0 &&
		       e.attr_valid_nsec == 0,
	       "it is to be believed");
	fs_claim_end(f);
}

static void names_that_are_none_are_refused(struct claim_context *x)
{
	static const char *const names[] = { "", ".", "..", "a/b", "/", "/etc", "../x" };
	struct fs_claim *f = fs_claim_begin(x, "refused", NULL);
	char longest[257];
	uint64_t file = node_of_new(f, "file");

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		expect(fc_lookup(&f->c, f->dir, names[i], NULL) == -EINVAL, "%s", names[i]);
	memset(longest, 'x', 256);
	longest[256] = '\0';
	expect_is(fc_lookup(&f->c, f->dir, longest, NULL), -ENAMETOOLONG);
	longest[255] = '\0';
	expect_is(fc_lookup(&f->c, f->dir, longest, NULL), -ENOENT);
	expect_is(fc_lookup(&f->c, file, "below", NULL), -ENOTDIR);
	expect_is(fc_lookup(&f->c, file + (UINT64_C(1) << 32), "below", NULL), -ESTALE);
	expect_is(fc_lookup(&f->c, 0, "below", NULL), -ESTALE);
	fs_claim_end(f);
}

static void a_symlink_is_not_followed(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "symlink", NULL);
	struct fuse_entry_out e;
	char target[64];
	uint64_t file = node_of_new(f, "file");

	expect_is(symlink("/etc/passwd", fs_claim_path(f, "link")), 0);
	expect_ok(fc_lookup(&f->c, f->dir, "link", &e));
	expect_is(e.attr.mode, S_IFLNK | 0777);
	expect_is(fc_readlink(&f->c, e.nodeid, target, sizeof(target)), 11);
	expect(memcmp(target, "/etc/passwd", 11) == 0, "%.11s", target);
	expect_is(fc_lookup(&f->c, e.nodeid, "x", NULL), -ENOTDIR);
	expect_is(fc_readlink(&f->c, file, target, sizeof(target)), -EINVAL);
	expect_is(fc_readlink(&f->c, f->dir, target, sizeof(target)), -EINVAL);
	fs_claim_end(f);
}

static void what_was_forgotten_is_not_known(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "forgotten", NULL);
	uint64_t node = node_of_new(f, "file");

	expect_is(node_of(f, "file"), node);
	fc_forget(&f->c, node, 1);
	expect_ok(fc_getattr(&f->c, node, NULL));
	fc_forget(&f->c, node, 1);
	expect_is(fc_getattr(&f->c, node, NULL), -ESTALE);
	fc_forget(&f->c, node, 1);
	expect(node_of(f, "file") != node, "the old node id leads to it again");
	/* The root is not to be forgotten. */
	fc_forget(&f->c, FUSE_ROOT_ID, 1000);
	expect_ok(fc_getattr(&f->c, FUSE_ROOT_ID, NULL));
	fs_claim_end(f);
}

static void many_are_forgotten_at_once(struct claim_context *x)
{
	struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one one[3];
	} batch = { .in = { .count = 1000 } }; /* more than there are */
	struct fs_claim *f = fs_claim_begin(x, "batch", NULL);
	struct fc_op op = { .opcode = FUSE_BATCH_FORGET, .no_answer = true };
	uint64_t node[3] = { node_of_new(f, "a"), node_of_new(f, "b"), node_of_new(f, "c") };

	expect_is(node_of(f, "b"), node[1]);
	for (unsigned i = 0; i < 3; i++)
		batch.one[i] = (struct fuse_forget_one){ .nodeid = node[i], .nlookup = 1 };
	run(f, op, &batch, sizeof(batch), NULL);
	expect_is(fc_getattr(&f->c, node[0], NULL), -ESTALE);
	expect_ok(fc_getattr(&f->c, node[1], NULL));
	expect_is(fc_getattr(&f->c, node[2], NULL), -ESTALE);
	fs_claim_end(f);
}

static int set(struct fs_claim *f, uint64_t node, struct fuse_setattr_in in, struct fuse_attr *ret)
{
	return fc_setattr(&f->c, node, &in, ret);
}

static void mode_and_owner_are_set(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "mode", NULL);
	uint64_t node = node_of_new(f, "file");
	struct fuse_attr attr;

	expect_ok(set(f, node, (struct fuse_setattr_in){ .valid = FATTR_MODE, .mode = 06751 },
		      &attr));
	expect_is(attr.mode, S_IFREG | 06751);
	expect_is(fs_claim_stat(f, "file").st_mode, S_IFREG | 06751);
	expect_ok(set(f, node, (struct fuse_setattr_in){ .valid = FATTR_UID, .uid = 7, .gid = 9 },
		      &attr));
	expect(attr.uid == 7 && attr.gid == 0, "%u:%u", attr.uid, attr.gid);
	expect_is(attr.mode, S_IFREG | 0751);
	expect_ok(set(f, node, (struct fuse_setattr_in){ .valid = FATTR_GID, .uid = 8, .gid = 9 },
		      &attr));
	expect(attr.uid == 7 && attr.gid == 9, "%u:%u", attr.uid, attr.gid);
	/* Both at once: the owner first clears what the mode then sets. */
	expect_ok(set(f, f->dir, (struct fuse_setattr_in){ .valid = FATTR_MODE, .mode = 01777 },
		      &attr));
	expect_is(attr.mode, S_IFDIR | 01777);
	fs_claim_end(f);
}

static void a_change_of_owner_and_mode_leaves_the_mode(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "both", NULL);
	uint64_t node = node_of_new(f, "file");
	struct fuse_setattr_in in = { .valid = FATTR_MODE | FATTR_UID, .mode = 04755, .uid = 7 };
	struct fuse_attr attr;

	expect_ok(set(f, node, in, &attr));
	expect_is(attr.mode, S_IFREG | 04755);
	expect_is(attr.uid, 7);
	fs_claim_end(f);
}

static void symlinks_have_owners_and_times_but_no_mode(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "of-links", NULL);
	struct fuse_setattr_in times = { .valid = FATTR_MTIME, .mtime = 1000000 };
	struct fuse_attr attr;
	uint64_t node;

	fs_claim_write(f, "file", "");
	expect_is(symlink("file", fs_claim_path(f, "link")), 0);
	node = node_of(f, "link");
	expect_is(set(f, node, (struct fuse_setattr_in){ .valid = FATTR_MODE, .mode = 0600 }, NULL),
		  -EOPNOTSUPP);
	expect_ok(set(f, node, (struct fuse_setattr_in){ .valid = FATTR_UID, .uid = 7 }, &attr));
	expect_is(attr.uid, 7);
	expect_ok(set(f, node, times, &attr));
	expect_is(attr.mtime, 1000000);
	expect_is(fs_claim_stat(f, "file").st_uid, 0);
	expect(fs_claim_stat(f, "file").st_mtim.tv_sec > 1000000, "the target was changed");
	fs_claim_end(f);
}

static void times_are_set_to_their_borders(struct claim_context *x)
{
	static const int64_t seconds[] = { 0, 1, -1, -86400 * 365, INT32_MAX, INT64_C(1) << 32 };
	struct fs_claim *f = fs_claim_begin(x, "times", NULL);
	uint64_t node = node_of_new(f, "file");
	struct fuse_attr attr;

	for (size_t i = 0; i < sizeof(seconds) / sizeof(*seconds); i++) {
		struct fuse_setattr_in in = { .valid = FATTR_ATIME | FATTR_MTIME,
					      .atime = (uint64_t)seconds[i],
					      .mtime = (uint64_t)seconds[i],
					      .atimensec = 0,
					      .mtimensec = 999999999 };
		struct stat st;

		expect_ok(set(f, node, in, &attr));
		st = fs_claim_stat(f, "file");
		expect_is(st.st_atim.tv_sec, seconds[i]);
		expect_is(st.st_mtim.tv_sec, seconds[i]);
		expect_is(st.st_mtim.tv_nsec, 999999999);
		expect_is((int64_t)attr.mtime, seconds[i]);
		expect_is(attr.mtimensec, 999999999);
	}
	fs_claim_end(f);
}

static void nanoseconds_that_are_none_are_refused(struct claim_context *x)
{
	static const uint32_t wrong[] = { 1000000000, UTIME_NOW, UTIME_OMIT, UINT32_MAX };
	struct fs_claim *f = fs_claim_begin(x, "nanoseconds", NULL);
	uint64_t node = node_of_new(f, "file");
	struct fuse_setattr_in in = { .valid = FATTR_ATIME | FATTR_MTIME, .atime = 5, .mtime = 5 };

	expect_ok(set(f, node, in, NULL));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		in.atimensec = wrong[i];
		in.mtimensec = 0;
		expect_is(set(f, node, in, NULL), -EINVAL);
		in.atimensec = 0;
		in.mtimensec = wrong[i];
		expect_is(set(f, node, in, NULL), -EINVAL);
	}
	expect_is(fs_claim_stat(f, "file").st_mtim.tv_sec, 5);
	fs_claim_end(f);
}

static void one_time_is_set_or_both_are_now(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "now", NULL);
	uint64_t node = node_of_new(f, "file");
	struct fuse_setattr_in in = { .valid = FATTR_ATIME | FATTR_MTIME, .atime = 5, .mtime = 6 };
	struct fuse_attr attr;
	time_t before = time(NULL) - 1;

	expect_ok(set(f, node, in, NULL));
	in = (struct fuse_setattr_in){ .valid = FATTR_MTIME, .mtime = 7, .atime = 70 };
	expect_ok(set(f, node, in, &attr));
	expect(attr.atime == 5 && attr.mtime == 7, "%llu, %llu", (unsigned long long)attr.atime,
	       (unsigned long long)attr.mtime);
	in = (struct fuse_setattr_in){ .valid = FATTR_ATIME | FATTR_ATIME_NOW, .atime = 70 };
	expect_ok(set(f, node, in, &attr));
	expect((time_t)attr.atime >= before && attr.mtime == 7, "not now");
	in = (struct fuse_setattr_in){ .valid = FATTR_ATIME | FATTR_MTIME | FATTR_MTIME_NOW,
				       .atime = 8 };
	expect_ok(set(f, node, in, &attr));
	expect((time_t)attr.mtime >= before && attr.atime == 8, "not now");
	/* The change time is the host's. */
	in = (struct fuse_setattr_in){ .valid = FATTR_CTIME, .ctime = 9 };
	expect_ok(set(f, node, in, &attr));
	expect((time_t)attr.ctime >= before, "the change time was set");
	fs_claim_end(f);
}

static struct fuse_setattr_in size_in(uint64_t size)
{
	return (struct fuse_setattr_in){ .valid = FATTR_SIZE, .size = size };
}

static void the_size_is_set_by_node_or_by_handle(struct claim_context *x)
{
	static const uint32_t how[] = { O_RDWR, O_WRONLY, O_RDONLY };
	struct fs_claim *f = fs_claim_begin(x, "size", NULL);
	uint64_t node = node_of_new(f, "file");
	struct fuse_setattr_in in;
	struct fuse_attr attr;

	expect_ok(set(f, node, size_in(2), &attr));
	expect_is(attr.size, 2);
	expect(fs_claim_holds(f, "file", "te"), "other text");
	expect_ok(set(f, node, size_in(INT64_C(1) << 40), &attr));
	expect_is(fs_claim_stat(f, "file").st_size, INT64_C(1) << 40);
	expect_is(set(f, node, size_in(UINT64_MAX), NULL), -EINVAL);
	expect_is(set(f, node, size_in((uint64_t)INT64_MAX + 1), NULL), -EINVAL);
	for (uint32_t i = 0; i < 3; i++) {
		struct fuse_open_out o;

		expect_ok(fc_open(&f->c, node, how[i], &o));
		in = size_in(i);
		in.valid |= FATTR_FH;
		in.fh = o.fh;
		expect_ok(set(f, node, in, &attr));
		expect_is(attr.size, i);
		expect_is(fs_claim_stat(f, "file").st_size, i);
		expect_ok(fc_release(&f->c, node, o.fh));
	}
	fs_claim_end(f);
}

static void only_files_have_a_size_to_set(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "no-size", NULL);

	expect_is(mkfifo(fs_claim_path(f, "fifo"), 0600), 0);
	expect_is(symlink("fifo", fs_claim_path(f, "link")), 0);
	expect_is(set(f, f->dir, size_in(0), NULL), -EISDIR);
	expect_is(set(f, node_of(f, "fifo"), size_in(0), NULL), -ENXIO);
	expect_is(set(f, node_of(f, "link"), size_in(0), NULL), -ELOOP);
	fs_claim_end(f);
}

static void setuid_ends_by_truncation_if_the_guest_says_so(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "killpriv", NULL);
	uint64_t node = node_of_new(f, "file");
	struct fuse_setattr_in in = size_in(1);
	struct fuse_attr attr;

	expect_is(chmod(fs_claim_path(f, "file"), 06777), 0);
	expect_ok(set(f, node, in, &attr));
	expect_is(attr.mode, S_IFREG | 06777);
	in.valid |= FATTR_KILL_SUIDGID;
	expect_ok(set(f, node, in, &attr));
	expect_is(attr.mode, S_IFREG | 0777);
	expect_is(fs_claim_stat(f, "file").st_mode, S_IFREG | 0777);
	/* The thread has its capability again. */
	expect_is(chmod(fs_claim_path(f, "file"), 06777), 0);
	in.valid = FATTR_SIZE;
	expect_ok(set(f, node, in, &attr));
	expect_is(attr.mode, S_IFREG | 06777);
	fs_claim_end(f);
}

static void an_unlinked_file_has_attributes(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "unlinked", NULL);
	struct fc_opened o;
	struct fuse_attr attr;
	struct fuse_attr_out out;
	struct fuse_getattr_in in = { .getattr_flags = FUSE_GETATTR_FH };
	struct fc_op op = { .opcode = FUSE_GETATTR, .room = sizeof(out) };

	expect_ok(fc_create(&f->c, f->dir, "file", O_RDWR | O_CREAT, S_IFREG | 0644, &o));
	expect_ok(fc_unlink(&f->c, f->dir, "file"));
	fs_claim_write(f, "file", "another");
	expect_ok(set(f, o.entry.nodeid, size_in(17), &attr));
	expect(attr.size == 17 && attr.nlink == 0, "%u links", attr.nlink);
	op.nodeid = o.entry.nodeid;
	in.fh = o.open.fh;
	expect_ok(run(f, op, &in, sizeof(in), &out));
	expect(out.attr.size == 17 && out.attr.nlink == 0 && out.attr.ino == attr.ino, "another");
	/* A handle that is none: the node will do. */
	in.fh = UINT64_MAX;
	expect_ok(run(f, op, &in, sizeof(in), &out));
	expect_is(out.attr.ino, attr.ino);
	expect(fs_claim_holds(f, "file", "another"), "another file was truncated");
	fs_claim_end(f);
}

static void device_numbers_are_the_kernels(struct claim_context *x)
{
	static const struct {
		unsigned major, minor;
		uint32_t rdev;
	} row[] = { { 1, 3, 0x103 }, { 254, 255, 0xfeff }, { 254, 256, 0x10fe00 } };
	struct fs_claim *f = fs_claim_begin(x, "rdev", NULL);
	struct fuse_entry_out e;

	for (unsigned i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "node%u", i);
		if (mknod(fs_claim_path(f, name), S_IFCHR | 0600,
			  makedev(row[i].major, row[i].minor)) < 0)
			claim_skip("device nodes cannot be made here");
		expect_ok(fc_lookup(&f->c, f->dir, name, &e));
		expect_is(e.attr.rdev, row[i].rdev);
		expect_is(e.attr.mode, S_IFCHR | 0600);
	}
	fs_claim_end(f);
}

static void the_file_systems_room_is_the_hosts(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "statfs", NULL);
	struct fc_op op = { .opcode = FUSE_STATFS, .room = sizeof(struct fuse_statfs_out) };
	struct fuse_statfs_out out;
	struct statvfs st;

	op.nodeid = f->dir;
	expect_ok(run(f, op, NULL, 0, &out));
	expect_is(statvfs(f->path, &st), 0);
	expect_is(out.st.blocks, st.f_blocks);
	expect_is(out.st.files, st.f_files);
	expect_is(out.st.bsize, st.f_bsize);
	expect_is(out.st.frsize, st.f_frsize);
	expect_is(out.st.namelen, st.f_namemax);
	op.nodeid = UINT64_MAX;
	expect_is(run(f, op, NULL, 0, NULL), -ESTALE);
	fs_claim_end(f);
}

static int may(struct fs_claim *f, uint64_t node, uint32_t uid, uint32_t gid, uint32_t mask)
{
	struct fuse_access_in in = { .mask = mask };
	struct fc_op op = { .opcode = FUSE_ACCESS, .nodeid = node };
	int r;

	f->c.uid = uid;
	f->c.gid = gid;
	r = run(f, op, &in, sizeof(in), NULL);
	f->c.uid = f->c.gid = 0;
	return r;
}

static void access_is_by_the_mode(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "access", NULL);
	uint64_t node = node_of_new(f, "file");

	expect_is(chown(fs_claim_path(f, "file"), 7, 9), 0);
	expect_is(chmod(fs_claim_path(f, "file"), 0640), 0);
	expect_ok(may(f, node, 7, 0, R_OK | W_OK));
	expect_is(may(f, node, 7, 0, X_OK), -EACCES);
	expect_ok(may(f, node, 8, 9, R_OK));
	expect_is(may(f, node, 8, 9, W_OK), -EACCES);
	expect_ok(may(f, node, 8, 8, F_OK));
	expect_is(may(f, node, 8, 8, R_OK), -EACCES);
	expect_ok(may(f, node, 0, 0, R_OK | W_OK));
	expect_is(may(f, node, 0, 0, X_OK), -EACCES);
	expect_is(may(f, node, 0, 0, 8), -EINVAL);
	fs_claim_end(f);
}

/* As in <linux/fuse.h> from 7.39 on. */
struct statx_in {
	uint32_t getattr_flags, reserved;
	uint64_t fh;
	uint32_t sx_flags, sx_mask;
};

struct statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, flags;
	uint64_t spare[2];
	uint8_t stat[256]; /* as struct statx of the kernel up to stx_dev_minor */
};

static void times_of_birth_are_told(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "statx", NULL);
	struct fc_op op = { .opcode = 52, .room = sizeof(struct statx_out) };
	struct statx_in in = { .sx_mask = STATX_BTIME };
	struct statx_out out;
	struct statx got, st;

	op.nodeid = node_of_new(f, "file");
	expect_ok(run(f, op, &in, sizeof(in), &out));
	memcpy(&got, out.stat, sizeof(got));
	expect_is(statx(AT_FDCWD, fs_claim_path(f, "file"), AT_SYMLINK_NOFOLLOW,
			STATX_BASIC_STATS | STATX_BTIME, &st),
		  0);
	expect_is(got.stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
		  st.stx_mask & (STATX_BASIC_STATS | STATX_BTIME));
	expect_is(got.stx_btime.tv_sec, st.stx_btime.tv_sec);
	expect_is(got.stx_btime.tv_nsec, st.stx_btime.tv_nsec);
	expect_is(got.stx_size, 4);
	expect_is(got.stx_ino, st.stx_ino);
	expect_is(got.stx_mode, st.stx_mode);
	expect_is(out.attr_valid, 1);
	fs_claim_end(f);
}

static void attributes_of_a_read_only_device_stay(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "read-only", NULL);
	uint64_t node = node_of_new(f, "file");
	struct fuse_setattr_in in = { .valid = FATTR_MODE, .mode = 0 };

	expect_ok(fc_getattr(&f->c, node, NULL));
	expect_is(set(f, node, in, NULL), -EROFS);
	expect_is(set(f, node, size_in(0), NULL), -EROFS);
	expect(fs_claim_holds(f, "file", "text"), "another text");
	fs_claim_end(f);
}

static void mount_at(const struct fs_claim *f, const char *name, const char *from)
{
	const char *at = fs_claim_path(f, name);
	int r;

	if (!may_mount)
		claim_skip("no mount namespace can be made here");
	expect_is(mkdir(at, 0755), 0);
	if (from)
		r = mount(from, at, NULL, MS_BIND, NULL);
	else
		r = mount("vmdev-test", at, "tmpfs", 0, "size=1m,mode=0755");
	expect(r == 0, "%s: %s", at, strerror(errno));
}

static void unmount(const struct fs_claim *f, const char *name)
{
	expect_is(umount2(fs_claim_path(f, name), MNT_DETACH), 0);
}

static void submounts_are_announced(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "announced", NULL);
	struct fuse_entry_out dir, mounted, below;

	mount_at(f, "mounted", NULL);
	expect_is(mkdir(fs_claim_path(f, "dir"), 0755), 0);
	expect_is(mkdir(fs_claim_path(f, "mounted/below"), 0755), 0);
	expect_ok(fc_lookup(&f->c, f->dir, "dir", &dir));
	expect_ok(fc_lookup(&f->c, f->dir, "mounted", &mounted));
	expect_ok(fc_lookup(&f->c, mounted.nodeid, "below", &below));
	expect_is(dir.attr.flags & FUSE_ATTR_SUBMOUNT, 0);
	expect_is(mounted.attr.flags & FUSE_ATTR_SUBMOUNT, FUSE_ATTR_SUBMOUNT);
	expect_is(below.attr.flags & FUSE_ATTR_SUBMOUNT, 0);
	/* Also when it is known already. */
	expect_ok(fc_lookup(&f->c, f->dir, "mounted", &mounted));
	expect_is(mounted.attr.flags & FUSE_ATTR_SUBMOUNT, FUSE_ATTR_SUBMOUNT);
	fs_claim_end(f);
	unmount(f, "mounted");
}

/* They number their files by themselves, though they are no mounts. */
static void subvolumes_are_announced(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "subvolumes", NULL);
	struct btrfs_ioctl_vol_args args = { .name = "sub" };
	struct fuse_entry_out mounted, sub, below;
	char command[2000];
	int fd;

	expect_is(mkdir(fs_claim_path(f, "mounted"), 0755), 0);
	snprintf(command, sizeof(command),
		 "truncate -s 128M %s/disk && mkfs.btrfs -q %s/disk >/dev/null 2>&1 && "
		 "mount -o loop %s/disk %s/mounted",
		 f->path, f->path, f->path, f->path);
	if (system(command) != 0)
		claim_skip("no mkfs.btrfs, or no loop device with btrfs here");
	fd = open(fs_claim_path(f, "mounted"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	expect(fd >= 0 && ioctl(fd, BTRFS_IOC_SUBVOL_CREATE, &args) == 0, "%s", strerror(errno));
	close(fd);
	expect_is(mkdir(fs_claim_path(f, "mounted/sub/below"), 0755), 0);
	expect_ok(fc_lookup(&f->c, f->dir, "mounted", &mounted));
	expect_ok(fc_lookup(&f->c, mounted.nodeid, "sub", &sub));
	expect_ok(fc_lookup(&f->c, sub.nodeid, "below", &below));
	expect_is(sub.attr.flags & FUSE_ATTR_SUBMOUNT, FUSE_ATTR_SUBMOUNT);
	expect_is(below.attr.flags & FUSE_ATTR_SUBMOUNT, 0);
	fs_claim_end(f);
	unmount(f, "mounted");
}

static void the_same_number_of_two_file_systems_is_two_nodes(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "numbers", NULL);
	struct fuse_entry_out a, b, again;

	mount_at(f, "a", NULL);
	mount_at(f, "b", NULL);
	expect_is(chmod(fs_claim_path(f, "a"), 0711), 0);
	expect_ok(fc_lookup(&f->c, f->dir, "a", &a));
	expect_ok(fc_lookup(&f->c, f->dir, "b", &b));
	expect_is(a.attr.ino, b.attr.ino);
	expect(a.nodeid != b.nodeid, "one node");
	expect(a.attr.mode == (S_IFDIR | 0711) && b.attr.mode == (S_IFDIR | 0755), "mixed up");
	/* Not announced: one file system to the guest. */
	expect_is(a.attr.flags, 0);
	unmount(f, "a");
	unmount(f, "b");

	/* And one file system mounted twice: what is mounted below one is not below the other. */
	expect_is(mkdir(fs_claim_path(f, "c"), 0755), 0);
	mount_at(f, "d", fs_claim_path(f, "c"));
	expect_ok(fc_lookup(&f->c, f->dir, "c", &a));
	expect_ok(fc_lookup(&f->c, f->dir, "d", &b));
	expect_is(a.attr.ino, b.attr.ino);
	expect(a.nodeid != b.nodeid, "one node");
	expect_ok(fc_lookup(&f->c, f->dir, "d", &again));
	expect_is(again.nodeid, b.nodeid);
	fs_claim_end(f);
	unmount(f, "d");
}

#define CLAIM(name, spec)                                                                          \
	{                                                                                          \
#name, name, &spec                                                                 \
	}

static const struct claim claims[] = {
	CLAIM(a_name_is_found_with_its_attributes, plain),
	CLAIM(an_absent_name_is_an_error, plain),
	CLAIM(names_that_are_none_are_refused, plain),
	CLAIM(a_symlink_is_not_followed, plain),
	CLAIM(what_was_forgotten_is_not_known, plain),
	CLAIM(many_are_forgotten_at_once, plain),
	CLAIM(mode_and_owner_are_set, plain),
	CLAIM(a_change_of_owner_and_mode_leaves_the_mode, plain),
	CLAIM(symlinks_have_owners_and_times_but_no_mode, plain),
	CLAIM(times_are_set_to_their_borders, plain),
	CLAIM(nanoseconds_that_are_none_are_refused, plain),
	CLAIM(one_time_is_set_or_both_are_now, plain),
	CLAIM(the_size_is_set_by_node_or_by_handle, plain),
	CLAIM(only_files_have_a_size_to_set, plain),
	CLAIM(setuid_ends_by_truncation_if_the_guest_says_so, plain),
	CLAIM(an_unlinked_file_has_attributes, plain),
	CLAIM(device_numbers_are_the_kernels, plain),
	CLAIM(the_file_systems_room_is_the_hosts, plain),
	CLAIM(access_is_by_the_mode, plain),
	CLAIM(times_of_birth_are_told, plain),
	CLAIM(the_same_number_of_two_file_systems_is_two_nodes, plain),
	CLAIM(an_absent_name_may_be_remembered_when_nobody_else_makes_it, cached),
	CLAIM(nothing_is_believed_uncached, uncached),
	CLAIM(submounts_are_announced, announced),
	CLAIM(subvolumes_are_announced, announced),
	CLAIM(attributes_of_a_read_only_device_stay, read_only),
};

int main(int argc, char **argv)
{
	may_mount =
		unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
