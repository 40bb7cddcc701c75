/* Host programs. See host.h. */
#include "devices/vsock/host.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/fd.h"
#include "devices/process/thread.h"
#include "devices/vhost/image.h"
#include "devices/vsock/broker.h"
#include "devices/vsock/hand.h"
#include "devices/vsock/in.h"
#include "devices/vsock/line.h"
#include "devices/vsock/out.h"
#include "devices/vsock/watch.h"

enum {
	LINE_MS = 5000,	   /* for a CONNECT line to come */
	REQUEST_MS = 5000, /* for the guest to answer */
	END_MS = 8000,	   /* for the guest to take leave: as long as Linux itself waits */
	FIRST_PORT = 1 << 30,
};

/* Accepting */

static void accepted(struct vsock *v, struct conn *c, int fd, uint32_t which)
{
	c->type = which ? VIRTIO_VSOCK_TYPE_SEQPACKET : VIRTIO_VSOCK_TYPE_STREAM;
	c->origin = ORIGIN_HOST;
	c->peer_cid = VSOCK_CID_HOST;
	c->fd = fd;
	conn_deadline(v, c, LINE_MS);
	conn_set_state(v, c, CONN_LINE);
	CRASH_POINT("vsock.accept.begun");
}

/* 0 or a negative errno; -EAGAIN: nobody waits. */
static int accept_one(struct vsock *v, struct conn *c, enum source_name which)
{
	int fd, r;

	hand_begin(v, HAND_ACCEPT, c, 0, which);
	/* No SOCK_CLOEXEC: it outlives the keeper's exec. */
	fd = accept4(CONTRACT_FD_VSOCK_STREAM + (int)which, NULL, NULL, SOCK_NONBLOCK);
	r = fd < 0 ? -errno : fd < CONTRACT_FD_LIMIT_VSOCK ? 0 : -EMFILE;
	CRASH_POINT("vsock.accept.accepted");
	if (r == 0)
		accepted(v, c, fd, which);
	hand_end(v);
	if (r == 0)
		watch_conn(v, c);
	return r;
}

/* While the table is full they wait, and while the host has no more descriptors. */
static uint32_t accept_from(struct vsock *v, enum source_name which)
{
	struct conn *c = v->sources[which].ready ? conn_new(v) : NULL;
	int r = c ? accept_one(v, c, which) : -ENFILE;

	if (r == 0 || r == -EAGAIN)
		watch_dealt_with(v, which);
	return r == 0;
}

uint32_t host_accept(struct vsock *v)
{
	return accept_from(v, SOURCE_STREAM) + accept_from(v, SOURCE_SEQPACKET);
}

static bool named(struct vsock *v, int fd)
{
	for (uint32_t i = 0; i < v->store->n_conns; i++)
		if (conn_at(v, i)->state != CONN_FREE && conn_at(v, i)->fd == fd)
			return true;
	return false;
}

static bool same_name(int fd, const struct sockaddr_storage *name, socklen_t len)
{
	struct sockaddr_storage own;
	socklen_t own_len = sizeof(own);
	int listening = 1;
	socklen_t int_len = sizeof(listening);

	return getsockname(fd, (struct sockaddr *)&own, &own_len) == 0 && own_len == len &&
	       memcmp(&own, name, len) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &int_len) == 0 && !listening;
}

/*
 * The last worker was about to accept. If it has, the socket is in the table and nobody names it; its
 * own name is the listening socket's.
 */
static void find_accepted(struct vsock *v)
{
	struct hand *h = &v->store->hand;
	uint32_t which = h->len ? 1 : 0;
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	struct conn *c = conn_at(v, h->conn);

	if (c->state != CONN_FREE ||
	    getsockname(CONTRACT_FD_VSOCK_STREAM + (int)which, (struct sockaddr *)&name, &len) < 0)
		return;
	for (int fd = CONTRACT_FD_SESSION; fd < CONTRACT_FD_LIMIT_VSOCK; fd++) {
		if (!same_name(fd, &name, len) || named(v, fd))
			continue;
		accepted(v, c, fd, which);
		return;
	}
}

