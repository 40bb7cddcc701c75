/* Messages on the socket. The order of every store here is the theory of message.h. */
#include "devices/vhost/message.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/fd.h"

/*
 * recvmmsg and sendmmsg are called as system calls: a C library may make sendmmsg() of sendmsg()
 * and store msg_len itself (musl does), which a process killed in between never comes to do.
 */
_Static_assert(sizeof(struct message_part) == sizeof(struct mmsghdr), "a part is a struct mmsghdr");
_Static_assert(offsetof(struct message_part, msg_len) == offsetof(struct mmsghdr, msg_len),
	       "the kernel stores the length where we look for it");
_Static_assert(offsetof(struct message_part, progress) % 8 == 0, "progress is one store");

const char *message_verdict_to_string(enum message_verdict v)
{
	static const char *const names[] = {
		[MESSAGE_OK] = "ok",
		[MESSAGE_AGAIN] = "not complete",
		[MESSAGE_CLOSED] = "connection closed",
		[MESSAGE_VERSION] = "header is not that of a version 1 request",
		[MESSAGE_SIZE] = "payload larger than any request's",
		[MESSAGE_FDS] =
			"unexpected ancillary data, or more descriptors than any request has",
	};

	_Static_assert(sizeof(names) / sizeof(*names) == MESSAGE_FDS + 1, "a name for each");
	return names[v];
}

static void progress_store(struct message_part *part, uint16_t done, uint16_t n_fds)
{
	struct message_part p = { .done = done, .n_fds = n_fds };

	__atomic_store_n(&part->progress, p.progress, __ATOMIC_RELEASE);
}

void message_rx_reset(struct message_rx *rx)
{
	progress_store(&rx->part, 0, 0);
}

void message_tx_reset(struct message_tx *tx)
{
	tx->len = 0;
	tx->fd = -1;
	progress_store(&tx->part, 0, 0);
}

/*
 * Append the descriptors that came with the last receive to fds[from...]. Returns the new number,
 * or -1 if the control data is not descriptors only or the array is full; the session ends then,
 * and with it all that it had open.
 */
static int collect_fds(struct message_rx *rx, uint16_t from)
{
	size_t len = rx->part.hdr.msg_controllen;
	uint32_t n = from;

	if (len > sizeof(rx->control) || (rx->part.hdr.msg_flags & MSG_CTRUNC))
		return -1;
	for (size_t at = 0; at < len && len - at >= sizeof(struct cmsghdr);) {
		const struct cmsghdr *c = (const struct cmsghdr *)(const void *)(rx->control + at);
		uint32_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
		    c->cmsg_len < CMSG_LEN(0) || c->cmsg_len > sizeof(rx->control) - at)
			return -1;
		count = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (uint32_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (n == PROTO_FDS_MAX)
				return -1;
			rx->fds[n++] = fd;
		}
		at += CMSG_ALIGN(c->cmsg_len);
	}
	return (int)n;
}

/* Account for what the kernel has stored. Repeating it after a kill gives the same result. */
static bool fold(struct message_rx *rx)
{
	uint32_t done = (uint32_t)rx->part.done + rx->part.msg_len;
	int n_fds;

	if (rx->part.msg_len == 0)
		return true;
	if (done > sizeof(rx->data))
		return false;
	n_fds = collect_fds(rx, rx->part.n_fds);
	CRASH_POINT("message.received");
	if (n_fds < 0)
		return false;
	progress_store(&rx->part, (uint16_t)done, (uint16_t)n_fds);
	CRASH_POINT("message.folded");
	return true;
}

bool message_rx_recover(struct message_rx *rx)
{
	if (rx->part.done > sizeof(rx->data) || rx->part.n_fds > PROTO_FDS_MAX)
		return false;
	return fold(rx);
}

bool message_tx_recover(const struct message_tx *tx)
{
	return tx->len == 0 || (tx->len >= PROTO_HEADER_LEN && tx->len <= sizeof(tx->data));
}

