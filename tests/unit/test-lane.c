/*
 * Rings of frames: what is written is read, whole and in order, over the ring's end and over the
 * death of either side; nothing that the other side writes leads outside of the ring.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/net/lane.h"
#include "tests/unit/unit.h"

enum { QUEUES = 2 };

static int fd;
static struct lane_map map, theirs;
static struct lane w, r;

static void open_both(void)
{
	lane_open_writer(&w, &map, 1, LANE_TO_SWITCH);
	lane_open_reader(&r, &theirs, 1, LANE_TO_SWITCH);
}

static int setup(void **state)
{
	fd = fd_open_memfd("port", contract_port_len(QUEUES), 0);
	assert_true(fd >= 0);
	assert_int_equal(lane_map(&map, fd, QUEUES), 0);
	assert_int_equal(lane_map(&theirs, fd, QUEUES), 0);
	open_both();
	return 0;
}

static int teardown(void **state)
{
	lane_unmap(&map);
	lane_unmap(&theirs);
	close(fd);
	return 0;
}

/* A record of this length whose bytes follow from its number. */
static bool write_one(uint32_t number, uint32_t len)
{
	uint8_t *p = lane_reserve(&w, len);

	if (!p)
		return false;
	for (uint32_t i = 0; i < len; i++)
		p[i] = (uint8_t)(number * 7 + i);
	lane_commit(&w, len);
	return true;
}

static void read_one(uint32_t number, uint32_t len)
{
	uint32_t got = 0;
	const uint8_t *p = lane_look(&r, &got);

	assert_non_null(p);
	assert_int_equal(got, len);
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(p[i], (uint8_t)(number * 7 + i));
	lane_next(&r);
}

static void nothing_more(void)
{
	uint32_t len;

	assert_null(lane_look(&r, &len));
}

static void a_memory_of_another_size_is_refused(void **state)
{
	struct lane_map m;

	assert_int_equal(lane_map(&m, fd, QUEUES + 1), -EBADMSG);
	assert_int_equal(lane_map(&m, fd, 0), -EBADMSG);
	assert_int_equal(lane_map(&m, fd, LANE_MAX_QUEUES + 1), -EBADMSG);
}

static void a_frame_is_seen_when_it_is_published(void **state)
{
	assert_true(write_one(1, 100));
	nothing_more();
	lane_publish(&w);
	read_one(1, 100);
	nothing_more();
}

static void a_fresh_ring_has_nothing_and_all_room(void **state)
{
	nothing_more();
	assert_false(lane_any(&r));
	assert_false(lane_await_room(&w));
}

static void records_of_all_lengths_go_round(void **state)
{
	srandom(5);
	for (uint32_t round = 0, number = 0; round < 2000; round++) {
		uint32_t lens[40], n = (uint32_t)random() % 40;

		for (uint32_t i = 0; i < n; i++)
			lens[i] = LANE_MIN_LEN +
				  (uint32_t)random() %
					  (random() % 8 ? 200 : LANE_MAX_LEN - LANE_MIN_LEN + 1);
		for (uint32_t i = 0; i < n; i++)
			if (!write_one(number + i, lens[i]))
				n = i;
		lane_publish(&w);
		for (uint32_t i = 0; i < n; i++)
			read_one(number++, lens[i]);
		nothing_more();
		lane_release(&r);
	}
}

static void a_full_ring_refuses_and_loses_nothing(void **state)
{
	uint32_t n = 0;

	while (write_one(n, 1514))
		n++;
	assert_in_range(n, LANE_RING_LEN / 1536 - 1, LANE_RING_LEN / 1514);
	lane_publish(&w);
	assert_true(lane_await_room(&w));
	for (uint32_t i = 0; i < n; i++)
		read_one(i, 1514);
	nothing_more();
	assert_null(lane_reserve(&w, 1514));
	assert_true(lane_release(&r)); /* the writer waits */
	assert_true(write_one(n, LANE_MAX_LEN));
	lane_publish(&w);
	read_one(n, LANE_MAX_LEN);
}

static void a_writer_that_waits_is_not_woken_for_little_room(void **state)
{
	uint32_t n = 0;

	while (write_one(n, 1514))
		n++;
	lane_publish(&w);
	assert_true(lane_await_room(&w));
	read_one(0, 1514);
	assert_false(lane_release(&r));
	for (uint32_t i = 1; i < n; i++)
		read_one(i, 1514);
	assert_true(lane_release(&r));
	assert_false(lane_release(&r)); /* once */
}

static void a_reader_that_waits_is_woken_once(void **state)
{
	assert_true(lane_await(&r));
	write_one(0, 64);
	assert_true(lane_publish(&w));
	write_one(1, 64);
	assert_false(lane_publish(&w));
	assert_false(lane_await(&r)); /* there is something already */
	write_one(2, 64);
	assert_false(lane_publish(&w));
}

static void a_successor_of_the_reader_goes_on_where_it_released(void **state)
{
	for (uint32_t i = 0; i < 4; i++)
		write_one(i, 64);
	lane_publish(&w);
	read_one(0, 64);
	lane_release(&r);
	read_one(1, 64);
	lane_open_reader(&r, &theirs, 1, LANE_TO_SWITCH);
	read_one(1, 64);
	read_one(2, 64);
	read_one(3, 64);
	nothing_more();
}

static void a_successor_of_the_writer_goes_on_where_it_published(void **state)
{
	write_one(0, 64);
	lane_publish(&w);
	write_one(1, 64);
	lane_open_writer(&w, &map, 1, LANE_TO_SWITCH);
	write_one(2, 80);
	lane_publish(&w);
	read_one(0, 64);
	read_one(2, 80);
	nothing_more();
}

