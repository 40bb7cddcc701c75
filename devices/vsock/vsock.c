/* The vsock device model: configuration space, turns of the thread, rings, set-up. See vsock.h. */
#include "devices/vsock/vsock.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/crash.h"
#include "devices/base/log.h"
#include "devices/process/thread.h"
#include "devices/vhost/image.h"
#include "devices/virtio/feature.h"
#include "devices/virtio/iov.h"
#include "devices/vsock/broker.h"
#include "devices/vsock/host.h"
#include "devices/vsock/in.h"
#include "devices/vsock/out.h"
#include "devices/vsock/packets.h"
#include "devices/vsock/watch.h"

enum {
	FLUSH_BATCH = 64,
	LOOK_NS = 200000000, /* between two looks at deadlines */
	ASK_NS = 10000000,   /* between two questions whether the guest has room */
	RATE_BURST = 10,
	UNHURRIED_SHARE = 8, /* of the tx ring: so much given back, the driver is told of */
};

static struct vsock the_vsock;

static struct vsock *vsock_of(struct device *d)
{
	return (struct vsock *)(void *)d;
}

/* Configuration space (VIRTIO 1.3 §5.10.4) */

static void config_read(struct device *d, const struct image *im, uint32_t offset, uint32_t len,
			uint8_t *ret_bytes)
{
	struct virtio_vsock_config c = { .guest_cid = vsock_of(d)->config.cid };

	memcpy(ret_bytes, (const uint8_t *)&c + offset, len);
}

static bool config_write(struct device *d, struct image *im, uint32_t offset, uint32_t len,
			 const uint8_t *bytes)
{
	return false;
}

/* No thread runs. */
static void reset(struct device *d, struct image *im)
{
	if (vsock_of(d)->store)
		conn_drop_all(vsock_of(d));
}

static void configure(struct device *d, const struct image *im)
{
	struct vsock *v = vsock_of(d);

	v->seqpacket = feature_has(im->features, FEATURE_BIT(VIRTIO_VSOCK_F_SEQPACKET));
	v->n_applied++;
}

/* Turns */

static uint32_t flush(struct vsock *v)
{
	uint32_t n = v->blocked.n < FLUSH_BATCH ? v->blocked.n : FLUSH_BATCH, done = 0, i;

	while (done < n && set_next(&v->blocked, &i)) {
		struct conn *c = conn_at(v, i);

		done++;
		if (c->state == CONN_OPEN || c->state == CONN_ORPHAN)
			out_flush(v, c);
		else
			set_remove(&v->blocked, i);
	}
	return done;
}

static void look_at_deadlines(struct vsock *v)
{
	uint64_t now = clock_now_ns();

	if (now - v->looked_ns < LOOK_NS)
		return;
	v->looked_ns = now;
	for (uint32_t i = 0; (i = set_find(&v->timed, i)) < STORE_CONNS; i++)
		if (conn_at(v, i)->deadline_ns <= now) {
			set_remove(&v->timed, i);
			host_time_out(v, conn_at(v, i));
		}
}

/* A guest that has little to read does not say by itself that it has read it. */
static void ask_for_credit(struct vsock *v)
{
	uint64_t now = clock_now_ns();

	if (now - v->asked_ns < ASK_NS)
		return;
	v->asked_ns = now;
	for (uint32_t i = 0; (i = set_find(&v->hungry, i)) < STORE_CONNS; i++)
		conn_owe(v, conn_at(v, i), DUE_CREDIT_REQUEST);
}

static bool resuming(const struct vsock *v)
{
	return v->tx && v->tx->attached && v->tx->n_resubmitted < v->tx->n_resubmit;
}

/* Something has become due while the rest was seen to: another turn. */
static bool more_due(const struct vsock *v)
{
	return (v->due.n > 0 && !v->starved) || (v->asking.n > 0 && !v->mute);
}

/* What the host has for the guest; and all else that the host's side wants. */
static uint32_t take_rx(struct vsock *v)
{
	uint32_t n;

	/* There is one hand only, and a dead worker's run may still be in it. */
	if (resuming(v))
		return 0;
	out_give_up(v); /* none of its packets was in flight */
	n = broker_read(v);
	broker_ask(v);
	n += host_accept(v);
	n += flush(v);
	if (v->timed.n > 0)
		look_at_deadlines(v);
	if (v->hungry.n > 0)
		ask_for_credit(v);
	n += in_fill(v);
	v->thread->tick_ns = v->hungry.n > 0 ? ASK_NS : v->timed.n > 0 ? LOOK_NS : 0;
	return n + more_due(v);
}

