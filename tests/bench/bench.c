/*
 * frontend-bench: work per second, latency, and what the back-end paid for it.
 *
 * Runs in: a program of its own, started by tests/bench/run. Trusts: its caller.
 *
 *	frontend-bench --program=PATH|--bare --image=FILE --size=BYTES --depth=N --seconds=S
 *		[--direct] [--write] [--awake]
 *
 * One queue, random requests of one size over the whole image, always --depth of them in flight.
 * The driver uses EVENT_IDX and indirect descriptors, as Linux does, and sleeps on the call
 * eventfd; with --awake it never sleeps and wants no calls.
 *
 * With --bare the same requests go from this process to io_uring, without a back-end: the limit. It
 * is one thread too, with as many buffers in such a guest's memory. What it does not have: a driver
 * on the other processor, which shares rings with it and has to be woken.
 *
 * The last line is one JSON object.
 */
#include "tests/bench/measure.h"
#include "tests/frontend/backend.h"
#include "tests/frontend/blk.h"
#include "tests/frontend/fill.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	MAX_DEPTH = 256,
	ANSWER_MS = 10000,
};

struct options {
	const char *program, *image;
	uint32_t size;
	unsigned depth;
	bool bare, direct, write, awake;
};

static const struct fe_memory_spec guest_memory = { .len = 64 << 20 };

struct bench {
	struct options o;
	uint64_t n_places; /* requests that fit in the image */
	struct fill_random random;
	uint64_t started_ns[MAX_DEPTH];
	struct measure m;
};

struct slot {
	struct fe_blk b;
	uint8_t *buf;
};

static void slot_submit(struct bench *b, struct fe_queue *q, struct slot *s)
{
	struct fe_sg sg = { s->buf, b->o.size };
	struct fe_blk_op op = { .type = b->o.write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
				.sector = fill_below(&b->random, b->n_places) * (b->o.size / 512),
				.data = &sg,
				.n_data = 1,
				.indirect = q->indirect };

	if (fe_blk_add(q, &s->b, &op) < 0)
		errx(99, "test bug: no room in the ring");
}

/* Like fe_queue_wait(), of a driver that has a processor to itself. */
static bool look_until(struct fe_queue *q, uint64_t end_ns)
{
	fe_queue_disarm(q);
	while (!fe_queue_pending(q)) {
		if (measure_now_ns() > end_ns)
			return false;
		__builtin_ia32_pause();
	}
	return true;
}

static bool await_used(const struct bench *b, struct fe_queue *q)
{
	if (b->o.awake)
		return look_until(q, measure_now_ns() + UINT64_C(1000000) * ANSWER_MS);
	return fe_queue_wait(q, ANSWER_MS) > 0;
}

static void run_queue(struct bench *b, struct fe *fe)
{
	static struct slot slots[MAX_DEPTH];
	struct fe_queue *q = &fe->queues[0];
	struct fe_used used;
	struct slot *s;
	uint64_t now = measure_now_ns();
	unsigned i;

	for (i = 0; i < b->o.depth; i++) {
		fe_blk_init(&slots[i].b, &fe->mem);
		slots[i].buf = fe_memory_alloc(&fe->mem, b->o.size, 4096);
		slots[i].b.user = &slots[i];
		b->started_ns[i] = now;
		slot_submit(b, q, &slots[i]);
	}
	do {
		fe_queue_kick(q);
		if (!await_used(b, q))
			errx(1, "the back-end does not answer");
		now = measure_now_ns();
		while (fe_queue_pop(q, &used)) {
			s = ((struct fe_blk *)used.user)->user;
			if (*s->b.status != VIRTIO_BLK_S_OK)
				errx(1, "a request failed with status %u", *s->b.status);
			measure_count(&b->m, 1, b->started_ns[s - slots], now);
			b->started_ns[s - slots] = now;
			slot_submit(b, q, s);
		}
	} while (measure_goes_on(&b->m, now));
}

static void run_back_end(struct bench *b)
{
	struct fe_spec spec = { .memory = guest_memory, .queue_size = 128 };
	struct backend_spec back = { .program = b->o.program,
				     .image = b->o.image,
				     .n_queues = 1,
				     .queue_size = 128,
				     .cache = b->o.direct ? "none" : "writeback" };
	static struct backend backend;
	static struct fe fe;
	int r, status;

	r = backend_start(&backend, &back);
	if (r == 0)
		r = fe_begin(&fe, backend.socket, &spec);
	if (r < 0)
		errx(1, "%s: no session: %s", b->o.program, strerror(-r));
	b->m.pids[0] = backend.pid;
	b->m.pids[1] = backend_worker(backend.pid);
	run_queue(b, &fe);
	fe_close(&fe);
	/* In order, so that the lock of the image is free for the next. */
	if (backend_stop(&backend, &status) < 0)
		errx(1, "%s does not stop", b->o.program);
	backend_done(&backend);
}

