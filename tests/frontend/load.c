/*
 * The verified load.
 *
 * Runs in: test programs. Trusts: nothing that the back-end says.
 *
 * The disk's area is blocks of 4 KiB. version[b] says what block b must hold:
 *
 *	0		zeros
 *	1 … 2^31 - 2	the pattern of this block and version
 *	| DISCARDED	that, or zeros: a discard promises nothing
 *	ANYTHING	not known (what the image had before, or after a failed request)
 *
 * A request locks its blocks from submission to completion: writers alone, readers together. So at
 *any time the model knows what a read must return, in whatever order the device works.
 *
 * Invariants:
 *  1. users[b] is -1 exactly while one busy slot may change block b.
 *  2. n_submitted - n_completed is the number of busy slots: with n_bogus of the queues at 0, every
 *request was answered once.
 */
#include "tests/frontend/load.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define ANYTHING  UINT32_MAX
#define DISCARDED UINT32_C(0x80000000)
#define STALL_MS  20000
#define MAX_DESCS 4 /* header, two pieces, status */

int load_init(struct load *l, struct fe *fe, const struct load_spec *spec)
{
	unsigned i, n = spec->depth * fe->n_queues;

	memset(l, 0, sizeof(*l));
	l->fe = fe;
	l->spec = *spec;
	l->random.state = spec->seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	l->n_blocks = (uint32_t)(spec->area_len / LOAD_BLOCK);
	l->next_version = 1;
	l->slots = calloc(n, sizeof(*l->slots));
	l->version = malloc(l->n_blocks * sizeof(*l->version));
	l->users = calloc(l->n_blocks, sizeof(*l->users));
	if (!l->slots || !l->version || !l->users)
		return -ENOMEM;
	memset(l->version, 0xff, l->n_blocks * sizeof(*l->version));
	for (i = 0; i < n; i++) {
		fe_blk_init(&l->slots[i].b, &fe->mem);
		l->slots[i].buf = fe_memory_alloc(&fe->mem, LOAD_MAX_BLOCKS * LOAD_BLOCK, 4096);
		l->slots[i].b.user = &l->slots[i];
	}
	return 0;
}

void load_done(struct load *l)
{
	free(l->slots);
	free(l->version);
	free(l->users);
	memset(l, 0, sizeof(*l));
}

static bool changes(enum load_op op)
{
	return op == LOAD_WRITE || op == LOAD_DISCARD || op == LOAD_ZEROES;
}

static bool lock_blocks(struct load *l, const struct load_slot *s)
{
	uint32_t i;

	for (i = s->block; i < s->block + s->n_blocks; i++)
		if (l->users[i] < 0 || (l->users[i] > 0 && changes(s->op)))
			return false;
	for (i = s->block; i < s->block + s->n_blocks; i++)
		l->users[i] = changes(s->op) ? -1 : (int16_t)(l->users[i] + 1);
	return true;
}

static void unlock_blocks(struct load *l, const struct load_slot *s)
{
	uint32_t i;

	for (i = s->block; i < s->block + s->n_blocks; i++)
		l->users[i] = changes(s->op) ? 0 : (int16_t)(l->users[i] - 1);
}

static enum load_op choose_op(struct load *l)
{
	uint64_t r = fill_below(&l->random, 100), f = l->fe->features;

	if (r < 45)
		return LOAD_READ;
	if (r < 90 || f & FE_BIT(VIRTIO_BLK_F_RO))
		return LOAD_WRITE;
	if (r < 94 && f & FE_BIT(VIRTIO_BLK_F_DISCARD))
		return LOAD_DISCARD;
	if (r < 97 && f & FE_BIT(VIRTIO_BLK_F_WRITE_ZEROES))
		return LOAD_ZEROES;
	return LOAD_FLUSH;
}

static void choose(struct load *l, struct load_slot *s)
{
	unsigned tries;

	s->op = choose_op(l);
	for (tries = 0; s->op != LOAD_FLUSH && tries < 16; tries++) {
		s->n_blocks = 1 + (uint32_t)fill_below(&l->random, LOAD_MAX_BLOCKS);
		s->block = (uint32_t)fill_below(&l->random, l->n_blocks - s->n_blocks + 1);
		if (lock_blocks(l, s))
			return;
	}
	s->op = LOAD_FLUSH;
	s->block = s->n_blocks = 0;
}

static void write_prepare(struct load *l, struct load_slot *s)
{
	uint32_t i, version = l->next_version++;

	for (i = 0; i < s->n_blocks; i++) {
		fill_pattern(s->buf + i * LOAD_BLOCK, LOAD_BLOCK, s->block + i, version);
		l->version[s->block + i] = version;
	}
}

static void range_prepare(struct load *l, struct load_slot *s)
{
	struct virtio_blk_discard_write_zeroes range = {
		.sector = (uint64_t)s->block * (LOAD_BLOCK / 512),
		.num_sectors = s->n_blocks * (LOAD_BLOCK / 512),
	};
	uint32_t i, *v;

	if (s->op == LOAD_ZEROES)
		range.flags = (uint32_t)fill_below(&l->random, 2);
	memcpy(s->buf, &range, sizeof(range));
	for (i = 0; i < s->n_blocks; i++) {
		v = &l->version[s->block + i];
		if (s->op == LOAD_ZEROES)
			*v = 0;
		else if (*v != ANYTHING)
			*v |= DISCARDED;
	}
}