/* What the guest's packets bring about at once is asked, and told, in this turn. */
static uint32_t take_tx(struct vsock *v)
{
	uint32_t n = packets_take(v);

	if (n == 0)
		return 0;
	broker_ask(v);
	return n + (v->rx && thread_serves(v->rx) ? in_fill_due(v) : 0);
}

static void push_event(struct vsock *v, const struct chain *c)
{
	const struct virtio_vsock_event e = { .id = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET) };

	__atomic_store_n(&v->store->reset_due, STORE_RESET_IN + c->head, __ATOMIC_RELEASE);
	thread_push(v->thread, v->event, c->head,
		    (uint32_t)iov_write(c->iov, c->n_writable, 0, &e, sizeof(e)));
}

static struct chain event_chain(struct vsock *v)
{
	return (struct chain){ .iov = v->iov, .iov_max = VSOCK_IOV_MAX };
}

/* VIRTIO 1.3 §5.10.6.7: all connections are gone, and the driver cannot know it. */
static uint32_t take_event(struct vsock *v)
{
	struct chain c = event_chain(v);

	if (v->store->reset_due != STORE_RESET_DUE || queue_pop(&v->event->queue, &c) != QUEUE_OK)
		return 0;
	thread_taken(v->thread, v->event);
	push_event(v, &c);
	return 1;
}

/* The dead worker's event was on its way in this buffer; any other has nothing in it. */
static void resume_event(struct vsock *v, uint16_t head)
{
	struct chain c = event_chain(v);

	if (v->store->reset_due == (uint32_t)STORE_RESET_IN + head &&
	    queue_load_again(&v->event->queue, head, &c) == QUEUE_OK)
		push_event(v, &c);
	else
		thread_put_back(v->thread, v->event, head);
}

/* It has been published, or what it was in is not there any more. */
static void event_recover(struct vsock *v, const struct queue *q)
{
	uint32_t head = v->store->reset_due - STORE_RESET_IN;

	if (v->store->reset_due >= STORE_RESET_IN &&
	    (head >= q->size || !queue_is_taken(q, (uint16_t)head)))
		v->store->reset_due = 0;
}

static uint32_t take(struct device *d, struct thread *t, struct vring *r)
{
	struct vsock *v = vsock_of(d);

	switch (r->index) {
	case VSOCK_RX:
		return take_rx(v);
	case VSOCK_TX:
		return take_tx(v);
	default:
		return take_event(v);
	}
}

static bool wants(struct device *d, const struct thread *t, const struct vring *r)
{
	struct vsock *v = vsock_of(d);

	switch (r->index) {
	case VSOCK_RX:
		return v->starved;
	case VSOCK_TX:
		return in_can_refuse(v);
	default:
		return v->store->reset_due == STORE_RESET_DUE;
	}
}

static void event(struct device *d, struct thread *t, uint64_t data, uint32_t events)
{
	watch_event(vsock_of(d), data, events);
}

/* It has room for more packets meanwhile. */
static bool unhurried(struct device *d, const struct vring *r)
{
	const struct queue *q = &r->queue;

	return r->index == VSOCK_TX &&
	       (uint16_t)(q->used_idx - q->signalled_used) < q->size / UNHURRIED_SHARE;
}

static void published(struct device *d, struct thread *t)
{
	struct vsock *v = vsock_of(d);

	in_published(v);
	packets_published(v);
	if (v->store->reset_due >= STORE_RESET_IN)
		v->store->reset_due = 0;
	for (uint32_t i = 0; i < t->n_vrings; i++)
		if (t->vrings[i]->attached)
			v->store->ring_idx[t->vrings[i]->index] = t->vrings[i]->queue.used_idx;
}

/* Rings */

/*
 * A driver that begins with its rings elsewhere than where they stopped has begun anew, and knows of no
 * connection. One whose rings have been in use, while we know nothing of it, has lost its connections
 * with an earlier sandbox.
 */
static void begin_ring(struct vsock *v, const struct vring *r)
{
	uint16_t idx = r->queue.used_idx;

	if (r->index == VSOCK_EVENT || v->store->ring_idx[r->index] == idx)
		return;
	if (v->store->ring_idx[r->index] == 0 && v->store->n_conns == 0)
		v->store->reset_due = STORE_RESET_DUE;
	conn_drop_all(v);
}

