/*
 * The record of the one thing that the thread is about (store.h: struct hand), and the system calls
 * whose result the kernel stores there.
 *
 * Runs in: worker, one I/O thread. Trusts: the state as checked.
 */
#pragma once

#include "devices/vsock/vsock.h"

/* On record from here on. heads and lens have been written before; nothing is moved yet. */
void hand_begin(struct vsock *v, enum hand_kind kind, const struct conn *c, uint64_t start,
		uint32_t len);
void hand_end(struct vsock *v);

static inline uint32_t hand_moved(const struct vsock *v)
{
	return v->store->hand.part.msg_len;
}

/*
 * Send iov[0..n). 0: hand_moved() says how much the kernel has taken; or a negative errno, and it has
 * taken nothing (-EAGAIN: it has no room).
 */
int hand_send(struct vsock *v, int fd, struct iovec *iov, uint32_t n);

/* Take len bytes off the socket into hand.text; as above. */
int hand_receive(struct vsock *v, int fd, uint32_t len);
