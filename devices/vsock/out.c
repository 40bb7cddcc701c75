/* From the guest to the host. See out.h. */
#include "devices/vsock/out.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "devices/base/crash.h"
#include "devices/process/thread.h"
#include "devices/virtio/iov.h"
#include "devices/vsock/hand.h"
#include "devices/vsock/watch.h"

enum { MASK = STORE_BUFFER_LEN - 1, WORD_BITS = 64, PASSES = 4 };

static bool is_seqpacket(const struct conn *c)
{
	return c->type == VIRTIO_VSOCK_TYPE_SEQPACKET;
}

/* The buffer */

static uint32_t in_buffer(const struct conn *c)
{
	return (uint32_t)(c->taken - c->forwarded);
}

/* Two pieces at most: the buffer is a circle. */
static uint32_t buffer_iov(struct vsock *v, uint32_t i, uint64_t from, uint32_t len,
			   struct iovec iov[2])
{
	uint32_t at = (uint32_t)from & MASK;
	uint32_t first = STORE_BUFFER_LEN - at < len ? STORE_BUFFER_LEN - at : len;

	iov[0] = (struct iovec){ v->store->buffers[i] + at, first };
	iov[1] = (struct iovec){ v->store->buffers[i], len - first };
	return first < len ? 2 : 1;
}

/* No message ends in these bytes of the buffer. */
static void clear_ends(uint64_t *ends, uint32_t at, size_t len)
{
	while (len > 0) {
		uint32_t bit = at % WORD_BITS;
		uint32_t n = WORD_BITS - bit < len ? WORD_BITS - bit : (uint32_t)len;

		ends[at / WORD_BITS] &= ~(UINT64_MAX >> (WORD_BITS - n) << bit);
		at += n;
		len -= n;
	}
}

static void mark_end(uint64_t *ends, uint64_t position)
{
	uint32_t at = (uint32_t)position & MASK;

	ends[at / WORD_BITS] |= UINT64_C(1) << (at % WORD_BITS);
}

/* Copy len bytes from offset on to their position; with it, whether a message ends there. */
static void buffer_put(struct vsock *v, struct conn *c, uint64_t position, const struct iovec *from,
		       uint32_t n, uint32_t offset, uint32_t len, bool end)
{
	uint32_t i = conn_index(v, c);
	struct iovec to[2];

	if (len == 0)
		return;
	c->buffered = 1;
	buffer_iov(v, i, position, len, to);
	iov_read(from, n, offset, to[0].iov_base, to[0].iov_len);
	iov_read(from, n, offset + to[0].iov_len, to[1].iov_base, to[1].iov_len);
	if (!is_seqpacket(c))
		return;
	clear_ends(v->store->ends[i], (uint32_t)position & MASK, to[0].iov_len);
	clear_ends(v->store->ends[i], 0, to[1].iov_len);
	if (end)
		mark_end(v->store->ends[i], position + len - 1);
}

/* The length of the first message in the buffer; 0: none is complete. */
static uint32_t first_message(const struct vsock *v, const struct conn *c)
{
	const uint64_t *ends = v->store->ends[conn_index(v, c)];
	uint32_t len = in_buffer(c), k = 0;

	while (k < len) {
		uint32_t at = (uint32_t)(c->forwarded + k) & MASK;
		uint64_t rest = ends[at / WORD_BITS] >> (at % WORD_BITS);
		uint32_t found =
			k + (rest ? (uint32_t)__builtin_ctzll(rest) : WORD_BITS - at % WORD_BITS);

		if (rest && found < len)
			return found + 1;
		k = found;
	}
	return 0;
}

void out_host_gone(struct vsock *v, struct conn *c)
{
	if (!(c->host_done & VIRTIO_VSOCK_SHUTDOWN_RCV)) {
		c->host_done |= VIRTIO_VSOCK_SHUTDOWN_RCV;
		if (c->state == CONN_OPEN)
			conn_owe(v, c, DUE_SHUTDOWN);
	}
	c->forwarded = c->taken;
	set_remove(&v->blocked, conn_index(v, c));
}

/* The answer of the kernel to an offer: true if it may take more at once. */
static bool judge_offer(struct vsock *v, struct conn *c, int r, uint32_t offered)
{
	if (r == 0 && hand_moved(v) == offered)
		return true;
	if (r < 0 && r != -EAGAIN) {
		if (r == -EMSGSIZE)
			conn_reset(v, c, "a message is too long for the host's socket");
		else
			out_host_gone(v, c);
		return false;
	}
	watch_for_room(v, c);
	return false;
}

