/*
 * What must be on the disk: see model.h.
 *
 * Runs in: the test guest, and on the host for the self-test.
 * Trusts:  its callers to hold a block's extent while they speak of the block.
 */
#include "tests/e2e/guest/model.h"

#include <errno.h>
#include <stdlib.h>

static const char *const verdict_names[] = {
	[VERDICT_GOOD] = "good",	   [VERDICT_STALE] = "stale",
	[VERDICT_UNWRITTEN] = "unwritten", [VERDICT_MISPLACED] = "misplaced",
	[VERDICT_TORN] = "torn",	   [VERDICT_GARBAGE] = "garbage",
};
_Static_assert(sizeof(verdict_names) / sizeof(*verdict_names) == _VERDICT_MAX,
	       "every verdict has a name");

const char *verdict_to_string(enum verdict v)
{
	return v < _VERDICT_MAX ? verdict_names[v] : "?";
}

int model_init(struct model *m, uint64_t seed, uint64_t n_blocks)
{
	*m = (struct model){ .seed = seed, .n_blocks = n_blocks };
	m->blocks = calloc(n_blocks, sizeof(*m->blocks));
	return m->blocks ? 0 : -ENOMEM;
}

void model_done(struct model *m)
{
	free(m->blocks);
	m->blocks = NULL;
}

void model_acked(struct model *m, uint64_t block_idx, uint64_t n, enum block_state state,
		 uint64_t gen)
{
	uint64_t seq = atomic_fetch_add(&m->ack_seq, 1) + 1;

	for (uint64_t i = block_idx; i < block_idx + n; i++) {
		struct block *b = &m->blocks[i];

		/* A discard of what is zero leaves zeroes, and tells nothing about the unknown. */
		if (state != BLOCK_EITHER || b->state == BLOCK_DATA)
			b->state = state;
		b->ack_seq = seq;
		if (state == BLOCK_DATA)
			b->gen = gen;
	}
}

void model_flushed(struct model *m, uint64_t seq)
{
	uint_fast64_t old = atomic_load(&m->flushed_seq);

	while (old < seq && !atomic_compare_exchange_weak(&m->flushed_seq, &old, seq))
		;
}

/* A block that holds data, judged against the generation that it should have. */
static enum verdict judge_data(const struct pattern *p, uint64_t block_idx, uint64_t gen)
{
	switch (p->kind) {
	case PATTERN_ZERO:
		return VERDICT_STALE;
	case PATTERN_TORN:
		return VERDICT_TORN;
	case PATTERN_GARBAGE:
		return VERDICT_GARBAGE;
	case PATTERN_WHOLE:
		break;
	}
	if (p->block != block_idx)
		return VERDICT_MISPLACED;
	if (p->gen == gen)
		return VERDICT_GOOD;
	return p->gen < gen ? VERDICT_STALE : VERDICT_UNWRITTEN;
}

static enum verdict judge(struct block *b, const struct pattern *p, uint64_t block_idx)
{
	enum verdict v;

	switch (b->state) {
	case BLOCK_ZERO:
		if (p->kind == PATTERN_ZERO)
			return VERDICT_GOOD;
		/* Data where zeroes were acknowledged is older than they are. */
		v = judge_data(p, block_idx, p->gen);
		return v == VERDICT_GOOD ? VERDICT_STALE : v;
	case BLOCK_DATA:
		return judge_data(p, block_idx, b->gen);
	case BLOCK_EITHER:
		b->state = p->kind == PATTERN_ZERO ? BLOCK_ZERO : BLOCK_DATA;
		return b->state == BLOCK_ZERO ? VERDICT_GOOD : judge_data(p, block_idx, b->gen);
	case BLOCK_UNKNOWN:
		break;
	}
	return VERDICT_GOOD; /* the failed write was counted as an error */
}

enum verdict model_check(struct model *m, uint64_t block_idx, const void *buf)
{
	struct block *b = &m->blocks[block_idx];
	struct pattern p = pattern_read(buf, m->seed);
	enum verdict v = judge(b, &p, block_idx);

	atomic_fetch_add(&m->n_verdicts[v], 1);
	if (v != VERDICT_GOOD && b->ack_seq <= atomic_load(&m->flushed_seq))
		atomic_fetch_add(&m->n_lost_flushed, 1);
	return v;
}

uint64_t model_n_mismatches(struct model *m)
{
	uint64_t n = 0;

	for (unsigned v = VERDICT_GOOD + 1; v < _VERDICT_MAX; v++)
		n += atomic_load(&m->n_verdicts[v]);
	return n;
}

uint64_t model_digest_of(uint64_t block_idx, uint64_t gen)
{
	return pattern_mix(block_idx + 1, gen);
}

uint64_t model_digest(const struct model *m)
{
	uint64_t digest = 0;

	for (uint64_t i = 0; i < m->n_blocks; i++)
		if (m->blocks[i].state == BLOCK_DATA)
			digest += model_digest_of(i, m->blocks[i].gen);
	return digest;
}
