/*
 * Claims about making, removing and renaming in a shared directory.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/fs-claim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static const struct backend_spec plain = { .share = "", .n_queues = 1 };
static const struct backend_spec read_only = {
	.share = "", .n_queues = 1, .args = (const char *const[]){ "--read-only", NULL }
};
static const struct backend_spec devices = {
	.share = "", .n_queues = 1, .args = (const char *const[]){ "--device-nodes", NULL }
};
static const struct backend_spec acl = { .share = "",
					 .n_queues = 1,
					 .args = (const char *const[]){ "--posix-acl", NULL } };
static const struct backend_spec mapped = {
	.share = "", .n_queues = 1, .args = (const char *const[]){ "--xattr-map=user.guest.", NULL }
};
static const struct backend_spec writeback = {
	.share = "", .n_queues = 1, .args = (const char *const[]){ "--writeback", NULL }
};

static void mode_is(const struct fs_claim *f, const char *name, mode_t mode)
{
	struct stat st = fs_claim_stat(f, name);

	expect(st.st_mode == mode, "%s has mode %o, not %o", name, st.st_mode, mode);
}

static void become(struct fs_claim *f, uint32_t uid, uint32_t gid)
{
	f->c.uid = uid;
	f->c.gid = gid;
}

static void what_is_made_is_the_senders(struct claim_context *x)
{
	static const char *const names[] = { "dir", "fifo", "symlink", "file" };
	struct fs_claim *f = fs_claim_begin(x, "senders", NULL);
	struct fuse_entry_out e;
	struct fc_opened o;

	become(f, 1234, 5678);
	f->c.umask = 027;
	expect_ok(fc_mkdir(&f->c, f->dir, "dir", 0777, &e));
	expect(e.attr.uid == 1234 && e.attr.gid == 5678 && e.attr.mode == (S_IFDIR | 0750), "%o",
	       e.attr.mode);
	expect_ok(fc_mknod(&f->c, f->dir, "fifo", S_IFIFO | 0666, 0, NULL));
	expect_ok(fc_symlink(&f->c, f->dir, "symlink", "target", NULL));
	expect_ok(fc_create(&f->c, f->dir, "file", O_RDWR | O_CREAT, S_IFREG | 04777, &o));
	mode_is(f, "dir", S_IFDIR | 0750);
	mode_is(f, "fifo", S_IFIFO | 0640);
	mode_is(f, "symlink", S_IFLNK | 0777);
	mode_is(f, "file", S_IFREG | 04750);
	for (unsigned i = 0; i < 4; i++) {
		struct stat st = fs_claim_stat(f, names[i]);

		expect(st.st_uid == 1234 && st.st_gid == 5678, "%s is %u:%u's", names[i], st.st_uid,
		       st.st_gid);
	}
	/* And the next one's is the next one's. */
	become(f, 0, 0);
	f->c.umask = 0;
	expect_ok(fc_mkdir(&f->c, f->dir, "root", 0777, NULL));
	mode_is(f, "root", S_IFDIR | 0777);
	expect_is(fs_claim_stat(f, "root").st_uid, 0);
	fs_claim_end(f);
}

static void sgid_directories_hand_down_their_group(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "sgid", NULL);
	struct fc_opened o;

	expect_ok(chown(f->path, 0, 4242));
	expect_ok(chmod(f->path, 02777));
	become(f, 1234, 5678);
	expect_ok(fc_mkdir(&f->c, f->dir, "dir", 0755, NULL));
	expect_ok(fc_create(&f->c, f->dir, "file", O_RDWR | O_CREAT, S_IFREG | 0644, &o));
	expect_is(fs_claim_stat(f, "dir").st_gid, 4242);
	expect_is(fs_claim_stat(f, "file").st_gid, 4242);
	mode_is(f, "dir", S_IFDIR | 02755);
	fs_claim_end(f);
}

/* One group of the sender, as FUSE_CREATE_SUPP_GROUP brings it. */
struct groups {
	uint32_t size, type, nr, gid;
};

