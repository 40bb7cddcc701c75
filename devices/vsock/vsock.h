/*
 * The vsock device: sockets between programs in the guest and on the host.
 *
 * Runs in: worker. Trusts: its configuration; neither guest nor host programs nor state.
 *
 *	guest → host	out.c	packets of the tx ring go to sockets, or into the connection's buffer
 *	host → guest	in.c	what sockets have goes into buffers of the rx ring, behind what is due
 *	host programs	host.c	are accepted and greeted; their sockets are watched: watch.c
 *	vmdevd		broker.c  makes the connections that the guest asks for
 *	guest's packets	packets.c  what each operation does to its connection
 *
 * One I/O thread does all of it, so that each connection has one owner. It never waits for a socket:
 * what a host program does not read at once lies in that connection's buffer (store.h), for which
 * the guest has credit, so that nobody waits for a slow one but the slow one.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/base/log.h"
#include "devices/process/model.h"
#include "devices/process/options.h"
#include "devices/vsock/packet.h"
#include "devices/vsock/set.h"
#include "devices/vsock/store.h"

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT };

enum {
	VSOCK_CID_HOST = 2,
	VSOCK_CID_FIRST = 3,	/* of a guest's */
	VSOCK_RANGES_MAX = 32,	/* in an allow list */
	VSOCK_IOV_MAX = 1024,	/* of one system call */
	VSOCK_ADDRESSES = 8192, /* buckets */
};

struct port_range {
	uint32_t first, last;
};

struct port_list {
	bool all;
	uint32_t n;
	struct port_range ranges[VSOCK_RANGES_MAX];
};

struct vsock_config {
	uint64_t cid;
	struct port_list guest_ports; /* what others may connect to in the guest */
	/* by hand only */
	const char *uds;
	struct port_list host_ports;
};

/* Whoever brings connections, by descriptor: CONTRACT_FD_VSOCK_STREAM and the next. */
enum source_name { SOURCE_STREAM, SOURCE_SEQPACKET, SOURCE_BROKER, N_SOURCES };

struct source {
	bool ready;   /* somebody may wait to be accepted, or vmdevd may have written */
	bool ignored; /* and has been told of twice */
};

/* What a worker has to know of a connection and can find out again. */
struct local {
	uint32_t next;	     /* in its bucket, as index + 1; 0: the last */
	bool addressed;	     /* is in a bucket */
	bool end_seen;	     /* no byte will come after those that are there */
	bool gone_seen;	     /* nor will one be read there */
	bool blocked;	     /* the socket took less than it was offered */
	bool watched_out;    /* epoll tells when it takes more */
	bool unread;	     /* something may have come before it was open */
	bool wants_credit;   /* there is something for the guest, which has no room */
	uint32_t on_its_way; /* of conn.pending: in a slot, not published yet */
	uint32_t burst;	     /* receive buffers that the next receive is offered */
};

/* Packets of one connection, to be sent with one call. */
struct run {
	uint32_t conn;
	uint32_t n, n_iov, len;
	uint16_t heads[STORE_RUN];
	uint32_t lens[STORE_RUN];
	uint32_t first_iov[STORE_RUN];
	bool ends[STORE_RUN]; /* a message ends with it */
	struct iovec iov[2 * VSOCK_IOV_MAX];
};

struct vsock {
	struct model model; /* first */
	struct vsock_config config;
	struct store *store;
	struct thread *thread;
	struct vring *rx, *tx, *event; /* NULL: not attached yet */
	bool seqpacket;		       /* the driver has negotiated it */
	uint32_t n_applied; /* times that the session has been looked at: the first takes over */
	bool starved;	    /* there is something for the guest, but no receive buffer */
	int broker;	    /* -1: none */
	struct source sources[N_SOURCES];
	bool mute;	      /* the broker's channel is full: questions wait */
	uint32_t n_free_from; /* no connection below this one is free */
	uint32_t n_slots;     /* filled since the last publication */
	uint32_t stray_next;  /* refusals before this one are in slots, or have been told */
	uint32_t n_pushed;    /* packets given back since then */
	uint16_t pushed[QUEUE_MAX_SIZE];
	uint64_t asked_ns;  /* guests that do not say that they have room */
	uint64_t looked_ns; /* at deadlines */
	struct set readable, due, blocked, timed;
	struct set asking, asked; /* those that wait for vmdevd: to be asked, and for its answer */
	struct set
		hungry; /* there is something for the guest, which does not say that it has room */
	uint32_t buckets[VSOCK_ADDRESSES]; /* index + 1 */
	struct local local[STORE_CONNS];
	struct run run;
	struct iovec iov[VSOCK_IOV_MAX + 1]; /* of receive buffers */
	uint64_t n_resets;		     /* that were our doing */
	struct log_rate rate;
};

bool port_allowed(const struct port_list *list, uint32_t port);

/* "1024", "1024-2047,5000", "all", "none": 0 or -EINVAL. */
int port_list_parse(struct port_list *list, const char *text);

struct model *vsock_create(void *config, const struct options *o);
