/*
 * The limit of what goes from guest to guest through three address spaces: frames are copied out of one guest's memory into a
 * ring, from that into another, and from there into the other guest's memory, as devices and switch do, and nothing else is done:
 * no virtqueues, no checks, no addresses, no record of what a death would lose. See net.h.
 *
 * Runs in: three children of frontend-bench-net. Trusts: its caller.
 */
#include "tests/bench/net.h"

#include <err.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
	RING_LEN = 1 << 20, /* as vmdev's */
	ALIGN = 16,
	WINDOW = 512, /* frames on their way, as in rows with devices */
	N_BUFFERS = NET_QUEUE_SIZE,
	BUFFER_STEP = 1856, /* a driver's */
};

struct pass_ring {
	_Alignas(64) uint32_t tail;
	_Alignas(64) uint32_t head;
	_Alignas(64) uint8_t bytes[RING_LEN];
};

struct pass {
	struct pass_ring in, out;
	uint32_t len, step; /* of a record: length, header and frame */
	uint64_t *n_done;
	uint8_t *from, *to; /* guests' memory */
	uint32_t room;
};

static void *shared(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	return p;
}

/* Records of one length do not wrap: what is left at the end is gone over. */
static uint32_t next(const struct pass *p, uint32_t at)
{
	at += p->step;
	return RING_LEN - at % RING_LEN < p->step ? at + RING_LEN - at % RING_LEN : at;
}

static uint32_t load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void store(uint32_t *word, uint32_t at)
{
	__atomic_store_n(word, at, __ATOMIC_RELEASE);
}

static bool has_room(const struct pass *p, const struct pass_ring *r, uint32_t at)
{
	return next(p, at) - load(&r->head) <= RING_LEN;
}

static void send_for_ever(struct pass *p)
{
	uint64_t n_sent = 0;
	uint32_t at = 0, n;

	for (;; sched_yield()) {
		for (n = 0; n_sent - __atomic_load_n(p->n_done, __ATOMIC_ACQUIRE) < WINDOW &&
			    has_room(p, &p->in, at);
		     n++) {
			memcpy(p->in.bytes + at % RING_LEN + sizeof(uint32_t),
			       p->from + n_sent++ % N_BUFFERS * p->room, p->len);
			at = next(p, at);
			if (n % NET_BATCH == NET_BATCH - 1)
				store(&p->in.tail, at);
		}
		store(&p->in.tail, at);
	}
}

static void pass_for_ever(struct pass *p)
{
	uint32_t from = 0, to = 0, n;

	for (;; sched_yield())
		while (from != load(&p->in.tail)) {
			for (n = 0;
			     n < NET_BATCH && from != load(&p->in.tail) && has_room(p, &p->out, to);
			     n++) {
				memcpy(p->out.bytes + to % RING_LEN, p->in.bytes + from % RING_LEN,
				       p->step);
				from = next(p, from);
				to = next(p, to);
			}
			store(&p->out.tail, to);
			store(&p->in.head, from);
			if (n == 0)
				break;
		}
}

static void receive_for_ever(struct pass *p)
{
	uint64_t n_done = 0;
	uint32_t at = 0;

	for (;; sched_yield())
		while (at != load(&p->out.tail)) {
			memcpy(p->to + n_done++ % N_BUFFERS * p->room,
			       p->out.bytes + at % RING_LEN + sizeof(uint32_t), p->len);
			at = next(p, at);
			if (n_done % NET_BATCH == 0 || at == load(&p->out.tail)) {
				store(&p->out.head, at);
				__atomic_store_n(p->n_done, n_done, __ATOMIC_RELEASE);
			}
		}
}

static pid_t begin(struct pass *p, void (*work)(struct pass *p))
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	work(p);
	_exit(0);
}

void net_pass_begin(struct net_pass *b, uint32_t len)
{
	struct pass *p = shared(sizeof(*p));

	p->len = NET_HEADER_LEN + len;
	p->step = ((uint32_t)sizeof(uint32_t) + p->len + ALIGN - 1) & ~(uint32_t)(ALIGN - 1);
	p->room = p->len > BUFFER_STEP ? p->len : BUFFER_STEP;
	p->from = shared((size_t)p->room * N_BUFFERS);
	p->to = shared((size_t)p->room * N_BUFFERS);
	p->n_done = b->n_done = shared(sizeof(uint64_t));
	for (uint32_t i = 0; i < N_BUFFERS; i++)
		net_make_frame(p->from + (size_t)i * p->room, len);
	b->pids[0] = begin(p, send_for_ever);
	b->pids[1] = begin(p, pass_for_ever);
	b->pids[2] = begin(p, receive_for_ever);
}