static int create_in_group(struct fs_claim *f, const char *name, uint32_t mode,
			   const struct groups *g)
{
	struct fuse_create_in in = { .flags = O_RDWR | O_CREAT, .mode = mode };
	struct fc_op op = {
		.opcode = FUSE_CREATE,
		.nodeid = f->dir,
		.part = { { &in, sizeof(in) }, { name, strlen(name) + 1 }, { g, sizeof(*g) } },
		.n_parts = 3,
		.extension_len = sizeof(*g) / 8,
		.room = sizeof(struct fc_opened)
	};

	return fc_run(&f->c, &op);
}

/* Linux guests before 6.0 leave that to the device: a program with SGID of a group that its maker is not in. */
static void sgid_programs_cannot_be_made_for_a_foreign_group(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "sgid-programs", NULL);
	struct groups g = { .size = 16, .type = 32, .nr = 1, .gid = 4242 };
	struct fc_opened o;

	expect_ok(chown(f->path, 0, 4242));
	expect_ok(chmod(f->path, 02777));
	f->c.umask = 0;
	become(f, 1234, 5678);
	expect_ok(fc_create(&f->c, f->dir, "foreign", O_RDWR | O_CREAT, S_IFREG | 02755, &o));
	mode_is(f, "foreign", S_IFREG | 0755);
	expect_ok(fc_mknod(&f->c, f->dir, "node", S_IFREG | 02755, 0, NULL));
	mode_is(f, "node", S_IFREG | 0755);
	become(f, 1234, 4242);
	expect_ok(fc_create(&f->c, f->dir, "own", O_RDWR | O_CREAT, S_IFREG | 02755, &o));
	mode_is(f, "own", S_IFREG | 02755);
	become(f, 1234, 5678);
	expect_ok(create_in_group(f, "member", S_IFREG | 02755, &g));
	mode_is(f, "member", S_IFREG | 02755);
	fs_claim_end(f);
}

static void a_group_that_came_along_is_not_the_files(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "groups", NULL);
	struct groups g = { .size = 16, .type = 32, .nr = 1, .gid = 4242 };

	expect_ok(chown(f->path, 0, 4242));
	become(f, 1234, 5678);
	expect_ok(create_in_group(f, "file", S_IFREG | 0644, &g));
	expect_is(fs_claim_stat(f, "file").st_gid, 5678);
	fs_claim_end(f);
}

static void extensions_that_are_none_are_refused(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "extensions", NULL);
	struct groups g = { .size = 16, .type = 32, .nr = 1, .gid = 4242 };

	g.size = 24;
	expect_is(create_in_group(f, "long", S_IFREG | 0644, &g), -EINVAL);
	g.size = 4;
	expect_is(create_in_group(f, "short", S_IFREG | 0644, &g), -EINVAL);
	g.size = 16;
	g.nr = 2;
	expect_is(create_in_group(f, "many", S_IFREG | 0644, &g), -EINVAL);
	g.nr = 0x40000001; /* times four is 4 in 32 bits */
	expect_is(create_in_group(f, "wrap", S_IFREG | 0644, &g), -EINVAL);
	g.nr = 1;
	g.type = 77;
	expect_is(create_in_group(f, "type", S_IFREG | 0644, &g), -EINVAL);
	g.type = 1; /* a security context that is not there */
	expect_is(create_in_group(f, "context", S_IFREG | 0644, &g), -EINVAL);
	expect_is(rmdir(f->path), 0);
	fs_claim_end(f);
}

static void kinds_of_nodes(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "kinds", NULL);
	uint32_t rdev = 1 << 8 | 3;

	expect_ok(fc_mknod(&f->c, f->dir, "file", S_IFREG | 0644, 0, NULL));
	mode_is(f, "file", S_IFREG | 0644);
	expect_ok(fc_mknod(&f->c, f->dir, "fifo", S_IFIFO | 0644, 0, NULL));
	mode_is(f, "fifo", S_IFIFO | 0644);
	expect_ok(fc_mknod(&f->c, f->dir, "socket", S_IFSOCK | 0644, 0, NULL));
	mode_is(f, "socket", S_IFSOCK | 0644);
	expect_is(fc_mknod(&f->c, f->dir, "chr", S_IFCHR | 0644, rdev, NULL), -EPERM);
	expect_is(fc_mknod(&f->c, f->dir, "blk", S_IFBLK | 0644, rdev, NULL), -EPERM);
	expect_is(fc_mknod(&f->c, f->dir, "dir", S_IFDIR | 0755, 0, NULL), -EINVAL);
	expect_is(fc_mknod(&f->c, f->dir, "none", 0644, 0, NULL), -EINVAL);
	expect_ok(fc_mknod(&f->c, f->dir, "whiteout", S_IFCHR, 0, NULL));
	mode_is(f, "whiteout", S_IFCHR);
	expect_is(fs_claim_stat(f, "whiteout").st_rdev, 0);
	fs_claim_end(f);
}