/* One receive of at most len more bytes. 0 or a negative errno; -EPIPE at the end of the stream. */
static int receive_some(struct message_rx *rx, int socket, uint32_t len)
{
	int r;

	rx->iov = (struct iovec){ .iov_base = rx->data + rx->part.done, .iov_len = len };
	rx->part.hdr = (struct msghdr){
		.msg_iov = &rx->iov,
		.msg_iovlen = 1,
		.msg_control = rx->control,
		.msg_controllen = sizeof(rx->control),
	};
	do {
		/* No MSG_CMSG_CLOEXEC: the descriptors outlive the keeper's exec. */
		r = (int)syscall(SYS_recvmmsg, socket, &rx->part, 1, MSG_DONTWAIT, NULL);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return rx->part.msg_len == 0 ? -EPIPE : 0;
}

static enum message_verdict header_verdict(const struct proto_header *h)
{
	if ((h->flags & PROTO_VERSION_MASK) != PROTO_VERSION || (h->flags & PROTO_FLAG_REPLY))
		return MESSAGE_VERSION;
	return h->size > PROTO_PAYLOAD_MAX_LEN ? MESSAGE_SIZE : MESSAGE_OK;
}

/* How long the message is, as far as known: the header, then header and payload. */
static enum message_verdict wanted_len(const struct message_rx *rx, struct proto_header *h,
				       uint32_t *ret_len)
{
	enum message_verdict v = MESSAGE_OK;

	*ret_len = PROTO_HEADER_LEN;
	if (rx->part.done < PROTO_HEADER_LEN)
		return MESSAGE_OK;
	memcpy(h, rx->data, sizeof(*h));
	v = header_verdict(h);
	if (v == MESSAGE_OK)
		*ret_len += h->size;
	return v;
}

static void copy_out(const struct message_rx *rx, const struct proto_header *h, struct message *m)
{
	m->header = *h;
	memset(&m->payload, 0, sizeof(m->payload));
	memcpy(&m->payload, rx->data + PROTO_HEADER_LEN, h->size);
	m->n_fds = rx->part.n_fds;
	memcpy(m->fds, rx->fds, sizeof(m->fds));
}

enum message_verdict message_receive(struct message_rx *rx, int socket, struct message *m)
{
	for (;;) {
		struct proto_header h = { 0 };
		enum message_verdict v;
		uint32_t want;
		int r;

		v = wanted_len(rx, &h, &want);
		if (v != MESSAGE_OK)
			return v;
		if (rx->part.done >= PROTO_HEADER_LEN && rx->part.done == want) {
			copy_out(rx, &h, m);
			return MESSAGE_OK;
		}
		if (rx->part.done > want)
			return MESSAGE_SIZE;
		r = receive_some(rx, socket, want - rx->part.done);
		if (r == -EAGAIN)
			return MESSAGE_AGAIN;
		if (r < 0)
			return MESSAGE_CLOSED;
		if (!fold(rx))
			return MESSAGE_FDS;
	}
}

void message_reply(struct message_tx *tx, const struct message *m, const void *payload,
		   uint32_t len, int fd)
{
	struct proto_header h = {
		.request = m->header.request,
		.flags = PROTO_VERSION | PROTO_FLAG_REPLY,
		.size = len,
	};

	assert(len <= PROTO_PAYLOAD_MAX_LEN);
	memcpy(tx->data, &h, sizeof(h));
	memcpy(tx->data + PROTO_HEADER_LEN, payload, len);
	tx->len = PROTO_HEADER_LEN + len;
	tx->fd = fd;
}

static void attach_fd(struct message_tx *tx)
{
	struct cmsghdr *c = (struct cmsghdr *)(void *)tx->control;

	memset(tx->control, 0, sizeof(tx->control));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &tx->fd, sizeof(int));
	tx->part.hdr.msg_control = tx->control;
	tx->part.hdr.msg_controllen = CMSG_SPACE(sizeof(int));
}

enum message_verdict message_send(struct message_tx *tx, int socket)
{
	int r;

	if (tx->len == 0 || __atomic_load_n(&tx->part.msg_len, __ATOMIC_ACQUIRE) != 0)
		return MESSAGE_OK;
	tx->iov = (struct iovec){ .iov_base = tx->data, .iov_len = tx->len };
	tx->part.hdr = (struct msghdr){ .msg_iov = &tx->iov, .msg_iovlen = 1 };
	if (tx->fd >= 0)
		attach_fd(tx);
	do {
		r = (int)syscall(SYS_sendmmsg, socket, &tx->part, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	CRASH_POINT("message.sent");
	if (r < 0)
		return errno == EAGAIN ? MESSAGE_AGAIN : MESSAGE_CLOSED;
	return MESSAGE_OK;
}
