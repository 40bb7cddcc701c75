/*
 * Claims about open files of a shared directory and what is in them.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/fill.h"
#include "tests/frontend/fs-claim.h"
#include "tests/frontend/slowfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const struct backend_spec plain = { .share = "", .n_queues = 2 };
static const struct backend_spec read_only = {
	.share = "", .n_queues = 2, .args = (const char *const[]){ "--read-only", NULL }
};
static const struct backend_spec writeback = {
	.share = "", .n_queues = 2, .args = (const char *const[]){ "--writeback", NULL }
};
static const struct backend_spec direct = { .share = "",
					    .n_queues = 2,
					    .args = (const char *const[]){ "--direct-io", NULL } };
static const struct backend_spec uncached = {
	.share = "", .n_queues = 2, .args = (const char *const[]){ "--cache=none", NULL }
};
static const struct backend_spec cached = {
	.share = "", .n_queues = 2, .args = (const char *const[]){ "--cache=always", NULL }
};

enum {
	KIB = 1 << 10,
	MIB = 1 << 20,
	SETUID_MODE = S_IFREG | 06777,
};

struct file {
	uint64_t node, fh;
	uint32_t open_flags;
	uint32_t flags; /* as the guest has them now: it sends them with each write */
};

static struct file create(struct fs_claim *f, const char *name, uint32_t flags)
{
	struct fc_opened o;

	expect_ok(fc_create(&f->c, f->dir, name, flags | O_CREAT, S_IFREG | 0644, &o));
	return (struct file){ o.entry.nodeid, o.open.fh, o.open.open_flags, flags };
}

static int open_file(struct fs_claim *f, const char *name, uint32_t flags, struct file *ret)
{
	struct fuse_entry_out e;
	struct fuse_open_out o = {};
	int r;

	expect_ok(fc_lookup(&f->c, f->dir, name, &e));
	r = fc_open(&f->c, e.nodeid, flags, &o);
	*ret = (struct file){ e.nodeid, o.fh, o.open_flags, flags };
	return r;
}

static struct file open_existing(struct fs_claim *f, const char *name, uint32_t flags)
{
	struct file file;

	expect_ok(open_file(f, name, flags, &file));
	return file;
}

/* One with fixed arguments that answers with nothing, or with *ret. */
static int run(struct fs_claim *f, struct fc_op op, const void *in, size_t len, void *ret)
{
	int r;

	op.part[0].p = in;
	op.part[0].len = len;
	op.n_parts = 1;
	r = fc_run(&f->c, &op);
	if (r == 0)
		expect_is(f->c.call.reply_len, op.room);
	if (r == 0 && ret)
		memcpy(ret, f->c.call.reply, op.room);
	return r;
}

static int write_flags(struct fs_claim *f, const struct file *file, struct fuse_write_in in,
		       const char *text)
{
	struct fuse_write_out out;
	struct fc_op op = { .opcode = FUSE_WRITE,
			    .nodeid = file->node,
			    .part = { { &in, sizeof(in) }, { text, strlen(text) } },
			    .n_parts = 2,
			    .room = sizeof(out) };
	int r;

	in.fh = file->fh;
	in.size = (uint32_t)strlen(text);
	in.flags = file->flags;
	r = fc_run(&f->c, &op);
	if (r < 0)
		return r;
	memcpy(&out, f->c.call.reply, sizeof(out));
	return (int)out.size;
}

static int write_text(struct fs_claim *f, const struct file *file, uint64_t offset,
		      const char *text)
{
	return write_flags(f, file, (struct fuse_write_in){ .offset = offset }, text);
}

static void reads(struct fs_claim *f, const struct file *file, uint64_t offset, size_t len,
		  const char *text)
{
	char got[4096];
	int n = fc_read(&f->c, file->node, file->fh, offset, got, len);

	expect(n == (int)strlen(text) && memcmp(got, text, (size_t)n) == 0, "%d: %.*s, not %s", n,
	       n > 0 ? n : 0, got, text);
}

static void data_comes_back_as_it_was_written(struct claim_context *x)
{
	static const uint32_t lens[] = { 1, 8, 4096, 4104, 128 * KIB, MIB };
	struct fs_claim *f = fs_claim_begin(x, "data", NULL);
	struct file file = create(f, "file", O_RDWR);
	static uint8_t data[MIB], got[MIB];

	for (uint32_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		uint64_t at = i * 3000000 + i;

		fill_pattern(data, sizeof(data), i, 1);
		expect_is(fc_write(&f->c, file.node, file.fh, at, data, lens[i]), lens[i]);
		expect_is(fc_read(&f->c, file.node, file.fh, at, got, lens[i]), lens[i]);
		expect(memcmp(data, got, lens[i]) == 0, "%u bytes differ", lens[i]);
	}
	expect_is(fs_claim_stat(f, "file").st_size, 5 * 3000000 + 5 + MIB);
	/* What was skipped is zero. */
	expect_is(fc_read(&f->c, file.node, file.fh, 10 * KIB, got, 64 * KIB), 64 * KIB);
	expect(fill_is_zero(got, 64 * KIB), "a hole is not zero");
	fs_claim_end(f);
}

static void reading_ends_with_the_file(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "end", NULL);
	struct file file;

	fs_claim_write(f, "file", "0123456789");
	file = open_existing(f, "file", O_RDONLY);
	reads(f, &file, 0, 4096, "0123456789");
	reads(f, &file, 8, 4096, "89");
	reads(f, &file, 10, 4096, "");
	reads(f, &file, 1u << 30, 16, "");
	expect_is(fc_read(&f->c, file.node, file.fh, UINT64_MAX - 5, (char[16]){ 0 }, 16), -EINVAL);
	fs_claim_end(f);
}

static void handles_are_for_what_they_were_opened_for(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "handles", NULL);
	struct file r, w, other;
	struct fuse_open_out dir;
	char c;

	fs_claim_write(f, "file", "text");
	fs_claim_write(f, "other", "other");
	r = open_existing(f, "file", O_RDONLY);
	w = open_existing(f, "file", O_WRONLY);
	other = open_existing(f, "other", O_RDONLY);
	expect_is(write_text(f, &r, 0, "x"), -EBADF);
	expect_is(fc_read(&f->c, w.node, w.fh, 0, &c, 1), -EBADF);
	/* Another file's handle, one that there is not, a directory's, one that was given back. */
	expect_is(fc_read(&f->c, other.node, r.fh, 0, &c, 1), -EBADF);
	expect_is(fc_read(&f->c, r.node, r.fh + 7, 0, &c, 1), -EBADF);
	expect_is(fc_read(&f->c, r.node, r.fh + (UINT64_C(1) << 32), 0, &c, 1), -EBADF);
	expect_is(fc_read(&f->c, r.node, UINT64_MAX, 0, &c, 1), -EBADF);
	expect_ok(fc_opendir(&f->c, f->dir, &dir));
	expect_is(fc_read(&f->c, f->dir, dir.fh, 0, &c, 1), -EBADF);
	expect_ok(fc_release(&f->c, r.node, r.fh));
	expect_is(fc_read(&f->c, r.node, r.fh, 0, &c, 1), -EBADF);
	expect(fs_claim_holds(f, "file", "text"), "it was written to");
	fs_claim_end(f);
}