static int slot_submit(struct load *l, struct fe_queue *q, struct load_slot *s)
{
	static const uint32_t types[] = {
		[LOAD_READ] = VIRTIO_BLK_T_IN,
		[LOAD_WRITE] = VIRTIO_BLK_T_OUT,
		[LOAD_FLUSH] = VIRTIO_BLK_T_FLUSH,
		[LOAD_DISCARD] = VIRTIO_BLK_T_DISCARD,
		[LOAD_ZEROES] = VIRTIO_BLK_T_WRITE_ZEROES,
	};
	struct fe_sg data[2] = { { s->buf, s->n_blocks * LOAD_BLOCK } };
	struct fe_blk_op op = { .type = types[s->op],
				.sector = (uint64_t)s->block * (LOAD_BLOCK / 512),
				.data = data,
				.n_data = s->op != LOAD_FLUSH };

	if (s->op == LOAD_READ)
		memset(s->buf, 0xee, data[0].len);
	if (s->op == LOAD_WRITE)
		write_prepare(l, s);
	if (s->op == LOAD_DISCARD || s->op == LOAD_ZEROES) {
		range_prepare(l, s);
		data[0].len = sizeof(struct virtio_blk_discard_write_zeroes);
		op.sector = 0;
	} else if (s->n_blocks > 1 && s->block % 2) {
		data[1] = (struct fe_sg){ s->buf + LOAD_BLOCK, data[0].len - LOAD_BLOCK };
		data[0].len = LOAD_BLOCK;
		op.n_data = 2;
	}
	op.indirect = q->indirect && (s->block % 3 || q->n_free < MAX_DESCS);
	return fe_blk_add(q, &s->b, &op);
}

unsigned load_submit(struct load *l)
{
	unsigned i, k, n = 0, before;

	for (k = 0; k < l->fe->n_queues; k++) {
		struct fe_queue *q = &l->fe->queues[k];

		before = n;
		for (i = 0; i < l->spec.depth; i++) {
			struct load_slot *s = &l->slots[k * l->spec.depth + i];

			if (s->busy || q->n_free < (q->indirect ? 1 : MAX_DESCS))
				continue;
			choose(l, s);
			if (slot_submit(l, q, s) < 0)
				abort(); /* there was room */
			s->busy = true;
			n++;
		}
		if (n > before)
			fe_queue_kick(q);
	}
	l->n_submitted += n;
	return n;
}

static bool block_right(const struct load *l, uint32_t block, const uint8_t *data)
{
	uint32_t v = l->version[block];

	if (v == ANYTHING)
		return true;
	if (v & DISCARDED && fill_is_zero(data, LOAD_BLOCK))
		return true;
	v &= ~DISCARDED;
	if (v == 0)
		return fill_is_zero(data, LOAD_BLOCK);
	return fill_matches(data, LOAD_BLOCK, block, v);
}

static void slot_complete(struct load *l, struct load_slot *s)
{
	uint8_t status = *s->b.status;
	uint32_t i;

	if (status != VIRTIO_BLK_S_OK) {
		l->n_errors++;
		for (i = 0; changes(s->op) && i < s->n_blocks; i++)
			l->version[s->block + i] = ANYTHING;
	} else if (s->op == LOAD_READ) {
		for (i = 0; i < s->n_blocks; i++)
			l->n_mismatches += !block_right(l, s->block + i, s->buf + i * LOAD_BLOCK);
	}
	unlock_blocks(l, s);
	s->busy = false;
	l->n_completed++;
	l->n_by_op[s->op]++;
}

unsigned load_reap(struct load *l)
{
	struct fe_used used;
	unsigned k, n = 0;

	for (k = 0; k < l->fe->n_queues; k++)
		while (fe_queue_pop(&l->fe->queues[k], &used)) {
			slot_complete(l, ((struct fe_blk *)used.user)->user);
			n++;
		}
	return n;
}

int load_wait(struct load *l, int timeout_ms)
{
	struct pollfd p[FE_MAX_QUEUES];
	unsigned k, n = l->fe->n_queues;
	bool pending = false;

	for (;;) {
		for (k = 0; k < n; k++) {
			pending |= fe_queue_arm(&l->fe->queues[k]);
			p[k] = (struct pollfd){ .fd = l->fe->queues[k].call, .events = POLLIN };
		}
		if (pending)
			return 0;
		if (poll(p, n, timeout_ms) == 0)
			return -ETIMEDOUT;
		for (k = 0; k < n; k++)
			if (p[k].revents)
				fe_queue_drain_call(&l->fe->queues[k]);
	}
}

int load_run(struct load *l, uint64_t n_requests)
{
	uint64_t until = l->n_completed + n_requests;
	int r;

	while (l->n_completed < until) {
		load_submit(l);
		r = load_wait(l, STALL_MS);
		if (r < 0)
			return r;
		load_reap(l);
	}
	return 0;
}

int load_drain(struct load *l)
{
	int r;

	while (l->n_completed < l->n_submitted) {
		r = load_wait(l, STALL_MS);
		if (r < 0)
			return r;
		load_reap(l);
	}
	return 0;
}

int load_verify(struct load *l)
{
	struct load_slot *s = &l->slots[0];
	uint32_t block, i, n;
	int status;

	for (block = 0; block < l->n_blocks; block += n) {
		n = l->n_blocks - block;
		n = n < LOAD_MAX_BLOCKS ? n : LOAD_MAX_BLOCKS;
		status = fe_blk_rw(&l->fe->queues[0], &s->b, VIRTIO_BLK_T_IN,
				   (uint64_t)block * (LOAD_BLOCK / 512),
				   (struct fe_sg){ s->buf, n * LOAD_BLOCK });
		if (status < 0)
			return status;
		l->n_errors += status != VIRTIO_BLK_S_OK;
		for (i = 0; i < n; i++)
			l->n_mismatches += !block_right(l, block + i, s->buf + i * LOAD_BLOCK);
	}
	return 0;
}
