/* The block device model: configuration space, requests from ring to answer, set-up. See blk.h. */
#include "devices/blk/blk.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/base/crash.h"
#include "devices/base/log.h"
#include "devices/blk/io.h"
#include "devices/blk/request.h"
#include "devices/blk/throttle.h"
#include "devices/process/contract.h"
#include "devices/process/thread.h"
#include "devices/process/worker.h"
#include "devices/virtio/feature.h"

enum {
	DEVICE_BYTE_WCE = 0, /* image.device[0]: the driver's write cache */
	TAKE_BATCH = 64,
	/* Bytes of page cache in a batch: copied while submitting, and the driver waits so long. */
	TAKE_BYTES = 128 << 10,
	MAX_RANGE_SECTORS = 1 << 22, /* 2 GiB in one range of a discard */
	RING_ENTRIES_MAX = 4096,
	RETRY_NS = 1000000, /* when the I/O rings are full; a completion comes earlier */
};

/* One I/O thread's requests. */
struct blk_thread {
	struct io_bounce bounce;
	struct iovec iov[REQUEST_IOV_LEN]; /* of the chain just popped */
};

struct blk {
	struct model model; /* first */
	struct disk_image image;
	struct request_limits limits;
	struct io_target target;
	struct throttle throttle;
	enum image_cache cache;
	struct uring_spec transfers, aside;
	bool use_uring;
	int file;
	uint32_t queue_size;
	struct blk_request *requests[CONTRACT_MAX_QUEUES];   /* by head */
	struct blk_request_room *rooms[CONTRACT_MAX_QUEUES]; /* by head */
	bool used[CONTRACT_MAX_QUEUES];			     /* a ring has been attached before */
	struct blk_thread threads[CONTRACT_MAX_THREADS];
};

static struct blk the_blk;
static _Alignas(4096) const uint8_t zeroes[REQUEST_ZEROES_LEN];

static struct blk *blk_of(struct device *d)
{
	return (struct blk *)(void *)d;
}

/* Configuration space */

static void fill_topology(const struct blk *b, struct virtio_blk_config *c)
{
	const struct disk_image *im = &b->image;
	uint32_t ratio = im->physical_len / im->block_len;

	while (ratio > 1 && c->physical_block_exp < 16) {
		c->physical_block_exp++;
		ratio >>= 1;
	}
	c->alignment_offset = (uint8_t)(im->align_offset / im->block_len);
	c->min_io_size = (uint16_t)(im->io_min / im->block_len);
	c->opt_io_size = im->io_opt / im->block_len;
}

static void fill_config(const struct blk *b, const struct image *im, struct virtio_blk_config *c)
{
	uint32_t per_block = b->image.block_len / REQUEST_SECTOR;

	memset(c, 0, sizeof(*c));
	c->capacity = b->image.sectors;
	c->size_max = REQUEST_BOUNCE_LEN;
	c->seg_max =
		b->queue_size - 2 < REQUEST_MAX_SEGMENTS ? b->queue_size - 2 : REQUEST_MAX_SEGMENTS;
	c->blk_size = b->image.block_len;
	fill_topology(b, c);
	c->wce = im->device[DEVICE_BYTE_WCE];
	c->num_queues = (uint16_t)b->model.device.n_queues;
	c->max_discard_sectors = MAX_RANGE_SECTORS;
	c->max_discard_seg = REQUEST_MAX_RANGES;
	c->discard_sector_alignment = per_block;
	c->max_write_zeroes_sectors = MAX_RANGE_SECTORS;
	c->max_write_zeroes_seg = REQUEST_MAX_RANGES;
	c->write_zeroes_may_unmap = 1;
}

static void config_read(struct device *d, const struct image *im, uint32_t offset, uint32_t len,
			uint8_t *ret_bytes)
{
	struct virtio_blk_config c;

	fill_config(blk_of(d), im, &c);
	memcpy(ret_bytes, (const uint8_t *)&c + offset, len);
}