void out_pass_end_on(struct vsock *v, struct conn *c)
{
	bool wants = (c->guest_done & VIRTIO_VSOCK_SHUTDOWN_SEND) != 0;

	if (!wants || v->run.n > 0)
		return;
	if (in_buffer(c) > 0) {
		if (is_seqpacket(c) && first_message(v, c) == 0)
			conn_reset(v, c, "it ends within a message");
		return;
	}
	if (c->state == CONN_ORPHAN) {
		conn_drop(v, c);
	} else if (c->guest_done == (VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV)) {
		if (c->state == CONN_OPEN)
			conn_reset(v, c, NULL);
	} else if (!c->end_told) {
		shutdown(c->fd, SHUT_WR);
		c->end_told = 1;
	}
}

static bool flush_once(struct vsock *v, struct conn *c)
{
	uint32_t len = is_seqpacket(c) ? first_message(v, c) : in_buffer(c), n;
	uint32_t i = conn_index(v, c);
	struct iovec iov[2];
	bool more;
	int r;

	if (len == 0)
		return false;
	n = buffer_iov(v, i, c->forwarded, len, iov);
	hand_begin(v, HAND_FLUSH, c, c->forwarded, len);
	r = hand_send(v, c->fd, iov, n);
	if (r == 0)
		c->forwarded = v->store->hand.start + hand_moved(v);
	CRASH_POINT("vsock.flush.counted");
	more = judge_offer(v, c, r, len);
	hand_end(v);
	return more && c->state != CONN_FREE && in_buffer(c) > 0;
}

void out_flush(struct vsock *v, struct conn *c)
{
	uint32_t n = 0;

	set_remove(&v->blocked, conn_index(v, c));
	while (flush_once(v, c))
		if (++n == PASSES) {
			set_add(&v->blocked, conn_index(v, c));
			break;
		}
	if (c->state == CONN_FREE || c->state == CONN_CLOSING)
		return;
	if (in_buffer(c) == 0)
		watch_for_no_room(v, c);
	conn_offer_credit(v, c);
	out_pass_end_on(v, c);
}

void out_end_message(struct vsock *v, struct conn *c)
{
	out_send_run(v);
	if (!is_seqpacket(c) || c->state != CONN_OPEN || in_buffer(c) == 0)
		return;
	mark_end(v->store->ends[conn_index(v, c)], c->taken - 1);
	if (!conn_local(v, c)->blocked)
		out_flush(v, c);
}

void out_recover_flush(struct vsock *v)
{
	struct hand *h = &v->store->hand;
	struct conn *c = conn_at(v, h->conn);

	if (hand_moved(v) > 0 && c->state != CONN_FREE && h->start <= c->taken &&
	    hand_moved(v) <= c->taken - h->start)
		c->forwarded = h->start + hand_moved(v);
	hand_end(v);
}

/* Runs */

struct iovec *out_iov(struct vsock *v)
{
	return v->run.iov + v->run.n_iov;
}

/* A message of SEQPACKET is sent by itself. */
bool out_run_takes(const struct vsock *v, const struct conn *c)
{
	const struct run *run = &v->run;

	return run->n == 0 || (run->conn == conn_index(v, c) && run->n < STORE_RUN &&
			       !is_seqpacket(c) && run->n_iov < VSOCK_IOV_MAX / 2);
}

uint32_t out_room(const struct vsock *v, const struct conn *c)
{
	uint32_t grant = store_grant(conn_index(v, c), c->type);
	uint32_t used = in_buffer(c);

	if (v->run.n > 0 && v->run.conn == conn_index(v, c))
		used += v->run.len;
	return used < grant ? grant - used : 0;
}

void out_run_add(struct vsock *v, const struct conn *c, uint16_t head, const struct packet *p,
		 uint32_t n_iov)
{
	struct run *run = &v->run;

	run->conn = conn_index(v, c);
	run->heads[run->n] = head;
	run->lens[run->n] = p->len;
	run->first_iov[run->n] = run->n_iov;
	run->ends[run->n] = (p->flags & VIRTIO_VSOCK_SEQ_EOM) != 0;
	run->n++;
	run->n_iov += n_iov;
	run->len += p->len;
}

/* May the socket be offered these bytes, or do they go behind others? */
static bool offered_directly(const struct conn *c, bool end)
{
	if (c->state != CONN_OPEN || in_buffer(c) > 0 || (c->host_done & VIRTIO_VSOCK_SHUTDOWN_RCV))
		return false;
	return !is_seqpacket(c) || end;
}

/*
 * Packet i of the run on record, whose bytes begin at offset: what the socket has not taken goes into
 * the buffer. The same again gives the same.
 */
static void settle_packet(struct vsock *v, struct conn *c, uint32_t i, uint32_t offset,
			  const struct iovec *iov, uint32_t n, bool end)
{
	struct hand *h = &v->store->hand;
	uint32_t moved = hand_moved(v), len = h->lens[i];
	uint32_t skip = moved > offset ? moved - offset : 0;

	if (skip > len)
		skip = len;
	if (!(c->host_done & VIRTIO_VSOCK_SHUTDOWN_RCV))
		buffer_put(v, c, h->start + offset + skip, iov, n, skip, len - skip, end);
	CRASH_POINT("vsock.run.buffered");
}

