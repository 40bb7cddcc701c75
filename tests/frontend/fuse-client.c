/*
 * FUSE requests (VIRTIO 1.3 §5.11.6), one at a time or many in flight.
 *
 * Runs in: test programs. Trusts: its caller.
 *
 * Chains are those of Linux's driver: header and each argument in a descriptor of its own, then header and payload of the answer.
 */
#include "tests/frontend/fuse-client.h"

#include <err.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define FC_TIMEOUT_MS 20000
/* What the answer's header holds until the device has written it. */
#define FC_UNANSWERED 0x5a5a5a5a

/* The largest minor version that this client speaks, whatever the header is from. */
#define FC_MINOR	     39
#define FC_CREATE_SUPP_GROUP (UINT64_C(1) << 34)

/* Everything but what changes the meaning of requests that the tests do not know. */
#define FC_FLAGS                                                                                   \
	(FUSE_ASYNC_READ | FUSE_POSIX_LOCKS | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |              \
	 FUSE_DONT_MASK | FUSE_FLOCK_LOCKS | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS |          \
	 FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_WRITEBACK_CACHE | FUSE_PARALLEL_DIROPS |    \
	 FUSE_POSIX_ACL | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_SUBMOUNTS |                  \
	 FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_INIT_EXT | FUSE_SECURITY_CTX |         \
	 FC_CREATE_SUPP_GROUP)

void fc_call_init(struct fc_call *call, struct fe_memory *m)
{
	memset(call, 0, sizeof(*call));
	call->header = fe_memory_alloc(m, sizeof(*call->header), 8);
	call->answer = fe_memory_alloc(m, sizeof(*call->answer), 8);
	call->args = fe_memory_alloc(m, FC_ARGS_LEN + FC_DATA_LEN, 4096);
	call->reply = fe_memory_alloc(m, FC_REPLY_LEN, 4096);
	call->done = true;
}

/* The parts after each other, each at a multiple of 8. Descriptors from sg[1] on; how many. */
static unsigned lay_out(struct fc_call *call, const struct fc_op *op, struct fe_sg *sg)
{
	size_t at = 0, total = 0;
	unsigned n = 1;

	for (unsigned i = 0; i < op->n_parts; i++) {
		total += op->part[i].len;
		if (op->part[i].len == 0)
			continue;
		if (at + op->part[i].len > FC_ARGS_LEN + FC_DATA_LEN)
			errx(1, "a request of this test is too long");
		memcpy(call->args + at, op->part[i].p, op->part[i].len);
		sg[n++] = (struct fe_sg){ call->args + at, (uint32_t)op->part[i].len };
		at = (at + op->part[i].len + 7) & ~(size_t)7;
	}
	call->header->len = (uint32_t)(sizeof(*call->header) + total);
	return n;
}

void fc_add(struct fc *c, unsigned queue, struct fc_call *call, const struct fc_op *op)
{
	struct fe_sg sg[FC_MAX_PARTS + 3];
	unsigned n_out, n_in = 0;
	int r;

	*call->header = (struct fuse_in_header){ .opcode = op->opcode,
						 .unique = c->unique += 2,
						 .nodeid = op->nodeid,
						 .uid = c->uid,
						 .gid = c->gid,
						 .pid = c->pid,
						 .total_extlen = op->extension_len };
	memset(call->answer, FC_UNANSWERED & 0xff, sizeof(*call->answer));
	call->unique = c->unique;
	call->room = op->room;
	call->done = false;
	call->error = -EBADMSG;
	sg[0] = (struct fe_sg){ call->header, sizeof(*call->header) };
	n_out = lay_out(call, op, sg);
	if (!op->no_answer)
		sg[n_out + n_in++] = (struct fe_sg){ call->answer, sizeof(*call->answer) };
	if (op->room > FC_REPLY_LEN)
		errx(1, "a request of this test wants too much");
	if (op->room > 0)
		sg[n_out + n_in++] = (struct fe_sg){ call->reply, op->room };
	r = fe_queue_add(&c->fe.queues[queue], sg, n_out, n_in, call);
	if (r < 0)
		errx(1, "the queue is full");
}

void fc_kick(struct fc *c, unsigned queue)
{
	fe_queue_kick(&c->fe.queues[queue]);
}

/* Is the answer one to this request? */
static int judge(const struct fc_call *call, uint32_t used_len)
{
	const struct fuse_out_header *a = call->answer;

	if (a->unique != call->unique || a->len < sizeof(*a) || a->len != used_len ||
	    a->len > sizeof(*a) + call->room || a->error > 0 || a->error < -4095 ||
	    (a->error != 0 && a->len != sizeof(*a)))
		return -EBADMSG;
	return a->error;
}

