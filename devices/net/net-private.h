/*
 * The inside of the network device: what net.c, tx.c and rx*.c share.
 *
 * Runs in: worker. Trusts: see net.h.
 *
 * Virtqueues 2i and 2i+1 are pair i's receive and transmit queue, served by one I/O thread, which also has
 * the host side's queue i. The last virtqueue is the control queue, of thread 0.
 */
#pragma once

#include <pthread.h>

#include "devices/base/log.h"
#include "devices/net/batch.h"
#include "devices/net/control.h"
#include "devices/net/counters.h"
#include "devices/net/filter.h"
#include "devices/net/header.h"
#include "devices/net/host.h"
#include "devices/net/net.h"
#include "devices/net/proto.h"
#include "devices/process/model.h"
#include "devices/process/thread.h"
#include "devices/process/throttle.h"

enum {
	NET_BATCH = 64, /* frames of a queue in a turn */
	NET_BATCH_BYTES = 256 << 10,
	NET_GIVEN_MAX =
		512, /* buffers; what a turn gives back beyond that is lost with its worker */
	NET_MAX_SEGMENTS = 1024, /* descriptors of a chain: the largest queue */
};

/*
 * Of a receive queue, the buffers of whole frames that have been given back and not been published: from a tap a frame cannot
 * be read again. Its thread writes a buffer's entry, and then how many there are (release), behind each frame; a
 * successor that finds their heads in flight, in this order and first, publishes them. Zero again once they are published:
 * nothing is taken from the queue in between.
 */
struct net_given {
	uint32_t n;
	struct {
		uint32_t head;
		uint32_t len;
	} buffer[NET_GIVEN_MAX];
};

/*
 * How far a host queue's frames had reached the driver when the used index of the receive queue that they go to was this:
 * one word, written before that index is. A successor that finds the index takes the queue up there. 0: nothing yet.
 */
typedef uint64_t net_reached;

static inline net_reached net_reached_make(uint32_t pair, uint16_t used_idx, uint32_t position)
{
	return (uint64_t)(pair + 1) << 48 | (uint64_t)used_idx << 32 | position;
}

/* Of a transmit queue, the heads that a successor sends again, noted before. Zero when they are published. */
struct net_again {
	uint64_t heads[QUEUE_MAX_SIZE / 64];
};

/* The device type's part of the state memfd. */
struct net_store {
	struct control_store control;
	uint32_t control_begun; /* the state above is that of the driver whose queue is started */
	uint32_t n_usable;	/* pairs that have been made ready for the driver */
	struct net_counters counters[CONTRACT_NET_MAX_PAIRS];
	struct net_given given[CONTRACT_NET_MAX_PAIRS];
	struct net_again again[CONTRACT_NET_MAX_PAIRS];
	net_reached
		reached[CONTRACT_NET_MAX_PAIRS]; /* by host queue; of sides that tell positions */
};

struct tx;
struct rx;

struct net_pair {
	struct net_counters *counters;
	struct net_again *again;
	struct net_given *given; /* NULL: the host side gives again what was not published */
	struct tx *tx;
	struct rx *rx;
	/*
	 * Host queues that its receive queue is fed from, a bit each. A queue has one reader: they
	 * change while no I/O thread runs.
	 */
	uint32_t sources;
	struct control_state control; /* its thread's copy */
	uint32_t control_seen;	      /* net.control_seq of that copy */
	struct header_rules in;	      /* what the driver may be sent */
	uint32_t next_source;	      /* where to look first */
	bool fed;		      /* it has had a frame in this turn */
	/*
	 * As the last turn left it: more from the driver is of no use, in the receive or the
	 * transmit queue. What is waited for is the host, or a limit's time.
	 */
	bool waiting[2];
	bool wants_frame; /* it is a frame that the receive queue waits for */
	bool wants_room;  /* it is room at the host that the transmit queue waits for */
	struct log_rate drop_rate;
};

