/*
 * An I/O thread: the loop that serves some of the device's virtqueues.
 *
 * Runs in: worker. Trusts: the main thread; nothing that comes from rings.
 *
 * One thread, its own I/O rings, every n-th virtqueue: no locks in the data path. What the main
 * thread changes (memory, rings, image) it changes while the thread stands still:
 *
 *	main:    want = PAUSED or DRAINED, wake, waits until is == want
 *	thread:  finishes its turn (DRAINED: all its I/O), is = want, waits until want == RUNNING
 *	main:    changes, want = RUNNING, wake
 *
 * After a recovery the thread begins behind the fence: it takes completions of the dead worker's
 * requests, and nothing else, until uring_owed() is 0 for both of its rings. Then what is left in
 * flight is resubmitted in counter order, and the virtqueues are served.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/process/model.h"
#include "devices/process/state.h"
#include "devices/process/uring.h"

struct worker;

enum { THREAD_MAX_COMPLETIONS = 256 };

struct thread {
	uint32_t index;
	struct worker *worker;
	struct model *model;
	struct state *state;
	struct state_thread *shared;
	struct uring uring; /* for transfers */
	struct uring aside; /* for what may take long (process/aside.h) */
	int epoll;
	int wake;	     /* eventfd: look at want */
	uint32_t want;	     /* enum device_stillness; futex */
	uint32_t is;	     /* enum device_stillness; futex */
	bool fenced;	     /* the dead worker's I/O has not drained yet */
	bool resumed;	     /* recovery is over */
	uint64_t poll_ns;    /* how long to look for work before sleeping; adapts */
	uint64_t retry_ns;   /* a limit is reached (the model says so): look again after this */
	uint32_t n_inflight; /* requests taken and not yet pushed */
	uint32_t n_polled;   /* rings without a kick descriptor (PROTO_VRING_NOFD) */
	uint32_t n_vrings;
	struct vring *vrings[CONTRACT_MAX_QUEUES];
	void *context; /* the model's */
	struct uring_completion completions[THREAD_MAX_COMPLETIONS];
	pthread_t pthread;
};

/*
 * Start thread t->index: it registers itself, waits until the main thread releases it, then serves. Meanwhile
 * the main thread opens what it serves with: thread_open(). Negative errno on failure.
 */
int thread_start(struct thread *t);

/* Event loop, I/O rings (new or the last worker's), and the model's part of the thread. */
int thread_open(struct thread *t);

/* Main thread: ask all to stand still and wait for it; let them run. */
void thread_still(struct thread *t, uint32_t n, enum device_stillness s);
void thread_run(struct thread *t, uint32_t n);

/* Main thread, while t stands still: watch a kick descriptor, or no longer. */
void thread_watch(struct thread *t, struct vring *r, int kick);
void thread_unwatch(struct thread *t, int kick);

/* The model: in hand from here until thread_set_down(); a fault in between makes it suspect. */
static inline void thread_take_up(struct thread *t, const struct vring *r, uint16_t head)
{
	__atomic_store_n(&t->shared->suspect, 1 + (r->index << 16 | head), __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void thread_set_down(struct thread *t)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&t->shared->suspect, 0, __ATOMIC_RELAXED);
}

/* The model: can one more step be submitted, to either ring? */
bool thread_has_room(const struct thread *t);

/* The model: give a chain back. Visible to the driver after the turn. */
void thread_push(struct thread *t, struct vring *r, uint16_t head, uint32_t written_len);
