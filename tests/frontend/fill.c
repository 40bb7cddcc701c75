/*
 * Test data.
 *
 * Runs in: test programs. Trusts: its caller.
 */
#include "tests/frontend/fill.h"

#include <string.h>

/* splitmix64: a good mixing of place, version and position. */
static uint64_t mix(uint64_t v)
{
	v += UINT64_C(0x9e3779b97f4a7c15);
	v = (v ^ (v >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	v = (v ^ (v >> 27)) * UINT64_C(0x94d049bb133111eb);
	return v ^ (v >> 31);
}

static uint64_t word(uint64_t place, uint64_t version, size_t i)
{
	return mix(place * UINT64_C(0x100000001b3) ^ version << 40 ^ i);
}

void fill_pattern(void *p, size_t len, uint64_t place, uint64_t version)
{
	uint8_t *to = p;
	uint64_t w;
	size_t i;

	for (i = 0; i < len; i += 8) {
		w = word(place, version, i);
		memcpy(to + i, &w, 8);
	}
}

bool fill_matches(const void *p, size_t len, uint64_t place, uint64_t version)
{
	const uint8_t *from = p;
	uint64_t w;
	size_t i;

	for (i = 0; i < len; i += 8) {
		w = word(place, version, i);
		if (memcmp(from + i, &w, 8) != 0)
			return false;
	}
	return true;
}

bool fill_is_zero(const void *p, size_t len)
{
	const uint8_t *b = p;

	return len == 0 || (b[0] == 0 && memcmp(b, b + 1, len - 1) == 0);
}

uint64_t fill_next(struct fill_random *r)
{
	r->state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(r->state);
}

uint64_t fill_below(struct fill_random *r, uint64_t n)
{
	return fill_next(r) % n;
}
