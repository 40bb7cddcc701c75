/*
 * From the driver to the host: chains become frames, a batch of them is sent, the chains are given back.
 *
 * Runs in: worker's I/O thread that owns the queue. Trusts: nothing in a chain.
 *
 * The first FRAME_HEAD_LEN bytes behind the header are copied, checked, and sent from the copy, so that
 * what was looked at is what the host gets; the rest goes from guest memory as it is. Where frames are written to a descriptor
 * all of a short one is copied: that costs less than a second piece costs the kernel.
 *
 * A chain is taken, and so on record, before it is looked at. A successor sends again what was not
 * published, and notes before that it does (struct net_again): what is noted already is dropped. So a frame may be repeated,
 * at most once, and is not lost by one death. What the host has no room for waits in the batch; nothing more is taken until
 * it has gone.
 */
#include <assert.h>
#include <string.h>

#include "devices/base/copy.h"
#include "devices/base/crash.h"
#include "devices/net/net-private.h"
#include "devices/virtio/iov.h"

enum {
	TX_IOV_LEN = NET_BATCH * 4 + NET_MAX_SEGMENTS + 1,
	TX_SHORT_LEN = 1600, /* of a frame: 1,500 bytes and tags */
	ROOM_NS = 1000000,   /* between two looks whether a tap has room again */
};

static_assert((int)NET_BATCH <= (int)BATCH_MAX, "sent by one call");
static_assert((int)TX_SHORT_LEN >= (int)FRAME_HEAD_LEN, "no less is copied of a short frame");

/* Header and head of one frame, as they are sent. */
struct tx_slot {
	struct net_header header;
	uint8_t head[TX_SHORT_LEN];
};
_Static_assert(offsetof(struct tx_slot, head) == NET_HDR_LEN, "one right behind the other");

struct tx {
	uint32_t n;    /* frames in the batch */
	uint32_t sent; /* of them */
	bool noted;    /* there are heads in net_again */
	uint32_t n_iov;
	struct host_frame frames[NET_BATCH];
	struct queue_piece pieces[NET_BATCH]; /* their chains' heads */
	struct tx_slot slots[NET_BATCH];
	struct iovec iov[TX_IOV_LEN];
};

struct tx *tx_new(void)
{
	return net_room(sizeof(struct tx));
}

static void tx_reset(struct tx *tx)
{
	tx->n = tx->sent = tx->n_iov = 0;
}

/* What is noted of heads that are not in flight any more was published, and its writer died before it had said so. */
void tx_attached(struct net *net, struct vring *r)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct net_again left = { 0 };

	tx_reset(p->tx);
	for (uint32_t i = 0; i < r->n_resubmit; i++) {
		uint32_t head = r->resubmit[i].head;

		left.heads[head / 64] |= p->again->heads[head / 64] & UINT64_C(1) << head % 64;
	}
	*p->again = left;
	p->tx->noted = true;
}

void tx_published(struct net_pair *p)
{
	/* Each behind the used index (release). */
	for (uint32_t i = 0; p->tx->noted && i < QUEUE_MAX_SIZE / 64; i++)
		__atomic_store_n(&p->again->heads[i], 0, __ATOMIC_RELEASE);
	p->tx->noted = false;
}

/* False: it was noted before. */
static bool note(struct net_pair *p, uint16_t head)
{
	uint64_t *word = &p->again->heads[head / 64], bit = UINT64_C(1) << head % 64;
	bool noted = *word & bit;

	__atomic_store_n(word, *word | bit, __ATOMIC_RELAXED);
	p->tx->noted = true;
	return !noted;
}

/* Bytes off the front of iov[*first..n). */
static void cut(struct iovec *iov, uint32_t *first, uint32_t n, size_t len)
{
	while (*first < n && len >= iov[*first].iov_len)
		len -= iov[(*first)++].iov_len;
	if (*first < n && len > 0) {
		iov[*first].iov_base = (uint8_t *)iov[*first].iov_base + len;
		iov[*first].iov_len -= len;
	}
}

