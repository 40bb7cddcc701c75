/* Asking vmdevd. See broker.h. */
#include "devices/vsock/broker.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/fd.h"
#include "devices/base/wire.h"
#include "devices/vhost/image.h"
#include "devices/vsock/hand.h"
#include "devices/vsock/host.h"
#include "devices/vsock/watch.h"

enum { LETTERS_BATCH = 32, PEER_MS = 5000, REQUEST_MS = 5000 };

/* Asking */

static void asked(struct vsock *v, struct conn *c)
{
	c->told = 1;
	set_remove(&v->asking, conn_index(v, c));
	set_add(&v->asked, conn_index(v, c));
}

void broker_recover_ask(struct vsock *v, struct conn *c)
{
	if (hand_moved(v) > 0)
		asked(v, c);
}

static bool ask_one(struct vsock *v, struct conn *c)
{
	struct hand *h = &v->store->hand;
	struct wire_writer w = wire_writer(h->text, sizeof(h->text));
	struct iovec iov = { .iov_base = h->text };
	int r;

	wire_put_u32(&w, CONTRACT_VSOCK_ASK);
	wire_put_u64(&w, c->serial);
	wire_put_u64(&w, c->peer_cid);
	wire_put_u32(&w, c->peer_port);
	wire_put_u32(&w, c->guest_port);
	wire_put_u32(&w, c->type);
	iov.iov_len = wire_len(&w);
	hand_begin(v, HAND_ASK, c, 0, (uint32_t)iov.iov_len);
	r = v->broker < 0 ? -EPIPE : hand_send(v, v->broker, &iov, 1);
	if (r == 0)
		asked(v, c);
	else if (r != -EAGAIN)
		conn_reset(v, c, NULL);
	hand_end(v);
	return r != -EAGAIN;
}

void broker_ask(struct vsock *v)
{
	uint32_t i;

	while (!v->mute && (i = set_find(&v->asking, 0)) < STORE_CONNS)
		if (!ask_one(v, conn_at(v, i)))
			watch_broker_full(v);
}

/* Letters */

int broker_letter_fd(const struct letter *l)
{
	const struct cmsghdr *c = (const struct cmsghdr *)(const void *)l->control;
	int fd;

	if (l->part.msg_len == 0 || l->part.msg_hdr.msg_controllen < CMSG_LEN(sizeof(int)) ||
	    c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(sizeof(int)))
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd >= CONTRACT_FD_SESSION && fd < CONTRACT_FD_LIMIT_VSOCK ? fd : -1;
}

/* Whom an answer is for: one that waits for it, or one that has got it from a dead worker. */
static struct conn *asker(struct vsock *v, uint64_t serial)
{
	for (uint32_t i = 0; (i = set_find(&v->asked, i)) < STORE_CONNS; i++)
		if (conn_at(v, i)->serial == serial)
			return conn_at(v, i);
	for (uint32_t i = 0; i < v->store->n_conns; i++)
		if (conn_at(v, i)->state != CONN_FREE && conn_at(v, i)->serial == serial)
			return conn_at(v, i);
	return NULL;
}

/* True: the descriptor is somebody's now. */
static bool take_answer(struct vsock *v, struct wire_reader *r, int fd)
{
	uint64_t serial = wire_get_u64(r);
	uint32_t error = wire_get_u32(r), other_guest = wire_get_u32(r);
	struct conn *c = wire_done(r) ? asker(v, serial) : NULL;

	/* The last worker may have acted on it. */
	if (!c || c->state != CONN_ASKED)
		return c && fd >= 0 && c->fd == fd;
	if (error || fd < 0) {
		conn_reset(v, c, NULL);
		return false;
	}
	set_remove(&v->asked, conn_index(v, c));
	__atomic_store_n(&c->fd, fd, __ATOMIC_RELEASE);
	CRASH_POINT("vsock.broker.given");
	watch_conn(v, c);
	if (c->state != CONN_ASKED)
		return true; /* it cannot be watched, and was reset */
	if (other_guest) {
		c->origin = ORIGIN_GUEST_TO_PEER;
		conn_deadline(v, c, PEER_MS);
		conn_set_state(v, c, CONN_PEER);
	} else {
		host_open(v, c);
	}
	return true;
}

