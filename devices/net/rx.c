/*
 * From the host to the driver: frames straight into the driver's buffers.
 *
 * Runs in: worker's I/O thread that owns the queue. Trusts: neither the chains nor what the host side
 *          hands over.
 *
 * Nothing is taken before a frame is there. Chains are looked at (queue_peek), their buffers offered to
 * the host side, and only those that a frame has filled are taken, given back and published. So there
 * is nothing to be given up when the queue stops, and a death loses at most the frame in hand: its chains
 * are still the next ones (queue_untake), and those of whole frames are on record (struct net_given).
 *
 * How long a frame is shows when it has been read. Most are short: buffers for as much as the last ones
 * needed are offered, and behind them a bounce buffer that takes the rest of a longer one, which is copied
 * into the buffers that follow. A long frame makes the next offer as large as a frame can be.
 * One for which the driver has too few buffers waits for them.
 *
 * The window below: chains [first, n) have been looked at and not taken.
 */
#include <string.h>

#include "devices/base/copy.h"
#include "devices/base/crash.h"
#include "devices/net/net-private.h"
#include "devices/net/segment.h"
#include "devices/virtio/iov.h"

enum {
	RX_MAX_CHAINS = 256, /* in the window */
	RX_IOV_LEN = RX_MAX_CHAINS + NET_MAX_SEGMENTS,
	RX_SHORT_LEN = 2048, /* offered when frames are short */
	RX_LONG_FRAMES = 64, /* how many short frames until that */
	RX_MAX_LEN = NET_HDR_LEN + NET_MAX_FRAME_LEN,
	RX_RUN_LEN = 16,     /* frames: buffers are looked at for so many at once */
	RX_FLUSH_MAX = 4096, /* frames: more than a tap's queue has */
	IOV_LIMIT = 1024,    /* of readv() */
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

struct rx *rx_new(void)
{
	return net_room(sizeof(struct rx));
}

/* The window */

static void window_forget(struct rx *rx)
{
	rx->first = rx->n = rx->n_iov = rx->room = 0;
}

static bool window_full(const struct rx *rx)
{
	return rx->n == RX_MAX_CHAINS || rx->n_iov + NET_MAX_SEGMENTS > RX_IOV_LEN;
}

/* How many of the entries are buffers of whole frames. */
static uint32_t n_whole(const struct net_given *g, const struct inflight_entry *entries, uint32_t n)
{
	uint32_t whole = __atomic_load_n(&g->n, __ATOMIC_ACQUIRE);

	if (whole > n || whole > NET_GIVEN_MAX)
		return 0;
	for (uint32_t i = 0; i < whole; i++)
		if (g->buffer[i].head != entries[i].head)
			return 0;
	return whole;
}

static void rx_reset(struct rx *rx)
{
	window_forget(rx);
	rx->waiting_len = 0;
	rx->long_for = 0;
}

/* What the driver has, as the used index shows, is not received again. */
static void go_on(struct net *net, const struct vring *r)
{
	for (uint32_t i = 0; i < net->n_pairs && net->host->side->go_on; i++) {
		net_reached told = __atomic_load_n(&net->store->reached[i], __ATOMIC_RELAXED);

		if (told >> 32 == net_reached_make(r->index / 2, r->queue.used_idx, 0) >> 32)
			net->host->side->go_on(net->host, i, (uint32_t)told);
	}
}

void rx_attached(struct net *net, struct thread *t, struct vring *r)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	uint32_t whole = p->given ? n_whole(p->given, r->resubmit, r->n_resubmit) : 0;
	uint32_t rest = r->n_resubmit - whole;

	rx_reset(p->rx);
	go_on(net, r);
	if (p->given && whole == 0)
		p->given->n = 0;
	/* A driver that has changed what it had given gets all of it back, empty. */
	if (!queue_untake(&r->queue, r->resubmit + whole, rest))
		return;
	t->n_inflight -= rest;
	r->n_inflight -= rest;
	r->n_resubmit = 0;
	/* At once: the buffers of a frame are to be published together. */
	for (uint32_t i = 0; i < whole; i++)
		thread_push(t, r, (uint16_t)p->given->buffer[i].head, p->given->buffer[i].len);
}

