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
	return c->origin <= ORIGIN_GUEST_TO_PEER && c->pending < DUE_RST << 1;
}

/* The packets of a run: what they hold together is what the run does. */
static bool run_possible(const struct hand *h)
{
	uint32_t left = h->len;

	if (h->n_heads == 0 || h->n_heads > STORE_RUN || h->len > STORE_BUFFER_LEN)
		return false;
	for (uint32_t i = 0; i < h->n_heads; i++) {
		if (h->heads[i] >= QUEUE_MAX_SIZE || h->lens[i] > left)
			return false;
		left -= h->lens[i];
	}
	return left == 0;
}

static bool hand_possible(const struct store *s)
{
	const struct hand *h = &s->hand;

	if (h->kind == HAND_NONE)
		return true;
	if (h->kind >= HAND_N_KINDS || h->conn >= s->n_conns || h->part.msg_len > h->len)
		return false;
	if (h->kind == HAND_RUN)
		return run_possible(h);
	if (h->kind == HAND_CREATE)
		return h->heads[0] < QUEUE_MAX_SIZE;
	return h->len <= (h->kind == HAND_FLUSH ? STORE_BUFFER_LEN : STORE_TEXT);
}

/*
 * Between the stores of a run, "forwarded" is ahead of "taken" by at most what the run holds, and in the end all that it
 * holds has to fit into the buffer behind what is there; the hand settles that before anything else is done.
 */
static bool positions_possible(const struct store *s, uint32_t i)
{
	const struct conn *c = &s->conns[i];
	const struct hand *h = &s->hand;
	uint64_t end = h->start + h->len;

	if (c->state == CONN_FREE)
		return true;
	if (h->kind == HAND_RUN && h->conn == i && c->state == CONN_OPEN)
		return (c->taken == h->start || c->taken == end) &&
		       end - c->forwarded <= STORE_BUFFER_LEN;
	return c->taken - c->forwarded <= STORE_BUFFER_LEN;
}

static bool slot_possible(const struct store *s, const struct slot *slot)
{
	if (slot->kind == SLOT_NONE)
		return true;
	/* Told ones may still be there: the last, while it is being forgotten. */
	if (slot->kind == SLOT_STRAY &&
	    (uint32_t)slot->start + 1 - s->stray_tail > s->stray_head - s->stray_tail)
		return false;
	return slot->kind < SLOT_N_KINDS && slot->n_heads <= STORE_SLOT_HEADS &&
	       (slot->kind == SLOT_STRAY || slot->conn < s->n_conns) && slot->conn < STORE_CONNS;
}

/* No two connections have one descriptor: whoever ends first would close the other's, or what comes in its place. */
static bool fds_possible(const struct store *s)
{
	uint64_t seen[CONTRACT_FD_LIMIT_VSOCK / 64] = { 0 };

	for (uint32_t i = 0; i < s->n_conns; i++) {
		const struct conn *c = &s->conns[i];
		uint64_t bit = UINT64_C(1) << (c->fd & 63);

		if (c->state == CONN_FREE || c->fd == IMAGE_NO_FD)
			continue;
		if (seen[c->fd / 64] & bit)
			return false;
		seen[c->fd / 64] |= bit;
	}
	return true;
}

bool store_check(const struct store *s)
{
	if (s->n_conns > STORE_CONNS || !hand_possible(s) ||
	    s->stray_head - s->stray_tail > STORE_STRAYS ||
	    s->strays[(s->stray_head - 1) % STORE_STRAYS].by > QUEUE_MAX_SIZE ||
	    s->reset_due >= (uint32_t)STORE_RESET_IN + QUEUE_MAX_SIZE)
		return false;
	for (uint32_t i = 0; i < STORE_SLOTS; i++)
		if (!slot_possible(s, &s->slots[i]))
			return false;
	for (uint32_t i = 0; i < s->n_conns; i++)
		if (!conn_possible(&s->conns[i]) || !positions_possible(s, i))
			return false;
	return fds_possible(s);
}