static bool take_incoming(struct vsock *v, struct wire_reader *r, int fd)
{
	uint64_t cid = wire_get_u64(r);
	uint32_t port = wire_get_u32(r), guest_port = wire_get_u32(r), type = wire_get_u32(r);
	struct conn *c;

	if (!wire_done(r) || fd < 0 || type < VIRTIO_VSOCK_TYPE_STREAM ||
	    type > VIRTIO_VSOCK_TYPE_SEQPACKET)
		return false;
	c = conn_find(v, cid, port, guest_port);
	if (c)
		return c->fd == fd; /* as above; else the other guest is confused */
	if (!port_allowed(&v->config.guest_ports, guest_port) || !(c = conn_new(v)))
		return false;
	c->type = (uint16_t)type;
	c->origin = ORIGIN_PEER;
	c->peer_cid = cid;
	c->peer_port = port;
	c->guest_port = guest_port;
	c->fd = fd;
	conn_address(v, c);
	conn_deadline(v, c, REQUEST_MS);
	c->pending = DUE_REQUEST;
	conn_set_state(v, c, CONN_REQUESTED);
	CRASH_POINT("vsock.broker.incoming");
	conn_owe(v, c, DUE_REQUEST);
	watch_conn(v, c);
	return true;
}

/* Act on the letter that is there. The same again does no harm. */
static void act(struct vsock *v)
{
	struct letter *l = &v->store->letter;
	uint32_t len = l->part.msg_len;
	struct wire_reader r = wire_reader(l->data, len < sizeof(l->data) ? len : sizeof(l->data));
	int fd = broker_letter_fd(l);
	bool taken = false;

	switch ((enum contract_vsock_msg)wire_get_u32(&r)) {
	case CONTRACT_VSOCK_ANSWER:
		taken = take_answer(v, &r, fd);
		break;
	case CONTRACT_VSOCK_INCOMING:
		taken = take_incoming(v, &r, fd);
		break;
	case CONTRACT_VSOCK_ASK:
		break;
	}
	__atomic_store_n(&l->part.msg_len, 0, __ATOMIC_RELEASE);
	CRASH_POINT("vsock.broker.acted");
	if (!taken && fd >= 0)
		fd_close(fd);
}

/*
 * At once: before anything else has an end, above all the connection that the dead worker may have made of it, whose number could
 * then be something else's.
 */
void broker_recover_letter(struct vsock *v)
{
	if (v->store->letter.part.msg_len > 0)
		act(v);
}

static int receive(struct vsock *v)
{
	struct letter *l = &v->store->letter;
	int r;

	l->iov = (struct iovec){ .iov_base = l->data, .iov_len = sizeof(l->data) };
	l->part.msg_hdr = (struct msghdr){ .msg_iov = &l->iov,
					   .msg_iovlen = 1,
					   .msg_control = l->control,
					   .msg_controllen = sizeof(l->control) };
	r = (int)syscall(SYS_recvmmsg, v->broker, &l->part, 1, MSG_DONTWAIT, NULL);
	CRASH_POINT("vsock.broker.received");
	if (r < 0)
		return -errno;
	return l->part.msg_len == 0 ? -EPIPE : 0;
}

/* Nobody makes connections any more: those that wait for one are refused, now and later. */
static void broker_lost(struct vsock *v)
{
	watch_no_broker(v);
	for (uint32_t i = 0; i < v->store->n_conns; i++)
		if (conn_at(v, i)->state == CONN_ASKED)
			conn_reset(v, conn_at(v, i), NULL);
}

uint32_t broker_read(struct vsock *v)
{
	uint32_t n = 0;
	int r = 0;

	if (!v->sources[SOURCE_BROKER].ready)
		return 0;
	/* More than one only if more answers are awaited. */
	do {
		if (v->store->letter.part.msg_len == 0)
			r = receive(v);
		if (r < 0)
			break;
		act(v);
	} while (++n < LETTERS_BATCH && v->asked.n > 0);
	if (r == 0 || r == -EAGAIN)
		watch_dealt_with(v, SOURCE_BROKER);
	else
		broker_lost(v);
	return n;
}
