/*
 * The switch's fabric, by ports as vmdevd makes them: who gets which frame, with which tag; whose
 * frames are refused; and that a port's memory, whatever is in it, is nobody else's trouble.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/net/switch/fabric.h"
#include "devices/net/switch/head.h"
#include "tests/unit/unit.h"

enum { PORTS = 4, TYPE_TEST = 0x88b5, GSO_UDP_L4 = 5 };

/* A device's side of a port. */
struct side {
	struct lane_map map;
	struct lane in, out; /* from the switch, to it */
	int memory, kick, call;
	struct port *port;
};

static struct fabric fabric;
static struct side side[PORTS];

static struct port_spec spec_of(uint32_t i, uint32_t flags)
{
	return (struct port_spec){
		.id = i,
		.flags = flags | (flags & (CONTRACT_PORT_TAGGED | CONTRACT_PORT_UNTAGGED)
					  ? 0
					  : CONTRACT_PORT_TAGGED | CONTRACT_PORT_UNTAGGED),
		.mac = { 0x52, 0x54, 0, 0, 0, (uint8_t)i },
		.n_vlans = 1,
		.vlans = { { 1, 4094 } },
		.n_queues = 1,
		.name = "vm/net",
	};
}

static int add(uint32_t i, const struct port_spec *spec)
{
	int fds[3], r = 0;

	fds[0] = dup(side[i].memory);
	fds[1] = dup(side[i].kick);
	fds[2] = dup(side[i].call);
	side[i].port = port_new(spec, fds, &r);
	assert_non_null(side[i].port);
	r = fabric_add(&fabric, side[i].port);
	lane_open_writer(&side[i].out, &side[i].map, 0, LANE_TO_SWITCH);
	lane_open_reader(&side[i].in, &side[i].map, 0, LANE_TO_DEVICE);
	return r;
}

static void replug(uint32_t i, const struct port_spec *spec)
{
	assert_true(fabric_remove(&fabric, i));
	assert_int_equal(add(i, spec), 0);
}

static int setup(void **state)
{
	fabric_init(&fabric, 12345);
	for (uint32_t i = 0; i < PORTS; i++) {
		struct port_spec spec = spec_of(i, 0);

		side[i].memory = fd_open_memfd("port", contract_port_len(1), 0);
		side[i].kick = eventfd(0, EFD_NONBLOCK);
		side[i].call = eventfd(0, EFD_NONBLOCK);
		assert_int_equal(lane_map(&side[i].map, side[i].memory, 1), 0);
		assert_int_equal(add(i, &spec), 0);
	}
	return 0;
}

static int teardown(void **state)
{
	for (uint32_t i = 0; i < PORTS; i++) {
		fabric_remove(&fabric, i);
		lane_unmap(&side[i].map);
		close(side[i].memory);
		close(side[i].kick);
		close(side[i].call);
	}
	return 0;
}

/* ---- frames ---- */

struct frame {
	uint32_t len; /* with the header */
	uint8_t bytes[2048];
};

static uint8_t *at(struct frame *f, uint32_t offset)
{
	return f->bytes + LANE_HEADER_LEN + offset;
}

static void put_mac(uint8_t *p, uint32_t i)
{
	memcpy(p, (uint8_t[]){ 0x52, 0x54, 0, 0, 0, (uint8_t)i }, 6);
}

enum { TO_ALL = 0xff };

static struct frame make(uint32_t from, uint32_t to, uint32_t payload)
{
	struct frame f = { .len = LANE_MIN_LEN + payload };

	put_mac(at(&f, 0), to);
	if (to == TO_ALL)
		memset(at(&f, 0), 0xff, 6);
	put_mac(at(&f, 6), from);
	at(&f, 12)[0] = TYPE_TEST >> 8;
	at(&f, 12)[1] = TYPE_TEST & 0xff;
	for (uint32_t i = 0; i < payload; i++)
		at(&f, 14)[i] = (uint8_t)(i * 3);
	return f;
}

