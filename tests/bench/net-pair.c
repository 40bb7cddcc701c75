/*
 * frontend-bench-pair: frames per second from one network device to another, and what their back-ends paid.
 *
 * Runs in: a program of its own, started by tests/bench/run. Trusts: its caller; frames that arrive are checked.
 *
 *	frontend-bench-pair --from=SOCKET --to=SOCKET --pid=PID... [--len=BYTES] [--seconds=S] [--rate=N]
 *
 * It is the drivers of both devices: it keeps the transmit queue of the one full of frames of LEN bytes (of more than
 * 1,514: GSO), and gives the receive queue of the other buffers. It never sleeps and wants no calls, as a driver under
 * load does. With --rate it sends so many a second and no more. A unit of work is a frame that arrived whole. The last line is
 * one JSON object.
 */
#include "tests/bench/measure.h"
#include "tests/frontend/session.h"

#include <err.h>
#include <getopt.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	QUEUE_SIZE = 256,
	N_QUEUES = 2,
	RECEIVE = 0,
	TRANSMIT = 1,
	HEADER_LEN = sizeof(struct virtio_net_hdr_v1),
	HEADERS = 14 + 20 + 20,
	MTU_FRAME = 1514,
	BUFFER_LEN = 2048,
	LONG_LEN = 65536,
	SEGMENT = 1448,
};

struct pair {
	struct fe from, to;
	struct measure m;
	uint32_t len;
	double rate; /* 0: as many as go */
	uint8_t *buffers;
	uint64_t n_sent, n_arrived, first_ns;
};

/* Feature bits of VIRTIO 1.3 §5.1.3 that would need what is not here: control queue, legacy checksums. */
static const uint64_t features_not = 1u << 17 | 1u << 18 | 1u << 19 | 1u << 20 | 1u << 21 |
				     1u << 22 | 1u << 23 | 1u << 2 | 1u << 3;

static void begin(struct fe *fe, const char *path)
{
	struct fe_spec spec = { .n_queues = N_QUEUES,
				.queue_size = QUEUE_SIZE,
				.features_not = features_not,
				.memory = { .len = 64 << 20 } };
	int r = fe_begin(fe, path, &spec);

	if (r < 0)
		errx(1, "%s: no session: %s", path, strerror(-r));
	fe_queue_disarm(&fe->queues[RECEIVE]);
	fe_queue_disarm(&fe->queues[TRANSMIT]);
}

static void put_u16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* A TCP segment, long ones to be cut up by whoever has to. */
static void make_frame(struct pair *b, uint8_t *p)
{
	struct virtio_net_hdr_v1 *h = (void *)p;
	uint8_t *f = p + HEADER_LEN;
	static const uint8_t addresses[12] = { 0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1 };

	memset(p, 0, HEADER_LEN + b->len);
	memcpy(f, addresses, sizeof(addresses));
	put_u16(f + 12, 0x0800);
	f[14] = 0x45;
	put_u16(f + 16, b->len - 14);
	f[22] = 64;
	f[23] = 6;
	f[26] = f[30] = 10;
	f[29] = 1;
	f[33] = 2;
	if (b->len < HEADERS)
		return;
	f[46] = 5 << 4;
	if (b->len > MTU_FRAME)
		*h = (struct virtio_net_hdr_v1){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						 .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
						 .hdr_len = HEADERS,
						 .gso_size = SEGMENT,
						 .csum_start = 34,
						 .csum_offset = 16 };
}

static void give_buffer(struct pair *b, void *p)
{
	struct fe_sg sg = { p, BUFFER_LEN };

	if (fe_queue_add(&b->to.queues[RECEIVE], &sg, 0, 1, p) < 0)
		errx(1, "no room in the receive queue");
}

static void prepare(struct pair *b)
{
	uint32_t room = b->len > MTU_FRAME ? LONG_LEN + HEADER_LEN : BUFFER_LEN;

	for (uint32_t i = 0; i < QUEUE_SIZE; i++)
		give_buffer(b, fe_memory_alloc(&b->to.mem, BUFFER_LEN, 64));
	fe_queue_kick(&b->to.queues[RECEIVE]);
	b->buffers = fe_memory_alloc(&b->from.mem, (size_t)room * QUEUE_SIZE, 64);
	for (uint32_t i = 0; i < QUEUE_SIZE; i++)
		make_frame(b, b->buffers + (size_t)i * room);
}