/* All packets are settled. */
static void settle_run(struct vsock *v, struct conn *c)
{
	struct hand *h = &v->store->hand;

	if (c->host_done & VIRTIO_VSOCK_SHUTDOWN_RCV)
		c->forwarded = h->start + h->len;
	__atomic_store_n(&c->taken, h->start + h->len, __ATOMIC_RELEASE);
	CRASH_POINT("vsock.run.taken");
	for (uint32_t i = 0; i < h->n_heads; i++)
		v->store->tx_done[h->heads[i]] = 1;
	CRASH_POINT("vsock.run.done");
}

static void put_on_record(struct vsock *v, struct conn *c)
{
	struct run *run = &v->run;
	struct hand *h = &v->store->hand;

	memcpy(h->heads, run->heads, run->n * sizeof(run->heads[0]));
	memcpy(h->lens, run->lens, run->n * sizeof(run->lens[0]));
	h->n_heads = run->n;
	hand_begin(v, HAND_RUN, c, c->taken, run->len);
}

static void offer_run(struct vsock *v, struct conn *c)
{
	struct run *run = &v->run;
	int r = hand_send(v, c->fd, run->iov, run->n_iov);

	if (r == 0)
		c->forwarded = v->store->hand.start + hand_moved(v);
	CRASH_POINT("vsock.run.forwarded");
	judge_offer(v, c, r, run->len);
}

static void give_back_run(struct vsock *v)
{
	for (uint32_t i = 0; i < v->run.n; i++) {
		v->pushed[v->n_pushed++] = v->run.heads[i];
		thread_push(v->thread, v->tx, v->run.heads[i], 0);
	}
	v->run.n = v->run.n_iov = v->run.len = 0;
}

void out_send_run(struct vsock *v)
{
	struct run *run = &v->run;
	struct conn *c = conn_at(v, run->conn);
	uint32_t offset = 0, in_hand;

	if (run->n == 0)
		return;
	in_hand = thread_in_hand(v->thread);
	thread_take_up(v->thread, v->tx, run->heads[0]);
	put_on_record(v, c);
	if (offered_directly(c, run->ends[0]) && run->len > 0)
		offer_run(v, c);
	if (c->state == CONN_OPEN) {
		for (uint32_t i = 0; i < run->n; i++) {
			uint32_t next = i + 1 < run->n ? run->first_iov[i + 1] : run->n_iov;

			thread_take_up(v->thread, v->tx, run->heads[i]);
			settle_packet(v, c, i, offset, run->iov + run->first_iov[i],
				      next - run->first_iov[i], run->ends[i]);
			offset += run->lens[i];
		}
		settle_run(v, c);
	} else { /* it was reset meanwhile */
		for (uint32_t i = 0; i < run->n; i++)
			v->store->tx_done[run->heads[i]] = 1;
	}
	hand_end(v);
	give_back_run(v);
	thread_hand_back(v->thread, in_hand);
	if (c->state != CONN_OPEN)
		return;
	/* A message that has come together, or what nobody is going to tell us there is room for. */
	if (in_buffer(c) > 0 && !conn_local(v, c)->blocked)
		out_flush(v, c);
	conn_offer_credit(v, c);
}

bool out_resume(struct vsock *v, uint16_t head, const struct packet *p, struct iovec *iov,
		uint32_t n)
{
	struct hand *h = &v->store->hand;
	struct conn *c = conn_at(v, h->conn);
	uint32_t i = 0, offset = 0;

	if (h->kind != HAND_RUN)
		return false;
	while (i < h->n_heads && h->heads[i] != head)
		offset += h->lens[i++];
	if (i == h->n_heads || c->state != CONN_OPEN || p->len != h->lens[i])
		return false;
	if (hand_moved(v) > 0)
		c->forwarded = h->start + hand_moved(v);
	packet_trim(iov, n, PACKET_HEADER_LEN, p->len);
	settle_packet(v, c, i, offset, iov, n, (p->flags & VIRTIO_VSOCK_SEQ_EOM) != 0);
	if (i + 1 < h->n_heads)
		return true;
	settle_run(v, c);
	hand_end(v);
	set_add(&v->blocked, conn_index(v, c));
	return true;
}

void out_give_up(struct vsock *v)
{
	struct hand *h = &v->store->hand;
	struct conn *c = conn_at(v, h->conn);

	if (h->kind != HAND_RUN)
		return;
	if (c->state != CONN_FREE)
		conn_reset(v, c, "what was being sent is not known any more");
	hand_end(v);
}
