/*
 * Claims about a file system device's session: what it says of itself, INIT, requests that are none.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/fs-claim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_fs.h>
#include <signal.h>
#include <unistd.h>

enum { MANY = 3000 };

static const struct backend_spec two_queues = { .share = "", .n_queues = 2 };
static const struct backend_spec readonly = {
	.share = "", .n_queues = 1, .args = (const char *const[]){ "--read-only", NULL }
};
static const struct backend_spec writeback = { .share = "",
					       .n_queues = 1,
					       .args = (const char *const[]){
						       "--writeback", "--cache=always", NULL } };

static const struct backend_spec no_locks = { .share = "",
					      .n_queues = 1,
					      .args = (const char *const[]){ "--no-locks", NULL } };

static struct fc c;

static void begin(struct claim_context *x, const struct fc_spec *spec)
{
	static const struct fc_spec everything;

	expect_ok(fc_begin(&c, x->backend.socket, spec ? spec : &everything));
}

static void end(void)
{
	expect(!fe_gone(&c.fe), "the back-end has hung up");
	fc_end(&c);
}

static int run(uint32_t opcode, uint64_t nodeid, const void *args, size_t len, uint32_t room)
{
	struct fc_op op = { .opcode = opcode,
			    .nodeid = nodeid,
			    .part = { { args, len } },
			    .n_parts = len > 0,
			    .room = room };

	return fc_run(&c, &op);
}

static int run_init(const struct fuse_init_in *in, size_t len)
{
	return run(FUSE_INIT, 0, in, len, sizeof(struct fuse_init_out));
}

static void the_configuration_space_has_tag_and_request_queues(struct claim_context *x)
{
	static const struct fc_spec spec = { .session = { .n_queues = 2 } };
	struct virtio_fs_config config;
	char tag[sizeof(config.tag)] = "test";

	begin(x, &spec);
	expect_ok(fe_get_config(&c.fe, 0, sizeof(config), &config));
	expect(memcmp(config.tag, tag, sizeof(tag)) == 0, "tag %.36s", config.tag);
	expect_is(config.num_request_queues, 2);
	end();
}

static void each_queue_carries_requests(struct claim_context *x)
{
	static const struct fc_spec spec = { .session = { .n_queues = 2 } };
	struct fuse_attr attr;

	begin(x, &spec);
	for (c.queue = 0; c.queue < 3; c.queue++)
		expect_ok(fc_getattr(&c, FC_ROOT, &attr));
	end();
}

static void nothing_is_done_before_init(struct claim_context *x)
{
	static const struct fc_spec spec = { .no_init = true };
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = 38 };
	struct fuse_entry_out e;
	struct fuse_attr attr;
	char path[300];

	begin(x, &spec);
	expect_is(fc_getattr(&c, FC_ROOT, &attr), -EIO);
	expect_is(fc_mkdir(&c, FC_ROOT, "early", 0755, &e), -EIO);
	snprintf(path, sizeof(path), "%s/early", x->backend.share);
	expect(access(path, F_OK) < 0, "it was made");
	expect_ok(run_init(&in, sizeof(in)));
	expect_ok(fc_getattr(&c, FC_ROOT, &attr));
	end();
}

static void an_unknown_request_is_not_implemented(struct claim_context *x)
{
	begin(x, NULL);
	expect_is(run(0, FC_ROOT, NULL, 0, 0), -ENOSYS);
	expect_is(run(FUSE_IOCTL, FC_ROOT, NULL, 0, 64), -ENOSYS);
	expect_is(run(4000, FC_ROOT, NULL, 0, 64), -ENOSYS);
	expect_is(run(UINT32_MAX, FC_ROOT, NULL, 0, 64), -ENOSYS);
	end();
}

static void arguments_that_are_too_short_or_too_long_are_refused(struct claim_context *x)
{
	static uint8_t args[100 << 10];
	struct fuse_attr attr;

	begin(x, NULL);
	expect_is(run(FUSE_GETATTR, FC_ROOT, args, sizeof(struct fuse_getattr_in) - 1, 256),
		  -EINVAL);
	expect_is(run(FUSE_GETATTR, FC_ROOT, NULL, 0, 256), -EINVAL);
	expect_is(run(FUSE_WRITE, FC_ROOT, args, sizeof(struct fuse_write_in) - 1, 8), -EINVAL);
	memset(args, 'a', sizeof(args));
	expect_is(run(FUSE_LOOKUP, FC_ROOT, args, sizeof(args), 256), -E2BIG);
	/* No NUL ends the name. */
	expect_is(run(FUSE_LOOKUP, FC_ROOT, args, 10, 256), -EINVAL);
	expect_ok(fc_getattr(&c, FC_ROOT, &attr));
	end();
}

