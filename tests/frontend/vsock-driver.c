/* A vsock driver. See vsock-driver.h. */
#include "tests/frontend/vsock-driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RX, TX, EVENT, N_QUEUES, FIRST_PORT = 1024 };

void vd_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "#   ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	_exit(1);
}

static void post(struct vd *vd, void *buffer)
{
	const struct fe_sg sg = { buffer, VD_RX_LEN };

	memset(buffer, 0xa5, sizeof(struct virtio_vsock_hdr));
	if (fe_queue_add(&vd->fe.queues[RX], &sg, 0, 1, buffer) < 0)
		vd_fail("the rx ring is full");
	vd->n_rx_posted++;
}

void vd_begin(struct vd *vd, const char *socket, uint16_t size)
{
	const struct fe_spec spec = { .n_queues = N_QUEUES, .queue_size = size };
	int r = fe_begin(&vd->fe, socket, &spec);

	if (r < 0)
		vd_fail("no session: %s", strerror(-r));
	vd->rx_wanted = size < VD_RX_MAX ? size : VD_RX_MAX;
	for (unsigned i = 0; i < vd->rx_wanted; i++) {
		vd->rx[i] = fe_memory_alloc(&vd->fe.mem, VD_RX_LEN, 64);
		post(vd, vd->rx[i]);
	}
	for (unsigned i = 0; i < VD_TX_MAX; i++)
		vd->tx[i] = fe_memory_alloc(&vd->fe.mem,
					    sizeof(struct virtio_vsock_hdr) + VD_TX_LEN, 4096);
	fe_queue_kick(&vd->fe.queues[RX]);
	fe_queue_arm(&vd->fe.queues[RX]);
	fe_queue_arm(&vd->fe.queues[TX]);
}

int vd_call_fd(const struct vd *vd, unsigned queue)
{
	return vd->fe.queues[queue].call;
}

/* Connections */

static struct vd_conn *find(struct vd *vd, uint64_t cid, uint32_t peer_port, uint32_t port)
{
	for (unsigned i = 0; i < VD_CONNS; i++) {
		struct vd_conn *c = &vd->conns[i];

		if (c->state != VD_FREE && c->peer_cid == cid && c->peer_port == peer_port &&
		    c->port == port)
			return c;
	}
	return NULL;
}

static struct vd_conn *new_conn(struct vd *vd)
{
	static const struct vd_conn fresh = { .alloc = VD_ALLOC, .message_ended = true };

	for (unsigned i = 0; i < VD_CONNS; i++)
		if (vd->conns[i].state == VD_FREE) {
			vd->conns[i] = fresh;
			return &vd->conns[i];
		}
	vd_fail("too many connections");
}

void vd_free(struct vd_conn *c)
{
	c->state = VD_FREE;
}

struct virtio_vsock_hdr vd_header(const struct vd_conn *c, uint16_t op)
{
	return (struct virtio_vsock_hdr){ .src_cid = VD_CID,
					  .dst_cid = c->peer_cid,
					  .src_port = c->port,
					  .dst_port = c->peer_port,
					  .type = c->type,
					  .op = op,
					  .buf_alloc = c->alloc,
					  .fwd_cnt = c->read };
}

bool vd_packet(struct vd *vd, const struct virtio_vsock_hdr *h, const void *bytes, uint32_t len)
{
	for (unsigned i = 0; i < VD_TX_MAX; i++) {
		struct fe_sg sg[2] = { { vd->tx[i], sizeof(*h) }, { vd->tx[i] + sizeof(*h), len } };

		if (vd->tx_busy[i])
			continue;
		memcpy(vd->tx[i], h, sizeof(*h));
		if (len > 0)
			memcpy(vd->tx[i] + sizeof(*h), bytes, len);
		if (fe_queue_add(&vd->fe.queues[TX], sg, len > 0 ? 2 : 1, 0,
				 (void *)(uintptr_t)(i + 1)) < 0)
			return false;
		vd->tx_busy[i] = true;
		fe_queue_kick(&vd->fe.queues[TX]);
		return true;
	}
	return false;
}

static void control(struct vd *vd, const struct vd_conn *c, uint16_t op, uint32_t flags)
{
	struct virtio_vsock_hdr h = vd_header(c, op);

	h.flags = flags;
	for (unsigned i = 0; !vd_packet(vd, &h, NULL, 0); i++) {
		if (i > 5000)
			vd_fail("the device gives no tx buffer back");
		vd_poll(vd);
		usleep(1000);
	}
}

struct vd_conn *vd_connect(struct vd *vd, uint64_t cid, uint32_t port, uint16_t type)
{
	static uint32_t next_port = FIRST_PORT;
	struct vd_conn *c = new_conn(vd);

	c->state = VD_ASKED;
	c->peer_cid = cid;
	c->peer_port = port;
	c->port = next_port++;
	c->type = type;
	control(vd, c, VIRTIO_VSOCK_OP_REQUEST, 0);
	return c;
}

void vd_accept(struct vd *vd, struct vd_conn *c)
{
	c->state = VD_OPEN;
	control(vd, c, VIRTIO_VSOCK_OP_RESPONSE, 0);
}

void vd_reset(struct vd *vd, struct vd_conn *c)
{
	control(vd, c, VIRTIO_VSOCK_OP_RST, 0);
	vd_free(c);
}

