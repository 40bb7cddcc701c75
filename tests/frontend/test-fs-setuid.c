/*
 * Claims about when a change of a file ends its setuid and setgid bits, and its capabilities.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/fs-file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

static const struct backend_spec plain = { .share = "", .n_queues = 2 };

enum { SETUID_MODE = S_IFREG | 06777 };

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
	expect_ok(run_op(f,
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
	int r = run_op(
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

	return run_op(f,
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

#define CLAIM(name, spec)                                                                          \
	{                                                                                          \
#name, name, &spec                                                                 \
	}

static const struct claim claims[] = {
	CLAIM(setuid_ends_by_writing, plain),
	CLAIM(setuid_ends_by_allocation_and_copy, plain),
	CLAIM(sgid_that_is_not_for_execution_stays_for_its_group, plain),
	CLAIM(capabilities_end_by_any_change, plain),
	CLAIM(modes_with_setuid_bits_are_not_to_be_believed, plain),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
