/* Test data that says where it belongs: a block that lands in the wrong place, or late, is seen. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fills @len bytes (a multiple of 8) for a place and a version of what is there. */
void fill_pattern(void *p, size_t len, uint64_t place, uint64_t version);
bool fill_matches(const void *p, size_t len, uint64_t place, uint64_t version);
bool fill_is_zero(const void *p, size_t len);

/* A small generator whose sequence depends on the seed alone. */
struct fill_random {
	uint64_t state;
};
uint64_t fill_next(struct fill_random *r);
uint64_t fill_below(struct fill_random *r, uint64_t n);