static struct frame tagged(struct frame f, uint16_t tag)
{
	memmove(at(&f, 16), at(&f, 12), f.len - LANE_HEADER_LEN - 12);
	memcpy(at(&f, 12), (uint8_t[]){ 0x81, 0, (uint8_t)(tag >> 8), (uint8_t)tag }, 4);
	f.len += 4;
	return f;
}

static void offload(struct frame *f, uint8_t flags, uint8_t gso, uint16_t size, uint16_t start)
{
	struct virtio_net_hdr_v1 v = { .flags = flags,
				       .gso_type = gso,
				       .gso_size = size,
				       .hdr_len = gso ? 54 : 0,
				       .csum_start = start,
				       .csum_offset = 16 };

	memcpy(f->bytes, &v, sizeof(v));
}

static void transmit(uint32_t i, const struct frame *f)
{
	void *p = lane_reserve(&side[i].out, f->len);

	assert_non_null(p);
	memcpy(p, f->bytes, f->len);
	lane_commit(&side[i].out, f->len);
	lane_publish(&side[i].out);
}

static void turn(void)
{
	while (fabric_turn(&fabric, 1000) > 0)
		;
}

static void pass(uint32_t i, struct frame f)
{
	transmit(i, &f);
	turn();
}

static bool receives(uint32_t i, const struct frame *f)
{
	uint32_t len;
	const void *p = lane_look(&side[i].in, &len);
	bool same;

	if (!p)
		return false;
	assert_int_equal(len, f->len);
	same = memcmp(p, f->bytes, len) == 0;
	assert_true(same);
	lane_next(&side[i].in);
	lane_release(&side[i].in);
	return true;
}

static void only(uint32_t mask, struct frame f)
{
	for (uint32_t i = 0; i < PORTS; i++)
		assert_int_equal(receives(i, &f), mask >> i & 1);
	for (uint32_t i = 0; i < PORTS; i++)
		assert_false(receives(i, &f));
}

/* Each port has sent something, and so is known. */
static void introduce(void)
{
	for (uint32_t i = 0; i < PORTS; i++) {
		struct frame f = make(i, TO_ALL, 46);

		pass(i, f);
		only(0xfu & ~(1u << i), f);
	}
}

/* ---- who gets what ---- */

static void unknown_goes_to_all_and_known_to_one(void **state)
{
	struct frame f = make(0, 2, 46);

	pass(0, f);
	only(0xe, f);
	f = make(2, 0, 46);
	pass(2, f);
	only(1, f);
	f = make(0, 2, 1400);
	pass(0, f);
	only(4, f);
}

static void groups_go_to_all(void **state)
{
	struct frame f = make(1, TO_ALL, 46);

	introduce();
	pass(1, f);
	only(0xd, f);
	f = make(1, 0, 46);
	memcpy(at(&f, 0), (uint8_t[]){ 0x33, 0x33, 0, 0, 0, 1 }, 6);
	pass(1, f);
	only(0xd, f);
}

static void what_is_for_bridges_goes_nowhere(void **state)
{
	struct frame f = make(1, 0, 46);

	memcpy(at(&f, 0), (uint8_t[]){ 0x01, 0x80, 0xc2, 0, 0, 0x0e }, 6);
	pass(1, f);
	only(0, f);
}

static void nothing_comes_back(void **state)
{
	struct frame f = make(1, 1, 46);

	introduce();
	pass(1, f);
	only(0, f);
}

static void an_address_moves(void **state)
{
	struct frame f = make(0, TO_ALL, 46);

	introduce();
	pass(3, f);
	only(7, f);
	f = make(1, 0, 46);
	pass(1, f);
	only(8, f);
}

static void all_lengths_arrive_as_they_were(void **state)
{
	introduce();
	for (uint32_t payload = 0; payload < 1600; payload++) {
		struct frame f = make(0, 1, payload);

		pass(0, f);
		only(2, f);
	}
}

