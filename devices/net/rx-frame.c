/* A frame that has been read, into the driver's buffers. See rx-private.h. */
#include <string.h>

#include "devices/base/crash.h"
#include "devices/net/rx-private.h"
#include "devices/net/segment.h"
#include "devices/virtio/iov.h"

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
	struct iovec *iov = rx_window_iov(rx, &n_iov);

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

	rx_window_fill(net, rx, r, net->hdr_len + len);
	if (rx->room < net->hdr_len + len)
		return false;
	iov = rx_window_iov(rx, &n_iov);
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

/* The frame in one piece of private memory: direct_len bytes of it are in the window. */
static void gather(struct net *net, struct rx *rx, uint32_t len, uint32_t direct_len)
{
	uint32_t n_iov, direct = len < direct_len ? len : direct_len;
	struct iovec *iov = rx_window_iov(rx, &n_iov);

	iov_read(iov, n_iov, net->hdr_len, rx->whole, direct);
	memcpy(rx->whole + direct, rx->bounce, len - direct);
}

/* Into the window with the rest of a frame. False: it has to wait for more buffers. */
bool rx_place(struct net *net, struct thread *t, struct vring *r, uint32_t len, uint32_t direct_len)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct rx *rx = p->rx;
	struct iovec *iov;
	uint32_t n_iov;

	rx->waiting_len = 0;
	queue_await_more(&r->queue, 0);
	rx_window_fill(net, rx, r, net->hdr_len + len);
	if (rx->room < net->hdr_len + len) {
		if (!net->mergeable || rx_window_full(rx) || r->queue.broken) {
			net_drop(p, NET_DROP_NO_ROOM, "larger than the driver's buffers");
			return true;
		}
		rx->waiting_len = len;
		rx->direct_len = direct_len;
		queue_await_more(&r->queue, rx->n - rx->first);
		return false;
	}
	iov = rx_window_iov(rx, &n_iov);
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
	struct iovec *iov = rx_window_iov(rx, &n_iov);

	if (!net->control_ours || !p->control.filters)
		return true;
	if (iov_read(iov, n_iov, net->hdr_len, head, sizeof(head)) < sizeof(head))
		return true;
	return control_accepts(&p->control, net->features, net->config.mac, head, sizeof(head));
}

bool rx_accept(struct net *net, struct thread *t, struct vring *r, uint32_t len,
	       uint32_t direct_len)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct rx *rx = p->rx;
	const char *why = rx_wrong_with(net, &rx->header, len);

	if (why) {
		net_drop(p, NET_DROP_HOST, why);
		return true;
	}
	if (!for_driver(net, rx, p)) {
		p->counters->filtered++;
		return true;
	}
	rx_clean_header(p, &rx->header);
	if (rx_driver_takes(p, &rx->header))
		return rx_place(net, t, r, len, direct_len);
	gather(net, rx, len, direct_len);
	deliver_segments(net, t, r, len);
	return true;
}
