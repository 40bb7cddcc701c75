/* From the host to the guest: what sockets have. See in.h. */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/process/thread.h"
#include "devices/vsock/in-private.h"

enum {
	MAX_BURST = STORE_SLOT_HEADS,
	MIN_BURST = 1,
	EMPTY_MAX = 1024, /* messages that are left out at once */
	EMPTY_AT_END = 16,
	END_MS = 8000, /* for the guest to take leave: as long as Linux itself waits */
};

uint32_t in_push_data(struct vsock *v, const struct slot *s, const struct buffers *b)
{
	struct packet p = slot_packet(v, s, VIRTIO_VSOCK_OP_RW);
	uint32_t len = s->part.msg_len, i = 0;

	while (len > 0 && i < b->n) {
		const struct buffer *at = &b->buffer[i++];

		p.len = len < at->room ? len : at->room;
		len -= p.len;
		if (len == 0 && p.type == VIRTIO_VSOCK_TYPE_SEQPACKET)
			p.flags = VIRTIO_VSOCK_SEQ_EOM;
		packet_store(&p, v->iov + at->first_iov, at->n_iov);
		rx_push(v, at, p.len);
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

void in_end_again(struct vsock *v, struct conn *c)
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
	used = in_push_data(v, s, b);
	conn_count_packets(c, used);
	rx_put_back(v, b, used);
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

/* The length of the next message, which is taken off or left there. A negative errno; 0: an empty one, or the end. */
static int look_at_message(const struct conn *c, int flags)
{
	struct mmsghdr m = { 0 };

	if (syscall(SYS_recvmmsg, c->fd, &m, 1, MSG_DONTWAIT | MSG_TRUNC | flags, NULL) < 0)
		return -errno;
	return (int)m.msg_len;
}

/*
 * How long is the next message? A negative errno; 0: there will be none. What is empty is no message of a vsock's, and left out:
 * to the kernel it is the same as the end, but of that epoll tells. Once it has, only some more are looked for.
 */
static int message_len(struct vsock *v, const struct conn *c)
{
	const struct local *l = conn_local(v, c);

	for (uint32_t n = 0; n < (l->end_seen ? EMPTY_AT_END : EMPTY_MAX); n++) {
		int len = look_at_message(c, MSG_PEEK);

		if (len != 0)
			return len;
		if (!l->end_seen)
			thread_look(v->thread);
		(void)look_at_message(c, 0);
	}
	return l->end_seen ? 0 : -EOVERFLOW;
}

/* How many bytes to receive now; 0: none, and what that means has been seen to. */
static uint32_t wanted(struct vsock *v, struct conn *c)
{
	uint32_t credit = conn_credit(c);
	int len;

	if (c->type == VIRTIO_VSOCK_TYPE_STREAM)
		return credit;
	len = message_len(v, c);
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
bool in_fill_data(struct vsock *v, struct conn *c)
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
	rx_pop(v, &b, message ? MAX_BURST : conn_local(v, c)->burst, len);
	if (b.n > 0 && !worth_while(v, c, &b, &len)) {
		rx_put_back(v, &b, 0);
		await_credit(v, c);
		return true;
	}
	if (b.n == 0 || (message && b.room < len)) {
		rx_put_back(v, &b, 0);
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
