/* The guest's packets. See packets.h. */
#include "devices/vsock/packets.h"

#include <string.h>
#include <sys/socket.h>

#include "devices/base/crash.h"
#include "devices/process/thread.h"
#include "devices/process/worker.h"
#include "devices/vhost/image.h"
#include "devices/vsock/broker.h"
#include "devices/vsock/hand.h"
#include "devices/vsock/host.h"
#include "devices/vsock/in.h"
#include "devices/vsock/out.h"

enum {
	TAKE_BATCH = 128,
	TAKE_BYTES = 512 << 10,
	CHAIN_IOV_MAX = VSOCK_IOV_MAX / 2,
	ASK_MS = 10000, /* for vmdevd to answer */
	SHUTDOWN_BOTH = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND,
};

/* A packet with where its payload is. */
struct arrival {
	struct packet p;
	uint16_t head;
	struct iovec *iov;
	uint32_t n_iov;
	bool kept; /* it is part of the run, which gives it back */
};

static void give_back(struct vsock *v, uint16_t head)
{
	v->pushed[v->n_pushed++] = head;
	thread_push(v->thread, v->tx, head, 0);
}

static void refuse(struct vsock *v, const struct arrival *a)
{
	if (a->p.op != VIRTIO_VSOCK_OP_RST)
		in_refuse(v, a->head, &a->p);
}

/* VIRTIO 1.3 §5.10.6.6: whoever cannot or will not, says RST. */
static void on_request(struct vsock *v, struct conn *old, struct arrival *a)
{
	const struct packet *p = &a->p;
	struct conn *c;

	if (old) {
		conn_reset(v, old, "the guest asks for it once more");
		return;
	}
	c = v->broker < 0 || (p->type == VIRTIO_VSOCK_TYPE_SEQPACKET && !v->seqpacket)
		    ? NULL
		    : conn_new(v);
	if (!c) {
		refuse(v, a);
		return;
	}
	c->type = p->type;
	c->origin = ORIGIN_GUEST;
	c->peer_cid = p->dst_cid;
	c->peer_port = p->dst_port;
	c->guest_port = p->src_port;
	c->guest_alloc = p->buf_alloc;
	c->guest_fwd = p->fwd_cnt;
	v->store->hand.heads[0] = a->head;
	hand_begin(v, HAND_CREATE, c, 0, 0);
	conn_deadline(v, c, ASK_MS);
	conn_set_state(v, c, CONN_ASKED);
	CRASH_POINT("vsock.request.created");
	v->store->tx_done[a->head] = 1;
	hand_end(v);
	conn_address(v, c);
	set_add(&v->asking, conn_index(v, c));
}

static void on_response(struct vsock *v, struct conn *c, struct arrival *a)
{
	if (c->state != CONN_REQUESTED && c->state != CONN_GREETING)
		return;
	conn_set_state(v, c, CONN_GREETING);
	CRASH_POINT("vsock.response.seen");
	host_greet(v, c);
}

static void on_rst(struct vsock *v, struct conn *c, struct arrival *a)
{
	/* It has said before that it neither sends nor receives: it has lost patience, that is all. */
	if (c->state == CONN_OPEN && c->guest_done == SHUTDOWN_BOTH && c->taken != c->forwarded)
		conn_orphan(v, c);
	else
		conn_drop(v, c);
}

static void on_shutdown(struct vsock *v, struct conn *c, struct arrival *a)
{
	c->guest_done |= a->p.flags & SHUTDOWN_BOTH;
	CRASH_POINT("vsock.shutdown.seen");
	out_pass_end_on(v, c);
	if (c->state == CONN_OPEN && (c->guest_done & VIRTIO_VSOCK_SHUTDOWN_RCV))
		shutdown(c->fd, SHUT_RD);
}

static void on_data(struct vsock *v, struct conn *c, struct arrival *a)
{
	const struct packet *p = &a->p;

	if (p->len == 0) {
		if (p->flags & VIRTIO_VSOCK_SEQ_EOM)
			out_end_message(v, c);
		return;
	}
	if (c->guest_done & VIRTIO_VSOCK_SHUTDOWN_SEND) {
		conn_reset(v, c, "data after the end");
		return;
	}
	if (!out_run_takes(v, c))
		out_send_run(v);
	if (c->state != CONN_OPEN)
		return;
	if (p->len > out_room(v, c)) {
		out_send_run(v);
		conn_reset(v, c, "more data than it was granted");
		return;
	}
	if (a->iov != out_iov(v))
		memmove(out_iov(v), a->iov, a->n_iov * sizeof(*a->iov));
	packet_trim(out_iov(v), a->n_iov, PACKET_HEADER_LEN, p->len);
	out_run_add(v, c, a->head, p, a->n_iov);
	a->kept = true;
}

static void on_credit_request(struct vsock *v, struct conn *c, struct arrival *a)
{
	conn_owe(v, c, DUE_CREDIT);
}

static void on_credit_update(struct vsock *v, struct conn *c, struct arrival *a)
{
}

/* What an operation does, and when it may: bits by state. */
static const struct {
	void (*run)(struct vsock *v, struct conn *c, struct arrival *a);
	uint32_t states;
} operations[] = {
#define AT(state) (1u << CONN_##state)
	[VIRTIO_VSOCK_OP_REQUEST] = { on_request, ~0u },
	[VIRTIO_VSOCK_OP_RESPONSE] = { on_response, AT(REQUESTED) | AT(GREETING) | AT(OPEN) },
	[VIRTIO_VSOCK_OP_RST] = { on_rst, ~0u },
	[VIRTIO_VSOCK_OP_SHUTDOWN] = { on_shutdown, AT(OPEN) },
	[VIRTIO_VSOCK_OP_RW] = { on_data, AT(OPEN) },
	[VIRTIO_VSOCK_OP_CREDIT_UPDATE] = { on_credit_update, ~0u },
	[VIRTIO_VSOCK_OP_CREDIT_REQUEST] = { on_credit_request, AT(OPEN) },
#undef AT
};