/* Not another's address, neither as the frame's source nor in what it says of addresses (filter.h). */
static bool source_good(const struct net *net, const uint8_t *head, uint32_t len)
{
	struct filter_frame frame = { .source = head + NET_MAC_LEN };
	struct frame_info f;

	if (!net->filter.bound)
		return true;
	f = frame_parse(head, len);
	frame.type = f.type;
	frame.packet = head + f.l3;
	frame.len = len - f.l3;
	return filter_pass(&net->filter, &frame);
}

/* How much of a frame. */
static uint32_t copied_len(const struct net *net, uint32_t len)
{
	uint32_t all = net->host->side->writes ? TX_SHORT_LEN : FRAME_HEAD_LEN;

	return len <= all ? len : FRAME_HEAD_LEN;
}

/* Header and beginning of the frame. */
static void load_slot(struct tx_slot *slot, const struct chain *c, uint32_t hdr_len,
		      uint32_t head_len)
{
	slot->header.num_buffers = 0;
	if (c->n_readable == 1 && hdr_len == NET_HDR_LEN) {
		copy_bytes(slot, c->iov[0].iov_base, hdr_len + head_len);
		return;
	}
	iov_read(c->iov, c->n_readable, 0, &slot->header, hdr_len);
	iov_read(c->iov, c->n_readable, hdr_len, slot->head, head_len);
}

/* A frame about which nothing is said needs no look. */
static enum header_verdict check(struct tx_slot *slot, uint32_t len,
				 const struct header_rules *rules)
{
	struct net_header *h = &slot->header;

	if ((h->flags & NET_HDR_F_NEEDS_CSUM) || h->gso_type != NET_HDR_GSO_NONE ||
	    len < NET_ETH_LEN || len > NET_MAX_FRAME_LEN)
		return header_check(h, slot->head, len, rules);
	*h = (struct net_header){ .flags = 0 };
	return HEADER_OK;
}

/* Why the frame of this chain is not sent; NULL: it is in the batch. */
static const char *prepare(struct net *net, struct tx *tx, const struct chain *c,
			   enum net_drop *ret_drop)
{
	struct tx_slot *slot = &tx->slots[tx->n];
	struct iovec *iov = &tx->iov[tx->n_iov];
	uint32_t hdr_len = net->hdr_len, len, head_len, first = 1;
	enum header_verdict v;

	*ret_drop = NET_DROP_MALFORMED;
	if (c->n_writable > 0)
		return "a chain with room for an answer";
	if (c->readable_len < hdr_len)
		return "a chain shorter than its header";
	len = c->readable_len - hdr_len;
	head_len = copied_len(net, len);
	load_slot(slot, c, hdr_len, head_len);
	v = check(slot, len, &net->out);
	if (v != HEADER_OK)
		return header_verdict_to_string(v);
	*ret_drop = NET_DROP_SOURCE;
	if (!source_good(net, slot->head, head_len))
		return "not from the guest's own address";
	tx->pieces[tx->n].head = c->head;
	cut(iov, &first, 1 + c->n_readable, hdr_len + head_len);
	/* The place in front of what is left is free: chains are loaded one behind it. */
	iov[first - 1] = (struct iovec){ &slot->header, NET_HDR_LEN + head_len };
	tx->frames[tx->n++] = (struct host_frame){ .iov = &iov[first - 1],
						   .n_iov = 2 + c->n_readable - first,
						   .len = NET_HDR_LEN + len };
	tx->n_iov += 1 + c->n_readable;
	return NULL;
}

static void count_sent(struct net_counters *counters, const struct host_frame *f)
{
	counters->sent++;
	counters->sent_bytes += f->len - NET_HDR_LEN;
}

