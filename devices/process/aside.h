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
 * A model may also hand over what the companion can do while the I/O thread does something else,
 * on another processor (blk/share.h). So that this costs no wake-up each time, it looks for the
 * next hand-over for a moment before it sleeps, if that has paid off lately: 50 us at most.
 *
 * Invariant: once aside_is_shut_out() no request of an earlier generation enters the kernel any
 * more, so that the SQ heads of the second rings are final (process/uring.h, 2). The companion of a
 * killed worker may still run for an instant, or be inside io_uring_enter:
 *
 *	companion:  busy = 1;  full barrier;  gate == my generation? enter : not;  busy = 0
 *	successor:  gate = new generation;  full barrier;  busy == 0? shut out : once it is dead
 *
 * Either the companion sees the new gate, or the successor sees it busy. That death may take as
 * long as what it has submitted: only what is for the second rings waits for it.
 *
 * The successor's own companion has started before that, perhaps while the predecessor's is at work
 * (standby.h). There are four slots in state, and it takes one that is neither busy, nor the last
 * worker's, nor of a companion that was started since and died with its worker before that had its
 * turn. So the slot of a companion that is submitting is kept until that one has died, however many
 * workers die in between: they are handed nothing, and are never busy themselves.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/process/state.h"
#include "devices/process/uring.h"

/*
 * Start our companion. urings[0..n): second rings, which may be opened later, before the first
 * hand-over; one that never is, is skipped. Negative errno on failure.
 */
int aside_start(struct state *state, struct uring *const *urings, uint32_t n);

/* When the predecessor is dead: the gate is closed to earlier companions. */
void aside_close_gate(struct state *state);

/*
 * I/O threads, before they go on with a second ring: has every companion that was submitting as the
 * gate was closed died? _fails: it has not for 20 s. (A predecessor can have written anything.)
 */
bool aside_is_shut_out(struct state *state);
bool aside_shutting_out_fails(void);

/* Wait until the companion is ready to be confined. 0 or a negative errno. */
int aside_await(void);

/* I/O thread: pass on what has been prepared in u. */
void aside_hand_over(struct uring *u);