static void appending_goes_to_the_end(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "append", NULL);
	struct file a = create(f, "file", O_WRONLY | O_APPEND), b;

	b = open_existing(f, "file", O_RDWR);
	expect_is(write_text(f, &a, 0, "one "), 4);
	expect_is(write_text(f, &a, 0, "two "), 4);
	/* The end moves without the guest's knowing. */
	expect_is(truncate(fs_claim_path(f, "file"), 4), 0);
	expect_is(write_text(f, &a, 8, "three"), 5);
	expect(fs_claim_holds(f, "file", "one three"), "appended elsewhere");
	expect_is(write_text(f, &b, 0, "ONE"), 3);
	expect(fs_claim_holds(f, "file", "ONE three"), "not written in place");
	fs_claim_end(f);
}

/* fcntl(F_SETFL) in the guest, of which only the writes tell. */
static void appending_begins_and_ends_in_the_guest(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "append-fcntl", NULL);
	struct file a = create(f, "file", O_WRONLY | O_APPEND), b;

	b = open_existing(f, "file", O_WRONLY);
	expect_is(write_text(f, &a, 0, "one two"), 7);
	a.flags &= ~(uint32_t)O_APPEND;
	expect_is(write_text(f, &a, 4, "TWO"), 3);
	expect(fs_claim_holds(f, "file", "one TWO"), "appended");
	b.flags |= O_APPEND;
	expect_is(write_text(f, &b, 0, " three"), 6);
	expect(fs_claim_holds(f, "file", "one TWO three"), "not appended");
	fs_claim_end(f);
}

/* A shared mapping of a file that is open for appending, say: the page has its place. */
static void pages_of_the_guests_cache_are_not_appended(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "append-page", NULL);
	struct file a = create(f, "file", O_RDWR | O_APPEND);
	struct fuse_write_in in = { .write_flags = FUSE_WRITE_CACHE };

	expect_is(write_text(f, &a, 0, "one two"), 7);
	expect_is(write_flags(f, &a, in, "ONE"), 3);
	expect(fs_claim_holds(f, "file", "ONE two"), "appended");
	fs_claim_end(f);
}

/* The guest's kernel knows where the end is, and reads what it writes in part. */
static void a_writeback_cache_says_where_to_append(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "append-writeback", NULL);
	struct file a = create(f, "file", O_WRONLY | O_APPEND);

	expect(f->c.flags & FUSE_WRITEBACK_CACHE, "it was not agreed on");
	expect_is(write_text(f, &a, 0, "one two"), 7);
	expect_is(write_text(f, &a, 4, "TWO"), 3);
	expect(fs_claim_holds(f, "file", "one TWO"), "appended");
	reads(f, &a, 0, 16, "one TWO");
	fs_claim_end(f);
}

static void an_open_file_outlives_its_name(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "unlinked", NULL);
	struct file file = create(f, "file", O_RDWR);
	struct fuse_attr attr;

	expect_is(write_text(f, &file, 0, "before"), 6);
	expect_ok(fc_unlink(&f->c, f->dir, "file"));
	expect(!fs_claim_exists(f, "file"), "it is still there");
	reads(f, &file, 0, 16, "before");
	expect_is(write_text(f, &file, 6, " after"), 6);
	reads(f, &file, 0, 16, "before after");
	expect_ok(fc_getattr(&f->c, file.node, &attr));
	expect(attr.nlink == 0 && attr.size == 12, "%u links, %lu bytes", attr.nlink, attr.size);
	/* Opened once more by its node, which the guest does through /proc. */
	expect_ok(fc_open(&f->c, file.node, O_RDONLY, &(struct fuse_open_out){ 0 }));
	expect_ok(fc_release(&f->c, file.node, file.fh));
	fs_claim_end(f);
}

static void truncation_by_open(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "truncate", NULL);
	struct fuse_open_in in = { .flags = O_WRONLY | O_TRUNC,
				   .open_flags = FUSE_OPEN_KILL_SUIDGID };
	struct fuse_open_out out;
	struct file file;

	fs_claim_write(f, "file", "text");
	expect_is(chmod(fs_claim_path(f, "file"), 04777), 0);
	file = open_existing(f, "file", O_WRONLY | O_TRUNC);
	expect_is(fs_claim_stat(f, "file").st_size, 0);
	expect_is(fs_claim_stat(f, "file").st_mode, S_IFREG | 04777);
	expect_is(write_text(f, &file, 0, "more"), 4);
	expect_ok(run(
		f, (struct fc_op){ .opcode = FUSE_OPEN, .nodeid = file.node, .room = sizeof(out) },
		&in, sizeof(in), &out));
	expect_is(fs_claim_stat(f, "file").st_size, 0);
	expect_is(fs_claim_stat(f, "file").st_mode, S_IFREG | 0777);
	fs_claim_end(f);
}

static void nothing_but_files_is_opened(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "kinds", NULL);
	struct file file;
	int r;

	expect_is(mkfifo(fs_claim_path(f, "fifo"), 0600), 0);
	expect_is(symlink("fifo", fs_claim_path(f, "link")), 0);
	/* A FIFO without a writer would keep whoever opens it. */
	r = open_file(f, "fifo", O_RDONLY, &file);
	expect(r < 0, "a FIFO was opened");
	r = open_file(f, "link", O_RDONLY, &file);
	expect(r < 0, "a symlink was opened");
	expect_is(mkdir(fs_claim_path(f, "dir"), 0755), 0);
	r = open_file(f, "dir", O_RDWR, &file);
	expect_is(r, -EISDIR);
	r = open_file(f, "dir", O_RDONLY, &file);
	expect_is(r, -EISDIR);
	fs_claim_end(f);
}

static void the_guest_may_keep(struct claim_context *x, const char *name, uint32_t file_flags,
			       uint32_t directory_flags)
{
	struct fs_claim *f = fs_claim_begin(x, name, NULL);
	struct file made = create(f, "file", O_RDWR), opened;
	struct fuse_open_out dir;

	opened = open_existing(f, "file", O_RDONLY);
	expect_ok(fc_opendir(&f->c, f->dir, &dir));
	expect_is(made.open_flags & ~FOPEN_PARALLEL_DIRECT_WRITES, file_flags);
	expect_is(opened.open_flags & ~FOPEN_PARALLEL_DIRECT_WRITES, file_flags);
	expect_is(dir.open_flags, directory_flags);
	fs_claim_end(f);
}

