/* Slots. See slot.h. */
#include "devices/vsock/slot.h"

#include "devices/base/crash.h"

struct slot *slot_begin(struct vsock *v, const struct conn *c, const struct buffers *b)
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

struct conn *slot_conn(struct vsock *v, const struct slot *s)
{
	struct conn *c = conn_at(v, s->conn);

	return c->state != CONN_FREE && c->serial == s->serial ? c : NULL;
}

struct packet slot_stray(const struct vsock *v, const struct slot *s, uint16_t op)
{
	const struct address *a = &s->address;

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
struct packet slot_packet(struct vsock *v, const struct slot *s, uint16_t op)
{
	struct conn *c = slot_conn(v, s);

	if (!c)
		return slot_stray(v, s, VIRTIO_VSOCK_OP_INVALID);
	c->told_fwd = (uint32_t)c->forwarded;
	return conn_packet(v, c, op);
}

void slot_record(struct slot *s, enum slot_kind kind)
{
	__atomic_store_n(&s->kind, kind, __ATOMIC_RELEASE);
	CRASH_POINT("vsock.in.begun");
}

void slot_abandon(struct vsock *v, struct slot *s, const struct buffers *b)
{
	__atomic_store_n(&s->kind, SLOT_NONE, __ATOMIC_RELEASE);
	v->n_slots--;
	rx_put_back(v, b, 0);
}

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

void slot_end(struct vsock *v, struct slot *s)
{
	struct conn *c = slot_conn(v, s);

	if (s->kind == SLOT_CONTROL && c)
		told(v, c, s->due);
	else if (s->kind == SLOT_STRAY)
		v->store->stray_tail = (uint32_t)s->start + 1;
	__atomic_store_n(&s->kind, SLOT_NONE, __ATOMIC_RELEASE);
	CRASH_POINT("vsock.in.ended");
}
