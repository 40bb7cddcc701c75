/* From the host to the guest. See in.h. */
#include "devices/vsock/in.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/process/thread.h"
#include "devices/vhost/image.h"
#include "devices/vsock/host.h"
#include "devices/vsock/out.h"

enum {
	FILL_BATCH = 64,
	MAX_BURST = STORE_SLOT_HEADS,
	MIN_BURST = 1,
	END_MS = 8000, /* for the guest to take leave: as long as Linux itself waits */
};

/* A receive buffer: where it is in v->iov, and what it holds behind its header. */
struct buffer {
	uint16_t head;
	uint32_t first_iov, n_iov;
	uint32_t room;
};

/* Those of one slot. */
struct buffers {
	uint32_t n, n_iov, room;
	struct buffer buffer[STORE_SLOT_HEADS];
};

static void break_ring(struct vsock *v)
{
	v->rx->queue.broken = true;
	v->rx->queue.broken_why = QUEUE_BAD_CHAIN;
	v->rx->queue.broken_chain = CHAIN_TOO_SHORT;
}

/* A chain as a buffer; false: it has no room for a header. */
static bool add_chain(struct buffers *b, const struct chain *c)
{
	if (c->n_readable > 0 || c->writable_len <= PACKET_HEADER_LEN)
		return false;
	b->buffer[b->n++] = (struct buffer){
		.head = c->head,
		.first_iov = b->n_iov,
		.n_iov = c->n_writable,
		.room = c->writable_len - PACKET_HEADER_LEN,
	};
	b->n_iov += c->n_writable;
	b->room += c->writable_len - PACKET_HEADER_LEN;
	return true;
}

/* Pop one more. False: there is none, or the ring is broken. */
static bool pop_buffer(struct vsock *v, struct buffers *b)
{
	struct chain c = { .iov = v->iov + b->n_iov, .iov_max = VSOCK_IOV_MAX - b->n_iov };
	enum queue_verdict r = queue_pop(&v->rx->queue, &c);

	if (r != QUEUE_OK) {
		v->starved |= r == QUEUE_EMPTY;
		return false;
	}
	thread_taken(v->thread, v->rx);
	CRASH_POINT("vsock.in.popped");
	if (add_chain(b, &c))
		return true;
	thread_put_back(v->thread, v->rx, c.head);
	break_ring(v);
	return false;
}

/* n buffers, or as many as there are and fit, but no more than hold len bytes. */
static void pop_buffers(struct vsock *v, struct buffers *b, uint32_t n, uint32_t len)
{
	b->n = b->n_iov = b->room = 0;
	while (b->n < n && b->room < len && b->n_iov < VSOCK_IOV_MAX / 2)
		if (!pop_buffer(v, b))
			break;
}

/* Those from keep on, in reverse. */
static void put_back(struct vsock *v, const struct buffers *b, uint32_t keep)
{
	for (uint32_t i = b->n; i-- > keep;) {
		thread_put_back(v->thread, v->rx, b->buffer[i].head);
		CRASH_POINT("vsock.in.put_back");
	}
}

/* Slots */

static struct slot *slot_begin(struct vsock *v, const struct conn *c, const struct buffers *b)
{
	struct slot *s = &v->store->slots[v->n_slots++];

	s->conn = 0;
	s->n_heads = b->n;
	for (uint32_t i = 0; i < b->n; i++)
		s->heads[i] = b->buffer[i].head;
	s->part.msg_len = 0;
	if (!c)
		return s;
	s->conn = conn_index(v, c);
	s->serial = c->serial;
	s->start = c->given;
	s->address = (struct address){ .peer_cid = c->peer_cid,
				       .peer_port = c->peer_port,
				       .guest_port = c->guest_port,
				       .type = c->type };
	return s;
}

/* The connection that a slot is for; NULL: it has ended. */
static struct conn *conn_of(struct vsock *v, const struct slot *s)
{
	struct conn *c = conn_at(v, s->conn);