static void the_guest_may_keep_little_by_itself(struct claim_context *x)
{
	the_guest_may_keep(x, "auto", 0, 0);
}

static void the_guest_may_keep_nothing_uncached(struct claim_context *x)
{
	the_guest_may_keep(x, "none", FOPEN_DIRECT_IO, 0);
}

static void the_guest_may_keep_all_cached(struct claim_context *x)
{
	the_guest_may_keep(x, "always", FOPEN_KEEP_CACHE, FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR);
}

static void a_read_only_device_opens_for_reading(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "read-only", NULL);
	struct file file;

	fs_claim_write(f, "file", "text");
	expect_is(open_file(f, "file", O_WRONLY, &file), -EROFS);
	expect_is(open_file(f, "file", O_RDWR, &file), -EROFS);
	expect_is(open_file(f, "file", O_RDONLY | O_TRUNC, &file), -EROFS);
	file = open_existing(f, "file", O_RDONLY);
	reads(f, &file, 0, 16, "text");
	expect_is(write_text(f, &file, 0, "x"), -EROFS);
	fs_claim_end(f);
}

/* WRITE with its data at a page's begin, as a guest's direct I/O has it, or off bytes further. */
static int write_pages(struct fs_claim *f, const struct file *file, uint8_t *pages, uint32_t off,
		       uint32_t len)
{
	struct fc_call *call = &f->c.call;
	struct fuse_write_in in = { .fh = file->fh, .size = len };
	struct fe_sg sg[] = { { call->header, sizeof(*call->header) },
			      { call->args, sizeof(in) },
			      { pages + off, len },
			      { call->answer, sizeof(*call->answer) },
			      { call->reply, sizeof(struct fuse_write_out) } };
	struct fuse_write_out out;

	memcpy(call->args, &in, sizeof(in));
	*call->header = (struct fuse_in_header){ .len = sg[0].len + sg[1].len + len,
						 .opcode = FUSE_WRITE,
						 .unique = f->c.unique += 2,
						 .nodeid = file->node };
	call->unique = f->c.unique;
	call->room = sizeof(out);
	call->done = false;
	expect(fe_queue_add(&f->c.fe.queues[f->c.queue], sg, 3, 2, call) >= 0, "no room");
	fc_kick(&f->c, f->c.queue);
	if (fc_wait(&f->c, f->c.queue, call) < 0)
		return call->error;
	memcpy(&out, call->reply, sizeof(out));
	return (int)out.size;
}

/* What else a driver has put behind it is not the request's. */
static void no_more_is_written_than_the_request_is_long(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "longer", NULL);
	struct file file = create(f, "file", O_RDWR);
	struct fc_call *call = &f->c.call;
	struct fuse_write_in in = { .fh = file.fh, .size = 5 };
	struct fe_sg sg[] = { { call->header, sizeof(*call->header) },
			      { call->args, sizeof(in) + 10 },
			      { call->answer, sizeof(*call->answer) },
			      { call->reply, sizeof(struct fuse_write_out) } };
	struct fuse_write_out out;

	for (unsigned i = 0; i < 2; i++) {
		in.flags = O_RDWR | (i ? O_APPEND : 0);
		memcpy(call->args, &in, sizeof(in));
		memcpy(call->args + sizeof(in), "text others", 10);
		*call->header = (struct fuse_in_header){ .len = sg[0].len + sizeof(in) + 5,
							 .opcode = FUSE_WRITE,
							 .unique = f->c.unique += 2,
							 .nodeid = file.node };
		call->unique = f->c.unique;
		call->room = sizeof(out);
		call->done = false;
		expect(fe_queue_add(&f->c.fe.queues[f->c.queue], sg, 2, 2, call) >= 0, "no room");
		fc_kick(&f->c, f->c.queue);
		expect_ok(fc_wait(&f->c, f->c.queue, call));
		memcpy(&out, call->reply, sizeof(out));
		expect_is(out.size, 5);
		expect(fs_claim_holds(f, "file", i ? "text text " : "text "), "more was written");
	}
	fs_claim_end(f);
}

static void direct_transfers_are_aligned(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "direct", NULL);
	uint8_t *pages = fe_memory_alloc(&f->c.fe.mem, 128 * KIB, 4096);
	struct file file = create(f, "file", O_RDWR | O_DIRECT);
	static uint8_t got[64 * KIB];
	int r;

	fill_pattern(pages, 128 * KIB, 1, 1);
	expect_is(write_pages(f, &file, pages, 0, sizeof(got)), sizeof(got));
	expect_is(fc_read(&f->c, file.node, file.fh, 0, got, sizeof(got)), sizeof(got));
	expect(memcmp(pages, got, sizeof(got)) == 0, "other data");
	/* As with any file: what the host's file system cannot do is an error, not something else. */
	r = write_pages(f, &file, pages, 3, 5);
	expect(r == -EINVAL || r == 5, "%d", r);
	fs_claim_end(f);
}

static void setuid_ends_by_writing(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "setuid", NULL);
	struct fuse_write_in keep = {}, kill = { .write_flags = FUSE_WRITE_KILL_SUIDGID };
	static const uint8_t capability[20] = { 0, 0, 0, 2, 1 }; /* of version 2: CAP_CHOWN */
	struct file file = create(f, "file", O_RDWR);
	const char *path = fs_claim_path(f, "file");

	expect_is(chmod(path, 06777), 0);
	expect_is(write_flags(f, &file, keep, "root's"), 6);
	expect_is(fs_claim_stat(f, "file").st_mode, SETUID_MODE);
	expect_is(write_flags(f, &file, kill, "others'"), 7);
	expect_is(fs_claim_stat(f, "file").st_mode, S_IFREG | 0777);
	expect_is(chmod(path, 06777), 0);
	file = open_existing(f, "file", O_RDWR | O_APPEND);
	expect_is(write_flags(f, &file, kill, "others'"), 7);
	expect_is(fs_claim_stat(f, "file").st_mode, S_IFREG | 0777);
	/* And is as before for the next. */
	expect_is(chmod(path, 06777), 0);
	expect_is(write_flags(f, &file, keep, "root's"), 6);
	expect_is(fs_claim_stat(f, "file").st_mode, SETUID_MODE);
	expect_is(setxattr(path, "security.capability", capability, sizeof(capability), 0), 0);
	expect_is(write_flags(f, &file, kill, "others'"), 7);
	expect_is(getxattr(path, "security.capability", NULL, 0), -1);
	fs_claim_end(f);
}

