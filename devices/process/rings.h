/*
 * The device's virtqueues: which are attached, to which thread, with which in-flight region.
 *
 * Runs in: worker's main thread, while no I/O thread runs (not yet released, or standing still).
 * Trusts:  the image as checked; not what is in the regions.
 *
 * rings_apply() makes the queues be what an image says, from whatever they are: it is the one path
 * for a request of the front-end and for a worker that takes over.
 */
#pragma once

#include <stdint.h>

#include "devices/process/state.h"
#include "devices/process/thread.h"

struct rings {
	struct state *state;
	struct memory *memory;
	struct model *model;
	struct thread *threads;
	uint32_t n_threads;
	uint32_t n_queues, queue_size;
	struct vring *vrings; /* n_queues */
	uint8_t *own;	      /* our in-flight region, at steps for queue_size */
	uint8_t *theirs;      /* the front-end's, mapped; NULL: none */
	size_t theirs_len;
	uint8_t *theirs_map;
	int theirs_fd;
};

/* Bytes of one in-flight region of n_queues, page-aligned. The memfd holds ours and one to give. */
uint64_t rings_region_len(uint32_t n_queues, uint32_t queue_size);
static inline uint64_t rings_memfd_len(uint32_t n_queues, uint32_t queue_size)
{
	return 2 * rings_region_len(n_queues, queue_size);
}

struct rings_spec {
	uint32_t n_threads, n_queues, queue_size;
	/* As in struct program. */
	uint32_t (*thread_of)(uint32_t ring, uint32_t n_rings, uint32_t n_threads);
};

/* Map our region and deal the queues out to the threads. 0 or a negative errno. */
int rings_init(struct rings *rs, struct state *state, struct memory *memory, struct thread *threads,
	       struct model *model, const struct rings_spec *spec);

/* Ahead of a turn: memory for what attaching them writes is there. */
void rings_touch(struct rings *rs);

/*
 * Started rings are attached, mapped anew, given their descriptors of now; the others are detached.
 * One that cannot be attached is broken, which its err descriptor tells.
 */
void rings_apply(struct rings *rs, const struct image *im);

/* As in struct device_ops (ring_begin). */
void rings_begin(struct rings *rs, uint32_t index, uint32_t size, uint32_t n_unanswered);

/* Next available index of an attached ring. */
uint16_t rings_base(const struct rings *rs, uint32_t index);
