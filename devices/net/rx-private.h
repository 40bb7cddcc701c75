/*
 * What the parts of receiving share. rx.c has the turn, and uses the others:
 *
 *	rx-window.c	chains that have been looked at and not been taken
 *	rx-frame.c	a frame that has been read: is it for the driver, does it fit, into its buffers
 *	rx-run.c	what most frames are, many at a time
 *
 * Runs in: worker's I/O thread that owns the queue. Trusts: neither the chains nor what the host side hands over.
 */
#pragma once

#include "devices/net/net-private.h"

enum {
	RX_MAX_CHAINS = 256, /* in the window */
	RX_IOV_LEN = RX_MAX_CHAINS + NET_MAX_SEGMENTS,
	RX_MAX_LEN = NET_HDR_LEN + NET_MAX_FRAME_LEN,
};

struct rx_chain {
	uint16_t head;
	uint32_t first_iov;
	uint32_t len; /* bytes of its buffers */
};

struct rx {
	uint32_t first, n; /* chains */
	uint32_t n_iov;
	uint32_t room;	      /* bytes of the window's chains */
	uint32_t long_for;    /* frames for which much is offered */
	uint32_t waiting_len; /* of a frame without enough buffers; 0: there is none */
	uint32_t direct_len;  /* of it, what lies in the driver's buffers; the rest is in bounce */
	/* Where sides tell positions: which queue the last frame came from, and where it began. */
	uint32_t last_queue, last_position;
	uint32_t noted; /* host queues of which net_store.reached was written, a bit each */
	uint32_t reached[CONTRACT_NET_MAX_PAIRS];
	struct net_header header;
	struct rx_chain chains[RX_MAX_CHAINS];
	struct iovec iov[RX_IOV_LEN];
	struct iovec offered[RX_IOV_LEN + 2];
	uint8_t bounce[RX_MAX_LEN];
	uint8_t whole[NET_MAX_FRAME_LEN]; /* a frame that has to be worked on */
	uint8_t piece[NET_MAX_FRAME_LEN]; /* what becomes of it */
};

/* rx-window.c: chains [first, n) have been looked at and not taken. */

void rx_window_forget(struct rx *rx);
bool rx_window_full(const struct rx *rx);
/* Have at least `want` bytes in the window, if the driver has given them. */
void rx_window_fill(struct net *net, struct rx *rx, struct vring *r, uint32_t want);
/* The window's buffers; the header's place is at their start. */
struct iovec *rx_window_iov(struct rx *rx, uint32_t *ret_n);

/* rx-frame.c */

/*
 * A frame of len bytes lies in the window behind the header's place, direct_len bytes of it, and in the bounce buffer; its
 * header is rx->header. False: it waits for more buffers, to be placed then.
 */
bool rx_accept(struct net *net, struct thread *t, struct vring *r, uint32_t len,
	       uint32_t direct_len);
bool rx_place(struct net *net, struct thread *t, struct vring *r, uint32_t len,
	      uint32_t direct_len);

/* rx-run.c: as many as there are, up to max; what follows is none of these. */
uint32_t rx_run(struct net *net, struct thread *t, struct vring *r, uint32_t max);

/* ---- what is asked of each frame ---- */

/* Has the driver agreed to a frame like this? */
static inline bool rx_driver_takes(const struct net_pair *p, const struct net_header *h)
{
	if ((h->flags & NET_HDR_F_NEEDS_CSUM) && !p->in.csum)
		return false;
	if ((h->gso_type & NET_HDR_GSO_ECN) && !p->in.ecn)
		return false;
	switch (h->gso_type & ~NET_HDR_GSO_ECN) {
	case NET_HDR_GSO_NONE:
		return true;
	case NET_HDR_GSO_TCPV4:
		return p->in.tso4;
	case NET_HDR_GSO_TCPV6:
		return p->in.tso6;
	case NET_HDR_GSO_UDP_L4:
		return p->in.uso4 && p->in.uso6;
	default:
		return false;
	}
}

static inline const char *rx_wrong_with(const struct net *net, const struct net_header *h,
					uint32_t len)
{
	if (len < NET_ETH_LEN || len > NET_MAX_FRAME_LEN)
		return "not a frame";
	if ((h->flags & NET_HDR_F_NEEDS_CSUM) && (uint32_t)h->csum_start + h->csum_offset + 2 > len)
		return "a partial checksum outside of the frame";
	/* VIRTIO 1.3 §5.1.4.1: nothing larger than the MTU, except to be cut up. */
	if (h->gso_type == NET_HDR_GSO_NONE && net->mtu > 0 &&
	    len > net->mtu + NET_ETH_LEN + FRAME_MAX_TAGS * 4)
		return "larger than the MTU";
	return NULL;
}

/* The header as the driver may see it. */
static inline void rx_clean_header(const struct net_pair *p, struct net_header *h)
{
	h->flags &= NET_HDR_F_NEEDS_CSUM | (p->in.csum ? NET_HDR_F_DATA_VALID : 0);
	if (!(h->flags & NET_HDR_F_NEEDS_CSUM))
		h->csum_start = h->csum_offset = 0;
	if (h->gso_type == NET_HDR_GSO_NONE)
		h->gso_size = h->hdr_len = 0;
}

/* ---- where frames come from ---- */

static inline uint32_t rx_due_source(const struct net_pair *p, uint32_t sources)
{
	uint32_t later = sources & ~((UINT32_C(1) << p->next_source) - 1);

	return (uint32_t)__builtin_ctz(later ? later : sources);
}

static inline void rx_fed_from(struct net_pair *p, uint32_t queue)
{
	p->next_source = queue;
	p->fed = true;
}
