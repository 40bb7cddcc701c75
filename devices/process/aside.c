/* The companion thread, and how its predecessor is shut out. The theory is in aside.h. */
#include "devices/process/aside.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/crash.h"
#include "devices/base/look.h"
#include "devices/process/contract.h"
#include "devices/process/fault.h"

enum {
	STACK_LEN = 64 << 10,
	RETRY_NS = 1000000,
};

/* A companion that was submitting may have an fsync to wait for. */
#define SHUT_OUT_NS UINT64_C(20000000000)

static struct {
	struct state *state;
	uint32_t generation;
	uint32_t slot;
	uint64_t closed_ns; /* when the gate was closed to earlier ones */
	struct uring *urings[CONTRACT_MAX_THREADS];
	uint32_t n;
	uint32_t rounds;  /* futex: hand-overs so far */
	uint32_t looking; /* the companion looks at rounds: it needs not be woken */
	struct look look;
	uint32_t prepared; /* futex: 1 + the errno of the companion's start, 0 before that */
} aside;

static bool is_gone(const struct state_thread *old)
{
	uint32_t word = __atomic_load_n(&old->word, __ATOMIC_ACQUIRE);

	return word == 0 || (word & FUTEX_OWNER_DIED);
}

/*
 * The last worker's companion can become busy while we wait for our turn, and one that is being
 * killed can still register itself; of the others, one is busy at most, and none becomes so. (Where
 * none is free, somebody has written nonsense.)
 */
static uint32_t choose_slot(const struct state_aside *s)
{
	uint32_t slot = 0;

	while (slot < STATE_COMPANIONS - 1 && (slot == s->last || slot == s->started ||
					       __atomic_load_n(&s->busy[slot], __ATOMIC_SEQ_CST)))
		slot++;
	return slot;
}

void aside_close_gate(struct state *state)
{
	aside.generation = state->generation;
	aside.closed_ns = clock_now_ns();
	__atomic_store_n(&state->aside.gate, aside.generation, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	state->aside.last = aside.slot;
}

/* Whoever is seen busy after the gate has been closed was so before. */
bool aside_is_shut_out(struct state *state)
{
	struct state_aside *s = &state->aside;

	for (uint32_t i = 0; i < STATE_COMPANIONS; i++) {
		if (i == aside.slot || !__atomic_load_n(&s->busy[i], __ATOMIC_SEQ_CST))
			continue;
		if (!is_gone(&s->thread[i]))
			return false;
		__atomic_store_n(&s->busy[i], 0, __ATOMIC_SEQ_CST);
	}
	return true;
}

bool aside_shutting_out_fails(void)
{
	return clock_now_ns() - aside.closed_ns > SHUT_OUT_NS;
}

/* Submit what is there. False: the kernel would not take all of it now. */
static bool enter(struct uring *u)
{
	struct state_aside *s = &aside.state->aside;
	const struct io_uring_sq *sq = &u->ring.sq;
	uint32_t n = __atomic_load_n(sq->ktail, __ATOMIC_ACQUIRE) -
		     __atomic_load_n(sq->khead, __ATOMIC_ACQUIRE);

	if (n == 0)
		return true;
	__atomic_store_n(&s->busy[aside.slot], 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&s->gate, __ATOMIC_SEQ_CST) == aside.generation)
		syscall(SYS_io_uring_enter, u->ring.ring_fd, n, 0, 0, NULL, 0);
	CRASH_POINT("aside.entered");
	__atomic_store_n(&s->busy[aside.slot], 0, __ATOMIC_SEQ_CST);
	return __atomic_load_n(sq->ktail, __ATOMIC_ACQUIRE) ==
	       __atomic_load_n(sq->khead, __ATOMIC_ACQUIRE);
}

/*
 * Look for the next hand-over instead of sleeping, if that has paid off lately: to be woken costs
 * the I/O thread as much as a small request. True: there is one.
 */
static bool look(uint32_t seen)
{
	bool found;

	if (!look_begin(&aside.look, aside.look.ns))
		return false;
	__atomic_store_n(&aside.looking, 1, __ATOMIC_SEQ_CST);
	while (!(found = __atomic_load_n(&aside.rounds, __ATOMIC_ACQUIRE) != seen) &&
	       look_again(&aside.look))
		;
	look_end(&aside.look);
	/*
	 * Full barrier before rounds is looked at again, by FUTEX_WAIT; pairs with the one between
	 * the count and the look at this word in aside_hand_over().
	 */
	__atomic_store_n(&aside.looking, 0, __ATOMIC_SEQ_CST);
	return found;
}

/* Woken too by the kernel's task work for the rings (EINTR), which this thread has to run. */
static _Noreturn void serve(void)
{
	static const struct timespec retry = { .tv_nsec = RETRY_NS };

	/* Before the first hand-over the rings may not be open yet. */
	while (__atomic_load_n(&aside.rounds, __ATOMIC_ACQUIRE) == 0)
		syscall(SYS_futex, &aside.rounds, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	for (;;) {
		uint32_t seen = __atomic_load_n(&aside.rounds, __ATOMIC_ACQUIRE);
		bool all = true;
		uint64_t asleep;

		for (uint32_t i = 0; i < aside.n; i++)
			if (__atomic_load_n(&aside.urings[i]->open, __ATOMIC_ACQUIRE))
				all = enter(aside.urings[i]) && all;
		if (look(seen))
			continue;
		asleep = clock_now_ns();
		syscall(SYS_futex, &aside.rounds, FUTEX_WAIT_PRIVATE, seen, all ? NULL : &retry,
			NULL, 0);
		look_learn(&aside.look, clock_now_ns() - asleep < LOOK_MAX_NS);
	}
}

static void *companion_main(void *arg)
{
	struct state *s = aside.state;
	int r;

	prctl(PR_SET_NAME, "vmdev-aside", 0, 0, 0);
	r = state_register(&s->aside.thread[aside.slot]);

	if (r == 0)
		r = fault_thread_init(CONTRACT_MAX_THREADS + 1);
	__atomic_store_n(&aside.prepared, 1 + (uint32_t)-r, __ATOMIC_RELEASE);
	syscall(SYS_futex, &aside.prepared, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	if (r < 0)
		return NULL;
	serve();
}

/*
 * The companion's start, and the C library's of its thread, make calls that the worker's filter
 * forbids: that comes when they are done.
 */
int aside_await(void)
{
	uint32_t prepared;

	while (!(prepared = __atomic_load_n(&aside.prepared, __ATOMIC_ACQUIRE)))
		syscall(SYS_futex, &aside.prepared, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return -(int)(prepared - 1);
}

int aside_start(struct state *state, struct uring *const *urings, uint32_t n)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	aside.state = state;
	aside.slot = choose_slot(&state->aside);
	state->aside.started = aside.slot;
	aside.n = n;
	for (uint32_t i = 0; i < n; i++)
		aside.urings[i] = urings[i];
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_LEN);
	r = pthread_create(&thread, &attr, companion_main, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

void aside_hand_over(struct uring *u)
{
	CRASH_POINT("aside.queued");
	uring_show(u);
	__atomic_add_fetch(&aside.rounds, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&aside.looking, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &aside.rounds, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	CRASH_POINT("aside.handed_over");
}