static int falloc(struct fs_claim *f, const struct file *file, struct fuse_fallocate_in in)
{
	in.fh = file->fh;
	return run(f, (struct fc_op){ .opcode = FUSE_FALLOCATE, .nodeid = file->node }, &in,
		   sizeof(in), NULL);
}

static void setuid_ends_by_allocation_and_copy(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "setuid-more", NULL);
	struct file file = create(f, "file", O_RDWR), from;
	struct fuse_copy_file_range_in copy;
	struct fuse_write_out out;

	fs_claim_write(f, "from", "text");
	from = open_existing(f, "from", O_RDONLY);
	copy = (struct fuse_copy_file_range_in){
		.fh_in = from.fh, .nodeid_out = file.node, .fh_out = file.fh, .len = 4
	};
	f->c.uid = 1000;
	expect_is(chmod(fs_claim_path(f, "file"), 06777), 0);
	expect_ok(falloc(f, &file, (struct fuse_fallocate_in){ .length = 4096 }));
	expect_is(fs_claim_stat(f, "file").st_mode, S_IFREG | 0777);
	expect_is(chmod(fs_claim_path(f, "file"), 06777), 0);
	expect_ok(run(f,
		      (struct fc_op){ .opcode = FUSE_COPY_FILE_RANGE,
				      .nodeid = from.node,
				      .room = sizeof(out) },
		      &copy, sizeof(copy), &out));
	expect_is(out.size, 4);
	expect_is(fs_claim_stat(f, "file").st_mode, S_IFREG | 0777);
	fs_claim_end(f);
}

static int truncate_kill(struct fs_claim *f, const struct file *file)
{
	struct fuse_setattr_in in = { .valid = FATTR_SIZE | FATTR_KILL_SUIDGID, .size = 2 };

	return fc_setattr(&f->c, file->node, &in, NULL);
}

static int open_kill(struct fs_claim *f, const struct file *file)
{
	struct fuse_open_in in = { .flags = O_WRONLY | O_TRUNC,
				   .open_flags = FUSE_OPEN_KILL_SUIDGID };
	struct fuse_open_out out;
	int r = run(
		f, (struct fc_op){ .opcode = FUSE_OPEN, .nodeid = file->node, .room = sizeof(out) },
		&in, sizeof(in), &out);

	return r < 0 ? r : fc_release(&f->c, file->node, out.fh);
}

static int write_kill(struct fs_claim *f, const struct file *file)
{
	struct fuse_write_in in = { .write_flags = FUSE_WRITE_KILL_SUIDGID };

	return write_flags(f, file, in, "others'") == 7 ? 0 : -EIO;
}

static int falloc_kill(struct fs_claim *f, const struct file *file)
{
	return falloc(f, file, (struct fuse_fallocate_in){ .length = 4096 });
}

/* Set-group-id of a file that its group may not execute stood for mandatory locks: one of the group does not end it by writing. */
static void sgid_that_is_not_for_execution_stays_for_its_group(struct claim_context *x)
{
	static int (*const change[])(struct fs_claim *,
				     const struct file *) = { write_kill, truncate_kill, open_kill,
							      falloc_kill };
	static const struct {
		mode_t before, after, after_others;
	} modes[] = { { 02644, 02644, 0644 },
		      { 06644, 02644, 0644 },
		      { 06654, 0654, 0654 },
		      { 02755, 0755, 0755 } };
	struct fs_claim *f = fs_claim_begin(x, "sgid-not-executed", NULL);
	struct file file = create(f, "file", O_RDWR);

	expect_is(chown(fs_claim_path(f, "file"), 1000, 1000), 0);
	f->c.uid = f->c.gid = 1000;
	for (unsigned i = 0; i < sizeof(change) / sizeof(*change); i++)
		for (unsigned k = 0; k < sizeof(modes) / sizeof(*modes); k++) {
			expect_is(chmod(fs_claim_path(f, "file"), modes[k].before), 0);
			expect_ok(change[i](f, &file));
			expect_is(fs_claim_stat(f, "file").st_mode & 07777, modes[k].after);
			expect_is(chmod(fs_claim_path(f, "file"), modes[k].before), 0);
			f->c.gid = 2000;
			expect_ok(change[i](f, &file));
			expect_is(fs_claim_stat(f, "file").st_mode & 07777, modes[k].after_others);
			f->c.gid = 1000;
		}
	/* Back to what the device was. */
	expect_ok(fc_mkdir(&f->c, f->dir, "directory", 0755, NULL));
	expect_is(fs_claim_stat(f, "directory").st_gid, 1000);
	fs_claim_end(f);
}

static int copy_into(struct fs_claim *f, const struct file *file)
{
	struct file from = open_existing(f, "from", O_RDONLY);
	struct fuse_copy_file_range_in in = {
		.fh_in = from.fh, .nodeid_out = file->node, .fh_out = file->fh, .len = 4
	};
	struct fuse_write_out out;

	return run(f,
		   (struct fc_op){ .opcode = FUSE_COPY_FILE_RANGE,
				   .nodeid = from.node,
				   .room = sizeof(out) },
		   &in, sizeof(in), &out);
}

static int write_keep(struct fs_claim *f, const struct file *file)
{
	return write_flags(f, file, (struct fuse_write_in){ .offset = 0 }, "root's") == 6 ? 0
											  : -EIO;
}

/* Whoever changes a program's text, root too: what it may do ends. */
static void capabilities_end_by_any_change(struct claim_context *x)
{
	static int (*const change[])(struct fs_claim *, const struct file *) = {
		write_keep, write_kill, truncate_kill, open_kill, falloc_kill, copy_into
	};
	static const uint8_t capability[20] = { 1, 0, 0, 2, 1 };
	struct fs_claim *f = fs_claim_begin(x, "capabilities", NULL);
	struct file file = create(f, "file", O_RDWR);
	const char *path = fs_claim_path(f, "file");

	fs_claim_write(f, "from", "text");
	for (unsigned i = 0; i < sizeof(change) / sizeof(*change); i++) {
		expect_is(setxattr(path, "security.capability", capability, sizeof(capability), 0),
			  0);
		expect_ok(change[i](f, &file));
		expect(getxattr(path, "security.capability", NULL, 0) < 0, "still there after %u",
		       i);
	}
	fs_claim_end(f);
}

/* The guest's kernel goes on believing them after a write that ended the bits. */
static void modes_with_setuid_bits_are_not_to_be_believed(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "believed", NULL);
	struct fuse_entry_out e;

	fs_claim_write(f, "file", "text");
	expect_ok(fc_lookup(&f->c, f->dir, "file", &e));
	expect(e.attr_valid > 0 && e.entry_valid > 0, "nothing is believed");
	expect_is(chmod(fs_claim_path(f, "file"), 04755), 0);
	expect_ok(fc_lookup(&f->c, f->dir, "file", &e));
	expect_is(e.attr_valid, 0);
	expect_is(e.attr_valid_nsec, 0);
	expect(e.entry_valid > 0, "the name is believed all the same");
	fs_claim_end(f);
}

