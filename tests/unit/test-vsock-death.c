/*
 * The vsock device at what crash points do not reach: a guest that changes what its device was about while nobody served it, requests
 * that crash it, letters that were acted on already, states that no worker of ours would leave; and at what the script of
 * frontend-vsock-crash does not send.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/process/worker.h"
#include "devices/vsock/rx.h"
#include "tests/unit/unit.h"
#include "tests/unit/vsock-bench.h"

enum { PORT = 1024, TEXT_LEN = 6, LETTER_LEN = 24 /* of an INCOMING */ };

static const uint8_t text[TEXT_LEN] = "abcdef";

static int send_data(uint32_t port, const void *bytes, uint32_t len)
{
	struct virtio_vsock_hdr h = bench_header(VIRTIO_VSOCK_OP_RW, port, BENCH_HOST_PORT);

	h.len = len;
	return bench_send(&h, bytes, len);
}

/* Is the guest told that this connection is over? What else it is told is left aside. */
static bool is_reset(uint32_t port)
{
	struct virtio_vsock_hdr h;
	uint8_t payload[BENCH_RX_LEN];
	bool found = false;

	while (bench_receive(&h, payload))
		found |= h.op == VIRTIO_VSOCK_OP_RST && h.dst_port == port;
	return found;
}

static bool is_gone(int host)
{
	uint8_t byte;

	return recv(host, &byte, 1, MSG_DONTWAIT) == 0;
}

/* All of two packets is on record, as after the first steps of out_send_run(); nothing has been moved. */
static void leave_a_run(int a, int c)
{
	struct store *s = bench_store();

	s->hand.heads[0] = (uint16_t)a;
	s->hand.heads[1] = (uint16_t)c;
	s->hand.lens[0] = s->hand.lens[1] = TEXT_LEN;
	s->hand.n_heads = 2;
	s->hand.conn = 0;
	s->hand.start = s->conns[0].taken;
	s->hand.len = 2 * TEXT_LEN;
	s->hand.part.msg_len = 0;
	s->hand.kind = HAND_RUN;
	s->tx_done[a] = s->tx_done[c] = 0;
}

/* Two packets have been popped, and are in flight, with a run of them on record. */
static int interrupted_run(int heads[2])
{
	int host;

	assert_true(bench_session(0));
	host = bench_open(PORT, VIRTIO_VSOCK_TYPE_STREAM);
	shutdown(host, SHUT_RD); /* of no interest here */
	heads[0] = send_data(PORT, text, TEXT_LEN);
	heads[1] = send_data(PORT, text, TEXT_LEN);
	bench_pop(VSOCK_TX, 2);
	leave_a_run(heads[0], heads[1]);
	return host;
}

static void still_serves(void)
{
	int host = bench_open(PORT + 7, VIRTIO_VSOCK_TYPE_STREAM);
	uint8_t got[TEXT_LEN + 1];

	assert_true(send_data(PORT + 7, text, TEXT_LEN) >= 0);
	bench_turn();
	assert_int_equal(recv(host, got, sizeof(got), MSG_DONTWAIT), TEXT_LEN);
	assert_memory_equal(got, text, TEXT_LEN);
	assert_int_equal(bench_store()->hand.kind, HAND_NONE);
	close(host);
}

static void a_run_goes_on_where_it_stopped(void **state)
{
	int heads[2], host;
	uint8_t got[4 * TEXT_LEN];

	assert_true(bench_session(0));
	host = bench_open(PORT, VIRTIO_VSOCK_TYPE_STREAM);
	heads[0] = send_data(PORT, text, TEXT_LEN);
	heads[1] = send_data(PORT, text, TEXT_LEN);
	bench_pop(VSOCK_TX, 2);
	leave_a_run(heads[0], heads[1]);
	assert_true(bench_begin());
	bench_turn();
	assert_int_equal(recv(host, got, sizeof(got), MSG_DONTWAIT), 2 * TEXT_LEN);
	assert_memory_equal(got, "abcdefabcdef", 2 * TEXT_LEN);
	close(host);
}