static void device_nodes_where_they_are_allowed(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "devices", NULL);
	struct fuse_entry_out e;
	/* As the kernel's new_encode_dev() has it: low minor, major, high minor. */
	uint32_t rdev = 0x34 | 0x123 << 8 | 0x5u << 20;

	expect_ok(fc_mknod(&f->c, f->dir, "chr", S_IFCHR | 0600, rdev, &e));
	expect_is(fs_claim_stat(f, "chr").st_rdev, makedev(0x123, 0x534));
	expect_is(e.attr.rdev, rdev);
	expect_ok(fc_mknod(&f->c, f->dir, "blk", S_IFBLK | 0600, rdev, NULL));
	expect_is(fs_claim_stat(f, "blk").st_rdev, makedev(0x123, 0x534));
	fs_claim_end(f);
}

static void symlinks_hold_any_text(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "symlinks", NULL);
	char target[4096], got[4096];
	struct fuse_entry_out e;

	memset(target, 'x', sizeof(target));
	target[4095] = '\0';
	expect_ok(fc_symlink(&f->c, f->dir, "long", target, &e));
	expect_is(e.attr.size, 4095);
	expect_is(fc_readlink(&f->c, e.nodeid, got, sizeof(got)), 4095);
	expect(memcmp(got, target, 4095) == 0, "another text");
	expect_ok(fc_symlink(&f->c, f->dir, "out", "../../../etc/passwd", &e));
	expect_is(fc_lookup(&f->c, e.nodeid, "x", NULL), -ENOTDIR);
	expect_is(fc_symlink(&f->c, f->dir, "empty", "", NULL), -ENOENT);
	expect_is(fc_symlink(&f->c, f->dir, "out", "again", NULL), -EEXIST);
	fs_claim_end(f);
}

static void links_are_of_the_inode(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "links", NULL);
	struct fuse_entry_out e, l;

	expect_ok(fc_symlink(&f->c, f->dir, "symlink", "target", &e));
	expect_ok(fc_link(&f->c, e.nodeid, f->dir, "same", &l));
	expect_is(l.nodeid, e.nodeid);
	expect_is(l.attr.nlink, 2);
	mode_is(f, "same", S_IFLNK | 0777);
	expect_ok(fc_mkdir(&f->c, f->dir, "dir", 0755, &e));
	expect_is(fc_link(&f->c, e.nodeid, f->dir, "dir2", NULL), -EPERM);
	expect_ok(fc_mknod(&f->c, f->dir, "gone", S_IFREG | 0644, 0, &e));
	expect_ok(fc_unlink(&f->c, f->dir, "gone"));
	expect_is(fc_link(&f->c, e.nodeid, f->dir, "back", NULL), -ENOENT);
	expect_is(fc_link(&f->c, 0xdeadbeef, f->dir, "none", NULL), -ESTALE);
	fs_claim_end(f);
}

static void create_makes_and_opens(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "create", NULL);
	struct fc_opened o;

	/* Whoever makes a file may write to it, whatever its mode. */
	expect_ok(fc_create(&f->c, f->dir, "file", O_RDWR | O_CREAT | O_EXCL, S_IFREG, &o));
	expect_is(fc_write(&f->c, o.entry.nodeid, o.open.fh, 0, "hello", 5), 5);
	expect_ok(fc_release(&f->c, o.entry.nodeid, o.open.fh));
	mode_is(f, "file", S_IFREG);
	expect(fs_claim_holds(f, "file", "hello"), "nothing was written");
	expect_is(fc_create(&f->c, f->dir, "file", O_RDWR | O_CREAT | O_EXCL, S_IFREG, NULL),
		  -EEXIST);
	fs_claim_end(f);
}

