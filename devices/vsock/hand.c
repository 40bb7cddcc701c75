/* What is in hand. See hand.h. */
#include "devices/vsock/hand.h"

#include <assert.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/vsock/conn.h"

void hand_begin(struct vsock *v, enum hand_kind kind, const struct conn *c, uint64_t start,
		uint32_t len)
{
	struct hand *h = &v->store->hand;

	assert(h->kind == HAND_NONE);
	h->conn = conn_index(v, c);
	h->start = start;
	h->len = len;
	h->part.msg_len = 0;
	__atomic_store_n(&h->kind, kind, __ATOMIC_RELEASE);
	CRASH_POINT("vsock.hand.begun");
}

void hand_end(struct vsock *v)
{
	__atomic_store_n(&v->store->hand.kind, HAND_NONE, __ATOMIC_RELEASE);
	CRASH_POINT("vsock.hand.ended");
}

int hand_send(struct vsock *v, int fd, struct iovec *iov, uint32_t n)
{
	struct hand *h = &v->store->hand;
	int r;

	h->part.msg_hdr = (struct msghdr){ .msg_iov = iov, .msg_iovlen = n };
	r = (int)syscall(SYS_sendmmsg, fd, &h->part, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	CRASH_POINT("vsock.hand.sent");
	return r < 0 ? -errno : 0;
}

int hand_receive(struct vsock *v, int fd, uint32_t len)
{
	struct hand *h = &v->store->hand;
	struct iovec iov = { .iov_base = h->text, .iov_len = len };
	int r;

	assert(len <= sizeof(h->text));
	h->part.msg_hdr = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
	r = (int)syscall(SYS_recvmmsg, fd, &h->part, 1, MSG_DONTWAIT, NULL);
	CRASH_POINT("vsock.hand.received");
	return r < 0 ? -errno : 0;
}
