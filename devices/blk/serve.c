/* Requests from ring to answer. See blk-private.h. */
#include "devices/blk/blk-private.h"

#include <linux/virtio_blk.h>

#include "devices/base/crash.h"
#include "devices/virtio/iov.h"

enum {
	TAKE_BATCH = 64,
	/*
	 * Bytes of page cache in a batch. They are copied while submitting; the driver, once it
	 * has been woken, fills the ring while the next batch is copied. Larger batches leave us
	 * without work meanwhile, smaller ones wake it more often.
	 */
	TAKE_BYTES = 32 << 10,
	RETRY_NS = 1000000, /* when the I/O rings are full; a completion comes earlier */
};

void blk_log_byte(const struct vring *r, const uint8_t *p)
{
	if (memory_logs(r->queue.memory))
		memory_log_host(r->queue.memory, p, 1);
}

void blk_log_data(const struct blk_request *rq)
{
	const struct memory *m = rq->ring->queue.memory;

	for (uint32_t i = 0; i < rq->n_iov && memory_logs(m); i++)
		memory_log_host(m, rq->data[i].iov_base, rq->data[i].iov_len);
}

/*
 * VIRTIO 1.3 §2.7.8.2: so many bytes from the first writable one on have been written. The status
 * is the last of them, and counts if nothing before it was left out.
 */
static uint32_t written_len(const struct blk_request *rq)
{
	switch ((enum request_kind)rq->kind) {
	case REQUEST_READ:
		return rq->status == VIRTIO_BLK_S_OK ? rq->len + 1 : 0;
	case REQUEST_ANSWER:
		return rq->len == iov_len(rq->data, rq->n_iov) ? rq->len + 1 : rq->len;
	case REQUEST_WRITE:
	case REQUEST_FLUSH:
	case REQUEST_DISCARD:
	case REQUEST_ZERO:
		break;
	}
	return 1;
}

void blk_finish(struct thread *t, struct blk_request *rq)
{
	/* What the kernel wrote is logged by its step (io.c); this is what we wrote (GET_ID). */
	if (rq->kind == REQUEST_ANSWER && rq->len > 0)
		blk_log_data(rq);
	*rq->status_byte = rq->status;
	blk_log_byte(rq->ring, rq->status_byte);
	rq->active = false;
	CRASH_POINT("blk.status_written");
	thread_push(t, rq->ring, rq->head, written_len(rq));
}

/* The bounce buffer may have become free. */
static void start_waiting(struct blk *b, struct thread *t)
{
	struct io_bounce *bounce = &b->threads[t->index].bounce;
	struct blk_request *rq;

	while ((rq = io_next_waiting(bounce)) != NULL)
		if (io_start(&b->target, bounce, t, rq) == IO_DONE)
			blk_finish(t, rq);
}

static void break_ring(struct thread *t, struct vring *r, uint16_t head)
{
	r->queue.broken = true;
	r->queue.broken_why = QUEUE_BAD_CHAIN;
	r->queue.broken_chain = CHAIN_TOO_SHORT;
	thread_push(t, r, head, 0);
}

/* Parse the chain into its request. False: the ring is broken by it. */
bool blk_prepare(struct blk *b, struct thread *t, struct vring *r, const struct chain *c)
{
	struct blk_request *rq = blk_request_of(b, r, c->head);

	rq->head = c->head;
	rq->room = &b->rooms[r->index][c->head];
	rq->ring = r;
	rq->tag = tag_make(r->index, c->head, inflight_counter(&r->queue.inflight, c->head));
	if (!blk_request_parse(rq, c, &b->limits)) {
		break_ring(t, r, c->head);
		return false;
	}
	rq->active = true;
	return true;
}

void blk_start(struct blk *b, struct thread *t, struct vring *r, const struct chain *c)
{
	struct blk_request *rq = blk_request_of(b, r, c->head);
	struct blk_thread *mine = &b->threads[t->index];

	thread_take_up(t, r, c->head);
	if (blk_prepare(b, t, r, c)) {
		if (!b->target.direct && b->use_uring)
			share_begin(&mine->share, t, rq);
		if (io_start(&b->target, &mine->bounce, t, rq) == IO_DONE)
			blk_finish(t, rq);
	}
	thread_set_down(t);
	CRASH_POINT("blk.started");
}

void blk_begun(struct device *d, struct thread *t)
{
	struct blk *b = blk_of(d);

	if (t->index == 0 && b->target.direct && b->use_uring)
		uncache_begin(&b->uncache, t, b->image.sectors * REQUEST_SECTOR);
}

uint32_t blk_take(struct device *d, struct thread *t, struct vring *r)
{
	struct blk *b = blk_of(d);
	uint32_t n = 0, bytes = 0;

	while (n < TAKE_BATCH && bytes < TAKE_BYTES) {
		struct chain c = blk_spare_chain(b, t);

		t->retry_ns = thread_has_room(t) ? throttle_wait_ns(&b->throttle) : RETRY_NS;
		if (t->retry_ns > 0 || queue_pop(&r->queue, &c) != QUEUE_OK)
			break;
		if (n++ == 0)
			queue_disable_notify(&r->queue);
		thread_taken(t, r);
		throttle_charge(&b->throttle, c.readable_len + c.writable_len);
		blk_start(b, t, r, &c);
		if (!b->target.direct && !blk_request_of(b, r, c.head)->share)
			bytes += c.readable_len + c.writable_len;
	}
	return n;
}

/* The request that a tag names, if it is one that is at work. */
static struct blk_request *find(struct blk *b, const struct thread *t, uint64_t tag)
{
	uint32_t index = tag_ring(tag);
	uint16_t head = tag_head(tag);
	struct blk_request *rq;

	if (index >= b->model.device.n_queues || head >= b->queue_size || !b->requests[index])
		return NULL;
	rq = &b->requests[index][head];
	return rq->active && rq->tag == tag && rq->ring->thread == t ? rq : NULL;
}

void blk_complete(struct device *d, struct thread *t, uint64_t tag, int32_t res)
{
	struct blk *b = blk_of(d);
	struct io_bounce *bounce = &b->threads[t->index].bounce;
	struct blk_request *rq = find(b, t, tag);

	if (uncache_is(tag))
		uncache_continue(&b->uncache, t, res);
	if (!rq)
		return;
	if (rq->share)
		share_end(&b->threads[t->index].share, t, rq);
	thread_take_up(t, rq->ring, rq->head);
	if (io_continue(&b->target, bounce, t, rq, res) == IO_DONE)
		blk_finish(t, rq);
	thread_set_down(t);
	start_waiting(b, t);
}
