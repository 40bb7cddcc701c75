/* From the host to the guest. See in.h. */
#include "devices/process/thread.h"
#include "devices/vsock/host.h"
#include "devices/vsock/in-private.h"

/* Each kind in turn */

static bool slots_left(const struct vsock *v)
{
	return v->n_slots < STORE_SLOTS && !v->rx->queue.broken;
}

/* Each kind in turn; false: the ring is empty. */
static bool fill_refusals(struct vsock *v)
{
	for (; v->stray_next != v->store->stray_head && slots_left(v); v->stray_next++)
		if (!in_fill_refusal(v, v->stray_next))
			return false;
	return true;
}

static bool fill_due(struct vsock *v)
{
	uint32_t i;

	while (slots_left(v) && set_next(&v->due, &i))
		if (!in_fill_control(v, conn_at(v, i)))
			return false;
	return true;
}

static bool fill_readable(struct vsock *v)
{
	uint32_t n = v->readable.n, i;

	/* Each once. */
	while (n-- > 0 && slots_left(v) && set_next(&v->readable, &i)) {
		struct conn *c = conn_at(v, i);

		if (c->state != CONN_OPEN) {
			host_listen_to(v, c);
		} else if (c->guest_done & VIRTIO_VSOCK_SHUTDOWN_RCV) {
			set_remove(&v->readable, i);
		} else if (c->host_done & VIRTIO_VSOCK_SHUTDOWN_SEND) {
			in_end_again(v, c);
		} else if (!in_fill_data(v, c)) {
			return false;
		}
	}
	return true;
}

uint32_t in_fill(struct vsock *v)
{
	uint32_t before = v->n_slots;

	v->starved = false;
	if (fill_refusals(v) && fill_due(v))
		fill_readable(v);
	return v->n_slots - before;
}

uint32_t in_fill_due(struct vsock *v)
{
	uint32_t before = v->n_slots;

	if (fill_refusals(v))
		fill_due(v);
	return v->n_slots - before;
}

/* What is published */

void in_published(struct vsock *v)
{
	for (uint32_t i = 0; i < v->n_slots; i++)
		slot_end(v, &v->store->slots[i]);
	v->n_slots = 0;
}

/* A dead worker's */

static bool in_flight(const struct vsock *v, const struct slot *s)
{
	const struct queue *q = &v->rx->queue;

	return s->n_heads > 0 && s->heads[0] < q->size && queue_is_taken(q, s->heads[0]);
}

/*
 * Credit and the end of a stream are told once more, with the numbers of now: the dead worker may have had news since.
 * The others are not to be told twice.
 */
static void recover_published(struct vsock *v, struct slot *s)
{
	struct conn *c = slot_conn(v, s);

	if (c && s->kind == SLOT_DATA && s->part.msg_len > 0)
		c->given = s->start + s->part.msg_len;
	if (c && s->kind == SLOT_CONTROL)
		conn_local(v, c)->on_its_way |= s->due & ~(uint32_t)(DUE_CREDIT | DUE_SHUTDOWN);
	slot_end(v, s);
}

void in_recover(struct vsock *v)
{
	for (uint32_t i = 0; i < STORE_SLOTS; i++) {
		struct slot *s = &v->store->slots[i];

		if (s->kind != SLOT_NONE && !in_flight(v, s))
			recover_published(v, s);
	}
	v->stray_next = v->store->stray_tail;
}

/* The buffers of a slot once more, as far as they were not put back; false: they are not what they were. */
static bool load_again(struct vsock *v, const struct slot *s, struct buffers *b)
{
	b->n = b->n_iov = b->room = 0;
	for (uint32_t i = 0; i < s->n_heads; i++) {
		struct chain c = { .iov = v->iov + b->n_iov, .iov_max = VSOCK_IOV_MAX - b->n_iov };

		if (s->heads[i] >= v->rx->queue.size || !queue_is_taken(&v->rx->queue, s->heads[i]))
			break;
		if (queue_load_again(&v->rx->queue, s->heads[i], &c) != QUEUE_OK ||
		    !rx_add_chain(b, &c))
			return false;
	}
	return b->n > 0 && s->part.msg_len <= b->room;
}

static void resume_slot(struct vsock *v, struct slot *s)
{
	static struct buffers b;
	struct conn *c = slot_conn(v, s);

	/* The guest has changed what it had given away. */
	if (!load_again(v, s, &b)) {
		rx_break(v);
		return;
	}
	switch ((enum slot_kind)s->kind) {
	case SLOT_DATA:
		if (s->part.msg_len == 0) { /* nothing was received: its buffers are put back */
			__atomic_store_n(&s->kind, SLOT_NONE, __ATOMIC_RELEASE);
			break;
		}
		if (c)
			c->given = s->start + s->part.msg_len;
		in_push_data(v, s, &b);
		break;
	case SLOT_CONTROL:
		in_push_control(v, s, &b);
		if (c)
			in_control_on_its_way(v, c, s->due);
		break;
	case SLOT_STRAY:
		in_push_refusal(v, s, &b);
		v->stray_next = (uint32_t)s->start + 1;
		break;
	case SLOT_NONE:
	case SLOT_N_KINDS:
		break;
	}
}

/*
 * Slots in the order in which they were filled, so that buffers are given back in the order in which
 * they were taken. Then what belongs to none is put back.
 */
void in_resume(struct vsock *v)
{
	struct vring *r = v->rx;

	for (uint32_t i = 0; i < STORE_SLOTS; i++) {
		struct slot *s = &v->store->slots[i];

		if (s->kind == SLOT_NONE)
			continue;
		resume_slot(v, s);
		if (s->kind != SLOT_NONE)
			v->n_slots = i + 1;
	}
	for (uint32_t i = r->n_resubmit; i-- > 0;)
		if (queue_is_taken(&r->queue, r->resubmit[i].head))
			thread_put_back(v->thread, r, r->resubmit[i].head);
}
