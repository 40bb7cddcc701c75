/*
 * What the parts of an I/O thread share: thread.c has the loop, and uses the others.
 *
 *	thread-answer.c	what the driver gets back, and when it is signalled
 *	thread-resume.c	after a takeover: the fence, resubmission
 *	thread-sleep.c	without work: looking for some, sleeping
 *
 * Runs in: worker's I/O threads. Trusts: its callers; nothing that comes from rings.
 */
#pragma once

#include "devices/process/thread.h"

/* thread.c */

/* The main thread wants t so. */
bool thread_is_wanted(struct thread *t, enum device_stillness s);

/* The main thread wants t still, and nothing keeps it from that. */
bool thread_may_stand_still(struct thread *t);

/* Take completions; their results become visible before they are taken off the CQ. */
uint32_t thread_reap(struct thread *t);
uint32_t thread_reap_ring(struct thread *t, struct uring *u);

/* Is what comes into r work? */
static inline bool thread_awaits(const struct thread *t, const struct vring *r)
{
	struct model *m = t->model;

	return thread_serves(r) && (!m->ops->wants || m->ops->wants(&m->device, t, r));
}

/* thread-answer.c */

/* Has the guest broken the ring? Tell its err descriptor, once. */
void thread_tell_broken(struct vring *r);

/*
 * Signals that were held back: those that are due, and without work those that drivers wait for;
 * or all.
 */
void thread_signal_held(struct thread *t, bool busy);
void thread_signal_all_held(struct thread *t);

/* thread-resume.c */

/* The fences (uring.h). True once the first ring's has been passed. */
bool thread_pass_fence(struct thread *t);

/*
 * Once, behind the fence: begin to resubmit; or in a new session just begin.
 */
void thread_resume(struct thread *t);

/*
 * A head is answered: if it was put off, its I/O had been done after all, and it is the driver's to
 * use again.
 */
void thread_forget_deferred(struct vring *r, uint16_t head);

/* What a dead worker, or a ring attached with requests on record, left in flight: a batch of it. */
uint32_t thread_resubmit(struct thread *t);

/* thread-sleep.c */

/* Look for work instead of sleeping, if that has paid off lately. True: there is some. */
bool thread_look_longer(struct thread *t);

/*
 * Of disabled rings: those until now were for what the rings have been until now. (The others are
 * looked at without having been kicked.)
 */
void thread_forget_kicks(struct thread *t);

/* Ask for notifications and sleep until something happens. */
void thread_sleep(struct thread *t);