/* A chain without room for the header, or with something to be read, is none of this queue's. */
static bool chain_good(const struct net *net, struct vring *r, const struct chain *c)
{
	if (c->n_readable == 0 && c->writable_len >= net->hdr_len)
		return true;
	r->queue.broken = true;
	r->queue.broken_why = QUEUE_BAD_CHAIN;
	r->queue.broken_chain = c->n_readable > 0 ? CHAIN_ORDER : CHAIN_TOO_SHORT;
	return false;
}

static bool window_add(struct net *net, struct rx *rx, struct vring *r)
{
	struct chain c = { .iov = &rx->iov[rx->n_iov], .iov_max = NET_MAX_SEGMENTS };

	if (window_full(rx) || queue_peek(&r->queue, rx->n - rx->first, &c) != QUEUE_OK ||
	    !chain_good(net, r, &c))
		return false;
	rx->chains[rx->n++] =
		(struct rx_chain){ .head = c.head, .first_iov = rx->n_iov, .len = c.writable_len };
	rx->n_iov += c.n_writable;
	rx->room += c.writable_len;
	return true;
}

/* Have at least `want` bytes in the window, if the driver has given them. */
static void window_fill(struct net *net, struct rx *rx, struct vring *r, uint32_t want)
{
	uint32_t max = net->mergeable ? RX_MAX_CHAINS : 1;

	/* What has been used up makes place by beginning anew. */
	if (rx->first == rx->n || (rx->first > 0 && window_full(rx)))
		window_forget(rx);
	while (rx->room < want && rx->n - rx->first < max && window_add(net, rx, r))
		;
}

/* The window's buffers; the header's place is at their start. */
static struct iovec *window_iov(struct rx *rx, uint32_t *ret_n)
{
	uint32_t at = rx->first < rx->n ? rx->chains[rx->first].first_iov : rx->n_iov;

	*ret_n = rx->n_iov - at;
	return &rx->iov[at];
}

/* Frames for the driver */

static void log_written(const struct memory *m, const struct iovec *iov, uint32_t n, uint32_t len)
{
	for (uint32_t i = 0; i < n && len > 0; i++) {
		uint32_t part = iov[i].iov_len < len ? (uint32_t)iov[i].iov_len : len;

		memory_log_host(m, iov[i].iov_base, part);
		len -= part;
	}
}

static void give_back(struct thread *t, struct vring *r, struct net_pair *p, uint32_t len)
{
	struct rx *rx = p->rx;

	while (len > 0) {
		struct rx_chain *c = &rx->chains[rx->first];
		uint32_t part = len < c->len ? len : c->len;

		if (queue_take(&r->queue, c->head) != QUEUE_OK)
			return;
		thread_taken(t, r);
		if (p->given && r->queue.n_pushed < NET_GIVEN_MAX) {
			p->given->buffer[r->queue.n_pushed].head = c->head;
			p->given->buffer[r->queue.n_pushed].len = part;
		}
		thread_push(t, r, c->head, part);
		rx->first++;
		rx->room -= c->len;
		len -= part;
		CRASH_POINT("net.rx.given");
	}
	if (p->given && r->queue.n_pushed <= NET_GIVEN_MAX)
		__atomic_store_n(&p->given->n, r->queue.n_pushed, __ATOMIC_RELEASE);
}

/*
 * A frame of len bytes lies in the window behind the header's place. The header is written last, as it says how
 * many chains there are.
 */
static void deliver(struct net *net, struct thread *t, struct vring *r, uint32_t len)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct rx *rx = p->rx;
	struct net_header h = rx->header;
	uint32_t total = net->hdr_len + len, done = 0, n_iov;
	struct iovec *iov = window_iov(rx, &n_iov);

	for (h.num_buffers = 0; done < total; h.num_buffers++)
		done += rx->chains[rx->first + h.num_buffers].len;
	iov_write(iov, n_iov, 0, &h, net->hdr_len);
	if (memory_logs(r->queue.memory))
		log_written(r->queue.memory, iov, n_iov, total);
	give_back(t, r, p, total);
	CRASH_POINT("net.rx.delivered");
	p->counters->received++;
	p->counters->received_bytes += len;
}