	return c->state != CONN_FREE && c->serial == s->serial ? c : NULL;
}

static struct packet packet_from(const struct vsock *v, const struct address *a, uint16_t op)
{
	return (struct packet){
		.src_cid = a->peer_cid,
		.dst_cid = v->config.cid,
		.src_port = a->peer_port,
		.dst_port = a->guest_port,
		.type = (uint16_t)a->type,
		.op = op,
	};
}

/* Of a connection that has ended the guest has taken leave: nothing it would do anything about. */
static struct packet packet_of(struct vsock *v, const struct slot *s, uint16_t op)
{
	struct conn *c = conn_of(v, s);

	if (!c)
		return packet_from(v, &s->address, VIRTIO_VSOCK_OP_INVALID);
	c->told_fwd = (uint32_t)c->forwarded;
	return conn_packet(v, c, op);
}

static void slot_record(struct slot *s, enum slot_kind kind)
{
	__atomic_store_n(&s->kind, kind, __ATOMIC_RELEASE);
	CRASH_POINT("vsock.in.begun");
}

/* Nothing has come of it. */
static void slot_abandon(struct vsock *v, struct slot *s, const struct buffers *b)
{
	__atomic_store_n(&s->kind, SLOT_NONE, __ATOMIC_RELEASE);
	v->n_slots--;
	put_back(v, b, 0);
}

static void push(struct vsock *v, const struct buffer *b, uint32_t payload)
{
	const struct iovec *iov = v->iov + b->first_iov;

	for (uint32_t i = 0; i < b->n_iov && memory_logs(v->rx->queue.memory); i++)
		memory_log_host(v->rx->queue.memory, iov[i].iov_base, iov[i].iov_len);
	thread_push(v->thread, v->rx, b->head, PACKET_HEADER_LEN + payload);
	CRASH_POINT("vsock.in.pushed");
}

/* Data */

/* Headers in front of the bytes that were received, and the buffers to the driver. Their number. */
static uint32_t push_data(struct vsock *v, const struct slot *s, const struct buffers *b)
{
	struct packet p = packet_of(v, s, VIRTIO_VSOCK_OP_RW);
	uint32_t len = s->part.msg_len, i = 0;

	while (len > 0 && i < b->n) {
		const struct buffer *at = &b->buffer[i++];

		p.len = len < at->room ? len : at->room;
		len -= p.len;
		if (len == 0 && p.type == VIRTIO_VSOCK_TYPE_SEQPACKET)
			p.flags = VIRTIO_VSOCK_SEQ_EOM;
		packet_store(&p, v->iov + at->first_iov, at->n_iov);
		push(v, at, p.len);
	}
	return i;
}

/* Payload alone, at most len bytes: headers come later. */
static uint32_t payload_iov(const struct vsock *v, const struct buffers *b, uint32_t len,
			    struct iovec *out)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->n && len > 0; i++) {
		const struct buffer *at = &b->buffer[i];
		uint32_t part = len < at->room ? len : at->room;

		for (uint32_t k = 0; k < at->n_iov; k++)
			out[n + k] = v->iov[at->first_iov + k];
		packet_trim(out + n, at->n_iov, PACKET_HEADER_LEN, part);
		n += at->n_iov;
		len -= part;
	}
	return n;
}

static int receive(struct vsock *v, const struct conn *c, struct slot *s, const struct buffers *b,
		   uint32_t len)
{
	static struct iovec iov[VSOCK_IOV_MAX];
	int r;

	s->part.msg_hdr = (struct msghdr){ .msg_iov = iov };
	s->part.msg_hdr.msg_iovlen = payload_iov(v, b, len, iov);
	r = (int)syscall(SYS_recvmmsg, c->fd, &s->part, 1, MSG_DONTWAIT, NULL);
	CRASH_POINT("vsock.in.received");
	return r < 0 ? -errno : 0;
}