struct net {
	struct model model; /* first */
	struct host *host;
	struct net_store *store;
	struct net_config config;
	struct filter filter; /* of what the driver sends */
	uint32_t n_pairs;
	uint32_t n_usable;     /* pairs whose virtqueues are enabled */
	uint32_t control_ring; /* index of the control queue, which depends on MQ */
	bool control_ours;     /* the front-end has given it to us */
	/* Its thread: a command that is obeyed when no thread runs, and is answered then. */
	struct {
		bool there;
		uint16_t head;
	} unanswered;
	uint32_t control_seq;	      /* counts changes, and so tells threads of them */
	pthread_mutex_t control_lock; /* around the store while it is changed or copied */
	/* As agreed on in this session: */
	uint32_t hdr_len;
	bool mergeable;
	uint32_t mtu;		 /* 0: none was agreed on */
	struct header_rules out; /* what the driver may send */
	uint64_t features;
	struct throttle sending, receiving;
	struct thread *threads[CONTRACT_NET_MAX_PAIRS]; /* by pair */
	struct batch batches[CONTRACT_MAX_THREADS];	/* by thread */
	uint64_t opcodes; /* that an I/O ring may have; 0: there is to be none */
	struct net_pair pairs[CONTRACT_NET_MAX_PAIRS];
};

static inline bool net_is_rx(uint32_t ring)
{
	return ring % 2 == 0;
}

static inline bool net_is_control(const struct net *net, const struct vring *r)
{
	return r->index == net->control_ring;
}

/* What a virtqueue is for, by what was agreed on. Without MQ the last one is for nothing: it is not served. */
enum net_role { NET_ROLE_NONE, NET_ROLE_RX, NET_ROLE_TX, NET_ROLE_CONTROL };

static inline enum net_role net_role(const struct net *net, const struct vring *r)
{
	if (net_is_control(net, r))
		return NET_ROLE_CONTROL;
	if (r->index >= 2 * net->n_pairs)
		return NET_ROLE_NONE;
	return net_is_rx(r->index) ? NET_ROLE_RX : NET_ROLE_TX;
}

/* In a pair's thread: have its copy of the control state be the last one. */
void net_follow_control(struct net *net, struct net_pair *p);

/* Memory for set-up, zeroes, used as it is touched; NULL: there is none. */
void *net_room(size_t len);

/* A frame of this pair is dropped; why, for the log. */
void net_drop(struct net_pair *p, enum net_drop drop, const char *why);

/* tx.c */
struct tx *tx_new(void);
/* The ring has been attached: nothing is waiting to be sent. */
void tx_attached(struct net *net, struct vring *r);
/* What was pushed is published. */
void tx_published(struct net_pair *p);
uint32_t tx_take(struct net *net, struct thread *t, struct vring *r);
void tx_resubmit(struct net *net, struct thread *t, struct vring *r, uint16_t head);
/* What waits for room at the host is dropped. */
void tx_give_up(struct net *net, struct thread *t, struct vring *r);
/* So is that, and what is in the ring: it is disabled. */
uint32_t tx_discard(struct net *net, struct thread *t, struct vring *r);
/* A frame of the device's own. */
void tx_own_frame(struct net *net, const uint8_t *frame, uint32_t len);

/* rx.c; its parts: rx-private.h */
struct rx *rx_new(void);
/*
 * The ring has been attached: what it has in flight was taken by a worker that died. Frames that are whole are given back, the
 * other chains are there as if they had not been taken.
 */
void rx_attached(struct net *net, struct thread *t, struct vring *r);
uint32_t rx_take(struct net *net, struct thread *t, struct vring *r);
/* What was pushed is published: the host side is told. */
void rx_published(struct net *net, uint32_t pair);
/* The driver gives the queue up: a frame that waits there for more buffers is dropped. */
void rx_abandon(struct net *net, uint32_t pair);
/* Frames of a time when the driver was not there. */
void rx_flush(struct net *net, uint32_t pair);