static void bare_submit(struct bench *b, struct io_uring *ring, uint8_t *const *bufs, unsigned slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	uint64_t at = fill_below(&b->random, b->n_places) * b->o.size;

	if (b->o.write)
		io_uring_prep_write(sqe, 0, bufs[slot], b->o.size, at);
	else
		io_uring_prep_read(sqe, 0, bufs[slot], b->o.size, at);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, slot);
}

static void bare_loop(struct bench *b, struct io_uring *ring, uint8_t *const *bufs)
{
	struct io_uring_cqe *cqe;
	uint64_t now = measure_now_ns();
	unsigned i, head, n;

	for (i = 0; i < b->o.depth; i++) {
		b->started_ns[i] = now;
		bare_submit(b, ring, bufs, i);
	}
	do {
		io_uring_submit_and_wait(ring, 1);
		now = measure_now_ns();
		n = 0;
		io_uring_for_each_cqe(ring, head, cqe)
		{
			if (cqe->res != (int)b->o.size)
				errx(1, "bare request: %s", strerror(-cqe->res));
			i = (unsigned)cqe->user_data;
			measure_count(&b->m, 1, b->started_ns[i], now);
			b->started_ns[i] = now;
			bare_submit(b, ring, bufs, i);
			n++;
		}
		io_uring_cq_advance(ring, n);
	} while (measure_goes_on(&b->m, now));
}

static void run_bare(struct bench *b)
{
	int fd = open(b->o.image, O_RDWR | O_CLOEXEC | O_NOATIME | (b->o.direct ? O_DIRECT : 0)), r;
	static uint8_t *bufs[MAX_DEPTH];
	static struct fe_memory memory;
	struct io_uring ring;

	if (fd < 0)
		err(1, "%s", b->o.image);
	r = fe_memory_init(&memory, &guest_memory);
	for (unsigned i = 0; i < b->o.depth && r == 0; i++)
		bufs[i] = fe_memory_alloc(&memory, b->o.size, 4096);
	if (r == 0)
		r = io_uring_queue_init(MAX_DEPTH, &ring,
					IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (r == 0)
		r = io_uring_register_files(&ring, &fd, 1);
	if (r < 0)
		errx(1, "io_uring: %s", strerror(-r));
	b->m.pids[0] = getpid();
	bare_loop(b, &ring, bufs);
	io_uring_queue_exit(&ring);
	fe_memory_done(&memory);
	close(fd);
}

static const struct option option_table[] = {
	{ "program", required_argument, NULL, 'p' },
	{ "bare", no_argument, NULL, 'b' },
	{ "image", required_argument, NULL, 'i' },
	{ "size", required_argument, NULL, 's' },
	{ "depth", required_argument, NULL, 'd' },
	{ "seconds", required_argument, NULL, 't' },
	{ "direct", no_argument, NULL, 'D' },
	{ "write", no_argument, NULL, 'w' },
	{ "awake", no_argument, NULL, 'a' }, /* the driver */
	{},
};

static bool option_take(struct bench *b, int c)
{
	struct options *o = &b->o;

	switch (c) {
	case 'p':
		o->program = optarg;
		return true;
	case 'b':
		o->bare = true;
		return true;
	case 'i':
		o->image = optarg;
		return true;
	case 's':
		o->size = (uint32_t)atoi(optarg);
		return true;
	case 'd':
		o->depth = (unsigned)atoi(optarg);
		return true;
	case 't':
		b->m.seconds = atof(optarg);
		return true;
	case 'D':
		o->direct = true;
		return true;
	case 'w':
		o->write = true;
		return true;
	case 'a':
		o->awake = true;
		return true;
	default:
		return false;
	}
}

int main(int argc, char **argv)
{
	static struct bench b = { .o = { .size = 4096, .depth = 32 }, .m.seconds = 2 };
	struct stat st;
	int c;

	while ((c = getopt_long(argc, argv, "", option_table, NULL)) >= 0)
		if (!option_take(&b, c))
			return 2;
	if (!b.o.program == !b.o.bare || !b.o.image || b.o.depth < 1 || b.o.depth > 40 ||
	    b.o.size % 512 || !b.o.size || b.o.size > 1 << 20 || stat(b.o.image, &st) < 0)
		errx(2, "usage: frontend-bench --program=PATH|--bare --image=FILE [--size=BYTES] "
			"[--depth=1…40] [--seconds=S] [--direct] [--write] [--awake]");
	b.n_places = (uint64_t)st.st_size / b.o.size;
	b.random.state = 42;
	if (b.o.bare)
		run_bare(&b);
	else
		run_back_end(&b);
	measure_report(&b.m);
	return 0;
}
