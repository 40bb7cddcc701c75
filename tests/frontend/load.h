/* A mixed, verified load at a fixed depth, with a model of the disk in memory. */
#pragma once

#include "tests/frontend/blk.h"
#include "tests/frontend/fill.h"

enum load_op {
	LOAD_READ,
	LOAD_WRITE,
	LOAD_FLUSH,
	LOAD_DISCARD,
	LOAD_ZEROES,
	LOAD_N_OPS,
};

enum {
	LOAD_BLOCK = 4096,
	LOAD_MAX_BLOCKS = 8, /* in one request */
};

struct load_spec {
	unsigned depth;	   /* requests in flight on each queue */
	uint64_t area_len; /* of the disk, from its start */
	uint64_t seed;
};

struct load_slot {
	struct fe_blk b;
	uint8_t *buf; /* LOAD_MAX_BLOCKS blocks, and a range for discards */
	enum load_op op;
	uint32_t block, n_blocks;
	bool busy;
};

struct load {
	struct fe *fe;
	struct load_spec spec;
	struct fill_random random;
	struct load_slot *slots; /* depth of queue 0, depth of queue 1, … */
	uint32_t n_blocks;
	uint32_t *version; /* what each block holds; see load.c */
	int16_t *users;	   /* in-flight readers of each block, or -1 for a writer */
	uint32_t next_version;
	uint64_t n_submitted, n_completed;
	uint64_t n_by_op[LOAD_N_OPS];
	uint64_t n_errors;     /* requests that were not answered with OK */
	uint64_t n_mismatches; /* blocks that were not as the model has them */
};

int load_init(struct load *l, struct fe *fe, const struct load_spec *spec);
void load_done(struct load *l);
unsigned load_submit(struct load *l);		   /* fill up every queue; how many were added */
unsigned load_reap(struct load *l);		   /* take and check what is done */
int load_wait(struct load *l, int timeout_ms);	   /* blocks until something is done; -ETIMEDOUT */
int load_run(struct load *l, uint64_t n_requests); /* returns with the queues still full */
int load_drain(struct load *l);
int load_verify(struct load *l); /* after a drain: every block of the area, through queue 0 */