static void a_long_one_arrives_as_it_was(void **state)
{
	uint8_t *bytes = malloc(LANE_MAX_LEN);
	struct frame f = make(0, 1, 46);
	uint32_t len;
	const void *p;

	introduce();
	offload(&f, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 1448, 34);
	for (uint32_t i = 0; i < LANE_MAX_LEN; i++)
		bytes[i] = (uint8_t)(i * 11);
	memcpy(bytes, f.bytes, LANE_MIN_LEN);
	memcpy(lane_reserve(&side[0].out, LANE_MAX_LEN), bytes, LANE_MAX_LEN);
	lane_commit(&side[0].out, LANE_MAX_LEN);
	lane_publish(&side[0].out);
	turn();
	p = lane_look(&side[1].in, &len);
	assert_non_null(p);
	assert_int_equal(len, LANE_MAX_LEN);
	assert_memory_equal(p, bytes, len);
	free(bytes);
}

static void a_port_that_does_not_read_holds_up_nobody(void **state)
{
	struct frame f = make(0, 1, 1400);
	uint32_t n = 0;

	introduce();
	for (uint32_t i = 0; i < 3000; i++)
		pass(0, f);
	assert_true(side[1].port->counters.n_full > 1000);
	f = make(0, 2, 1400);
	pass(0, f);
	assert_true(receives(2, &f));
	f = make(0, 1, 1400);
	while (receives(1, &f))
		n++;
	assert_int_equal(n + side[1].port->counters.n_full, 3000);
	pass(0, f);
	only(2, f);
}

static void transmit_long(uint32_t i, uint32_t to)
{
	struct frame head = make(i, to, 46);
	uint8_t *p = lane_reserve(&side[i].out, LANE_MAX_LEN - 4);

	assert_non_null(p);
	memset(p, 0, LANE_MAX_LEN - 4);
	memcpy(p, head.bytes, head.len);
	lane_commit(&side[i].out, LANE_MAX_LEN - 4);
}

/* The bytes that it makes count, wherever they go: those who come after it do not wait for all of it. */
static void a_flood_is_no_more_than_its_share_of_a_turn(void **state)
{
	struct frame f = make(1, 2, 46);
	uint32_t n;

	introduce();
	for (uint32_t i = 0; i < 12; i++)
		transmit_long(0, TO_ALL);
	lane_publish(&side[0].out);
	transmit(1, &f);
	n = fabric_turn(&fabric, 1000);
	assert_true(n > 1 && n - 1 <= FABRIC_BATCH_LEN / (3 * (LANE_MAX_LEN - 4)) + 1);
	turn();
	assert_int_equal(side[0].port->counters.n_in, 1 + 12);
}

static bool called(uint32_t i)
{
	uint64_t n;

	return read(side[i].call, &n, sizeof(n)) == sizeof(n);
}

static void who_sleeps_is_woken_however_many_come(void **state)
{
	struct frame f = make(0, 1, 46);

	introduce();
	for (uint32_t n = 1; n <= 4 * FABRIC_BATCH; n = n * 2 + 1) {
		(void)called(1);
		assert_true(lane_await(&side[1].in));
		for (uint32_t i = 0; i < n; i++)
			transmit(0, &f);
		turn();
		assert_true(called(1));
		assert_false(called(2));
		while (receives(1, &f))
			;
	}
}

/* ---- VLANs ---- */

static void without_vlans_tags_pass_as_they_are(void **state)
{
	struct frame f;

	introduce();
	f = tagged(make(0, 1, 100), 0x6000 | 42);
	pass(0, f);
	only(0xe, f); /* not known in this VLAN */
	f = tagged(make(1, 0, 100), 42);
	pass(1, f);
	only(1, f);
	f = tagged(make(0, 1, 100), 0x6000 | 42);
	pass(0, f);
	only(2, f);
}

static struct port_spec access_spec(uint32_t i, uint16_t vlan)
{
	struct port_spec s = spec_of(i, CONTRACT_PORT_UNTAGGED);

	s.n_vlans = 0;
	s.native = vlan;
	return s;
}

static struct port_spec trunk_spec(uint32_t i, uint16_t first, uint16_t last, uint16_t native)
{
	struct port_spec s =
		spec_of(i, CONTRACT_PORT_TAGGED | (native ? CONTRACT_PORT_UNTAGGED : 0));

