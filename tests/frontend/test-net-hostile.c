/*
 * frontend-net-hostile: what a guest may not send is not sent, and what comes fits into whatever buffers there are.
 *
 *	frontend-net-hostile --program=vmdev-net [NAME…]
 *
 * In a network namespace of its own, as root. Each claim is tried on a tap, where a packet socket sees what has become of
 * a frame, and on a switch's port, where nobody looks at it between the worker and us.
 */
#include "tests/frontend/claim.h"
#include "tests/frontend/net-wire.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

enum {
	RX,
	TX,
	HDR = sizeof(struct nw_header),
	ETH = 14,
	MAX_FRAME = ETH + 8 + 40 + 65535,
	QUEUE_SIZE = 1024,
	N_FUZZ = 4000,
	AWAIT_MS = 5000,
	QUIET_MS = 30,
	F_MRG = 15,
};

static struct net_wire wires[2]; /* a tap, a port */
static struct net_wire *wire;
static uint8_t got[NW_MAX_FRAME];
static struct nw_header got_h;
static uint8_t *buffer;

static const uint8_t own[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

static void begin_with(struct claim_context *x, uint64_t features_not)
{
	const struct fe_spec spec = { .n_queues = 2,
				      .queue_size = QUEUE_SIZE,
				      .features_not = features_not };

	wire = &wires[strstr(x->spec->args[0], "switch") != NULL];
	if (!wire->port)
		expect_ok(nw_open_tap(wire, 9000));
	nw_resume(wire);
	expect_ok(fe_begin(&x->fe, x->backend.socket, &spec));
	buffer = fe_memory_alloc(&x->fe.mem, HDR + MAX_FRAME + 4096, 4096);
}

static void begin(struct claim_context *x)
{
	begin_with(x, 0);
}

/* The length of a frame on the wire that comes in time; 0: none. */
static uint32_t on_wire(int timeout_ms)
{
	uint32_t len;

	for (int i = 0; (len = nw_receive(wire, &got_h, got)) == 0 && i < timeout_ms * 10; i++)
		usleep(100);
	return len;
}

static void await_back(struct claim_context *x)
{
	struct fe_used used;

	for (int i = 0; i < AWAIT_MS / 100; i++) {
		if (fe_queue_pop(&x->fe.queues[TX], &used)) {
			expect_is(used.len, 0);
			return;
		}
		fe_queue_wait(&x->fe.queues[TX], 100);
	}
	expect(false, "a chain does not come back");
}

static void send_chain(struct claim_context *x, const struct fe_sg *sg, unsigned n_out,
		       unsigned n_in)
{
	expect(fe_queue_add(&x->fe.queues[TX], sg, n_out, n_in, buffer) >= 0, "a bug of the test");
	fe_queue_publish(&x->fe.queues[TX]);
	fe_queue_kick_always(&x->fe.queues[TX]);
	await_back(x);
}

/* In pieces of so many bytes. */
static void send_pieces(struct claim_context *x, uint32_t len, uint32_t piece)
{
	static struct fe_sg sg[QUEUE_SIZE];
	unsigned n = 0;

	for (uint32_t at = 0; at < len; at += piece, n++)
		sg[n] = (struct fe_sg){ buffer + at, len - at < piece ? len - at : piece };
	send_chain(x, sg, n, 0);
}

static void plain_frame(uint32_t len)
{
	memset(buffer, 0, HDR);
	for (uint32_t i = 0; i < len; i++)
		buffer[HDR + i] = (uint8_t)(i * 7 + 1);
	memcpy(buffer + HDR, "\x52\x54\0\0\0\x02", 6);
	memcpy(buffer + HDR + 6, own, 6);
	memcpy(buffer + HDR + 12, "\x88\xb5", 2);
}

static void still_works(struct claim_context *x)
{
	plain_frame(100);
	send_pieces(x, HDR + 100, 4096);
	expect_is(on_wire(AWAIT_MS), 100);
	expect(memcmp(got, buffer + HDR, 100) == 0, "a frame is changed");
}

/* Offload headers */

static uint64_t seed = 20240229;

static uint32_t any(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

static uint16_t any_number(void)
{
	static const uint16_t numbers[] = { 0,	  1,	6,    13,    14,    16,	  20,  34,
					    38,	  40,	42,   54,    66,    100,  999, 998,
					    1000, 1460, 9000, 32768, 65534, 65535 };

	return any(4) == 0 ? (uint16_t)any(65536)
			   : numbers[any(sizeof(numbers) / sizeof(*numbers))];
}

/* TCP or UDP over IPv4 or IPv6, some of whose bytes are changed. */
static void packet(uint32_t len)
{
	uint8_t *f = buffer + HDR;
	bool ipv6 = any(2), udp = any(2);
	unsigned ip = ETH, l4 = ip + (ipv6 ? 40 : 20);

	plain_frame(len);
	memcpy(f + 12, ipv6 ? "\x86\xdd" : "\x08\0", 2);
	if (len < l4 + 20)
		return;
	f[ip] = ipv6 ? 0x60 : 0x45;
	f[ip + 6] = f[ip + 7] = 0;
	f[ip + (ipv6 ? 6 : 9)] = udp ? 17 : 6;
	f[l4 + 12] = (uint8_t)((5 + any(2) * any(12)) << 4);
	for (unsigned i = any(4) ? 0 : any(5); i > 0; i--)
		f[12 + any(60)] = (uint8_t)any(256);
}

static void any_header(void)
{
	static const uint8_t types[] = { 0, 1, 4, 5, 0x81, 0x84, 3, 2, 0x80, 0xff };
	uint8_t l4 = buffer[HDR + 12] == 0x86 ? 54 : 34;
	struct nw_header h = {
		.flags = (uint8_t)(any(8) ? any(4) : any(256)),
		.gso_type = types[any(sizeof(types))],
		.hdr_len = any(2) ? any_number() : l4 + 20,
		.gso_size = any(2) ? any_number() : 500,
		.csum_start = any(3) ? l4 : any_number(),
		.csum_offset = any(3) ? (any(2) ? 16 : 6) : any_number(),
		.num_buffers = any_number(),
	};

	memcpy(buffer, &h, sizeof(h));
}

/* What the device has passed on, by a judgement of our own. */
static void expect_exact(uint32_t len)
{
	const struct nw_header *h = &got_h;
	uint16_t type = (uint16_t)(got[12] << 8 | got[13]);
	uint8_t gso = h->gso_type & 0x7f;
	unsigned ip = ETH;

	expect(len >= ETH && len <= MAX_FRAME, "%u bytes", len);
	if (h->flags & 1)
		expect(h->csum_start >= ETH && (uint32_t)h->csum_start + h->csum_offset + 2 <= len,
		       "a sum at %u and %u of %u bytes", h->csum_start, h->csum_offset, len);
	if (wire->port)
		expect((h->flags & ~1) == 0 && h->num_buffers == 0, "flags %u, %u buffers",
		       h->flags, h->num_buffers);
	if (gso == 0)
		return;
	while (type == 0x8100 || type == 0x88a8) {
		type = (uint16_t)(got[ip + 2] << 8 | got[ip + 3]);
		ip += 4;
	}
	/* The kernel tells another length of the headers, how much it has in one place. */
	expect((h->flags & 1) && h->gso_size > 0 && h->hdr_len >= h->csum_start + 8 &&
		       h->hdr_len < len + !wire->port,
	       "segments of %u, headers of %u, sum at %u of %u bytes", h->gso_size, h->hdr_len,
	       h->csum_start, len);
	expect(gso == 1 || gso == 4 || gso == 5, "segments of type %u", gso);
	expect(type == (gso == 1   ? 0x0800
			: gso == 4 ? 0x86dd
				   : type),
	       "type %04x as %u", type, gso);
	expect(type == 0x0800 ? got[ip + 9] == (gso == 5 ? 17 : 6) : type == 0x86dd,
	       "not its protocol");
	expect(h->csum_offset == (gso == 5 ? 6 : 16), "a sum at %u", h->csum_offset);
}

static void offloads_are_exact_or_go_nowhere(struct claim_context *x)
{
	unsigned n_passed = 0;
	uint32_t len;

	begin(x);
	for (unsigned i = 0; i < N_FUZZ; i++) {
		uint32_t frame_len = any(4) ? 1000 : any(3000);

		packet(frame_len);
		any_header();
		send_pieces(x, HDR + frame_len, any(4) ? 8192 : 1 + any(200) + frame_len / 500);
		while ((len = nw_receive(wire, &got_h, got)) > 0) {
			expect_exact(len);
			n_passed++;
		}
	}
	while ((len = on_wire(QUIET_MS)) > 0) {
		expect_exact(len);
		n_passed++;
	}
	expect(n_passed > N_FUZZ / 20 && n_passed < N_FUZZ, "%u of %u have passed", n_passed,
	       N_FUZZ);
	expect(backend_log_has(&x->backend, "is dropped"), "the log does not tell");
	still_works(x);
}

/* Chains */

static void what_is_no_frame_goes_nowhere(struct claim_context *x)
{
	static const uint32_t lens[] = {
		1, 11, 12, 13, 25, HDR + MAX_FRAME + 1, HDR + 65537 + 100
	};

	begin(x);
	for (unsigned i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		plain_frame(MAX_FRAME);
		send_pieces(x, lens[i], lens[i] > 4096 ? 4096 : lens[i] > 12 ? 12 : 1);
		expect_is(on_wire(QUIET_MS), 0);
		still_works(x);
	}
}

static void a_chain_with_room_for_an_answer_goes_nowhere(struct claim_context *x)
{
	struct fe_sg sg[2];

	begin(x);
	plain_frame(100);
	sg[0] = (struct fe_sg){ buffer, HDR + 100 };
	sg[1] = (struct fe_sg){ buffer + 2048, 100 };
	send_chain(x, sg, 1, 1);
	expect_is(on_wire(QUIET_MS), 0);
	still_works(x);
}

static void a_frame_may_be_in_a_thousand_pieces(struct claim_context *x)
{
	begin(x);
	plain_frame(QUEUE_SIZE - HDR);
	send_pieces(x, QUEUE_SIZE, 1);
	expect_is(on_wire(AWAIT_MS), QUEUE_SIZE - HDR);
	expect(memcmp(got, buffer + HDR, QUEUE_SIZE - HDR) == 0, "it is changed");
}

static void the_longest_frame_passes(struct claim_context *x)
{
	begin(x);
	plain_frame(MAX_FRAME);
	send_pieces(x, HDR + MAX_FRAME, 4096);
	if (wire->port) {
		expect_is(on_wire(AWAIT_MS), MAX_FRAME);
		expect(memcmp(got, buffer + HDR, MAX_FRAME) == 0, "it is changed");
	}
	on_wire(QUIET_MS); /* to the kernel it is a matter of taste */
	still_works(x);
}

static void expect_broken(struct claim_context *x, unsigned queue)
{
	struct pollfd p = { .fd = x->fe.queues[queue].err, .events = POLLIN };

	expect_is(poll(&p, 1, AWAIT_MS), 1);
	expect(!fe_gone(&x->fe), "the session has ended");
}

static void a_loop_breaks_its_ring_alone(struct claim_context *x)
{
	struct fe_queue *q;
	struct fe_sg sg[2];
	int head;

	begin(x);
	plain_frame(100);
	q = &x->fe.queues[TX];
	sg[0] = (struct fe_sg){ buffer, HDR };
	sg[1] = (struct fe_sg){ buffer + HDR, 100 };
	head = fe_queue_add(q, sg, 2, 0, buffer);
	q->desc[q->desc[head].next].flags |= 1; /* NEXT */
	q->desc[q->desc[head].next].next = (uint16_t)head;
	fe_queue_publish(q);
	fe_queue_kick_always(q);
	expect_broken(x, TX);
	expect_is(on_wire(QUIET_MS), 0);
}

/* Receive buffers */

static void offer(struct claim_context *x, unsigned n, uint32_t len)
{
	uint8_t *p = fe_memory_alloc(&x->fe.mem, (size_t)n * len, 64);

	for (unsigned i = 0; i < n; i++) {
		struct fe_sg sg = { p + i * len, len };

		expect(fe_queue_add(&x->fe.queues[RX], &sg, 0, 1, sg.p) >= 0, "a bug of the test");
	}
	fe_queue_publish(&x->fe.queues[RX]);
	fe_queue_kick_always(&x->fe.queues[RX]);
}

static void send_in(uint32_t len)
{
	static const struct nw_header h;

	plain_frame(len);
	memcpy(buffer + HDR, own, 6);
	expect(nw_send(wire, 0, &h, buffer + HDR, len), "the wire takes no frame");
}

/* The frame in the buffer, in as many of the driver's as its header says, all of which come together. */
static void expect_in(struct claim_context *x, uint32_t len, unsigned n_buffers)
{
	uint32_t at = 0;

	expect(fe_queue_wait(&x->fe.queues[RX], AWAIT_MS) == 1, "%u bytes do not come", len);
	for (unsigned i = 0; i < n_buffers; i++) {
		struct fe_used used;

		expect(fe_queue_pop(&x->fe.queues[RX], &used), "buffer %u is not there", i);
		if (i == 0) {
			struct nw_header h;

			memcpy(&h, used.user, HDR);
			expect_is(h.num_buffers, n_buffers);
		}
		memcpy(got + at, used.user, used.len);
		at += used.len;
	}
	expect_is(at, HDR + len);
	expect(memcmp(got + HDR, buffer + HDR, len) == 0, "%u bytes are changed", len);
}

static void frames_are_split_over_small_buffers(struct claim_context *x)
{
	begin(x);
	offer(x, 2, 12); /* no more than the header */
	offer(x, 4, 13);
	offer(x, 200, 16);
	send_in(64);
	expect_in(x, 64, 6);
	send_in(1500);
	expect_in(x, 1500, (HDR + 1500 + 15) / 16);
}

/* One more than readv() takes, with our header in front. */
static void a_frame_fills_a_buffer_of_a_thousand_pieces(struct claim_context *x)
{
	static struct fe_sg sg[QUEUE_SIZE];
	uint8_t *p;

	begin(x);
	p = fe_memory_alloc(&x->fe.mem, QUEUE_SIZE, 64);
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		sg[i] = (struct fe_sg){ p + i, 1 };
	expect(fe_queue_add(&x->fe.queues[RX], sg, 0, QUEUE_SIZE, p) >= 0, "a bug of the test");
	fe_queue_publish(&x->fe.queues[RX]);
	fe_queue_kick_always(&x->fe.queues[RX]);
	send_in(QUEUE_SIZE - HDR);
	expect_in(x, QUEUE_SIZE - HDR, 1);
}

static void a_frame_beyond_all_buffers_is_dropped(struct claim_context *x)
{
	begin(x);
	offer(x, 500, 16);
	send_in(9000); /* over more buffers than are looked at */
	expect_is(fe_queue_wait(&x->fe.queues[RX], QUIET_MS), 0);
	send_in(500);
	expect_in(x, 500, (HDR + 500 + 15) / 16);
}

static void without_merging_a_small_buffer_gets_no_frame(struct claim_context *x)
{
	begin_with(x, UINT64_C(1) << F_MRG);
	offer(x, 1, 60);
	send_in(100);
	expect_is(fe_queue_wait(&x->fe.queues[RX], QUIET_MS), 0);
	send_in(48);
	expect_in(x, 48, 1);
	offer(x, 1, 2000);
	send_in(1500);
	expect_in(x, 1500, 1);
}

static void a_buffer_without_room_for_the_header_breaks_its_ring_alone(struct claim_context *x)
{
	begin(x);
	offer(x, 1, 11);
	send_in(100);
	expect_broken(x, RX);
	still_works(x);
}

/* Addresses */

static void neighbour(uint8_t type, uint8_t option, uint8_t option_at, const uint8_t *mac)
{
	uint8_t *f = buffer + HDR, *icmp = f + ETH + 40;

	plain_frame(ETH + 40 + option_at + 8);
	memset(f + 12, 0, ETH + 40 + option_at + 8 - 12);
	memcpy(f + 12, "\x86\xdd\x60\0\0\0\0", 7);
	f[ETH + 5] = option_at + 8;
	memcpy(f + ETH + 6, "\x3a\xff\xfe\x80", 4);
	icmp[0] = type;
	icmp[option_at] = option;
	icmp[option_at + 1] = 1;
	memcpy(icmp + option_at + 2, mac, 6);
}

static void arp(const uint8_t *sender)
{
	plain_frame(60);
	memcpy(buffer + HDR + 12, "\x08\x06\0\1\x08\0\6\4\0\1", 10);
	memcpy(buffer + HDR + ETH + 8, sender, 6);
}

static void expect_sent(struct claim_context *x, uint32_t len, bool passes, const char *what)
{
	send_pieces(x, HDR + len, 4096);
	expect((on_wire(passes ? AWAIT_MS : QUIET_MS) > 0) == passes, "%s", what);
}

static void a_guest_speaks_for_its_own_address_alone(struct claim_context *x)
{
	static const uint8_t other[6] = { 0x52, 0x54, 0, 0, 0, 0x99 };
	static const struct {
		uint8_t type, option, at;
		const char *what;
	} rows[] = {
		{ 133, 1, 8, "a router solicitation" },
		{ 134, 1, 16, "a router advertisement" },
		{ 135, 1, 24, "a neighbour solicitation" },
		{ 136, 2, 24, "a neighbour advertisement" },
		{ 137, 2, 40, "a redirect" },
	};

	begin(x);
	still_works(x);
	plain_frame(100);
	memcpy(buffer + HDR + 6, other, 6);
	expect_sent(x, 100, false, "another's source");
	arp(own);
	expect_sent(x, 60, true, "its own ARP");
	arp(other);
	expect_sent(x, 60, false, "another's ARP");
	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		neighbour(rows[i].type, rows[i].option, rows[i].at, own);
		expect_sent(x, ETH + 40 + rows[i].at + 8, true, rows[i].what);
		neighbour(rows[i].type, rows[i].option, rows[i].at, other);
		expect_sent(x, ETH + 40 + rows[i].at + 8, false, rows[i].what);
	}
}

/* The front-end speaks for the guest with SEND_RARP: it is held to the same address. */
static void announced(struct claim_context *x, const uint8_t *mac, bool passes)
{
	uint64_t v = 0;

	memcpy(&v, mac, 6);
	expect_is(fe_do_u64(&x->fe, FE_SEND_RARP, v, -1), passes ? 0 : -EREMOTEIO);
	expect((on_wire(passes ? AWAIT_MS : QUIET_MS) > 0) == passes, "an announcement");
}

static void a_front_end_announces_its_own_address_alone(struct claim_context *x)
{
	static const uint8_t other[6] = { 0x52, 0x54, 0, 0, 0, 0x99 };

	begin(x);
	still_works(x);
	announced(x, own, true);
	announced(x, other, false);
	still_works(x);
}

static void ipv4(const uint8_t *source)
{
	plain_frame(100);
	memcpy(buffer + HDR + 12, "\x08\0\x45", 3);
	memcpy(buffer + HDR + ETH + 12, source, 4);
}

static void arp_of(const uint8_t *address)
{
	arp(own);
	memcpy(buffer + HDR + ETH + 14, address, 4);
}

static void a_guest_with_an_ip_address_has_no_other(struct claim_context *x)
{
	static const uint8_t its[4] = { 10, 0, 0, 1 }, other[4] = { 10, 0, 0, 2 };

	begin(x);
	ipv4(its);
	expect_sent(x, 100, true, "its own packet");
	ipv4(other);
	expect_sent(x, 100, false, "another's packet");
	arp_of(its);
	expect_sent(x, 60, true, "its own ARP");
	arp_of(other);
	expect_sent(x, 60, false, "ARP for another's address");
	plain_frame(100);
	expect_sent(x, 100, false, "what is neither IP nor ARP");
}

#define ON(name, spec)                                                                             \
	{                                                                                          \
#name "_on_" #spec, name, &spec                                                    \
	}
#define BOTH(name) ON(name, tap), ON(name, port)

int main(int argc, char **argv)
{
	static const char *tap_args[NW_ARGS + 2], *port_args[NW_ARGS + 2], *bound_args[NW_ARGS + 2];
	static const char *address_args[NW_ARGS + 2];
	static const struct backend_spec
		tap = { .net = true, .queue_size = QUEUE_SIZE, .args = tap_args },
		port = { .net = true, .n_queues = 2, .queue_size = QUEUE_SIZE, .args = port_args },
		bound = { .net = true,
			  .n_queues = 2,
			  .queue_size = QUEUE_SIZE,
			  .args = bound_args },
		tap_bound = { .net = true, .queue_size = QUEUE_SIZE, .args = address_args };
	static const struct claim claims[] = {
		BOTH(offloads_are_exact_or_go_nowhere),
		BOTH(what_is_no_frame_goes_nowhere),
		BOTH(a_chain_with_room_for_an_answer_goes_nowhere),
		BOTH(a_frame_may_be_in_a_thousand_pieces),
		BOTH(the_longest_frame_passes),
		BOTH(a_loop_breaks_its_ring_alone),
		BOTH(frames_are_split_over_small_buffers),
		BOTH(a_frame_fills_a_buffer_of_a_thousand_pieces),
		BOTH(a_frame_beyond_all_buffers_is_dropped),
		BOTH(without_merging_a_small_buffer_gets_no_frame),
		BOTH(a_buffer_without_room_for_the_header_breaks_its_ring_alone),
		ON(a_guest_speaks_for_its_own_address_alone, bound),
		ON(a_front_end_announces_its_own_address_alone, bound),
		ON(a_guest_with_an_ip_address_has_no_other, tap_bound),
	};

	if (!nw_isolate()) {
		puts("1..0 # SKIP no network namespace, or no /dev/net/tun");
		return 0;
	}
	nw_prepare(&wires[0], false);
	nw_prepare(&wires[1], true);
	memcpy(tap_args, wires[0].args, sizeof(wires[0].args));
	memcpy(port_args, wires[1].args, sizeof(wires[1].args));
	memcpy(bound_args, wires[1].args, sizeof(wires[1].args));
	tap_args[2] = "--mtu=9000";
	bound_args[2] = "--mac-filter";
	memcpy(address_args, wires[0].args, sizeof(wires[0].args));
	address_args[2] = "--mac-filter";
	address_args[3] = "--address=10.0.0.1";
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
