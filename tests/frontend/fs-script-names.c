/*
 * Making, removing and renaming, each exactly once.
 *
 * Runs in: test programs. Trusts: nothing that the back-end says.
 *
 * In batches, so that a death leaves requests behind that are done and not answered, one in hand, and some not begun.
 */
#include "tests/frontend/fs-script.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

struct name {
	char text[32];
};

static struct name name_of(const char *kind, unsigned i)
{
	struct name n;

	snprintf(n.text, sizeof(n.text), "%s-%u", kind, i);
	return n;
}

/* Fixed arguments, then names: queued in call i. */
static void add(struct fs_script *s, unsigned i, struct fc_op op, const char *first,
		const char *second)
{
	const char *names[] = { first, second };

	for (unsigned k = 0; k < 2; k++)
		if (names[k]) {
			op.part[op.n_parts].p = names[k];
			op.part[op.n_parts++].len = strlen(names[k]) + 1;
		}
	fc_add(&s->c, s->c.queue, &s->calls[i], &op);
}

static struct fc_op op_of(uint32_t opcode, uint64_t nodeid, const void *in, size_t len,
			  uint32_t room)
{
	struct fc_op op = { .opcode = opcode, .nodeid = nodeid, .room = room };

	if (len > 0) {
		op.part[0].p = in;
		op.part[0].len = len;
		op.n_parts = 1;
	}
	return op;
}

/* The answers' node ids, and that each is what the host has under its name. */
static void take_entries(struct fs_script *s, const char *kind, uint32_t type, uint64_t *ret)
{
	struct stat st;

	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++) {
		const struct fuse_entry_out *e = (const void *)s->calls[i].reply;

		MUST(fs_script_stat(s, name_of(kind, i).text, &st));
		CLAIM((st.st_mode & S_IFMT) == type);
		CLAIM(e->attr.ino == st.st_ino && e->attr.mode == st.st_mode);
		ret[i] = e->nodeid;
	}
}

static void forget(struct fs_script *s, const uint64_t *nodes, uint64_t n)
{
	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++)
		fs_script_forget(s, nodes[i], n);
}

static void remove_all(struct fs_script *s, uint32_t opcode, const char *kind)
{
	struct stat st;

	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++)
		add(s, i, op_of(opcode, s->dir, NULL, 0, 0), name_of(kind, i).text, NULL);
	fs_script_run(s, opcode == FUSE_RMDIR ? "rmdir" : "unlink");
	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++)
		CLAIM(fs_script_stat(s, name_of(kind, i).text, &st) == -ENOENT);
}

static void directories(struct fs_script *s)
{
	struct fuse_mkdir_in in = { .mode = 0755 };
	uint64_t nodes[FS_SCRIPT_BATCH];

	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++)
		add(s, i, op_of(FUSE_MKDIR, s->dir, &in, sizeof(in), sizeof(struct fuse_entry_out)),
		    name_of("dir", i).text, NULL);
	fs_script_run(s, "mkdir");
	take_entries(s, "dir", S_IFDIR, nodes);
	CLAIM(fc_mkdir(&s->c, s->dir, "dir-0", 0755, NULL) == -EEXIST);
	remove_all(s, FUSE_RMDIR, "dir");
	forget(s, nodes, 1);
}

static void nodes_and_symlinks(struct fs_script *s)
{
	struct fuse_mknod_in in = { .mode = S_IFIFO | 0644 };
	uint64_t nodes[FS_SCRIPT_BATCH];

	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++)
		add(s, i, op_of(FUSE_MKNOD, s->dir, &in, sizeof(in), sizeof(struct fuse_entry_out)),
		    name_of("fifo", i).text, NULL);
	fs_script_run(s, "mknod");
	take_entries(s, "fifo", S_IFIFO, nodes);
	remove_all(s, FUSE_UNLINK, "fifo");
	forget(s, nodes, 1);
	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++)
		add(s, i, op_of(FUSE_SYMLINK, s->dir, NULL, 0, sizeof(struct fuse_entry_out)),
		    name_of("symlink", i).text, "where it leads");
	fs_script_run(s, "symlink");
	take_entries(s, "symlink", S_IFLNK, nodes);
	remove_all(s, FUSE_UNLINK, "symlink");
	forget(s, nodes, 1);
}

struct opened {
	uint64_t nodes[FS_SCRIPT_BATCH], handles[FS_SCRIPT_BATCH];
};

/* The handles that CREATE and TMPFILE gave lead to files of their own. */
static void take_handles(struct fs_script *s, struct opened *o)
{
	unsigned i;
	char c;

	for (i = 0; i < FS_SCRIPT_BATCH; i++) {
		const struct fc_opened *out = (const void *)s->calls[i].reply;

		o->handles[i] = out->open.fh;
		o->nodes[i] = out->entry.nodeid;
	}
	for (i = 0; i < FS_SCRIPT_BATCH; i++) {
		c = (char)('a' + i);
		MUST(fc_write(&s->c, o->nodes[i], o->handles[i], 0, &c, 1) - 1);
	}
	for (i = 0; i < FS_SCRIPT_BATCH; i++) {
		CLAIM(fc_read(&s->c, o->nodes[i], o->handles[i], 0, &c, 1) == 1);
		CLAIM(c == (char)('a' + i));
	}
}