	s.vlans[0].first = first;
	s.vlans[0].last = last;
	s.native = native;
	return s;
}

/* 0: access 10; 1: access 20; 2: trunk 10-19; 3: trunk 1-30, native 20. */
static void plug_vlans(void)
{
	struct port_spec specs[PORTS] = { access_spec(0, 10), access_spec(1, 20),
					  trunk_spec(2, 10, 19, 0), trunk_spec(3, 1, 30, 20) };

	for (uint32_t i = 0; i < PORTS; i++)
		replug(i, &specs[i]);
}

static void expect(uint32_t i, struct frame f)
{
	assert_true(receives(i, &f));
	assert_false(receives(i, &f));
}

static void access_ports_and_trunks_see_their_vlans(void **state)
{
	plug_vlans();
	pass(0, make(0, TO_ALL, 60));
	assert_false(receives(1, NULL));
	expect(2, tagged(make(0, TO_ALL, 60), 10));
	expect(3, tagged(make(0, TO_ALL, 60), 10));
	pass(1, make(1, TO_ALL, 60));
	assert_false(receives(0, NULL));
	assert_false(receives(2, NULL));
	expect(3, make(1, TO_ALL, 60));
	pass(3, tagged(make(3, 0, 60), 0xa000 | 10));
	expect(0, make(3, 0, 60));
	pass(2, tagged(make(2, 3, 60), 0xa000 | 10));
	expect(3, tagged(make(2, 3, 60), 0xa000 | 10));
	pass(3, make(3, 1, 60));
	expect(1, make(3, 1, 60));
}

static void what_is_of_another_vlan_is_dropped(void **state)
{
	struct frame f = tagged(make(0, TO_ALL, 60), 10);

	plug_vlans();
	pass(0, f); /* a tag at an access port, even of its VLAN */
	pass(0, tagged(make(0, TO_ALL, 60), 20));
	pass(2, make(2, TO_ALL, 60)); /* a trunk without a native VLAN */
	pass(2, tagged(make(2, TO_ALL, 60), 20));
	pass(3, tagged(make(3, TO_ALL, 60), 31));
	pass(3, tagged(make(3, TO_ALL, 60), 4095));
	only(0, f);
	assert_int_equal(side[0].port->counters.n_vlan, 2);
	assert_int_equal(side[2].port->counters.n_vlan, 2);
	assert_int_equal(side[3].port->counters.n_vlan, 2);
}

static void a_tag_of_vlan_0_is_a_priority(void **state)
{
	plug_vlans();
	pass(0, tagged(make(0, TO_ALL, 60), 0x6000));
	expect(2, tagged(make(0, TO_ALL, 60), 0x6000 | 10));
}

/* Else a trunk that has the port's VLAN without a tag would send the inner one. */
static void an_access_port_hides_no_second_tag(void **state)
{
	plug_vlans();
	pass(0, tagged(tagged(make(0, TO_ALL, 60), 20), 0x6000));
	pass(0, tagged(tagged(make(0, TO_ALL, 60), 20), 0));
	assert_int_equal(side[0].port->counters.n_vlan, 2);
	only(0, make(0, TO_ALL, 60));
}

/* The same from a trunk, in a VLAN that is its own, to one that has that VLAN without a tag: the inner tag would become the first. */
static void a_trunk_reaches_no_vlan_by_a_second_tag(void **state)
{
	const struct port_spec own = trunk_spec(2, 10, 20, 0);

	plug_vlans();
	replug(2, &own);
	pass(2, tagged(tagged(make(2, TO_ALL, 60), 25), 20));
	expect(3, tagged(tagged(make(2, TO_ALL, 60), 25), 20));
	assert_false(receives(1, NULL)); /* access 20: it sees no tags */
	assert_int_equal(side[1].port->counters.n_vlan, 1);
	pass(3, tagged(tagged(make(3, TO_ALL, 60), 15), 0));
	expect(2, tagged(tagged(make(3, TO_ALL, 60), 15), 20));
}