static void finish(struct fc_call *call, uint32_t used_len)
{
	call->done = true;
	call->used_len = used_len;
	call->error = judge(call, used_len);
	call->reply_len = call->error == 0 ? used_len - (uint32_t)sizeof(*call->answer) : 0;
}

unsigned fc_reap(struct fc *c, unsigned queue)
{
	struct fe_used used;
	unsigned n = 0;

	for (; fe_queue_pop(&c->fe.queues[queue], &used); n++)
		finish(used.user, used.len);
	return n;
}

int fc_wait(struct fc *c, unsigned queue, struct fc_call *call)
{
	while (fc_reap(c, queue), !call->done)
		if (!fe_queue_wait(&c->fe.queues[queue], FC_TIMEOUT_MS))
			errx(1, "no answer to request %lu, opcode %u", (unsigned long)call->unique,
			     call->header->opcode);
	return call->error;
}

int fc_run(struct fc *c, const struct fc_op *op)
{
	fc_add(c, c->queue, &c->call, op);
	fc_kick(c, c->queue);
	return fc_wait(c, c->queue, &c->call);
}

/* An answer of exactly this payload. */
static int run_for(struct fc *c, const struct fc_op *op, void *ret)
{
	int r = fc_run(c, op);

	if (r == 0 && c->call.reply_len != op->room)
		return -EBADMSG;
	if (r == 0 && ret)
		memcpy(ret, c->call.reply, op->room);
	return r;
}

static int init(struct fc *c, const struct fc_spec *spec)
{
	uint64_t wanted = FC_FLAGS & ~spec->flags_not;
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION,
				   .minor = FC_MINOR,
				   .max_readahead = 128 << 10,
				   .flags = (uint32_t)wanted,
				   .flags2 = (uint32_t)(wanted >> 32) };
	struct fc_op op = { .opcode = FUSE_INIT,
			    .part = { { &in, sizeof(in) } },
			    .n_parts = 1,
			    .room = sizeof(c->init) };
	int r = run_for(c, &op, &c->init);

	c->flags = c->init.flags;
	if (c->flags & FUSE_INIT_EXT)
		c->flags |= (uint64_t)c->init.flags2 << 32;
	if (r == 0 && (c->init.major != FUSE_KERNEL_VERSION || (c->flags & ~wanted)))
		return -EPROTO;
	return r;
}

int fc_begin(struct fc *c, const char *socket, const struct fc_spec *spec)
{
	struct fe_spec session = spec->session;
	int r;

	memset(c, 0, sizeof(*c));
	session.n_queues = 1 + (session.n_queues ? session.n_queues : 1);
	if (!session.memory.len)
		session.memory.len = UINT64_C(128) << 20;
	r = fe_begin(&c->fe, socket, &session);
	if (r < 0)
		return r;
	fc_call_init(&c->call, &c->fe.mem);
	c->queue = FC_REQUESTS;
	c->pid = 1;
	c->umask = 022;
	return spec->no_init ? 0 : init(c, spec);
}

void fc_end(struct fc *c)
{
	fe_close(&c->fe);
}

int fc_lookup(struct fc *c, uint64_t parent, const char *name, struct fuse_entry_out *ret)
{
	struct fc_op op = { .opcode = FUSE_LOOKUP,
			    .nodeid = parent,
			    .part = { { name, strlen(name) + 1 } },
			    .n_parts = 1,
			    .room = sizeof(*ret) };

	return run_for(c, &op, ret);
}

void fc_forget(struct fc *c, uint64_t nodeid, uint64_t n)
{
	struct fuse_forget_in in = { .nlookup = n };
	struct fc_op op = { .opcode = FUSE_FORGET,
			    .nodeid = nodeid,
			    .part = { { &in, sizeof(in) } },
			    .n_parts = 1,
			    .no_answer = true };

	fc_add(c, FC_HIPRIO, &c->call, &op);
	fc_kick(c, FC_HIPRIO);
	fc_wait(c, FC_HIPRIO, &c->call);
}

int fc_getattr(struct fc *c, uint64_t nodeid, struct fuse_attr *ret)
{
	struct fuse_getattr_in in = {};
	struct fuse_attr_out out;
	struct fc_op op = { .opcode = FUSE_GETATTR,
			    .nodeid = nodeid,
			    .part = { { &in, sizeof(in) } },
			    .n_parts = 1,
			    .room = sizeof(out) };
	int r = run_for(c, &op, &out);

	if (r == 0 && ret)
		*ret = out.attr;
	return r;
}

int fc_setattr(struct fc *c, uint64_t nodeid, const struct fuse_setattr_in *in,
	       struct fuse_attr *ret)
{
	struct fuse_attr_out out;
	struct fc_op op = { .opcode = FUSE_SETATTR,
			    .nodeid = nodeid,
			    .part = { { in, sizeof(*in) } },
			    .n_parts = 1,
			    .room = sizeof(out) };
	int r = run_for(c, &op, &out);

