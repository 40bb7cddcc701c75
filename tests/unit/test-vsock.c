/* What the vsock device reads from others: CONNECT lines, packet headers, lists of ports, a dead worker's state. */
#include <stdlib.h>
#include <string.h>

#include "devices/vsock/line.h"
#include "devices/vsock/packet.h"
#include "devices/vsock/vsock.h"
#include "tests/unit/unit.h"

static int line(const char *text, uint32_t *ret_port)
{
	return line_parse((const uint8_t *)text, (uint32_t)strlen(text), ret_port);
}

static void a_line_is_taken_whole_and_nothing_after_it(void **state)
{
	uint32_t port = 0;

	assert_int_equal(line("CONNECT 1024\n", &port), 13);
	assert_int_equal(port, 1024);
	assert_int_equal(line("CONNECT 7\r\nand more", &port), 11);
	assert_int_equal(port, 7);
	assert_int_equal(line("CONNECT 4294967295\n", &port), 19);
	assert_int_equal(port, UINT32_MAX);
}

/* Firecracker, Cloud Hypervisor and vhost-device-vsock each take some of these. */
static void a_line_is_what_other_vmms_take_for_one(void **state)
{
	static const char *const good[] = {
		"connect 52\n",	 "Connect 52\n",  "CONNECT  52\n",
		"CONNECT\t52\n", "CONNECT 52 \n", "CONNECT 52 \r\n",
	};

	for (size_t i = 0; i < UNIT_N(good); i++) {
		uint32_t port = 0;

		assert_int_equal(line(good[i], &port), strlen(good[i]));
		assert_int_equal(port, 52);
	}
}

static void the_beginning_of_a_line_is_waited_for(void **state)
{
	static const char text[] = "CONNECT 1024";
	uint32_t port;

	for (uint32_t len = 0; len < sizeof(text); len++)
		assert_int_equal(line_parse((const uint8_t *)text, len < 12 ? len : 12, &port),
				 LINE_MORE);
}

static void anything_else_is_no_line(void **state)
{
	static const char *const bad[] = {
		"CONNECT\n",
		"CONNECT \n",
		"CONNECT -1\n",
		"CONNECT 4294967296\n",
		"CONNECT 1 2\n",
		"CONNECTED 1\n",
		" CONNECT 1\n",
		"GET / HTTP/1.0\r\n",
		"\n",
		"CONNECT 0x10\n",
		"CONNECT1\n",
		"CONNECT +1\n",
		"CONNECT 11111111111111111111111111111111111111",
	};
	uint32_t port;

	for (size_t i = 0; i < UNIT_N(bad); i++)
		assert_int_equal(line(bad[i], &port), LINE_BAD);
}

static void ports_are_those_of_the_list(void **state)
{
	struct port_list list;

	assert_int_equal(port_list_parse(&list, "22,5000-5999"), 0);
	assert_true(port_allowed(&list, 22));
	assert_true(port_allowed(&list, 5000));
	assert_true(port_allowed(&list, 5999));
	assert_false(port_allowed(&list, 6000));
	assert_int_equal(port_list_parse(&list, "all"), 0);
	assert_true(port_allowed(&list, UINT32_MAX));
	assert_int_equal(port_list_parse(&list, "none"), 0);
	assert_false(port_allowed(&list, 0));
	assert_true(port_list_parse(&list, "5-4") < 0);
	assert_true(port_list_parse(&list, "") < 0);
	assert_true(port_list_parse(&list, "1,,2") < 0);
}

static void a_header_may_lie_in_pieces(void **state)
{
	uint8_t bytes[PACKET_HEADER_LEN + 10] = { 0 };
	struct iovec whole = { bytes, sizeof(bytes) };
	struct iovec pieces[] = { { bytes, 1 },
				  { bytes + 1, 42 },
				  { bytes + 43, sizeof(bytes) - 43 } };
	struct packet p = { .src_cid = 42,
			    .dst_cid = 2,
			    .src_port = 7,
			    .dst_port = UINT32_MAX,
			    .len = 10,
			    .type = VIRTIO_VSOCK_TYPE_STREAM,
			    .op = VIRTIO_VSOCK_OP_RW,
			    .flags = 3,
			    .buf_alloc = 5,
			    .fwd_cnt = 6 },
		      got;

	packet_store(&p, pieces, 3);
	assert_int_equal(packet_load(&got, &whole, 1, sizeof(bytes)), PACKET_OK);
	/* All but what pads the end. */
	assert_memory_equal(&got, &p, offsetof(struct packet, fwd_cnt) + sizeof(p.fwd_cnt));
	p.len = 11;
	packet_store(&p, &whole, 1);
	assert_int_equal(packet_load(&got, pieces, 3, sizeof(bytes)), PACKET_CUT);
	assert_int_equal(packet_load(&got, pieces, 2, 43), PACKET_SHORT);
	p.op = 8;
	packet_store(&p, &whole, 1);
	assert_int_equal(packet_load(&got, &whole, 1, sizeof(bytes)), PACKET_OP);
	p.type = 3;
	packet_store(&p, &whole, 1);
	assert_int_equal(packet_load(&got, &whole, 1, sizeof(bytes)), PACKET_TYPE);
}

static void trimming_leaves_exactly_the_payload(void **state)
{
	uint8_t bytes[100];
	struct iovec iov[] = { { bytes, 30 }, { bytes + 30, 30 }, { bytes + 60, 40 } };

	packet_trim(iov, 3, 44, 20);
	assert_int_equal(iov[0].iov_len, 0);
	assert_int_equal(iov[1].iov_len, 16);
	assert_ptr_equal(iov[1].iov_base, bytes + 44);
	assert_int_equal(iov[2].iov_len, 4);
	assert_ptr_equal(iov[2].iov_base, bytes + 60);
}