static void offsets_move_with_tags(void **state)
{
	struct frame f = make(0, TO_ALL, 200), g;

	plug_vlans();
	offload(&f, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 100, 34);
	pass(0, f);
	g = tagged(f, 10);
	offload(&g, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 100, 38);
	((struct virtio_net_hdr_v1 *)(void *)g.bytes)->hdr_len = 58;
	expect(2, g);
	put_mac(at(&g, 0), 0);
	put_mac(at(&g, 6), 2);
	pass(2, g);
	put_mac(at(&f, 0), 0);
	put_mac(at(&f, 6), 2);
	expect(0, f);
}

/* Of an untagged frame they would be in its addresses, or in front of it. */
static void offsets_in_a_tag_are_malformed(void **state)
{
	struct frame f = tagged(make(2, 0, 200), 10);

	plug_vlans();
	offload(&f, VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 17);
	pass(2, f);
	offload(&f, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 100, 38);
	((struct virtio_net_hdr_v1 *)(void *)f.bytes)->hdr_len = 17;
	pass(2, f);
	only(0, f);
	assert_int_equal(side[2].port->counters.n_malformed, 2);
}

/* ---- whose frames ---- */

static void bind_all(uint32_t n_addresses)
{
	for (uint32_t i = 0; i < PORTS; i++) {
		struct port_spec s = spec_of(i, CONTRACT_PORT_BOUND);
		uint8_t ipv4[16] = { [10] = 0xff, [11] = 0xff, 10, 0, 0, (uint8_t)i };
		uint8_t ipv6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = (uint8_t)i };

		s.n_addresses = n_addresses;
		memcpy(s.addresses[0], ipv4, 16);
		memcpy(s.addresses[1], ipv6, 16);
		replug(i, &s);
	}
}

static void a_bound_port_has_one_source(void **state)
{
	struct frame f = make(1, TO_ALL, 46);

	bind_all(0);
	pass(0, f);
	only(0, f);
	assert_int_equal(side[0].port->counters.n_forged, 1);
	f = make(0, 3, 46);
	pass(0, f);
	only(8, f);
}

static void what_is_for_others_is_never_shown_to_a_bound_port(void **state)
{
	struct port_spec open = spec_of(3, 0);
	struct frame f = make(0, 77, 46);

	bind_all(0);
	pass(0, f);
	only(0, f);
	replug(3, &open);
	pass(0, f);
	only(8, f);
}

static void nobody_gets_what_another_is_bound_to(void **state)
{
	struct port_spec s = spec_of(0, CONTRACT_PORT_BOUND),
			 other = spec_of(2, CONTRACT_PORT_BOUND);
	struct frame f = make(0, TO_ALL, 46);

	replug(0, &s);
	pass(1, f);
	only(0, f);
	assert_int_equal(side[1].port->counters.n_forged, 1);
	f = make(1, 0, 46);
	pass(1, f);
	only(1, f);
	memcpy(other.mac, s.mac, 6);
	fabric_remove(&fabric, 2);
	assert_int_equal(add(2, &other), -EADDRINUSE);
	other = spec_of(2, 0);
	assert_int_equal(add(2, &other), 0);
}

static void a_group_is_no_source(void **state)
{
	struct frame f = make(0, TO_ALL, 46);

	at(&f, 6)[0] |= 1;
	pass(0, f);
	only(0, f);
	assert_int_equal(side[0].port->counters.n_forged, 1);
}

static struct frame arp(uint32_t from, uint32_t sender_mac, uint32_t sender_ip)
{
	struct frame f = make(from, TO_ALL, 46);
	uint8_t *p = at(&f, 14);

	memcpy(at(&f, 12), (uint8_t[]){ 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1 }, 10);
	put_mac(p + 8, sender_mac);
	memcpy(p + 14, (uint8_t[]){ 10, 0, 0, (uint8_t)sender_ip }, 4);
	return f;
}

static void arp_speaks_for_its_port_alone(void **state)
{
	struct frame f = arp(1, 1, 77);

	bind_all(0);
	pass(1, f);
	only(0xd, f);
	pass(1, arp(1, 2, 77));
	only(0, f);
	bind_all(2);
	f = arp(1, 1, 1);
	pass(1, f);
	only(0xd, f);
	pass(1, arp(1, 1, 2));
	only(0, f);
	/* and one with a tag, or two */
	pass(1, tagged(arp(1, 1, 2), 5));
	pass(1, tagged(tagged(arp(1, 1, 2), 5), 5));
	only(0, f);
}

