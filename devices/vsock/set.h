/*
 * Sets of connections, by number; looked through in turn, so that everyone gets served.
 *
 * Runs in: worker, one I/O thread. Trusts: its caller.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/vsock/store.h"

struct set {
	uint32_t n;
	uint32_t cursor; /* where set_next() goes on */
	uint64_t word[STORE_CONNS / 64];
};

static inline bool set_has(const struct set *s, uint32_t i)
{
	return s->word[i / 64] >> (i % 64) & 1;
}

static inline void set_add(struct set *s, uint32_t i)
{
	s->n += !set_has(s, i);
	s->word[i / 64] |= UINT64_C(1) << (i % 64);
}

static inline void set_remove(struct set *s, uint32_t i)
{
	s->n -= set_has(s, i);
	s->word[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

/* The first member at or after from; STORE_CONNS if there is none. */
static inline uint32_t set_find(const struct set *s, uint32_t from)
{
	while (from < STORE_CONNS) {
		uint64_t rest = s->word[from / 64] >> (from % 64);

		if (rest)
			return from + (uint32_t)__builtin_ctzll(rest);
		from = (from / 64 + 1) * 64;
	}
	return STORE_CONNS;
}

/* The next member in turn; false: the set is empty. */
static inline bool set_next(struct set *s, uint32_t *ret_i)
{
	if (s->n == 0)
		return false;
	*ret_i = set_find(s, s->cursor);
	if (*ret_i == STORE_CONNS)
		*ret_i = set_find(s, 0);
	s->cursor = (*ret_i + 1) % STORE_CONNS;
	return true;
}
