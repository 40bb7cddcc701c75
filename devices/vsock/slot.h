/*
 * Slots: what is on its way into the guest's receive buffers, on record.
 *
 * Runs in: worker, one I/O thread. Trusts: its caller.
 *
 * A slot (store.h) is on record from before the receive until the driver can see its buffers:
 *
 *	begun		its buffers are popped, so in flight. msg_len 0: nothing has been received
 *	received	the kernel has stored msg_len; the bytes are in guest memory, behind where headers go
 *	counted		given = start + msg_len
 *	pushed		headers are written; buffers that were not needed are put back
 *	published	the buffers are not in flight any more: what was due has been told
 *	ended
 *
 * A successor finds its buffers in flight (then it writes the headers again and pushes them) or not
 * (then the driver has them): all of a slot, or none, since they are published together.
 */
#pragma once

#include "devices/vsock/rx.h"

/* The next slot, for c (NULL: a refusal), with these buffers; not on record yet. */
struct slot *slot_begin(struct vsock *v, const struct conn *c, const struct buffers *b);

/* On record from here on. */
void slot_record(struct slot *s, enum slot_kind kind);

/* Nothing has come of it: its buffers are put back. */
void slot_abandon(struct vsock *v, struct slot *s, const struct buffers *b);

/* The driver can see its buffers. */
void slot_end(struct vsock *v, struct slot *s);

/* The connection that a slot is for; NULL: it has ended. */
struct conn *slot_conn(struct vsock *v, const struct slot *s);

/* A packet from there, of a connection that there is not, and of the one that the slot is for. */
struct packet slot_stray(const struct vsock *v, const struct slot *s, uint16_t op);
struct packet slot_packet(struct vsock *v, const struct slot *s, uint16_t op);
