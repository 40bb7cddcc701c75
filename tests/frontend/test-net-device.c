/*
 * frontend-net-device: what the device says of itself, what a driver gets that has agreed to little, and limits.
 *
 *	frontend-net-device --program=vmdev-net [NAME…]
 *
 * On a switch's port, whose other end we are: frames come and go as they are.
 */
#include "tests/frontend/claim.h"
#include "tests/frontend/net-wire.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

enum {
	RX,
	TX,
	HDR = sizeof(struct nw_header),
	ETH = 14,
	IP = ETH,
	TCP = IP + 20,
	HEAD = TCP + 20,
	MSS = 1000,
	PAYLOAD = 4500,
	QUEUE_SIZE = 256,
	N_BUFFERS = 64,
	BUFFER_LEN = 2048,
	N_PIECES = 90,
	AWAIT_MS = 5000,
	F_GUEST_CSUM = 1,
	F_GUEST_TSO4 = 7,
	F_GUEST_TSO6 = 8,
	F_GUEST_ECN = 9,
	F_GUEST_USO4 = 54,
	F_GUEST_USO6 = 55,
	F_CTRL_GUEST_OFFLOADS = 2,
	NEEDS_CSUM = 1,
	GSO_TCPV4 = 1,
	/* The limits that the claims are started with, and how much of them. */
	PER_SECOND = 1000,
	N_LIMITED = 600,
	BYTES_PER_SECOND = 200000,
	LIMITED_LEN = 1000,
	N_LONG = 120,
};

/* VIRTIO 1.3 §5.1.4 */
struct config {
	uint8_t mac[6];
	uint16_t status, max_pairs, mtu;
	uint32_t speed;
	uint8_t duplex;
} __attribute__((packed));

static struct net_wire wire;
static uint8_t *out, *in[N_BUFFERS], frame[NW_MAX_FRAME];

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void begin(struct claim_context *x, uint64_t features_not)
{
	const struct fe_spec spec = { .n_queues = 2,
				      .queue_size = QUEUE_SIZE,
				      .features_not = features_not };

	nw_resume(&wire);
	expect_ok(fe_begin(&x->fe, x->backend.socket, &spec));
	out = fe_memory_alloc(&x->fe.mem, 8192, 64);
	for (unsigned i = 0; i < N_BUFFERS; i++)
		in[i] = fe_memory_alloc(&x->fe.mem, BUFFER_LEN, 64);
}

static void post(struct fe_queue *q, uint8_t *buffer)
{
	const struct fe_sg sg = { buffer, BUFFER_LEN };

	expect(fe_queue_add(q, &sg, 0, 1, buffer) >= 0, "a bug of the test");
}

static void post_all(struct claim_context *x)
{
	for (unsigned i = 0; i < N_BUFFERS; i++)
		post(&x->fe.queues[RX], in[i]);
	fe_queue_publish(&x->fe.queues[RX]);
	fe_queue_kick_always(&x->fe.queues[RX]);
}

static struct fe_used await_used(struct fe_queue *q)
{
	struct fe_used used;

	for (int i = 0; !fe_queue_pop(q, &used); i++) {
		expect(i < AWAIT_MS / 100, "nothing comes back");
		fe_queue_wait(q, 100);
	}
	return used;
}

static uint32_t on_wire(struct nw_header *ret_h)
{
	uint32_t len;

	for (int i = 0; (len = nw_receive(&wire, ret_h, frame)) == 0; i++) {
		expect(i < AWAIT_MS * 10, "no frame comes to the wire");
		usleep(100);
	}
	return len;
}

static void plain_frame(uint8_t *f, uint32_t len, uint32_t number)
{
	memset(f, 0, len);
	memcpy(f, "\x52\x54\0\x12\x34\x56\x02\0\0\0\0\x09\x88\xb5", ETH);
	memcpy(f + ETH, &number, sizeof(number));
	for (uint32_t i = ETH + sizeof(number); i < len; i++)
		f[i] = (uint8_t)(i * 7 + number);
}

