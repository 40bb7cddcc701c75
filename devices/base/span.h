/*
 * A bounded run of bytes, and arithmetic on offsets that does not wrap.
 *
 * Runs in: every process. Trusts: nothing: offsets and lengths come from peers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
	uint8_t *p; /* NULL only if len is 0 */
	size_t len;
};

static inline struct span span_of(void *p, size_t len)
{
	return (struct span){ .p = p, .len = len };
}

/* Does [offset, offset + len) lie in a thing of this size? Does not wrap. */
static inline bool span_fits(uint64_t size, uint64_t offset, uint64_t len)
{
	return offset <= size && len <= size - offset;
}

/* Do [a, a + a_len) and [b, b + b_len) share a byte? Neither end may wrap. */
static inline bool span_overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a_len && b_len && (a < b ? b - a < a_len : a - b < b_len);
}

/* The part [offset, offset + len) of s in *ret; false, *ret untouched, if it is not inside. */
static inline bool span_sub(struct span s, uint64_t offset, uint64_t len, struct span *ret)
{
	if (!span_fits(s.len, offset, len))
		return false;
	*ret = (struct span){ .p = s.p ? s.p + offset : NULL, .len = (size_t)len };
	return true;
}

/* Is [p, p + len) inside of s? */
static inline bool span_has(struct span s, const void *p, size_t len)
{
	uintptr_t start = (uintptr_t)s.p, at = (uintptr_t)p;

	return at >= start && span_fits(s.len, at - start, len);
}
