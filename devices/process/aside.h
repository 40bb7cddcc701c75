/*
 * I/O that may take long in the kernel, kept off the I/O threads.
 *
 * Runs in: worker. Trusts: the I/O threads of the same worker.
 *
 * What may wait in the kernel (fsync, fallocate, writes to the page cache, a direct transfer that
 * could not be begun without waiting) runs in io_uring's worker threads of the task that submitted
 * it, and that task cannot finish dying before they have ended. An I/O thread that submitted an
 * fsync would make its own death known only when the fsync is done. So each I/O thread has a second
 * ring: it prepares entries there, and one companion thread, whose death the keeper does not wait
 * for, submits them. Completions are taken by the I/O thread.
 *
 * Invariant: after aside_shut_out() no request of an earlier generation enters the kernel any more,
 * so that the SQ heads of the second rings are final (process/uring.h, 2). The companion of a
 * killed worker may still run for an instant, or be inside io_uring_enter:
 *
 *	companion:  busy = my generation;  full barrier;  gate == my generation? enter : not;  busy = 0
 *	successor:  gate = new generation;  full barrier;  busy == 0? go on : wait for its death
 *
 * Either the companion sees the new gate, or the successor sees it busy.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/process/state.h"
#include "devices/process/uring.h"

/*
 * Successor, before it takes over any second ring. False: the companion that was submitting has not
 * died in 20 s.
 */
bool aside_shut_out(struct state *state);

/*
 * Start the companion. urings[0..n): second rings, which may be opened later, before the first hand-over; one that
 * never is, is skipped. Negative errno on failure.
 */
int aside_start(struct state *state, struct uring *const *urings, uint32_t n);

/* Wait until the companion is ready to be confined. 0 or a negative errno. */
int aside_await(void);

/* I/O thread: pass on what has been prepared in u. */
void aside_hand_over(struct uring *u);