/*
 * The guest's kernel knew no such name, so it asks nobody whether this sender may open the file. Upon ESTALE it looks the name up, and
 * opens what is there with OPEN.
 */
static void create_opens_nothing_that_it_has_not_made(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "create-there", NULL);

	fs_claim_write(f, "file", "hello");
	expect_ok(chmod(fs_claim_path(f, "file"), 0600));
	become(f, 1234, 5678);
	expect_is(fc_create(&f->c, f->dir, "file", O_RDWR | O_CREAT, S_IFREG | 0666, NULL),
		  -ESTALE);
	expect_is(
		fc_create(&f->c, f->dir, "file", O_RDWR | O_CREAT | O_TRUNC, S_IFREG | 0666, NULL),
		-ESTALE);
	expect(fs_claim_holds(f, "file", "hello"), "it was truncated");
	fs_claim_end(f);
}

/* Linux looks the name up again upon ESTALE, and finds what it is. */
static void create_opens_nothing_but_files(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "create-kinds", NULL);

	fs_claim_write(f, "target", "kept");
	expect_ok(symlink(fs_claim_path(f, "target"), fs_claim_path(f, "absolute")));
	expect_ok(symlink("target", fs_claim_path(f, "symlink")));
	expect_ok(symlink("absent", fs_claim_path(f, "dangling")));
	expect_ok(mkfifo(fs_claim_path(f, "fifo"), 0644));
	expect_ok(mkdir(fs_claim_path(f, "dir"), 0755));
	expect_ok(mknod(fs_claim_path(f, "null"), S_IFCHR | 0666, makedev(1, 3)));
	static const char *const names[] = { "absolute", "symlink", "dangling",
					     "fifo",	 "dir",	    "null" };

	for (unsigned i = 0; i < 6; i++)
		expect(fc_create(&f->c, f->dir, names[i], O_RDWR | O_CREAT | O_TRUNC,
				 S_IFREG | 0644, NULL) == -ESTALE,
		       "%s", names[i]);
	expect(fs_claim_holds(f, "target", "kept"), "it was truncated");
	expect(!fs_claim_exists(f, "absent"), "it was made");
	fs_claim_end(f);
}

static void what_is_written_only_can_be_read_for_the_guests_cache(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "write-only", NULL);
	struct fc_opened o;
	char got[8];

	expect_ok(
		fc_create(&f->c, f->dir, "file", O_WRONLY | O_CREAT | O_EXCL, S_IFREG | 0200, &o));
	expect_is(fc_write(&f->c, o.entry.nodeid, o.open.fh, 0, "hello", 5), 5);
	expect_is(fc_read(&f->c, o.entry.nodeid, o.open.fh, 0, got, sizeof(got)), 5);
	fs_claim_end(f);
}

static void tmpfiles_get_a_name_by_link(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "tmpfile", NULL);
	struct fc_opened o, excl;

	become(f, 1234, 5678);
	expect_ok(fc_tmpfile(&f->c, f->dir, O_RDWR, S_IFREG | 0666, &o));
	expect(o.entry.attr.nlink == 0 && o.entry.attr.uid == 1234, "%u", o.entry.attr.nlink);
	expect_is(fc_write(&f->c, o.entry.nodeid, o.open.fh, 0, "hello", 5), 5);
	expect_ok(fc_link(&f->c, o.entry.nodeid, f->dir, "file", NULL));
	mode_is(f, "file", S_IFREG | 0644);
	expect(fs_claim_holds(f, "file", "hello"), "it is another");
	expect_ok(fc_tmpfile(&f->c, f->dir, O_RDWR | O_EXCL, S_IFREG | 0666, &excl));
	expect_is(fc_link(&f->c, excl.entry.nodeid, f->dir, "never", NULL), -ENOENT);
	fs_claim_end(f);
}

