/* Connections. See conn.h. */
#include "devices/vsock/conn.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/base/clock.h"
#include "devices/base/crash.h"
#include "devices/base/fd.h"
#include "devices/vhost/image.h"

enum {
	NS_PER_MS = 1000000,
	ORPHAN_MS = 60000,
	FIRST_BURST = 2,
	PACKET_COST = 640, /* a little more than Linux's sk_buff with its tail */
	CREDIT_LOW = 2,	   /* tell the guest when it sees less than this part of its grant */
};

static uint32_t bucket_of(uint64_t peer_cid, uint32_t peer_port, uint32_t guest_port)
{
	uint64_t h =
		(peer_cid ^ (uint64_t)peer_port << 32 ^ guest_port) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint32_t)(h >> 32) % VSOCK_ADDRESSES;
}

struct conn *conn_find(struct vsock *v, uint64_t peer_cid, uint32_t peer_port, uint32_t guest_port)
{
	uint32_t at = v->buckets[bucket_of(peer_cid, peer_port, guest_port)];

	while (at > 0) {
		struct conn *c = conn_at(v, at - 1);

		if (c->peer_cid == peer_cid && c->peer_port == peer_port &&
		    c->guest_port == guest_port)
			return c;
		at = v->local[at - 1].next;
	}
	return NULL;
}

void conn_address(struct vsock *v, struct conn *c)
{
	uint32_t i = conn_index(v, c);
	uint32_t *bucket = &v->buckets[bucket_of(c->peer_cid, c->peer_port, c->guest_port)];

	assert(!v->local[i].addressed);
	v->local[i].next = *bucket;
	v->local[i].addressed = true;
	*bucket = i + 1;
}

void conn_unaddress(struct vsock *v, struct conn *c)
{
	uint32_t i = conn_index(v, c);
	uint32_t *at = &v->buckets[bucket_of(c->peer_cid, c->peer_port, c->guest_port)];

	if (!v->local[i].addressed)
		return;
	while (*at != i + 1)
		at = &v->local[*at - 1].next;
	*at = v->local[i].next;
	v->local[i].addressed = false;
}

/* The lowest free one: those that were never used cost nothing. */
struct conn *conn_new(struct vsock *v)
{
	struct store *s = v->store;
	uint32_t i = v->n_free_from;
	struct conn *c;

	while (i < s->n_conns && s->conns[i].state != CONN_FREE)
		i++;
	v->n_free_from = i;
	if (i == STORE_CONNS)
		return NULL;
	if (i == s->n_conns)
		s->n_conns++;
	c = &s->conns[i];
	memset(c, 0, sizeof(*c));
	c->fd = IMAGE_NO_FD;
	c->serial = s->next_serial++;
	v->local[i] = (struct local){ .burst = FIRST_BURST };
	return c;
}

void conn_set_state(struct vsock *v, struct conn *c, enum conn_state state)
{
	__atomic_store_n(&c->state, state, __ATOMIC_RELEASE);
}

void conn_owe(struct vsock *v, struct conn *c, uint32_t due)
{
	c->pending |= due;
	/* One that is on its way was made before this. */
	conn_local(v, c)->on_its_way &= ~due;
	set_add(&v->due, conn_index(v, c));
}

void conn_deadline(struct vsock *v, struct conn *c, uint32_t ms)
{
	c->deadline_ns = ms ? clock_now_ns() + (uint64_t)ms * NS_PER_MS : 0;
	if (ms)
		set_add(&v->timed, conn_index(v, c));
	else
		set_remove(&v->timed, conn_index(v, c));
}

/* Out of the table first (invariant 2). */
static void hang_up(struct conn *c)
{
	int fd = c->fd;

	__atomic_store_n(&c->fd, IMAGE_NO_FD, __ATOMIC_RELEASE);
	CRASH_POINT("vsock.conn.hung_up");
	if (fd != IMAGE_NO_FD)
		fd_close(fd);
}

/* Memory that a slow reader's buffer took goes back to the host. */
static void empty_buffer(struct vsock *v, struct conn *c)
{
	uint32_t i = conn_index(v, c);

	if (!c->buffered)
		return;
	madvise(v->store->buffers[i], STORE_BUFFER_LEN, MADV_REMOVE);
	if (c->type == VIRTIO_VSOCK_TYPE_SEQPACKET)
		madvise(v->store->ends[i], sizeof(v->store->ends[i]), MADV_REMOVE);
	c->buffered = 0;
}

static void leave_sets(struct vsock *v, const struct conn *c)
{
	uint32_t i = conn_index(v, c);

	set_remove(&v->readable, i);
	set_remove(&v->due, i);
	set_remove(&v->blocked, i);
	set_remove(&v->timed, i);
	set_remove(&v->asking, i);
	set_remove(&v->asked, i);
	set_remove(&v->hungry, i);
}

void conn_drop(struct vsock *v, struct conn *c)
{
	uint32_t i = conn_index(v, c);

	hang_up(c);
	empty_buffer(v, c);
	conn_unaddress(v, c);
	leave_sets(v, c);
	conn_set_state(v, c, CONN_FREE);
	if (i < v->n_free_from)
		v->n_free_from = i;
	CRASH_POINT("vsock.conn.dropped");
}

