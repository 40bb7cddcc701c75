/*
 * Claims about open files of a shared directory and what is in them.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/fill.h"
#include "tests/frontend/fs-file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
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

enum { KIB = 1 << 10, MIB = 1 << 20 };

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
	expect_ok(run_op(
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
		       uint32_t len, uint32_t flags)
{
	struct fc_call *call = &f->c.call;
	struct fuse_write_in in = { .fh = file->fh, .size = len, .write_flags = flags };
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
	expect_is(write_pages(f, &file, pages, 0, sizeof(got), 0), sizeof(got));
	expect_is(fc_read(&f->c, file.node, file.fh, 0, got, sizeof(got)), sizeof(got));
	expect(memcmp(pages, got, sizeof(got)) == 0, "other data");
	/* As with any file: what the host's file system cannot do is an error, not something else. */
	r = write_pages(f, &file, pages, 3, 5, 0);
	expect(r == -EINVAL || r == 5, "%d", r);
	fs_claim_end(f);
}

/* A mapping of a file that is open for direct I/O alone: its last page ends where the file does. */
static void pages_are_written_back_by_a_direct_handle(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "mapped", NULL);
	uint8_t *pages = fe_memory_alloc(&f->c.fe.mem, 64 * KIB, 4096);
	struct file file = create(f, "file", O_RDWR | O_DIRECT);

	memcpy(pages, "text and", 8);
	expect_is(write_pages(f, &file, pages, 0, 5, FUSE_WRITE_CACHE), 5);
	expect(fs_claim_holds(f, "file", "text "), "other data");
	fs_claim_end(f);
}

static int64_t seek(struct fs_claim *f, const struct file *file, uint64_t offset, uint32_t whence)
{
	struct fuse_lseek_in in = { .fh = file->fh, .offset = offset, .whence = whence };
	struct fuse_lseek_out out;
	int r = run_op(
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
	expect_ok(run_op(f, op, &in, sizeof(in), &out));
	expect_is(out.size, 7);
	expect(fs_claim_holds(f, "to", "abcde3456789"), "something else was copied");
	in.nodeid_out = from.node; /* is not what the handle is of */
	expect_is(run_op(f, op, &in, sizeof(in), NULL), -EBADF);
	in.nodeid_out = to.node;
	in.flags = 1;
	expect_is(run_op(f, op, &in, sizeof(in), NULL), -EINVAL);
	in.flags = 0;
	in.off_out = UINT64_MAX;
	expect_is(run_op(f, op, &in, sizeof(in), NULL), -EINVAL);
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
	expect_ok(run_op(f, (struct fc_op){ .opcode = FUSE_FSYNC, .nodeid = file.node }, &in,
			 sizeof(in), NULL));
	in.fsync_flags = FUSE_FSYNC_FDATASYNC;
	expect_ok(run_op(f, (struct fc_op){ .opcode = FUSE_FSYNC, .nodeid = file.node }, &in,
			 sizeof(in), NULL));
	expect_ok(run_op(f, (struct fc_op){ .opcode = FUSE_FLUSH, .nodeid = file.node }, &flush,
			 sizeof(flush), NULL));
	expect_ok(fc_opendir(&f->c, f->dir, &dir));
	expect_is(run_op(f, (struct fc_op){ .opcode = FUSE_FSYNCDIR, .nodeid = f->dir }, &in,
			 sizeof(in), NULL),
		  -EBADF);
	in.fh = dir.fh;
	expect_ok(run_op(f, (struct fc_op){ .opcode = FUSE_FSYNCDIR, .nodeid = f->dir }, &in,
			 sizeof(in), NULL));
	expect_ok(run_op(f, (struct fc_op){ .opcode = FUSE_SYNCFS, .nodeid = FC_ROOT }, &all,
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
	CLAIM(holes_are_holes, plain),
	CLAIM(allocation_keeps_or_sets_the_size, plain),
	CLAIM(ranges_are_copied, plain),
	CLAIM(syncing_is_answered_when_done, plain),
	CLAIM(large_reads_at_the_same_time_have_their_data, plain),
	CLAIM(open_files_outlive_the_worker, plain),
	CLAIM(the_guest_may_keep_little_by_itself, plain),
	CLAIM(a_writeback_cache_says_where_to_append, writeback),
	CLAIM(direct_transfers_are_aligned, direct),
	CLAIM(pages_are_written_back_by_a_direct_handle, direct),
	CLAIM(a_read_only_device_opens_for_reading, read_only),
	CLAIM(the_guest_may_keep_nothing_uncached, uncached),
	CLAIM(the_guest_may_keep_all_cached, cached),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