static void removal_is_by_kind(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "remove", NULL);
	struct fuse_entry_out e;

	expect_ok(fc_mkdir(&f->c, f->dir, "dir", 0755, &e));
	expect_ok(fc_mknod(&f->c, e.nodeid, "file", S_IFREG | 0644, 0, NULL));
	expect_is(fc_unlink(&f->c, f->dir, "dir"), -EISDIR);
	expect_is(fc_rmdir(&f->c, f->dir, "dir"), -ENOTEMPTY);
	expect_is(fc_rmdir(&f->c, e.nodeid, "file"), -ENOTDIR);
	expect_is(fc_unlink(&f->c, e.nodeid, "absent"), -ENOENT);
	expect_ok(fc_unlink(&f->c, e.nodeid, "file"));
	expect_ok(fc_rmdir(&f->c, f->dir, "dir"));
	expect(!fs_claim_exists(f, "dir"), "it is still there");
	expect_is(fc_mknod(&f->c, e.nodeid, "late", S_IFREG | 0644, 0, NULL), -ENOENT);
	fs_claim_end(f);
}

static void a_removed_name_can_be_made_again_at_once(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "again", NULL);
	struct fuse_entry_out e, first = { 0 };

	for (unsigned i = 0; i < 200; i++) {
		expect_ok(fc_mknod(&f->c, f->dir, "name", S_IFREG | 0644, 0, &e));
		expect(e.nodeid != first.nodeid, "the same node id, though the first is known");
		if (i == 0)
			first = e;
		else
			fc_forget(&f->c, e.nodeid, 1);
		expect_ok(fc_unlink(&f->c, f->dir, "name"));
	}
	expect_ok(fc_getattr(&f->c, first.nodeid, &e.attr));
	expect_is(e.attr.nlink, 0);
	fs_claim_end(f);
}

static void renames_replace_exchange_and_whiteout(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "rename", NULL);
	struct fuse_entry_out dir;

	fs_claim_write(f, "a", "a");
	fs_claim_write(f, "b", "b");
	expect_ok(fc_mkdir(&f->c, f->dir, "dir", 0755, &dir));
	expect_is(fc_rename(&f->c, f->dir, "a", f->dir, "b", RENAME_NOREPLACE), -EEXIST);
	expect_ok(fc_rename(&f->c, f->dir, "a", f->dir, "b", RENAME_EXCHANGE));
	expect(fs_claim_holds(f, "a", "b") && fs_claim_holds(f, "b", "a"), "not exchanged");
	expect_is(fc_rename(&f->c, f->dir, "a", f->dir, "absent", RENAME_EXCHANGE), -ENOENT);
	expect_ok(fc_rename(&f->c, f->dir, "a", dir.nodeid, "a", 0));
	expect(fs_claim_holds(f, "dir/a", "b") && !fs_claim_exists(f, "a"), "not moved");
	expect_ok(fc_rename(&f->c, dir.nodeid, "a", f->dir, "b", 0));
	expect(fs_claim_holds(f, "b", "b") && !fs_claim_exists(f, "dir/a"), "not replaced");
	expect_ok(fc_rename(&f->c, f->dir, "b", f->dir, "c", RENAME_WHITEOUT));
	expect(S_ISCHR(fs_claim_stat(f, "b").st_mode), "no whiteout");
	expect_is(fc_rename(&f->c, f->dir, "c", f->dir, "d", 1 << 10), -EINVAL);
	expect_is(fc_rename(&f->c, f->dir, "c", f->dir, "d", RENAME_NOREPLACE | RENAME_EXCHANGE),
		  -EINVAL);
	expect_is(fc_rename(&f->c, f->dir, "dir", dir.nodeid, "inside", 0), -EINVAL);
	expect_is(fc_rename(&f->c, f->dir, "c", f->dir, "dir", 0), -EISDIR);
	expect_is(fc_rename(&f->c, f->dir, "dir", f->dir, "c", 0), -ENOTDIR);
	fs_claim_end(f);
}

static void an_open_file_outlives_a_rename_over_it(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "rename-over", NULL);
	struct fc_opened o;
	char got[8];

	expect_ok(fc_create(&f->c, f->dir, "old", O_RDWR | O_CREAT, S_IFREG | 0644, &o));
	expect_is(fc_write(&f->c, o.entry.nodeid, o.open.fh, 0, "old", 3), 3);
	fs_claim_write(f, "new", "new");
	expect_ok(fc_rename(&f->c, f->dir, "new", f->dir, "old", 0));
	expect_is(fc_read(&f->c, o.entry.nodeid, o.open.fh, 0, got, sizeof(got)), 3);
	expect(memcmp(got, "old", 3) == 0, "it reads as the new one");
	expect(fs_claim_holds(f, "old", "new"), "the name is not the new one's");
	fs_claim_end(f);
}

