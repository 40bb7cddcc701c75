/*
 * Blocks that say who they are: see pattern.h.
 *
 * Runs in: the test guest, and on the host.
 * Trusts:  nothing that comes from the disk.
 */
#include "tests/e2e/guest/pattern.h"

#include <string.h>

#define PATTERN_MAGIC UINT64_C(0x6b636f6c62766476) /* "vdvblock" */
#define PATTERN_STEP  UINT64_C(0x9e3779b97f4a7c15)

enum {
	WORDS_PER_SECTOR = PATTERN_SECTOR_LEN / 8,
	SECTORS_PER_BLOCK = PATTERN_BLOCK_LEN / PATTERN_SECTOR_LEN,
	HEADER_WORDS = 4,
};

/* The finaliser of splitmix64 over both words. */
uint64_t pattern_mix(uint64_t a, uint64_t b)
{
	uint64_t x = a * PATTERN_STEP + b;

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static void sector_fill(uint64_t *words, const uint64_t header[HEADER_WORDS], unsigned sector_idx)
{
	uint64_t word = pattern_mix(pattern_mix(header[1], header[2]), header[3] + sector_idx);

	memcpy(words, header, HEADER_WORDS * sizeof(*words));
	for (unsigned i = HEADER_WORDS; i < WORDS_PER_SECTOR; i++)
		words[i] = word += PATTERN_STEP;
}

void pattern_fill(void *buf, uint64_t seed, uint64_t block, uint64_t gen)
{
	const uint64_t header[HEADER_WORDS] = { PATTERN_MAGIC, block, gen, seed };

	for (unsigned i = 0; i < SECTORS_PER_BLOCK; i++)
		sector_fill((uint64_t *)buf + i * WORDS_PER_SECTOR, header, i);
}

static bool is_zero(const uint64_t *words)
{
	uint64_t any = 0;

	for (unsigned i = 0; i < WORDS_PER_SECTOR; i++)
		any |= words[i];
	return any == 0;
}

static struct pattern sector_read(const uint64_t *words, uint64_t seed, unsigned sector_idx)
{
	struct pattern p = { .kind = PATTERN_GARBAGE, .block = words[1], .gen = words[2] };
	uint64_t expected[WORDS_PER_SECTOR];

	if (is_zero(words)) {
		p.kind = PATTERN_ZERO;
		return p;
	}
	if (words[0] != PATTERN_MAGIC || words[3] != seed)
		return p;
	sector_fill(expected, words, sector_idx);
	if (memcmp(expected, words, sizeof(expected)) == 0)
		p.kind = PATTERN_WHOLE;
	return p;
}

struct pattern pattern_read(const void *buf, uint64_t seed)
{
	struct pattern first = sector_read(buf, seed, 0);

	for (unsigned i = 1; i < SECTORS_PER_BLOCK && first.kind != PATTERN_GARBAGE; i++) {
		struct pattern p =
			sector_read((const uint64_t *)buf + i * WORDS_PER_SECTOR, seed, i);

		if (p.kind == PATTERN_GARBAGE)
			return p;
		if (p.kind != first.kind || p.block != first.block || p.gen != first.gen)
			first.kind = PATTERN_TORN;
	}
	return first;
}
