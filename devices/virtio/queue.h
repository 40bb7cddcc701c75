/*
 * One split virtqueue, device side: pop, push, publish, notifications; with every request in flight
 * on record, so that the queue can be taken over from a killed worker at any instruction.
 *
 * Runs in: worker; each queue in the one I/O thread that owns it. Trusts: nothing in the rings.
 *
 * Invariants:
 *  1. queue_pop() records a head in flight before it returns it (crash point queue.pop.recorded).
 *  2. A head is pushed at most once per pop; queue_push() of a head not in flight is our bug
 * (assert).
 *  3. Nothing is visible to the driver before queue_publish(), everything pushed is visible after
 * it.
 *  4. last_avail == used.idx + number in flight, modulo 2^16, whenever no function of this file
 * runs.
 *
 * Once the guest has broken the ring (queue.broken set), pop returns QUEUE_BROKEN for ever, and
 * push and publish still work for what was in flight.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/chain.h"
#include "devices/virtio/inflight.h"
#include "devices/virtio/memory.h"
#include "devices/virtio/ring.h"

enum { QUEUE_MAX_SIZE = 1024 }; /* what vmdev's devices accept in SET_VRING_NUM */

/* What the session has been told about a ring (SET_VRING_NUM, _ADDR, _BASE, acked features). */
struct queue_spec {
	uint32_t size;
	struct user_addr desc, avail, used;
	struct guest_addr used_log; /* where writes to the used ring are logged */
	bool log_used;		    /* VHOST_VRING_F_LOG */
	bool event_idx;
	bool indirect;
	uint16_t base; /* SET_VRING_BASE; see queue_start() */
};

enum queue_verdict {
	QUEUE_OK = 0,
	QUEUE_EMPTY,
	QUEUE_BROKEN, /* see queue.broken_why / broken_chain */
	QUEUE_BAD_SIZE,
	QUEUE_BAD_ALIGN,
	QUEUE_BAD_ADDRESS,
	QUEUE_BAD_INFLIGHT,
	QUEUE_BAD_INDEX, /* avail.idx runs ahead of the ring's size, or a head beyond it, or one in
			    flight twice */
	QUEUE_BAD_CHAIN,
};
const char *queue_verdict_to_string(enum queue_verdict v);

/*
 * A chain is walked before its head is on record as taken. Should the walk crash, it is to be known
 * of which head: it is noted meanwhile, in shared memory. One that has crashed as many as limit is
 * not walked any more: it breaks the ring, for it cannot be known where to write that the request
 * has failed.
 */
struct queue_watch {
	uint32_t *in_hand;	  /* 1 + queue << 16 | head; 0: none. NULL: nothing of this */
	uint32_t index;		  /* of the queue */
	const uint8_t *suspicion; /* by head: crashes so far */
	uint8_t limit;
};

struct queue {
	const struct memory *memory;
	const struct ring_desc *desc;
	struct ring_avail *avail;
	struct ring_used *used;
	uint32_t size;
	bool event_idx, indirect, log_used;
	struct guest_addr used_log;

	uint16_t last_avail;	 /* next entry of the available ring to read */
	uint16_t avail_seen;	 /* avail.idx as loaded last, and found good: so far may be read */
	uint16_t looked_ahead;	 /* entries up to it are on their way into the cache */
	uint16_t n_too_few;	 /* available and not sufficient: queue_await_more() */
	uint16_t used_idx;	 /* what the driver sees */
	uint16_t n_pushed;	 /* pushed, not yet published */
	uint16_t signalled_used; /* used_idx when queue_should_signal() last answered */
	bool signalled_valid;
	bool broken;
	enum queue_verdict broken_why;
	enum chain_verdict broken_chain;

	struct queue_watch watch; /* set after the start */
	struct inflight inflight;
	uint16_t pushed[QUEUE_MAX_SIZE]; /* heads of the batch */
	uint8_t taken[QUEUE_MAX_SIZE];	 /* our own record of each head; not in shared memory */
};

/*
 * Start the ring: check geometry, resolve its addresses, attach the in-flight region. entries (room
 * for size) receives what was in flight, sorted in the order of taking; *ret_n_entries their
 * number: the caller resubmits each (queue_load_again), before it pops anything new. Nothing in
 * guest memory is changed except what inflight.h says. In a started queue with entries,
 * signalled_valid is false: the first publish or queue_should_signal() says true.
 *
 * The ring starts at used.idx + entries (invariant 4), base or no base. Where base differs, the
 * requests between the two were taken by a back-end that lost them, and the driver still waits
 * for them; a start at base would forget them and have the next recovery repeat others.
 */
enum queue_verdict queue_start(struct queue *q, const struct memory *memory,
			       const struct queue_spec *spec, struct inflight_region *region,
			       struct inflight_entry *entries, uint32_t *ret_n_entries);

/* Ahead of that: how many requests before base are unanswered? 0 also of a ring that is none. */
uint32_t queue_n_unanswered(const struct memory *memory, struct user_addr used, uint16_t base);