static int64_t seek(struct fs_claim *f, const struct file *file, uint64_t offset, uint32_t whence)
{
	struct fuse_lseek_in in = { .fh = file->fh, .offset = offset, .whence = whence };
	struct fuse_lseek_out out;
	int r = run(
		f,
		(struct fc_op){ .opcode = FUSE_LSEEK, .nodeid = file->node, .room = sizeof(out) },
		&in, sizeof(in), &out);

	return r < 0 ? r : (int64_t)out.offset;
}

static void holes_are_holes(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "holes", NULL);
	struct file file = create(f, "file", O_RDWR);
	static uint8_t data[MIB], got[MIB];

	fill_pattern(data, sizeof(data), 1, 1);
	expect_is(fc_write(&f->c, file.node, file.fh, 4 * MIB, data, MIB), MIB);
	expect_is(seek(f, &file, 0, SEEK_DATA), 4 * MIB);
	expect_is(seek(f, &file, 0, SEEK_HOLE), 0);
	expect_is(seek(f, &file, 4 * MIB, SEEK_HOLE), 5 * MIB);
	expect_is(seek(f, &file, 5 * MIB, SEEK_DATA), -ENXIO);
	expect_is(seek(f, &file, 0, SEEK_END), -EINVAL);
	expect_ok(falloc(
		f, &file,
		(struct fuse_fallocate_in){ .offset = 4 * MIB + 64 * KIB,
					    .length = 128 * KIB,
					    .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE }));
	expect_is(seek(f, &file, 4 * MIB, SEEK_HOLE), 4 * MIB + 64 * KIB);
	expect_is(seek(f, &file, 4 * MIB + 64 * KIB, SEEK_DATA), 4 * MIB + 192 * KIB);
	expect_is(fc_read(&f->c, file.node, file.fh, 4 * MIB, got, MIB), MIB);
	expect(fill_is_zero(got + 64 * KIB, 128 * KIB), "the hole is not zero");
	expect(memcmp(got, data, 64 * KIB) == 0, "what is before the hole");
	expect(memcmp(got + 192 * KIB, data + 192 * KIB, MIB - 192 * KIB) == 0, "after the hole");
	expect_is(fs_claim_stat(f, "file").st_size, 5 * MIB);
	/* The position of the handle is nobody's: reads have theirs with them. */
	expect_is(fc_read(&f->c, file.node, file.fh, 4 * MIB, got, 64 * KIB), 64 * KIB);
	expect(memcmp(got, data, 64 * KIB) == 0, "read elsewhere");
	fs_claim_end(f);
}

static void allocation_keeps_or_sets_the_size(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "allocate", NULL);
	struct file file = create(f, "file", O_RDWR), readable;
	struct stat st;

	expect_ok(falloc(f, &file,
			 (struct fuse_fallocate_in){ .length = MIB, .mode = FALLOC_FL_KEEP_SIZE }));
	st = fs_claim_stat(f, "file");
	expect(st.st_size == 0 && st.st_blocks * 512 >= MIB, "%ld bytes in %ld blocks",
	       (long)st.st_size, (long)st.st_blocks);
	expect_ok(falloc(f, &file, (struct fuse_fallocate_in){ .length = 2 * MIB }));
	expect_is(fs_claim_stat(f, "file").st_size, 2 * MIB);
	expect_is(write_text(f, &file, 0, "text"), 4);
	expect_ok(falloc(f, &file,
			 (struct fuse_fallocate_in){
				 .offset = 1, .length = 2, .mode = FALLOC_FL_ZERO_RANGE }));
	reads(f, &file, 3, 1, "t");
	expect_is(fc_read(&f->c, file.node, file.fh, 1, (char[2]){ 1, 1 }, 2), 2);
	expect_is(f->c.call.reply[0] | f->c.call.reply[1], 0);
	expect_is(falloc(f, &file,
			 (struct fuse_fallocate_in){ .length = 4096,
						     .mode = FALLOC_FL_COLLAPSE_RANGE }),
		  -EOPNOTSUPP);
	expect_is(falloc(f, &file, (struct fuse_fallocate_in){ .length = 0 }), -EINVAL);
	expect_is(
		falloc(f, &file, (struct fuse_fallocate_in){ .offset = INT64_MAX, .length = 4096 }),
		-EFBIG);
	expect_is(falloc(f, &file, (struct fuse_fallocate_in){ .offset = UINT64_MAX, .length = 1 }),
		  -EINVAL);
	readable = open_existing(f, "file", O_RDONLY);
	expect_is(falloc(f, &readable, (struct fuse_fallocate_in){ .length = 4096 }), -EBADF);
	fs_claim_end(f);
}

static void ranges_are_copied(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "copy", NULL);
	struct file from = create(f, "from", O_RDWR), to = create(f, "to", O_RDWR);
	struct fuse_copy_file_range_in in = { .fh_in = from.fh,
					      .off_in = 3,
					      .nodeid_out = to.node,
					      .fh_out = to.fh,
					      .off_out = 5,
					      .len = 1000 };
	struct fc_op op = { .opcode = FUSE_COPY_FILE_RANGE,
			    .nodeid = from.node,
			    .room = sizeof(struct fuse_write_out) };
	struct fuse_write_out out;

	expect_is(write_text(f, &from, 0, "0123456789"), 10);
	expect_is(write_text(f, &to, 0, "abcde"), 5);
	expect_ok(run(f, op, &in, sizeof(in), &out));
	expect_is(out.size, 7);
	expect(fs_claim_holds(f, "to", "abcde3456789"), "something else was copied");
	in.nodeid_out = from.node; /* is not what the handle is of */
	expect_is(run(f, op, &in, sizeof(in), NULL), -EBADF);
	in.nodeid_out = to.node;
	in.flags = 1;
	expect_is(run(f, op, &in, sizeof(in), NULL), -EINVAL);
	in.flags = 0;
	in.off_out = UINT64_MAX;
	expect_is(run(f, op, &in, sizeof(in), NULL), -EINVAL);
	fs_claim_end(f);
}