static struct frame ipv4(uint32_t from, uint32_t source)
{
	struct frame f = make(from, TO_ALL, 46);

	memcpy(at(&f, 12), (uint8_t[]){ 0x08, 0x00, 0x45 }, 3);
	memcpy(at(&f, 14) + 12, (uint8_t[]){ 10, 0, 0, (uint8_t)source }, 4);
	return f;
}

static void packets_have_sources_of_the_port_s(void **state)
{
	struct frame f = ipv4(1, 1);

	bind_all(2);
	pass(1, f);
	only(0xd, f);
	pass(1, ipv4(1, 3));
	only(0, f);
	f = ipv4(1, 0);
	memset(at(&f, 14) + 12, 0, 4); /* DHCP */
	pass(1, f);
	only(0xd, f);
	pass(1, make(1, TO_ALL, 46)); /* neither IP nor ARP */
	only(0, f);
}

struct ipv6 {
	uint32_t source; /* 2001:db8::source; 0: own link-local */
	uint8_t next;
	uint8_t payload[96];
	uint32_t len;
};

static struct frame ipv6(uint32_t from, struct ipv6 v)
{
	struct frame f = make(from, TO_ALL, 40 + v.len);
	uint8_t *p = at(&f, 14);

	memcpy(at(&f, 12), (uint8_t[]){ 0x86, 0xdd }, 2);
	memset(p, 0, 40);
	p[0] = 0x60;
	p[5] = (uint8_t)v.len;
	p[6] = v.next;
	if (v.source) {
		memcpy(p + 8, (uint8_t[]){ 0x20, 0x01, 0x0d, 0xb8 }, 4);
		p[23] = (uint8_t)v.source;
	} else {
		memcpy(p + 8, (uint8_t[]){ 0xfe, 0x80 }, 2);
		memcpy(p + 16, (uint8_t[]){ 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, (uint8_t)from }, 8);
	}
	memcpy(p + 40, v.payload, v.len);
	return f;
}

/* A neighbour advertisement of 2001:db8::target, with a link-layer address. */
static struct ipv6 advertisement(uint32_t source, uint32_t target, uint32_t mac)
{
	struct ipv6 v = { .source = source, .next = 58, .len = 32 };

	v.payload[0] = 136;
	memcpy(v.payload + 8, (uint8_t[]){ 0x20, 0x01, 0x0d, 0xb8 }, 4);
	v.payload[23] = (uint8_t)target;
	v.payload[24] = 2;
	v.payload[25] = 1;
	put_mac(v.payload + 26, mac);
	return v;
}

static void passes(uint32_t i, struct frame f, bool yes)
{
	pass(i, f);
	only(yes ? 0xfu & ~(1u << i) : 0, f);
}

static void neighbour_discovery_speaks_for_its_port_alone(void **state)
{
	struct ipv6 v;

	bind_all(2);
	passes(1, ipv6(1, advertisement(1, 1, 1)), true);
	passes(1, ipv6(1, advertisement(0, 1, 1)), true); /* from its link-local address */
	passes(1, ipv6(1, advertisement(2, 1, 1)), false);
	passes(1, ipv6(1, advertisement(1, 2, 1)), false);
	passes(1, ipv6(1, advertisement(1, 1, 2)), false);
	v = advertisement(1, 1, 1);
	v.payload[25] = 0; /* an option of no length */
	passes(1, ipv6(1, v), false);
	v = advertisement(1, 1, 1);
	v.payload[25] = 9; /* beyond the message */
	passes(1, ipv6(1, v), false);
	v = (struct ipv6){ .source = 0, .next = 58, .len = 16, .payload = { 134 } };
	passes(1, ipv6(1, v), false); /* no router */
	v = (struct ipv6){ .source = 1, .next = 58, .len = 16, .payload = { 128 } };
	passes(1, ipv6(1, v), true); /* an echo request */
	bind_all(0);
	passes(1, ipv6(1, advertisement(2, 2, 1)), true);
	passes(1, ipv6(1, advertisement(2, 2, 2)), false);
	v = (struct ipv6){ .next = 58, .len = 24, .payload = { 134, [16] = 1, [17] = 1 } };
	put_mac(v.payload + 18, 1);
	passes(1, ipv6(1, v), true); /* a router with its own address */
	put_mac(v.payload + 18, 2);
	passes(1, ipv6(1, v), false);
	v = (struct ipv6){ .next = 58, .len = 48, .payload = { 137, [40] = 2, [41] = 1 } };
	put_mac(v.payload + 42, 2);
	passes(1, ipv6(1, v), false); /* one that sends others to a third */
}

