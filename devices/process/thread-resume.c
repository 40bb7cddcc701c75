/* After a takeover: the fence, and what is resubmitted behind it. See thread-private.h. */
#include "devices/process/thread-private.h"

#include "devices/base/crash.h"
#include "devices/base/log.h"
#include "devices/process/aside.h"
#include "devices/process/fault.h"
#include "devices/process/worker.h"

enum {
	RESUBMIT_BATCH =
		8, /* of a ring in a turn, so that the first are answered while the others wait */
};

static void resubmit_one(struct thread *t, struct vring *r, uint16_t head)
{
	struct device *d = &t->model->device;

	if (r->suspicion[head] < WORKER_POISON_LIMIT) {
		t->model->ops->resubmit(d, t, r, head);
		return;
	}
	log_error("ring %u: request %u has crashed the worker %u times: failed to the guest",
		  r->index, head, r->suspicion[head]);
	worker_tell_poison(t->worker, r->index, head);
	t->model->ops->poison(d, t, r, head);
}

/* Some of its earlier I/O may not be over. */
static bool is_fenced(const struct thread *t, const struct vring *r, uint16_t head)
{
	return t->aside_fenced && (r->went_aside[head / 64] >> head % 64 & 1);
}

void thread_forget_deferred(struct vring *r, uint16_t head)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->n_deferred; i++)
		if (r->resubmit[i].head != head)
			r->resubmit[n++] = r->resubmit[i];
	r->n_deferred = n;
}

/* Behind the second fence, what was put off is all that is left. */
static void take_up_deferred(struct vring *r)
{
	r->n_resubmit = r->n_deferred;
	r->n_resubmitted = r->n_deferred = 0;
}

static bool has_deferred(const struct thread *t, const struct vring *r)
{
	return r->n_resubmitted == r->n_resubmit && r->n_deferred > 0 && !t->aside_fenced;
}

/* What a dead worker, or a ring attached with requests on record, left in flight. In order. */
static uint32_t resubmit_ring(struct thread *t, struct vring *r)
{
	uint32_t n = 0;

	if (has_deferred(t, r))
		take_up_deferred(r);
	while (r->n_resubmitted < r->n_resubmit && n < RESUBMIT_BATCH && thread_has_room(t)) {
		struct inflight_entry e = r->resubmit[r->n_resubmitted++];

		if (!queue_is_taken(&r->queue, e.head))
			continue;
		if (is_fenced(t, r, e.head)) {
			r->resubmit[r->n_deferred++] = e;
			continue;
		}
		n++;
		resubmit_one(t, r, e.head);
	}
	thread_tell_broken(r);
	return n;
}

uint32_t thread_resubmit(struct thread *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->n_vrings; i++) {
		struct vring *r = t->vrings[i];

		if (r->attached && (r->n_resubmitted < r->n_resubmit || has_deferred(t, r)))
			n += resubmit_ring(t, r);
	}
	return n;
}

/* Once no earlier companion submits to it. */
static void take_aside_over(struct thread *t)
{
	if (aside_is_shut_out(t->state)) {
		CRASH_POINT("thread.aside_shut_out");
		uring_go_on(&t->aside);
	} else if (aside_shutting_out_fails()) {
		log_error("an earlier worker's companion does not die");
		fault_leave(t->state, STATE_END_STATE);
	}
}

/* Take what this ring has of the dead worker's. True: that was all. */
static bool has_drained(struct thread *t, struct uring *u)
{
	thread_reap_ring(t, u);
	if (u->mapped)
		return false;
#ifndef VMDEV_NO_FENCE
	if (uring_owed(u) > 0)
		return false;
#endif
	/*
	 * All are posted; none may be left for later, when its tag would name the repeated request.
	 */
	while (thread_reap_ring(t, u) > 0)
		;
	return true;
}

bool thread_pass_fence(struct thread *t)
{
	if (t->aside.mapped)
		take_aside_over(t);
	if (t->aside_fenced)
		uring_flush_overflow(&t->aside);
	if (t->aside_fenced && has_drained(t, &t->aside)) {
		CRASH_POINT("thread.aside_fence_passed");
		t->aside_fenced = false;
	}
	if (t->fenced)
		uring_flush(&t->uring);
	if (t->fenced && has_drained(t, &t->uring)) {
		CRASH_POINT("thread.fence_passed");
		t->fenced = false;
	}
	return !t->fenced;
}

void thread_resume(struct thread *t)
{
	thread_resubmit(t);
	if (t->state->died_ns == 0 && t->model->ops->begun)
		t->model->ops->begun(&t->model->device, t);
	t->resumed = true;
	worker_tell_resumed(t->worker);
}