/* The next n of the batch have gone. */
static void give_back(struct net *net, struct thread *t, struct vring *r, struct tx *tx, uint32_t n)
{
	CRASH_POINT("net.tx.sent");
	for (uint32_t i = 0; i < n; i++)
		count_sent(net->pairs[r->index / 2].counters, &tx->frames[tx->sent + i]);
	thread_push_run(t, r, false, &tx->pieces[tx->sent], n);
	tx->sent += n;
}

/* Those that are marked have gone; the others close up, and wait. */
static void give_back_marked(struct net *net, struct thread *t, struct vring *r, struct tx *tx)
{
	uint32_t n = tx->sent;

	CRASH_POINT("net.tx.sent");
	for (uint32_t i = tx->sent; i < tx->n; i++) {
		if (tx->frames[i].gone) {
			count_sent(net->pairs[r->index / 2].counters, &tx->frames[i]);
			thread_push(t, r, tx->pieces[i].head, 0);
			continue;
		}
		tx->frames[n] = tx->frames[i];
		tx->pieces[n++] = tx->pieces[i];
	}
	tx->n = n;
}

static void send_frames(struct net *net, struct thread *t, struct vring *r, struct tx *tx)
{
	const struct host_side *side = net->host->side;
	struct batch *b = &net->batches[t->index];
	uint32_t queue = r->index / 2, n = tx->n - tx->sent;
	struct host_frame *frames = &tx->frames[tx->sent];
	bool more = queue_n_available(&r->queue) > 0;

	if (!batch_is_apt(b) || n == 1)
		give_back(net, t, r, tx,
			  batch_sent_singly(b, n, side->send(net->host, queue, frames, n, more)));
	else if (batch_send(b, side->event_fd(net->host, queue), frames, n) == n)
		give_back(net, t, r, tx, n);
	else
		give_back_marked(net, t, r, tx);
}

/* Send what is in the batch. False: the host has no room for all of it. */
static bool send_batch(struct net *net, struct thread *t, struct vring *r, struct tx *tx)
{
	if (tx->sent == tx->n)
		return true;
	thread_take_up(t, r, tx->pieces[tx->sent].head);
	send_frames(net, t, r, tx);
	thread_set_down(t);
	if (tx->sent < tx->n)
		return false;
	tx_reset(tx);
	return true;
}

static void take_one(struct net *net, struct thread *t, struct vring *r, const struct chain *c)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	enum net_drop drop;
	const char *why;

	thread_take_up(t, r, c->head);
	why = prepare(net, p->tx, c, &drop);
	if (why) {
		net_drop(p, drop, why);
		thread_push(t, r, c->head, 0);
	}
	thread_set_down(t);
}

static struct chain next_chain(struct tx *tx)
{
	return (struct chain){ .iov = &tx->iov[tx->n_iov + 1], .iov_max = NET_MAX_SEGMENTS };
}

/* What most chains are, many at a time (queue_peek_run). The number of chains taken. */
static uint32_t fill_run(struct net *net, struct thread *t, struct vring *r, struct tx *tx)
{
	struct queue_piece pieces[NET_BATCH];
	uint32_t n = 0, bytes = 0;
	uint32_t max = queue_peek_run(&r->queue, false, pieces, NET_BATCH - tx->n);

	while (n < max && bytes < NET_BATCH_BYTES && tx->n_iov + 2 * (n + 1) <= TX_IOV_LEN)
		bytes += pieces[n++].len;
	n = queue_take_run(&r->queue, pieces, n);
	thread_taken_run(t, r, n);
	for (uint32_t i = 0; i < n; i++) {
		struct chain c = next_chain(tx);

		c.head = pieces[i].head;
		c.n_readable = 1;
		c.n_writable = 0;
		c.readable_len = pieces[i].len;
		c.iov[0] = (struct iovec){ pieces[i].p, pieces[i].len };
		take_one(net, t, r, &c);
	}
	return n;
}