static void attempt_name(struct fs_claim *f, const char *name, int wanted)
{
	struct fuse_entry_out e;

	expect_is(fc_mkdir(&f->c, f->dir, name, 0755, NULL), wanted);
	expect_is(fc_mknod(&f->c, f->dir, name, S_IFREG | 0644, 0, NULL), wanted);
	expect_is(fc_symlink(&f->c, f->dir, name, "target", NULL), wanted);
	expect_is(fc_create(&f->c, f->dir, name, O_RDWR | O_CREAT, S_IFREG | 0644, NULL), wanted);
	expect_is(fc_unlink(&f->c, f->dir, name), wanted);
	expect_is(fc_rmdir(&f->c, f->dir, name), wanted);
	expect_is(fc_rename(&f->c, f->dir, "file", f->dir, name, 0), wanted);
	expect_is(fc_rename(&f->c, f->dir, name, f->dir, "file", RENAME_NOREPLACE), wanted);
	expect_ok(fc_lookup(&f->c, f->dir, "file", &e));
	expect_is(fc_link(&f->c, e.nodeid, f->dir, name, NULL), wanted);
}

/* A name is one component, whatever the guest says. */
static void names_lead_nowhere_else(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "one-component", NULL);
	char name[300], outside[600];

	fs_claim_write(f, "file", "kept");
	snprintf(outside, sizeof(outside), "%s/canary", x->backend.dir);
	attempt_name(f, "", -EINVAL);
	attempt_name(f, ".", -EINVAL);
	attempt_name(f, "..", -EINVAL);
	attempt_name(f, "/", -EINVAL);
	attempt_name(f, "../../canary", -EINVAL);
	attempt_name(f, outside, -EINVAL);
	attempt_name(f, "file/", -EINVAL);
	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	attempt_name(f, name, -ENAMETOOLONG);
	expect(access(outside, F_OK) < 0, "the canary is out");
	expect(fs_claim_holds(f, "file", "kept"), "the file is gone");
	fs_claim_end(f);
}

static void texts_without_an_end_are_refused(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "no-end", NULL);
	struct fuse_mkdir_in in = { .mode = 0755 };
	struct fc_op op = { .opcode = FUSE_MKDIR,
			    .nodeid = f->dir,
			    .part = { { &in, sizeof(in) }, { "name", 4 } },
			    .n_parts = 2,
			    .room = sizeof(struct fuse_entry_out) };

	expect_is(fc_run(&f->c, &op), -EINVAL);
	op.n_parts = 1;
	expect_is(fc_run(&f->c, &op), -EINVAL);
	op.part[0].len = 4;
	expect_is(fc_run(&f->c, &op), -EINVAL);
	op = (struct fc_op){ .opcode = FUSE_SYMLINK,
			     .nodeid = f->dir,
			     .part = { { "name", 5 }, { "target", 6 } },
			     .n_parts = 2,
			     .room = sizeof(struct fuse_entry_out) };
	expect_is(fc_run(&f->c, &op), -EINVAL);
	op.n_parts = 1;
	expect_is(fc_run(&f->c, &op), -EINVAL);
	expect_is(rmdir(f->path), 0);
	fs_claim_end(f);
}

