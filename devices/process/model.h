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
 *	resubmit   starts a request again, in the order of taking, after the fence; one that had
 *		   gone aside possibly after others, and after new ones (uring.h)
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
	bool kicked; /* since it was disabled, or set up anew */
	bool broken_told;
	bool lost; /* the memory that it is in is away: not served until that is back */
	uint64_t held_since_ns; /* a signal to the driver is held back; 0: none is */
	uint32_t n_signals;	/* given so far */
	int kick, call, err;	/* borrowed from the image */
	struct queue queue;
	uint8_t *suspicion;   /* by head: crashes in which it was in hand; in state */
	uint64_t *went_aside; /* by head, a bit each; in state */
	struct thread *thread;
	uint32_t n_inflight;	/* taken and not yet pushed; 0 when it is detached */
	uint32_t n_waiting;	/* of those, see thread_wait_begin() */
	uint32_t n_resubmit;	/* entries found in flight when it was attached */
	uint32_t n_resubmitted; /* of those, begun anew; nothing new is taken before all are */
	uint32_t n_deferred;	/* not yet, for the second ring's fence; the first of resubmit[] */
	struct inflight_entry resubmit[QUEUE_MAX_SIZE];
};

struct model_ops {
	/* As in struct device_ops. */
	void (*config_read)(struct device *d, const struct image *im, uint32_t offset, uint32_t len,
			    uint8_t *ret_bytes);
	bool (*config_write)(struct device *d, struct image *im, uint32_t offset, uint32_t len,
			     const uint8_t *bytes);
	void (*reset)(struct device *d, struct image *im);
	/* The same; NULL where the device does not offer it. */
	bool (*mtu_set)(struct device *d, struct image *im, uint64_t mtu);
	bool (*announce)(struct device *d, const uint8_t mac[6]);

	/*
	 * Attach to the type's part of the state memfd (program.h: state_len), zeroes in a new
	 * session, else as the last worker left it: hostile. 0; -EBADMSG if it does not pass its
	 * checks; another negative errno is fatal. NULL without such a part.
	 */
	int (*attach)(struct device *d, void *state);

	/* Every descriptor from CONTRACT_FD_SESSION up that is the model's and outlives the worker;
	 * NULL: none. */
	void (*for_each_fd)(struct device *d, void (*found)(int fd, void *arg), void *arg);

	/* Instead, where there are many: the set of them, n in bit n % 64 of word n / 64. */
	const uint64_t *(*fds)(struct device *d, uint32_t *ret_n_words);

	/*
	 * For each I/O thread, on the main thread before confinement: memory for requests and the
	 * like. Negative errno is fatal. (What a thread must do itself: program.h, thread_begin.)
	 */
	int (*thread_init)(struct device *d, struct thread *t);

	/*
	 * The same once the last worker is dead, its state attached and the thread's event loop
	 * there: what needs descriptors of its own. NULL: nothing does.
	 */
	int (*thread_open)(struct device *d, struct thread *t);

	/* A ring has been attached: forget what a ring of this index had before. */
	void (*ring_attached)(struct device *d, struct thread *t, struct vring *r);

	/*
	 * A ring goes, and what waits in it (thread_wait_begin) with it: forget it. If the ring
	 * goes on from where it was, it comes again (resubmit). NULL: nothing waits like that.
	 */
	void (*ring_detached)(struct device *d, struct thread *t, struct vring *r);

	/* The thread begins to serve in a new session (not after a death); NULL: of no interest. */
	void (*begun)(struct device *d, struct thread *t);

	/* Pop and start up to a batch; the number taken. 0: nothing there, or no room. */
	uint32_t (*take)(struct device *d, struct thread *t, struct vring *r);

	/*
	 * The ring is disabled, and was kicked since: what is in it is discarded, if that is what
	 * its type of device does (vhost-user.rst, "Ring states"). As take(). NULL: it waits.
	 */
	uint32_t (*discard)(struct device *d, struct thread *t, struct vring *r);

	/*
	 * Is a buffer in this ring work? A driver fills a receive ring ahead: what lies there is
	 * none, unless the model has run out of them; what a limit holds back is none before its
	 * time (thread_retry). NULL: it always is.
	 */
	bool (*wants)(struct device *d, const struct thread *t, const struct vring *r);

	/*
	 * Has something come that is in no ring, and that the thread was waiting for? A few loads.
	 * sleeps: if not, an event has to wake the thread from now on. NULL: only events tell.
	 */
	bool (*pending)(struct device *d, const struct thread *t, bool sleeps);

	/*
	 * A descriptor that the model watches itself, in the thread's epoll, with
	 * THREAD_EVENT_MODEL in its data, is ready. It comes between turns, or before one: what is
	 * to be done is remembered until then. NULL: there is none.
	 */
	void (*event)(struct device *d, struct thread *t, uint64_t data, uint32_t events);

	/*
	 * Does the driver get on without knowing at once what it has got back in this ring? Then it
	 * is signalled when the thread sleeps, at the latest. NULL: never.
	 */
	bool (*unhurried)(struct device *d, const struct vring *r);

	/* What was pushed has been published, all of this thread's; NULL: of no interest. */
	void (*published)(struct device *d, struct thread *t);

	/* The thread is to drain: give up what waits for something else than the host; NULL:
	 * nothing does. */
	void (*give_up)(struct device *d, struct thread *t);

	/* The completion with this tag has come. (This and recover: only with io_uring.) */
	void (*complete)(struct device *d, struct thread *t, uint64_t tag, int32_t res);

	/* As above for what a dead worker had started: if it did the request, push it. */
	void (*recover)(struct device *d, struct thread *t, uint64_t tag, int32_t res);

	/* Start the request of a head in flight again. */
	void (*resubmit)(struct device *d, struct thread *t, struct vring *r, uint16_t head);

	/* Give a head in flight back as failed, without looking at it more than that takes. */
	void (*poison)(struct device *d, struct thread *t, struct vring *r, uint16_t head);

	/* The image of the session has changed; no thread runs. Before the rings follow it. */
	void (*configure)(struct device *d, const struct image *im);

	/* Main thread: an I/O thread has asked (worker.h), and none runs. NULL: none asks. */
	void (*settle)(struct device *d);

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
