/*
 * What the parts of the block device share inside a worker.
 *
 *	blk.c		set-up
 *	config.c	configuration space, features, the write cache
 *	serve.c		requests from ring to answer
 *	recover.c	what a dead worker left in flight
 *
 * Runs in: worker. Set up by blk_create() before threads run; the main thread changes target while
 * they stand still; requests and threads[i] belong to the I/O thread that owns the queue, or is i.
 */
#pragma once

#include "devices/blk/blk.h"
#include "devices/blk/io.h"
#include "devices/blk/request.h"
#include "devices/blk/share.h"
#include "devices/blk/uncache.h"
#include "devices/process/contract.h"
#include "devices/process/thread.h"
#include "devices/process/throttle.h"

/* One I/O thread's requests. */
struct blk_thread {
	struct io_bounce bounce;
	struct share share;
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
	struct uncache uncache;				     /* the first thread's */
	struct blk_thread threads[CONTRACT_MAX_THREADS];
};

static inline struct blk *blk_of(struct device *d)
{
	return (struct blk *)(void *)d;
}

static inline struct blk_request *blk_request_of(struct blk *b, const struct vring *r,
						 uint16_t head)
{
	return &b->requests[r->index][head];
}

/* An empty chain for the next pop: its elements are copied from it by blk_prepare(). */
static inline struct chain blk_spare_chain(struct blk *b, const struct thread *t)
{
	return (struct chain){ .iov = b->threads[t->index].iov, .iov_max = REQUEST_IOV_LEN };
}

/* config.c: as in struct model_ops. */
void blk_config_read(struct device *d, const struct image *im, uint32_t offset, uint32_t len,
		     uint8_t *ret_bytes);
bool blk_config_write(struct device *d, struct image *im, uint32_t offset, uint32_t len,
		      const uint8_t *bytes);
void blk_reset(struct device *d, struct image *im);
void blk_configure(struct device *d, const struct image *im);

/* The features that are offered, of an image that may be discarded or not. */
uint64_t blk_features(const struct blk *b, bool discard);

/* serve.c: as in struct model_ops. */
void blk_begun(struct device *d, struct thread *t);
uint32_t blk_take(struct device *d, struct thread *t, struct vring *r);
void blk_complete(struct device *d, struct thread *t, uint64_t tag, int32_t res);

/* Parse the chain of a head in flight into its request. False: the ring is broken by it. */
bool blk_prepare(struct blk *b, struct thread *t, struct vring *r, const struct chain *c);

/* Start the request of a chain that is in flight. */
void blk_start(struct blk *b, struct thread *t, struct vring *r, const struct chain *c);

/* rq->status is set: give the request back. */
void blk_finish(struct thread *t, struct blk_request *rq);

/* Log what was written to guest memory: a byte of it, or a request's data. */
void blk_log_byte(const struct vring *r, const uint8_t *p);
void blk_log_data(const struct blk_request *rq);

/* recover.c: as in struct model_ops. */
void blk_recover(struct device *d, struct thread *t, uint64_t tag, int32_t res);
void blk_resubmit(struct device *d, struct thread *t, struct vring *r, uint16_t head);
void blk_poison(struct device *d, struct thread *t, struct vring *r, uint16_t head);
