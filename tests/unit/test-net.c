/* Frames and their headers: what may be sent, what is cut up, what a driver may ask for. */
#include <string.h>

#include "devices/net/control.h"
#include "devices/net/header.h"
#include "devices/net/host.h"
#include "devices/net/segment.h"
#include "tests/unit/unit.h"

enum { ETH = 14, IP4 = 20, IP6 = 40, TCP = 20, UDP = 8 };

static uint8_t frame[NET_MAX_FRAME_LEN + 16], out[NET_MAX_FRAME_LEN];
static const struct header_rules all = { true, true, true, true, true, true };

/* An IPv4 or IPv6 frame of len bytes, TCP or UDP, with what is needed of it and a payload that tells places apart. */
static uint32_t make(bool v6, uint8_t protocol, uint32_t len)
{
	uint32_t l4 = ETH + (v6 ? IP6 : IP4);

	memset(frame, 0, sizeof(frame));
	for (uint32_t i = l4; i < len; i++)
		frame[i] = (uint8_t)(i * 7 + i / 256);
	frame_put_u16(frame + 12, v6 ? FRAME_IPV6 : FRAME_IPV4);
	frame[ETH] = v6 ? 0x60 : 0x45;
	if (v6) {
		frame_put_u16(frame + ETH + 4, (uint16_t)(len - l4));
		frame[ETH + 6] = protocol;
		memset(frame + ETH + 8, 0x20, 32);
	} else {
		frame_put_u16(frame + ETH + 2, (uint16_t)(len - ETH));
		frame[ETH + 9] = protocol;
		memset(frame + ETH + 12, 0x0a, 8);
	}
	memset(frame + l4, 0, protocol == FRAME_TCP ? TCP : UDP);
	if (protocol == FRAME_TCP) {
		frame_put_u32(frame + l4 + 4, 0xfffffff0u);
		frame[l4 + 12] = 0x50;
		frame[l4 + 13] = 0x99; /* CWR, ACK, PSH, FIN */
	}
	return l4;
}

static struct net_header gso(uint8_t type, uint16_t size, uint32_t l4)
{
	return (struct net_header){ .flags = NET_HDR_F_NEEDS_CSUM,
				    .gso_type = type,
				    .gso_size = size,
				    .csum_start = (uint16_t)l4,
				    .csum_offset = type == NET_HDR_GSO_UDP_L4 ? 6 : 16 };
}

static enum header_verdict check(struct net_header h, uint32_t len,
				 const struct header_rules *rules)
{
	return header_check(&h, frame, len, rules);
}

static void plain_frames_pass_and_runts_and_giants_do_not(void **state)
{
	struct net_header h = { .hdr_len = 77, .gso_size = 5, .num_buffers = 9, .csum_start = 3 };

	make(false, FRAME_TCP, 60);
	assert_int_equal(header_check(&h, frame, 60, &all), HEADER_OK);
	assert_int_equal(h.hdr_len | h.gso_size | h.num_buffers | h.csum_start, 0);
	assert_int_equal(check((struct net_header){ 0 }, 13, &all), HEADER_RUNT);
	assert_int_equal(check((struct net_header){ 0 }, 14, &all), HEADER_OK);
	assert_int_equal(check((struct net_header){ 0 }, NET_MAX_FRAME_LEN + 1, &all),
			 HEADER_TOO_LONG);
}

static void a_partial_checksum_lies_within_the_frame(void **state)
{
	static const struct header_rules none = { 0 };
	struct net_header h = { .flags = NET_HDR_F_NEEDS_CSUM,
				.csum_start = 34,
				.csum_offset = 16 };

	make(false, FRAME_TCP, 60);
	assert_int_equal(check(h, 60, &all), HEADER_OK);
	assert_int_equal(check(h, 60, &none), HEADER_CSUM);
	assert_int_equal(check(h, 52, &all), HEADER_OK);
	assert_int_equal(check(h, 51, &all), HEADER_CSUM);
	h.csum_start = 13;
	assert_int_equal(check(h, 60, &all), HEADER_CSUM);
	h = (struct net_header){ .flags = NET_HDR_F_NEEDS_CSUM,
				 .csum_start = 0xffff,
				 .csum_offset = 0xffff };
	assert_int_equal(check(h, 60, &all), HEADER_CSUM);
}