static void syncing_is_answered_when_done(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "sync", NULL);
	struct file file = create(f, "file", O_RDWR);
	struct fuse_fsync_in in = { .fh = file.fh };
	struct fuse_flush_in flush = { .fh = file.fh, .lock_owner = 7 };
	struct fuse_syncfs_in all = {};
	struct fuse_open_out dir;

	expect_is(write_text(f, &file, 0, "text"), 4);
	expect_ok(run(f, (struct fc_op){ .opcode = FUSE_FSYNC, .nodeid = file.node }, &in,
		      sizeof(in), NULL));
	in.fsync_flags = FUSE_FSYNC_FDATASYNC;
	expect_ok(run(f, (struct fc_op){ .opcode = FUSE_FSYNC, .nodeid = file.node }, &in,
		      sizeof(in), NULL));
	expect_ok(run(f, (struct fc_op){ .opcode = FUSE_FLUSH, .nodeid = file.node }, &flush,
		      sizeof(flush), NULL));
	expect_ok(fc_opendir(&f->c, f->dir, &dir));
	expect_is(run(f, (struct fc_op){ .opcode = FUSE_FSYNCDIR, .nodeid = f->dir }, &in,
		      sizeof(in), NULL),
		  -EBADF);
	in.fh = dir.fh;
	expect_ok(run(f, (struct fc_op){ .opcode = FUSE_FSYNCDIR, .nodeid = f->dir }, &in,
		      sizeof(in), NULL));
	expect_ok(run(f, (struct fc_op){ .opcode = FUSE_SYNCFS, .nodeid = FC_ROOT }, &all,
		      sizeof(all), NULL));
	fs_claim_end(f);
}

static void kill_worker(struct claim_context *x)
{
	pid_t worker = backend_worker_await(x->backend.pid, 0, 2000);

	expect(worker > 0 && kill(worker, SIGKILL) == 0, "no worker");
	expect(backend_worker_await(x->backend.pid, worker, 5000) > 0, "no successor");
}

static void open_files_outlive_the_worker(struct claim_context *x)
{
	struct fc_spec spec = { .session = { .inflight = true } };
	struct fs_claim *f = fs_claim_begin(x, "death", &spec);
	struct file named = create(f, "named", O_RDWR | O_APPEND),
		    nameless = create(f, "x", O_RDWR);

	expect_is(write_text(f, &named, 0, "one "), 4);
	expect_is(write_text(f, &nameless, 0, "before"), 6);
	expect_ok(fc_unlink(&f->c, f->dir, "x"));
	for (int i = 0; i < 3; i++)
		kill_worker(x);
	expect_is(write_text(f, &named, 0, "two"), 3);
	expect(fs_claim_holds(f, "named", "one two"), "not appended");
	reads(f, &nameless, 0, 16, "before");
	expect_is(write_text(f, &nameless, 6, " after"), 6);
	reads(f, &nameless, 0, 16, "before after");
	expect_ok(fc_release(&f->c, nameless.node, nameless.fh));
	expect_is(fc_read(&f->c, nameless.node, nameless.fh, 0, (char[1]){ 0 }, 1), -EBADF);
	fs_claim_end(f);
}

/* Those that have their data copied meanwhile too, and what comes after the file's end. */
static void large_reads_at_the_same_time_have_their_data(struct claim_context *x)
{
	enum { N = 12, LEN = 300 * KIB, FILE_LEN = N * LEN - 100 * KIB };
	struct fs_claim *f = fs_claim_begin(x, "large-reads", NULL);
	struct file file = create(f, "file", O_RDWR);
	static uint8_t data[N * LEN];
	struct fc_call calls[N];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i / 512 * 7 + i);
	for (size_t at = 0; at < FILE_LEN; at += 100 * KIB)
		expect_is(fc_write(&f->c, file.node, file.fh, at, data + at, 100 * KIB), 100 * KIB);
	for (unsigned i = 0; i < N; i++) {
		struct fuse_read_in in = { .fh = file.fh, .offset = i * LEN, .size = LEN };
		struct fc_op op = { .opcode = FUSE_READ,
				    .nodeid = file.node,
				    .part = { { &in, sizeof(in) } },
				    .n_parts = 1,
				    .room = LEN };

		fc_call_init(&calls[i], &f->c.fe.mem);
		fc_add(&f->c, FC_REQUESTS, &calls[i], &op);
	}
	fc_kick(&f->c, FC_REQUESTS);
	for (unsigned i = 0; i < N; i++) {
		expect_ok(fc_wait(&f->c, FC_REQUESTS, &calls[i]));
		expect_is(calls[i].reply_len, i + 1 < N ? LEN : LEN - 100 * KIB);
		expect(memcmp(calls[i].reply, data + i * LEN, calls[i].reply_len) == 0,
		       "other data in answer %u", i);
	}
	fs_claim_end(f);
}

/* A back-end in whose directory the file at slow/file answers late. args: more of its arguments, or NULL. */
static void start_slow(const char *program, const char *const *args, struct slowfs *slow,
		       struct backend *b, struct fc *c, struct file *ret)
{
	const struct backend_spec spec = {
		.program = program, .share = "", .n_queues = 1, .args = args
	};
	static const struct fc_spec everything;
	struct fuse_entry_out dir, e;
	struct fuse_open_out o;
	char path[700];
	int r = slowfs_start(slow, 16 * MIB);

	if (r == -ENOENT || r == -ENODEV)
		claim_skip("this kernel has no FUSE");
	expect_ok(r);
	expect_ok(backend_start(b, &spec));
	snprintf(path, sizeof(path), "%s/slow", b->share);
	expect(mkdir(path, 0755) == 0, "%s: %s", path, strerror(errno));
	expect(mount(slow->dir, path, NULL, MS_BIND, NULL) == 0, "%s: %s", path, strerror(errno));
	expect_ok(fc_begin(c, b->socket, &everything));
	expect_ok(fc_lookup(c, FC_ROOT, "slow", &dir));
	expect_ok(fc_lookup(c, dir.nodeid, strrchr(slow->path, '/') + 1, &e));
	expect_ok(fc_open(c, e.nodeid, O_RDWR, &o));
	*ret = (struct file){ .node = e.nodeid, .fh = o.fh };
}

static void stop_slow(struct slowfs *slow, struct backend *b, struct fc *c)
{
	char path[700];

	fc_end(c);
	snprintf(path, sizeof(path), "%s/slow", b->share);
	umount2(path, MNT_DETACH);
	backend_done(b);
	slowfs_stop(slow);
}