/* No byte will come any more. */
static void end_of_stream(struct vsock *v, struct conn *c)
{
	bool gone = conn_local(v, c)->gone_seen;

	set_remove(&v->readable, conn_index(v, c));
	c->host_done |= VIRTIO_VSOCK_SHUTDOWN_SEND | (gone ? VIRTIO_VSOCK_SHUTDOWN_RCV : 0);
	if (gone)
		conn_deadline(v, c, END_MS);
	conn_owe(v, c, DUE_SHUTDOWN);
}

/* The host program had only stopped sending before, perhaps. */
static void end_again(struct vsock *v, struct conn *c)
{
	set_remove(&v->readable, conn_index(v, c));
	if (conn_local(v, c)->gone_seen && !(c->host_done & VIRTIO_VSOCK_SHUTDOWN_RCV))
		end_of_stream(v, c);
}

static void learn_burst(struct local *l, uint32_t used, bool all)
{
	if (all)
		l->burst = l->burst < MAX_BURST / 2 ? l->burst * 2 : MAX_BURST;
	else if (used < l->burst / 2)
		l->burst = l->burst / 2 > MIN_BURST ? l->burst / 2 : MIN_BURST;
}

static void received(struct vsock *v, struct conn *c, const struct slot *s, struct buffers *b,
		     uint32_t offered)
{
	struct local *l = conn_local(v, c);
	uint32_t len = s->part.msg_len, used;

	c->given = s->start + len;
	CRASH_POINT("vsock.in.counted");
	used = push_data(v, s, b);
	conn_count_packets(c, used);
	put_back(v, b, used);
	learn_burst(l, used, len == offered);
	if (len < offered && !l->end_seen && c->type == VIRTIO_VSOCK_TYPE_STREAM)
		set_remove(&v->readable, conn_index(v, c));
}

/* The kernel refused: nothing there, or the end, or worse. */
static void not_received(struct vsock *v, struct conn *c, int error)
{
	if (error == -EAGAIN) {
		set_remove(&v->readable, conn_index(v, c));
	} else if (error == 0 || error == -ECONNRESET) {
		/* A host program that closed without having read all: what it did read stands. */
		if (error)
			conn_local(v, c)->gone_seen = true;
		end_of_stream(v, c);
	} else {
		conn_reset(v, c, "its socket cannot be read");
	}
}

/* How long is the next message? A negative errno; 0: there will be none. */
static int message_len(const struct conn *c)
{
	struct mmsghdr m = { 0 };

	if (syscall(SYS_recvmmsg, c->fd, &m, 1, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC, NULL) < 0)
		return -errno;
	return (int)m.msg_len;
}

/* How many bytes to receive now; 0: none, and what that means has been seen to. */
static uint32_t wanted(struct vsock *v, struct conn *c)
{
	uint32_t credit = conn_credit(c);
	int len;

	if (c->type == VIRTIO_VSOCK_TYPE_STREAM)
		return credit;
	len = message_len(c);
	if (len <= 0) {
		not_received(v, c, len);
		return 0;
	}
	if ((uint32_t)len > c->guest_alloc) {
		conn_reset(v, c, "a message is longer than the guest's whole buffer");
		return 0;
	}
	return (uint32_t)len <= credit ? (uint32_t)len : 0;
}

static void await_credit(struct vsock *v, struct conn *c)
{
	uint32_t i = conn_index(v, c);

	if (!set_has(&v->readable, i))
		return;
	set_remove(&v->readable, i);
	v->local[i].wants_credit = true;
	set_add(&v->hungry, i);
	conn_owe(v, c, DUE_CREDIT_REQUEST);
}

/*
 * As many bytes as the guest has room for in packets as large as its buffers. A message needs room for all of it, but one
 * that nothing else is on its way with is let go.
 */
static bool worth_while(struct vsock *v, struct conn *c, const struct buffers *b, uint32_t *len)
{
	uint32_t credit = conn_credit_in_packets(c, b->buffer[0].room);

	if (c->type == VIRTIO_VSOCK_TYPE_STREAM && *len > credit)
		*len = credit;
	return c->type == VIRTIO_VSOCK_TYPE_STREAM
		       ? credit > 0
		       : *len <= credit || c->guest_fwd == (uint32_t)c->given;
}

