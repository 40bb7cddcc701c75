/* Receive buffers. See rx.h. */
#include "devices/vsock/rx.h"

#include "devices/base/crash.h"
#include "devices/process/thread.h"

/* More of a buffer is not used, whatever it has: so sums of them are what they seem. */
enum { ROOM_MAX = 1 << 20 };

_Static_assert((uint64_t)ROOM_MAX *STORE_SLOT_HEADS < UINT32_MAX, "the room of a slot is a length");

void rx_break(struct vsock *v)
{
	v->rx->queue.broken = true;
	v->rx->queue.broken_why = QUEUE_BAD_CHAIN;
	v->rx->queue.broken_chain = CHAIN_TOO_SHORT;
}

bool rx_add_chain(struct buffers *b, const struct chain *c)
{
	uint32_t room = c->writable_len - PACKET_HEADER_LEN;

	if (c->n_readable > 0 || c->writable_len <= PACKET_HEADER_LEN)
		return false;
	if (room > ROOM_MAX)
		room = ROOM_MAX;
	b->buffer[b->n++] = (struct buffer){
		.head = c->head,
		.first_iov = b->n_iov,
		.n_iov = c->n_writable,
		.room = room,
	};
	b->n_iov += c->n_writable;
	b->room += room;
	return true;
}

/* Pop one more. False: there is none, or the ring is broken. */
static bool pop_buffer(struct vsock *v, struct buffers *b)
{
	struct chain c = { .iov = v->iov + b->n_iov, .iov_max = VSOCK_IOV_MAX - b->n_iov };
	enum queue_verdict r = queue_pop(&v->rx->queue, &c);

	if (r != QUEUE_OK) {
		v->starved |= r == QUEUE_EMPTY;
		return false;
	}
	thread_taken(v->thread, v->rx);
	CRASH_POINT("vsock.in.popped");
	if (rx_add_chain(b, &c))
		return true;
	thread_put_back(v->thread, v->rx, c.head);
	rx_break(v);
	return false;
}

void rx_pop(struct vsock *v, struct buffers *b, uint32_t n, uint32_t len)
{
	b->n = b->n_iov = b->room = 0;
	while (b->n < n && b->room < len && b->n_iov < VSOCK_IOV_MAX / 2)
		if (!pop_buffer(v, b))
			break;
}

void rx_put_back(struct vsock *v, const struct buffers *b, uint32_t keep)
{
	for (uint32_t i = b->n; i-- > keep;) {
		thread_put_back(v->thread, v->rx, b->buffer[i].head);
		CRASH_POINT("vsock.in.put_back");
	}
}

void rx_push(struct vsock *v, const struct buffer *b, uint32_t payload)
{
	const struct iovec *iov = v->iov + b->first_iov;

	for (uint32_t i = 0; i < b->n_iov && memory_logs(v->rx->queue.memory); i++)
		memory_log_host(v->rx->queue.memory, iov[i].iov_base, iov[i].iov_len);
	thread_push(v->thread, v->rx, b->head, PACKET_HEADER_LEN + payload);
	CRASH_POINT("vsock.in.pushed");
}
