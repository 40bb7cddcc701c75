/* One split virtqueue. See queue.h. */
#include <assert.h>
#include <string.h>

#include "devices/base/crash.h"
#include "devices/base/fetch.h"
#include "devices/base/log.h"
#include "devices/virtio/ahead.h"
#include "devices/virtio/queue.h"

/* What queue.taken says of a head. */
enum {
	QUEUE_HEAD_FREE = 0,
	QUEUE_HEAD_TAKEN,  /* popped */
	QUEUE_HEAD_PUSHED, /* given back, not published yet */
};

static const char *const queue_verdicts[] = {
	[QUEUE_OK] = "ok",
	[QUEUE_EMPTY] = "no buffer is available",
	[QUEUE_BROKEN] = "the ring is broken",
	[QUEUE_BAD_SIZE] = "an unusable ring size",
	[QUEUE_BAD_ALIGN] = "a misaligned ring",
	[QUEUE_BAD_ADDRESS] = "a ring outside of guest memory",
	[QUEUE_BAD_INFLIGHT] = "an in-flight region that does not fit the ring",
	[QUEUE_BAD_INDEX] = "an index that cannot be",
	[QUEUE_BAD_CHAIN] = "a bad descriptor chain",
};
static_assert(sizeof(queue_verdicts) / sizeof(queue_verdicts[0]) == QUEUE_BAD_CHAIN + 1,
	      "a text for each verdict");

const char *queue_verdict_to_string(enum queue_verdict v)
{
	return queue_verdicts[v];
}

/* VIRTIO 1.3 §2.7: the alignment of each part. */
enum {
	QUEUE_DESC_ALIGN = 16,
	QUEUE_AVAIL_ALIGN = 2,
	QUEUE_USED_ALIGN = 4,
};

/*
 * One part of the ring. Both the address and the pointer have to be aligned: a front-end is free
 * to shift one against the other.
 */
static enum queue_verdict queue_resolve_part(const struct memory *m, struct user_addr addr,
					     uint64_t len, unsigned align, void **ret_p)
{
	void *p;

	if (addr.v % align != 0)
		return QUEUE_BAD_ALIGN;
	p = memory_at_user(m, addr, len);
	if (!p)
		return QUEUE_BAD_ADDRESS;
	if ((uintptr_t)p % align != 0)
		return QUEUE_BAD_ALIGN;
	*ret_p = p;
	return QUEUE_OK;
}

/* Resolve the ring's three addresses; q is untouched unless all of them are good. */
static enum queue_verdict queue_resolve(struct queue *q, const struct memory *m,
					const struct queue_spec *spec)
{
	void *desc, *avail, *used;
	enum queue_verdict v;

	v = queue_resolve_part(m, spec->desc, ring_desc_len(spec->size), QUEUE_DESC_ALIGN, &desc);
	if (v == QUEUE_OK)
		v = queue_resolve_part(m, spec->avail, ring_avail_len(spec->size),
				       QUEUE_AVAIL_ALIGN, &avail);
	if (v == QUEUE_OK)
		v = queue_resolve_part(m, spec->used, ring_used_len(spec->size), QUEUE_USED_ALIGN,
				       &used);
	if (v != QUEUE_OK)
		return v;
	q->memory = m;
	q->desc = desc;
	q->avail = avail;
	q->used = used;
	q->log_used = spec->log_used;
	q->used_log = spec->used_log;
	return QUEUE_OK;
}

/* The words behind the ring's entries (§2.7.7, §2.7.10). */
static uint16_t *queue_used_event(const struct queue *q)
{
	return &q->avail->ring[q->size];
}

static uint16_t *queue_avail_event(const struct queue *q)
{
	return (uint16_t *)(void *)&q->used->ring[q->size];
}

/* Log len bytes of the used ring at p as written. */
static void queue_log_used(const struct queue *q, const void *p, uint64_t len)
{
	uint64_t offset = (uint64_t)((const uint8_t *)p - (const uint8_t *)q->used);

	if (q->log_used && q->memory->log.bits)
		memory_log_guest(q->memory, (struct guest_addr){ q->used_log.v + offset }, len);
}