	if (r == 0 && ret)
		*ret = out.attr;
	return r;
}

int fc_readlink(struct fc *c, uint64_t nodeid, char *ret, size_t len)
{
	struct fc_op op = { .opcode = FUSE_READLINK, .nodeid = nodeid, .room = (uint32_t)len };
	int r = fc_run(c, &op);

	if (r < 0)
		return r;
	memcpy(ret, c->call.reply, c->call.reply_len);
	return (int)c->call.reply_len;
}

int fc_mkdir(struct fc *c, uint64_t parent, const char *name, uint32_t mode,
	     struct fuse_entry_out *ret)
{
	struct fuse_mkdir_in in = { .mode = mode, .umask = c->umask };
	struct fc_op op = { .opcode = FUSE_MKDIR,
			    .nodeid = parent,
			    .part = { { &in, sizeof(in) }, { name, strlen(name) + 1 } },
			    .n_parts = 2,
			    .room = sizeof(*ret) };

	return run_for(c, &op, ret);
}

int fc_mknod(struct fc *c, uint64_t parent, const char *name, uint32_t mode, uint32_t rdev,
	     struct fuse_entry_out *ret)
{
	struct fuse_mknod_in in = { .mode = mode, .rdev = rdev, .umask = c->umask };
	struct fc_op op = { .opcode = FUSE_MKNOD,
			    .nodeid = parent,
			    .part = { { &in, sizeof(in) }, { name, strlen(name) + 1 } },
			    .n_parts = 2,
			    .room = sizeof(*ret) };

	return run_for(c, &op, ret);
}

int fc_symlink(struct fc *c, uint64_t parent, const char *name, const char *target,
	       struct fuse_entry_out *ret)
{
	struct fc_op op = { .opcode = FUSE_SYMLINK,
			    .nodeid = parent,
			    .part = { { name, strlen(name) + 1 }, { target, strlen(target) + 1 } },
			    .n_parts = 2,
			    .room = sizeof(*ret) };

	return run_for(c, &op, ret);
}

int fc_link(struct fc *c, uint64_t nodeid, uint64_t parent, const char *name,
	    struct fuse_entry_out *ret)
{
	struct fuse_link_in in = { .oldnodeid = nodeid };
	struct fc_op op = { .opcode = FUSE_LINK,
			    .nodeid = parent,
			    .part = { { &in, sizeof(in) }, { name, strlen(name) + 1 } },
			    .n_parts = 2,
			    .room = sizeof(*ret) };

	return run_for(c, &op, ret);
}

int fc_create(struct fc *c, uint64_t parent, const char *name, uint32_t flags, uint32_t mode,
	      struct fc_opened *ret)
{
	struct fuse_create_in in = { .flags = flags, .mode = mode, .umask = c->umask };
	struct fc_op op = { .opcode = FUSE_CREATE,
			    .nodeid = parent,
			    .part = { { &in, sizeof(in) }, { name, strlen(name) + 1 } },
			    .n_parts = 2,
			    .room = sizeof(*ret) };

	return run_for(c, &op, ret);
}

int fc_tmpfile(struct fc *c, uint64_t parent, uint32_t flags, uint32_t mode, struct fc_opened *ret)
{
	struct fuse_create_in in = { .flags = flags, .mode = mode, .umask = c->umask };
	struct fc_op op = { .opcode = FUSE_TMPFILE,
			    .nodeid = parent,
			    .part = { { &in, sizeof(in) }, { "/", 2 } },
			    .n_parts = 2,
			    .room = sizeof(*ret) };

	return run_for(c, &op, ret);
}

static int name_only(struct fc *c, uint32_t opcode, uint64_t parent, const char *name)
{
	struct fc_op op = { .opcode = opcode,
			    .nodeid = parent,
			    .part = { { name, strlen(name) + 1 } },
			    .n_parts = 1 };

	return fc_run(c, &op);
}

int fc_unlink(struct fc *c, uint64_t parent, const char *name)
{
	return name_only(c, FUSE_UNLINK, parent, name);
}

int fc_rmdir(struct fc *c, uint64_t parent, const char *name)
{
	return name_only(c, FUSE_RMDIR, parent, name);
}

int fc_removexattr(struct fc *c, uint64_t nodeid, const char *name)
{
	return name_only(c, FUSE_REMOVEXATTR, nodeid, name);
}

/* RENAME where there are no flags, as Linux does. */
int fc_rename(struct fc *c, uint64_t parent, const char *name, uint64_t newparent,
	      const char *newname, uint32_t flags)
{
	struct fuse_rename2_in in = { .newdir = newparent, .flags = flags };
	struct fc_op op = { .opcode = flags ? FUSE_RENAME2 : FUSE_RENAME,
			    .nodeid = parent,
			    .part = { { &in, flags ? sizeof(in) : sizeof(struct fuse_rename_in) },
				      { name, strlen(name) + 1 },
				      { newname, strlen(newname) + 1 } },
			    .n_parts = 3 };

	return fc_run(c, &op);
}