static void segmentation_is_what_the_frame_is(void **state)
{
	uint32_t l4 = make(false, FRAME_TCP, 4000);
	struct net_header h = gso(NET_HDR_GSO_TCPV4, 1400, l4);

	assert_int_equal(header_check(&h, frame, 4000, &all), HEADER_OK);
	assert_int_equal(h.hdr_len, l4 + TCP);
	assert_int_equal(check(gso(NET_HDR_GSO_TCPV6, 1400, l4), 4000, &all), HEADER_GSO_FRAME);
	assert_int_equal(check(gso(NET_HDR_GSO_UDP_L4, 1400, l4), 4000, &all), HEADER_GSO_FRAME);
	assert_int_equal(check(gso(NET_HDR_GSO_TCPV4, 0, l4), 4000, &all), HEADER_GSO_SIZE);
	assert_int_equal(check(gso(NET_HDR_GSO_TCPV4, 47, l4), 4000, &all), HEADER_GSO_SIZE);
	assert_int_equal(check(gso(NET_HDR_GSO_TCPV4, 1400, l4 + 1), 4000, &all), HEADER_GSO_FRAME);
	assert_int_equal(check(gso(9, 1400, l4), 4000, &all), HEADER_GSO_TYPE);
	h = gso(NET_HDR_GSO_TCPV4, 1400, l4);
	h.hdr_len = 4001;
	assert_int_equal(check(h, 4000, &all), HEADER_HDR_LEN);
	h = gso(NET_HDR_GSO_TCPV4, 1400, l4);
	h.flags = 0;
	assert_int_equal(check(h, 4000, &all), HEADER_GSO_TYPE);
	/* A data offset beyond the frame, a fragment. */
	frame[l4 + 12] = 0xf0;
	assert_int_equal(check(gso(NET_HDR_GSO_TCPV4, 1400, l4), l4 + 40, &all), HEADER_GSO_FRAME);
	frame[l4 + 12] = 0x50;
	frame[ETH + 6] = 0x20;
	assert_int_equal(check(gso(NET_HDR_GSO_TCPV4, 1400, l4), 4000, &all), HEADER_GSO_FRAME);
}

static void segmentation_needs_to_be_agreed_on(void **state)
{
	struct header_rules rules = all;
	uint32_t l4 = make(true, FRAME_TCP, 4000);

	assert_int_equal(check(gso(NET_HDR_GSO_TCPV6, 1400, l4), 4000, &rules), HEADER_OK);
	rules.tso6 = false;
	assert_int_equal(check(gso(NET_HDR_GSO_TCPV6, 1400, l4), 4000, &rules), HEADER_GSO_TYPE);
	rules = all;
	rules.ecn = false;
	assert_int_equal(check(gso(NET_HDR_GSO_TCPV6 | NET_HDR_GSO_ECN, 1400, l4), 4000, &rules),
			 HEADER_GSO_TYPE);
	l4 = make(true, FRAME_UDP, 4000);
	assert_int_equal(check(gso(NET_HDR_GSO_UDP_L4, 1000, l4), 4000, &rules), HEADER_OK);
	assert_int_equal(check(gso(NET_HDR_GSO_UDP_L4, 30, l4), 4000, &rules), HEADER_GSO_SIZE);
	rules.uso4 = rules.uso6 = false;
	assert_int_equal(check(gso(NET_HDR_GSO_UDP_L4, 1000, l4), 4000, &rules), HEADER_GSO_TYPE);
}

static void one_segment_is_no_segmentation(void **state)
{
	uint32_t l4 = make(false, FRAME_TCP, 1000);
	struct net_header h = gso(NET_HDR_GSO_TCPV4, 1400, l4);

	assert_int_equal(header_check(&h, frame, 1000, &all), HEADER_OK);
	assert_int_equal(h.gso_type, NET_HDR_GSO_NONE);
	assert_int_equal(h.gso_size, 0);
}

/* The checksum over pseudo header and all, as a receiver makes it: 0xffff. */
static uint32_t received_sum(const uint8_t *p, uint32_t len, bool v6)
{
	uint32_t l4 = ETH + (v6 ? IP6 : IP4), sum = len - l4 + p[ETH + (v6 ? 6 : 9)];

	sum = segment_sum(p + ETH + (v6 ? 8 : 12), v6 ? 32 : 8, sum);
	return segment_sum(p + l4, len - l4, sum);
}

