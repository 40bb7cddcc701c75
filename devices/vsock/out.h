/*
 * From the guest to the host: payload of packets into sockets.
 *
 * Runs in: worker, one I/O thread. Trusts: its caller; chains are checked, what is in them is not.
 *
 * Packets of one connection that follow each other are a run: one call offers all of their bytes to
 * the socket, from where they lie in guest memory. What it does not take is copied into the
 * connection's buffer, for which the guest had credit, so that no packet waits and no other
 * connection does. While there is something in the buffer, more goes behind it; when the socket
 * takes more, the buffer is flushed. A message of SEQPACKET that is one packet is sent like that too; one of
 * several packets comes together in the buffer.
 *
 * Each byte has a position, conn.taken when it came. A run is on record from before its bytes are
 * offered until all of its packets are marked as dealt with (store.tx_done):
 *
 *	begun		msg_len is 0: nothing was taken by the socket
 *	sent		the kernel has stored how much it was: forwarded = start + msg_len
 *	settled		each packet: what is left of it is in the buffer; tx_done
 *	taken		taken = start + len
 *	ended
 *
 * A successor begins where this stopped, packet by packet (out_resume): it finds the same chains, since none has been
 * given back. If it does not find them, it cannot know what was sent (out_give_up).
 */
#pragma once

#include "devices/vsock/conn.h"

/* Is there room in the run for one more packet of this connection? If not, out_send_run() first. */
bool out_run_takes(const struct vsock *v, const struct conn *c);

/*
 * Add a packet, whose payload is described by n_iov elements at the end of the run's iov: out_iov(). The connection has
 * credit for it.
 */
void out_run_add(struct vsock *v, const struct conn *c, uint16_t head, const struct packet *p,
		 uint32_t n_iov);
/* A message ends with what has come already. */
void out_end_message(struct vsock *v, struct conn *c);

struct iovec *out_iov(struct vsock *v);

/* Send what the run has, if anything, and give its packets back. */
void out_send_run(struct vsock *v);

/* Bytes that the guest may still send, the run's counted in. */
uint32_t out_room(const struct vsock *v, const struct conn *c);

/*
 * A dead worker's run: is head one of its packets, and is that what it was? Then it is dealt with, the packet in iov[0..n), given
 * back by the caller.
 */
bool out_resume(struct vsock *v, uint16_t head, const struct packet *p, struct iovec *iov,
		uint32_t n);

/*
 * If there still is such a run: it cannot be finished. The guest has changed what it had given away, or it crashes the device,
 * or the state says of it what is not so. Its connection is reset.
 */
void out_give_up(struct vsock *v);

/* The socket may take more of the buffer. */
void out_flush(struct vsock *v, struct conn *c);

/* All is forwarded, and the guest will send no more: pass that on, once. */
void out_pass_end_on(struct vsock *v, struct conn *c);

/* The host's end takes nothing any more. */
void out_host_gone(struct vsock *v, struct conn *c);

/* What a dead worker was about, but for a run: settle it. */
void out_recover_flush(struct vsock *v);
