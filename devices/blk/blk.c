/* The block device model's set-up. See blk.h. */
#include "devices/blk/blk-private.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <sys/mman.h>

#include "devices/base/touch.h"
#include "devices/process/contract.h"

enum {
	RING_ENTRIES_MAX = 4096,
	FIRST_REQUESTS = 64,
};

static struct blk the_blk;
static _Alignas(4096) const uint8_t zeroes[REQUEST_ZEROES_LEN];

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
	/* Those of a driver that has not many under way, which it takes from the first on. */
	touch(rq, (b->queue_size < FIRST_REQUESTS ? b->queue_size : FIRST_REQUESTS) * sizeof(*rq));
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
	.config_read = blk_config_read,
	.config_write = blk_config_write,
	.reset = blk_reset,
	.configure = blk_configure,
	.thread_init = thread_init,
	.ring_attached = ring_attached,
	.begun = blk_begun,
	.take = blk_take,
	.complete = blk_complete,
	.recover = blk_recover,
	.resubmit = blk_resubmit,
	.poison = blk_poison,
	.uring_spec = uring_spec,
};

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
	b->model = (struct model){ .device = { .features = blk_features(b, c->discard),
					       .n_queues = o->queues,
					       .queue_size = o->queue_size,
					       .config_len = sizeof(struct virtio_blk_config) },
				   .ops = &blk_ops };
	return &b->model;
}