static void cut_up(bool v6, uint8_t protocol, uint8_t type, uint32_t len)
{
	uint32_t l4 = make(v6, protocol, len), head = l4 + (protocol == FRAME_TCP ? TCP : UDP);
	struct net_header h = gso(type, 1000, l4);
	uint32_t n = 0, done = 0, got;
	struct segment s;

	assert_true(segment_begin(&s, &h, frame, len));
	while ((got = segment_next(&s, out)) > 0) {
		bool last = done + got - head == len - head;

		assert_int_equal(got, last ? head + (len - head - done) : head + 1000);
		assert_memory_equal(out + head, frame + head + done, got - head);
		assert_int_equal(received_sum(out, got, v6), 0xffff);
		if (v6) {
			assert_int_equal(frame_u16(out + ETH + 4), got - l4);
		} else {
			assert_int_equal(frame_u16(out + ETH + 2), got - ETH);
			assert_int_equal(frame_u16(out + ETH + 4), n);
			assert_int_equal(segment_sum(out + ETH, IP4, 0), 0xffff);
		}
		if (protocol == FRAME_TCP) {
			assert_int_equal(frame_u32(out + l4 + 4), 0xfffffff0u + done);
			assert_int_equal(out[l4 + 13],
					 0x10 | (n == 0 ? 0x80 : 0) | (last ? 0x09 : 0));
		} else {
			assert_int_equal(frame_u16(out + l4 + 4), got - l4);
		}
		done += got - head;
		n++;
	}
	assert_int_equal(done, len - head);
	assert_true(n > 1);
}

static void segments_are_whole_frames(void **state)
{
	cut_up(false, FRAME_TCP, NET_HDR_GSO_TCPV4, 65535 + ETH);
	cut_up(true, FRAME_TCP, NET_HDR_GSO_TCPV6, 5001);
	cut_up(false, FRAME_UDP, NET_HDR_GSO_UDP_L4, 4000);
	cut_up(true, FRAME_UDP, NET_HDR_GSO_UDP_L4, ETH + IP6 + UDP + 3000);
}

static void a_partial_checksum_is_made(void **state)
{
	uint32_t l4 = make(false, FRAME_UDP, 333), sum;
	struct net_header h = { .flags = NET_HDR_F_NEEDS_CSUM,
				.csum_start = (uint16_t)l4,
				.csum_offset = 6 };
	struct segment s;

	/* The pseudo header's sum stands in the field. */
	sum = segment_sum(frame + ETH + 12, 8, 333 - l4 + FRAME_UDP);
	frame_put_u16(frame + l4 + 6, (uint16_t)sum);
	assert_true(segment_begin(&s, &h, frame, 333));
	assert_int_equal(segment_next(&s, out), 333);
	assert_int_equal(received_sum(out, 333, false), 0xffff);
	assert_int_equal(segment_next(&s, out), 0);
}

/* Control */

static struct control_store store;
static const struct control_rules rules = { .features = ~UINT64_C(0), .max_pairs = 4 };
static const uint8_t own[6] = { 0x52, 0x54, 0, 1, 2, 3 };

static uint8_t command_by(const struct control_rules *by, const void *bytes, uint32_t len)
{
	/* One byte an element: wherever a driver cuts. */
	struct iovec iov[512];

	for (uint32_t i = 0; i < len; i++)
		iov[i] = (struct iovec){ (uint8_t *)(uintptr_t)bytes + i, 1 };
	return control_command(&store, by, iov, len, len);
}

static uint8_t command(const void *bytes, uint32_t len)
{
	return command_by(&rules, bytes, len);
}

