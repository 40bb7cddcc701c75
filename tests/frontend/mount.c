/*
 * The kernel of this machine as the guest: mounts a shared directory here, through vhost-user.
 *
 *	frontend-fs-mount --socket=S SOURCE DIRECTORY	serves until it is unmounted, or the back-end hangs up
 *
 * Runs in: a process of its own, as root. Trusts: the kernel; the back-end is under test.
 *
 * Requests that the kernel sends to /dev/fuse go into virtqueues as they are, answers come back as they are: so what programs on
 * this machine see of the mount is what they would see in a guest of this kernel, without the time that a guest takes. Not
 * the same are what only virtiofs asks for: submounts, SYNCFS, and that mode bits are checked (the mount option default_permissions
 * does that here). Requests are taken while there are calls free; each has its buffers in guest memory, where data is page-aligned, as a
 * driver's would be.
 */
#include "tests/frontend/fuse-client.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	N_CALLS = 32,
	DATA_LEN = (1 << 20) + 4096, /* of a request, beyond header and arguments */
	ARGS_LEN = sizeof(struct fuse_write_in),
	ROOM_DEFAULT = 512, /* the longest answer of fixed length, and more */
};

/* One request in flight. What may be long begins at a page. */
struct call {
	struct fuse_in_header *header;
	struct fuse_out_header *answer;
	uint8_t *args; /* the request's first bytes after its header */
	uint8_t *data; /* those that follow */
	uint8_t *reply;
	uint32_t room;
	bool busy;
};

struct bridge {
	struct fc c;
	int fuse;
	struct call calls[N_CALLS];
	unsigned n_busy;
};

static void calls_init(struct bridge *b)
{
	for (unsigned i = 0; i < N_CALLS; i++) {
		struct call *k = &b->calls[i];

		k->header = fe_memory_alloc(&b->c.fe.mem, sizeof(*k->header), 8);
		k->answer = fe_memory_alloc(&b->c.fe.mem, sizeof(*k->answer), 8);
		k->args = fe_memory_alloc(&b->c.fe.mem, ARGS_LEN, 8);
		k->data = fe_memory_alloc(&b->c.fe.mem, DATA_LEN, 4096);
		k->reply = fe_memory_alloc(&b->c.fe.mem, DATA_LEN, 4096);
	}
}

/* How long may the answer's payload be? What asks for a length says so in its arguments. */
static uint32_t room_for(const struct call *k)
{
	const struct fuse_read_in *read_in = (const void *)k->args;
	const struct fuse_getxattr_in *get_in = (const void *)k->args;

	switch (k->header->opcode) {
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		return read_in->size < DATA_LEN ? read_in->size : DATA_LEN;
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		if (get_in->size == 0)
			return sizeof(struct fuse_getxattr_out);
		return get_in->size < DATA_LEN ? get_in->size : DATA_LEN;
	case FUSE_READLINK:
		return 4095;
	default:
		return ROOM_DEFAULT;
	}
}

static bool has_answer(const struct call *k)
{
	return k->header->opcode != FUSE_FORGET && k->header->opcode != FUSE_BATCH_FORGET &&
	       k->header->opcode != FUSE_INTERRUPT;
}

/* What has no answer is what has priority. */
static unsigned queue_of(const struct call *k)
{
	return has_answer(k) ? FC_REQUESTS : FC_HIPRIO;
}

static void submit(struct bridge *b, struct call *k)
{
	uint32_t left = k->header->len - (uint32_t)sizeof(*k->header);
	struct fe_queue *q = &b->c.fe.queues[queue_of(k)];
	struct fe_sg sg[5] = { { k->header, sizeof(*k->header) } };
	unsigned n_out = 1, n_in = 0;

	if (left > 0)
		sg[n_out++] = (struct fe_sg){ k->args, left < ARGS_LEN ? left : ARGS_LEN };
	if (left > ARGS_LEN)
		sg[n_out++] = (struct fe_sg){ k->data, left - ARGS_LEN };
	if (has_answer(k)) {
		k->room = room_for(k);
		sg[n_out + n_in++] = (struct fe_sg){ k->answer, sizeof(*k->answer) };
		sg[n_out + n_in++] = (struct fe_sg){ k->reply, k->room };
	}
	if (fe_queue_add(q, sg, n_out, n_in, k) < 0)
		errx(1, "the queue is full");
	k->busy = true;
	b->n_busy++;
	fe_queue_kick(q);
}