static void what_waits_for_a_disk_holds_nobody_up(struct claim_context *x)
{
	static struct slowfs slow;
	static struct backend b;
	static struct fc c;
	struct file file;
	struct fc_call read_call;

	start_slow(x->program, NULL, &slow, &b, &c, &file);
	slow.control->delay_ms = 1500;
	slow.control->n_reads_to_delay = 1;
	fc_call_init(&read_call, &c.fe.mem);
	fc_add(&c, FC_REQUESTS, &read_call,
	       &(struct fc_op){
		       .opcode = FUSE_READ,
		       .nodeid = file.node,
		       .part = { { &(struct fuse_read_in){ .fh = file.fh, .size = 256 * KIB },
				   sizeof(struct fuse_read_in) } },
		       .n_parts = 1,
		       .room = 256 * KIB });
	expect_ok(fc_getattr(&c, FC_ROOT, NULL));
	expect(!read_call.done, "the read was answered before the request behind it");
	expect_is(slow.control->n_landed, 0);
	expect_ok(fc_wait(&c, FC_REQUESTS, &read_call));
	expect_is(read_call.reply_len, 256 * KIB);
	stop_slow(&slow, &b, &c);
}

static int slow_truncate(struct fc *c, const struct file *file)
{
	struct fuse_setattr_in in = { .valid = FATTR_SIZE | FATTR_FH, .fh = file->fh, .size = 9 };

	return fc_setattr(c, file->node, &in, NULL);
}

static int slow_open(struct fc *c, const struct file *file)
{
	return fc_open(c, file->node, O_RDONLY, &(struct fuse_open_out){ 0 });
}

static int slow_flush(struct fc *c, const struct file *file)
{
	struct fuse_flush_in in = { .fh = file->fh };

	return fc_run(c, &(struct fc_op){ .opcode = FUSE_FLUSH,
					  .nodeid = file->node,
					  .part = { { &in, sizeof(in) } },
					  .n_parts = 1 });
}

static int slow_write(struct fc *c, const struct file *file)
{
	return fc_write(c, file->node, file->fh, 0, "text", 4) == 4 ? 0 : -EIO;
}

/* Of one batch, so that no turn of the device's loop comes between two of them. */
static int slow_opens(struct fc *c, const struct file *file)
{
	struct fuse_open_in in = { .flags = O_RDONLY };
	struct fc_call calls[6];
	int r = 0;

	for (unsigned i = 0; i < 6; i++) {
		fc_call_init(&calls[i], &c->fe.mem);
		fc_add(c, FC_REQUESTS, &calls[i],
		       &(struct fc_op){ .opcode = FUSE_OPEN,
					.nodeid = file->node,
					.part = { { &in, sizeof(in) } },
					.n_parts = 1,
					.room = sizeof(struct fuse_open_out) });
	}
	fc_kick(c, FC_REQUESTS);
	for (unsigned i = 0; i < 6 && r == 0; i++)
		r = fc_wait(c, FC_REQUESTS, &calls[i]);
	return r;
}

/* Whatever the guest asks for: a worker that waits for the host does not hang, and nobody is to blame. */
static void a_slow_host_is_no_hang(struct claim_context *x)
{
	static const struct {
		const char *what;
		int (*run)(struct fc *c, const struct file *file);
		unsigned opcode, n, ms;
	} rows[] = { { "open", slow_open, FUSE_OPEN, 1, 1200 },
		     { "opens", slow_opens, FUSE_OPEN, 6, 250 },
		     { "truncate", slow_truncate, FUSE_SETATTR, 1, 1200 },
		     { "write", slow_write, FUSE_WRITE, 1, 1200 },
		     { "flush", slow_flush, FUSE_FLUSH, 1, 1200 } };
	static const char *const args[] = { "--hang-timeout=500000", NULL };
	static struct slowfs slow;
	static struct backend b;
	static struct fc c;
	struct file file;
	pid_t worker;

	start_slow(x->program, args, &slow, &b, &c, &file);
	worker = backend_worker_await(b.pid, 0, 2000);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		slow.control->delay_ms = rows[i].ms;
		slow.control->other_opcode = rows[i].opcode;
		slow.control->n_others_to_delay = (int)rows[i].n;
		expect(rows[i].run(&c, &file) == 0, "%s fails", rows[i].what);
		expect_is(slow.control->n_others_to_delay, 0);
		expect(backend_worker(b.pid) == worker, "%s had the worker killed", rows[i].what);
	}
	stop_slow(&slow, &b, &c);
}

/* Two at a time, so that what can be done aside is. The flags that the host's file system sees. */
static uint32_t flags_on_the_host(struct fc *c, const struct slowfs *slow, const struct file *file,
				  uint32_t flags)
{
	uint8_t *page = fe_memory_alloc(&c->fe.mem, 4096, 4096);
	struct fuse_write_in in = { .fh = file->fh, .size = 4096, .flags = flags };
	struct fc_call calls[2];

	slow->control->write_flags = ~0u;
	for (unsigned i = 0; i < 2; i++) {
		fc_call_init(&calls[i], &c->fe.mem);
		fc_add(c, FC_REQUESTS, &calls[i],
		       &(struct fc_op){ .opcode = FUSE_WRITE,
					.nodeid = file->node,
					.part = { { &in, sizeof(in) }, { page, 4096 } },
					.n_parts = 2,
					.room = sizeof(struct fuse_write_out) });
	}
	fc_kick(c, FC_REQUESTS);
	for (unsigned i = 0; i < 2; i++)
		expect_ok(fc_wait(c, FC_REQUESTS, &calls[i]));
	return slow->control->write_flags;
}

/* RWF_DSYNC and RWF_SYNC, and O_DSYNC set by fcntl(), reach the device with each write alone. */
static void synchronous_writes_are_so_for_the_host(struct claim_context *x)
{
	static const char *const uncached_args[] = { "--cache=none", NULL };
	static const char *const direct_args[] = { "--cache=none", "--direct-io", NULL };
	static struct slowfs slow;
	static struct backend b;
	static struct fc c;
	struct file file;

	for (unsigned way = 0; way < 2; way++) {
		const uint32_t flags = O_RDWR | (way ? O_DIRECT : 0);
		struct fuse_open_out o;

		start_slow(x->program, way ? direct_args : uncached_args, &slow, &b, &c, &file);
		expect_ok(fc_open(&c, file.node, flags, &o));
		file.fh = o.fh;
		expect_is(flags_on_the_host(&c, &slow, &file, flags) & O_SYNC, 0);
		expect_is(flags_on_the_host(&c, &slow, &file, flags | O_DSYNC) & O_SYNC, O_DSYNC);
		expect_is(flags_on_the_host(&c, &slow, &file, flags | O_SYNC) & O_SYNC, O_SYNC);
		stop_slow(&slow, &b, &c);
		memset(&c, 0, sizeof(c));
	}
}

static void lease_breaks(int number)
{
}