/* VIRTIO 1.3 §5.1.6.5. */
static void each_command_needs_its_own_feature(void **state)
{
	static const uint8_t promisc[] = { 0, 0, 1 }, alluni[] = { 0, 2, 1 };
	static const uint8_t table[] = { 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
	static const uint8_t address[] = { 1, 1, 0x52, 0x54, 0, 1, 2, 4 };
	struct control_rules by = { .max_pairs = 4, .features = NET_F_CTRL_RX };

	control_reset(&store, 1);
	assert_int_equal(command_by(&by, promisc, sizeof(promisc)), CONTROL_OK);
	assert_int_equal(command_by(&by, table, sizeof(table)), CONTROL_OK);
	assert_int_equal(command_by(&by, alluni, sizeof(alluni)), CONTROL_ERR);
	assert_int_equal(command_by(&by, address, sizeof(address)), CONTROL_ERR);
	by.features = NET_F_CTRL_MAC_ADDR;
	assert_int_equal(command_by(&by, address, sizeof(address)), CONTROL_OK);
	assert_int_equal(command_by(&by, table, sizeof(table)), CONTROL_ERR);
	assert_int_equal(command_by(&by, promisc, sizeof(promisc)), CONTROL_ERR);
	by.features = NET_F_CTRL_RX_EXTRA;
	assert_int_equal(command_by(&by, alluni, sizeof(alluni)), CONTROL_OK);
	assert_int_equal(command_by(&by, promisc, sizeof(promisc)), CONTROL_ERR);
}

#define COMMAND(...) command((const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))

static bool accepts(const uint8_t *mac)
{
	uint8_t head[16] = { 0 };

	memcpy(head, mac, 6);
	return control_accepts(control_current(&store), ~UINT64_C(0), own, head, sizeof(head));
}

static void a_driver_is_sent_what_it_asked_for(void **state)
{
	static const uint8_t other[6] = { 0x52, 0, 0, 0, 0, 1 }, group[6] = { 1, 2, 3, 4, 5, 6 },
			     everybody[6] = { 255, 255, 255, 255, 255, 255 };

	control_reset(&store, 1);
	assert_true(accepts(other)); /* nothing has been said */
	assert_int_equal(COMMAND(0, 0, 0), CONTROL_OK);
	assert_true(accepts(own) && accepts(everybody));
	assert_false(accepts(other) || accepts(group));
	assert_int_equal(
		COMMAND(1, 0, 1, 0, 0, 0, 0x52, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6),
		CONTROL_OK);
	assert_true(accepts(other) && accepts(group));
	assert_int_equal(COMMAND(0, 5, 1), CONTROL_OK);
	assert_false(accepts(everybody));
	assert_int_equal(COMMAND(0, 0, 1), CONTROL_OK);
	assert_true(accepts(everybody));
}

static void tags_are_filtered(void **state)
{
	uint8_t head[16] = { 0x52, 0x54, 0, 1, 2, 3, [12] = 0x81, [14] = 0x20, [15] = 7 };

	control_reset(&store, 1);
	assert_int_equal(COMMAND(0, 0, 0), CONTROL_OK);
	assert_false(control_accepts(control_current(&store), ~UINT64_C(0), own, head, 16));
	assert_int_equal(COMMAND(2, 0, 7, 0), CONTROL_OK);
	assert_true(control_accepts(control_current(&store), ~UINT64_C(0), own, head, 16));
	assert_int_equal(COMMAND(2, 1, 7, 0), CONTROL_OK);
	assert_false(control_accepts(control_current(&store), ~UINT64_C(0), own, head, 16));
	assert_int_equal(COMMAND(2, 0, 0, 16), CONTROL_ERR);
}

static void commands_that_make_no_sense_change_nothing(void **state)
{
	struct control_state before;

	control_reset(&store, 1);
	before = *control_current(&store);
	assert_int_equal(command("", 0), CONTROL_ERR);
	assert_int_equal(COMMAND(0), CONTROL_ERR);
	assert_int_equal(COMMAND(9, 0, 0), CONTROL_ERR);
	assert_int_equal(COMMAND(0, 6, 1), CONTROL_ERR);
	assert_int_equal(COMMAND(0, 0, 2), CONTROL_ERR);
	assert_int_equal(COMMAND(0, 0, 1, 1), CONTROL_ERR);
	assert_int_equal(COMMAND(1, 0, 255, 255, 255, 255), CONTROL_ERR);
	assert_int_equal(COMMAND(1, 0, 0, 0, 0, 0), CONTROL_ERR);
	assert_int_equal(COMMAND(1, 1, 1, 0, 0, 0, 0, 0), CONTROL_ERR);
	assert_int_equal(COMMAND(4, 0, 0, 0), CONTROL_ERR);
	assert_int_equal(COMMAND(4, 0, 5, 0), CONTROL_ERR);
	assert_int_equal(COMMAND(5, 0, 1, 0, 0, 0, 0, 0, 0, 0), CONTROL_ERR);
	assert_memory_equal(&before, control_current(&store), sizeof(before));
	assert_int_equal(COMMAND(4, 0, 4, 0), CONTROL_OK);
	assert_int_equal(control_current(&store)->pairs, 4);
	assert_int_equal(COMMAND(5, 0, 2, 0, 0, 0, 0, 0, 0, 0), CONTROL_OK);
	assert_int_equal(control_current(&store)->offloads, 2);
}

static void a_store_that_cannot_be_is_refused(void **state)
{
	control_reset(&store, 1);
	assert_true(control_check(&store, 4));
	store.slot[store.current].pairs = 5;
	assert_false(control_check(&store, 4));
	store.slot[store.current].pairs = 1;
	store.slot[store.current].unicast.n = CONTROL_MAX_MACS + 1;
	assert_false(control_check(&store, 4));
	store = (struct control_store){ .current = 2 };
	assert_false(control_check(&store, 4));
	store.current = 0;
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(plain_frames_pass_and_runts_and_giants_do_not),
		TEST(a_partial_checksum_lies_within_the_frame),
		TEST(segmentation_is_what_the_frame_is),
		TEST(segmentation_needs_to_be_agreed_on),
		TEST(one_segment_is_no_segmentation),
		TEST(segments_are_whole_frames),
		TEST(a_partial_checksum_is_made),
		TEST(a_driver_is_sent_what_it_asked_for),
		TEST(tags_are_filtered),
		TEST(commands_that_make_no_sense_change_nothing),
		TEST(each_command_needs_its_own_feature),
		TEST(a_store_that_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