/* Its ring is broken, and served no more; the others are. */
static void a_chain_that_was_changed_while_it_was_sent_costs_its_connection(void **state)
{
	for (int which = 0; which < 2; which++) {
		int heads[2], host = interrupted_run(heads), other;

		bench_desc(VSOCK_TX, (uint16_t)heads[which])->len = UINT32_MAX;
		assert_true(bench_begin());
		other = bench_connect(false);
		bench_turn();
		assert_true(is_reset(PORT));
		assert_int_equal(bench_store()->hand.kind, HAND_NONE);
		assert_int_equal(bench_store()->conns[1].state, CONN_LINE);
		close(other);
		close(host);
	}
}

static void a_packet_whose_header_was_changed_costs_its_connection(void **state)
{
	for (int which = 0; which < 2; which++) {
		int heads[2], host = interrupted_run(heads);

		bench_desc(VSOCK_TX, (uint16_t)heads[which])->len = 10;
		assert_true(bench_begin());
		bench_turn();
		assert_true(is_reset(PORT));
		still_serves();
		close(host);
	}
}

static void a_poisonous_packet_of_a_run_costs_its_connection(void **state)
{
	for (int which = 0; which < 2; which++) {
		int heads[2], host = interrupted_run(heads);

		bench_suspect((uint16_t)heads[which], WORKER_POISON_LIMIT);
		assert_true(bench_begin());
		bench_turn();
		assert_true(is_reset(PORT));
		still_serves();
		close(host);
	}
}

/* What is in hand names packets that are not in flight. */
static void a_run_that_nobody_has_sent_costs_its_connection(void **state)
{
	int host, head;

	assert_true(bench_session(0));
	host = bench_open(PORT, VIRTIO_VSOCK_TYPE_STREAM);
	leave_a_run(60, 61);
	assert_true(bench_begin());
	bench_turn();
	assert_true(is_reset(PORT));
	still_serves();
	close(host);
	/* Nor does one that is in flight but not of it confuse it. */
	assert_true(bench_session(0));
	host = bench_open(PORT, VIRTIO_VSOCK_TYPE_STREAM);
	head = send_data(PORT, text, TEXT_LEN);
	bench_pop(VSOCK_TX, 1);
	leave_a_run(60, 61);
	bench_store()->tx_done[head] = 0;
	assert_true(bench_begin());
	bench_turn();
	assert_true(is_reset(PORT));
	still_serves();
	close(host);
}

