/* From the host to the guest: control packets that are due, and refusals. See in.h. */
#include "devices/vsock/in-private.h"

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

void in_push_control(struct vsock *v, const struct slot *s, const struct buffers *b)
{
	struct packet p = slot_packet(v, s, op_of(s->due));
	struct conn *c = slot_conn(v, s);

	if (s->due == DUE_SHUTDOWN && c)
		p.flags = c->host_done;
	packet_store(&p, v->iov + b->buffer[0].first_iov, b->buffer[0].n_iov);
	rx_push(v, &b->buffer[0], 0);
}

/* The first thing that is due, and is not on its way already; 0: nothing. */
static uint32_t first_due(struct vsock *v, const struct conn *c)
{
	uint32_t due = c->pending & ~conn_local(v, c)->on_its_way;

	return due & -due;
}

void in_control_on_its_way(struct vsock *v, const struct conn *c, uint32_t due)
{
	conn_local(v, c)->on_its_way |= due;
	if (first_due(v, c) == 0)
		set_remove(&v->due, conn_index(v, c));
}

bool in_fill_control(struct vsock *v, struct conn *c)
{
	uint32_t due = first_due(v, c);
	struct buffers b;
	struct slot *s;

	if (due == 0) {
		set_remove(&v->due, conn_index(v, c));
		return true;
	}
	rx_pop(v, &b, 1, 1);
	if (b.n == 0)
		return false;
	s = slot_begin(v, c, &b);
	s->due = due;
	slot_record(s, SLOT_CONTROL);
	in_push_control(v, s, &b);
	in_control_on_its_way(v, c, due);
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

void in_push_refusal(struct vsock *v, const struct slot *s, const struct buffers *b)
{
	struct packet p = slot_stray(v, s, VIRTIO_VSOCK_OP_RST);

	packet_store(&p, v->iov + b->buffer[0].first_iov, b->buffer[0].n_iov);
	rx_push(v, &b->buffer[0], 0);
}

bool in_fill_refusal(struct vsock *v, uint32_t number)
{
	struct buffers b;
	struct slot *s;

	rx_pop(v, &b, 1, 1);
	if (b.n == 0)
		return false;
	s = slot_begin(v, NULL, &b);
	s->start = number;
	s->address = v->store->strays[number % STORE_STRAYS];
	slot_record(s, SLOT_STRAY);
	in_push_refusal(v, s, &b);
	return true;
}
