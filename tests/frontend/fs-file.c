/* Open files in claims about a file system device. See fs-file.h. */
#include "tests/frontend/fs-file.h"

#include <fcntl.h>

struct file create(struct fs_claim *f, const char *name, uint32_t flags)
{
	struct fc_opened o;

	expect_ok(fc_create(&f->c, f->dir, name, flags | O_CREAT, S_IFREG | 0644, &o));
	return (struct file){ o.entry.nodeid, o.open.fh, o.open.open_flags, flags };
}

int open_file(struct fs_claim *f, const char *name, uint32_t flags, struct file *ret)
{
	struct fuse_entry_out e;
	struct fuse_open_out o = {};
	int r;

	expect_ok(fc_lookup(&f->c, f->dir, name, &e));
	r = fc_open(&f->c, e.nodeid, flags, &o);
	*ret = (struct file){ e.nodeid, o.fh, o.open_flags, flags };
	return r;
}

struct file open_existing(struct fs_claim *f, const char *name, uint32_t flags)
{
	struct file file;

	expect_ok(open_file(f, name, flags, &file));
	return file;
}

int run_op(struct fs_claim *f, struct fc_op op, const void *in, size_t len, void *ret)
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

int write_flags(struct fs_claim *f, const struct file *file, struct fuse_write_in in,
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

int write_text(struct fs_claim *f, const struct file *file, uint64_t offset, const char *text)
{
	return write_flags(f, file, (struct fuse_write_in){ .offset = offset }, text);
}

void reads(struct fs_claim *f, const struct file *file, uint64_t offset, size_t len,
	   const char *text)
{
	char got[4096];
	int n = fc_read(&f->c, file->node, file->fh, offset, got, len);

	expect(n == (int)strlen(text) && memcmp(got, text, (size_t)n) == 0, "%d: %.*s, not %s", n,
	       n > 0 ? n : 0, got, text);
}

int falloc(struct fs_claim *f, const struct file *file, struct fuse_fallocate_in in)
{
	in.fh = file->fh;
	return run_op(f, (struct fc_op){ .opcode = FUSE_FALLOCATE, .nodeid = file->node }, &in,
		      sizeof(in), NULL);
}
