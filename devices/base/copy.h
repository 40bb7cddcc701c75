/*
 * Copying a few bytes: memcpy() whose length is not known when it is compiled is a call, and in
 * musl begins a string instruction, which alone takes longer than the bytes of a short frame.
 *
 * Runs in: every process. Trusts: its caller. What is copied may change meanwhile, if it is memory
 *          that is shared: some bytes may be loaded twice, and one of the two loads counts.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	COPY_BLOCK = 16,
	COPY_SHORT = 320, /* longer ones are memcpy's */
};

/* Fewer than a block: the two ends, which may overlap. */
static inline void copy_part(uint8_t *to, const uint8_t *from, size_t len)
{
	if (len >= 8) {
		memcpy(to, from, 8);
		memcpy(to + len - 8, from + len - 8, 8);
	} else if (len >= 4) {
		memcpy(to, from, 4);
		memcpy(to + len - 4, from + len - 4, 4);
	} else {
		for (size_t i = 0; i < len; i++)
			to[i] = from[i];
	}
}

/* to[0..len) and from[0..len) do not overlap. */
static inline void copy_bytes(void *to, const void *from, size_t len)
{
	uint8_t *t = to;
	const uint8_t *f = from;

	if (len > COPY_SHORT) {
		memcpy(to, from, len);
		return;
	}
	if (len < COPY_BLOCK) {
		copy_part(t, f, len);
		return;
	}
	for (size_t at = 0; at + COPY_BLOCK < len; at += COPY_BLOCK)
		memcpy(t + at, f + at, COPY_BLOCK);
	memcpy(t + len - COPY_BLOCK, f + len - COPY_BLOCK, COPY_BLOCK);
}