static void an_answer_without_room_is_an_error(struct claim_context *x)
{
	struct fuse_getattr_in in = { 0 };

	begin(x, NULL);
	expect_is(run(FUSE_GETATTR, FC_ROOT, &in, sizeof(in), sizeof(struct fuse_attr_out) - 1),
		  -EINVAL);
	expect_is(run(FUSE_GETATTR, FC_ROOT, &in, sizeof(in), 0), -EINVAL);
	expect_ok(run(FUSE_GETATTR, FC_ROOT, &in, sizeof(in), sizeof(struct fuse_attr_out)));
	end();
}

/* A GETATTR whose header says this length; what the device answered. */
static int with_length(uint32_t len)
{
	struct fuse_getattr_in in = { 0 };
	struct fc_op op = { .opcode = FUSE_GETATTR,
			    .nodeid = FC_ROOT,
			    .part = { { &in, sizeof(in) } },
			    .n_parts = 1,
			    .room = sizeof(struct fuse_attr_out) };

	fc_add(&c, c.queue, &c.call, &op);
	c.call.header->len = len;
	fc_kick(&c, c.queue);
	return fc_wait(&c, c.queue, &c.call);
}

static void a_header_with_a_wrong_length_is_refused(struct claim_context *x)
{
	const uint32_t right = sizeof(struct fuse_in_header) + sizeof(struct fuse_getattr_in);

	begin(x, NULL);
	expect_ok(with_length(right));
	expect_is(with_length(0), -EINVAL);
	expect_is(with_length(sizeof(struct fuse_in_header) - 1), -EINVAL);
	expect_is(with_length(sizeof(struct fuse_in_header)), -EINVAL);
	expect_is(with_length(right - 1), -EINVAL);
	expect_is(with_length(right + 1), -EINVAL);
	expect_is(with_length(UINT32_MAX), -EINVAL);
	expect_ok(with_length(right));
	end();
}

/* A chain of these two; the number of bytes that the device says it wrote. */
static uint32_t raw(uint32_t readable, uint32_t writable)
{
	struct fe_queue *q = &c.fe.queues[FC_REQUESTS];
	struct fe_sg sg[2] = { { c.call.args, readable }, { c.call.reply, writable } };
	unsigned n_out = readable > 0, n_in = writable > 0;
	struct fe_used used;

	memset(c.call.reply, 0x5a, 4096);
	expect(fe_queue_add(q, n_out ? sg : sg + 1, n_out, n_in, &c) >= 0, "the queue is full");
	fe_queue_kick(q);
	while (!fe_queue_pop(q, &used))
		expect(fe_queue_wait(q, 20000) == 1, "no answer");
	expect(used.user == &c, "another chain");
	return used.len;
}

static bool says(int error)
{
	const struct fuse_out_header *h = (const struct fuse_out_header *)(void *)c.call.reply;

	return h->len == sizeof(*h) && h->error == error;
}

static bool untouched(uint32_t from)
{
	for (uint32_t i = from; i < 4096; i++)
		if (c.call.reply[i] != 0x5a)
			return false;
	return true;
}

