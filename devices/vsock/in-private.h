/*
 * What the parts of in.c share.
 *
 *	in-data.c	what sockets have
 *	in-control.c	what is due, and refusals
 *	in.c		all of that in turn; publication; after a death
 *
 * Runs in: worker, one I/O thread. Trusts: its callers; neither the ring nor what sockets hold.
 *
 * in_fill_...: false: the ring is empty. in_push_...: a slot's buffers, with what it is about in them: the same again if a dead
 * worker may have done it before.
 */
#pragma once

#include "devices/vsock/in.h"
#include "devices/vsock/slot.h"

/* in-data.c */

bool in_fill_data(struct vsock *v, struct conn *c);

/* Headers in front of the bytes that were received, and the buffers to the driver. Their number. */
uint32_t in_push_data(struct vsock *v, const struct slot *s, const struct buffers *b);

/* No more comes of a stream that had ended; but perhaps nothing is read there any more either. */
void in_end_again(struct vsock *v, struct conn *c);

/* in-control.c */

/* The first thing that is due. */
bool in_fill_control(struct vsock *v, struct conn *c);
void in_push_control(struct vsock *v, const struct slot *s, const struct buffers *b);
void in_control_on_its_way(struct vsock *v, const struct conn *c, uint32_t due);

bool in_fill_refusal(struct vsock *v, uint32_t number);
void in_push_refusal(struct vsock *v, const struct slot *s, const struct buffers *b);