static int open_as(struct fc *c, uint32_t opcode, uint64_t nodeid, uint32_t flags,
		   struct fuse_open_out *ret)
{
	struct fuse_open_in in = { .flags = flags };
	struct fc_op op = { .opcode = opcode,
			    .nodeid = nodeid,
			    .part = { { &in, sizeof(in) } },
			    .n_parts = 1,
			    .room = sizeof(*ret) };

	return run_for(c, &op, ret);
}

int fc_open(struct fc *c, uint64_t nodeid, uint32_t flags, struct fuse_open_out *ret)
{
	return open_as(c, FUSE_OPEN, nodeid, flags, ret);
}

int fc_opendir(struct fc *c, uint64_t nodeid, struct fuse_open_out *ret)
{
	return open_as(c, FUSE_OPENDIR, nodeid, 0, ret);
}

static int release_as(struct fc *c, uint32_t opcode, uint64_t nodeid, uint64_t fh)
{
	struct fuse_release_in in = { .fh = fh };
	struct fc_op op = {
		.opcode = opcode, .nodeid = nodeid, .part = { { &in, sizeof(in) } }, .n_parts = 1
	};

	return fc_run(c, &op);
}

int fc_release(struct fc *c, uint64_t nodeid, uint64_t fh)
{
	return release_as(c, FUSE_RELEASE, nodeid, fh);
}

int fc_releasedir(struct fc *c, uint64_t nodeid, uint64_t fh)
{
	return release_as(c, FUSE_RELEASEDIR, nodeid, fh);
}

int fc_read(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t offset, void *p, size_t len)
{
	struct fuse_read_in in = { .fh = fh, .offset = offset, .size = (uint32_t)len };
	struct fc_op op = { .opcode = FUSE_READ,
			    .nodeid = nodeid,
			    .part = { { &in, sizeof(in) } },
			    .n_parts = 1,
			    .room = (uint32_t)len };
	int r = fc_run(c, &op);

	if (r < 0)
		return r;
	memcpy(p, c->call.reply, c->call.reply_len);
	return (int)c->call.reply_len;
}

int fc_write(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t offset, const void *p, size_t len)
{
	struct fuse_write_in in = { .fh = fh, .offset = offset, .size = (uint32_t)len };
	struct fuse_write_out out;
	struct fc_op op = { .opcode = FUSE_WRITE,
			    .nodeid = nodeid,
			    .part = { { &in, sizeof(in) }, { p, len } },
			    .n_parts = 2,
			    .room = sizeof(out) };
	int r = run_for(c, &op, &out);

	return r < 0 ? r : (int)out.size;
}

int fc_setxattr(struct fc *c, uint64_t nodeid, const char *name, const void *value, size_t len,
		uint32_t flags)
{
	struct fuse_setxattr_in in = { .size = (uint32_t)len, .flags = flags };
	size_t in_len = c->flags & FUSE_SETXATTR_EXT ? sizeof(in) : FUSE_COMPAT_SETXATTR_IN_SIZE;
	struct fc_op op = { .opcode = FUSE_SETXATTR,
			    .nodeid = nodeid,
			    .part = { { &in, in_len }, { name, strlen(name) + 1 }, { value, len } },
			    .n_parts = 3 };

	return fc_run(c, &op);
}

/* GETXATTR and LISTXATTR: op but for its first part. */
static int get_as(struct fc *c, struct fc_op op, void *ret, size_t len)
{
	struct fuse_getxattr_in in = { .size = (uint32_t)len };
	struct fuse_getxattr_out out;
	int r;

	op.part[0].p = &in;
	op.part[0].len = sizeof(in);
	op.room = len ? (uint32_t)len : sizeof(out);
	if (len == 0) {
		r = run_for(c, &op, &out);
		return r < 0 ? r : (int)out.size;
	}
	r = fc_run(c, &op);
	if (r < 0)
		return r;
	memcpy(ret, c->call.reply, c->call.reply_len);
	return (int)c->call.reply_len;
}

int fc_getxattr(struct fc *c, uint64_t nodeid, const char *name, void *ret, size_t len)
{
	struct fc_op op = { .opcode = FUSE_GETXATTR,
			    .nodeid = nodeid,
			    .part = { [1] = { name, strlen(name) + 1 } },
			    .n_parts = 2 };

	return get_as(c, op, ret, len);
}

int fc_listxattr(struct fc *c, uint64_t nodeid, char *ret, size_t len)
{
	return get_as(c, (struct fc_op){ .opcode = FUSE_LISTXATTR, .nodeid = nodeid, .n_parts = 1 },
		      ret, len);
}