static void a_chain_without_a_header_is_given_back(struct claim_context *x)
{
	const uint32_t answer = sizeof(struct fuse_out_header);
	struct fuse_attr attr;

	begin(x, NULL);
	memset(c.call.args, 0xff, 4096);
	expect_is(raw(0, 4096), answer);
	expect(says(-EINVAL) && untouched(answer), "another answer");
	expect_is(raw(39, 4096), answer);
	expect(says(-EINVAL) && untouched(answer), "another answer");
	expect_is(raw(39, answer), answer);
	expect(says(-EINVAL) && untouched(answer), "another answer");
	expect_is(raw(39, answer - 1), 0);
	expect(untouched(0), "written beyond the buffer");
	expect_is(raw(39, 0), 0);
	expect_is(raw(4096, 0), 0);
	expect_ok(fc_getattr(&c, FC_ROOT, &attr));
	end();
}

static void init_takes_the_older_minor_version_and_what_both_know(struct claim_context *x)
{
	static const struct fc_spec spec = { .no_init = true };
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION,
				   .minor = 31,
				   .max_readahead = 12345,
				   .flags = FUSE_PARALLEL_DIROPS | FUSE_WRITEBACK_CACHE };
	const struct fuse_init_out *out;

	begin(x, &spec);
	out = (const struct fuse_init_out *)(const void *)c.call.reply;
	/* Before 7.36 the structure ended with flags. */
	expect_ok(run_init(&in, 16));
	expect_is(c.call.reply_len, sizeof(*out));
	expect_is(out->major, FUSE_KERNEL_VERSION);
	expect_is(out->minor, 31);
	expect_is(out->flags, FUSE_PARALLEL_DIROPS);
	expect_is(out->max_write, 1 << 20);
	expect_is(out->max_readahead, 12345);
	expect_is(out->time_gran, 1);
	in.minor = 1000;
	in.flags = UINT32_MAX;
	in.flags2 = UINT32_MAX;
	expect_ok(run_init(&in, sizeof(in)));
	expect(out->minor >= 38 && out->minor < 1000, "minor %u", out->minor);
	expect_is(out->max_pages, 256);
	expect(out->flags & FUSE_HANDLE_KILLPRIV_V2 && !(out->flags & FUSE_EXPORT_SUPPORT) &&
		       !(out->flags & FUSE_WRITEBACK_CACHE) && !(out->flags & FUSE_POSIX_ACL),
	       "flags %x", out->flags);
	end();
}

static void init_of_another_major_version_is_answered_as_the_protocol_says(struct claim_context *x)
{
	static const struct fc_spec spec = { .no_init = true };
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION + 1, .minor = 0 };
	const struct fuse_init_out *out;
	struct fuse_attr attr;

	begin(x, &spec);
	out = (const struct fuse_init_out *)(const void *)c.call.reply;
	expect_ok(run_init(&in, sizeof(in)));
	expect_is(out->major, FUSE_KERNEL_VERSION);
	/* Nothing is agreed on yet. */
	expect_is(fc_getattr(&c, FC_ROOT, &attr), -EIO);
	in.major = FUSE_KERNEL_VERSION - 1;
	expect_is(run_init(&in, sizeof(in)), -EPROTO);
	in = (struct fuse_init_in){ .major = FUSE_KERNEL_VERSION, .minor = 30 };
	expect_is(run_init(&in, sizeof(in)), -EPROTO);
	expect_is(fc_getattr(&c, FC_ROOT, &attr), -EIO);
	end();
}

/* What an option asks for is offered, and nothing else. */
static void options_are_offered_in_init(struct claim_context *x)
{
	begin(x, NULL);
	expect(c.flags & FUSE_WRITEBACK_CACHE && c.flags & FUSE_CACHE_SYMLINKS &&
		       !(c.flags & FUSE_AUTO_INVAL_DATA),
	       "flags %llx", (unsigned long long)c.flags);
	end();
}