/* The write cache is the one writable field (VIRTIO 1.3 §5.2.5.2). */
static bool config_write(struct device *d, struct image *im, uint32_t offset, uint32_t len,
			 const uint8_t *bytes)
{
	if (offset != offsetof(struct virtio_blk_config, wce) || len != 1 || bytes[0] > 1)
		return false;
	im->device[DEVICE_BYTE_WCE] = bytes[0];
	return true;
}

static void reset(struct device *d, struct image *im)
{
	im->device[DEVICE_BYTE_WCE] = blk_of(d)->cache != IMAGE_CACHE_WRITETHROUGH;
}

/*
 * VIRTIO 1.3 §5.2.6.2: a driver without FLUSH has no way to make writes durable, so each is;
 * without CONFIG_WCE it cannot know that the cache is off, which is safe.
 */
static void configure(struct device *d, const struct image *im)
{
	struct blk *b = blk_of(d);

	b->target.writeback = im->device[DEVICE_BYTE_WCE] &&
			      feature_has(im->features, FEATURE_BIT(VIRTIO_BLK_F_FLUSH));
}

/* Requests */

static struct blk_request *request_of(struct blk *b, const struct vring *r, uint16_t head)
{
	return &b->requests[r->index][head];
}

static struct chain spare_chain(struct blk *b, const struct thread *t)
{
	return (struct chain){ .iov = b->threads[t->index].iov, .iov_max = REQUEST_IOV_LEN };
}

static void log_byte(const struct vring *r, const uint8_t *p)
{
	if (memory_logs(r->queue.memory))
		memory_log_host(r->queue.memory, p, 1);
}

static void log_data(const struct blk_request *rq)
{
	const struct memory *m = rq->ring->queue.memory;

	for (uint32_t i = 0; i < rq->n_iov && memory_logs(m); i++)
		memory_log_host(m, rq->data[i].iov_base, rq->data[i].iov_len);
}

static void finish(struct thread *t, struct blk_request *rq)
{
	bool in = rq->kind == REQUEST_READ || rq->kind == REQUEST_ANSWER;

	/* What the kernel wrote is logged by its step (io.c); this is what we wrote (GET_ID). */
	if (rq->kind == REQUEST_ANSWER && rq->len > 0)
		log_data(rq);
	*rq->status_byte = rq->status;
	log_byte(rq->ring, rq->status_byte);
	rq->active = false;
	CRASH_POINT("blk.status_written");
	thread_push(t, rq->ring, rq->head, (in ? rq->len : 0) + 1);
}

/* The bounce buffer may have become free. */
static void start_waiting(struct blk *b, struct thread *t)
{
	struct io_bounce *bounce = &b->threads[t->index].bounce;
	struct blk_request *rq;

	while ((rq = io_next_waiting(bounce)) != NULL)
		if (io_start(&b->target, bounce, t, rq) == IO_DONE)
			finish(t, rq);
}

static void break_ring(struct thread *t, struct vring *r, uint16_t head)
{
	r->queue.broken = true;
	r->queue.broken_why = QUEUE_BAD_CHAIN;
	r->queue.broken_chain = CHAIN_TOO_SHORT;
	thread_push(t, r, head, 0);
}