/* Frames of which the time has come. */
static uint64_t due(const struct pair *b, uint64_t now)
{
	if (b->rate == 0)
		return UINT64_MAX;
	return (uint64_t)((double)(now - b->first_ns) * b->rate / 1e9) - b->n_sent;
}

static void transmit(struct pair *b, uint64_t now)
{
	struct fe_queue *q = &b->from.queues[TRANSMIT];
	uint32_t room = b->len > MTU_FRAME ? LONG_LEN + HEADER_LEN : BUFFER_LEN;
	uint64_t left = due(b, now);
	struct fe_used used;
	bool any = false;

	while (fe_queue_pop(q, &used))
		;
	while (left > 0 && fe_queue_outstanding(q) < QUEUE_SIZE) {
		struct fe_sg sg = { b->buffers + (b->n_sent % QUEUE_SIZE) * (size_t)room,
				    HEADER_LEN + b->len };

		if (fe_queue_add(q, &sg, 1, 0, NULL) < 0)
			break;
		b->n_sent++;
		left--;
		any = true;
	}
	if (any)
		fe_queue_kick(q);
}

/* Buffers of one frame, as the first one's header says. */
static uint32_t receive(struct pair *b, uint64_t now)
{
	static uint32_t left, got;
	struct fe_queue *q = &b->to.queues[RECEIVE];
	struct fe_used used;
	uint32_t n = 0, n_buffers = 0;

	while (n_buffers++ < QUEUE_SIZE / 2 && fe_queue_pop(q, &used)) {
		const struct virtio_net_hdr_v1 *h = used.user;

		if (left == 0) {
			left = h->num_buffers;
			got = 0;
		}
		got += used.len;
		if (--left == 0) {
			if (got != HEADER_LEN + b->len)
				errx(1, "a frame of %u bytes, not %u", got, HEADER_LEN + b->len);
			n++;
		}
		give_buffer(b, used.user);
	}
	if (n_buffers > 1)
		fe_queue_kick(q);
	if (n > 0)
		measure_count(&b->m, n, now, now);
	return n;
}

static void options(struct pair *b, int argc, char **argv, const char **from, const char **to)
{
	static const struct option rows[] = {
		{ "from", 1, NULL, 'f' }, { "to", 1, NULL, 't' },      { "pid", 1, NULL, 'p' },
		{ "len", 1, NULL, 'l' },  { "seconds", 1, NULL, 's' }, { "rate", 1, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned n = 0;

	for (int c; (c = getopt_long(argc, argv, "", rows, NULL)) != -1;) {
		if (c == 'f')
			*from = optarg;
		else if (c == 't')
			*to = optarg;
		else if (c == 'p' && n < MEASURE_MAX_PIDS)
			b->m.pids[n++] = atoi(optarg);
		else if (c == 'l')
			b->len = (uint32_t)atoi(optarg);
		else if (c == 's')
			b->m.seconds = atof(optarg);
		else if (c == 'r')
			b->rate = atof(optarg);
		else
			errx(2, "usage: see the head of net-pair.c");
	}
	if (!*from || !*to || b->len < 34 || b->len > LONG_LEN)
		errx(2, "usage: see the head of net-pair.c");
}

int main(int argc, char **argv)
{
	static struct pair b = { .len = 64, .m = { .seconds = 1.5 } };
	const char *from = NULL, *to = NULL;
	uint64_t now;

	options(&b, argc, argv, &from, &to);
	begin(&b.to, to);
	begin(&b.from, from);
	prepare(&b);
	b.first_ns = now = measure_now_ns();
	while (measure_goes_on(&b.m, now)) {
		transmit(&b, now);
		for (int i = 0; i < 4; i++)
			receive(&b, now);
		now = measure_now_ns();
		if (now - b.first_ns > 3000000000u && !b.m.n_done)
			errx(1, "no frame arrives");
	}
	measure_report(&b.m);
	fe_close(&b.from);
	fe_close(&b.to);
	return 0;
}