static void a_position_that_cannot_be_empties_the_ring(void **state)
{
	static const uint32_t tails[] = { 8, 3, LANE_RING_LEN + 16, 0x80000000u, UINT32_MAX };

	for (uint32_t i = 0; i < UNIT_N(tails); i++) {
		lane_open_reader(&r, &theirs, 1, LANE_TO_SWITCH);
		r.n_resets = 0;
		r.words->tail = r.at + tails[i];
		nothing_more();
		assert_int_equal(r.n_resets, 1);
		assert_int_equal(r.words->head, r.words->tail & ~15u);
		lane_open_writer(&w, &map, 1, LANE_TO_SWITCH);
		write_one(9, 64);
		lane_publish(&w);
		read_one(9, 64);
		lane_release(&r);
	}
}

static void a_length_that_cannot_be_empties_the_ring(void **state)
{
	static const uint32_t lens[] = {
		0, 1, LANE_MIN_LEN - 1, 200, LANE_MAX_LEN + 1, UINT32_MAX
	};

	for (uint32_t i = 0; i < UNIT_N(lens); i++) {
		uint8_t *p;

		r.n_resets = 0;
		p = lane_reserve(&w, 100);
		lane_commit(&w, 100);
		memcpy(p - 4, &lens[i], 4);
		lane_publish(&w);
		nothing_more();
		/* A length of 0 says "go on at the start": there is nothing. */
		assert_int_equal(r.n_resets, lens[i] == 0 && r.at == 0 ? 0 : 1);
		lane_open_writer(&w, &map, 1, LANE_TO_SWITCH);
		lane_open_reader(&r, &theirs, 1, LANE_TO_SWITCH);
	}
	write_one(9, 64);
	lane_publish(&w);
	read_one(9, 64);
}

static void a_reader_that_lies_only_loses_its_own(void **state)
{
	static const uint32_t heads[] = { 16, 5, 0x80000000u };

	for (uint32_t i = 0; i < UNIT_N(heads); i++) {
		while (write_one(0, LANE_MAX_LEN))
			;
		w.words->head = w.at + heads[i];
		assert_false(write_one(0, LANE_MAX_LEN));
		w.words->head = w.at;
		assert_true(write_one(0, LANE_MAX_LEN));
		lane_publish(&w);
		lane_open_reader(&r, &theirs, 1, LANE_TO_SWITCH);
	}
}

static void what_is_shown_is_read_before_anybody_is_woken(void **state)
{
	assert_true(lane_await(&r));
	assert_true(write_one(1, 100));
	lane_show(&w);
	assert_false(lane_call(&w, true));
	read_one(1, 100);
	assert_true(lane_call(&w, false));
	assert_false(lane_call(&w, false));
}

static void much_is_worth_a_call_though_more_is_to_come(void **state)
{
	uint32_t n = 0;

	assert_true(lane_await(&r));
	do {
		assert_true(write_one(n++, 1000));
		lane_show(&w);
	} while (!lane_call(&w, true));
	assert_true(n * 1000 >= LANE_CALL_LEN - 2000 && n * 1000 <= LANE_CALL_LEN + 2000);
}

static void a_successor_takes_up_where_its_predecessor_noted(void **state)
{
	uint32_t after_two;

	for (uint32_t i = 0; i < 3; i++)
		assert_true(write_one(i, 100 + i));
	lane_publish(&w);
	read_one(0, 100);
	lane_release_to(&r, r.at);
	read_one(1, 101);
	after_two = r.at;
	lane_open_reader(&r, &theirs, 1, LANE_TO_SWITCH);
	lane_go_on(&r, after_two);
	read_one(2, 102);
	nothing_more();
	lane_open_reader(&r, &theirs, 1, LANE_TO_SWITCH);
	read_one(2, 102);
}

static void a_note_that_cannot_be_is_none(void **state)
{
	assert_true(write_one(0, 100));
	lane_publish(&w);
	read_one(0, 100);
	lane_release(&r);
	assert_true(write_one(1, 100));
	lane_publish(&w);
	lane_open_reader(&r, &theirs, 1, LANE_TO_SWITCH);
	lane_go_on(&r, r.at - 16);
	lane_go_on(&r, r.at + 8);
	lane_go_on(&r, w.at + 16);
	lane_go_on(&r, r.at + 0x80000000u);
	read_one(1, 100);
	nothing_more();
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_memory_of_another_size_is_refused),
		CASE(a_fresh_ring_has_nothing_and_all_room),
		CASE(a_frame_is_seen_when_it_is_published),
		CASE(records_of_all_lengths_go_round),
		CASE(a_full_ring_refuses_and_loses_nothing),
		CASE(a_writer_that_waits_is_not_woken_for_little_room),
		CASE(a_reader_that_waits_is_woken_once),
		CASE(a_successor_of_the_reader_goes_on_where_it_released),
		CASE(a_successor_of_the_writer_goes_on_where_it_published),
		CASE(a_position_that_cannot_be_empties_the_ring),
		CASE(a_length_that_cannot_be_empties_the_ring),
		CASE(a_reader_that_lies_only_loses_its_own),
		CASE(what_is_shown_is_read_before_anybody_is_woken),
		CASE(much_is_worth_a_call_though_more_is_to_come),
		CASE(a_successor_takes_up_where_its_predecessor_noted),
		CASE(a_note_that_cannot_be_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
