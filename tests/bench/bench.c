/*
 * frontend-bench: work per second, latency, and what the back-end paid for it.
 *
 * Runs in: a program of its own, started by tests/bench/run. Trusts: its caller.
 *
 *	frontend-bench --program=PATH|--bare --image=FILE --size=BYTES --depth=N --seconds=S
 *[--direct] [--write]
 *
 * One queue, random requests of one size over the whole image, always --depth of them in flight;
 *the driver sleeps on the call eventfd and uses EVENT_IDX and indirect descriptors, as Linux does.
 *With --bare the same requests go from this process to io_uring, without a back-end: the limit.
 *
 * CPU is the process CPU clock of the back-end's processes (for our own programs keeper and
 *worker): it has nanoseconds, and counts io-wq threads and threads that have ended.
 *
 * The last line is one JSON object.
 */
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
#include <time.h>
#include <unistd.h>

enum {
	MAX_DEPTH = 256,
	N_BUCKETS = 65536, /* of latency: BUCKET_NS each, the last one open */
	BUCKET_NS = 500,
};

#define WARM_UP_NS UINT64_C(300000000)

struct options {
	const char *program, *image;
	uint32_t size;
	unsigned depth;
	double seconds;
	bool bare, direct, write;
};

struct bench {
	struct options o;
	uint64_t n_places; /* requests that fit in the image */
	struct fill_random random;
	uint64_t started_ns[MAX_DEPTH];
	uint64_t n_done;
	uint64_t buckets[N_BUCKETS];
	pid_t pids[2]; /* whose CPU is counted */
	uint64_t begin_ns, end_ns, cpu_begin_ns, cpu_end_ns;
	bool measuring;
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t = {};

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_ns(const struct bench *b)
{
	uint64_t sum = 0;
	clockid_t clock;
	unsigned i;

	for (i = 0; i < 2; i++)
		if (b->pids[i] && clock_getcpuclockid(b->pids[i], &clock) == 0)
			sum += clock_ns(clock);
	return sum;
}

/* Called now and then with the time: begins and ends the measurement. False when it is over. */
static bool bench_goes_on(struct bench *b, uint64_t now)
{
	static uint64_t first;

	if (!first)
		first = now;
	if (!b->measuring && now - first > WARM_UP_NS) {
		b->measuring = true;
		b->n_done = 0;
		memset(b->buckets, 0, sizeof(b->buckets));
		b->begin_ns = now;
		b->cpu_begin_ns = cpu_ns(b);
	}
	if (b->measuring && (double)(now - b->begin_ns) > b->o.seconds * 1e9) {
		b->cpu_end_ns = cpu_ns(b);
		b->end_ns = now;
		return false;
	}
	return true;
}

static void bench_count(struct bench *b, unsigned slot, uint64_t now)
{
	uint64_t bucket = (now - b->started_ns[slot]) / BUCKET_NS;

	b->buckets[bucket < N_BUCKETS ? bucket : N_BUCKETS - 1]++;
	b->n_done++;
}

static double percentile_us(const struct bench *b, double p)
{
	uint64_t sum = 0, i;

	for (i = 0; i < N_BUCKETS; i++) {
		sum += b->buckets[i];
		if ((double)sum >= p * (double)b->n_done)
			break;
	}
	return ((double)i + 0.5) * BUCKET_NS / 1e3;
}

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

static void run_queue(struct bench *b, struct fe *fe)
{
	static struct slot slots[MAX_DEPTH];
	struct fe_queue *q = &fe->queues[0];
	struct fe_used used;
	struct slot *s;
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
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
		if (!fe_queue_wait(q, 10000))
			errx(1, "the back-end does not answer");
		now = clock_ns(CLOCK_MONOTONIC);
		while (fe_queue_pop(q, &used)) {
			s = ((struct fe_blk *)used.user)->user;
			if (*s->b.status != VIRTIO_BLK_S_OK)
				errx(1, "a request failed with status %u", *s->b.status);
			bench_count(b, (unsigned)(s - slots), now);
			b->started_ns[s - slots] = now;
			slot_submit(b, q, s);
		}
	} while (bench_goes_on(b, now));
}