void host_recover_accept(struct vsock *v)
{
	if (v->store->hand.kind != HAND_ACCEPT)
		return;
	find_accepted(v);
	hand_end(v);
}

/* Lines */

static uint32_t new_port(struct vsock *v, uint32_t guest_port)
{
	uint32_t *next = &v->store->next_port;

	do
		*next = *next < FIRST_PORT || *next == UINT32_MAX ? FIRST_PORT : *next + 1;
	while (conn_find(v, VSOCK_CID_HOST, *next, guest_port));
	return *next;
}

static void ask_guest(struct vsock *v, struct conn *c)
{
	conn_address(v, c);
	conn_deadline(v, c, REQUEST_MS);
	conn_owe(v, c, DUE_REQUEST);
	conn_set_state(v, c, CONN_REQUESTED);
	CRASH_POINT("vsock.line.requested");
}

/* Look at what is there, without taking it. The length, or a negative errno; 0 at the end. */
static int peek(int fd, uint8_t *text, uint32_t len)
{
	struct iovec iov = { .iov_base = text, .iov_len = len };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };

	if (syscall(SYS_recvmmsg, fd, &m, 1, MSG_DONTWAIT | MSG_PEEK, NULL) < 0)
		return -errno;
	return (int)m.msg_len;
}

static void taken_off(struct vsock *v, struct conn *c)
{
	if (c->state == CONN_LINE)
		ask_guest(v, c);
	else
		host_open(v, c);
}

/* Take what asks or answers off the socket: len bytes, which are there. */
static void take_off(struct vsock *v, struct conn *c, uint32_t len)
{
	int r;

	hand_begin(v, HAND_LINE, c, 0, len);
	r = hand_receive(v, c->fd, len);
	if (r == 0 && hand_moved(v) == len)
		taken_off(v, c);
	else
		conn_reset(v, c, "its line has gone");
	hand_end(v);
}

static void read_line(struct vsock *v, struct conn *c)
{
	uint8_t text[LINE_MAX_LEN];
	int n = peek(c->fd, text, sizeof(text)), len;
	uint32_t port;

	if (n == -EAGAIN)
		return;
	len = n > 0 ? line_parse(text, (uint32_t)n, &port) : LINE_BAD;
	/* A message is all that there will be of a line. */
	if (len == LINE_BAD || (len == LINE_MORE && conn_local(v, c)->end_seen) ||
	    (c->type == VIRTIO_VSOCK_TYPE_SEQPACKET && len != n) ||
	    (len > 0 && !port_allowed(&v->config.guest_ports, port))) {
		conn_drop(v, c);
		return;
	}
	if (len == LINE_MORE)
		return;
	c->guest_port = port;
	c->peer_port = new_port(v, port);
	conn_local(v, c)->unread = n > len;
	take_off(v, c, (uint32_t)len);
}

/* Another guest's device says one byte when its guest has accepted, and hangs up when not. */
static void read_answer(struct vsock *v, struct conn *c)
{
	uint8_t byte;
	int n = peek(c->fd, &byte, 1);

	if (n == -EAGAIN)
		return;
	conn_local(v, c)->unread = true; /* perhaps: only the one byte was looked at */
	if (n == 1)
		take_off(v, c, 1);
	else
		conn_reset(v, c, NULL);
}

void host_listen_to(struct vsock *v, struct conn *c)
{
	struct local *l = conn_local(v, c);

	set_remove(&v->readable, conn_index(v, c));
	if (c->state == CONN_LINE)
		read_line(v, c);
	else if (c->state == CONN_PEER)
		read_answer(v, c);
	else if (c->state == CONN_REQUESTED && l->gone_seen)
		conn_reset(v, c, NULL); /* whoever asked has gone */
	else
		l->unread = true;
}

/* What has come before it was open was not told of since. */
static void read_on(struct vsock *v, struct conn *c)
{
	struct local *l = conn_local(v, c);

	if (l->unread || l->end_seen)
		set_add(&v->readable, conn_index(v, c));
	l->unread = false;
}

