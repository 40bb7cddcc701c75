/* Frames on a stream: whole ones, wherever the stream is cut; and nothing that no frame is. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/net/switch/stream.h"
#include "tests/unit/unit.h"

static struct stream *s;
static int stack; /* the other end */

static int setup(void **state)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	stack = pair[1];
	s = stream_new(pair[0]);
	assert_non_null(s);
	return 0;
}

static int teardown(void **state)
{
	stream_free(s);
	close(stack);
	return 0;
}

/* Prefix and frame number n of this length. */
static uint32_t make(uint8_t *p, uint32_t n, uint32_t len)
{
	memcpy(p,
	       (uint8_t[]){ (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
			    (uint8_t)len },
	       4);
	for (uint32_t i = 0; i < len; i++)
		p[4 + i] = (uint8_t)(n * 13 + i);
	return 4 + len;
}

static bool next(uint32_t n, uint32_t len)
{
	static uint8_t expected[4 + LANE_MAX_LEN];
	const void *record;
	uint32_t got;
	enum stream_verdict v = stream_look(s, &record, &got);

	if (v == STREAM_AGAIN)
		return false;
	assert_int_equal(v, STREAM_OK);
	make(expected, n, len);
	assert_int_equal(got, LANE_HEADER_LEN + len);
	assert_memory_equal((const uint8_t *)record + LANE_HEADER_LEN, expected + 4, len);
	assert_int_equal(*(const uint8_t *)record, 0);	     /* no flags */
	assert_int_equal(*((const uint8_t *)record + 1), 0); /* no segmentation */
	stream_next(s);
	return true;
}

static void frames_come_whole_wherever_the_stream_is_cut(void **state)
{
	uint8_t *bytes = malloc(200 * 4000);
	uint32_t lens[200], len = 0, sent = 0, n = 0;

	srandom(7);
	for (uint32_t i = 0; i < 200; i++) {
		lens[i] = LANE_ETHER_LEN + (uint32_t)random() % 3000;
		len += make(bytes + len, i, lens[i]);
	}
	while (n < 200) {
		uint32_t piece = 1 + (uint32_t)random() % (random() % 4 ? 7 : 9000);

		piece = piece < len - sent ? piece : len - sent;
		assert_int_equal(write(stack, bytes + sent, piece), (ssize_t)piece);
		sent += piece;
		while (stream_receive(s) == STREAM_OK)
			while (next(n, n < 200 ? lens[n] : 0))
				n++;
	}
	assert_int_equal(sent, len);
	free(bytes);
}

static void the_longest_frame_comes(void **state)
{
	uint32_t len = LANE_MAX_LEN - LANE_HEADER_LEN;
	uint8_t *bytes = malloc(4 + len);

	make(bytes, 1, len);
	assert_int_equal(write(stack, bytes, 4 + len), (ssize_t)(4 + len));
	while (!next(1, len))
		assert_int_equal(stream_receive(s), STREAM_OK);
	assert_int_equal(stream_receive(s), STREAM_AGAIN);
	free(bytes);
}

static void lengths_that_no_frame_has_are_refused(void **state)
{
	static const uint32_t lens[] = { 0, 1, 13, LANE_MAX_LEN, 0x7fffffff, UINT32_MAX };

	for (uint32_t i = 0; i < UNIT_N(lens); i++) {
		const uint8_t prefix[] = { (uint8_t)(lens[i] >> 24), (uint8_t)(lens[i] >> 16),
					   (uint8_t)(lens[i] >> 8), (uint8_t)lens[i] };
		const void *record;
		uint32_t len;

		assert_int_equal(write(stack, prefix, 4), 4);
		assert_int_equal(stream_receive(s), STREAM_OK);
		assert_int_equal(stream_look(s, &record, &len), STREAM_BAD_LEN);
		teardown(NULL);
		setup(NULL);
	}
}

static void an_end_is_told(void **state)
{
	uint8_t bytes[100];

	make(bytes, 0, 90);
	assert_int_equal(write(stack, bytes, 50), 50);
	shutdown(stack, SHUT_WR);
	assert_int_equal(stream_receive(s), STREAM_OK);
	assert_false(next(0, 90));
	assert_int_equal(stream_receive(s), STREAM_ENDED);
	close(stack);
	assert_int_equal(stream_send(s, bytes, 20, NULL, 0), STREAM_ENDED);
	stack = dup(0);
}

/*
 * As the stack would: all that is there, checked against frames n, n + 1, ... in order, from n on.
 */
struct taker {
	uint8_t bytes[4 + LANE_MAX_LEN];
	uint32_t have;
	uint32_t n_frames;
};

static void take(struct taker *t, const uint32_t *numbers, uint32_t frame_len)
{
	static uint8_t expected[4 + LANE_MAX_LEN];
	ssize_t n;

	while ((n = recv(stack, t->bytes + t->have, 4 + frame_len - t->have, MSG_DONTWAIT)) > 0) {
		t->have += (uint32_t)n;
		if (t->have < 4 + frame_len)
			continue;
		make(expected, numbers[t->n_frames], frame_len);
		assert_memory_equal(t->bytes, expected, 4 + frame_len);
		t->n_frames++;
		t->have = 0;
	}
}

static void frames_go_whole_or_not_at_all(void **state)
{
	static const uint32_t lens[] = { 14, 60, 1514, 32768, 48000, 65000 };
	static uint8_t bytes[4 + LANE_MAX_LEN];
	static struct taker t;

	for (uint32_t i = 0; i < UNIT_N(lens); i++) {
		static uint32_t sent[40000];
		uint32_t n_sent = 0, n_refused = 0, tries = 0;

		t = (struct taker){ 0 };
		/* Until the socket has been full some times. */
		for (uint32_t number = 0; n_refused < 20; number++) {
			enum stream_verdict v;

			make(bytes, number, lens[i]);
			v = stream_send(s, bytes + 4, 10, bytes + 14, lens[i] - 10);
			if (v == STREAM_OK) {
				sent[n_sent++] = number;
			} else {
				assert_int_equal(v, STREAM_AGAIN);
				n_refused++;
				take(&t, sent, lens[i]);
			}
			assert_true(++tries < 40000);
		}
		do
			take(&t, sent, lens[i]);
		while (stream_flush(s) != STREAM_OK);
		take(&t, sent, lens[i]);
		assert_int_equal(t.n_frames, n_sent);
		assert_int_equal(t.have, 0);
	}
}

/* What passt relies on: of a frame as long as a document allows nothing is left behind. */
static void a_frame_of_32_kib_is_never_cut(void **state)
{
	static uint8_t bytes[4 + 32768 + 18];
	uint32_t n = 0;

	make(bytes, 0, 32768 + 18);
	while (stream_send(s, bytes + 4, 100, bytes + 104, 32768 + 18 - 100) == STREAM_OK) {
		assert_int_equal(s->out_at, s->out_end);
		n++;
	}
	assert_true(n > 1);
	assert_int_equal(s->out_at, s->out_end);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(frames_come_whole_wherever_the_stream_is_cut),
		CASE(the_longest_frame_comes),
		CASE(lengths_that_no_frame_has_are_refused),
		CASE(an_end_is_told),
		CASE(frames_go_whole_or_not_at_all),
		CASE(a_frame_of_32_kib_is_never_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
