/*
 * The worker: the process that talks to the front-end and touches the guest.
 *
 * Runs in: worker. Trusts: the keeper and the contract's descriptors; neither front-end, guest nor
 *          state.
 *
 * Life of a worker, in order:
 *  1. State mapped and checked; the main thread registered (robust futex).
 *  2. I/O threads and the companion (aside.h) start, and register themselves. They wait: what they
 *     will serve is opened by the main thread meanwhile.
 *  3. The model looks at its resources.
 *  4. Our own in-flight region is mapped, queues are dealt out to threads; each thread gets the
 *     model's part of it, and the last worker's I/O rings are mapped.
 *     A worker that was cloned ahead (standby.h) waits here until the last one is dead.
 *  5. Fault handlers. Requests that were in hand when the last worker faulted become suspects. The
 *     model looks at its part of the state.
 *  6. The session is loaded: guest memory mapped, leftovers of the last worker closed (sweep.h).
 *  7. The gate is closed to the last worker's companion. Each thread's two rings are opened, or the
 *     first one is taken over; the second one is by the thread, when that companion is shut out.
 *  8. Confined: the worker's filter on all threads.
 *  9. Rings attached, while the threads wait; then these are released: fence, resubmit, serve.
 * 10. The main thread serves the socket until the session ends; then it drains and leaves.
 *
 * If the session is over already (its last worker died while draining, its memory is gone, its
 * messages kill), 6 and 9 are left out but for the fence, and the worker leaves.
 *
 * A worker serves one session at most. The next one gets a new worker with a fresh state.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/process/program.h"

struct worker;

enum { WORKER_POISON_LIMIT = 3 }; /* crashes with the same request in hand until it is failed */

/*
 * Be the worker of generation o->resume.generation; ahead: when it is its turn. Does not return.
 */
_Noreturn void worker_main(const struct program *program, const struct options *o, void *config,
			   bool ahead);

/* From I/O threads: prepared (0) or not (negative errno); then waits until they are released. */
void worker_thread_prepared(struct worker *w, int result);

/* From I/O threads: this one has passed the fence and resubmitted; the last one tells vmdevd. */
void worker_tell_resumed(struct worker *w);

/*
 * From I/O threads: have the model's ops->settle called soon, by the main thread, while none of
 * them runs.
 */
void worker_ask_settle(struct worker *w);

/* From I/O threads: tell vmdevd of a poisonous request. */
void worker_tell_poison(struct worker *w, uint32_t ring, uint16_t head);