/* Receive into as many buffers as is likely to be needed. False: the ring is empty. */
static bool fill_data(struct vsock *v, struct conn *c)
{
	static struct buffers b;
	bool message = c->type == VIRTIO_VSOCK_TYPE_SEQPACKET;
	uint32_t len = wanted(v, c);
	struct slot *s;
	int r;

	if (len == 0) {
		await_credit(v, c);
		return true;
	}
	pop_buffers(v, &b, message ? MAX_BURST : conn_local(v, c)->burst, len);
	if (b.n > 0 && !worth_while(v, c, &b, &len)) {
		put_back(v, &b, 0);
		await_credit(v, c);
		return true;
	}
	if (b.n == 0 || (message && b.room < len)) {
		put_back(v, &b, 0);
		if (b.n == MAX_BURST)
			conn_reset(v, c, "a message needs too many of the guest's buffers");
		return b.n == MAX_BURST;
	}
	if (len > b.room)
		len = b.room;
	s = slot_begin(v, c, &b);
	slot_record(s, SLOT_DATA);
	r = receive(v, c, s, &b, len);
	if (r == 0 && s->part.msg_len > 0) {
		received(v, c, s, &b, len);
		return true;
	}
	slot_abandon(v, s, &b);
	not_received(v, c, r);
	return true;
}

/* What is due */

static uint16_t op_of(uint32_t due)
{
	switch ((enum conn_due)due) {
	case DUE_REQUEST:
		return VIRTIO_VSOCK_OP_REQUEST;
	case DUE_RESPONSE:
		return VIRTIO_VSOCK_OP_RESPONSE;
	case DUE_CREDIT:
		return VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	case DUE_CREDIT_REQUEST:
		return VIRTIO_VSOCK_OP_CREDIT_REQUEST;
	case DUE_SHUTDOWN:
		return VIRTIO_VSOCK_OP_SHUTDOWN;
	case DUE_RST:
		break;
	}
	return VIRTIO_VSOCK_OP_RST;
}

static void push_control(struct vsock *v, const struct slot *s, const struct buffers *b)
{
	struct packet p = packet_of(v, s, op_of(s->due));
	struct conn *c = conn_of(v, s);

	if (s->due == DUE_SHUTDOWN && c)
		p.flags = c->host_done;
	packet_store(&p, v->iov + b->buffer[0].first_iov, b->buffer[0].n_iov);
	push(v, &b->buffer[0], 0);
}

/* The first thing that is due, and is not on its way already; 0: nothing. */
static uint32_t first_due(struct vsock *v, const struct conn *c)
{
	uint32_t due = c->pending & ~conn_local(v, c)->on_its_way;

	return due & -due;
}

static void on_its_way(struct vsock *v, const struct conn *c, uint32_t due)
{
	conn_local(v, c)->on_its_way |= due;
	if (first_due(v, c) == 0)
		set_remove(&v->due, conn_index(v, c));
}

static bool fill_control(struct vsock *v, struct conn *c)
{
	uint32_t due = first_due(v, c);
	struct buffers b;
	struct slot *s;

	if (due == 0) {
		set_remove(&v->due, conn_index(v, c));
		return true;
	}
	pop_buffers(v, &b, 1, 1);
	if (b.n == 0)
		return false;
	s = slot_begin(v, c, &b);
	s->due = due;
	slot_record(s, SLOT_CONTROL);
	push_control(v, s, &b);
	on_its_way(v, c, due);
	return true;
}

/* Refusals */

bool in_can_refuse(const struct vsock *v)
{
	return v->store->stray_head - v->store->stray_tail < STORE_STRAYS;
}

