/*
 * The table of connections: finding, beginning and ending them, and their credit.
 *
 * Runs in: worker, one I/O thread. Trusts: the state as checked.
 *
 * Invariants:
 *  1. A connection with a guest's end is found by the address of its other end and the guest's
 *     port; no two have the same.
 *  2. conn.state is written last when a connection begins. A socket is taken out of the table before
 *     it is closed: a number that was closed may name something else the next instant.
 *  3. taken - forwarded <= what the guest was granted; what lies between is in the buffer.
 */
#pragma once

#include "devices/vsock/vsock.h"

static inline struct conn *conn_at(struct vsock *v, uint32_t i)
{
	return &v->store->conns[i];
}

static inline uint32_t conn_index(const struct vsock *v, const struct conn *c)
{
	return (uint32_t)(c - v->store->conns);
}

static inline struct local *conn_local(struct vsock *v, const struct conn *c)
{
	return &v->local[conn_index(v, c)];
}

/* By address; NULL: there is none. */
struct conn *conn_find(struct vsock *v, uint64_t peer_cid, uint32_t peer_port, uint32_t guest_port);

/* A free place, cleared but for its state, with a fresh serial; NULL: the table is full. */
struct conn *conn_new(struct vsock *v);

/* It has an address from here on, or none any more. */
void conn_address(struct vsock *v, struct conn *c);
void conn_unaddress(struct vsock *v, struct conn *c);

/* From FREE: it exists from here on; all else about it has been written. */
void conn_set_state(struct vsock *v, struct conn *c, enum conn_state state);

/* Something is due to the guest. */
void conn_owe(struct vsock *v, struct conn *c, uint32_t due);

/* In so many milliseconds; 0: never. */
void conn_deadline(struct vsock *v, struct conn *c, uint32_t ms);

/* It is over, for both ends: the guest gets an RST. why: for the log; NULL: that is how it should be. */
void conn_reset(struct vsock *v, struct conn *c, const char *why);

/* It is over, and the guest knows or never knew. */
void conn_drop(struct vsock *v, struct conn *c);

/* The guest has gone, in order; what is in the buffer is still to be read. */
void conn_orphan(struct vsock *v, struct conn *c);

/* All of them, at once: the driver begins anew. */
void conn_drop_all(struct vsock *v);

/* How many bytes the guest has room for. */
uint32_t conn_credit(const struct conn *c);

/*
 * How many of them to send in packets of this length. Linux (7.1, and stable releases before it) counts some 600 bytes of its
 * own for each packet that nobody has read, and resets the connection when that is too much. So packets cost credit here, too:
 * at most as many are on their way as fit. There is always room for one.
 */
uint32_t conn_credit_in_packets(const struct conn *c, uint32_t packet_len);

/* So many packets more, before they can be seen. */
void conn_count_packets(struct conn *c, uint32_t n);

/* What the guest's packet says of its room. */
void conn_take_credit(struct vsock *v, struct conn *c, const struct packet *p);

/* The guest's view of our room has become small and need not be. */
void conn_offer_credit(struct vsock *v, struct conn *c);

/* A packet to the guest, from this connection. */
struct packet conn_packet(const struct vsock *v, const struct conn *c, uint16_t op);

/* For a worker that takes over: buckets and sets, from the table. */
void conn_recover(struct vsock *v);