static void locks_may_be_left_to_the_guest(struct claim_context *x)
{
	begin(x, NULL);
	expect_is(c.flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS), 0);
	end();
}

static void locks_are_the_devices(struct claim_context *x)
{
	begin(x, NULL);
	expect(c.flags & FUSE_POSIX_LOCKS && c.flags & FUSE_FLOCK_LOCKS, "flags %llx",
	       (unsigned long long)c.flags);
	end();
}

static void expect_forgotten(uint64_t nodeid, uint64_t fh)
{
	struct fuse_attr attr;
	char byte;

	expect(fc_getattr(&c, nodeid, &attr) < 0, "the inode is still known");
	expect_is(fc_read(&c, nodeid, fh, 0, &byte, 1), -EBADF);
	expect_ok(fc_getattr(&c, FC_ROOT, &attr));
}

/* A file that is looked up and open. */
static void know_a_file(const char *name, uint64_t *ret_nodeid, uint64_t *ret_fh)
{
	struct fc_opened o;

	expect_ok(fc_create(&c, FC_ROOT, name, O_RDWR, 0644, &o));
	*ret_nodeid = o.entry.nodeid;
	*ret_fh = o.open.fh;
	expect_is(fc_write(&c, *ret_nodeid, *ret_fh, 0, "x", 1), 1);
}

static void a_new_mount_begins_with_nothing(struct claim_context *x)
{
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = 38 };
	uint64_t nodeid, fh;

	begin(x, NULL);
	know_a_file("init", &nodeid, &fh);
	expect_ok(run_init(&in, sizeof(in)));
	expect_forgotten(nodeid, fh);
	know_a_file("destroy", &nodeid, &fh);
	expect_ok(run(FUSE_DESTROY, 0, NULL, 0, 0));
	expect_is(fc_lookup(&c, FC_ROOT, "destroy", NULL), -EIO);
	expect_ok(run_init(&in, sizeof(in)));
	expect_forgotten(nodeid, fh);
	end();
}

static void the_next_session_begins_with_nothing(struct claim_context *x)
{
	uint64_t nodeid, fh;

	begin(x, NULL);
	know_a_file("session", &nodeid, &fh);
	end();
	begin(x, NULL);
	expect_forgotten(nodeid, fh);
	end();
}

static void a_read_only_device_refuses_whatever_changes_something(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "readonly", NULL);
	struct fuse_setattr_in attr = { .valid = FATTR_MODE, .mode = 0600 };
	struct fuse_entry_out e;
	struct fc_opened o;

	fs_claim_write(f, "file", "text");
	expect_ok(fc_lookup(&f->c, f->dir, "file", &e));
	expect_is(fc_mkdir(&f->c, f->dir, "d", 0755, NULL), -EROFS);
	expect_is(fc_mknod(&f->c, f->dir, "n", S_IFREG | 0644, 0, NULL), -EROFS);
	expect_is(fc_symlink(&f->c, f->dir, "s", "t", NULL), -EROFS);
	expect_is(fc_link(&f->c, e.nodeid, f->dir, "l", NULL), -EROFS);
	expect_is(fc_create(&f->c, f->dir, "c", O_RDWR, 0644, &o), -EROFS);
	expect_is(fc_unlink(&f->c, f->dir, "file"), -EROFS);
	expect_is(fc_rmdir(&f->c, f->dir, "file"), -EROFS);
	expect_is(fc_rename(&f->c, f->dir, "file", f->dir, "other", 0), -EROFS);
	expect_is(fc_setattr(&f->c, e.nodeid, &attr, NULL), -EROFS);
	expect_is(fc_setxattr(&f->c, e.nodeid, "user.a", "v", 1, 0), -EROFS);
	expect_is(fc_open(&f->c, e.nodeid, O_RDWR, NULL), -EROFS);
	expect_is(fc_open(&f->c, e.nodeid, O_RDONLY | O_TRUNC, NULL), -EROFS);
	expect(fs_claim_holds(f, "file", "text"), "it was changed");
	fs_claim_end(f);
}