void host_open(struct vsock *v, struct conn *c)
{
	conn_deadline(v, c, 0);
	conn_owe(v, c, DUE_RESPONSE);
	conn_set_state(v, c, CONN_OPEN);
	CRASH_POINT("vsock.conn.open");
	read_on(v, c);
}

/* Greeting */

static void greeted(struct vsock *v, struct conn *c)
{
	conn_deadline(v, c, 0);
	conn_set_state(v, c, CONN_OPEN);
	read_on(v, c);
}

void host_greet(struct vsock *v, struct conn *c)
{
	struct hand *h = &v->store->hand;
	struct iovec iov = { .iov_base = h->text };
	int r;

	iov.iov_len = c->origin == ORIGIN_PEER ? 1 : line_answer(h->text, c->peer_port);
	hand_begin(v, HAND_GREET, c, 0, (uint32_t)iov.iov_len);
	r = hand_send(v, c->fd, &iov, 1);
	/* A socket that nothing was written to yet takes so little, or nobody reads it any more. */
	if (r == 0 && hand_moved(v) == iov.iov_len)
		greeted(v, c);
	else
		conn_reset(v, c, NULL);
	CRASH_POINT("vsock.greet.greeted");
	hand_end(v);
}

/* Time */

void host_time_out(struct vsock *v, struct conn *c)
{
	switch ((enum conn_state)c->state) {
	case CONN_LINE:
	case CONN_ORPHAN:
		conn_drop(v, c);
		break;
	case CONN_REQUESTED:
	case CONN_GREETING:
	case CONN_ASKED:
	case CONN_PEER:
	case CONN_OPEN: /* the guest was told that the host's end is closed, and does not take leave */
		conn_reset(v, c, NULL);
		break;
	case CONN_FREE:
	case CONN_CLOSING:
	case CONN_N_STATES:
		conn_deadline(v, c, 0);
		break;
	}
}

/* After a death */

/* What was in hand. A run waits for its packets (out_resume). */
static void recover_hand(struct vsock *v)
{
	struct hand *h = &v->store->hand;
	struct conn *c = conn_at(v, h->conn);
	bool whole = h->part.msg_len > 0 && h->part.msg_len == h->len;

	switch ((enum hand_kind)h->kind) {
	case HAND_CREATE:
		if (c->state != CONN_FREE)
			v->store->tx_done[h->heads[0]] = 1;
		break;
	case HAND_FLUSH:
		out_recover_flush(v);
		return;
	case HAND_GREET:
		if (whole && c->state == CONN_GREETING)
			greeted(v, c);
		break;
	case HAND_LINE:
		if (whole && (c->state == CONN_LINE || c->state == CONN_PEER))
			taken_off(v, c);
		break;
	case HAND_ASK:
		broker_recover_ask(v, c);
		break;
	case HAND_RUN:
		/* Its packets are marked in their order: with the last one all is done. */
		if (v->store->tx_done[h->heads[h->n_heads - 1]])
			break;
		return;
	case HAND_ACCEPT: /* host_recover_accept() */
	case HAND_NONE:
	case HAND_N_KINDS:
		return;
	}
	hand_end(v);
}

void host_recover(struct vsock *v)
{
	recover_hand(v);
	broker_recover_letter(v);
	for (uint32_t i = 0; i < N_SOURCES; i++)
		v->sources[i].ready = i != SOURCE_BROKER || v->broker >= 0;
	for (uint32_t i = 0; i < v->store->n_conns; i++) {
		struct conn *c = conn_at(v, i);

		if (c->state == CONN_FREE)
			continue;
		if (c->fd == IMAGE_NO_FD && c->state != CONN_ASKED && c->state != CONN_CLOSING) {
			conn_reset(v, c, NULL); /* its worker died while it was ending it */
			continue;
		}
		watch_conn(v, c);
		if (c->state == CONN_OPEN || c->state == CONN_ORPHAN)
			set_add(&v->blocked, i);
		set_add(&v->readable, i);
	}
}
