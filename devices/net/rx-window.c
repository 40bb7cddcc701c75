/* Chains that have been looked at and not been taken. See rx-private.h. */
#include "devices/net/rx-private.h"

void rx_window_forget(struct rx *rx)
{
	rx->first = rx->n = rx->n_iov = rx->room = 0;
}

bool rx_window_full(const struct rx *rx)
{
	return rx->n == RX_MAX_CHAINS || rx->n_iov + NET_MAX_SEGMENTS > RX_IOV_LEN;
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

	if (rx_window_full(rx) || queue_peek(&r->queue, rx->n - rx->first, &c) != QUEUE_OK ||
	    !chain_good(net, r, &c))
		return false;
	rx->chains[rx->n++] =
		(struct rx_chain){ .head = c.head, .first_iov = rx->n_iov, .len = c.writable_len };
	rx->n_iov += c.n_writable;
	rx->room += c.writable_len;
	return true;
}

/* Have at least `want` bytes in the window, if the driver has given them. */
void rx_window_fill(struct net *net, struct rx *rx, struct vring *r, uint32_t want)
{
	uint32_t max = net->mergeable ? RX_MAX_CHAINS : 1;

	/* What has been used up makes place by beginning anew. */
	if (rx->first == rx->n || (rx->first > 0 && rx_window_full(rx)))
		rx_window_forget(rx);
	while (rx->room < want && rx->n - rx->first < max && window_add(net, rx, r))
		;
}

/* The window's buffers; the header's place is at their start. */
struct iovec *rx_window_iov(struct rx *rx, uint32_t *ret_n)
{
	uint32_t at = rx->first < rx->n ? rx->chains[rx->first].first_iov : rx->n_iov;

	*ret_n = rx->n_iov - at;
	return &rx->iov[at];
}