bool in_refuse(struct vsock *v, uint16_t head, const struct packet *p)
{
	struct store *s = v->store;

	if (!in_can_refuse(v))
		return false;
	s->strays[s->stray_head % STORE_STRAYS] = (struct address){
		.peer_cid = p->dst_cid,
		.peer_port = p->dst_port,
		.guest_port = p->src_port,
		.type = p->type,
		.by = 1u + head,
	};
	__atomic_store_n(&s->stray_head, s->stray_head + 1, __ATOMIC_RELEASE);
	return true;
}

static struct address *last_stray(struct vsock *v)
{
	return &v->store->strays[(v->store->stray_head - 1) % STORE_STRAYS];
}

void in_refused(struct vsock *v)
{
	if (last_stray(v)->by)
		__atomic_store_n(&last_stray(v)->by, 0, __ATOMIC_RELEASE);
}

void in_recover_refusal(struct vsock *v)
{
	if (last_stray(v)->by)
		v->store->tx_done[last_stray(v)->by - 1] = 1;
	in_refused(v);
}

static void push_refusal(struct vsock *v, const struct slot *s, const struct buffers *b)
{
	struct packet p = packet_from(v, &s->address, VIRTIO_VSOCK_OP_RST);

	packet_store(&p, v->iov + b->buffer[0].first_iov, b->buffer[0].n_iov);
	push(v, &b->buffer[0], 0);
}

static bool fill_refusal(struct vsock *v, uint32_t number)
{
	struct buffers b;
	struct slot *s;

	pop_buffers(v, &b, 1, 1);
	if (b.n == 0)
		return false;
	s = slot_begin(v, NULL, &b);
	s->start = number;
	s->address = v->store->strays[number % STORE_STRAYS];
	slot_record(s, SLOT_STRAY);
	push_refusal(v, s, &b);
	return true;
}

/* Filling */

static bool slots_left(const struct vsock *v)
{
	return v->n_slots < STORE_SLOTS && !v->rx->queue.broken;
}

/* Each kind in turn; false: the ring is empty. */
static bool fill_refusals(struct vsock *v)
{
	for (; v->stray_next != v->store->stray_head && slots_left(v); v->stray_next++)
		if (!fill_refusal(v, v->stray_next))
			return false;
	return true;
}

static bool fill_due(struct vsock *v)
{
	uint32_t i;

	while (slots_left(v) && set_next(&v->due, &i))
		if (!fill_control(v, conn_at(v, i)))
			return false;
	return true;
}

static bool fill_readable(struct vsock *v)
{
	uint32_t n = v->readable.n, i;

	/* Each once. */
	while (n-- > 0 && slots_left(v) && set_next(&v->readable, &i)) {
		struct conn *c = conn_at(v, i);

		if (c->state != CONN_OPEN) {
			host_listen_to(v, c);
		} else if (c->guest_done & VIRTIO_VSOCK_SHUTDOWN_RCV) {
			set_remove(&v->readable, i);
		} else if (c->host_done & VIRTIO_VSOCK_SHUTDOWN_SEND) {
			end_again(v, c);
		} else if (!fill_data(v, c)) {
			return false;
		}
	}
	return true;
}

uint32_t in_fill(struct vsock *v)
{
	uint32_t before = v->n_slots;

	v->starved = false;
	if (fill_refusals(v) && fill_due(v))
		fill_readable(v);
	return v->n_slots - before;
}

/* What is published */

static void told(struct vsock *v, struct conn *c, uint32_t due)
{
	struct local *l = conn_local(v, c);

	/* Not if it has become due once more since. */
	c->pending &= ~(due & l->on_its_way);
	l->on_its_way &= ~due;
	if (due == DUE_RST && c->state == CONN_CLOSING)
		conn_drop(v, c);
	CRASH_POINT("vsock.in.told");
}

static void slot_end(struct vsock *v, struct slot *s)
{
	struct conn *c = conn_of(v, s);

	if (s->kind == SLOT_CONTROL && c)
		told(v, c, s->due);
	else if (s->kind == SLOT_STRAY)
		v->store->stray_tail = (uint32_t)s->start + 1;
	__atomic_store_n(&s->kind, SLOT_NONE, __ATOMIC_RELEASE);
	CRASH_POINT("vsock.in.ended");
}

