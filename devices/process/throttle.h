/*
 * Limits on requests and bytes per second, shared by the I/O threads.
 *
 * Runs in: worker's I/O threads. Trusts: nothing; a request's length is charged as it is found.
 *
 * Each limit is one word: the time at which all that was let through so far would have been due at
 * the limit's rate. A request passes while that time is not more than a burst ahead of now; its
 * cost moves it on. So the average is exact, a large request passes at once and is paid for
 * afterwards, and an idle device saves up no more than a burst.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct throttle_limit {
	uint64_t per_second; /* 0: no limit */
	uint64_t due_ns;     /* CLOCK_MONOTONIC; shared by the threads */
};

struct throttle {
	struct throttle_limit requests;
	struct throttle_limit bytes;
};

/* iops: requests a second, bandwidth: bytes a second; 0: no limit. */
void throttle_init(struct throttle *t, uint64_t iops, uint64_t bandwidth);

/* Is there no limit? */
static inline bool throttle_is_off(const struct throttle *t)
{
	return t->requests.per_second == 0 && t->bytes.per_second == 0;
}

/* Nanoseconds until the next request may pass; 0: now. */
uint64_t throttle_wait_ns(const struct throttle *t);

/* A request (a frame) of len bytes has passed. */
void throttle_charge(struct throttle *t, uint64_t len);
