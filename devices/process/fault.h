/*
 * The last words of a worker: fatal signals are written to the state memfd before it dies.
 *
 * Runs in: worker, in signal handlers, on any thread. Trusts: nothing.
 *
 * The keeper learns from it at once whether the death was the worker's own doing (a fault counts
 * against the restart limit and makes the request in hand suspect) or came from outside, without
 * waiting for the exit status, which comes only when all memory has been unmapped.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "devices/process/state.h"
#include "devices/virtio/memory.h"

/*
 * Install the handlers for SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS. 0 or a negative errno.
 * Until fault_begin() they end the process without a word: a stand-by (standby.h) leaves none.
 */
int fault_init(void);

/*
 * From here on they leave word in state. threads: this worker's. memory tells whether a SIGBUS is
 * guest memory that its owner truncated, which is the front-end's doing and ends the session only.
 */
void fault_begin(struct state *state, const struct state_thread *threads,
		 const struct memory *memory);

/* Name the calling thread in the record; a signal stack, so that a stack overflow is told too. */
int fault_thread_init(uint32_t thread);

/* One more range whose owner can truncate it: the front-end's in-flight region. NULL: none. */
void fault_watch(const void *start, size_t len);

/* Leave: write why, then exit_group. */
_Noreturn void fault_leave(struct state *state, enum state_end end);
