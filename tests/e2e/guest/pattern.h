/*
 * What the load writes: blocks that say who they are.
 *
 * Runs in: the test guest (and on the host, to read an image afterwards).
 * Trusts:  nothing that comes from the disk.
 *
 * Every sector of 512 bytes names its block, the generation of the write and the run's seed, and is
 * filled with words that follow from the three and from its place in the block. So a block that is
 * older than it should be (stale), another block's (misplaced), made of two writes (torn) or not
 * ours at all (garbage) is told apart by looking at it, without knowing what should be there.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	PATTERN_BLOCK_LEN = 4096,
	PATTERN_SECTOR_LEN = 512,
};

enum pattern_kind {
	PATTERN_ZERO,	 /* nothing but zeroes */
	PATTERN_WHOLE,	 /* one write's, in every sector */
	PATTERN_TORN,	 /* sectors of different writes, or zeroes among them */
	PATTERN_GARBAGE, /* some sector that this run never wrote */
};

struct pattern {
	enum pattern_kind kind;
	uint64_t block; /* of a whole one: the block that it was written to */
	uint64_t gen;	/* and the generation, from 1 up */
};

uint64_t pattern_mix(uint64_t a, uint64_t b);
void pattern_fill(void *buf, uint64_t seed, uint64_t block, uint64_t gen);
struct pattern pattern_read(const void *buf, uint64_t seed);
