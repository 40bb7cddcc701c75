/*
 * Open files and directories: writing, appending, listing, locking, each as if nobody had died.
 *
 * Runs in: test programs. Trusts: nothing that the back-end says.
 *
 * In batches, so that a death leaves requests behind that are done and not answered, one in hand, and some not begun.
 */
#include "tests/frontend/fs-script.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	N = FS_SCRIPT_BATCH,
	PIECE = 96, /* bytes that one request writes */
	LARGE = 256 << 10,
	ROOM = 4096,
};

struct file {
	uint64_t node, fh;
};

/* Of each request in a batch. */
union args {
	struct fuse_write_in write;
	struct fuse_open_in open;
	struct fuse_release_in release;
	struct fuse_flush_in flush;
	struct fuse_lk_in lock;
	struct fuse_read_in read;
	struct fuse_fsync_in sync;
};

static void add(struct fs_script *s, unsigned i, struct fc_op op, const void *in, size_t len)
{
	op.part[0].p = in;
	op.part[0].len = len;
	op.n_parts = op.part[1].p ? 2 : 1;
	fc_add(&s->c, s->c.queue, &s->calls[i], &op);
}

static struct file make(struct fs_script *s, const char *name, uint32_t flags)
{
	struct fc_opened o;

	MUST(fc_create(&s->c, s->dir, name, O_CREAT | flags, S_IFREG | 0600, &o));
	return (struct file){ o.entry.nodeid, o.open.fh };
}

static void unmake(struct fs_script *s, const char *name, const struct file *file)
{
	MUST(fc_unlink(&s->c, s->dir, name));
	MUST(fc_release(&s->c, file->node, file->fh));
	fs_script_forget(s, file->node, 1);
}

/* Whose piece it is, in each byte. */
static void piece_fill(char *piece, unsigned i)
{
	memset(piece, 'a' + (int)i, PIECE);
}

