/* What a dead worker left in flight. See blk-private.h; the order of things: process/thread.h. */
#include "devices/blk/blk-private.h"

#include <linux/virtio_blk.h>

#include "devices/process/worker.h"

/* The ring of this thread that a dead worker's tag names, if its head and counter are in flight. */
static struct vring *vring_of_tag(const struct thread *t, uint64_t tag)
{
	for (uint32_t i = 0; i < t->n_vrings; i++) {
		struct vring *r = t->vrings[i];
		uint16_t head = tag_head(tag);

		if (r->index != tag_ring(tag))
			continue;
		if (!r->attached || head >= r->queue.size || !queue_is_taken(&r->queue, head) ||
		    (inflight_counter(&r->queue.inflight, head) & TAG_COUNTER_MASK) !=
			    (tag & TAG_COUNTER_MASK))
			return NULL;
		return r;
	}
	return NULL;
}

static void recover_head(struct blk *b, struct thread *t, struct vring *r, uint64_t tag,
			 int32_t res)
{
	struct chain c = blk_spare_chain(b, t);
	struct blk_request *rq;

	if (queue_load_again(&r->queue, tag_head(tag), &c) != QUEUE_OK)
		return;
	rq = blk_request_of(b, r, c.head);
	if (!blk_prepare(b, t, r, &c) || !io_was_done(&b->target, rq, res))
		return;
	if (rq->kind == REQUEST_READ)
		blk_log_data(rq);
	rq->status = VIRTIO_BLK_S_OK;
	blk_finish(t, rq);
}

void blk_recover(struct device *d, struct thread *t, uint64_t tag, int32_t res)
{
	struct vring *r = vring_of_tag(t, tag);

	if (!r)
		return;
	thread_take_up(t, r, tag_head(tag));
	recover_head(blk_of(d), t, r, tag, res);
	thread_set_down(t);
}

void blk_resubmit(struct device *d, struct thread *t, struct vring *r, uint16_t head)
{
	struct blk *b = blk_of(d);
	struct chain c = blk_spare_chain(b, t);

	thread_take_up(t, r, head);
	if (queue_load_again(&r->queue, head, &c) == QUEUE_OK)
		blk_start(b, t, r, &c);
	else
		thread_push(t, r, head,
			    0); /* its descriptors were changed: nowhere to put a status */
	thread_set_down(t);
}

void blk_poison(struct device *d, struct thread *t, struct vring *r, uint16_t head)
{
	struct blk *b = blk_of(d);
	struct chain c = blk_spare_chain(b, t);
	uint8_t *status = NULL;

	/* If even that crashes, it is given back unseen the next time. */
	thread_take_up(t, r, head);
	if (r->suspicion[head] == WORKER_POISON_LIMIT &&
	    queue_load_again(&r->queue, head, &c) == QUEUE_OK)
		status = blk_request_status_byte(&c);
	if (status) {
		*status = VIRTIO_BLK_S_IOERR;
		blk_log_byte(r, status);
	}
	thread_push(t, r, head, status ? 1 : 0);
	thread_set_down(t);
}
