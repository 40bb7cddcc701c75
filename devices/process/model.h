/*
 * What a device type (blk, net, fs, vsock) gives to the worker that runs it.
 *
 * Runs in: worker. Trusts: the model trusts its caller; what comes out of rings is hostile
 *          (virtio/).
 *
 * Life of a request in an I/O thread:
 *
 *	take       pops chains from a ring and starts them                     (pop → submit)
 *	complete   is told the result of an I/O, pushes the chain              (complete)
 *	           then the thread publishes the ring and signals its driver   (publish → clear)
 *
 * After a worker's death, for what it left in flight:
 *
 *	recover    is told a result that the dead worker did not use: is the request done by it?
 *	resubmit   starts a request again, in the order of taking, after the fence
 *	poison     instead of that, if it has crashed too many workers
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/process/uring.h"
#include "devices/vhost/device.h"
#include "devices/virtio/queue.h"

struct thread;

/* A started virtqueue, in the hands of one I/O thread. */
struct vring {
	uint32_t index;
	bool attached; /* the queue is started; the thread serves it if enabled */
	bool enabled;
	bool broken_told;
	int kick, call, err; /* borrowed from the image */
	struct queue queue;
	struct queue_spec spec;
	uint8_t *suspicion; /* by head: crashes in which it was in hand; in state */
	struct thread *thread;
	uint32_t n_resubmit;	/* entries found in flight when it was attached */
	uint32_t n_resubmitted; /* of those, begun anew; nothing new is taken before all are */
	struct inflight_entry resubmit[QUEUE_MAX_SIZE];
};

struct model_ops {
	/* As in struct device_ops. */
	void (*config_read)(struct device *d, const struct image *im, uint32_t offset, uint32_t len,
			    uint8_t *ret_bytes);
	bool (*config_write)(struct device *d, struct image *im, uint32_t offset, uint32_t len,
			     const uint8_t *bytes);
	void (*reset)(struct device *d, struct image *im);

	/* In each I/O thread, before confinement: memory for requests and the like. Negative errno
	 * is fatal. */
	int (*thread_init)(struct device *d, struct thread *t);

	/* A ring has been attached: forget what a ring of this index had before. */
	void (*ring_attached)(struct device *d, struct thread *t, struct vring *r);

	/* Pop and start up to a batch; the number taken. 0: nothing there, or no room. */
	uint32_t (*take)(struct device *d, struct thread *t, struct vring *r);

	/* The completion with this tag has come. */
	void (*complete)(struct device *d, struct thread *t, uint64_t tag, int32_t res);

	/* As above for what a dead worker had started; true if the request is done and pushed. */
	bool (*recover)(struct device *d, struct thread *t, uint64_t tag, int32_t res);

	/* Start the request of a head in flight again. */
	void (*resubmit)(struct device *d, struct thread *t, struct vring *r, uint16_t head);

	/* Give a head in flight back as failed, without looking at it more than that takes. */
	void (*poison)(struct device *d, struct thread *t, struct vring *r, uint16_t head);

	/* The image of the session has changed; no thread runs. */
	void (*configure)(struct device *d, const struct image *im);

	/* Opcodes and files that an I/O thread's rings are restricted to, its second one if aside;
	 * NULL: no io_uring wanted. */
	const struct uring_spec *(*uring_spec)(struct device *d, bool aside);
};

struct model {
	struct device device; /* first; its ops are the worker's */
	const struct model_ops *ops;
};

/* A tag names a request in one ring: index, head, and the low bits of its in-flight counter. */
#define TAG_COUNTER_MASK ((UINT64_C(1) << 40) - 1)

static inline uint64_t tag_make(uint32_t ring, uint16_t head, uint64_t counter)
{
	return (uint64_t)ring << 56 | (uint64_t)head << 40 | (counter & TAG_COUNTER_MASK);
}

static inline uint32_t tag_ring(uint64_t tag)
{
	return (uint32_t)(tag >> 56);
}

static inline uint16_t tag_head(uint64_t tag)
{
	return (uint16_t)(tag >> 40);
}