static void kill_worker(struct claim_context *x)
{
	pid_t worker = backend_worker(x->backend.pid);

	expect(worker > 0 && kill(worker, SIGKILL) == 0, "no worker");
	expect(backend_worker_await(x->backend.pid, worker, 5000) > 0, "no next worker");
}

/* All are found again by their ids, also what has no name any more; and forgotten descriptors are closed. */
static void whatever_was_known_is_known_over_deaths(struct claim_context *x)
{
	static uint64_t ids[MANY];
	struct fs_claim *f = fs_claim_begin(x, "known", NULL);
	struct fc_opened o;
	struct fuse_attr attr;
	char name[32], got[8];

	expect_ok(fc_create(&f->c, f->dir, "open", O_RDWR, 0644, &o));
	expect_is(fc_write(&f->c, o.entry.nodeid, o.open.fh, 0, "kept", 4), 4);
	expect_ok(fc_unlink(&f->c, f->dir, "open"));
	for (int i = 0; i < MANY; i++) {
		struct fuse_entry_out e;

		snprintf(name, sizeof(name), "%d", i);
		fs_claim_write(f, name, name);
		expect_ok(fc_lookup(&f->c, f->dir, name, &e));
		ids[i] = e.nodeid;
	}
	for (int k = 0; k < 5; k++) {
		kill_worker(x);
		for (int i = k; i < MANY; i += 7) {
			snprintf(name, sizeof(name), "%d", i);
			expect_ok(fc_getattr(&f->c, ids[i], &attr));
			expect_is(attr.ino, fs_claim_stat(f, name).st_ino);
		}
		expect_is(fc_read(&f->c, o.entry.nodeid, o.open.fh, 0, got, sizeof(got)), 4);
		expect(memcmp(got, "kept", 4) == 0, "other text");
	}
	for (int i = 0; i < MANY; i++)
		fc_forget(&f->c, ids[i], 1);
	kill_worker(x);
	expect(fc_getattr(&f->c, ids[MANY - 1], &attr) < 0, "it is still known");
	expect_is(fc_read(&f->c, o.entry.nodeid, o.open.fh, 0, got, sizeof(got)), 4);
	fs_claim_end(f);
}

#define CLAIM(name, spec)                                                                          \
	{                                                                                          \
#name, name, spec                                                                  \
	}

static const struct claim claims[] = {
	CLAIM(the_configuration_space_has_tag_and_request_queues, &two_queues),
	CLAIM(each_queue_carries_requests, &two_queues),
	CLAIM(nothing_is_done_before_init, &two_queues),
	CLAIM(an_unknown_request_is_not_implemented, &two_queues),
	CLAIM(arguments_that_are_too_short_or_too_long_are_refused, &two_queues),
	CLAIM(an_answer_without_room_is_an_error, &two_queues),
	CLAIM(a_header_with_a_wrong_length_is_refused, &two_queues),
	CLAIM(a_chain_without_a_header_is_given_back, &two_queues),
	CLAIM(init_takes_the_older_minor_version_and_what_both_know, &two_queues),
	CLAIM(init_of_another_major_version_is_answered_as_the_protocol_says, &two_queues),
	CLAIM(options_are_offered_in_init, &writeback),
	CLAIM(locks_may_be_left_to_the_guest, &no_locks),
	CLAIM(locks_are_the_devices, &two_queues),
	CLAIM(a_new_mount_begins_with_nothing, &two_queues),
	CLAIM(the_next_session_begins_with_nothing, &two_queues),
	CLAIM(a_read_only_device_refuses_whatever_changes_something, &readonly),
	CLAIM(whatever_was_known_is_known_over_deaths, &two_queues),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
