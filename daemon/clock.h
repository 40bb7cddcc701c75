/*
 * The time, in microseconds, as sd-event has it.
 *
 * Runs in: vmdevd. Trusts: nothing.
 */
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_usec(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* Of CLOCK_MONOTONIC. */
static inline uint64_t now_usec(void)
{
	return clock_usec(CLOCK_MONOTONIC);
}
