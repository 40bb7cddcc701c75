/*
 * Receive buffers: chains of the rx ring, popped ahead of knowing how much is needed.
 *
 * Runs in: worker, one I/O thread. Trusts: nothing in the ring.
 */
#pragma once

#include "devices/vsock/conn.h"

/* A receive buffer: where it is in v->iov, and what it holds behind its header. */
struct buffer {
	uint16_t head;
	uint32_t first_iov, n_iov;
	uint32_t room;
};

/* Those of one slot. */
struct buffers {
	uint32_t n, n_iov, room;
	struct buffer buffer[STORE_SLOT_HEADS];
};

/* The guest has given what is no receive buffer, or has changed one: the ring is served no more. */
void rx_break(struct vsock *v);

/* A chain as a buffer; false: it has no room for a header. */
bool rx_add_chain(struct buffers *b, const struct chain *c);

/* n buffers, or as many as there are and fit, but no more than hold len bytes. */
void rx_pop(struct vsock *v, struct buffers *b, uint32_t n, uint32_t len);

/* Those from keep on, in reverse. */
void rx_put_back(struct vsock *v, const struct buffers *b, uint32_t keep);

/* To the driver, with so many bytes behind the header. */
void rx_push(struct vsock *v, const struct buffer *b, uint32_t payload);