void in_published(struct vsock *v)
{
	for (uint32_t i = 0; i < v->n_slots; i++)
		slot_end(v, &v->store->slots[i]);
	v->n_slots = 0;
}

/* A dead worker's */

static bool in_flight(const struct vsock *v, const struct slot *s)
{
	const struct queue *q = &v->rx->queue;

	return s->n_heads > 0 && s->heads[0] < q->size && queue_is_taken(q, s->heads[0]);
}

/*
 * Credit and the end of a stream are told once more, with the numbers of now: the dead worker may have had news since.
 * The others are not to be told twice.
 */
static void recover_published(struct vsock *v, struct slot *s)
{
	struct conn *c = conn_of(v, s);

	if (c && s->kind == SLOT_DATA && s->part.msg_len > 0)
		c->given = s->start + s->part.msg_len;
	if (c && s->kind == SLOT_CONTROL)
		conn_local(v, c)->on_its_way |= s->due & ~(uint32_t)(DUE_CREDIT | DUE_SHUTDOWN);
	slot_end(v, s);
}

void in_recover(struct vsock *v)
{
	for (uint32_t i = 0; i < STORE_SLOTS; i++) {
		struct slot *s = &v->store->slots[i];

		if (s->kind != SLOT_NONE && !in_flight(v, s))
			recover_published(v, s);
	}
	v->stray_next = v->store->stray_tail;
}

/* The buffers of a slot once more, as far as they were not put back; false: they are not what they were. */
static bool load_again(struct vsock *v, const struct slot *s, struct buffers *b)
{
	b->n = b->n_iov = b->room = 0;
	for (uint32_t i = 0; i < s->n_heads; i++) {
		struct chain c = { .iov = v->iov + b->n_iov, .iov_max = VSOCK_IOV_MAX - b->n_iov };

		if (s->heads[i] >= v->rx->queue.size || !queue_is_taken(&v->rx->queue, s->heads[i]))
			break;
		if (queue_load_again(&v->rx->queue, s->heads[i], &c) != QUEUE_OK ||
		    !add_chain(b, &c))
			return false;
	}
	return b->n > 0 && s->part.msg_len <= b->room;
}

static void resume_slot(struct vsock *v, struct slot *s)
{
	static struct buffers b;
	struct conn *c = conn_of(v, s);

	/* The guest has changed what it had given away. */
	if (!load_again(v, s, &b)) {
		break_ring(v);
		return;
	}
	switch ((enum slot_kind)s->kind) {
	case SLOT_DATA:
		if (s->part.msg_len == 0) { /* nothing was received: its buffers are put back */
			__atomic_store_n(&s->kind, SLOT_NONE, __ATOMIC_RELEASE);
			break;
		}
		if (c)
			c->given = s->start + s->part.msg_len;
		push_data(v, s, &b);
		break;
	case SLOT_CONTROL:
		push_control(v, s, &b);
		if (c)
			on_its_way(v, c, s->due);
		break;
	case SLOT_STRAY:
		push_refusal(v, s, &b);
		v->stray_next = (uint32_t)s->start + 1;
		break;
	case SLOT_NONE:
	case SLOT_N_KINDS:
		break;
	}
}

/*
 * Slots in the order in which they were filled, so that buffers are given back in the order in which
 * they were taken. Then what belongs to none is put back.
 */
void in_resume(struct vsock *v)
{
	struct vring *r = v->rx;

	for (uint32_t i = 0; i < STORE_SLOTS; i++) {
		struct slot *s = &v->store->slots[i];

		if (s->kind == SLOT_NONE)
			continue;
		resume_slot(v, s);
		if (s->kind != SLOT_NONE)
			v->n_slots = i + 1;
	}
	for (uint32_t i = r->n_resubmit; i-- > 0;)
		if (queue_is_taken(&r->queue, r->resubmit[i].head))
			thread_put_back(v->thread, r, r->resubmit[i].head);
}