/* A host process that has a lease on the file, and takes its time when it is told to give it up. */
static pid_t lease_begin(const char *path)
{
	int ready[2];
	pid_t pid;
	char c;

	expect(pipe(ready) == 0, "%s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		sigset_t io;
		int fd = open(path, O_RDWR | O_CLOEXEC);

		sigemptyset(&io);
		sigaddset(&io, SIGIO);
		sigprocmask(SIG_BLOCK, &io, NULL);
		signal(SIGIO, lease_breaks);
		if (fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0 || write(ready[1], "", 1) < 0)
			_exit(1);
		sigwaitinfo(&io, NULL);
		usleep(200000);
		_exit(0);
	}
	close(ready[1]);
	expect(read(ready[0], &c, 1) == 1, "no lease");
	close(ready[0]);
	return pid;
}

static void what_somebody_has_a_lease_on_is_waited_for(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "lease", NULL);
	const char *path = fs_claim_path(f, "file");
	struct fuse_setattr_in in = { .valid = FATTR_SIZE, .size = 2 };
	struct fuse_open_in open_in = { .flags = O_RDONLY };
	struct fuse_entry_out e;
	struct fc_call call;
	struct file file;
	pid_t pid;

	fs_claim_write(f, "file", "text");
	pid = lease_begin(path);
	file = open_existing(f, "file", O_RDWR);
	expect_ok(fc_release(&f->c, file.node, file.fh));
	waitpid(pid, NULL, 0);
	pid = lease_begin(path);
	expect_ok(fc_lookup(&f->c, f->dir, "file", &e));
	expect_ok(fc_setattr(&f->c, e.nodeid, &in, NULL));
	expect(fs_claim_holds(f, "file", "te"), "not truncated");
	waitpid(pid, NULL, 0);
	/* Nobody else waits. */
	pid = lease_begin(path);
	fc_call_init(&call, &f->c.fe.mem);
	fc_add(&f->c, FC_REQUESTS, &call,
	       &(struct fc_op){ .opcode = FUSE_OPEN,
				.nodeid = e.nodeid,
				.part = { { &open_in, sizeof(open_in) } },
				.n_parts = 1,
				.room = sizeof(struct fuse_open_out) });
	fc_kick(&f->c, FC_REQUESTS);
	expect_ok(fc_getattr(&f->c, FC_ROOT, NULL));
	expect(!call.done, "the lease was not heeded");
	expect_ok(fc_wait(&f->c, FC_REQUESTS, &call));
	waitpid(pid, NULL, 0);
	fs_claim_end(f);
}

static bool file_has(const char *path, const char *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	static char buffer[16 * MIB];
	ssize_t n = fd < 0 ? -1 : read(fd, buffer, sizeof(buffer));

	close(fd);
	return n > 0 && memmem(buffer, (size_t)n, text, strlen(text));
}

/* For a guest that takes them for one. What is on the disk of the inner one is a file here. */
static void sync_is_for_all_file_systems_below(struct claim_context *x)
{
	struct backend_spec spec = { .program = x->program, .share = "", .n_queues = 1 };
	static const struct fc_spec everything;
	static struct backend b;
	static struct fc c;
	struct fuse_syncfs_in in = {};
	struct fuse_entry_out e;
	struct fc_opened o;
	char disk[200], command[1500];

	expect(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0,
	       "%s", strerror(errno));
	expect_ok(backend_start(&b, &spec));
	snprintf(disk, sizeof(disk), "%s/disk", b.dir);
	snprintf(command, sizeof(command),
		 "mkdir %s/inner && truncate -s 16M %s && mkfs.ext4 -q -O ^has_journal %s && "
		 "mount -o loop %s %s/inner 2>/dev/null",
		 b.share, disk, disk, disk, b.share);
	if (system(command) != 0) {
		backend_done(&b);
		claim_skip("no loop device with ext4 here");
	}
	expect_ok(fc_begin(&c, b.socket, &everything));
	expect_ok(fc_lookup(&c, FC_ROOT, "inner", &e));
	expect_ok(fc_create(&c, e.nodeid, "file", O_RDWR | O_CREAT, S_IFREG | 0644, &o));
	expect_is(fc_write(&c, o.entry.nodeid, o.open.fh, 0, "to be durable", 13), 13);
	expect(!file_has(disk, "to be durable"), "it is on the disk before");
	expect_ok(fc_run(&c, &(struct fc_op){ .opcode = FUSE_SYNCFS,
					      .nodeid = FC_ROOT,
					      .part = { { &in, sizeof(in) } },
					      .n_parts = 1 }));
	expect(file_has(disk, "to be durable"), "it is not on the disk");
	fc_end(&c);
	snprintf(command, sizeof(command), "%s/inner", b.share);
	backend_stop(&b, &(int){ 0 });
	umount2(command, MNT_DETACH);
	backend_done(&b);
}

#define CLAIM(name, spec)                                                                          \
	{                                                                                          \
#name, name, &spec                                                                 \
	}

static const struct claim claims[] = {
	CLAIM(data_comes_back_as_it_was_written, plain),
	CLAIM(no_more_is_written_than_the_request_is_long, plain),
	CLAIM(reading_ends_with_the_file, plain),
	CLAIM(handles_are_for_what_they_were_opened_for, plain),
	CLAIM(appending_goes_to_the_end, plain),
	CLAIM(appending_begins_and_ends_in_the_guest, plain),
	CLAIM(pages_of_the_guests_cache_are_not_appended, plain),
	CLAIM(an_open_file_outlives_its_name, plain),
	CLAIM(truncation_by_open, plain),
	CLAIM(nothing_but_files_is_opened, plain),
	CLAIM(setuid_ends_by_writing, plain),
	CLAIM(setuid_ends_by_allocation_and_copy, plain),
	CLAIM(sgid_that_is_not_for_execution_stays_for_its_group, plain),
	CLAIM(capabilities_end_by_any_change, plain),
	CLAIM(modes_with_setuid_bits_are_not_to_be_believed, plain),
	CLAIM(holes_are_holes, plain),
	CLAIM(allocation_keeps_or_sets_the_size, plain),
	CLAIM(ranges_are_copied, plain),
	CLAIM(syncing_is_answered_when_done, plain),
	CLAIM(large_reads_at_the_same_time_have_their_data, plain),
	CLAIM(what_waits_for_a_disk_holds_nobody_up, plain),
	CLAIM(a_slow_host_is_no_hang, plain),
	CLAIM(synchronous_writes_are_so_for_the_host, plain),
	CLAIM(what_somebody_has_a_lease_on_is_waited_for, plain),
	CLAIM(sync_is_for_all_file_systems_below, plain),
	CLAIM(open_files_outlive_the_worker, plain),
	CLAIM(the_guest_may_keep_little_by_itself, plain),
	CLAIM(a_writeback_cache_says_where_to_append, writeback),
	CLAIM(direct_transfers_are_aligned, direct),
	CLAIM(a_read_only_device_opens_for_reading, read_only),
	CLAIM(the_guest_may_keep_nothing_uncached, uncached),
	CLAIM(the_guest_may_keep_all_cached, cached),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