static void a_state_that_cannot_be_is_refused(void **state)
{
	static struct store s;

	assert_true(store_check(&s));
	s.n_conns = STORE_CONNS + 1;
	assert_false(store_check(&s));
	s.n_conns = 1;
	s.conns[0] =
		(struct conn){ .state = CONN_OPEN, .fd = 100, .type = VIRTIO_VSOCK_TYPE_STREAM };
	assert_true(store_check(&s));
	s.conns[0].fd = CONTRACT_FD_PROGRAM;
	assert_false(store_check(&s));
	s.conns[0].fd = 100;
	s.conns[0].forwarded = 5;
	assert_false(store_check(&s));
	s.hand = (struct hand){
		.kind = HAND_RUN, .len = 5, .n_heads = 1, .lens = { 5 }, .part = { .msg_len = 5 }
	};
	assert_true(store_check(&s));
	s.hand.part.msg_len = 6;
	assert_false(store_check(&s));
	s.hand.kind = HAND_NONE;
	s.conns[0].forwarded = 0;
	s.conns[0].taken = STORE_BUFFER_LEN + 1;
	assert_false(store_check(&s));
	s.conns[0].taken = 0;
	s.slots[3] = (struct slot){ .kind = SLOT_DATA, .conn = STORE_CONNS };
	assert_false(store_check(&s));
}

static struct store sound;

/* Two connections, and a run of two packets for the second one. */
static void make_sound(void)
{
	memset(&sound, 0, offsetof(struct store, ends));
	sound.n_conns = 2;
	for (int i = 0; i < 2; i++)
		sound.conns[i] = (struct conn){ .state = CONN_OPEN,
						.fd = 100 + i,
						.type = VIRTIO_VSOCK_TYPE_STREAM };
	sound.hand = (struct hand){ .kind = HAND_RUN,
				    .conn = 1,
				    .len = 10,
				    .n_heads = 2,
				    .heads = { 3, 4 },
				    .lens = { 4, 6 } };
	assert_true(store_check(&sound));
}

static void what_is_in_hand_has_to_add_up(void **state)
{
	make_sound();
	sound.hand.heads[1] = QUEUE_MAX_SIZE;
	assert_false(store_check(&sound));
	make_sound();
	sound.hand.lens[1] = 7; /* more than the run */
	assert_false(store_check(&sound));
	make_sound();
	sound.hand.lens[0] = UINT32_MAX - 1; /* and it wraps */
	sound.hand.lens[1] = 12;
	assert_false(store_check(&sound));
	make_sound();
	sound.hand.n_heads = 0;
	assert_false(store_check(&sound));
	make_sound();
	sound.hand.conn = 2; /* of which nothing is known */
	assert_false(store_check(&sound));
	make_sound();
	sound.hand = (struct hand){ .kind = HAND_CREATE, .conn = 1, .heads = { QUEUE_MAX_SIZE } };
	assert_false(store_check(&sound));
}

static void a_run_has_room_behind_what_is_buffered(void **state)
{
	make_sound();
	sound.conns[1].taken = sound.hand.start = STORE_BUFFER_LEN - 10;
	assert_true(store_check(&sound));
	sound.conns[1].taken = sound.hand.start = STORE_BUFFER_LEN - 9;
	assert_false(store_check(&sound));
	/* Between its last stores. */
	make_sound();
	sound.conns[1].taken = sound.conns[1].forwarded = 10;
	assert_true(store_check(&sound));
	sound.conns[1].taken = sound.conns[1].forwarded = 11;
	assert_false(store_check(&sound));
}

static void a_descriptor_is_of_one_connection(void **state)
{
	make_sound();
	sound.conns[0].fd = sound.conns[1].fd;
	assert_false(store_check(&sound));
	sound.conns[0].fd = sound.conns[1].fd = -1;
	assert_true(store_check(&sound));
}

static void what_is_on_its_way_is_of_a_known_connection(void **state)
{
	make_sound();
	sound.slots[5] = (struct slot){ .kind = SLOT_CONTROL, .conn = 2 };
	assert_false(store_check(&sound));
	sound.slots[5].conn = 1;
	assert_true(store_check(&sound));
	sound.conns[0].pending = DUE_RST << 1;
	assert_false(store_check(&sound));
	make_sound();
	sound.reset_due = STORE_RESET_IN + QUEUE_MAX_SIZE;
	assert_false(store_check(&sound));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_taken_whole_and_nothing_after_it),
		cmocka_unit_test(a_line_is_what_other_vmms_take_for_one),
		cmocka_unit_test(the_beginning_of_a_line_is_waited_for),
		cmocka_unit_test(anything_else_is_no_line),
		cmocka_unit_test(ports_are_those_of_the_list),
		cmocka_unit_test(a_header_may_lie_in_pieces),
		cmocka_unit_test(trimming_leaves_exactly_the_payload),
		cmocka_unit_test(a_state_that_cannot_be_is_refused),
		cmocka_unit_test(what_is_in_hand_has_to_add_up),
		cmocka_unit_test(a_run_has_room_behind_what_is_buffered),
		cmocka_unit_test(a_descriptor_is_of_one_connection),
		cmocka_unit_test(what_is_on_its_way_is_of_a_known_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