/* Parse the chain into its request. False: the ring is broken by it. */
static bool prepare(struct blk *b, struct thread *t, struct vring *r, const struct chain *c)
{
	struct blk_request *rq = request_of(b, r, c->head);

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

static void start(struct blk *b, struct thread *t, struct vring *r, const struct chain *c)
{
	struct blk_request *rq = request_of(b, r, c->head);

	thread_take_up(t, r, c->head);
	if (prepare(b, t, r, c) &&
	    io_start(&b->target, &b->threads[t->index].bounce, t, rq) == IO_DONE)
		finish(t, rq);
	thread_set_down(t);
	CRASH_POINT("blk.started");
}

static uint32_t take(struct device *d, struct thread *t, struct vring *r)
{
	struct blk *b = blk_of(d);
	uint32_t n = 0, bytes = 0;

	while (n < TAKE_BATCH && bytes < TAKE_BYTES) {
		struct chain c = spare_chain(b, t);

		t->retry_ns = thread_has_room(t) ? throttle_wait_ns(&b->throttle) : RETRY_NS;
		if (t->retry_ns > 0 || queue_pop(&r->queue, &c) != QUEUE_OK)
			break;
		if (n++ == 0)
			queue_disable_notify(&r->queue);
		t->n_inflight++;
		throttle_charge(&b->throttle, c.readable_len + c.writable_len);
		if (!b->target.direct)
			bytes += c.readable_len + c.writable_len;
		start(b, t, r, &c);
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

static void complete(struct device *d, struct thread *t, uint64_t tag, int32_t res)
{
	struct blk *b = blk_of(d);
	struct io_bounce *bounce = &b->threads[t->index].bounce;
	struct blk_request *rq = find(b, t, tag);

	if (!rq)
		return;
	thread_take_up(t, rq->ring, rq->head);
	if (io_continue(&b->target, bounce, t, rq, res) == IO_DONE)
		finish(t, rq);
	thread_set_down(t);
	start_waiting(b, t);
}

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

static bool recover_head(struct blk *b, struct thread *t, struct vring *r, uint64_t tag,
			 int32_t res)
{
	struct chain c = spare_chain(b, t);
	struct blk_request *rq;

	if (queue_load_again(&r->queue, tag_head(tag), &c) != QUEUE_OK)
		return false;
	rq = request_of(b, r, c.head);
	if (!prepare(b, t, r, &c) || !io_was_done(&b->target, rq, res))
		return false;
	if (rq->kind == REQUEST_READ)
		log_data(rq);
	rq->status = VIRTIO_BLK_S_OK;
	finish(t, rq);
	return true;
}

static bool recover(struct device *d, struct thread *t, uint64_t tag, int32_t res)
{
	struct vring *r = vring_of_tag(t, tag);
	bool done;

	if (!r)
		return false;
	thread_take_up(t, r, tag_head(tag));
	done = recover_head(blk_of(d), t, r, tag, res);
	thread_set_down(t);
	return done;
}

static void resubmit(struct device *d, struct thread *t, struct vring *r, uint16_t head)
{
	struct blk *b = blk_of(d);
	struct chain c = spare_chain(b, t);

	thread_take_up(t, r, head);
	if (queue_load_again(&r->queue, head, &c) == QUEUE_OK)
		start(b, t, r, &c);
	else
		thread_push(t, r, head,
			    0); /* its descriptors were changed: nowhere to put a status */
	thread_set_down(t);
}

static void poison(struct device *d, struct thread *t, struct vring *r, uint16_t head)
{
	struct blk *b = blk_of(d);
	struct chain c = spare_chain(b, t);
	uint8_t *status = NULL;

	/* If even that crashes, it is given back unseen the next time. */
	thread_take_up(t, r, head);
	if (r->suspicion[head] == WORKER_POISON_LIMIT &&
	    queue_load_again(&r->queue, head, &c) == QUEUE_OK)
		status = blk_request_status_byte(&c);
	if (status) {
		*status = VIRTIO_BLK_S_IOERR;
		log_byte(r, status);
	}
	thread_push(t, r, head, status ? 1 : 0);
	thread_set_down(t);
}

/* Set-up */

static void *room_for(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int requests_init(struct blk *b, uint32_t index)
{
	struct blk_request *rq = room_for(b->queue_size * sizeof(*rq));
	struct blk_request_room *rooms = room_for(b->queue_size * sizeof(*rooms));

	if (!rq || !rooms)
		return -ENOMEM;
	b->requests[index] = rq;
	b->rooms[index] = rooms;
	return 0;
}

static int thread_init(struct device *d, struct thread *t)
{
	struct blk *b = blk_of(d);
	int r = 0;

	b->threads[t->index].bounce.buffer = room_for(REQUEST_BOUNCE_LEN);
	if (!b->threads[t->index].bounce.buffer)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->n_vrings && r == 0; i++)
		r = requests_init(b, t->vrings[i]->index);
	return r;
}

static void ring_attached(struct device *d, struct thread *t, struct vring *r)
{
	struct blk *b = blk_of(d);

	/* A new worker's requests are zero pages that nothing has touched; leave them so. */
	for (uint32_t i = 0; b->used[r->index] && i < b->queue_size; i++)
		b->requests[r->index][i].active = false;
	b->used[r->index] = true;
}

static const struct uring_spec *uring_spec(struct device *d, bool aside)
{
	struct blk *b = blk_of(d);

	if (!b->use_uring)
		return NULL;
	return aside ? &b->aside : &b->transfers;
}

static const struct model_ops blk_ops = {
	.config_read = config_read,
	.config_write = config_write,
	.reset = reset,
	.configure = configure,
	.thread_init = thread_init,
	.ring_attached = ring_attached,
	.take = take,
	.complete = complete,
	.recover = recover,
	.resubmit = resubmit,
	.poison = poison,
	.uring_spec = uring_spec,
};

static uint64_t features(const struct blk *b, const struct blk_config *c)
{
	uint64_t f = FEATURE_VERSION_1 | FEATURE_RING_EVENT_IDX | FEATURE_RING_INDIRECT_DESC |
		     FEATURE_BIT(VIRTIO_BLK_F_SIZE_MAX) | FEATURE_BIT(VIRTIO_BLK_F_SEG_MAX) |
		     FEATURE_BIT(VIRTIO_BLK_F_BLK_SIZE) | FEATURE_BIT(VIRTIO_BLK_F_TOPOLOGY) |
		     FEATURE_BIT(VIRTIO_BLK_F_FLUSH) | FEATURE_BIT(VIRTIO_BLK_F_CONFIG_WCE) |
		     FEATURE_BIT(VIRTIO_BLK_F_MQ);

	if (b->limits.readonly)
		f |= FEATURE_BIT(VIRTIO_BLK_F_RO);
	else if (c->discard)
		f |= FEATURE_BIT(VIRTIO_BLK_F_DISCARD) | FEATURE_BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	return f;
}

static uint32_t ring_entries(const struct options *o)
{
	uint32_t threads = o->resume.n_threads;
	uint32_t want = (o->queues + threads - 1) / threads * o->queue_size;
	uint32_t n = 64;

	while (n < want && n < RING_ENTRIES_MAX)
		n *= 2;
	return n;
}

struct model *blk_create(void *config, const struct options *o)
{
	const struct blk_config *c = config;
	struct blk *b = &the_blk;

	if (disk_image_init(&b->image) < 0)
		return NULL;
	b->cache = c->cache;
	b->queue_size = o->queue_size;
	b->limits = (struct request_limits){ .sectors = b->image.sectors,
					     .block_len = b->image.block_len,
					     .readonly = c->readonly || b->image.readonly,
					     .discard = c->discard,
					     .serial = c->serial };
	b->use_uring = !o->no_io_uring;
	b->target = (struct io_target){ .direct = b->image.direct,
					.memory_align = b->image.memory_align,
					.uring = b->use_uring,
					.zeroes = zeroes };
	throttle_init(&b->throttle, c->iops, c->bandwidth);
	b->file = CONTRACT_FD_BLK_IMAGE;
	b->transfers = (struct uring_spec){ .n_entries = ring_entries(o),
					    .n_cq_entries = 2 * ring_entries(o),
					    .files = &b->file,
					    .n_files = 1,
					    .opcodes = io_transfer_opcodes,
					    .n_opcodes = io_n_transfer_opcodes };
	b->aside = b->transfers;
	b->aside.opcodes = io_aside_opcodes;
	b->aside.n_opcodes = io_n_aside_opcodes;
	b->model = (struct model){ .device = { .features = features(b, c),
					       .n_queues = o->queues,
					       .queue_size = o->queue_size,
					       .config_len = sizeof(struct virtio_blk_config) },
				   .ops = &blk_ops };
	return &b->model;
}