void conn_reset(struct vsock *v, struct conn *c, const char *why)
{
	if (c->state == CONN_CLOSING)
		return;
	if (why) {
		v->n_resets++;
		if (log_rate_pass(&v->rate, NULL))
			log_notice("connection of port %u: %s: reset", c->guest_port, why);
	}
	if (!conn_local(v, c)->addressed) {
		conn_drop(v, c);
		return;
	}
	hang_up(c);
	empty_buffer(v, c);
	leave_sets(v, c);
	c->forwarded = c->taken;
	c->pending = 0;
	conn_set_state(v, c, CONN_CLOSING);
	CRASH_POINT("vsock.conn.closing");
	conn_owe(v, c, DUE_RST);
}

void conn_orphan(struct vsock *v, struct conn *c)
{
	conn_unaddress(v, c);
	set_remove(&v->readable, conn_index(v, c));
	set_remove(&v->due, conn_index(v, c));
	c->pending = 0;
	conn_deadline(v, c, ORPHAN_MS);
	conn_set_state(v, c, CONN_ORPHAN);
}

void conn_drop_all(struct vsock *v)
{
	struct store *s = v->store;

	for (uint32_t i = 0; i < s->n_conns; i++)
		if (s->conns[i].state != CONN_FREE)
			conn_drop(v, &s->conns[i]);
	for (uint32_t i = 0; i < STORE_SLOTS; i++)
		s->slots[i].kind = SLOT_NONE;
	s->hand.kind = HAND_NONE;
	v->stray_next = s->stray_tail = s->stray_head;
	memset(s->tx_done, 0, sizeof(s->tx_done));
	v->n_slots = v->n_pushed = 0;
}

/* VIRTIO 1.3 §5.10.6.3; all of it wraps, and what the guest says may be anything. */
uint32_t conn_credit(const struct conn *c)
{
	uint32_t on_its_way = (uint32_t)c->given - c->guest_fwd;

	return on_its_way < c->guest_alloc ? c->guest_alloc - on_its_way : 0;
}

/* Those before the mark have been read when the guest has read up to it. */
static void forget_read_packets(struct conn *c)
{
	if (c->guest_fwd == (uint32_t)c->given)
		c->packets_before = c->packets_since = 0;
	else if ((int32_t)(c->guest_fwd - c->mark) < 0)
		return;
	c->packets_before = c->packets_since;
	c->packets_since = 0;
	c->mark = (uint32_t)c->given;
}

void conn_count_packets(struct conn *c, uint32_t n)
{
	c->packets_since += n;
}

uint32_t conn_credit_in_packets(const struct conn *c, uint32_t packet_len)
{
	uint32_t credit = conn_credit(c), rest;
	uint64_t cost = (uint64_t)PACKET_COST * (c->packets_before + c->packets_since);
	uint32_t left = credit > cost ? credit - (uint32_t)cost : 0;

	if (left <= PACKET_COST && c->guest_fwd == (uint32_t)c->given)
		return credit < packet_len ? credit : packet_len;
	rest = left % (packet_len + PACKET_COST);
	return left / (packet_len + PACKET_COST) * packet_len +
	       (rest > PACKET_COST ? rest - PACKET_COST : 0);
}

void conn_take_credit(struct vsock *v, struct conn *c, const struct packet *p)
{
	uint32_t i = conn_index(v, c);

	c->guest_alloc = p->buf_alloc;
	c->guest_fwd = p->fwd_cnt;
	forget_read_packets(c);
	if (v->local[i].wants_credit && conn_credit(c) > 0) {
		v->local[i].wants_credit = false;
		set_remove(&v->hungry, i);
		set_add(&v->readable, i);
	}
}

void conn_offer_credit(struct vsock *v, struct conn *c)
{
	uint32_t grant = store_grant(conn_index(v, c), c->type);
	uint32_t seen = grant - ((uint32_t)c->taken - c->told_fwd);

	if (c->state == CONN_OPEN && (uint32_t)c->forwarded != c->told_fwd &&
	    seen < grant - grant / CREDIT_LOW)
		conn_owe(v, c, DUE_CREDIT);
}

struct packet conn_packet(const struct vsock *v, const struct conn *c, uint16_t op)
{
	return (struct packet){
		.src_cid = c->peer_cid,
		.dst_cid = v->config.cid,
		.src_port = c->peer_port,
		.dst_port = c->guest_port,
		.type = c->type,
		.op = op,
		.buf_alloc = store_grant((uint32_t)(c - v->store->conns), c->type),
		.fwd_cnt = (uint32_t)c->forwarded,
	};
}

static bool has_address(const struct conn *c)
{
	return c->state != CONN_FREE && c->state != CONN_LINE && c->state != CONN_ORPHAN;
}

void conn_recover(struct vsock *v)
{
	struct store *s = v->store;

	for (uint32_t i = 0; i < s->n_conns; i++) {
		struct conn *c = &s->conns[i];

		if (c->state == CONN_FREE)
			continue;
		v->local[i] = (struct local){ .burst = FIRST_BURST };
		if (has_address(c))
			conn_address(v, c);
		if (c->state == CONN_CLOSING)
			c->pending = DUE_RST;
		if (c->pending)
			set_add(&v->due, i);
		if (c->deadline_ns)
			set_add(&v->timed, i);
		if (c->state == CONN_ASKED)
			set_add(c->told ? &v->asked : &v->asking, i);
	}
}
