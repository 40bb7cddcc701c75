/*
 * The driver's side of a split virtqueue (VIRTIO 1.3 §2.7).
 *
 * Runs in: test programs. Trusts: its caller. The used ring is the word of the back-end under test
 * and is checked: an element that names no outstanding head is counted in n_bogus and handed to
 * nobody.
 *
 * Invariants:
 *  1. chain_len[head] is not 0 exactly while the chain that starts there is the device's.
 *  2. A descriptor is in the free list or in exactly one outstanding chain.
 */
#include "tests/frontend/queue.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define load_acquire(p)	    __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

int fe_queue_init(struct fe_queue *q, struct fe_memory *m, const struct fe_queue_spec *spec)
{
	uint16_t size = spec->size;

	memset(q, 0, sizeof(*q));
	q->mem = m;
	q->idx = spec->idx;
	q->size = size;
	q->event_idx = spec->event_idx;
	q->indirect = spec->indirect;
	q->desc = fe_memory_alloc_in(m, spec->region, 16u * size, 16);
	q->avail = fe_memory_alloc_in(m, spec->region, 6u + 2u * size, 2);
	q->used = fe_memory_alloc_in(m, spec->region, 6u + 8u * size, 4);
	if (spec->indirect)
		q->tables = fe_memory_alloc_in(m, spec->region, 16ul * size * FE_INDIRECT_LEN, 16);
	q->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fe_queue_rewind(q);
	if (q->kick < 0 || q->call < 0 || q->err < 0)
		return -errno;
	return 0;
}

void fe_queue_done(struct fe_queue *q)
{
	close(q->kick);
	close(q->call);
	close(q->err);
	q->kick = q->call = q->err = -1;
}

void fe_queue_rewind(struct fe_queue *q)
{
	unsigned i;

	memset(q->avail, 0, 6u + 2u * q->size);
	memset(q->used, 0, 6u + 8u * q->size);
	memset(q->chain_len, 0, sizeof(q->chain_len));
	for (i = 0; i < q->size; i++)
		q->next[i] = (uint16_t)(i + 1);
	q->free_head = 0;
	q->n_free = q->size;
	q->avail_idx = q->kicked_idx = q->last_used = 0;
}

static void desc_fill(const struct fe_queue *q, struct vring_desc *d, const struct fe_sg *sg,
		      bool writable)
{
	d->addr = fe_memory_guest(q->mem, sg->p).v;
	d->len = sg->len;
	d->flags = writable ? VRING_DESC_F_WRITE : 0;
	d->next = 0;
}

static uint16_t desc_take(struct fe_queue *q)
{
	uint16_t i = q->free_head;

	q->free_head = q->next[i];
	q->n_free--;
	return i;
}

static void chain_offer(struct fe_queue *q, uint16_t head, unsigned n, void *user)
{
	q->chain_len[head] = (uint16_t)n;
	q->user[head] = user;
	q->avail->ring[q->avail_idx % q->size] = head;
	q->avail_idx++;
}

int fe_queue_add(struct fe_queue *q, const struct fe_sg *sg, unsigned n_out, unsigned n_in,
		 void *user)
{
	unsigned i, n = n_out + n_in;
	uint16_t head = q->free_head, at;

	if (n > q->n_free || n == 0)
		return -ENOSPC;
	for (i = 0; i < n; i++) {
		at = desc_take(q);
		desc_fill(q, &q->desc[at], &sg[i], i >= n_out);
		if (i + 1 < n) {
			q->desc[at].flags |= VRING_DESC_F_NEXT;
			q->desc[at].next = q->free_head;
		}
	}
	chain_offer(q, head, n, user);
	return head;
}

int fe_queue_add_indirect(struct fe_queue *q, const struct fe_sg *sg, unsigned n_out, unsigned n_in,
			  void *user)
{
	unsigned i, n = n_out + n_in;
	struct vring_desc *table;
	uint16_t head;

	if (q->n_free == 0 || n > FE_INDIRECT_LEN || n == 0)
		return -ENOSPC;
	head = desc_take(q);
	table = q->tables + (size_t)head * FE_INDIRECT_LEN;
	for (i = 0; i < n; i++) {
		desc_fill(q, &table[i], &sg[i], i >= n_out);
		if (i + 1 < n) {
			table[i].flags |= VRING_DESC_F_NEXT;
			table[i].next = (uint16_t)(i + 1);
		}
	}
	q->desc[head] = (struct vring_desc){
		.addr = fe_memory_guest(q->mem, table).v,
		.len = 16 * n,
		.flags = VRING_DESC_F_INDIRECT,
	};
	chain_offer(q, head, 1, user);
	return head;
}