static void the_configuration_is_as_it_was_told(struct claim_context *x)
{
	struct config c, d;

	begin(x, 0);
	for (unsigned i = 0; i < 2; i++) {
		pid_t worker = backend_worker(x->backend.pid);

		expect_ok(fe_get_config(&x->fe, 0, sizeof(c), &c));
		expect(memcmp(c.mac, "\x52\x54\0\xab\xcd\xef", 6) == 0, "another address");
		expect_is(c.status, 1);
		expect_is(c.max_pairs, 2);
		expect_is(c.mtu, 1400);
		expect_is(c.speed, 10000);
		expect_is(c.duplex, 1);
		/* Nothing of it is the driver's to change (VIRTIO 1.3 §5.1.4). */
		d = c;
		memset(d.mac, 0x22, sizeof(d.mac));
		(void)fe_set_config(&x->fe, 0, sizeof(d), &d);
		expect_ok(fe_get_config(&x->fe, 0, sizeof(d), &d));
		expect(memcmp(&c, &d, sizeof(c)) == 0, "the driver has changed it");
		expect(kill(worker, SIGKILL) == 0, "no worker");
		expect(backend_worker_await(x->backend.pid, worker, AWAIT_MS) > 0, "nor another");
	}
}

static void frames_pass_in_indirect_tables(struct claim_context *x)
{
	struct fe_queue *rx = &x->fe.queues[RX], *tx = &x->fe.queues[TX];
	struct fe_sg sg[N_PIECES];
	struct nw_header h = { 0 };
	struct fe_used used;

	begin(x, 0);
	expect(tx->indirect && rx->indirect, "not agreed on");
	plain_frame(out + HDR, 1400, 5);
	for (unsigned i = 0; i < N_PIECES; i++)
		sg[i] = (struct fe_sg){ out + i * 15, 15 };
	sg[N_PIECES - 1].len = HDR + 1400 - (N_PIECES - 1) * 15;
	expect(fe_queue_add_indirect(tx, sg, N_PIECES, 0, out) >= 0, "a bug of the test");
	fe_queue_kick(tx);
	await_used(tx);
	expect_is(on_wire(&h), 1400);
	expect(memcmp(frame, out + HDR, 1400) == 0, "changed on its way out");
	for (unsigned i = 0; i < N_PIECES; i++)
		sg[i] = (struct fe_sg){ in[0] + i * 20, 20 };
	expect(fe_queue_add_indirect(rx, sg, 0, N_PIECES, in[0]) >= 0, "a bug of the test");
	fe_queue_kick(rx);
	h = (struct nw_header){ 0 };
	expect(nw_send(&wire, 0, &h, out + HDR, 1400), "no room");
	used = await_used(rx);
	expect_is(used.len, HDR + 1400);
	expect(memcmp(in[0] + HDR, out + HDR, 1400) == 0, "changed on its way in");
}

/* Segments */

/* TCP over IPv4, with as much of its checksum as a sender leaves to others. */
static void large_frame(uint8_t *f)
{
	memset(f, 0, HEAD);
	memcpy(f, "\x52\x54\0\x12\x34\x56\x02\0\0\0\0\x09\x08\0", ETH);
	memcpy(f + IP, "\x45\0\0\0\x12\x34\0\0\x40\x06\0\0\x0a\0\0\1\x0a\0\0\2", 20);
	nw_put16(f + IP + 2, 40 + PAYLOAD);
	nw_put16(f + IP + 10, (uint16_t)~nw_sum(f + IP, 20, 0));
	memcpy(f + TCP, "\x10\0\x20\0\0\1\0\0\0\0\0\0\x50\x18\x10\0", 16);
	nw_put16(f + TCP + 16, nw_sum(f + IP + 12, 8, 6 + 20 + PAYLOAD));
	for (uint32_t i = 0; i < PAYLOAD; i++)
		f[HEAD + i] = (uint8_t)(i * 11 + i / 256);
}

