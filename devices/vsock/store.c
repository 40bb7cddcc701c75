/* What a dead worker left: is it possible? See store.h. */
#include "devices/vsock/store.h"

#include <linux/virtio_vsock.h>

#include "devices/vhost/image.h"

enum { SEQPACKET_SHARE = 2 }; /* a message has to fit into a host socket's default send buffer */

uint32_t store_grant(uint32_t conn, uint16_t type)
{
	uint32_t len = conn < STORE_WIDE ? STORE_BUFFER_LEN : STORE_BUFFER_LEN / 4;

	return type == VIRTIO_VSOCK_TYPE_SEQPACKET && conn < STORE_WIDE ? len / SEQPACKET_SHARE
									: len;
}

static bool conn_possible(const struct conn *c)
{
	if (c->state >= CONN_N_STATES)
		return false;
	if (c->state == CONN_FREE)
		return true;
	if (c->fd != IMAGE_NO_FD &&
	    (c->fd < CONTRACT_FD_SESSION || c->fd >= CONTRACT_FD_LIMIT_VSOCK))
		return false;
	if (c->type != VIRTIO_VSOCK_TYPE_STREAM && c->type != VIRTIO_VSOCK_TYPE_SEQPACKET)
		return false;
	return c->origin <= ORIGIN_GUEST_TO_PEER;
}

static bool hand_possible(const struct hand *h)
{
	if (h->kind >= HAND_N_KINDS)
		return false;
	if (h->kind == HAND_NONE)
		return true;
	return h->conn < STORE_CONNS && h->n_heads <= STORE_RUN && h->part.msg_len <= h->len &&
	       (h->kind == HAND_RUN || h->kind == HAND_FLUSH ? h->len <= STORE_BUFFER_LEN
							     : h->len <= STORE_TEXT);
}

/*
 * Between the stores of a run, "forwarded" is ahead of "taken" by at most what the run holds; the
 * hand settles that before anything else is done.
 */
static bool positions_possible(const struct store *s, uint32_t i)
{
	const struct conn *c = &s->conns[i];
	const struct hand *h = &s->hand;

	if (c->state == CONN_FREE || c->taken - c->forwarded <= STORE_BUFFER_LEN)
		return true;
	return h->kind == HAND_RUN && h->conn == i && c->taken == h->start &&
	       c->forwarded - h->start <= h->len;
}

bool store_check(const struct store *s)
{
	if (s->n_conns > STORE_CONNS || !hand_possible(&s->hand) ||
	    s->stray_head - s->stray_tail > STORE_STRAYS)
		return false;
	for (uint32_t i = 0; i < STORE_SLOTS; i++) {
		const struct slot *slot = &s->slots[i];

		if (slot->kind >= SLOT_N_KINDS || slot->n_heads > STORE_SLOT_HEADS ||
		    slot->conn >= STORE_CONNS)
			return false;
	}
	for (uint32_t i = 0; i < s->n_conns; i++)
		if (!conn_possible(&s->conns[i]) || !positions_possible(s, i))
			return false;
	return true;
}
