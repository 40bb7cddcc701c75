/*
 * The driver of one network device. See net.h.
 *
 * Runs in: frontend-bench-net. Trusts: its caller; frames that arrive are checked.
 *
 * It wants no calls, as a driver under load does, unless it sleeps (net_driver_await). Its buffers are as far apart as Linux's.
 */
#include "tests/bench/net.h"

#include <err.h>
#include <linux/virtio_net.h>
#include <string.h>

enum {
	N_QUEUES = 2,
	RECEIVE = 0,
	TRANSMIT = 1,
	HEADERS = 14 + 20 + 20,
	BUFFER_LEN = 1536,
	BUFFER_STEP = 1856,
	SEGMENT = 1448,
	AWAIT_MS = 50,
};

/* Feature bits of VIRTIO 1.3 §5.1.3 that would need what is not here: control queue, MTU, MQ. */
#define FEATURES_NOT                                                                               \
	(UINT64_C(1) << 2 | UINT64_C(1) << 3 | UINT64_C(1) << 17 | UINT64_C(1) << 18 |             \
	 UINT64_C(1) << 19 | UINT64_C(1) << 20 | UINT64_C(1) << 21 | UINT64_C(1) << 22 |           \
	 UINT64_C(1) << 23)

/* With it testpmd waits for a status that fe_begin() does not set. */
#define PF_STATUS (UINT64_C(1) << 16)

static void put_u16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

void net_make_frame(uint8_t *p, uint32_t len)
{
	static const uint8_t addresses[12] = { 0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1 };
	struct virtio_net_hdr_v1 h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				       .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
				       .hdr_len = HEADERS,
				       .gso_size = SEGMENT,
				       .csum_start = 34,
				       .csum_offset = 16 };
	uint8_t *f = p + NET_HEADER_LEN;

	memset(p, 0, NET_HEADER_LEN + len);
	memcpy(f, addresses, sizeof(addresses));
	put_u16(f + 12, 0x0800);
	f[14] = 0x45;
	put_u16(f + 16, len - 14);
	f[22] = 64;
	f[23] = 6;
	f[26] = f[30] = 10;
	f[29] = 1;
	f[33] = 2;
	f[46] = 5 << 4;
	if (len > NET_MTU_FRAME)
		memcpy(p, &h, sizeof(h));
}

static uint32_t room_of(const struct net_driver *d)
{
	return d->len > NET_MTU_FRAME ? NET_LONG_LEN + BUFFER_STEP : BUFFER_STEP;
}

static void give_buffer(struct net_driver *d, void *p)
{
	struct fe_sg sg = { p, BUFFER_LEN };

	if (fe_queue_add(&d->fe.queues[RECEIVE], &sg, 0, 1, p) < 0)
		errx(1, "no room in the receive queue");
}

void net_driver_begin(struct net_driver *d, const char *socket, uint32_t len)
{
	struct fe_spec spec = { .n_queues = N_QUEUES,
				.queue_size = NET_QUEUE_SIZE,
				.features_not = FEATURES_NOT,
				.pf_not = PF_STATUS,
				.memory = { .len = 64 << 20 } };
	int r = fe_begin(&d->fe, socket, &spec);

	if (r < 0)
		errx(1, "%s: no session: %s", socket, strerror(-r));
	d->len = len;
	fe_queue_disarm(&d->fe.queues[RECEIVE]);
	fe_queue_disarm(&d->fe.queues[TRANSMIT]);
	for (uint32_t i = 0; i < NET_QUEUE_SIZE; i++)
		give_buffer(d, fe_memory_alloc(&d->fe.mem, BUFFER_STEP, 64));
	fe_queue_kick(&d->fe.queues[RECEIVE]);
	d->buffers = fe_memory_alloc(&d->fe.mem, (size_t)room_of(d) * NET_QUEUE_SIZE, 64);
	for (uint32_t i = 0; i < NET_QUEUE_SIZE; i++)
		net_make_frame(d->buffers + (size_t)i * room_of(d), len);
}

uint32_t net_driver_send(struct net_driver *d, uint64_t max)
{
	struct fe_queue *q = &d->fe.queues[TRANSMIT];
	struct fe_used used;
	uint32_t n = 0;

	while (fe_queue_pop(q, &used))
		;
	while (n < max && q->n_free > 0) {
		uint8_t *p = d->buffers + d->n_sent % NET_QUEUE_SIZE * room_of(d);
		struct fe_sg sg = { p, NET_HEADER_LEN + d->len };

		if (fe_queue_add(q, &sg, 1, 0, NULL) < 0)
			break;
		d->n_sent++;
		n++;
	}
	if (n > 0)
		fe_queue_kick(q);
	return n;
}

/* One buffer; is it the last one of a frame, as the first one's header says? */
static bool take_buffer(struct net_driver *d, const struct fe_used *used)
{
	const struct virtio_net_hdr_v1 *h = used->user;

	if (d->left == 0) {
		d->left = h->num_buffers;
		d->got = 0;
	}
	d->got += used->len;
	if (--d->left > 0)
		return false;
	/* A short frame may have grown to Ethernet's least length; the kernel may send some of its own. */
	if (d->got < NET_HEADER_LEN + d->len)
		errx(1, "a frame of %u bytes, not %u", d->got, NET_HEADER_LEN + d->len);
	return true;
}

uint32_t net_driver_receive(struct net_driver *d)
{
	struct fe_queue *q = &d->fe.queues[RECEIVE];
	struct fe_used used;
	uint32_t n = 0, n_buffers = 0;

	while (n_buffers < NET_QUEUE_SIZE / 2 && fe_queue_pop(q, &used)) {
		n += take_buffer(d, &used);
		give_buffer(d, used.user);
		n_buffers++;
	}
	if (n_buffers > 0)
		fe_queue_kick(q);
	return n;
}

bool net_driver_await(struct net_driver *d)
{
	bool any = fe_queue_wait(&d->fe.queues[RECEIVE], AWAIT_MS) != 0;

	fe_queue_disarm(&d->fe.queues[RECEIVE]);
	return any;
}