/* A frame in private memory; false: no room for it. */
static bool deliver_copy(struct net *net, struct thread *t, struct vring *r, const uint8_t *frame,
			 uint32_t len)
{
	struct rx *rx = net->pairs[r->index / 2].rx;
	struct iovec *iov;
	uint32_t n_iov;

	window_fill(net, rx, r, net->hdr_len + len);
	if (rx->room < net->hdr_len + len)
		return false;
	iov = window_iov(rx, &n_iov);
	iov_write(iov, n_iov, net->hdr_len, frame, len);
	deliver(net, t, r, len);
	return true;
}

/* Cut up, or with its checksum made: what the driver has not agreed to take as it is. */
static void deliver_segments(struct net *net, struct thread *t, struct vring *r, uint32_t len)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct rx *rx = p->rx;
	struct segment s;

	if (!segment_begin(&s, &rx->header, rx->whole, len)) {
		net_drop(p, NET_DROP_HOST, "a frame that cannot be cut up");
		return;
	}
	p->counters->segmented++;
	rx->header = (struct net_header){ .flags = 0 };
	while ((len = segment_next(&s, rx->piece)) > 0) {
		if (!deliver_copy(net, t, r, rx->piece, len)) {
			net_drop(p, NET_DROP_NO_ROOM, "no buffers for all segments");
			return;
		}
	}
}

/* What has come */

/* Has the driver agreed to a frame like this? */
static bool driver_takes(const struct net_pair *p, const struct net_header *h)
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

static const char *wrong_with(const struct net *net, const struct net_header *h, uint32_t len)
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
static void clean_header(const struct net_pair *p, struct net_header *h)
{
	h->flags &= NET_HDR_F_NEEDS_CSUM | (p->in.csum ? NET_HDR_F_DATA_VALID : 0);
	if (!(h->flags & NET_HDR_F_NEEDS_CSUM))
		h->csum_start = h->csum_offset = 0;
	if (h->gso_type == NET_HDR_GSO_NONE)
		h->gso_size = h->hdr_len = 0;
}

/* The frame in one piece of private memory: direct_len bytes of it are in the window. */
static void gather(struct net *net, struct rx *rx, uint32_t len, uint32_t direct_len)
{
	uint32_t n_iov, direct = len < direct_len ? len : direct_len;
	struct iovec *iov = window_iov(rx, &n_iov);

	iov_read(iov, n_iov, net->hdr_len, rx->whole, direct);
	memcpy(rx->whole + direct, rx->bounce, len - direct);
}

/* Into the window with the rest of a frame. False: it has to wait for more buffers. */
static bool place(struct net *net, struct thread *t, struct vring *r, uint32_t len,
		  uint32_t direct_len)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct rx *rx = p->rx;
	struct iovec *iov;
	uint32_t n_iov;

	rx->waiting_len = 0;
	queue_await_more(&r->queue, 0);
	window_fill(net, rx, r, net->hdr_len + len);
	if (rx->room < net->hdr_len + len) {
		if (!net->mergeable || window_full(rx) || r->queue.broken) {
			net_drop(p, NET_DROP_NO_ROOM, "larger than the driver's buffers");
			return true;
		}
		rx->waiting_len = len;
		rx->direct_len = direct_len;
		queue_await_more(&r->queue, rx->n - rx->first);
		return false;
	}
	iov = window_iov(rx, &n_iov);
	if (len > direct_len)
		iov_write(iov, n_iov, net->hdr_len + direct_len, rx->bounce, len - direct_len);
	deliver(net, t, r, len);
	return true;
}

/* As the driver has said by the control queue. What it does to the frame meanwhile is its own affair. */
static bool for_driver(struct net *net, struct rx *rx, const struct net_pair *p)
{
	uint8_t head[NET_ETH_LEN + 2];
	uint32_t n_iov;
	struct iovec *iov = window_iov(rx, &n_iov);

	if (!net->control_ours || !p->control.filters)
		return true;
	if (iov_read(iov, n_iov, net->hdr_len, head, sizeof(head)) < sizeof(head))
		return true;
	return control_accepts(&p->control, net->features, net->config.mac, head, sizeof(head));
}

