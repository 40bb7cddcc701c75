/*
 * The worker: the process that talks to the front-end and touches the guest.
 *
 * Runs in: worker. Trusts: the keeper and the contract's descriptors; neither front-end, guest nor
 *          state.
 *
 * Life of a worker, in order:
 *  1. State mapped and checked; fault handlers; the main thread registered (robust futex). Requests
 *     that were in hand when the last worker faulted become suspects.
 *  2. The model looks at its resources.
 *  3. The session is loaded: guest memory mapped, leftovers of the last worker closed (sweep.h).
 *  4. Our own in-flight region is mapped, queues are dealt out to threads.
 *  5. The last worker's companion is shut out (aside.h); I/O threads start and open or take over
 *     their two rings each; then our own companion starts.
 *  6. Confined: the worker's filter on all threads.
 *  7. Rings attached, while the threads wait; then these are released: fence, resubmit, serve.
 *  8. The main thread serves the socket until the session ends; then it drains and leaves.
 *
 * If the session is over already (its last worker died while draining, its memory is gone, its
 * messages kill), 3 and 7 are left out but for the fence, and the worker leaves.
 *
 * A worker serves one session at most. The next one gets a new worker with a fresh state.
 */
#pragma once

#include <stdint.h>

#include "devices/process/program.h"

struct worker;

enum { WORKER_POISON_LIMIT = 3 }; /* crashes with the same request in hand until it is failed */

/* Be the worker. Does not return. */
_Noreturn void worker_main(const struct program *program, const struct options *o, void *config);

/* From I/O threads: prepared (0) or not (negative errno); then waits until they are released. */
void worker_thread_prepared(struct worker *w, int result);

/* From I/O threads: this one has passed the fence and resubmitted; the last one tells vmdevd. */
void worker_tell_resumed(struct worker *w);

/* From I/O threads: tell vmdevd of a poisonous request. */
void worker_tell_poison(struct worker *w, uint32_t ring, uint16_t head);