static void nothing_changes_on_a_read_only_device(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "read-only", NULL);
	struct fuse_entry_out e;

	fs_claim_write(f, "file", "kept");
	expect_ok(fc_lookup(&f->c, f->dir, "file", &e));
	expect_is(fc_mkdir(&f->c, f->dir, "new", 0755, NULL), -EROFS);
	expect_is(fc_mknod(&f->c, f->dir, "new", S_IFREG | 0644, 0, NULL), -EROFS);
	expect_is(fc_symlink(&f->c, f->dir, "new", "target", NULL), -EROFS);
	expect_is(fc_link(&f->c, e.nodeid, f->dir, "new", NULL), -EROFS);
	expect_is(fc_create(&f->c, f->dir, "new", O_RDWR | O_CREAT, S_IFREG | 0644, NULL), -EROFS);
	expect_is(fc_tmpfile(&f->c, f->dir, O_RDWR, S_IFREG | 0644, NULL), -EROFS);
	expect_is(fc_unlink(&f->c, f->dir, "file"), -EROFS);
	expect_is(fc_rmdir(&f->c, f->dir, "file"), -EROFS);
	expect_is(fc_rename(&f->c, f->dir, "file", f->dir, "new", 0), -EROFS);
	expect_is(fc_setxattr(&f->c, e.nodeid, "user.a", "b", 1, 0), -EROFS);
	expect_is(fc_removexattr(&f->c, e.nodeid, "user.a"), -EROFS);
	expect(fs_claim_holds(f, "file", "kept") && !fs_claim_exists(f, "new"), "it was changed");
	fs_claim_end(f);
}

/* u::rwx, u:1234:rwx, g::r-x, m::rwx, o::---, as the kernel takes it. */
static const uint8_t default_acl[] = { 2,    0,	   0,	 0, 1,	  0,	7,    0,    0xff,
				       0xff, 0xff, 0xff, 2, 0,	  7,	0,    0xd2, 4,
				       0,    0,	   4,	 0, 5,	  0,	0xff, 0xff, 0xff,
				       0xff, 16,   0,	 7, 0,	  0xff, 0xff, 0xff, 0xff,
				       32,   0,	   0,	 0, 0xff, 0xff, 0xff, 0xff };

static void a_default_acl_takes_the_umasks_place(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "acl", NULL);
	struct fc_opened o;

	f->c.umask = 077;
	expect(f->c.flags & FUSE_DONT_MASK, "the umask is not sent");
	expect_ok(fc_mkdir(&f->c, f->dir, "without", 0777, NULL));
	mode_is(f, "without", S_IFDIR | 0700);
	expect_ok(fc_setxattr(&f->c, f->dir, "system.posix_acl_default", default_acl,
			      sizeof(default_acl), 0));
	expect_ok(fc_mkdir(&f->c, f->dir, "dir", 0777, NULL));
	mode_is(f, "dir", S_IFDIR | 0770);
	expect_ok(fc_create(&f->c, f->dir, "file", O_RDWR | O_CREAT, S_IFREG | 0666, &o));
	mode_is(f, "file", S_IFREG | 0660);
	fs_claim_end(f);
}

/* A security context as FUSE_SECURITY_CTX brings it. */
struct context {
	uint32_t size, nr;
	struct fuse_secctx head;
	char name[16], value[8];
};

static int make_labelled(struct fs_claim *f, uint32_t opcode, const char *name,
			 const struct context *c)
{
	struct fuse_mkdir_in mkdir_in = { .mode = 0755 };
	struct fuse_mknod_in mknod_in = { .mode = S_IFIFO | 0644 };
	struct fuse_create_in create_in = { .flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0644 };
	struct fc_op op = { .opcode = opcode, .nodeid = f->dir, .extension_len = sizeof(*c) / 8 };
	unsigned n = 0;

	if (opcode == FUSE_MKDIR) {
		op.part[n].p = &mkdir_in;
		op.part[n++].len = sizeof(mkdir_in);
	} else if (opcode == FUSE_MKNOD) {
		op.part[n].p = &mknod_in;
		op.part[n++].len = sizeof(mknod_in);
	} else if (opcode == FUSE_CREATE) {
		op.part[n].p = &create_in;
		op.part[n++].len = sizeof(create_in);
	}
	op.part[n].p = name;
	op.part[n++].len = strlen(name) + 1;
	if (opcode == FUSE_SYMLINK) {
		op.part[n].p = "target";
		op.part[n++].len = 7;
	}
	op.part[n].p = c;
	op.part[n++].len = sizeof(*c);
	op.n_parts = n;
	op.room = opcode == FUSE_CREATE ? sizeof(struct fc_opened) : sizeof(struct fuse_entry_out);
	return fc_run(&f->c, &op);
}