static void send_large(uint8_t *f)
{
	const struct nw_header h = { .flags = NEEDS_CSUM,
				     .gso_type = GSO_TCPV4,
				     .hdr_len = HEAD,
				     .gso_size = MSS,
				     .csum_start = TCP,
				     .csum_offset = 16 };

	large_frame(f);
	expect(nw_send(&wire, 0, &h, f, HEAD + PAYLOAD), "no room");
}

static void expect_segment(const uint8_t *f, uint32_t len, uint32_t at, const uint8_t *whole)
{
	uint32_t part = PAYLOAD - at < MSS ? PAYLOAD - at : MSS;
	uint32_t seq = (uint32_t)f[TCP + 4] << 24 | (uint32_t)f[TCP + 5] << 16 |
		       (uint32_t)f[TCP + 6] << 8 | f[TCP + 7];

	expect_is(len, HEAD + part);
	expect_is(f[IP + 2] << 8 | f[IP + 3], 40 + part);
	expect_is(nw_sum(f + IP, 20, 0), 0xffff);
	expect_is(seq, 0x10000 + at);
	expect_is(nw_sum(f + TCP, 20 + part, nw_sum(f + IP + 12, 8, 6 + 20 + part)), 0xffff);
	expect(memcmp(f + HEAD, whole + HEAD + at, part) == 0, "the payload is changed");
}

static void a_driver_that_takes_no_segments_gets_frames(struct claim_context *x)
{
	static uint8_t whole[HEAD + PAYLOAD];
	uint64_t none = FE_BIT(F_GUEST_TSO4) | FE_BIT(F_GUEST_TSO6) | FE_BIT(F_GUEST_ECN) |
			FE_BIT(F_GUEST_USO4) | FE_BIT(F_GUEST_USO6);

	begin(x, none | FE_BIT(F_GUEST_CSUM) | FE_BIT(F_CTRL_GUEST_OFFLOADS));
	post_all(x);
	send_large(whole);
	for (uint32_t at = 0; at < PAYLOAD; at += MSS) {
		struct fe_used used = await_used(&x->fe.queues[RX]);
		struct nw_header h;

		memcpy(&h, used.user, HDR);
		expect_is(h.flags & NEEDS_CSUM, 0);
		expect_is(h.gso_type, 0);
		expect_is(h.num_buffers, 1);
		expect_segment((uint8_t *)used.user + HDR, used.len - HDR, at, whole);
	}
}

static void a_driver_that_takes_segments_gets_them_whole(struct claim_context *x)
{
	static uint8_t whole[HEAD + PAYLOAD], got[HEAD + PAYLOAD + BUFFER_LEN];
	struct nw_header h;
	uint32_t len = 0;

	begin(x, 0);
	post_all(x);
	send_large(whole);
	for (unsigned i = 0, n = 1; i < n; i++) {
		struct fe_used used = await_used(&x->fe.queues[RX]);
		uint32_t skip = i == 0 ? HDR : 0;

		if (i == 0) {
			memcpy(&h, used.user, HDR);
			n = h.num_buffers;
			expect_is(n, (HDR + HEAD + PAYLOAD + BUFFER_LEN - 1) / BUFFER_LEN);
		}
		memcpy(got + len, (uint8_t *)used.user + skip, used.len - skip);
		len += used.len - skip;
	}
	expect_is(len, HEAD + PAYLOAD);
	expect(memcmp(got, whole, len) == 0, "changed");
	expect_is(h.flags & NEEDS_CSUM, NEEDS_CSUM);
	expect_is(h.gso_type, GSO_TCPV4);
	expect_is(h.gso_size, MSS);
}

/* Limits */