static void pieces_are_in_order(struct fs_script *s, const char *name)
{
	char path[600], got[N * PIECE + 1], wanted[N * PIECE];
	int fd;

	for (unsigned i = 0; i < N; i++)
		piece_fill(wanted + i * PIECE, i);
	snprintf(path, sizeof(path), "%s/%s", s->path, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CLAIM(fd >= 0 && read(fd, got, sizeof(got)) == N * PIECE);
	CLAIM(memcmp(got, wanted, sizeof(wanted)) == 0);
	close(fd);
}

/* Each piece once, at its place or, appended, in the order of the requests. */
static void writes(struct fs_script *s, const char *name, uint32_t flags)
{
	struct file file = make(s, name, O_WRONLY | flags);
	static char pieces[N][PIECE];
	struct fuse_write_out out;

	for (unsigned i = 0; i < N; i++) {
		struct fuse_write_in in = { .fh = file.fh,
					    .offset = flags & O_APPEND ? 0 : i * PIECE,
					    .size = PIECE,
					    .flags = O_WRONLY | flags };
		struct fc_op op = { .opcode = FUSE_WRITE,
				    .nodeid = file.node,
				    .part = { [1] = { pieces[i], PIECE } },
				    .room = sizeof(out) };

		piece_fill(pieces[i], i);
		add(s, i, op, &in, sizeof(in));
	}
	fs_script_run(s, name);
	for (unsigned i = 0; i < N; i++) {
		memcpy(&out, s->calls[i].reply, sizeof(out));
		CLAIM(out.size == PIECE);
	}
	pieces_are_in_order(s, name);
	unmake(s, name, &file);
}

static void syncs(struct fs_script *s)
{
	struct file file = make(s, "synced", O_RDWR);
	struct fuse_fsync_in in = { .fh = file.fh };
	char c = 'x';

	CLAIM(fc_write(&s->c, file.node, file.fh, 0, &c, 1) == 1);
	for (unsigned i = 0; i < N; i++) {
		in.fsync_flags = i % 2 ? FUSE_FSYNC_FDATASYNC : 0;
		add(s, i, (struct fc_op){ .opcode = FUSE_FSYNC, .nodeid = file.node }, &in,
		    sizeof(in));
	}
	fs_script_run(s, "sync");
	unmake(s, "synced", &file);
}

/* Large enough that some are copied while others are. */
static void large_reads(struct fs_script *s)
{
	struct file file = make(s, "large", O_RDWR);
	static char data[LARGE];

	for (unsigned i = 0; i < N; i++) {
		memset(data, 'a' + (int)i, LARGE);
		CLAIM(fc_write(&s->c, file.node, file.fh, i * LARGE, data, LARGE) == LARGE);
	}
	for (unsigned i = 0; i < N; i++) {
		struct fuse_read_in in = { .fh = file.fh, .offset = i * LARGE, .size = LARGE };

		add(s, i, (struct fc_op){ .opcode = FUSE_READ, .nodeid = file.node, .room = LARGE },
		    &in, sizeof(in));
	}
	fs_script_run(s, "read");
	for (unsigned i = 0; i < N; i++) {
		memset(data, 'a' + (int)i, LARGE);
		CLAIM(s->calls[i].reply_len == LARGE);
		CLAIM(memcmp(s->calls[i].reply, data, LARGE) == 0);
	}
	unmake(s, "large", &file);
}

/* Handles of their own for each, and none besides. */
static void opens(struct fs_script *s)
{
	struct file file = make(s, "opened", O_RDWR);
	struct fuse_open_out out[N];
	struct fuse_open_in in = { .flags = O_RDWR };
	char c = 'x';

	CLAIM(fc_write(&s->c, file.node, file.fh, 0, &c, 1) == 1);
	for (unsigned i = 0; i < N; i++)
		add(s, i,
		    (struct fc_op){
			    .opcode = FUSE_OPEN, .nodeid = file.node, .room = sizeof(out[0]) },
		    &in, sizeof(in));
	fs_script_run(s, "open");
	for (unsigned i = 0; i < N; i++) {
		memcpy(&out[i], s->calls[i].reply, sizeof(out[i]));
		for (unsigned k = 0; k < i; k++)
			CLAIM(out[i].fh != out[k].fh);
	}
	for (unsigned i = 0; i < N; i++)
		CLAIM(fc_read(&s->c, file.node, out[i].fh, 0, &c, 1) == 1 && c == 'x');
	for (unsigned i = 0; i < N; i++) {
		struct fuse_release_in release = { .fh = out[i].fh };

		add(s, i, (struct fc_op){ .opcode = FUSE_RELEASE, .nodeid = file.node }, &release,
		    sizeof(release));
	}
	fs_script_run(s, "release");
	for (unsigned i = 0; i < N; i++)
		CLAIM(fc_read(&s->c, file.node, out[i].fh, 0, &c, 1) == -EBADF);
	CLAIM(fc_read(&s->c, file.node, file.fh, 0, &c, 1) == 1);
	unmake(s, "opened", &file);
}

static struct fuse_lk_in lock_in(const struct file *file, unsigned i, uint32_t type)
{
	return (struct fuse_lk_in){ .fh = file->fh,
				    .owner = 100 + i,
				    .lk = { .start = i, .end = i, .type = type, .pid = 100 + i } };
}

/* Is byte i of the file locked, as any process of the host sees it? */
static bool is_locked(const struct fs_script *s, const char *name, unsigned i)
{
	struct flock fl = { .l_type = F_WRLCK, .l_start = i, .l_len = 1 };
	char path[600];
	int fd, r;

	snprintf(path, sizeof(path), "%s/%s", s->path, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	r = fcntl(fd, F_OFD_GETLK, &fl);
	close(fd);
	return r < 0 || fl.l_type != F_UNLCK;
}

/* Whoever locks for reading first has a descriptor that will not do for more. */
static void locks(struct fs_script *s)
{
	struct file file = make(s, "locked", O_RDWR);

	for (unsigned i = 0; i < N; i++) {
		struct fuse_lk_in in = lock_in(&file, i, F_RDLCK);

		add(s, i, (struct fc_op){ .opcode = FUSE_SETLK, .nodeid = file.node }, &in,
		    sizeof(in));
	}
	fs_script_run(s, "lock for reading");
	for (unsigned i = 0; i < N; i++) {
		struct fuse_lk_in in = lock_in(&file, i, F_WRLCK);

		add(s, i,
		    (struct fc_op){ .opcode = i % 2 ? FUSE_SETLK : FUSE_SETLKW,
				    .nodeid = file.node },
		    &in, sizeof(in));
	}
	fs_script_run(s, "lock");
	for (unsigned i = 0; i < N; i++) {
		struct fuse_lk_in in = lock_in(&file, i, F_WRLCK);
		struct fc_op op = { .opcode = FUSE_SETLK,
				    .nodeid = file.node,
				    .part = { { &in, sizeof(in) } },
				    .n_parts = 1 };

		in.owner = 7;
		CLAIM(is_locked(s, "locked", i));
		CLAIM(fc_run(&s->c, &op) == -EAGAIN);
	}
	for (unsigned i = 0; i < N; i++) {
		struct fuse_lk_in in = lock_in(&file, i, F_UNLCK);
		struct fuse_flush_in flush = { .fh = file.fh, .lock_owner = 100 + i };

		if (i % 2)
			add(s, i, (struct fc_op){ .opcode = FUSE_FLUSH, .nodeid = file.node },
			    &flush, sizeof(flush));
		else
			add(s, i, (struct fc_op){ .opcode = FUSE_SETLK, .nodeid = file.node }, &in,
			    sizeof(in));
	}
	fs_script_run(s, "unlock");
	for (unsigned i = 0; i < N; i++)
		CLAIM(!is_locked(s, "locked", i));
	unmake(s, "locked", &file);
}

static void list_all(struct fs_script *s, const struct file *dir)
{
	for (unsigned i = 0; i < N; i++) {
		struct fuse_read_in in = { .fh = dir->fh, .size = ROOM };

		add(s, i,
		    (struct fc_op){ .opcode = FUSE_READDIRPLUS, .nodeid = dir->node, .room = ROOM },
		    &in, sizeof(in));
	}
	fs_script_run(s, "readdirplus");
}

/* Entries with attributes in an answer; their node ids. */
static unsigned entries(const struct fc_call *call, uint64_t *ret_nodes, unsigned max)
{
	struct fuse_direntplus e;
	unsigned n = 0;

	for (uint32_t at = 0; at < call->reply_len; at += FUSE_DIRENTPLUS_SIZE(&e)) {
		memcpy(&e, call->reply + at, sizeof(e));
		if (e.entry_out.nodeid && n < max)
			ret_nodes[n++] = e.entry_out.nodeid;
	}
	return n;
}

/* Each answer looks up each entry once. */
static void listings(struct fs_script *s)
{
	struct fuse_open_out out;
	struct file files[5], dir = { .node = s->dir };
	uint64_t nodes[8];
	char name[16];

	for (unsigned k = 0; k < 5; k++) {
		snprintf(name, sizeof(name), "listed-%u", k);
		files[k] = make(s, name, O_RDWR);
	}
	MUST(fc_opendir(&s->c, s->dir, &out));
	dir.fh = out.fh;
	list_all(s, &dir);
	for (unsigned i = 0; i < N; i++)
		CLAIM(entries(&s->calls[i], nodes, 8) == 5);
	MUST(fc_releasedir(&s->c, s->dir, dir.fh));
	for (unsigned k = 0; k < 5; k++) {
		snprintf(name, sizeof(name), "listed-%u", k);
		MUST(fc_unlink(&s->c, s->dir, name));
		MUST(fc_release(&s->c, files[k].node, files[k].fh));
		fs_script_forget(s, files[k].node, N + 1);
	}
}

/* DESTROY takes all with it; then the driver mounts once more. */
static void mount_again(struct fs_script *s)
{
	const char *name = strrchr(s->path, '/') + 1;
	struct fc_op destroy = { .opcode = FUSE_DESTROY };
	struct fuse_init_in in = { .major = s->c.init.major,
				   .minor = s->c.init.minor,
				   .flags = s->c.init.flags,
				   .flags2 = s->c.init.flags2 };
	struct fc_op init = { .opcode = FUSE_INIT,
			      .part = { { &in, sizeof(in) } },
			      .n_parts = 1,
			      .room = sizeof(s->c.init) };
	struct fuse_entry_out e;

	MUST(fc_run(&s->c, &destroy));
	CLAIM(fc_lookup(&s->c, FC_ROOT, name, &e) == -EIO);
	MUST(fc_run(&s->c, &init));
	MUST(fc_lookup(&s->c, FC_ROOT, name, &e));
	s->dir = e.nodeid;
}

static void ends(struct fs_script *s)
{
	struct file file = make(s, "last", O_RDWR);
	struct fuse_lk_in in = lock_in(&file, 0, F_WRLCK);
	struct fc_op op = { .opcode = FUSE_SETLK,
			    .nodeid = file.node,
			    .part = { { &in, sizeof(in) } },
			    .n_parts = 1 };
	char c;

	MUST(fc_run(&s->c, &op));
	mount_again(s);
	CLAIM(!is_locked(s, "last", 0));
	CLAIM(fc_read(&s->c, file.node, file.fh, 0, &c, 1) == -EBADF);
	MUST(fc_unlink(&s->c, s->dir, "last"));
}

void fs_script_files(struct fs_script *s)
{
	fs_script_begin(s, "files");
	writes(s, "written", 0);
	writes(s, "appended", O_APPEND);
	writes(s, "synchronous", O_APPEND | O_DSYNC);
	syncs(s);
	large_reads(s);
	opens(s);
	locks(s);
	listings(s);
	if (s->n_known == 0)
		ends(s);
	fs_script_end(s);
}
