/*
 * What the driver gets back: used buffers, and the signal for them. See thread-private.h.
 *
 * To wake a driver that sleeps costs as much as several small requests. So results are published at
 * once, but the signal for them is held back while the driver has more for us to do (hold_back),
 * for 50 us at most and never by a thread that would sleep.
 */
#include "devices/process/thread-private.h"

#include <assert.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/crash.h"
#include "devices/base/log.h"

enum {
	DRIVER_WAKE_NS = 30000, /* from a signal until a driver that slept has filled the ring */
	HOLD_MAX_NS = 50000,	/* the longest that a signal is held back */
	BROKEN_RATE = 10,	/* records of broken rings in each BROKEN_RATE_NS */
};

#define BROKEN_RATE_NS UINT64_C(60000000000)

/* Its I/O is over, and it can be answered. */
static void forget_aside(struct vring *r, uint16_t head)
{
	uint64_t *word = &r->went_aside[head / 64], bit = UINT64_C(1) << head % 64;

	if (*word & bit)
		__atomic_store_n(word, *word & ~bit, __ATOMIC_RELAXED);
}

static void forget(struct vring *r, uint16_t head)
{
	r->suspicion[head] = 0;
	forget_aside(r, head);
	if (r->n_deferred > 0)
		thread_forget_deferred(r, head);
}

void thread_push(struct thread *t, struct vring *r, uint16_t head, uint32_t written_len)
{
	assert(t->n_inflight > 0 && r->n_inflight > 0);
	t->n_inflight--;
	r->n_inflight--;
	forget(r, head);
	queue_push(&r->queue, head, written_len);
}

void thread_push_run(struct thread *t, struct vring *r, bool writable,
		     const struct queue_piece *pieces, uint32_t n)
{
	assert(t->n_inflight >= n && r->n_inflight >= n);
	t->n_inflight -= n;
	r->n_inflight -= n;
	for (uint32_t i = 0; i < n; i++)
		forget(r, pieces[i].head);
	queue_push_run(&r->queue, writable, pieces, n);
}

void thread_put_back(struct thread *t, struct vring *r, uint16_t head)
{
	assert(t->n_inflight > 0 && r->n_inflight > 0);
	t->n_inflight--;
	r->n_inflight--;
	queue_unpop(&r->queue, head);
}

void thread_signal_fd(int fd)
{
	uint64_t one = 1;

	/*
	 * A full pipe or counter holds a signal already; other errors are the front-end's affair.
	 */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		return;
}

/* A driver may reset its device and break the ring again, without end. */
static void log_broken(const struct vring *r)
{
	struct log_rate *rate = &r->thread->broken_rate;
	uint32_t n_dropped;

	rate->interval_ns = BROKEN_RATE_NS;
	rate->burst = BROKEN_RATE;
	if (!log_rate_pass(rate, &n_dropped))
		return;
	if (n_dropped > 0)
		log_warning("%u more records of broken rings were left out", n_dropped);
	log_warning("ring %u: the guest broke it: %s%s%s; it is served no more", r->index,
		    queue_verdict_to_string(r->queue.broken_why),
		    r->queue.broken_why == QUEUE_BAD_CHAIN ? ": " : "",
		    r->queue.broken_why == QUEUE_BAD_CHAIN
			    ? chain_verdict_to_string(r->queue.broken_chain)
			    : "");
}

/* The guest broke the ring: tell its err descriptor, once. */
void thread_tell_broken(struct vring *r)
{
	if (!r->queue.broken || r->broken_told)
		return;
	r->broken_told = true;
	log_broken(r);
	thread_signal_fd(r->err);
}

static bool unhurried(const struct thread *t, const struct vring *r)
{
	struct model *m = t->model;

	return m->ops->unhurried && m->ops->unhurried(&m->device, r);
}

/*
 * To wake a driver that sleeps costs as much as several small requests, and then some time passes
 * before it has filled the ring again. So it is signalled when what it has left to be taken will
 * last about that long: then neither waits for the other. A driver that is awake sees for itself
 * what has been published. Only where a request is not waited for before the next is looked at.
 */
static bool hold_back(const struct thread *t, struct vring *r)
{
	uint64_t left = t->uring.open && thread_awaits(t, r) ? queue_n_available(&r->queue) : 0;
	uint64_t now;

	if (left * t->request_ns <= DRIVER_WAKE_NS && !unhurried(t, r))
		return false;
	now = clock_now_ns();
	if (r->held_since_ns == 0)
		r->held_since_ns = now;
	return now - r->held_since_ns < HOLD_MAX_NS;
}

static void signal_ring(struct vring *r)
{
	r->held_since_ns = 0;
	if (queue_should_signal(&r->queue)) {
		r->n_signals++;
		thread_signal_fd(r->call);
	}
	CRASH_POINT("thread.signalled");
}

void thread_signal_held(struct thread *t, bool busy)
{
	for (uint32_t i = 0; i < t->n_vrings; i++) {
		struct vring *r = t->vrings[i];

		if (r->held_since_ns > 0 && ((!busy && !unhurried(t, r)) || !hold_back(t, r)))
			signal_ring(r);
	}
}

void thread_signal_all_held(struct thread *t)
{
	for (uint32_t i = 0; i < t->n_vrings; i++)
		if (t->vrings[i]->held_since_ns > 0)
			signal_ring(t->vrings[i]);
}

static void publish(struct thread *t, bool quietly)
{
	bool any = false;

	for (uint32_t i = 0; i < t->n_vrings; i++) {
		struct vring *r = t->vrings[i];

		if (!r->attached)
			continue;
		if (r->queue.n_pushed == 0) {
			/* Shown before. */
			if (!quietly && r->held_since_ns > 0 && !hold_back(t, r))
				signal_ring(r);
			continue;
		}
		any = true;
		t->shared->completed += r->queue.n_pushed;
		queue_publish(&r->queue);
		if (quietly && r->held_since_ns == 0)
			r->held_since_ns = clock_now_ns();
		else if (!quietly && !hold_back(t, r))
			signal_ring(r);
	}
	if (any && t->model->ops->published)
		t->model->ops->published(&t->model->device, t);
}

void thread_publish(struct thread *t)
{
	publish(t, false);
}

void thread_show(struct thread *t)
{
	publish(t, true);
}