void vd_shutdown(struct vd *vd, struct vd_conn *c, uint8_t flags)
{
	c->done |= flags;
	control(vd, c, VIRTIO_VSOCK_OP_SHUTDOWN, c->done);
}

void vd_read(struct vd *vd, struct vd_conn *c, uint32_t n)
{
	uint32_t untold = c->granted + n;

	c->granted = untold;
	c->read += n;
	if (untold < c->alloc / 4)
		return;
	c->granted = 0;
	control(vd, c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
}

uint32_t vd_send(struct vd *vd, struct vd_conn *c, const void *bytes, uint32_t len, bool end)
{
	uint32_t credit = c->peer_alloc - (c->sent - c->peer_fwd);
	struct virtio_vsock_hdr h = vd_header(c, VIRTIO_VSOCK_OP_RW);

	if (c->sent - c->peer_fwd > c->peer_alloc)
		credit = 0;
	if (len > credit)
		len = c->type == VIRTIO_VSOCK_TYPE_STREAM ? credit : 0;
	if (len > VD_TX_LEN)
		len = VD_TX_LEN;
	h.len = len;
	h.flags = end ? VIRTIO_VSOCK_SEQ_EOM : 0;
	if (len == 0 || !vd_packet(vd, &h, bytes, len))
		return 0;
	c->sent += len;
	return len;
}

/* What the device sends */

static void take_data(struct vd *vd, struct vd_conn *c, const struct virtio_vsock_hdr *h,
		      const uint8_t *bytes)
{
	bool end = (h->flags & VIRTIO_VSOCK_SEQ_EOM) != 0;

	if (c->state != VD_OPEN)
		vd_fail("data on a connection that is not open (port %u, state %d)", c->port,
			c->state);
	if (c->peer_done & VIRTIO_VSOCK_SHUTDOWN_SEND)
		vd_fail("data after the end");
	if (h->len == 0)
		vd_fail("data without a byte");
	c->received += h->len;
	if (c->received - c->read > c->alloc)
		vd_fail("more data than was granted");
	c->message_ended = end;
	vd->on_data(vd, c, bytes, h->len, end);
}

static void take_request(struct vd *vd, struct vd_conn *c, const struct virtio_vsock_hdr *h)
{
	if (c)
		vd_fail("a connection is asked for twice");
	c = new_conn(vd);
	c->peer_cid = h->src_cid;
	c->peer_port = h->src_port;
	c->port = h->dst_port;
	c->type = h->type;
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	c->state = VD_ASKED;
	vd->on_request(vd, c);
}

static void take_packet(struct vd *vd, const struct virtio_vsock_hdr *h, const uint8_t *bytes)
{
	struct vd_conn *c = find(vd, h->src_cid, h->src_port, h->dst_port);

	if (h->dst_cid != VD_CID)
		vd_fail("a packet for CID %llu", (unsigned long long)h->dst_cid);
	if (h->op == VIRTIO_VSOCK_OP_REQUEST) {
		take_request(vd, c, h);
		return;
	}
	if (!c) {
		vd->n_unknown += h->op == VIRTIO_VSOCK_OP_RST;
		if (h->op == VIRTIO_VSOCK_OP_RST && h->dst_port == VD_STRAY_PORT)
			vd->stray = h->src_port;
		return; /* of one that we have taken leave of */
	}
	if (h->type != c->type)
		vd_fail("a packet of type %u on a connection of type %u", h->type, c->type);
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	if (c->sent - c->peer_fwd > c->sent && c->state == VD_OPEN)
		vd_fail("more was forwarded than was sent");
	switch (h->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		if (c->state != VD_ASKED)
			vd_fail("a response where none was asked for");
		c->state = VD_OPEN;
		break;
	case VIRTIO_VSOCK_OP_RST:
		c->state = c->state == VD_ASKED ? VD_REFUSED : VD_RESET;
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		c->peer_done |= h->flags;
		break;
	case VIRTIO_VSOCK_OP_RW:
		take_data(vd, c, h, bytes);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		c->granted = 0;
		control(vd, c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
		break;
	default:
		vd_fail("a packet with operation %u", h->op);
	}
}

static void take_rx(struct vd *vd, const struct fe_used *used)
{
	static uint8_t copy[VD_RX_LEN];
	struct virtio_vsock_hdr h;

	vd->n_rx_posted--;
	if (used->len < sizeof(h) || used->len > VD_RX_LEN)
		vd_fail("a packet of %u bytes", used->len);
	memcpy(copy, used->user, used->len);
	memcpy(&h, copy, sizeof(h));
	if (used->len != sizeof(h) + h.len)
		vd_fail("a packet of %u bytes that says %u", used->len, h.len);
	if (!vd->hold_rx)
		post(vd, used->user);
	take_packet(vd, &h, copy + sizeof(h));
}

unsigned vd_poll(struct vd *vd)
{
	struct fe_used used;
	unsigned n = 0;

	while (fe_queue_pop(&vd->fe.queues[TX], &used))
		vd->tx_busy[(uintptr_t)used.user - 1] = false;
	while (fe_queue_pop(&vd->fe.queues[RX], &used)) {
		take_rx(vd, &used);
		n++;
	}
	if (n > 0)
		fe_queue_kick(&vd->fe.queues[RX]);
	if (vd->fe.queues[RX].n_bogus || vd->fe.queues[TX].n_bogus)
		vd_fail("a buffer is given back twice");
	return n;
}