static void close_all(struct fs_script *s, const struct opened *o)
{
	char c;

	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++) {
		MUST(fc_release(&s->c, o->nodes[i], o->handles[i]));
		CLAIM(fc_read(&s->c, o->nodes[i], o->handles[i], 0, &c, 1) == -EBADF);
	}
}

static void create_all(struct fs_script *s, const char *kind, uint32_t flags, struct opened *ret)
{
	struct fuse_create_in in = { .flags = O_RDWR | O_CREAT | flags, .mode = S_IFREG | 0600 };

	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++)
		add(s, i, op_of(FUSE_CREATE, s->dir, &in, sizeof(in), sizeof(struct fc_opened)),
		    name_of(kind, i).text, NULL);
	fs_script_run(s, flags & O_EXCL ? "create exclusively" : "create");
	take_entries(s, kind, S_IFREG, ret->nodes);
	take_handles(s, ret);
}

static void files(struct fs_script *s)
{
	struct opened o;

	create_all(s, "file", O_EXCL, &o);
	CLAIM(fc_create(&s->c, s->dir, "file-0", O_RDWR | O_CREAT | O_EXCL, S_IFREG | 0600, NULL) ==
	      -EEXIST);
	CLAIM(fc_create(&s->c, s->dir, "file-0", O_RDWR | O_CREAT | O_TRUNC, S_IFREG | 0600,
			NULL) == -ESTALE);
	close_all(s, &o);
	remove_all(s, FUSE_UNLINK, "file");
	forget(s, o.nodes, 1);
	create_all(s, "plain", 0, &o);
	remove_all(s, FUSE_UNLINK, "plain");
	close_all(s, &o);
	forget(s, o.nodes, 1);
}

static void tmpfiles_and_links(struct fs_script *s)
{
	struct fuse_create_in in = { .flags = O_RDWR, .mode = S_IFREG | 0600 };
	uint64_t linked[FS_SCRIPT_BATCH];
	struct opened o;
	struct stat st;
	unsigned i;

	for (i = 0; i < FS_SCRIPT_BATCH; i++)
		add(s, i, op_of(FUSE_TMPFILE, s->dir, &in, sizeof(in), sizeof(struct fc_opened)),
		    "/", NULL);
	fs_script_run(s, "tmpfile");
	take_handles(s, &o);
	for (i = 0; i < FS_SCRIPT_BATCH; i++)
		add(s, i,
		    op_of(FUSE_LINK, s->dir, &(struct fuse_link_in){ .oldnodeid = o.nodes[i] },
			  sizeof(struct fuse_link_in), sizeof(struct fuse_entry_out)),
		    name_of("link", i).text, NULL);
	fs_script_run(s, "link");
	take_entries(s, "link", S_IFREG, linked);
	for (i = 0; i < FS_SCRIPT_BATCH; i++) {
		CLAIM(linked[i] == o.nodes[i]);
		MUST(fs_script_stat(s, name_of("link", i).text, &st));
		CLAIM(st.st_nlink == 1 && st.st_size == 1);
	}
	CLAIM(fc_link(&s->c, o.nodes[0], s->dir, "link-0", NULL) == -EEXIST);
	close_all(s, &o);
	remove_all(s, FUSE_UNLINK, "link");
	forget(s, o.nodes, 2);
}

static void rename_all(struct fs_script *s, const char *from, const char *to, uint32_t flags)
{
	struct fuse_rename2_in in = { .newdir = s->dir, .flags = flags };

	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++)
		add(s, i,
		    op_of(flags ? FUSE_RENAME2 : FUSE_RENAME, s->dir, &in,
			  flags ? sizeof(in) : sizeof(struct fuse_rename_in), 0),
		    name_of(from, i).text, name_of(to, i).text);
	fs_script_run(s, flags ? "rename with flags" : "rename");
}

/* Is what create_all() made at these names, by their numbers? 0: nothing is. */
static void inodes_are(struct fs_script *s, const char *kind, const ino_t *wanted)
{
	struct stat st;

	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++) {
		int r = fs_script_stat(s, name_of(kind, i).text, &st);

		CLAIM(wanted && wanted[i] ? r == 0 && st.st_ino == wanted[i] : r == -ENOENT);
	}
}

static void inodes_take(struct fs_script *s, const char *kind, ino_t *ret)
{
	struct stat st;

	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++) {
		MUST(fs_script_stat(s, name_of(kind, i).text, &st));
		ret[i] = st.st_ino;
	}
}