/* The memory table has moved (VHOST_USER_SET_MEM_TABLE while running): resolve the ring's addresses
 * again. */
enum queue_verdict queue_remap(struct queue *q, const struct queue_spec *spec);

/* Take the next chain; QUEUE_EMPTY, QUEUE_BROKEN or QUEUE_OK with *c filled. c->iov, c->iov_max:
 * caller's. */
enum queue_verdict queue_pop(struct queue *q, struct chain *c);

/*
 * Put back the head that was popped last and has not been pushed: it will be popped next. For what
 * is taken ahead of knowing how much is needed (receive buffers), in the reverse order of popping.
 */
void queue_unpop(struct queue *q, uint16_t head);

/*
 * Look at the chain n places behind the next one, without taking anything: for buffers that wait
 * for what may never come. It is taken by queue_take(), in order, before or after it has been used.
 * Verdicts as of queue_pop().
 */
enum queue_verdict queue_peek(struct queue *q, uint32_t n, struct chain *c);

/*
 * Take the next chain as it was seen by queue_peek(), whose head it had: record it in flight.
 * QUEUE_BROKEN if the driver has made it available twice meanwhile.
 */
enum queue_verdict queue_take(struct queue *q, uint16_t head);

/*
 * Runs: most chains are one direct descriptor that lies in one region, and what is done for each
 * of them is done faster for many. queue_peek_run() looks at the next chains, as queue_peek(), up
 * to max and as long as they are such and of one direction; the first one that is not, or is wrong,
 * or suspect, is for queue_peek(). 0: the next one is, or there is none. Then, in their order and
 * each run once: queue_take_run(), how many were taken (fewer than n: the ring is broken), and
 * queue_push_run().
 */
struct queue_piece {
	uint16_t head;
	uint32_t len;
	uint8_t *p;
};

uint32_t queue_peek_run(struct queue *q, bool writable, struct queue_piece *pieces, uint32_t max);
uint32_t queue_take_run(struct queue *q, const struct queue_piece *pieces, uint32_t n);
/* Give back heads with what was written to each: piece.len bytes, in a readable run 0. */
void queue_push_run(struct queue *q, bool writable, const struct queue_piece *pieces, uint32_t n);

/*
 * What was in flight when the queue was started (entries, n as queue_start() gave them) was never
 * taken: the available ring shows it again. Only if it is the last n entries of that ring which
 * were taken, in their order, as with a device that gives chains back in order; else false, and
 * nothing has changed. Killed in between, a part has been given back, which is as good.
 */
bool queue_untake(struct queue *q, const struct inflight_entry *entries, uint32_t n);

/* Load the chain of a head that is in flight already (resubmission). */
enum queue_verdict queue_load_again(struct queue *q, uint16_t head, struct chain *c);

/* Give back a head with the number of bytes written to its buffers. Batched: nothing is visible
 * yet. */
void queue_push(struct queue *q, uint16_t head, uint32_t written_len);

/* Make all pushed heads visible and clear them in the in-flight record. Logs the used ring's
 * writes. */
void queue_publish(struct queue *q);

/* After a publish: does the driver want to be told (EVENT_IDX or NO_INTERRUPT; §2.7.7)? Full
 * barrier inside. */
bool queue_should_signal(struct queue *q);

/*
 * Ask the driver for available buffer notifications from now on, and say whether buffers have
 * arrived meanwhile (true: pop again before sleeping). queue_disable_notify: they are not wanted
 * while polling (only a hint).
 */
bool queue_enable_notify(struct queue *q);
void queue_disable_notify(struct queue *q);

/*
 * The next n chains, all that have been looked at, do not suffice for what there is to do: from
 * now on more of them are awaited (queue_enable_notify(), queue_n_new()). 0: any will do again.
 */
static inline void queue_await_more(struct queue *q, uint32_t n)
{
	q->n_too_few = (uint16_t)n;
}

/* What the driver has made available so far, as it counts. Only a look, unchecked. */
static inline uint16_t queue_avail_idx(const struct queue *q)
{
	return __atomic_load_n(&q->avail->idx, __ATOMIC_RELAXED);
}

/* How many buffers has the driver made available that are not taken yet? Only a look, unchecked. */
static inline uint16_t queue_n_available(const struct queue *q)
{
	return (uint16_t)(queue_avail_idx(q) - q->last_avail);
}

/* Of these, how many are worth another look? */
static inline uint16_t queue_n_new(const struct queue *q)
{
	return (uint16_t)(queue_n_available(q) - q->n_too_few);
}

/* Is head taken and not pushed? head is < size. */
bool queue_is_taken(const struct queue *q, uint16_t head);

/* Number of heads in flight (taken, not published). */
uint32_t queue_n_inflight(const struct queue *q);

/* For GET_VRING_BASE: the next entry to read. Meaningful when nothing is in flight. */
static inline uint16_t queue_base(const struct queue *q)
{
	return q->last_avail;
}