static struct context context_of(const char *name)
{
	struct context c = { .size = sizeof(c), .nr = 1, .head.size = 6, .value = "label!" };
	size_t len = strlen(name) + 1;

	/* Name and value follow each other without a gap. */
	memcpy(c.name, name, len);
	memcpy((char *)&c.name + len, "label!", 6);
	return c;
}

static void what_is_made_gets_its_label(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "label", NULL);
	struct context c = context_of("security.test");
	char got[16];

	expect(f->c.flags & FUSE_SECURITY_CTX, "labels are not sent");
	expect_ok(make_labelled(f, FUSE_MKDIR, "dir", &c));
	expect_ok(make_labelled(f, FUSE_CREATE, "file", &c));
	expect_is(lgetxattr(fs_claim_path(f, "dir"), "user.guest.security.test", got, sizeof(got)),
		  6);
	expect(memcmp(got, "label!", 6) == 0, "another label");
	expect_is(lgetxattr(fs_claim_path(f, "file"), "user.guest.security.test", got, sizeof(got)),
		  6);
	fs_claim_end(f);
}

/*
 * A label that is kept as one of user.* has no place at a symlink, a FIFO or a socket: the host's kernel gives these none. They are made
 * all the same, or a guest with SELinux could make none.
 */
static void what_can_have_no_label_is_made_without(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "label-less", NULL);
	struct context c = context_of("security.test");

	expect_ok(make_labelled(f, FUSE_SYMLINK, "symlink", &c));
	expect_is(fs_claim_stat(f, "symlink").st_mode & S_IFMT, S_IFLNK);
	expect_ok(make_labelled(f, FUSE_MKNOD, "fifo", &c));
	expect_is(fs_claim_stat(f, "fifo").st_mode & S_IFMT, S_IFIFO);
	fs_claim_end(f);
}

static void what_cannot_be_labelled_does_not_stay(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "no-label", NULL);
	struct context c = context_of("system.test");

	expect_is(make_labelled(f, FUSE_MKDIR, "dir", &c), -EOPNOTSUPP);
	expect_is(make_labelled(f, FUSE_CREATE, "file", &c), -EOPNOTSUPP);
	expect_is(make_labelled(f, FUSE_SYMLINK, "symlink", &c), -EOPNOTSUPP);
	expect_is(rmdir(f->path), 0);
	fs_claim_end(f);
}

#define CLAIM(name, spec)                                                                          \
	{                                                                                          \
#name, name, &spec                                                                 \
	}

static const struct claim claims[] = {
	CLAIM(what_is_made_is_the_senders, plain),
	CLAIM(sgid_directories_hand_down_their_group, plain),
	CLAIM(sgid_programs_cannot_be_made_for_a_foreign_group, plain),
	CLAIM(a_group_that_came_along_is_not_the_files, plain),
	CLAIM(extensions_that_are_none_are_refused, plain),
	CLAIM(kinds_of_nodes, plain),
	CLAIM(symlinks_hold_any_text, plain),
	CLAIM(links_are_of_the_inode, plain),
	CLAIM(create_makes_and_opens, plain),
	CLAIM(create_opens_nothing_that_it_has_not_made, plain),
	CLAIM(create_opens_nothing_but_files, plain),
	CLAIM(tmpfiles_get_a_name_by_link, plain),
	CLAIM(removal_is_by_kind, plain),
	CLAIM(a_removed_name_can_be_made_again_at_once, plain),
	CLAIM(renames_replace_exchange_and_whiteout, plain),
	CLAIM(an_open_file_outlives_a_rename_over_it, plain),
	CLAIM(names_lead_nowhere_else, plain),
	CLAIM(texts_without_an_end_are_refused, plain),
	CLAIM(nothing_changes_on_a_read_only_device, read_only),
	CLAIM(device_nodes_where_they_are_allowed, devices),
	CLAIM(a_default_acl_takes_the_umasks_place, acl),
	CLAIM(what_is_made_gets_its_label, mapped),
	CLAIM(what_can_have_no_label_is_made_without, mapped),
	CLAIM(what_cannot_be_labelled_does_not_stay, mapped),
	CLAIM(what_is_written_only_can_be_read_for_the_guests_cache, writeback),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