static bool accept_frame(struct net *net, struct thread *t, struct vring *r, uint32_t len,
			 uint32_t direct_len)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct rx *rx = p->rx;
	const char *why = wrong_with(net, &rx->header, len);

	if (why) {
		net_drop(p, NET_DROP_HOST, why);
		return true;
	}
	if (!for_driver(net, rx, p)) {
		p->counters->filtered++;
		return true;
	}
	clean_header(p, &rx->header);
	if (driver_takes(p, &rx->header))
		return place(net, t, r, len, direct_len);
	gather(net, rx, len, direct_len);
	deliver_segments(net, t, r, len);
	return true;
}

/* Offers */

static uint32_t due_source(const struct net_pair *p, uint32_t sources)
{
	uint32_t later = sources & ~((UINT32_C(1) << p->next_source) - 1);

	return (uint32_t)__builtin_ctz(later ? later : sources);
}

static void fed_from(struct net_pair *p, uint32_t queue)
{
	p->next_source = queue;
	p->fed = true;
}

/* A turn begins behind the host queue that had frames in the last one: none waits until another is empty. */
static void begin_with_next(struct net_pair *p)
{
	uint32_t sources = p->sources;
	uint32_t later = sources & ~((UINT32_C(2) << p->next_source) - 1);

	if (p->fed && sources)
		p->next_source = (uint32_t)__builtin_ctz(later ? later : sources);
	p->fed = false;
}

/* A frame of one of the host queues that this pair is fed from, beginning with the one that is due. */
static uint32_t receive(struct net *net, struct net_pair *p, const struct iovec *iov,
			uint32_t n_iov)
{
	const struct host_side *side = net->host->side;
	uint32_t left = p->sources;

	while (left) {
		uint32_t queue = due_source(p, left), len;

		p->rx->last_queue = queue;
		p->rx->last_position = side->position ? side->position(net->host, queue) : 0;
		len = side->receive(net->host, queue, iov, n_iov);
		if (len > 0) {
			fed_from(p, queue);
			return len;
		}
		left &= ~(UINT32_C(1) << queue);
	}
	return 0;
}

/*
 * Our header, then the window without the header's place, then the bounce buffer: a frame's length, 0 if
 * there is none. *ret_direct_len: bytes of the frame for which there is room in the window.
 */
static uint32_t offer(struct net *net, struct net_pair *p, uint32_t *ret_direct_len)
{
	struct rx *rx = p->rx;
	uint32_t n = 0, n_iov, skip = net->hdr_len;
	struct iovec *iov = window_iov(rx, &n_iov);

	rx->offered[n++] = (struct iovec){ &rx->header, NET_HDR_LEN };
	for (uint32_t i = 0; i < n_iov; i++) {
		size_t step = iov[i].iov_len < skip ? iov[i].iov_len : skip;

		rx->offered[n++] =
			(struct iovec){ (uint8_t *)iov[i].iov_base + step, iov[i].iov_len - step };
		skip -= (uint32_t)step;
	}
	*ret_direct_len = rx->room - net->hdr_len;
	if (*ret_direct_len < NET_MAX_FRAME_LEN)
		rx->offered[n++] = (struct iovec){ rx->bounce, sizeof(rx->bounce) };
	return receive(net, p, rx->offered, n < IOV_LIMIT ? n : IOV_LIMIT);
}

static uint32_t offer_len(const struct net *net, const struct rx *rx)
{
	return net->mergeable && rx->long_for == 0 ? RX_SHORT_LEN : RX_MAX_LEN;
}

static void learn(struct rx *rx, uint32_t len)
{
	if (len + NET_HDR_LEN > RX_SHORT_LEN)
		rx->long_for = RX_LONG_FRAMES;
	else if (rx->long_for > 0)
		rx->long_for--;
}

enum rx_step { RX_GOT, RX_NO_FRAME, RX_NO_BUFFERS, RX_LIMIT };

