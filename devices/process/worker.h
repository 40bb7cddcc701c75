/*
 * The worker: the process that talks to the front-end and touches the guest.
 *
 * Runs in: worker. Trusts: the keeper and the contract's descriptors; neither front-end, guest nor
 *state.
 *
 * Life of a worker, in order:
 *	1. fault handlers, state mapped and checked, main thread registered (robust futex)
 *	2. leftovers of the last worker closed: descriptors that the session does not name
 *	3. the model opens its resources; I/O threads start and open or take over their rings
 *	4. the session is loaded: memory mapped, rings known
 *	5. confined: the worker's filter on all threads
 *	6. rings attached, threads run: fence, resubmit, serve
 *	7. the main thread serves the socket until the session ends; then it drains and leaves
 * A worker serves one session at most. The next one gets a new worker with a fresh state.
 */
#pragma once

#include <stdint.h>

#include "devices/process/program.h"

struct worker;

enum { WORKER_POISON_LIMIT = 3 }; /* crashes with the same request in hand until it is failed */

/* Be the worker. Does not return. */
_Noreturn void worker_main(const struct program *program, const struct options *o, void *config);

/* From I/O threads: prepared (0) or not (negative errno); then waits until the main thread is
 * ready. */
void worker_thread_prepared(struct worker *w, int result);

/* From I/O threads: this one has passed the fence and resubmitted; the last one tells vmdevd. */
void worker_tell_resumed(struct worker *w);

/* From I/O threads: tell vmdevd of a poisonous request. */
void worker_tell_poison(struct worker *w, uint32_t ring, uint16_t head);
