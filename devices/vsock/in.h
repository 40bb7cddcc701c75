/*
 * From the host to the guest: what sockets have, and what is due, into buffers of the rx ring.
 *
 * Runs in: worker, one I/O thread. Trusts: its caller; neither the ring nor what sockets hold.
 *
 * Linux posts buffers of 4 KiB: one receive fills as many as the stream has bytes for, each behind a
 * header of its own. How many it is offered adapts; what was popped and not needed is put back. All that is
 * received in a turn becomes visible with one publication.
 *
 * Slots (slot.h) are how that survives the worker.
 */
#pragma once

#include "devices/vsock/conn.h"

/* Fill buffers: first what is due, then what can be read, in turn; the number of packets. */
uint32_t in_fill(struct vsock *v);

/* What is due alone. */
uint32_t in_fill_due(struct vsock *v);

/* An RST for the packet at head, that no connection is for. False: too many wait. */
bool in_refuse(struct vsock *v, uint16_t head, const struct packet *p);
/* The packet in hand is marked as dealt with. */
void in_refused(struct vsock *v);
/* A dead worker's last refusal: the packet that it is about has been dealt with. */
void in_recover_refusal(struct vsock *v);
bool in_can_refuse(const struct vsock *v);

/* What was pushed has been published. */
void in_published(struct vsock *v);

/* A dead worker's: slots whose buffers the driver has; then the others, and put back the rest. */
void in_recover(struct vsock *v);
void in_resume(struct vsock *v);
