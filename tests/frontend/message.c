/*
 * vhost-user messages, as a front-end sends and receives them.
 *
 * Runs in: test programs. Trusts: its caller; what the back-end says is checked.
 */
#include "tests/frontend/session.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define TIMEOUT_MS 10000

static int send_some(struct fe *fe, struct msghdr *m)
{
	ssize_t n;

	do
		n = sendmsg(fe->fd, m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EPIPE ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
	return (int)n;
}

int fe_send_raw(struct fe *fe, const void *bytes, size_t len, const int *fds, unsigned n_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * 64)];
		struct cmsghdr align;
	} control = {};
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	int n;

	if (n_fds > 0) {
		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	while (iov.iov_len > 0) {
		n = send_some(fe, &m);
		if (n < 0)
			return n;
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		m.msg_control = NULL;
		m.msg_controllen = 0;
	}
	return 0;
}

int fe_send(struct fe *fe, const struct fe_out *out, uint32_t flags)
{
	struct fe_header h = { .request = out->request,
			       .flags = FE_FLAG_VERSION | flags,
			       .size = out->len };
	uint8_t bytes[sizeof(h) + FE_MAX_PAYLOAD];

	if (out->len > FE_MAX_PAYLOAD)
		return -EMSGSIZE;
	memcpy(bytes, &h, sizeof(h));
	if (out->len > 0)
		memcpy(bytes + sizeof(h), out->payload, out->len);
	return fe_send_raw(fe, bytes, sizeof(h) + out->len, out->fds, out->n_fds);
}

static int recv_exact(struct fe *fe, void *buf, size_t len, int *ret_fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * FE_MAX_FDS)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct pollfd p = { .fd = fe->fd, .events = POLLIN };
	struct cmsghdr *c;
	ssize_t n;

	while (iov.iov_len > 0) {
		if (poll(&p, 1, TIMEOUT_MS) == 0)
			return -ETIMEDOUT;
		m.msg_control = control.buf;
		m.msg_controllen = sizeof(control);
		n = recvmsg(fe->fd, &m, MSG_CMSG_CLOEXEC);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0)
			return -errno;
		c = CMSG_FIRSTHDR(&m);
		if (c && c->cmsg_type == SCM_RIGHTS) {
			if (!ret_fd || *ret_fd >= 0 || c->cmsg_len != CMSG_LEN(sizeof(int)))
				return -EBADMSG;
			memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
		}
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
	}
	return 0;
}

/* The reply to @request: at most *len bytes are taken, and *len is set to how many there were. */
int fe_recv(struct fe *fe, uint32_t request, void *ret_payload, uint32_t *len, int *ret_fd)
{
	struct fe_header h;
	int r, fd = -1;

	r = recv_exact(fe, &h, sizeof(h), &fd);
	if (r == 0 && (h.request != request || h.size > *len ||
		       (h.flags & 7) != (FE_FLAG_VERSION | FE_FLAG_REPLY)))
		r = -EBADMSG;
	if (r == 0)
		r = recv_exact(fe, ret_payload, h.size, &fd);
	if (r == 0 && fd >= 0 && !ret_fd)
		r = -EBADMSG;
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return r;
	}
	fe->n_replies++;
	*len = h.size;
	if (ret_fd)
		*ret_fd = fd;
	return 0;
}

int fe_do(struct fe *fe, const struct fe_out *out)
{
	bool ack = fe->pf & FE_BIT(FE_PF_REPLY_ACK);
	uint64_t verdict = 0;
	uint32_t len = sizeof(verdict);
	int r;

	r = fe_send(fe, out, ack ? FE_FLAG_NEED_REPLY : 0);
	if (r < 0 || !ack)
		return r;
	r = fe_recv(fe, out->request, &verdict, &len, NULL);
	if (r < 0)
		return r;
	if (len != sizeof(verdict))
		return -EBADMSG;
	return verdict ? -EREMOTEIO : 0;
}

/* A request whose reply is one number. */
int fe_ask(struct fe *fe, uint32_t request, const void *payload, uint32_t len, uint64_t *ret_v)
{
	struct fe_out out = { .request = request, .payload = payload, .len = len };
	uint64_t v = 0;
	uint32_t reply_len = sizeof(v);
	int r;

	r = fe_send(fe, &out, 0);
	if (r == 0)
		r = fe_recv(fe, request, &v, &reply_len, NULL);
	if (r == 0 && reply_len != sizeof(v))
		r = -EBADMSG;
	if (r == 0)
		*ret_v = v;
	return r;
}

/* A request whose payload is one number, perhaps with one descriptor (@fd >= 0). */
int fe_do_u64(struct fe *fe, uint32_t request, uint64_t v, int fd)
{
	struct fe_out out = {
		.request = request,
		.payload = &v,
		.len = sizeof(v),
		.fds = &fd,
		.n_fds = fd >= 0,
	};

	return fe_do(fe, &out);
}