void fe_queue_publish(struct fe_queue *q)
{
	/* Pairs with the device's acquire load of avail->idx (§2.7.13.3). */
	store_release(&q->avail->idx, q->avail_idx);
}

/* Whether the device wants a notification for what was published since the last question (§2.7.10).
 */
bool fe_queue_kick_wanted(struct fe_queue *q)
{
	uint16_t from = q->kicked_idx, event;
	bool wanted;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = *(volatile __virtio16 *)&q->used->ring[q->size];
	if (q->event_idx)
		wanted = vring_need_event(event, q->avail_idx, from);
	else
		wanted = !(load_acquire(&q->used->flags) & VRING_USED_F_NO_NOTIFY);
	q->kicked_idx = q->avail_idx;
	return wanted;
}

void fe_queue_kick_always(struct fe_queue *q)
{
	uint64_t one = 1;

	q->n_kicks++;
	if (write(q->kick, &one, sizeof(one)) < 0 && errno != EAGAIN)
		err(99, "kick of queue %u", q->idx);
}

bool fe_queue_kick(struct fe_queue *q)
{
	fe_queue_publish(q);
	if (!fe_queue_kick_wanted(q))
		return false;
	fe_queue_kick_always(q);
	return true;
}

bool fe_queue_pending(const struct fe_queue *q)
{
	return load_acquire(&q->used->idx) != q->last_used;
}

static void chain_free(struct fe_queue *q, uint16_t head)
{
	unsigned n = q->chain_len[head];
	uint16_t at = head;

	q->chain_len[head] = 0;
	while (n-- > 0) {
		uint16_t following = q->next[at];

		if (n == 0)
			q->next[at] = q->free_head;
		at = following;
		q->n_free++;
	}
	q->free_head = head;
}

bool fe_queue_pop(struct fe_queue *q, struct fe_used *ret_used)
{
	volatile struct vring_used_elem *e;
	uint32_t id;

	while (fe_queue_pending(q)) {
		e = &q->used->ring[q->last_used % q->size];
		id = e->id;
		ret_used->len = e->len;
		q->last_used++;
		if (id >= q->size || q->chain_len[id] == 0) {
			q->n_bogus++;
			continue;
		}
		ret_used->head = (uint16_t)id;
		ret_used->user = q->user[id];
		chain_free(q, (uint16_t)id);
		return true;
	}
	return false;
}

unsigned fe_queue_outstanding(const struct fe_queue *q)
{
	unsigned i, n = 0;

	for (i = 0; i < q->size; i++)
		n += q->chain_len[i] != 0;
	return n;
}

bool fe_queue_arm(struct fe_queue *q)
{
	if (q->event_idx)
		store_release(&q->avail->ring[q->size], q->last_used);
	else
		store_release(&q->avail->flags, 0);
	/* The device must see the request before we look at used->idx again (§2.7.7.2). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return fe_queue_pending(q);
}

void fe_queue_disarm(struct fe_queue *q)
{
	if (q->event_idx)
		store_release(&q->avail->ring[q->size], (uint16_t)(q->last_used + 0x8000));
	else
		store_release(&q->avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
}

void fe_queue_drain_call(struct fe_queue *q)
{
	uint64_t n;

	if (read(q->call, &n, sizeof(n)) < 0 && errno != EAGAIN)
		err(99, "call of queue %u", q->idx);
}

int fe_queue_wait(struct fe_queue *q, int timeout_ms)
{
	struct pollfd p = { .fd = q->call, .events = POLLIN };

	for (;;) {
		if (fe_queue_arm(q))
			return 1;
		if (poll(&p, 1, timeout_ms) == 0)
			return fe_queue_pending(q);
		fe_queue_drain_call(q);
	}
}
