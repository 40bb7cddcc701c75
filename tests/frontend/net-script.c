/* A script for a network device. See net-script.h. */
#include "tests/frontend/net-script.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MUST(call) must(s, #call, call)

enum {
	ETH_LEN = 14,
	HDR_LEN = sizeof(struct nw_header),
	BURST = 32,
	AWAIT_MS = 10000, /* what has to come */
	QUIET_MS = 300,	  /* what may have been lost */
	UNWANTED_MS = 40,
	TRIES = 4, /* of what a death may lose */
	SLOT_LEN = HDR_LEN + ETH_LEN + NS_MTU,
	SENTINEL = 0xffff, /* where a header says how many buffers there are */
	NEEDS_CSUM = 1,
	IP_AT = ETH_LEN,
	UDP_AT = IP_AT + 20,
	UDP_LEN = 40,
	UDP_CSUM_OFFSET = 6,
	CLASS_MAC = 1,
	CLASS_MQ = 4,
	CLASS_OFFLOADS = 5,
};

static const uint8_t own_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
static const uint8_t second_mac[6] = { 0x52, 0x54, 0, 0, 0, 0x55 };
static const uint8_t foreign_mac[6] = { 0x52, 0x54, 0, 0, 0, 0x77 };
static const uint32_t lens[] = { 60, 200, 1514, 2036, 2037, 5000, ETH_LEN + NS_MTU };

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void fail(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	fputs("    ", stderr);
	vfprintf(stderr, format, list);
	fputc('\n', stderr);
	va_end(list);
	_exit(1);
}

