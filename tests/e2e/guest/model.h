/*
 * What must be on the disk: the model that everything read back is judged by.
 *
 * Runs in: the test guest (and on the host for the self-test).
 * Trusts:  its callers to hold a block's extent while they speak of the block.
 *
 * A block is zero, holds the data of one generation, or, after a discard, either of the two. Every
 * acknowledged change takes the next number of one sequence; a flush, when it is acknowledged,
 * promises everything up to the number that the sequence had when the flush was sent. A block that
 * is wrong though its change was promised counts as lost after flush as well as wrong.
 */
#pragma once

#include "tests/e2e/guest/pattern.h"

#include <stdatomic.h>

enum block_state {
	BLOCK_ZERO,
	BLOCK_DATA,
	BLOCK_EITHER,  /* discarded: zero or the data from before */
	BLOCK_UNKNOWN, /* a write to it failed */
};

struct block {
	uint64_t gen;	  /* of the last acknowledged write */
	uint64_t ack_seq; /* number of the last acknowledged change */
	enum block_state state;
};

enum verdict {
	VERDICT_GOOD,
	VERDICT_STALE,	   /* older than acknowledged, zeroes included */
	VERDICT_UNWRITTEN, /* data of a write that is not the last one and not older */
	VERDICT_MISPLACED,
	VERDICT_TORN,
	VERDICT_GARBAGE,
	_VERDICT_MAX,
};

struct model {
	uint64_t seed;
	uint64_t n_blocks;
	struct block *blocks;
	atomic_uint_fast64_t ack_seq;	  /* number of the last acknowledged change */
	atomic_uint_fast64_t flushed_seq; /* everything up to here was promised by a flush */
	atomic_uint_fast64_t gen;	  /* generation of the last write sent */
	atomic_uint_fast64_t n_verdicts[_VERDICT_MAX];
	atomic_uint_fast64_t n_lost_flushed;
};

int model_init(struct model *m, uint64_t seed, uint64_t n_blocks);
void model_done(struct model *m);

/* A change to n blocks from block_idx was acknowledged; gen is of a write. */
void model_acked(struct model *m, uint64_t block_idx, uint64_t n, enum block_state state,
		 uint64_t gen);
/* A flush that was sent when the sequence stood at seq was acknowledged. */
void model_flushed(struct model *m, uint64_t seq);

/* Judges a block as read, counts the verdict, and settles a discarded block as it was found. */
enum verdict model_check(struct model *m, uint64_t block_idx, const void *buf);
uint64_t model_n_mismatches(struct model *m);
const char *verdict_to_string(enum verdict v);

/* One number for a disk's contents: the sum over its blocks that hold data. */
uint64_t model_digest(const struct model *m);
uint64_t model_digest_of(uint64_t block_idx, uint64_t gen);