static enum queue_verdict queue_break(struct queue *q, enum queue_verdict why,
				      enum chain_verdict chain)
{
	q->broken = true;
	q->broken_why = why;
	q->broken_chain = chain;
	return QUEUE_BROKEN;
}

enum queue_verdict queue_start(struct queue *q, const struct memory *memory,
			       const struct queue_spec *spec, struct inflight_region *region,
			       struct inflight_entry *entries, uint32_t *ret_n_entries)
{
	enum queue_verdict v;
	uint32_t n = 0;

	if (!ring_size_ok(spec->size) || spec->size > QUEUE_MAX_SIZE)
		return QUEUE_BAD_SIZE;
	memset(q, 0, sizeof(*q));
	v = queue_resolve(q, memory, spec);
	if (v != QUEUE_OK)
		return v;
	q->size = spec->size;
	q->event_idx = spec->event_idx;
	q->indirect = spec->indirect;
	/* Acquire: pairs with the release in a predecessor's queue_publish(). */
	q->used_idx = __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE);
	if (!inflight_attach(&q->inflight, region, q->size, q->used_idx, entries, &n))
		return QUEUE_BAD_INFLIGHT;
	for (uint32_t i = 0; i < n; i++)
		q->taken[entries[i].head] = QUEUE_HEAD_TAKEN;
	q->last_avail = q->avail_seen = q->looked_ahead = (uint16_t)(q->used_idx + n);
	/* After a takeover the base is history. */
	if (q->last_avail != spec->base)
		log_debug("ring starts at %u, not at its base %u", q->last_avail, spec->base);
	/* A predecessor may have been killed between a write and its log: log what it can be. */
	queue_log_used(q, q->used, ring_used_len(q->size));
	*ret_n_entries = n;
	return QUEUE_OK;
}

uint32_t queue_n_unanswered(const struct memory *memory, struct user_addr used, uint16_t base)
{
	void *p;

	if (queue_resolve_part(memory, used, ring_used_len(1), QUEUE_USED_ALIGN, &p) != QUEUE_OK)
		return 0;
	return (uint16_t)(base - __atomic_load_n(&((struct ring_used *)p)->idx, __ATOMIC_RELAXED));
}

enum queue_verdict queue_remap(struct queue *q, const struct queue_spec *spec)
{
	if (spec->size != q->size)
		return QUEUE_BAD_SIZE;
	return queue_resolve(q, q->memory, spec);
}

/* Look for new entries of the available ring. */
static enum queue_verdict queue_refresh(struct queue *q)
{
	/* Acquire: pairs with the driver's barrier before it writes idx (§2.7.13.3.1). */
	uint16_t idx = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
	uint16_t left = (uint16_t)(idx - q->last_avail);

	/*
	 * All that the driver has given and not got back is no more than there are descriptors, and
	 * what was seen, and perhaps looked into, cannot be taken back.
	 */
	if ((uint16_t)(idx - q->used_idx) > q->size || left > q->size ||
	    left < (uint16_t)(q->avail_seen - q->last_avail))
		return queue_break(q, QUEUE_BAD_INDEX, CHAIN_OK);
	q->avail_seen = idx;
	return left == 0 ? QUEUE_EMPTY : QUEUE_OK;
}

/* Have what the requests from there on will need on its way, a few of them at a time. */
static void queue_look_ahead(struct queue *q, uint16_t at)
{
	uint32_t n = (uint16_t)(q->avail_seen - at), mask = q->size - 1;
	uint16_t heads[AHEAD_MAX];

	if (n > AHEAD_MAX)
		n = AHEAD_MAX;
	q->looked_ahead = (uint16_t)(at + n);
	for (uint32_t i = 0; i < n; i++) {
		heads[i] =
			__atomic_load_n(&q->avail->ring[(at + i) & mask], __ATOMIC_RELAXED) & mask;
		__builtin_prefetch(&q->inflight.region->desc[heads[i]], 1);
	}
	if (n > 1)
		ahead_fetch(q->memory, q->desc, heads, n);
}