/* How long so many frames take to the wire, none of them lost. */
static double send_all(struct claim_context *x, uint32_t n, uint32_t len)
{
	struct fe_queue *q = &x->fe.queues[TX];
	uint32_t sent = 0, come = 0;
	struct nw_header h;
	struct fe_used used;
	double start = now();

	memset(out, 0, HDR);
	plain_frame(out + HDR, len, 1);
	while (come < n) {
		const struct fe_sg sg = { out, HDR + len };

		while (sent < n && fe_queue_add(q, &sg, 1, 0, out) >= 0)
			sent++;
		fe_queue_kick(q);
		while (fe_queue_pop(q, &used))
			;
		while (nw_receive(&wire, &h, frame) > 0)
			come++;
		expect(now() - start < 20, "%u of %u frames have come", come, n);
		usleep(200);
	}
	return now() - start;
}

static double receive_all(struct claim_context *x, uint32_t n, uint32_t len)
{
	struct fe_queue *q = &x->fe.queues[RX];
	uint8_t f[LIMITED_LEN];
	double start = now();

	post_all(x);
	for (uint32_t i = 0; i < n; i++) {
		const struct nw_header plain = { 0 };

		plain_frame(f, len, i);
		expect(nw_send(&wire, 0, &plain, f, len), "a bug of the test: no room");
	}
	for (uint32_t i = 0; i < n; i++) {
		struct fe_used used = await_used(q);
		uint32_t number;

		memcpy(&number, (uint8_t *)used.user + HDR + ETH, sizeof(number));
		expect_is(number, i);
		post(q, used.user);
		fe_queue_kick(q);
	}
	return now() - start;
}

/* A tenth of a second's worth may have been saved up. */
static void expect_took(const char *what, double seconds, double due)
{
	expect(seconds > due - 0.15, "%s: %.3f s where %.3f s are due", what, seconds, due);
}

static void no_more_frames_pass_than_allowed(struct claim_context *x)
{
	begin(x, 0);
	expect_took("out", send_all(x, N_LIMITED, 60), (double)N_LIMITED / PER_SECOND);
	expect_took("in", receive_all(x, N_LIMITED, 60), (double)N_LIMITED / PER_SECOND);
}

static void no_more_bytes_pass_than_allowed(struct claim_context *x)
{
	double due = (double)N_LONG * LIMITED_LEN / BYTES_PER_SECOND;

	begin(x, 0);
	expect_took("out", send_all(x, N_LONG, LIMITED_LEN), due);
	expect_took("in", receive_all(x, N_LONG, LIMITED_LEN), due);
}

#define ON(name, spec)                                                                             \
	{                                                                                          \
#name "_on_" #spec, name, &spec                                                    \
	}

int main(int argc, char **argv)
{
	static const char *args[NW_ARGS + 1], *told_args[NW_ARGS + 4], *frames_args[NW_ARGS + 2],
		*bytes_args[NW_ARGS + 2];
	static const struct backend_spec
		port = { .net = true, .n_queues = 2, .queue_size = QUEUE_SIZE, .args = args },
		told = { .net = true, .n_queues = 2, .queue_size = QUEUE_SIZE, .args = told_args },
		frames = { .net = true,
			   .n_queues = 2,
			   .queue_size = QUEUE_SIZE,
			   .args = frames_args },
		bytes = {
			.net = true, .n_queues = 2, .queue_size = QUEUE_SIZE, .args = bytes_args
		};
	static const struct claim claims[] = {
		ON(the_configuration_is_as_it_was_told, told),
		ON(frames_pass_in_indirect_tables, port),
		ON(a_driver_that_takes_no_segments_gets_frames, port),
		ON(a_driver_that_takes_segments_gets_them_whole, port),
		ON(no_more_frames_pass_than_allowed, frames),
		ON(no_more_bytes_pass_than_allowed, bytes),
	};

	nw_prepare(&wire, true);
	memcpy(args, wire.args, sizeof(wire.args));
	memcpy(told_args, wire.args, sizeof(wire.args));
	memcpy(frames_args, wire.args, sizeof(wire.args));
	memcpy(bytes_args, wire.args, sizeof(wire.args));
	told_args[2] = "--mac=52:54:00:ab:cd:ef";
	told_args[3] = "--mtu=1400";
	told_args[4] = "--speed=10000";
	frames_args[2] = "--iops=1000";
	bytes_args[2] = "--bandwidth=200000";
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