static void renames(struct fs_script *s)
{
	ino_t a_ino[FS_SCRIPT_BATCH], b_ino[FS_SCRIPT_BATCH];
	struct opened a, b;
	struct stat st;

	create_all(s, "a", O_EXCL, &a);
	create_all(s, "b", O_EXCL, &b);
	close_all(s, &a);
	inodes_take(s, "a", a_ino);
	inodes_take(s, "b", b_ino);
	rename_all(s, "a", "b", RENAME_EXCHANGE);
	inodes_are(s, "a", b_ino);
	inodes_are(s, "b", a_ino);
	rename_all(s, "a", "c", RENAME_NOREPLACE);
	inodes_are(s, "a", NULL);
	inodes_are(s, "c", b_ino);
	CLAIM(fc_rename(&s->c, s->dir, "b-0", s->dir, "c-0", RENAME_NOREPLACE) == -EEXIST);
	rename_all(s, "b", "c", 0); /* over files that are open */
	inodes_are(s, "b", NULL);
	inodes_are(s, "c", a_ino);
	rename_all(s, "c", "d", RENAME_WHITEOUT);
	inodes_are(s, "d", a_ino);
	MUST(fs_script_stat(s, "c-0", &st));
	CLAIM(S_ISCHR(st.st_mode) && st.st_rdev == 0);
	close_all(s, &b);
	remove_all(s, FUSE_UNLINK, "c");
	remove_all(s, FUSE_UNLINK, "d");
	forget(s, a.nodes, 1);
	forget(s, b.nodes, 1);
}

static bool attribute_is(const struct fs_script *s, const char *name, const char *value)
{
	char path[600], got[64];
	ssize_t len;

	snprintf(path, sizeof(path), "%s/%s", s->path, name);
	len = lgetxattr(path, "user.word", got, sizeof(got));
	if (!value)
		return len < 0 && errno == ENODATA;
	return len == (ssize_t)strlen(value) && memcmp(got, value, (size_t)len) == 0;
}

static void set_all(struct fs_script *s, const struct opened *o, const char *value, uint32_t flags)
{
	struct fuse_setxattr_in in = { .size = (uint32_t)strlen(value), .flags = flags };
	bool extended = s->c.flags & FUSE_SETXATTR_EXT;

	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++) {
		struct fc_op op = op_of(FUSE_SETXATTR, o->nodes[i], &in,
					extended ? sizeof(in) : FUSE_COMPAT_SETXATTR_IN_SIZE, 0);

		op.part[1].p = "user.word";
		op.part[1].len = sizeof("user.word");
		op.part[2].p = value;
		op.part[2].len = in.size;
		op.n_parts = 3;
		fc_add(&s->c, s->c.queue, &s->calls[i], &op);
	}
	fs_script_run(s, flags & XATTR_CREATE ? "create attribute" : "set attribute");
	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++)
		CLAIM(attribute_is(s, name_of("x", i).text, value));
}

static void attributes(struct fs_script *s)
{
	struct opened o;
	unsigned i;

	create_all(s, "x", O_EXCL, &o);
	set_all(s, &o, "one", XATTR_CREATE);
	CLAIM(fc_setxattr(&s->c, o.nodes[0], "user.word", "two", 3, XATTR_CREATE) == -EEXIST);
	set_all(s, &o, "two", XATTR_REPLACE);
	set_all(s, &o, "three", 0);
	for (i = 0; i < FS_SCRIPT_BATCH; i++)
		add(s, i, op_of(FUSE_REMOVEXATTR, o.nodes[i], NULL, 0, 0), "user.word", NULL);
	fs_script_run(s, "remove attribute");
	for (i = 0; i < FS_SCRIPT_BATCH; i++)
		CLAIM(attribute_is(s, name_of("x", i).text, NULL));
	CLAIM(fc_removexattr(&s->c, o.nodes[0], "user.word") == -ENODATA);
	close_all(s, &o);
	remove_all(s, FUSE_UNLINK, "x");
	forget(s, o.nodes, 1);
}

/* Errors are answers too: a repeat gives the same, and changes nothing. */
static void refusals(struct fs_script *s)
{
	MUST(fc_mkdir(&s->c, s->dir, "full", 0755, NULL));
	CLAIM(fc_mkdir(&s->c, s->dir, "full", 0755, NULL) == -EEXIST);
	CLAIM(fc_unlink(&s->c, s->dir, "full") == -EISDIR);
	CLAIM(fc_unlink(&s->c, s->dir, "absent") == -ENOENT);
	CLAIM(fc_rename(&s->c, s->dir, "absent", s->dir, "full", 0) == -ENOENT);
	CLAIM(fc_symlink(&s->c, s->dir, "full", "target", NULL) == -EEXIST);
	CLAIM(fc_mknod(&s->c, s->dir, "full", S_IFREG | 0600, 0, NULL) == -EEXIST);
}

void fs_script_names(struct fs_script *s)
{
	struct fuse_entry_out e;

	fs_script_begin(s, "names");
	directories(s);
	nodes_and_symlinks(s);
	files(s);
	tmpfiles_and_links(s);
	renames(s);
	attributes(s);
	refusals(s);
	MUST(fc_lookup(&s->c, s->dir, "full", &e));
	MUST(fc_rmdir(&s->c, s->dir, "full"));
	fs_script_forget(s, e.nodeid, 2);
	fs_script_end(s);
}