static void nothing_hides_behind_extension_headers(void **state)
{
	struct ipv6 v = { .source = 1, .next = 0, .len = 40, .payload = { 58, 0 } };

	bind_all(2);
	v.payload[8] = 143; /* a multicast listener report, which has one */
	passes(1, ipv6(1, v), true);
	v.payload[8] = 136;
	passes(1, ipv6(1, v), false);
	v.payload[0] = 60;
	v.payload[8] = 44;
	v.payload[16] = 58;
	v.payload[24] = 136;
	passes(1, ipv6(1, v), false);
	v.payload[24] = 1;
	passes(1, ipv6(1, v), true);
	v.payload[16] = 60; /* too many */
	passes(1, ipv6(1, v), false);
	v.payload[0] = 6;
	v.payload[1] = 200; /* longer than what is looked at */
	passes(1, ipv6(1, v), false);
}

/* ---- offloads ---- */

static void offloads_that_fit_pass(void **state)
{
	struct frame f = make(0, TO_ALL, 400);

	offload(&f, VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 34);
	passes(0, f, true);
	offload(&f, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN,
		100, 34);
	passes(0, f, true);
	offload(&f, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV6, 100, 54);
	passes(0, f, true);
	offload(&f, VIRTIO_NET_HDR_F_NEEDS_CSUM, GSO_UDP_L4, 100, 34);
	passes(0, f, true);
}

static void offloads_that_do_not_fit_are_dropped(void **state)
{
	static const struct {
		uint8_t flags, gso;
		uint16_t size, start;
	} bad[] = {
		{ 1, 0, 0, 13 },      /* a sum over the addresses */
		{ 1, 0, 0, 400 },     /* stored beyond the frame */
		{ 1, 0, 0, 65535 },   /* the same */
		{ 0, 1, 100, 34 },    /* segments without sums */
		{ 1, 1, 0, 34 },      /* of no size */
		{ 1, 2, 100, 34 },    /* no such type */
		{ 1, 3, 100, 34 },    /* not offered: UFO */
		{ 1, 0x80, 0, 34 },   /* ECN of nothing */
		{ 1, 0x85, 100, 34 }, /* of UDP */
		{ 1, 0xff, 100, 34 },
	};
	struct frame f = make(0, TO_ALL, 400);

	for (uint32_t i = 0; i < UNIT_N(bad); i++) {
		offload(&f, bad[i].flags, bad[i].gso, bad[i].size, bad[i].start);
		passes(0, f, false);
		assert_int_equal(side[0].port->counters.n_malformed, i + 1);
	}
	offload(&f, 1, 1, 100, 34);
	((struct virtio_net_hdr_v1 *)(void *)f.bytes)->hdr_len = 1000;
	passes(0, f, false);
}

static void what_only_a_device_says_is_taken_out(void **state)
{
	struct frame f = make(0, TO_ALL, 400), g = f;

	offload(&f, VIRTIO_NET_HDR_F_DATA_VALID, 0, 0, 34);
	((struct virtio_net_hdr_v1 *)(void *)f.bytes)->num_buffers = 77;
	pass(0, f);
	only(0xe, g);
}

/* ---- hostile memory ---- */

