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
 */
#include "devices/base/crash.h"
#include "devices/net/rx-private.h"

enum {
	RX_SHORT_LEN = 2048, /* offered when frames are short */
	RX_LONG_FRAMES = 64, /* how many short frames until that */
	RX_FLUSH_MAX = 4096, /* frames: more than a tap's queue has */
	IOV_LIMIT = 1024,    /* of readv() */
};

struct rx *rx_new(void)
{
	return net_room(sizeof(struct rx));
}

/* Taking over */

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
	rx_window_forget(rx);
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

/* Offers */

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
		uint32_t queue = rx_due_source(p, left), len;

		p->rx->last_queue = queue;
		p->rx->last_position = side->position ? side->position(net->host, queue) : 0;
		len = side->receive(net->host, queue, iov, n_iov);
		if (len > 0) {
			rx_fed_from(p, queue);
			return len;
		}
		left &= ~(UINT32_C(1) << queue);
	}
	return 0;
}

/*
 * Our header, then the window without the header's place, then the bounce buffer: a frame's length, 0 if
 * there is none. *ret_direct_len: bytes of the frame for which there is room in what of the window is offered.
 */
static uint32_t offer(struct net *net, struct net_pair *p, uint32_t *ret_direct_len)
{
	struct rx *rx = p->rx;
	uint32_t n = 0, n_iov, skip = net->hdr_len, direct_len = 0;
	struct iovec *iov = rx_window_iov(rx, &n_iov);

	rx->offered[n++] = (struct iovec){ &rx->header, NET_HDR_LEN };
	for (uint32_t i = 0; i < n_iov && n < IOV_LIMIT - 1; i++) {
		size_t step = iov[i].iov_len < skip ? iov[i].iov_len : skip;

		rx->offered[n++] =
			(struct iovec){ (uint8_t *)iov[i].iov_base + step, iov[i].iov_len - step };
		skip -= (uint32_t)step;
		direct_len += (uint32_t)(iov[i].iov_len - step);
	}
	if (direct_len < NET_MAX_FRAME_LEN)
		rx->offered[n++] = (struct iovec){ rx->bounce, sizeof(rx->bounce) };
	*ret_direct_len = direct_len;
	return receive(net, p, rx->offered, n);
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
		return rx_place(net, t, r, rx->waiting_len, rx->direct_len) ? RX_GOT
									    : RX_NO_BUFFERS;
	rx_window_fill(net, rx, r, offer_len(net, rx));
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
	return rx_accept(net, t, r, len, direct_len) ? RX_GOT : RX_NO_BUFFERS;
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
	rx_window_forget(p->rx);
	while (n < NET_BATCH && bytes < NET_BATCH_BYTES) {
		uint32_t len = 0, n_run = rx_run(net, t, r, NET_BATCH - n);

		n += n_run;
		if (n == NET_BATCH)
			break;
		/* Chains that had been looked at may have been taken. */
		if (n_run > 0)
			rx_window_forget(p->rx);
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