static enum rx_step rx_one(struct net *net, struct thread *t, struct vring *r, uint32_t *ret_len)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct rx *rx = p->rx;
	uint64_t wait_ns = throttle_wait_ns(&net->receiving);
	uint32_t len, direct_len;

	if (wait_ns > 0) {
		thread_retry(t, wait_ns);
		return RX_LIMIT;
	}
	if (rx->waiting_len > 0 && queue_n_new(&r->queue) == 0)
		return RX_NO_BUFFERS;
	if (rx->waiting_len > 0)
		return place(net, t, r, rx->waiting_len, rx->direct_len) ? RX_GOT : RX_NO_BUFFERS;
	window_fill(net, rx, r, offer_len(net, rx));
	if (rx->first == rx->n)
		return RX_NO_BUFFERS;
	len = offer(net, p, &direct_len);
	if (len == 0)
		return RX_NO_FRAME;
	len = len > NET_HDR_LEN ? len - NET_HDR_LEN : 0;
	*ret_len = len;
	CRASH_POINT("net.rx.read");
	throttle_charge(&net->receiving, len);
	learn(rx, len);
	return accept_frame(net, t, r, len, direct_len) ? RX_GOT : RX_NO_BUFFERS;
}

/* Runs: what most frames are, that need no more than one buffer each and nothing done to them. */

enum run_step { RUN_GOT, RUN_FILTERED, RUN_NOT };

/* The record, copied into the buffer, if it is one of those. */
static enum run_step run_place(struct net *net, struct net_pair *p, struct queue_piece *piece,
			       const uint8_t *record, uint32_t len)
{
	struct net_header h;
	uint8_t head[NET_ETH_LEN + 2];
	uint32_t frame_len = len - NET_HDR_LEN;

	memcpy(&h, record, sizeof(h));
	if (frame_len < sizeof(head) || piece->len < net->hdr_len + frame_len ||
	    wrong_with(net, &h, frame_len) || !driver_takes(p, &h))
		return RUN_NOT;
	if (net->control_ours && p->control.filters) {
		memcpy(head, record + NET_HDR_LEN, sizeof(head));
		if (!control_accepts(&p->control, net->features, net->config.mac, head,
				     sizeof(head)))
			return RUN_FILTERED;
	}
	clean_header(p, &h);
	h.num_buffers = 1;
	copy_bytes(piece->p + net->hdr_len, record + NET_HDR_LEN, frame_len);
	memcpy(piece->p, &h, net->hdr_len == NET_HDR_LEN ? NET_HDR_LEN : NET_HDR_LEN_LEGACY);
	piece->len = net->hdr_len + frame_len;
	return RUN_GOT;
}

/* Frames of one host queue into buffers; how many of these were filled. */
static uint32_t run_fill(struct net *net, struct net_pair *p, uint32_t queue,
			 struct queue_piece *pieces, uint32_t n_pieces)
{
	const struct host_side *side = net->host->side;
	const uint8_t *record;
	uint32_t n = 0, len;

	while (n < n_pieces && (record = side->look(net->host, queue, &len)) != NULL) {
		enum run_step step = run_place(net, p, &pieces[n], record, len);

		if (step == RUN_NOT)
			break;
		n += step == RUN_GOT;
		p->counters->filtered += step == RUN_FILTERED;
		side->next(net->host, queue);
	}
	return n;
}

static void run_give(struct net *net, struct thread *t, struct vring *r,
		     const struct queue_piece *pieces, uint32_t n)
{
	struct net_counters *counters = net->pairs[r->index / 2].counters;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		bytes += pieces[i].len - net->hdr_len;
	for (uint32_t i = 0; i < n && memory_logs(r->queue.memory); i++)
		memory_log_host(r->queue.memory, pieces[i].p, pieces[i].len);
	CRASH_POINT("net.rx.placed");
	n = queue_take_run(&r->queue, pieces, n);
	thread_taken_run(t, r, n);
	thread_push_run(t, r, true, pieces, n);
	CRASH_POINT("net.rx.run");
	counters->received += n;
	counters->received_bytes += bytes;
}

