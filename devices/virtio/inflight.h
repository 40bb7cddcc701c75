/*
 * The record of requests in flight: which heads the device has taken and not yet given back, in
 * which order (vhost-user.rst "Inflight I/O tracking", split virtqueue layout). It is in a memfd
 * that outlives the worker: the front-end's (VHOST_USER_SET_INFLIGHT_FD) or the device's own.
 *
 * Runs in: worker. Trusts: nothing in the region: another process wrote it, perhaps a taken-over
 * one.
 *
 * Who writes: the I/O thread that owns the queue, nobody else. The order, and what a successor
 * finds if the writer is killed after any store:
 *
 *  take:      desc[head].counter = next; then desc[head].inflight = 1 (release).
 *             Before that, the request was never taken: the available ring still shows it, since
 *             last_avail = used.idx + number in flight. After it, it is resubmitted.
 *  complete:  for each of the batch: desc[head].next = last_batch_head, last_batch_head = head
 *             (release), the used element; then used.idx (release).
 *             Killed before used.idx: still in flight, resubmitted. Killed after it: used_idx of
 *             the region differs from used.idx of the ring, so the whole last batch was given
 *             back, and recovery clears it.
 *  clear:     desc[head].inflight = 0 for each of the batch, then used_idx = used.idx (release).
 *             Killed in between: recovery clears the rest of the batch, walking from
 *             last_batch_head, bounded by the number of elements between the two indices.
 *
 * tests/unit/test-inflight.c steps through this one instruction at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/base/crash.h"

struct inflight_desc {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next;
	uint64_t counter;
};

/* One queue's part of the region; parts follow each other at inflight_queue_len(size) steps. */
struct inflight_region {
	uint64_t features;
	uint16_t version; /* 1; 0 in a region never used: initialise it */
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct inflight_desc desc[];
};

/* Bytes of one queue's part, a multiple of 64. */
uint64_t inflight_queue_len(uint32_t size);

struct inflight {
	struct inflight_region *region; /* shared, hostile */
	uint32_t size;			/* our copy of the number of descriptors; trusted */
	uint64_t counter;		/* the next request's number */
};

struct inflight_entry {
	uint64_t counter;
	uint16_t head;
};

/*
 * Attach to a region of one queue and bring it up to used_idx, the ring's used.idx as loaded:
 * initialise a fresh one (version 0), or finish the clearing of the last batch. Then list what is
 * in flight in entries[0..size), sorted by counter, and set *ret_n. Counters that repeat or heads
 * out of range in a hostile region lead at worst to some order, never outside of the arrays.
 * Returns false, having changed nothing, if the region's version or desc_num does not fit.
 */
bool inflight_attach(struct inflight *f, struct inflight_region *region, uint32_t size,
		     uint16_t used_idx, struct inflight_entry *entries, uint32_t *ret_n);

/* How many are in flight in a region of a ring of this size? 0 also of one that is not. */
uint32_t inflight_count(const struct inflight_region *region, uint32_t size);

/* See the theory above. head is < size. */
static inline void inflight_take(struct inflight *f, uint16_t head)
{
	struct inflight_desc *desc = &f->region->desc[head];

	__atomic_store_n(&desc->counter, f->counter++, __ATOMIC_RELAXED);
	CRASH_POINT("inflight.take.counter");
	/* Release: pairs with the acquire in inflight_collect(). */
	__atomic_store_n(&desc->inflight, 1, __ATOMIC_RELEASE);
}

static inline void inflight_complete(struct inflight *f, uint16_t head)
{
	struct inflight_region *region = f->region;
	uint16_t last = __atomic_load_n(&region->last_batch_head, __ATOMIC_RELAXED);

	__atomic_store_n(&region->desc[head].next, last, __ATOMIC_RELAXED);
	CRASH_POINT("inflight.complete.next");
	/* Release: whoever follows last_batch_head to this head finds its next. */
	__atomic_store_n(&region->last_batch_head, head, __ATOMIC_RELEASE);
}

/* heads[0..n) are those completed since the last call; used_idx is what was published. */
void inflight_clear(struct inflight *f, const uint16_t *heads, uint16_t n, uint16_t used_idx);

/* The tag of a request in flight, for matching the completion of an I/O that a dead worker started.
 */
static inline uint64_t inflight_counter(const struct inflight *f, uint16_t head)
{
	return f->region->desc[head].counter;
}
bool inflight_is(const struct inflight *f, uint16_t head);

/*
 * The head that was taken last was not needed: one store takes it off the record, and the available
 * ring shows it again (last_avail = used.idx + number in flight).
 */
void inflight_untake(struct inflight *f, uint16_t head);
