/*
 * Block requests (VIRTIO 1.3 §5.2.6), one at a time or many in flight.
 *
 * Runs in: test programs. Trusts: its caller.
 */
#include "tests/frontend/blk.h"

#include <errno.h>
#include <string.h>

void fe_blk_init(struct fe_blk *b, struct fe_memory *m)
{
	memset(b, 0, sizeof(*b));
	b->header = fe_memory_alloc(m, sizeof(*b->header), 16);
	b->status = fe_memory_alloc(m, 1, 1);
}

static bool reads_into_guest(uint32_t type)
{
	return type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
}

int fe_blk_add(struct fe_queue *q, struct fe_blk *b, const struct fe_blk_op *op)
{
	unsigned n_out = 1, n_in = 1;

	if (op->n_data > FE_BLK_MAX_SEGS)
		return -E2BIG;
	*b->header = (struct virtio_blk_outhdr){ .type = op->type, .sector = op->sector };
	*b->status = FE_BLK_UNANSWERED;
	b->done = false;
	b->sg[0] = (struct fe_sg){ b->header, sizeof(*b->header) };
	if (op->n_data > 0)
		memcpy(&b->sg[1], op->data, op->n_data * sizeof(*op->data));
	b->sg[1 + op->n_data] = (struct fe_sg){ b->status, 1 };
	if (reads_into_guest(op->type))
		n_in += op->n_data;
	else
		n_out += op->n_data;
	if (op->indirect)
		return fe_queue_add_indirect(q, b->sg, n_out, n_in, b);
	return fe_queue_add(q, b->sg, n_out, n_in, b);
}

/* Waits until @b is done; others that finish meanwhile are marked done too. */
int fe_blk_wait(struct fe_queue *q, struct fe_blk *b, int timeout_ms)
{
	struct fe_used used;
	struct fe_blk *other;

	for (;;) {
		while (fe_queue_pop(q, &used)) {
			other = used.user;
			other->done = true;
			other->used_len = used.len;
		}
		if (b->done)
			return *b->status;
		if (!fe_queue_wait(q, timeout_ms))
			return -ETIMEDOUT;
	}
}

int fe_blk_run(struct fe_queue *q, struct fe_blk *b, const struct fe_blk_op *op)
{
	int r;

	r = fe_blk_add(q, b, op);
	if (r < 0)
		return r;
	fe_queue_kick(q);
	return fe_blk_wait(q, b, 10000);
}

int fe_blk_rw(struct fe_queue *q, struct fe_blk *b, uint32_t type, uint64_t sector,
	      struct fe_sg data)
{
	struct fe_blk_op op = {
		.type = type, .sector = sector, .data = &data, .n_data = data.len > 0
	};

	return fe_blk_run(q, b, &op);
}