static void run_back_end(struct bench *b)
{
	struct fe_spec spec = { .memory.len = 64 << 20, .queue_size = 128 };
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
	b->pids[0] = backend.pid;
	b->pids[1] = backend_worker(backend.pid);
	run_queue(b, &fe);
	fe_close(&fe);
	/* In order, so that the lock of the image is free for the next. */
	if (backend_stop(&backend, &status) < 0)
		errx(1, "%s does not stop", b->o.program);
	backend_done(&backend);
}

static void bare_submit(struct bench *b, struct io_uring *ring, uint8_t *bufs, unsigned slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	uint64_t at = fill_below(&b->random, b->n_places) * b->o.size;
	uint8_t *buf = bufs + (size_t)slot * b->o.size;

	if (b->o.write)
		io_uring_prep_write(sqe, 0, buf, b->o.size, at);
	else
		io_uring_prep_read(sqe, 0, buf, b->o.size, at);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, slot);
}

static void bare_loop(struct bench *b, struct io_uring *ring, uint8_t *bufs)
{
	struct io_uring_cqe *cqe;
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
	unsigned i, head, n;

	for (i = 0; i < b->o.depth; i++) {
		b->started_ns[i] = now;
		bare_submit(b, ring, bufs, i);
	}
	do {
		io_uring_submit_and_wait(ring, 1);
		now = clock_ns(CLOCK_MONOTONIC);
		n = 0;
		io_uring_for_each_cqe(ring, head, cqe)
		{
			if (cqe->res != (int)b->o.size)
				errx(1, "bare request: %s", strerror(-cqe->res));
			i = (unsigned)cqe->user_data;
			bench_count(b, i, now);
			b->started_ns[i] = now;
			bare_submit(b, ring, bufs, i);
			n++;
		}
		io_uring_cq_advance(ring, n);
	} while (bench_goes_on(b, now));
}

static void run_bare(struct bench *b)
{
	int fd = open(b->o.image, O_RDWR | O_CLOEXEC | (b->o.direct ? O_DIRECT : 0)), r;
	size_t len = (size_t)b->o.depth * b->o.size;
	struct io_uring ring;
	uint8_t *bufs;

	if (fd < 0)
		err(1, "%s", b->o.image);
	bufs = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	r = io_uring_queue_init(MAX_DEPTH, &ring,
				IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (r < 0)
		r = io_uring_queue_init(MAX_DEPTH, &ring, 0);
	if (r == 0)
		r = io_uring_register_files(&ring, &fd, 1);
	if (r < 0 || bufs == MAP_FAILED)
		errx(1, "io_uring: %s", strerror(-r));
	b->pids[0] = getpid();
	bare_loop(b, &ring, bufs);
	io_uring_queue_exit(&ring);
	close(fd);
}

static void report(const struct bench *b)
{
	double seconds = (double)(b->end_ns - b->begin_ns) / 1e9, n = (double)b->n_done;

	printf("{\"requests\":%lu,\"seconds\":%.3f,\"per_second\":%.1f,\"cpu_us\":%.4f,"
	       "\"latency_us\":{\"p50\":%.1f,\"p99\":%.1f}}\n",
	       b->n_done, seconds, n / seconds, (double)(b->cpu_end_ns - b->cpu_begin_ns) / n / 1e3,
	       percentile_us(b, 0.5), percentile_us(b, 0.99));
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
	{},
};

static bool option_take(struct options *o, int c)
{
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
		o->seconds = atof(optarg);
		return true;
	case 'D':
		o->direct = true;
		return true;
	case 'w':
		o->write = true;
		return true;
	default:
		return false;
	}
}

int main(int argc, char **argv)
{
	static struct bench b = { .o = { .size = 4096, .depth = 32, .seconds = 2 } };
	struct stat st;
	int c;

	while ((c = getopt_long(argc, argv, "", option_table, NULL)) >= 0)
		if (!option_take(&b.o, c))
			return 2;
	if (!b.o.program == !b.o.bare || !b.o.image || b.o.depth < 1 || b.o.depth > 40 ||
	    b.o.size % 512 || !b.o.size || b.o.size > 1 << 20 || stat(b.o.image, &st) < 0)
		errx(2, "usage: frontend-bench --program=PATH|--bare --image=FILE [--size=BYTES] "
			"[--depth=1…40] [--seconds=S] [--direct] [--write]");
	b.n_places = (uint64_t)st.st_size / b.o.size;
	b.random.state = 42;
	if (b.o.bare)
		run_bare(&b);
	else
		run_back_end(&b);
	report(&b);
	return 0;
}