/* Fill the batch. The number of chains taken. */
static uint32_t fill(struct net *net, struct thread *t, struct vring *r, struct tx *tx)
{
	uint32_t n = throttle_is_off(&net->sending) ? fill_run(net, t, r, tx) : 0, bytes = 0;

	if (n > 0) {
		queue_disable_notify(&r->queue);
		return n;
	}
	while (n < NET_BATCH && bytes < NET_BATCH_BYTES && tx->n < NET_BATCH &&
	       tx->n_iov + 1 + NET_MAX_SEGMENTS <= TX_IOV_LEN) {
		struct chain c = next_chain(tx);
		uint64_t wait_ns = throttle_wait_ns(&net->sending);

		if (wait_ns > 0) {
			net->pairs[r->index / 2].waiting[1] = true;
			thread_retry(t, wait_ns);
			break;
		}
		if (queue_pop(&r->queue, &c) != QUEUE_OK)
			break;
		if (n++ == 0)
			queue_disable_notify(&r->queue);
		thread_taken(t, r);
		throttle_charge(&net->sending, c.readable_len);
		bytes += c.readable_len;
		take_one(net, t, r, &c);
	}
	return n;
}

uint32_t tx_take(struct net *net, struct thread *t, struct vring *r)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	uint32_t n = 0;

	p->waiting[1] = p->wants_room = false;
	if (send_batch(net, t, r, p->tx)) {
		n = fill(net, t, r, p->tx);
		if (send_batch(net, t, r, p->tx))
			return n;
	}
	p->waiting[1] = p->wants_room = true;
	/* A tap that was found full when it was written to has no event when there is room again. */
	if (net->host->side->writes)
		thread_retry(t, ROOM_NS);
	return n;
}

/* What a dead worker had taken. It goes out by itself, since there is nothing else yet. */
void tx_resubmit(struct net *net, struct thread *t, struct vring *r, uint16_t head)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct tx *tx = p->tx;
	struct chain c;

	if (!send_batch(net, t, r, tx))
		tx_give_up(net, t, r);
	if (!note(p, head)) {
		net_drop(p, NET_DROP_DEATHS, "two workers have died over it");
		thread_push(t, r, head, 0);
		return;
	}
	c = next_chain(tx);
	thread_take_up(t, r, head);
	if (queue_load_again(&r->queue, head, &c) == QUEUE_OK)
		take_one(net, t, r, &c);
	else
		thread_push(t, r, head, 0);
	thread_set_down(t);
	send_batch(net, t, r, tx);
}

void tx_give_up(struct net *net, struct thread *t, struct vring *r)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct tx *tx = p->tx;

	for (; tx->sent < tx->n; tx->sent++) {
		net_drop(p, NET_DROP_STOPPED, "the device has to stop");
		thread_push(t, r, tx->pieces[tx->sent].head, 0);
	}
	tx_reset(tx);
}

uint32_t tx_discard(struct net *net, struct thread *t, struct vring *r)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct chain c;
	uint32_t n;

	tx_give_up(net, t, r);
	for (n = 0; n < NET_BATCH; n++) {
		c = next_chain(p->tx);
		if (queue_pop(&r->queue, &c) != QUEUE_OK)
			break;
		thread_taken(t, r);
		net_drop(p, NET_DROP_STOPPED, "its queue is disabled");
		thread_push(t, r, c.head, 0);
	}
	return n;
}

void tx_own_frame(struct net *net, const uint8_t *frame, uint32_t len)
{
	struct tx_slot slot = { .header = { .flags = 0 } };
	struct iovec iov = { &slot.header, NET_HDR_LEN + len };
	struct host_frame f = { .iov = &iov, .n_iov = 1, .len = NET_HDR_LEN + len };

	if (len <= TX_SHORT_LEN) {
		memcpy(slot.head, frame, len);
		net->host->side->send(net->host, 0, &f, 1, false);
	}
}
