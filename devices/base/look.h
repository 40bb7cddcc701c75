/*
 * How long to look for work before sleeping: to be woken costs both sides several microseconds.
 * A sleep that a longer look would have saved makes the next look longer, one in vain shorter.
 *
 * Who looks keeps a processor from others, perhaps from those very ones that he waits for: what he
 * then finds comes a time slice late. That shows by the clock, and is followed by a time without
 * looks, so many times as long that little of all time is lost so.
 *
 *	if (look_begin(&l, l.ns)) {
 *		while (!(found = there_is()) && look_again(&l))
 *			;
 *		look_end(&l);
 *	}
 *
 * Runs in: worker (I/O threads, companion), vmdev-switch. Trusts: nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/base/clock.h"

enum {
	LOOK_MAX_NS = 50000, /* the longest */
	LOOK_MIN_NS = 1000,
	LOOK_GAP_NS = 100000, /* between two glances at the clock: somebody else has run */
	LOOK_REST = 256,      /* times as long there is none */
};

struct look {
	uint64_t ns; /* how long it is worth while; 0: not at all */
	uint64_t end_ns, seen_ns;
	uint64_t rest_until_ns;
};

/* For ns. False: there is to be none. */
static inline bool look_begin(struct look *l, uint64_t ns)
{
	if (ns == 0)
		return false;
	l->seen_ns = clock_now_ns();
	l->end_ns = l->seen_ns + ns;
	return l->seen_ns >= l->rest_until_ns;
}

/* False: it has lasted long enough. */
static inline bool look_again(struct look *l)
{
	uint64_t now = clock_now_ns(), gap = now - l->seen_ns;

	__builtin_ia32_pause();
	l->seen_ns = now;
	if (gap > LOOK_GAP_NS)
		l->rest_until_ns = now + gap * LOOK_REST;
	return now < l->end_ns;
}

/* What has been found may have been found late. */
static inline void look_end(struct look *l)
{
	look_again(l);
}

/* After a sleep: would a look have saved it? */
static inline void look_learn(struct look *l, bool saved)
{
	l->ns = saved ? l->ns * 2 : l->ns / 2;
	if (l->ns < LOOK_MIN_NS)
		l->ns = saved ? LOOK_MIN_NS : 0;
	if (l->ns > LOOK_MAX_NS)
		l->ns = LOOK_MAX_NS;
}