static struct call *free_call(struct bridge *b)
{
	for (unsigned i = 0; i < N_CALLS; i++)
		if (!b->calls[i].busy)
			return &b->calls[i];
	return NULL;
}

/* One request of the kernel's. False: none is there. Ends the program when it was unmounted. */
static bool take(struct bridge *b)
{
	struct call *k = free_call(b);
	struct iovec iov[3];
	ssize_t n;

	if (!k)
		return false;
	iov[0] = (struct iovec){ k->header, sizeof(*k->header) };
	iov[1] = (struct iovec){ k->args, ARGS_LEN };
	iov[2] = (struct iovec){ k->data, DATA_LEN };
	n = readv(b->fuse, iov, 3);
	if (n < 0 && errno == ENODEV)
		exit(0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOENT))
		return errno != EAGAIN;
	if (n < (ssize_t)sizeof(*k->header) || k->header->len != (size_t)n)
		errx(1, "the kernel's request is %zd bytes long", n);
	submit(b, k);
	return true;
}

/* The answer goes to the kernel as it is, and is the back-end's fault if it is none. */
static void give(struct bridge *b, struct call *k, uint32_t used_len)
{
	struct iovec iov[2] = { { k->answer, sizeof(*k->answer) } };

	k->busy = false;
	b->n_busy--;
	if (!has_answer(k))
		return;
	if (used_len < sizeof(*k->answer))
		errx(1, "no answer to opcode %u", k->header->opcode);
	iov[1] = (struct iovec){ k->reply, used_len - sizeof(*k->answer) };
	/* ENOENT: whoever asked was interrupted and has gone. */
	if (writev(b->fuse, iov, 2) < 0 && errno != ENOENT && errno != EAGAIN)
		errx(1, "the kernel does not take the answer to opcode %u (error %d, %u bytes): %s",
		     k->header->opcode, k->answer->error, used_len, strerror(errno));
}

static void reap(struct bridge *b, unsigned queue)
{
	struct fe_used used;

	while (fe_queue_pop(&b->c.fe.queues[queue], &used))
		give(b, used.user, used.len);
	if (b->c.fe.queues[queue].n_bogus)
		errx(1, "something was answered twice");
}

static void serve(struct bridge *b)
{
	for (;;) {
		struct pollfd p[] = {
			{ .fd = b->n_busy < N_CALLS ? b->fuse : -1, .events = POLLIN },
			{ .fd = b->c.fe.queues[FC_HIPRIO].call, .events = POLLIN },
			{ .fd = b->c.fe.queues[FC_REQUESTS].call, .events = POLLIN },
			{ .fd = b->c.fe.fd, .events = POLLRDHUP },
		};
		bool pending = false;

		for (unsigned k = 0; k < 2; k++)
			pending |= fe_queue_arm(&b->c.fe.queues[k]);
		if (poll(p, 4, pending ? 0 : -1) < 0 && errno != EINTR)
			err(1, "poll");
		for (unsigned k = 0; k < 2; k++) {
			if (p[1 + k].revents)
				fe_queue_drain_call(&b->c.fe.queues[k]);
			reap(b, k);
		}
		if (p[3].revents)
			errx(1, "the back-end has hung up");
		while (p[0].fd >= 0 && take(b))
			;
	}
}

static int mount_at(const char *source, const char *dir)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	char options[160];

	if (fd < 0)
		err(1, "/dev/fuse");
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", fd);
	if (mount(source, dir, "fuse.vmdev", 0, options) < 0)
		err(1, "mount at %s", dir);
	return fd;
}

int main(int argc, char **argv)
{
	static struct bridge b;
	struct fc_spec spec = { .no_init = true,
				.session = { .queue_size = 256,
					     .memory = { .len = UINT64_C(160) << 20 } } };
	int r;

	if (argc != 4 || strncmp(argv[1], "--socket=", 9) != 0)
		errx(2, "usage: frontend-fs-mount --socket=SOCKET SOURCE DIRECTORY");
	r = fc_begin(&b.c, argv[1] + 9, &spec);
	if (r < 0)
		errx(1, "no session: %s", strerror(-r));
	calls_init(&b);
	b.fuse = mount_at(argv[2], argv[3]);
	serve(&b);
}
