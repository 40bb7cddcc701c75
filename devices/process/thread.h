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
 * After a recovery the thread begins behind the fence (uring.h): it takes completions of the dead
 * worker's requests, and nothing else, until its first ring owes none. Then what is left in flight
 * is resubmitted in counter order, and the virtqueues are served; but what had gone aside is
 * resubmitted, and its second ring submitted to, only when that owes none either.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/base/log.h"
#include "devices/base/look.h"
#include "devices/process/bet.h"
#include "devices/process/model.h"
#include "devices/process/state.h"
#include "devices/process/uring.h"

struct worker;

enum { THREAD_MAX_COMPLETIONS = 256 };

/* In the data of an event that is the model's (model.h: event). No pointer of ours has it. */
#define THREAD_EVENT_MODEL (UINT64_C(1) << 63)

struct thread {
	uint32_t index;
	struct worker *worker;
	struct model *model;
	int (*begin)(void); /* program.h: thread_begin; or NULL */
	struct state *state;
	struct state_thread *shared;
	struct uring uring; /* for transfers */
	struct uring aside; /* for what may take long (process/aside.h) */
	int epoll;
	int wake;	     /* eventfd: look at want */
	uint32_t want;	     /* enum device_stillness; futex */
	uint32_t is;	     /* enum device_stillness; futex */
	bool fenced;	     /* the dead worker's transfers have not drained yet */
	bool aside_fenced;   /* what it did aside has not */
	bool resumed;	     /* recovery is over */
	struct look look;    /* for work, before sleeping */
	struct bet look_bet; /* whether it pays (models with events) */
	uint64_t looked_ns;  /* when the model's descriptors were looked at last */
	uint64_t request_ns; /* what taking and submitting one costs, lately */
	uint64_t retry_ns;   /* a limit is reached (the model says so): look again after this */
	uint64_t tick_ns;    /* the model wants another turn after this, whatever comes; 0: none */
	uint32_t n_inflight; /* requests taken and not yet pushed, of all its rings */
	uint32_t n_soon;     /* of those, what the model expects back within microseconds */
	uint32_t n_waiting;  /* of those, what thread_wait_begin() has been told of */
	uint32_t n_polled;   /* rings without a kick descriptor (PROTO_VRING_NOFD) */
	struct log_rate broken_rate;
	uint32_t n_vrings;
	struct vring *vrings[CONTRACT_MAX_QUEUES];
	struct uring_completion completions[THREAD_MAX_COMPLETIONS];
	pthread_t pthread;
};

/*
 * Start thread t->index: it registers itself, waits until the main thread releases it, then serves.
 * Meanwhile the main thread opens what it serves with: thread_prepare(), thread_open(). Negative
 * errno on failure.
 */
int thread_start(struct thread *t);

/*
 * What can be done while the last worker is at work: the model's part of the thread, and its I/O
 * rings mapped, if it has made any. 0, or -EBADMSG if what the state says of a ring cannot be, or
 * another negative errno.
 */
int thread_prepare(struct thread *t);

/* The rest: event loop, and I/O rings, new or the last worker's. 0 or a negative errno. */
int thread_open(struct thread *t);

/* Main thread: ask all to stand still and wait for it; let them run. */
void thread_still(struct thread *t, uint32_t n, enum device_stillness s);
void thread_run(struct thread *t, uint32_t n);

/*
 * The model: have events of this descriptor bring a turn, or no longer. Edge-triggered: a turn has
 * to go on until there is nothing left. From any thread. Negative errno.
 */
int thread_watch_host(struct thread *t, int fd);
void thread_unwatch_host(struct thread *t, int fd);

/* What has come to the model's own descriptors, without waiting; the number of events. */
uint32_t thread_look(struct thread *t);

/* Main thread, while t stands still: watch a kick descriptor, or no longer. */
void thread_watch(struct thread *t, struct vring *r, int kick);
void thread_unwatch(struct thread *t, int kick);

/* May requests be taken from r, if it is enabled? */
static inline bool thread_may_take(const struct vring *r)
{
	return r->attached && !r->queue.broken && r->n_resubmitted == r->n_resubmit;
}

/* May new requests be taken from r? */
static inline bool thread_serves(const struct vring *r)
{
	return r->enabled && thread_may_take(r);
}

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

/* The model: what is in hand, so that something else can be for a while; and that again. */
static inline uint32_t thread_in_hand(const struct thread *t)
{
	return __atomic_load_n(&t->shared->suspect, __ATOMIC_RELAXED);
}

static inline void thread_hand_back(struct thread *t, uint32_t in_hand)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&t->shared->suspect, in_hand, __ATOMIC_RELAXED);
}

/*
 * The model: a request of r waits, perhaps for ever, for something else than the host. It has
 * nothing but its head, so a drain passes it over, and if its ring is stopped it stays on record
 * (model.h: ring_detached). And: no longer.
 */
static inline void thread_wait_begin(struct thread *t, struct vring *r)
{
	t->n_waiting++;
	r->n_waiting++;
}

static inline void thread_wait_end(struct thread *t, struct vring *r)
{
	t->n_waiting--;
	r->n_waiting--;
}

/* The model: can one more step be submitted, to either ring? */
bool thread_has_room(const struct thread *t);

/*
 * The model: let the driver see now what has been pushed, because the next request will take long.
 */
void thread_publish(struct thread *t);

/* The model: a limit is reached; look again after this. */
static inline void thread_retry(struct thread *t, uint64_t ns)
{
	if (t->retry_ns == 0 || ns < t->retry_ns)
		t->retry_ns = ns;
}

/*
 * The model: the same without a signal, which comes when the turn ends, if it is still wanted then.
 */
void thread_show(struct thread *t);

/* The model: a chain has been popped. */
static inline void thread_taken(struct thread *t, struct vring *r)
{
	t->n_inflight++;
	r->n_inflight++;
}

static inline void thread_taken_run(struct thread *t, struct vring *r, uint32_t n)
{
	t->n_inflight += n;
	r->n_inflight += n;
}

/* The model: the chain that was popped last of this ring was not needed; it will be popped next. */
void thread_put_back(struct thread *t, struct vring *r, uint16_t head);

/* The model, before it prepares an entry of the second ring for this head. */
static inline void thread_goes_aside(struct vring *r, uint16_t head)
{
	uint64_t *word = &r->went_aside[head / 64];

	__atomic_store_n(word, *word | UINT64_C(1) << head % 64, __ATOMIC_RELAXED);
}

/* The model: give a chain back. Visible to the driver after the turn. */
void thread_push(struct thread *t, struct vring *r, uint16_t head, uint32_t written_len);
void thread_push_run(struct thread *t, struct vring *r, bool writable,
		     const struct queue_piece *pieces, uint32_t n);

/* Signal a descriptor of the front-end's, if there is one (not -1). Never blocks. */
void thread_signal_fd(int fd);