static void forget_done(struct vsock *v, const struct vring *r)
{
	for (uint32_t head = 0; head < QUEUE_MAX_SIZE; head++)
		if (head >= r->queue.size || !queue_is_taken(&r->queue, (uint16_t)head))
			v->store->tx_done[head] = 0;
}

static void ring_attached(struct device *d, struct thread *t, struct vring *r)
{
	struct vsock *v = vsock_of(d);

	if (r->index == VSOCK_RX)
		v->rx = r;
	else if (r->index == VSOCK_TX)
		v->tx = r;
	else
		v->event = r;
	if (!v->store)
		return;
	if (v->n_applied > 1)
		begin_ring(v, r);
	else if (r->index == VSOCK_RX)
		in_recover(v);
	else if (r->index == VSOCK_EVENT)
		event_recover(v, &r->queue);
	if (r->index == VSOCK_TX)
		forget_done(v, r);
	v->store->ring_idx[r->index] = r->queue.used_idx;
}

static void resubmit(struct device *d, struct thread *t, struct vring *r, uint16_t head)
{
	struct vsock *v = vsock_of(d);

	if (r->index == VSOCK_RX)
		in_resume(v); /* all of them */
	else if (r->index == VSOCK_TX)
		packets_resume(v, head);
	else
		resume_event(v, head);
}

static void poison(struct device *d, struct thread *t, struct vring *r, uint16_t head)
{
	if (r->index == VSOCK_TX)
		packets_poison(vsock_of(d), head);
	else
		thread_push(t, r, head, 0);
}

/* Set-up */

static int attach(struct device *d, void *state)
{
	struct vsock *v = vsock_of(d);
	struct store *s = state;

	if (!s->begun) {
		/* Another than any of an earlier session's: vmdevd's answers to that may still come. */
		s->next_serial = clock_now_ns();
		__atomic_store_n(&s->begun, 1, __ATOMIC_RELEASE);
	}
	if (!store_check(s))
		return -EBADMSG;
	v->store = s;
	v->stray_next = s->stray_tail;
	in_recover_refusal(v);
	host_recover_accept(v);
	return 0;
}

static void for_each_fd(struct device *d, void (*found)(int fd, void *arg), void *arg)
{
	struct vsock *v = vsock_of(d);

	for (uint32_t i = 0; i < v->store->n_conns; i++)
		if (conn_at(v, i)->state != CONN_FREE)
			found(conn_at(v, i)->fd, arg);
	found(broker_letter_fd(&v->store->letter), arg);
}

static int thread_init(struct device *d, struct thread *t)
{
	struct vsock *v = vsock_of(d);

	v->thread = t;
	v->broker = -1;
	return 0;
}

/* Not if the session is over: then there is no state either. */
static int thread_open_model(struct device *d, struct thread *t)
{
	struct vsock *v = vsock_of(d);
	int r;

	if (!v->store)
		return 0;
	r = watch_init(v);
	if (r < 0)
		return r;
	conn_recover(v);
	host_recover(v);
	return 0;
}

static const struct uring_spec *uring_spec(struct device *d, bool aside)
{
	return NULL;
}

static const struct model_ops vsock_ops = {
	.config_read = config_read,
	.config_write = config_write,
	.reset = reset,
	.configure = configure,
	.attach = attach,
	.for_each_fd = for_each_fd,
	.thread_init = thread_init,
	.thread_open = thread_open_model,
	.ring_attached = ring_attached,
	.take = take,
	.wants = wants,
	.event = event,
	.unhurried = unhurried,
	.published = published,
	.resubmit = resubmit,
	.poison = poison,
	.uring_spec = uring_spec,
};

struct model *vsock_create(void *config, const struct options *o)
{
	struct vsock *v = &the_vsock;

	if (o->queues != CONTRACT_VSOCK_QUEUES) {
		log_error("a vsock device has %u queues: leave --queues alone",
			  CONTRACT_VSOCK_QUEUES);
		return NULL;
	}
	v->config = *(const struct vsock_config *)config;
	v->rate = (struct log_rate){ .interval_ns = UINT64_C(1000000000), .burst = RATE_BURST };
	v->model = (struct model){
		.device = { .features = FEATURE_VERSION_1 | FEATURE_RING_EVENT_IDX |
					FEATURE_RING_INDIRECT_DESC |
					FEATURE_BIT(VIRTIO_VSOCK_F_SEQPACKET),
			    .n_queues = o->queues,
			    .queue_size = o->queue_size,
			    .config_len = sizeof(struct virtio_vsock_config) },
		.ops = &vsock_ops,
	};
	return &v->model;
}