/* For a run, whose heads are not suspect (queue_watch). */
static inline void queue_note_walk(const struct queue *q, uint16_t head)
{
	if (q->watch.in_hand)
		__atomic_store_n(q->watch.in_hand, 1 + (q->watch.index << 16 | head),
				 __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static enum chain_verdict queue_walk(struct queue *q, uint16_t head, struct chain *c)
{
	const struct queue_watch *w = &q->watch;
	enum chain_verdict v;
	uint32_t before;

	if (!w->in_hand)
		return chain_load(c, q->memory, q->desc, q->size, q->indirect, head);
	if (w->suspicion[head] >= w->limit)
		return CHAIN_POISON;
	before = *w->in_hand;
	__atomic_store_n(w->in_hand, 1 + (w->index << 16 | head), __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	v = chain_load(c, q->memory, q->desc, q->size, q->indirect, head);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(w->in_hand, before, __ATOMIC_RELAXED);
	return v;
}

enum queue_verdict queue_peek(struct queue *q, uint32_t n, struct chain *c)
{
	enum chain_verdict chain;
	uint16_t at, head;

	if (q->broken)
		return QUEUE_BROKEN;
	if ((uint16_t)(q->avail_seen - q->last_avail) <= n) {
		enum queue_verdict v = queue_refresh(q);

		if (v != QUEUE_OK)
			return v;
		if ((uint16_t)(q->avail_seen - q->last_avail) <= n)
			return QUEUE_EMPTY;
	}
	at = (uint16_t)(q->last_avail + n);
	if ((int16_t)(at - q->looked_ahead) >= 0)
		queue_look_ahead(q, at);
	head = __atomic_load_n(&q->avail->ring[at & (q->size - 1)], __ATOMIC_RELAXED);
	if (head >= q->size || q->taken[head] != QUEUE_HEAD_FREE)
		return queue_break(q, QUEUE_BAD_INDEX, CHAIN_OK);
	/* A bad chain is never taken: a successor finds it in the available ring again. */
	chain = queue_walk(q, head, c);
	if (chain != CHAIN_OK)
		return queue_break(q, QUEUE_BAD_CHAIN, chain);
	return QUEUE_OK;
}

static inline enum queue_verdict queue_take_head(struct queue *q, uint16_t head)
{
	assert(head < q->size && q->avail_seen != q->last_avail);
	if (q->taken[head] != QUEUE_HEAD_FREE)
		return queue_break(q, QUEUE_BAD_INDEX, CHAIN_OK);
	inflight_take(&q->inflight, head);
	q->taken[head] = QUEUE_HEAD_TAKEN;
	q->last_avail++;
	CRASH_POINT("queue.pop.recorded");
	return QUEUE_OK;
}

enum queue_verdict queue_take(struct queue *q, uint16_t head)
{
	return queue_take_head(q, head);
}

/* How many of the next heads, up to max, can be looked at in a run. */
static uint32_t queue_run_heads(const struct queue *q, struct queue_piece *pieces, uint32_t max)
{
	const uint8_t *suspicion = q->watch.in_hand ? q->watch.suspicion : NULL;

	for (uint32_t i = 0; i < max; i++) {
		uint16_t at = (uint16_t)(q->last_avail + i) & (uint16_t)(q->size - 1);
		uint16_t head = __atomic_load_n(&q->avail->ring[at], __ATOMIC_RELAXED);

		if (head >= q->size || q->taken[head] != QUEUE_HEAD_FREE ||
		    (suspicion && suspicion[head] > 0))
			return i;
		pieces[i].head = head;
		fetch_to_read(&q->desc[head]);
		fetch_to_write(&q->inflight.region->desc[head]);
	}
	return max;
}

/* A header and the beginning of what follows. */
static void queue_fetch_piece(const struct queue_piece *p)
{
	fetch_to_read(p->p);
	if (p->len > FETCH_LINE)
		fetch_to_read(p->p + FETCH_LINE);
}

/* The elements of the used ring that n more will need. */
static void queue_fetch_used(const struct queue *q, uint32_t n)
{
	enum { IN_LINE = FETCH_LINE / sizeof(struct ring_used_elem) };

	for (uint32_t i = 0; i < n; i += IN_LINE)
		fetch_to_write(
			&q->used->ring[(uint16_t)(q->used_idx + q->n_pushed + i) & (q->size - 1)]);
}

uint32_t queue_peek_run(struct queue *q, bool writable, struct queue_piece *pieces, uint32_t max)
{
	const struct memory_region *near = NULL;
	uint32_t n = (uint16_t)(q->avail_seen - q->last_avail);
	uint32_t before = q->watch.in_hand ? *q->watch.in_hand : 0;

	if (q->broken || (n < max && queue_refresh(q) != QUEUE_OK))
		return 0;
	n = (uint16_t)(q->avail_seen - q->last_avail);
	n = queue_run_heads(q, pieces, n < max ? n : max);
	for (uint32_t i = 0; i < n; i++) {
		struct queue_piece *p = &pieces[i];

		queue_note_walk(q, p->head);
		if (!chain_piece(q->memory, &near, &q->desc[p->head], writable, &p->p, &p->len))
			n = i;
		else if (writable)
			fetch_to_write(p->p);
		else
			queue_fetch_piece(p);
	}
	queue_fetch_used(q, n);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (q->watch.in_hand)
		__atomic_store_n(q->watch.in_hand, before, __ATOMIC_RELAXED);
	if ((int16_t)(q->last_avail + n - q->looked_ahead) > 0)
		q->looked_ahead = (uint16_t)(q->last_avail + n);
	return n;
}

uint32_t queue_take_run(struct queue *q, const struct queue_piece *pieces, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (queue_take_head(q, pieces[i].head) != QUEUE_OK)
			return i;
	return n;
}

enum queue_verdict queue_pop(struct queue *q, struct chain *c)
{
	enum queue_verdict v = queue_peek(q, 0, c);

	return v == QUEUE_OK ? queue_take(q, c->head) : v;
}

void queue_unpop(struct queue *q, uint16_t head)
{
	assert(head < q->size && q->taken[head] == QUEUE_HEAD_TAKEN);
	inflight_untake(&q->inflight, head);
	q->taken[head] = QUEUE_HEAD_FREE;
	q->last_avail--;
}

bool queue_untake(struct queue *q, const struct inflight_entry *entries, uint32_t n)
{
	uint16_t first = (uint16_t)(q->last_avail - n);

	for (uint32_t i = 0; i < n; i++) {
		uint16_t at = (uint16_t)(first + i) & (q->size - 1);

		if (__atomic_load_n(&q->avail->ring[at], __ATOMIC_RELAXED) != entries[i].head)
			return false;
	}
	/* The last one first: what is left is always what follows used.idx. */
	while (n-- > 0) {
		queue_unpop(q, entries[n].head);
		CRASH_POINT("queue.untake.one");
	}
	q->avail_seen = q->last_avail;
	return true;
}

enum queue_verdict queue_load_again(struct queue *q, uint16_t head, struct chain *c)
{
	enum chain_verdict chain;

	assert(head < q->size && q->taken[head] == QUEUE_HEAD_TAKEN);
	chain = chain_load(c, q->memory, q->desc, q->size, q->indirect, head);
	/* The driver changed the descriptors while they were the device's. */
	if (chain != CHAIN_OK)
		return queue_break(q, QUEUE_BAD_CHAIN, chain);
	return QUEUE_OK;
}

static inline void queue_push_head(struct queue *q, uint16_t head, uint32_t written_len)
{
	struct ring_used_elem *elem;

	assert(head < q->size && q->taken[head] == QUEUE_HEAD_TAKEN);
	inflight_complete(&q->inflight, head);
	CRASH_POINT("queue.push.linked");
	/* Beyond the driver's used.idx; free, since no more is in flight than the ring holds. */
	elem = &q->used->ring[(uint16_t)(q->used_idx + q->n_pushed) & (q->size - 1)];
	__atomic_store_n(&elem->id, head, __ATOMIC_RELAXED);
	__atomic_store_n(&elem->len, written_len, __ATOMIC_RELAXED);
	q->taken[head] = QUEUE_HEAD_PUSHED;
	q->pushed[q->n_pushed++] = head;
}

void queue_push(struct queue *q, uint16_t head, uint32_t written_len)
{
	queue_push_head(q, head, written_len);
}

void queue_push_run(struct queue *q, bool writable, const struct queue_piece *pieces, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		queue_push_head(q, pieces[i].head, writable ? pieces[i].len : 0);
}

/* Log the elements of the batch that ends before q->used_idx, and the index. */
static void queue_log_batch(const struct queue *q)
{
	uint32_t first = (uint16_t)(q->used_idx - q->n_pushed) & (q->size - 1);
	uint32_t n = q->size - first < q->n_pushed ? q->size - first : q->n_pushed;

	queue_log_used(q, &q->used->ring[first], n * sizeof(q->used->ring[0]));
	queue_log_used(q, &q->used->ring[0], (q->n_pushed - n) * sizeof(q->used->ring[0]));
	queue_log_used(q, &q->used->idx, sizeof(q->used->idx));
}

void queue_publish(struct queue *q)
{
	if (q->n_pushed == 0)
		return;
	CRASH_POINT("queue.publish.elements");
	q->used_idx += q->n_pushed;
	/*
	 * Release: the elements, and the data in the buffers, before idx (§2.7.8.2); pairs with
	 * the driver's barrier after it reads idx. The in-flight links too: inflight_finish().
	 */
	__atomic_store_n(&q->used->idx, q->used_idx, __ATOMIC_RELEASE);
	CRASH_POINT("queue.publish.idx");
	if (q->log_used)
		queue_log_batch(q);
	CRASH_POINT("queue.publish.logged");
	for (uint16_t i = 0; i < q->n_pushed; i++)
		q->taken[q->pushed[i]] = QUEUE_HEAD_FREE;
	inflight_clear(&q->inflight, q->pushed, q->n_pushed, q->used_idx);
	q->n_pushed = 0;
	CRASH_POINT("queue.publish.cleared");
}

bool queue_should_signal(struct queue *q)
{
	uint16_t old = q->signalled_used;
	bool valid = q->signalled_valid;

	q->signalled_used = q->used_idx;
	q->signalled_valid = true;
	/* A predecessor may have published and been killed before it signalled. */
	if (!valid)
		return true;
	if (old == q->used_idx)
		return false;
	/*
	 * Full barrier between the write of used.idx and the read of what the driver wants; pairs
	 * with the driver's, between the write of that and its last look at used.idx (§2.7.7.2).
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->event_idx)
		return ring_need_event(__atomic_load_n(queue_used_event(q), __ATOMIC_RELAXED),
				       q->used_idx, old);
	return !(__atomic_load_n(&q->avail->flags, __ATOMIC_RELAXED) & RING_AVAIL_F_NO_INTERRUPT);
}

bool queue_enable_notify(struct queue *q)
{
	uint16_t *word = q->event_idx ? queue_avail_event(q) : &q->used->flags;
	uint16_t seen = (uint16_t)(q->last_avail + q->n_too_few);

	if (q->broken)
		return false;
	__atomic_store_n(word, q->event_idx ? seen : 0, __ATOMIC_RELAXED);
	queue_log_used(q, word, sizeof(*word));
	/*
	 * Full barrier between the write of what we want and the last look at avail.idx; pairs
	 * with the driver's, between the write of avail.idx and the read of that (§2.7.13.4.1).
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(&q->avail->idx, __ATOMIC_RELAXED) != seen;
}

void queue_disable_notify(struct queue *q)
{
	/* With EVENT_IDX an event index that has been passed is as good as this. */
	if (q->event_idx || q->broken)
		return;
	__atomic_store_n(&q->used->flags, RING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
	queue_log_used(q, &q->used->flags, sizeof(q->used->flags));
}

uint32_t queue_n_inflight(const struct queue *q)
{
	return (uint16_t)(q->last_avail - q->used_idx);
}

bool queue_is_taken(const struct queue *q, uint16_t head)
{
	return q->taken[head] == QUEUE_HEAD_TAKEN;
}