static void must(struct net_script *s, const char *step, int r)
{
	if (r != 0)
		fail("%s: %d (%s)", step, r, r < 0 ? strerror(-r) : "?");
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Frames */

static void frame_make(uint8_t *f, const uint8_t *dst, uint32_t n, uint32_t len)
{
	memcpy(f, dst, 6);
	memcpy(f + 6, "\x02\0\0\0\0\x09\x88\xb5", 8);
	memcpy(f + ETH_LEN, &n, sizeof(n));
	memcpy(f + ETH_LEN + 4, &len, sizeof(len));
	for (uint32_t i = ETH_LEN + 8; i < len; i++)
		f[i] = (uint8_t)(n * 31 + i * 7);
}

/* The number of a frame of ours, whose bytes are all right. */
static uint32_t frame_number(const char *where, const uint8_t *f, uint32_t len, uint32_t limit)
{
	uint32_t n, told;

	if (len < ETH_LEN + 8)
		fail("%s: a frame of %u bytes", where, len);
	memcpy(&n, f + ETH_LEN, sizeof(n));
	memcpy(&told, f + ETH_LEN + 4, sizeof(told));
	if (f[12] != 0x88 || f[13] != 0xb5 || told != len || n >= limit)
		fail("%s: not a frame of ours: number %u, %u bytes instead of %u, type %02x%02x",
		     where, n, len, told, f[12], f[13]);
	for (uint32_t i = ETH_LEN + 8; i < len; i++)
		if (f[i] != (uint8_t)(n * 31 + i * 7))
			fail("%s: frame %u is changed at byte %u", where, n, i);
	return n;
}

static uint32_t next_number(uint32_t *n)
{
	if (*n == NS_MAX_FRAMES)
		fail("a bug of the test: too many frames");
	return (*n)++;
}

/* The driver's receive queues */

static struct fe_queue *rx_of(struct net_script *s, unsigned pair)
{
	return &s->fe.queues[pair ? NS_RX1 : NS_RX0];
}

static void post(struct net_script *s, unsigned pair, uint8_t *buffer)
{
	const uint16_t sentinel = SENTINEL;
	struct fe_sg sg = { buffer, NS_BUFFER_LEN };

	memcpy(buffer + HDR_LEN - sizeof(sentinel), &sentinel, sizeof(sentinel));
	if (fe_queue_add(rx_of(s, pair), &sg, 0, 1, buffer) < 0)
		fail("a bug of the test: no room for a buffer");
}

bool ns_filling(const struct net_script *s)
{
	uint16_t told;

	for (unsigned pair = 0; pair < 2; pair++)
		for (unsigned i = 0; i < NS_BUFFERS; i++) {
			memcpy(&told, s->in[pair][i] + HDR_LEN - sizeof(told), sizeof(told));
			if (__atomic_load_n(&told, __ATOMIC_RELAXED) != SENTINEL)
				return true;
		}
	return false;
}

static void frame_come(struct net_script *s, unsigned pair)
{
	const uint8_t *f = s->whole[pair];
	uint32_t n;

	if (s->whole_len[pair] >= ETH_LEN && s->whole_len[pair] <= sizeof(s->datagram) &&
	    f[12] == 0x08 && f[13] == 0x00) {
		s->datagram_header = s->header[pair];
		s->datagram_len = s->whole_len[pair];
		memcpy(s->datagram, f, s->datagram_len);
		return;
	}
	n = frame_number("to the driver", f, s->whole_len[pair], s->n_in);
	s->seen_in[n]++;
	s->pair_of[n] = (uint8_t)(pair + 1);
	if (s->seen_in[n] > s->most_in)
		fail("frame %u comes to the driver %u times", n, s->seen_in[n]);
}

/* True: it was the last one of a frame. */
static bool take_buffer(struct net_script *s, unsigned pair, const struct fe_used *used)
{
	const uint8_t *p = used->user;
	uint32_t at = 0;

	if (used->len == 0 || used->len > NS_BUFFER_LEN)
		fail("a buffer comes back with %u bytes", used->len);
	if (s->n_buffers[pair] == 0) {
		memcpy(&s->header[pair], p, HDR_LEN);
		s->want_buffers[pair] = s->header[pair].num_buffers;
		s->whole_len[pair] = 0;
		at = HDR_LEN;
		if (used->len < HDR_LEN || s->want_buffers[pair] == 0)
			fail("a frame of %u buffers", s->want_buffers[pair]);
	}
	if (s->whole_len[pair] + used->len - at > NW_MAX_FRAME)
		fail("a frame without end");
	memcpy(s->whole[pair] + s->whole_len[pair], p + at, used->len - at);
	s->whole_len[pair] += used->len - at;
	if (++s->n_buffers[pair] < s->want_buffers[pair])
		return false;
	s->n_buffers[pair] = 0;
	return true;
}

/* How many frames have come. */
static unsigned reap_rx(struct net_script *s)
{
	unsigned n = 0;

	for (unsigned pair = 0; pair < 2; pair++) {
		struct fe_used used;
		bool any = false;

		while (fe_queue_pop(rx_of(s, pair), &used)) {
			if (take_buffer(s, pair, &used)) {
				frame_come(s, pair);
				n++;
			}
			post(s, pair, used.user);
			any = true;
		}
		if (any)
			fe_queue_kick(rx_of(s, pair));
	}
	return n;
}

static bool all_seen(const uint8_t *seen, uint32_t from, uint32_t to)
{
	while (from < to && seen[from])
		from++;
	return from == to;
}

/* From the wire to the driver */

static uint32_t send_in(struct net_script *s, unsigned queue, const uint8_t *dst, uint32_t len)
{
	static uint8_t frame[NW_MAX_FRAME];
	const struct nw_header plain = { 0 };
	uint32_t n = next_number(&s->n_in);

	frame_make(frame, dst, n, len);
	if (!nw_send(s->wire, queue, &plain, frame, len))
		fail("the wire takes no frame");
	return n;
}

/* Until all frames from that one on have come, or nothing has for a while. */
static void await_in(struct net_script *s, uint32_t from)
{
	uint64_t end = now_ms() + QUIET_MS;

	while (!all_seen(s->seen_in, from, s->n_in) && now_ms() < end) {
		if (reap_rx(s))
			end = now_ms() + QUIET_MS;
		else
			usleep(50);
	}
}

static void flow_in(struct net_script *s, unsigned n)
{
	for (unsigned done = 0; done < n; done += BURST) {
		uint32_t from = s->n_in;

		s->before(s);
		for (unsigned i = 0; i < BURST; i++)
			send_in(s, i / 4 % NW_QUEUES, own_mac, lens[(done + i) % 7]);
		s->meanwhile(s);
		await_in(s, from);
	}
}

/* A frame for this address comes, or never does. Returns the pair on which it came. */
static unsigned probe(struct net_script *s, unsigned queue, const uint8_t *dst, bool comes)
{
	for (unsigned i = 0; i < (comes ? TRIES : 1); i++) {
		uint32_t n = send_in(s, queue, dst, 100);
		uint64_t end = now_ms() + (comes ? QUIET_MS : UNWANTED_MS);

		while (now_ms() < end && !s->seen_in[n]) {
			reap_rx(s);
			usleep(50);
		}
		if (!comes && s->seen_in[n])
			fail("a frame for another's address has come");
		if (s->seen_in[n])
			return s->pair_of[n] - 1u;
		if (!comes)
			s->seen_in[n] = 1; /* nobody misses it */
	}
	if (comes)
		fail("a frame for the driver's own address does not come");
	return 0;
}

/* The transmit queues */

uint64_t ns_look(struct net_script *s)
{
	static uint8_t frame[NW_MAX_FRAME];
	struct nw_header h;
	uint32_t len, n;

	while ((len = nw_receive(s->wire, &h, frame)) > 0) {
		n = frame_number("from the driver", frame, len, s->n_out);
		s->n_sightings++;
		if (++s->seen_out[n] > 2)
			fail("frame %u goes out %u times", n, s->seen_out[n]);
	}
	return s->n_sightings;
}

static uint8_t *free_slot(struct net_script *s)
{
	for (unsigned i = 0; i < NS_SLOTS; i++)
		if (s->out[i]) {
			uint8_t *slot = s->out[i];

			s->out[i] = NULL;
			return slot;
		}
	return NULL;
}

static void reap_tx(struct net_script *s)
{
	struct fe_used used;

	for (unsigned pair = 0; pair < 2; pair++)
		while (fe_queue_pop(&s->fe.queues[pair ? NS_TX1 : NS_TX0], &used))
			for (unsigned i = 0; i < NS_SLOTS; i++)
				if (!s->out[i]) {
					s->out[i] = used.user;
					break;
				}
	ns_look(s);
}

static void send_out(struct net_script *s, unsigned pair)
{
	struct fe_queue *q = &s->fe.queues[pair ? NS_TX1 : NS_TX0];
	uint64_t end = now_ms() + AWAIT_MS;
	uint8_t *slot;
	uint32_t len = lens[s->n_out % 7], n = next_number(&s->n_out);
	struct fe_sg sg[3];
	unsigned pieces;

	while (!(slot = free_slot(s))) {
		fe_queue_kick(q);
		reap_tx(s);
		if (now_ms() > end)
			fail("transmitted buffers do not come back");
	}
	memset(slot, 0, HDR_LEN);
	frame_make(slot + HDR_LEN, own_mac, n, len);
	/* In one piece where it is short, else in three. */
	pieces = len > 60 ? 3 : 1;
	sg[0] = (struct fe_sg){ slot, HDR_LEN + (pieces > 1 ? 30 : len) };
	sg[1] = (struct fe_sg){ slot + HDR_LEN + 30, len / 2 - 30 };
	sg[2] = (struct fe_sg){ slot + HDR_LEN + len / 2, len - len / 2 };
	if (fe_queue_add(q, sg, pieces, 0, slot) < 0)
		fail("a bug of the test: no room for a frame");
}

/* One death loses nothing; each of those that follow on it may the frame that it had in hand. */
static void count_lost_out(struct net_script *s)
{
	uint32_t n_lost = 0;

	for (uint32_t n = 0; n < s->n_out; n++)
		n_lost += s->seen_out[n] == 0;
	if (n_lost > s->n_deaths)
		fail("%u frames do not come to the wire over %u deaths", n_lost, s->n_deaths + 1);
}

/* All of them come to the wire, and all buffers back. */
static void flow_out(struct net_script *s, unsigned n, unsigned pairs)
{
	uint64_t end;
	uint32_t from = s->n_out;

	for (unsigned i = 0; i < n; i++) {
		unsigned pair = i / 8 % pairs;

		send_out(s, pair);
		if (i % 8 == 7)
			fe_queue_kick(&s->fe.queues[pair ? NS_TX1 : NS_TX0]);
		if (i % 64 == 63)
			s->meanwhile_out(s);
		reap_tx(s);
	}
	for (unsigned pair = 0; pair < pairs; pair++)
		fe_queue_kick(&s->fe.queues[pair ? NS_TX1 : NS_TX0]);
	end = now_ms() + AWAIT_MS;
	while (fe_queue_outstanding(&s->fe.queues[NS_TX0]) ||
	       fe_queue_outstanding(&s->fe.queues[NS_TX1])) {
		reap_tx(s);
		if (now_ms() > end)
			fail("%u and %u buffers do not come back",
			     fe_queue_outstanding(&s->fe.queues[NS_TX0]),
			     fe_queue_outstanding(&s->fe.queues[NS_TX1]));
		usleep(20);
	}
	end = now_ms() + QUIET_MS;
	while (!all_seen(s->seen_out, from, s->n_out) && now_ms() < end) {
		ns_look(s);
		usleep(20);
	}
	count_lost_out(s);
}

/* The control queue */

static void command(struct net_script *s, uint8_t class, uint8_t number, const void *data,
		    uint32_t len)
{
	struct fe_queue *q = &s->fe.queues[NS_CONTROL];
	struct fe_sg sg[] = { { s->command, 2 }, { s->command + 2, len }, { s->ack, 1 } };
	uint64_t end = now_ms() + AWAIT_MS;
	struct fe_used used;

	s->command[0] = class;
	s->command[1] = number;
	memcpy(s->command + 2, data, len);
	*s->ack = 0xee;
	if (fe_queue_add(q, sg, 2, 1, s->command) < 0)
		fail("a bug of the test: no room for a command");
	fe_queue_kick(q);
	while (!fe_queue_pop(q, &used)) {
		if (now_ms() > end)
			fail("command %u.%u is not acknowledged", class, number);
		usleep(20);
	}
	if (used.len != 1 || *s->ack != 0)
		fail("command %u.%u: %u bytes, %u", class, number, used.len, *s->ack);
}

static void set_pairs(struct net_script *s, uint16_t n)
{
	command(s, CLASS_MQ, 0, &n, sizeof(n));
}

static void set_offloads(struct net_script *s, uint64_t bits)
{
	command(s, CLASS_OFFLOADS, 0, &bits, sizeof(bits));
}

/* The driver's own address and the second one; nothing for groups. */
static void set_filter(struct net_script *s)
{
	uint8_t table[4 + 6 + 4] = { 1 };

	memcpy(table + 4, second_mac, 6);
	command(s, CLASS_MAC, 0, table, sizeof(table));
}

/* A datagram with as much of its checksum as a sender leaves to others. */
static void make_datagram(uint8_t *f)
{
	memset(f, 0x5a, UDP_AT + UDP_LEN);
	memcpy(f, own_mac, 6);
	memcpy(f + 6, "\x02\0\0\0\0\x09\x08\0", 8);
	memcpy(f + IP_AT, "\x45\0\0\0\0\0\0\0\x40\x11\0\0\x0a\0\0\1\x0a\0\0\2", 20);
	nw_put16(f + IP_AT + 2, 20 + UDP_LEN);
	nw_put16(f + IP_AT + 10, (uint16_t)~nw_sum(f + IP_AT, 20, 0));
	nw_put16(f + UDP_AT + 4, UDP_LEN);
	nw_put16(f + UDP_AT + UDP_CSUM_OFFSET, nw_sum(f + IP_AT + 12, 8, 17 + UDP_LEN));
}

/* With a partial checksum, as long as that is agreed on; else the device has to make it. */
static void probe_checksum(struct net_script *s, bool partial)
{
	const struct nw_header h = { .flags = NEEDS_CSUM,
				     .hdr_len = UDP_AT + 8,
				     .csum_start = UDP_AT,
				     .csum_offset = UDP_CSUM_OFFSET };
	uint8_t f[UDP_AT + UDP_LEN];
	const uint8_t *got = s->datagram;
	bool right;

	make_datagram(f);
	s->datagram_len = 0;
	for (unsigned i = 0; i < TRIES && !s->datagram_len; i++) {
		uint64_t end = now_ms() + QUIET_MS;

		if (!nw_send(s->wire, 0, &h, f, sizeof(f)))
			fail("the wire takes no datagram");
		while (!s->datagram_len && now_ms() < end) {
			reap_rx(s);
			usleep(50);
		}
	}
	right = nw_sum(got + UDP_AT, UDP_LEN, nw_sum(got + IP_AT + 12, 8, 17 + UDP_LEN)) == 0xffff;
	if (s->datagram_len != sizeof(f) || (s->datagram_header.flags & NEEDS_CSUM) != partial ||
	    right == partial)
		fail("a datagram of %u bytes, flags %u, its checksum is %s", s->datagram_len,
		     s->datagram_header.flags, right ? "whole" : "partial");
}

static void holds(struct net_script *s)
{
	probe(s, 0, own_mac, true);
	probe(s, 0, second_mac, true);
	probe(s, 0, foreign_mac, false);
	probe_checksum(s, false);
}

/* The session */

static void begin(struct net_script *s)
{
	const struct fe_spec spec = { .n_queues = NS_RINGS, .queue_size = 256, .inflight = true };

	MUST(fe_begin(&s->fe, s->socket, &spec));
	for (unsigned i = 0; i < NS_SLOTS; i++)
		s->out[i] = fe_memory_alloc(&s->fe.mem, SLOT_LEN, 64);
	s->command = fe_memory_alloc(&s->fe.mem, 512, 64);
	s->ack = fe_memory_alloc(&s->fe.mem, 64, 64);
	for (unsigned pair = 0; pair < 2; pair++) {
		for (unsigned i = 0; i < NS_BUFFERS; i++) {
			s->in[pair][i] = fe_memory_alloc(&s->fe.mem, NS_BUFFER_LEN, 64);
			post(s, pair, s->in[pair][i]);
		}
		fe_queue_publish(rx_of(s, pair));
		fe_queue_kick_always(rx_of(s, pair));
	}
}

/* Which pair a frame for the host's second queue comes to: a tap chooses its queue itself. */
static void second_queue(struct net_script *s, unsigned pair)
{
	if (probe(s, 1, own_mac, true) != pair && s->wire->port)
		fail("a frame of the second queue does not come to pair %u", pair);
}

static void stop_and_start(struct net_script *s)
{
	for (unsigned i = 0; i < NS_RINGS; i++) {
		struct fe_queue *q = &s->fe.queues[i];
		uint16_t base;

		MUST(fe_queue_stop(&s->fe, q, &base));
		must(s, "base is not used.idx", base != q->used->idx);
		MUST(fe_queue_start(&s->fe, q, base));
		MUST(fe_queue_enable(&s->fe, q, true));
		fe_queue_kick_always(q);
	}
}

static void end(struct net_script *s)
{
	uint32_t n_lost = 0;

	await_in(s, 0);
	ns_look(s);
	for (uint32_t n = 0; n < s->n_in; n++)
		n_lost += s->seen_in[n] == 0;
	if (n_lost > (s->n_deaths + 1) * s->lost_each)
		fail("%u frames for the driver are lost over %u deaths", n_lost, s->n_deaths + 1);
	for (unsigned i = 0; i < NS_RINGS; i++)
		must(s, "buffers come back that nobody gave", -(int)(s->fe.queues[i].n_bogus != 0));
	must(s, "connection lost", -(int)fe_gone(&s->fe));
	fe_close(&s->fe);
}

void ns_run(struct net_script *s)
{
	begin(s);
	flow_out(s, 64, 1);
	flow_in(s, 128);
	second_queue(s, 0);
	probe_checksum(s, true);
	set_pairs(s, 2);
	second_queue(s, 1);
	flow_out(s, 256, 2);
	set_filter(s);
	set_offloads(s, 0);
	holds(s);
	flow_in(s, 512);
	flow_out(s, 128, 2);
	holds(s);
	stop_and_start(s);
	second_queue(s, 1);
	holds(s);
	flow_in(s, 64);
	end(s);
}