/* The event of a fresh sandbox on rings in use. */
static void the_loss_of_connections_is_told_once_whenever_the_worker_dies(void **state)
{
	uint32_t id = 7;

	for (unsigned dies = 0; dies < 3; dies++) {
		assert_true(bench_session(5));
		bench_post_event();
		if (dies == 1) /* after it was pushed, before that was published */
			bench_half_turn();
		if (dies == 2)
			bench_turn();
		if (dies > 0)
			assert_true(bench_begin());
		bench_turn();
		assert_true(bench_event(&id));
		assert_int_equal(id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
		bench_post_event();
		bench_turn();
		assert_false(bench_event(&id));
	}
	/* A guest that begins with them knows of no connection. */
	assert_true(bench_session(0));
	bench_post_event();
	bench_turn();
	assert_false(bench_event(&id));
}

/*
 * The worker has acted on it, and died before it had thrown it away; then the connection ends, and its number is given to something
 * else before the next one looks at its mail.
 */
static void a_letter_that_was_acted_on_is_not_acted_on_once_more(void **state)
{
	struct virtio_vsock_hdr h = bench_header(VIRTIO_VSOCK_OP_RST, PORT, 9);
	struct store *s;
	struct stat before, after;
	int pair[2], host, number;

	assert_true(bench_session(0));
	s = bench_store();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	host = fcntl(pair[0], F_DUPFD, 1000);
	bench_incoming(77, 9, PORT, pair[1]);
	close(pair[0]);
	close(pair[1]);
	bench_turn();
	assert_int_equal(s->conns[0].state, CONN_REQUESTED);
	number = s->conns[0].fd;
	s->letter.part.msg_len = LETTER_LEN;
	h.dst_cid = 77;
	assert_true(bench_send(&h, NULL, 0) >= 0);
	bench_pop(VSOCK_TX, 1);
	assert_true(bench_begin());
	assert_true(is_gone(host));
	assert_int_equal(dup2(0, number), number);
	assert_int_equal(fstat(number, &before), 0);
	bench_turn();
	assert_int_equal(fstat(number, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(s->conns[0].state, CONN_FREE);
	close(host);
}

static void a_slot_in_which_nothing_was_received_is_not_kept(void **state)
{
	struct store *s;
	int host;
	uint8_t payload[BENCH_RX_LEN];
	struct virtio_vsock_hdr h;

	assert_true(bench_session(0));
	s = bench_store();
	host = bench_open(PORT, VIRTIO_VSOCK_TYPE_STREAM);
	s->slots[0] = (struct slot){
		.kind = SLOT_DATA, .serial = s->conns[0].serial, .n_heads = 2, .heads = { 1, 2 }
	};
	bench_pop(VSOCK_RX, 2);
	assert_true(bench_begin());
	for (unsigned i = 0; i < STORE_SLOTS; i++)
		assert_int_equal(s->slots[i].kind, SLOT_NONE);
	assert_int_equal(bench_vsock()->n_slots, 0);
	assert_int_equal(send(host, text, TEXT_LEN, 0), TEXT_LEN);
	bench_turn();
	assert_true(bench_receive(&h, payload));
	assert_int_equal(h.op, VIRTIO_VSOCK_OP_RW);
	assert_memory_equal(payload, text, TEXT_LEN);
	close(host);
}

/* The last packets of a turn are sent when all have been looked at. */
/* Twice, the second RST would end a connection that the guest has made since, from the same port. */
static void a_refusal_is_told_once_whenever_the_worker_dies(void **state)
{
	struct virtio_vsock_hdr h;
	uint8_t payload[BENCH_RX_LEN];

	for (unsigned n_turns = 0; n_turns < 4; n_turns++) {
		unsigned n = 0;

		assert_true(bench_session(0));
		assert_true(send_data(PORT, text, TEXT_LEN) >= 0);
		for (unsigned i = 0; i < n_turns; i++)
			bench_half_turn();
		assert_true(bench_begin());
		bench_turn();
		while (bench_receive(&h, payload))
			n += h.op == VIRTIO_VSOCK_OP_RST && h.dst_port == PORT;
		assert_int_equal(n, 1);
		assert_int_equal(bench_store()->stray_tail, bench_store()->stray_head);
	}
}

/* It was noted, and the worker died before it had noted that the packet is dealt with. */
static void a_refusal_that_was_just_noted_is_not_noted_again(void **state)
{
	struct virtio_vsock_hdr h;
	uint8_t payload[BENCH_RX_LEN];
	unsigned n = 0;
	int head;

	assert_true(bench_session(0));
	head = send_data(PORT, text, TEXT_LEN);
	bench_half_turn();
	assert_int_equal(bench_store()->stray_head, 1);
	bench_store()->tx_done[head] = 0;
	bench_store()->strays[0].by = (uint32_t)head + 1;
	assert_true(bench_begin());
	bench_turn();
	while (bench_receive(&h, payload))
		n += h.op == VIRTIO_VSOCK_OP_RST && h.dst_port == PORT;
	assert_int_equal(n, 1);
	/* What the same buffer holds next is another packet. */
	assert_int_equal(send_data(PORT, text, TEXT_LEN), head);
	bench_pop(VSOCK_TX, 1);
	assert_true(bench_begin());
	bench_turn();
	assert_true(is_reset(PORT));
}

static void what_crashes_the_device_while_it_is_sent_is_suspected(void **state)
{
	struct virtio_vsock_hdr h = bench_header(VIRTIO_VSOCK_OP_RW, PORT, BENCH_HOST_PORT);
	uint8_t bytes[BENCH_TX_LEN - sizeof(h)] = { 0 };
	int host, faulty;

	assert_true(bench_session(0));
	host = bench_open(PORT, VIRTIO_VSOCK_TYPE_STREAM);
	while (bench_store()->conns[0].taken == bench_store()->conns[0].forwarded) {
		assert_true(send_data(PORT, bytes, sizeof(bytes)) >= 0);
		bench_turn();
	}
	assert_true(send_data(PORT, text, TEXT_LEN) >= 0);
	h.len = TEXT_LEN;
	faulty = bench_send_faulty(&h, TEXT_LEN);
	assert_int_equal(bench_fault(), 1 + ((uint32_t)VSOCK_TX << 16 | (uint32_t)faulty));
	close(host);
}

/* In pieces, as they come together in the device's buffer. */
static void send_message(uint32_t len, uint8_t byte)
{
	struct virtio_vsock_hdr h = bench_header(VIRTIO_VSOCK_OP_RW, PORT, BENCH_HOST_PORT);
	uint8_t bytes[BENCH_TX_LEN];

	memset(bytes, byte, sizeof(bytes));
	h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	while (len > 0) {
		h.len = len < 600 ? len : 600;
		len -= h.len;
		h.flags = len == 0 ? VIRTIO_VSOCK_SEQ_EOM : 0;
		assert_true(bench_send(&h, bytes, h.len) >= 0);
	}
}

/* All around the buffer, and more than once: what was marked in an earlier round ends nothing in the next. */
static void messages_that_come_together_in_the_buffer_keep_their_ends(void **state)
{
	static const uint32_t lens[] = { 601, 1200, 663, 664, 665, 1, 64, 2500, 1023, 4097 };
	static uint8_t got[8192];
	uint8_t payload[BENCH_RX_LEN];
	struct virtio_vsock_hdr h;
	uint64_t sent = 0;
	int host;

	assert_true(bench_session(0));
	host = bench_open(PORT, VIRTIO_VSOCK_TYPE_SEQPACKET);
	for (unsigned i = 0; sent < 3 * STORE_BUFFER_LEN; i++) {
		uint32_t len = lens[i % UNIT_N(lens)];

		send_message(len, (uint8_t)i);
		bench_turn();
		sent += len;
		assert_int_equal(recv(host, got, sizeof(got), MSG_DONTWAIT), len);
		assert_int_equal(got[0], (uint8_t)i);
		assert_int_equal(got[len - 1], (uint8_t)i);
		while (bench_receive(&h, payload))
			assert_int_equal(h.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		bench_turn();
	}
	close(host);
}

/* What the guest is sent on a connection: the bytes of its packets, with '|' where a message ends. */
static void assert_messages(const char *expected)
{
	struct virtio_vsock_hdr h;
	uint8_t payload[BENCH_RX_LEN];
	char got[256] = "";

	bench_turn();
	while (bench_receive(&h, payload)) {
		if (h.op == VIRTIO_VSOCK_OP_SHUTDOWN)
			strcat(got, "END");
		if (h.op != VIRTIO_VSOCK_OP_RW)
			continue;
		strncat(got, (const char *)payload, h.len);
		strcat(got, h.flags & VIRTIO_VSOCK_SEQ_EOM ? "|" : "");
	}
	assert_string_equal(got, expected);
}

/* A vsock has none, neither of the host's nor of the guest's: Linux sends nothing for it, and takes one for the end. */
static void an_empty_message_is_not_the_end(void **state)
{
	int host;

	assert_true(bench_session(0));
	host = bench_open(PORT, VIRTIO_VSOCK_TYPE_SEQPACKET);
	assert_int_equal(send(host, "", 0, 0), 0);
	assert_messages("");
	assert_int_equal(send(host, "ab", 2, 0), 2);
	assert_int_equal(send(host, "", 0, 0), 0);
	assert_int_equal(send(host, "", 0, 0), 0);
	assert_int_equal(send(host, "c", 1, 0), 1);
	shutdown(host, SHUT_WR);
	assert_messages("ab|c|END");
	close(host);
}

static void a_message_may_end_without_a_byte(void **state)
{
	struct virtio_vsock_hdr h = bench_header(VIRTIO_VSOCK_OP_RW, PORT, BENCH_HOST_PORT);
	uint8_t got[64];
	int host;

	assert_true(bench_session(0));
	host = bench_open(PORT, VIRTIO_VSOCK_TYPE_SEQPACKET);
	h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	h.len = TEXT_LEN;
	assert_true(bench_send(&h, text, TEXT_LEN) >= 0);
	h.len = 0;
	h.flags = VIRTIO_VSOCK_SEQ_EOM;
	assert_true(bench_send(&h, NULL, 0) >= 0);
	bench_turn();
	assert_int_equal(recv(host, got, sizeof(got), MSG_DONTWAIT), TEXT_LEN);
	close(host);
}

/* Whoever sent it is dead, perhaps; that its connection has ended is not to wait for what never comes. */
static void a_message_that_never_ends_does_not_keep_its_connection(void **state)
{
	struct virtio_vsock_hdr h = bench_header(VIRTIO_VSOCK_OP_RW, PORT, BENCH_HOST_PORT);
	int host;

	assert_true(bench_session(0));
	host = bench_open(PORT, VIRTIO_VSOCK_TYPE_SEQPACKET);
	h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	h.len = TEXT_LEN;
	assert_true(bench_send(&h, text, TEXT_LEN) >= 0);
	h.op = VIRTIO_VSOCK_OP_SHUTDOWN;
	h.len = 0;
	h.flags = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;
	assert_true(bench_send(&h, NULL, 0) >= 0);
	bench_turn();
	assert_true(is_gone(host));
	assert_true(is_reset(PORT));
	close(host);
}

/* Buffers may overlap: a small guest can make one that seems as large as a length can be. */
static void no_length_of_a_buffer_is_too_much(void **state)
{
	const struct conn c = { .guest_alloc = 1 << 18 };

	for (uint32_t less = 0; less < 2000; less++) {
		const struct chain large = { .n_writable = 1, .writable_len = UINT32_MAX - less };
		struct buffers b = { 0 };

		assert_true(rx_add_chain(&b, &large));
		assert_true(rx_add_chain(&b, &large));
		assert_true((uint64_t)b.buffer[0].room + b.buffer[1].room == b.room);
		assert_true(conn_credit_in_packets(&c, b.buffer[0].room) > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_run_goes_on_where_it_stopped),
		cmocka_unit_test(a_chain_that_was_changed_while_it_was_sent_costs_its_connection),
		cmocka_unit_test(a_packet_whose_header_was_changed_costs_its_connection),
		cmocka_unit_test(a_poisonous_packet_of_a_run_costs_its_connection),
		cmocka_unit_test(a_run_that_nobody_has_sent_costs_its_connection),
		cmocka_unit_test(the_loss_of_connections_is_told_once_whenever_the_worker_dies),
		cmocka_unit_test(a_letter_that_was_acted_on_is_not_acted_on_once_more),
		cmocka_unit_test(a_slot_in_which_nothing_was_received_is_not_kept),
		cmocka_unit_test(a_refusal_is_told_once_whenever_the_worker_dies),
		cmocka_unit_test(a_refusal_that_was_just_noted_is_not_noted_again),
		cmocka_unit_test(what_crashes_the_device_while_it_is_sent_is_suspected),
		cmocka_unit_test(messages_that_come_together_in_the_buffer_keep_their_ends),
		cmocka_unit_test(an_empty_message_is_not_the_end),
		cmocka_unit_test(a_message_may_end_without_a_byte),
		cmocka_unit_test(a_message_that_never_ends_does_not_keep_its_connection),
		cmocka_unit_test(no_length_of_a_buffer_is_too_much),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