static void nonsense_in_a_port_is_its_own_trouble(void **state)
{
	struct frame f = make(1, 2, 46);

	introduce();
	srandom(11);
	for (uint32_t round = 0; round < 3000; round++) {
		struct lane_words *words = side[0].map.area->words[0];
		uint32_t *bytes = (uint32_t *)(void *)side[0].map.rings;

		for (uint32_t i = 0; i < 64; i++)
			bytes[(uint32_t)random() % (2 * LANE_RING_LEN / 4)] =
				random() % 2 ? (uint32_t)random() : (uint32_t)random() % 3000;
		words[LANE_TO_SWITCH].tail = (uint32_t)random() << random() % 8;
		words[LANE_TO_DEVICE].head = (uint32_t)random() << random() % 8;
		words[LANE_TO_SWITCH].head = (uint32_t)random();
		words[LANE_TO_DEVICE].tail = (uint32_t)random();
		side[0].map.area->n_active = (uint32_t)random();
		for (int i = 0; i < 20; i++)
			fabric_turn(&fabric, 1000);
		/* Frames that happened to be some may have gone anywhere. */
		for (uint32_t i = 1; i < PORTS; i++) {
			uint32_t len;

			while (lane_look(&side[i].in, &len))
				lane_next(&side[i].in);
			lane_release(&side[i].in);
		}
	}
	f = make(2, 1, 46);
	pass(2, f);
	(void)receives(0, &f);
	(void)receives(1, &f);
	(void)receives(3, &f);
	f = make(1, 2, 46);
	pass(1, f);
	assert_true(receives(2, &f));
}

static void a_new_switch_goes_on_with_the_same_ports(void **state)
{
	struct frame f = make(0, 1, 46);

	introduce();
	transmit(0, &f);
	fabric_turn(&fabric, 1000); /* delivered, not read yet */
	transmit(0, &f);	    /* not even looked at */
	for (uint32_t i = 0; i < PORTS; i++)
		fabric_remove(&fabric, i);
	fabric_init(&fabric, 999);
	for (uint32_t i = 0; i < PORTS; i++) {
		struct port_spec spec = spec_of(i, 0);
		struct lane in = side[i].in, out = side[i].out;

		assert_int_equal(add(i, &spec), 0);
		side[i].in = in;
		side[i].out = out;
	}
	turn();
	assert_true(receives(1, &f));
	assert_true(receives(1, &f));
	assert_false(receives(1, &f));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(unknown_goes_to_all_and_known_to_one),
		CASE(groups_go_to_all),
		CASE(what_is_for_bridges_goes_nowhere),
		CASE(nothing_comes_back),
		CASE(an_address_moves),
		CASE(all_lengths_arrive_as_they_were),
		CASE(a_long_one_arrives_as_it_was),
		CASE(a_port_that_does_not_read_holds_up_nobody),
		CASE(a_flood_is_no_more_than_its_share_of_a_turn),
		CASE(who_sleeps_is_woken_however_many_come),
		CASE(without_vlans_tags_pass_as_they_are),
		CASE(access_ports_and_trunks_see_their_vlans),
		CASE(what_is_of_another_vlan_is_dropped),
		CASE(a_tag_of_vlan_0_is_a_priority),
		CASE(an_access_port_hides_no_second_tag),
		CASE(a_trunk_reaches_no_vlan_by_a_second_tag),
		CASE(offsets_move_with_tags),
		CASE(offsets_in_a_tag_are_malformed),
		CASE(a_bound_port_has_one_source),
		CASE(what_is_for_others_is_never_shown_to_a_bound_port),
		CASE(nobody_gets_what_another_is_bound_to),
		CASE(a_group_is_no_source),
		CASE(arp_speaks_for_its_port_alone),
		CASE(packets_have_sources_of_the_port_s),
		CASE(neighbour_discovery_speaks_for_its_port_alone),
		CASE(nothing_hides_behind_extension_headers),
		CASE(offloads_that_fit_pass),
		CASE(offloads_that_do_not_fit_are_dropped),
		CASE(what_only_a_device_says_is_taken_out),
		CASE(nonsense_in_a_port_is_its_own_trouble),
		CASE(a_new_switch_goes_on_with_the_same_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