/* As many as there are, up to max; what follows is none of these. */
static uint32_t run(struct net *net, struct thread *t, struct vring *r, uint32_t max)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct queue_piece pieces[RX_RUN_LEN];
	uint32_t n = 0, got, room, left = p->sources;

	if (!net->host->side->look || p->rx->waiting_len > 0 || !throttle_is_off(&net->receiving))
		return 0;
	while (left && n < max) {
		uint32_t queue = due_source(p, left);

		do {
			room = net->host->side->has_frame(net->host, queue)
				       ? queue_peek_run(&r->queue, true, pieces,
							max - n < RX_RUN_LEN ? max - n : RX_RUN_LEN)
				       : 0;
			got = run_fill(net, p, queue, pieces, room);
			run_give(net, t, r, pieces, got);
			n += got;
			if (got > 0)
				fed_from(p, queue);
		} while (got > 0 && n < max);
		left &= ~(UINT32_C(1) << queue);
	}
	return n;
}

/*
 * How far the driver has the frames of each host queue once what was pushed is published. A frame that waits for buffers is not
 * the driver's yet: it is received again if we die.
 */
static void note_reached(struct net *net, const struct vring *r)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct rx *rx = p->rx;
	uint16_t used_idx = (uint16_t)(r->queue.used_idx + r->queue.n_pushed);

	rx->noted = net->host->side->position ? p->sources : 0;
	for (uint32_t left = rx->noted; left; left &= left - 1) {
		uint32_t queue = (uint32_t)__builtin_ctz(left);

		rx->reached[queue] = rx->waiting_len > 0 && queue == rx->last_queue
					     ? rx->last_position
					     : net->host->side->position(net->host, queue);
		if (r->queue.n_pushed > 0)
			__atomic_store_n(
				&net->store->reached[queue],
				net_reached_make(r->index / 2, used_idx, rx->reached[queue]),
				__ATOMIC_RELEASE);
	}
	CRASH_POINT("net.rx.noted");
}

uint32_t rx_take(struct net *net, struct thread *t, struct vring *r)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	enum rx_step step = RX_GOT;
	uint32_t n = 0, bytes = 0;

	net_follow_control(net, p);
	begin_with_next(p);
	/* Memory may have moved since the last turn. */
	window_forget(p->rx);
	while (n < NET_BATCH && bytes < NET_BATCH_BYTES) {
		uint32_t len = 0, n_run = run(net, t, r, NET_BATCH - n);

		n += n_run;
		if (n == NET_BATCH)
			break;
		/* Chains that had been looked at may have been taken. */
		if (n_run > 0)
			window_forget(p->rx);
		step = rx_one(net, t, r, &len);
		if (step != RX_GOT)
			break;
		n++;
		bytes += len;
	}
	note_reached(net, r);
	/* With nothing for the driver there is nothing to wait for (rx_published). */
	if (r->queue.n_pushed == 0)
		rx_published(net, r->index / 2);
	/* With buffers there, it is the host or the clock that is waited for, not the driver. */
	p->waiting[0] = step == RX_NO_FRAME || step == RX_LIMIT;
	p->wants_frame = step == RX_NO_FRAME;
	if (p->waiting[0])
		queue_disable_notify(&r->queue);
	return n;
}

void rx_published(struct net *net, uint32_t pair)
{
	struct net_pair *p = &net->pairs[pair];

	/* Behind the used index, and before the next frame's. */
	if (p->given)
		__atomic_store_n(&p->given->n, 0, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	for (; p->rx->noted; p->rx->noted &= p->rx->noted - 1) {
		uint32_t queue = (uint32_t)__builtin_ctz(p->rx->noted);

		net->host->side->received(net->host, queue, p->rx->reached[queue]);
	}
}

void rx_abandon(struct net *net, uint32_t pair)
{
	struct net_pair *p = &net->pairs[pair];

	if (p->rx->waiting_len > 0)
		net_drop(p, NET_DROP_NO_ROOM, "the driver uses fewer queues");
	p->rx->waiting_len = 0;
}

void rx_flush(struct net *net, uint32_t pair)
{
	struct rx *rx = net->pairs[pair].rx;
	const struct iovec iov[] = { { &rx->header, NET_HDR_LEN },
				     { rx->bounce, sizeof(rx->bounce) } };

	for (uint32_t i = 0; i < RX_FLUSH_MAX; i++)
		if (net->host->side->receive(net->host, pair, iov, 2) == 0)
			break;
	if (net->host->side->received)
		net->host->side->received(net->host, pair,
					  net->host->side->position(net->host, pair));
}
