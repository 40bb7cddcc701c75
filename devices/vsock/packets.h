/*
 * What the guest's packets do: one after the other, in the order of the ring.
 *
 * Runs in: worker, one I/O thread. Trusts: nothing in a packet. One that breaks the rules costs its
 *          connection, and no other.
 */
#pragma once

#include "devices/vsock/conn.h"

/* Pop and deal with up to a batch; the number. */
uint32_t packets_take(struct vsock *v);

/* A head that a dead worker had in flight. */
void packets_resume(struct vsock *v, uint16_t head);

/* One that has crashed too many workers. */
void packets_poison(struct vsock *v, uint16_t head);

void packets_published(struct vsock *v);