static void on_connection(struct vsock *v, struct conn *c, struct arrival *a)
{
	if (c->state == CONN_CLOSING) {
		if (a->p.op == VIRTIO_VSOCK_OP_RST)
			conn_drop(v, c);
		return;
	}
	if (a->p.type != c->type) {
		conn_reset(v, c, "a packet of another type of socket");
		return;
	}
	conn_take_credit(v, c, &a->p);
	if (operations[a->p.op].states >> c->state & 1)
		operations[a->p.op].run(v, c, a);
	else
		conn_reset(v, c, "a packet that is out of place");
}

static void deal_with(struct vsock *v, struct arrival *a, enum packet_verdict verdict)
{
	const struct packet *p = &a->p;
	struct conn *c;

	/* Nobody else's packets can be sent from here. */
	if (verdict == PACKET_SHORT || p->src_cid != v->config.cid)
		return;
	c = conn_find(v, p->dst_cid, p->dst_port, p->src_port);
	/* All but more of the same goes behind what was sent before it. */
	if (v->run.n > 0 && (!c || p->op != VIRTIO_VSOCK_OP_RW || v->run.conn != conn_index(v, c)))
		out_send_run(v);
	if (c && verdict == PACKET_OK) {
		on_connection(v, c, a);
	} else if (c && verdict == PACKET_CUT) {
		out_send_run(v);
		conn_reset(v, c, "a packet that is shorter than it says");
	} else if (verdict == PACKET_OK && p->op == VIRTIO_VSOCK_OP_REQUEST) {
		on_request(v, NULL, a);
	} else {
		refuse(v, a);
	}
}

static void take_packet(struct vsock *v, const struct chain *chain)
{
	struct arrival a = { .head = chain->head, .iov = chain->iov, .n_iov = chain->n_readable };
	enum packet_verdict verdict =
		packet_load(&a.p, chain->iov, chain->n_readable, chain->readable_len);

	deal_with(v, &a, verdict);
	if (a.kept)
		return;
	v->store->tx_done[a.head] = 1;
	in_refused(v);
	CRASH_POINT("vsock.packet.done");
	give_back(v, a.head);
}

static struct chain spare_chain(struct vsock *v)
{
	return (struct chain){ .iov = out_iov(v), .iov_max = CHAIN_IOV_MAX };
}

uint32_t packets_take(struct vsock *v)
{
	uint32_t n = 0, bytes = 0;

	out_give_up(v); /* none of its packets was in flight */
	while (n < TAKE_BATCH && bytes < TAKE_BYTES && in_can_refuse(v)) {
		struct chain c = spare_chain(v);

		if (queue_pop(&v->tx->queue, &c) != QUEUE_OK)
			break;
		if (n++ == 0)
			queue_disable_notify(&v->tx->queue);
		thread_taken(v->thread, v->tx);
		bytes += c.readable_len;
		thread_take_up(v->thread, v->tx, c.head);
		take_packet(v, &c);
		thread_set_down(v->thread);
	}
	out_send_run(v);
	return n;
}

static void resume_packet(struct vsock *v, uint16_t head)
{
	struct chain c = spare_chain(v);
	struct packet p;
	enum packet_verdict verdict;

	/* Its descriptors were changed: there is nothing that could be known of it. */
	if (queue_load_again(&v->tx->queue, head, &c) != QUEUE_OK) {
		out_give_up(v);
		give_back(v, head);
		return;
	}
	verdict = packet_load(&p, c.iov, c.n_readable, c.readable_len);
	if (verdict == PACKET_OK && out_resume(v, head, &p, c.iov, c.n_readable)) {
		give_back(v, head);
		return;
	}
	out_give_up(v);
	take_packet(v, &c);
	out_send_run(v);
}

void packets_resume(struct vsock *v, uint16_t head)
{
	thread_take_up(v->thread, v->tx, head);
	if (v->store->tx_done[head])
		give_back(v, head);
	else
		resume_packet(v, head);
	thread_set_down(v->thread);
}

/* The connection that it is for, if that can still be read; the run that it is part of ends with it. */
void packets_poison(struct vsock *v, uint16_t head)
{
	struct chain c = spare_chain(v);
	struct conn *conn = NULL;
	struct packet p;

	thread_take_up(v->thread, v->tx, head);
	if (v->tx->suspicion[head] == WORKER_POISON_LIMIT &&
	    queue_load_again(&v->tx->queue, head, &c) == QUEUE_OK &&
	    packet_load(&p, c.iov, c.n_readable, c.readable_len) != PACKET_SHORT)
		conn = conn_find(v, p.dst_cid, p.dst_port, p.src_port);
	if (conn)
		conn_reset(v, conn, "a packet of it crashes the device");
	out_give_up(v);
	give_back(v, head);
	thread_set_down(v->thread);
}

void packets_published(struct vsock *v)
{
	for (uint32_t i = 0; i < v->n_pushed; i++)
		v->store->tx_done[v->pushed[i]] = 0;
	v->n_pushed = 0;
	CRASH_POINT("vsock.packet.published");
}
