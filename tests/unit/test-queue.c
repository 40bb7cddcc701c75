/* The device side of a split virtqueue, against a driver that does right and one that does not. */
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "tests/unit/driver.h"
#include "tests/unit/unit.h"

#define SIZE ((uint16_t)8)

static struct driver d;
static struct queue q;
static struct iovec iov[8];
static struct chain c;

static int setup(void **state)
{
	driver_start(&d, SIZE);
	for (uint16_t head = 0; head < SIZE; head += 2)
		driver_request(&d, head);
	c = (struct chain){ .iov = iov, .iov_max = UNIT_N(iov) };
	return 0;
}

static int teardown(void **state)
{
	driver_stop(&d);
	return 0;
}

static void start(void)
{
	assert_int_equal(driver_queue(&d, &q), QUEUE_OK);
}

static void pop(uint16_t head)
{
	assert_int_equal(queue_pop(&q, &c), QUEUE_OK);
	assert_int_equal(c.head, head);
}

static void reap(uint32_t id, uint32_t len)
{
	struct ring_used_elem elem = { 0 };

	assert_true(driver_reap(&d, &elem));
	assert_int_equal(elem.id, id);
	assert_int_equal(elem.len, len);
}

static void reap_none(void)
{
	struct ring_used_elem elem;

	assert_false(driver_reap(&d, &elem));
}

/* queue_watch: what is in hand when the walk of a chain crashes. */

static uint32_t in_hand;
static uint8_t suspicion[QUEUE_MAX_SIZE];
static sigjmp_buf crashed;

static void on_crash(int signo)
{
	siglongjmp(crashed, 1);
}

static void start_watched(void)
{
	start();
	in_hand = 0;
	memset(suspicion, 0, sizeof(suspicion));
	q.watch = (struct queue_watch){
		.in_hand = &in_hand, .index = 3, .suspicion = suspicion, .limit = 3
	};
}

static void a_head_is_in_hand_while_its_chain_is_walked(void **state)
{
	const struct sigaction sa = { .sa_handler = on_crash }, dfl = { .sa_handler = SIG_DFL };
	uint8_t *at = d.memory.regions[0].host + DRIVER_INDIRECT;
	void *table = at - (uintptr_t)at % 4096;
	volatile bool reached = false;

	start_watched();
	driver_desc(&d, 4, DRIVER_GUEST + DRIVER_INDIRECT, 32, RING_DESC_F_INDIRECT, 0);
	driver_offer(&d, 4);
	assert_int_equal(mprotect(table, 8192, PROT_NONE), 0);
	sigaction(SIGSEGV, &sa, NULL);
	if (sigsetjmp(crashed, 1) == 0) {
		queue_pop(&q, &c);
		reached = true;
	}
	sigaction(SIGSEGV, &dfl, NULL);
	assert_int_equal(mprotect(table, 8192, PROT_READ | PROT_WRITE), 0);
	assert_false(reached);
	assert_int_equal(in_hand, 1 + (3 << 16 | 4));
}

static void afterwards_what_was_in_hand_before_is_so_again(void **state)
{
	start_watched();
	in_hand = 7;
	driver_offer(&d, 2);
	driver_offer(&d, 0);
	pop(2);
	assert_int_equal(in_hand, 7);
	in_hand = 0;
	driver_desc(&d, 0, 0, 16, 0, 0); /* outside of memory */
	assert_int_equal(queue_pop(&q, &c), QUEUE_BROKEN);
	assert_int_equal(in_hand, 0);
}

static void a_chain_that_crashes_again_and_again_breaks_the_ring_unseen(void **state)
{
	start_watched();
	suspicion[4] = 2;
	driver_offer(&d, 4);
	pop(4);
	suspicion[6] = 3;
	driver_offer(&d, 6);
	assert_int_equal(queue_pop(&q, &c), QUEUE_BROKEN);
	assert_int_equal(q.broken_why, QUEUE_BAD_CHAIN);
	assert_int_equal(q.broken_chain, CHAIN_POISON);
}

/* Runs. */

static struct queue_piece pieces[SIZE];

/* A chain of one descriptor. */
static void offer_piece(uint16_t head, uint64_t offset, uint32_t len, uint16_t flags)
{
	driver_desc(&d, head, DRIVER_GUEST + offset, len, flags, 0);
	driver_offer(&d, head);
}

static void a_run_is_taken_and_given_back_in_order(void **state)
{
	start();
	offer_piece(5, DRIVER_DATA, 60, 0);
	offer_piece(2, DRIVER_DATA + 100, 70, 0);
	offer_piece(7, 2 * DRIVER_REGION_LEN - 80, 80, 0);
	assert_int_equal(queue_peek_run(&q, false, pieces, SIZE), 3);
	assert_int_equal(pieces[0].head, 5);
	assert_int_equal(pieces[1].len, 70);
	assert_ptr_equal(pieces[1].p, d.memory.regions[0].host + DRIVER_DATA + 100);
	assert_ptr_equal(pieces[2].p, d.memory.regions[1].host + DRIVER_REGION_LEN - 80);
	assert_int_equal(queue_n_inflight(&q), 0);
	assert_int_equal(queue_take_run(&q, pieces, 2), 2);
	assert_true(inflight_is(&q.inflight, 5) && inflight_is(&q.inflight, 2));
	assert_false(inflight_is(&q.inflight, 7));
	queue_push_run(&q, false, pieces, 2);
	reap_none();
	queue_publish(&q);
	reap(5, 0);
	reap(2, 0);
	reap_none();
	assert_int_equal(queue_n_inflight(&q), 0);
	pop(7);
}

static void a_writable_run_tells_what_was_written(void **state)
{
	start();
	offer_piece(1, DRIVER_DATA, 60, RING_DESC_F_WRITE);
	offer_piece(3, DRIVER_DATA + 100, 70, RING_DESC_F_WRITE);
	assert_int_equal(queue_peek_run(&q, true, pieces, 1), 1);
	assert_int_equal(queue_peek_run(&q, true, pieces, SIZE), 2);
	pieces[0].len = 40;
	assert_int_equal(queue_take_run(&q, pieces, 2), 2);
	queue_push_run(&q, true, pieces, 2);
	queue_publish(&q);
	reap(1, 40);
	reap(3, 70);
}

/* What is not such a chain, or wrong, is popped and judged as ever. */
static void a_run_ends_where_a_chain_is_another(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t len;
		uint16_t flags;
	} others[] = {
		{ DRIVER_DATA, 60, RING_DESC_F_WRITE },
		{ DRIVER_DATA, 60, RING_DESC_F_NEXT },
		{ DRIVER_INDIRECT, 32, RING_DESC_F_INDIRECT },
		{ DRIVER_DATA, 0, 0 },
		{ DRIVER_REGION_LEN - 8, 16, 0 }, /* over the end of one region into the next */
		{ 2 * DRIVER_REGION_LEN - 8, 16, 0 },
		{ UINT64_C(1) << 40, 16, 0 },
		{ DRIVER_DATA, UINT32_MAX, 0 },
	};

	for (size_t i = 0; i < UNIT_N(others); i++) {
		driver_stop(&d);
		setup(state);
		start_watched();
		offer_piece(6, DRIVER_DATA, 60, 0);
		offer_piece(4, others[i].offset, others[i].len, others[i].flags);
		offer_piece(2, DRIVER_DATA, 60, 0);
		assert_int_equal(queue_peek_run(&q, false, pieces, SIZE), 1);
		assert_int_equal(queue_take_run(&q, pieces, 1), 1);
		assert_int_equal(queue_peek_run(&q, false, pieces, SIZE), 0);
		assert_int_equal(in_hand, 0);
		assert_false(q.broken);
	}
}

static void a_suspect_is_not_in_a_run(void **state)
{
	start_watched();
	in_hand = 9;
	suspicion[4] = 1;
	offer_piece(6, DRIVER_DATA, 60, 0);
	offer_piece(4, DRIVER_DATA, 60, 0);
	assert_int_equal(queue_peek_run(&q, false, pieces, SIZE), 1);
	assert_int_equal(in_hand, 9);
}

static void a_head_twice_in_a_run_breaks_the_ring(void **state)
{
	start();
	offer_piece(6, DRIVER_DATA, 60, 0);
	driver_offer(&d, 6);
	driver_offer(&d, 6);
	assert_int_equal(queue_peek_run(&q, false, pieces, SIZE), 3);
	assert_int_equal(queue_take_run(&q, pieces, 3), 1);
	assert_true(q.broken);
	assert_int_equal(queue_peek_run(&q, false, pieces, SIZE), 0);
	queue_push_run(&q, false, pieces, 1);
	queue_publish(&q);
	reap(6, 0);
}

static void a_head_beyond_the_table_ends_a_run_and_breaks_the_ring(void **state)
{
	start();
	offer_piece(6, DRIVER_DATA, 60, 0);
	/* What lies there would do. */
	driver_desc(&d, SIZE, DRIVER_GUEST + DRIVER_DATA, 60, 0, 0);
	driver_offer(&d, SIZE);
	assert_int_equal(queue_peek_run(&q, false, pieces, SIZE), 1);
	assert_int_equal(queue_take_run(&q, pieces, 1), 1);
	assert_int_equal(queue_peek_run(&q, false, pieces, SIZE), 0);
	assert_int_equal(queue_pop(&q, &c), QUEUE_BROKEN);
}

static void start_refuses_unusable_sizes(void **state)
{
	static const uint32_t sizes[] = { 0, 3, 6, 2048, 32768, 65536, UINT32_MAX };

	for (size_t i = 0; i < UNIT_N(sizes); i++) {
		d.spec.size = sizes[i];
		assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_SIZE);
	}
	for (d.spec.size = 1; d.spec.size <= QUEUE_MAX_SIZE; d.spec.size *= 2) {
		memset(d.region, 0, sizeof(*d.region));
		start();
	}
}

static void start_refuses_misaligned_parts(void **state)
{
	const struct queue_spec good = d.spec;

	d.spec.desc.v += 8;
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_ALIGN);
	d.spec = good;
	d.spec.avail.v += 1;
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_ALIGN);
	d.spec = good;
	d.spec.used.v += 2;
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_ALIGN);
	d.spec = good;
	start();
}

static void start_refuses_a_map_that_shifts_the_alignment(void **state)
{
	struct memory_region *region = &d.memory.regions[0];

	/* As if the front-end had sent a user address 2 below what the mmap offset says. */
	region->user.v -= 2;
	d.spec.desc.v -= 2;
	d.spec.avail.v -= 2;
	d.spec.used.v -= 2;
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_ALIGN);
	d.spec.desc.v += 16;
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_ALIGN);
	/* The pointer alone is misaligned. */
	d.spec.desc.v = (region->user.v + DRIVER_DESC + 15) & ~UINT64_C(15);
	d.spec.avail.v = (region->user.v + DRIVER_AVAIL + 15) & ~UINT64_C(15);
	d.spec.used.v = (region->user.v + DRIVER_USED + 15) & ~UINT64_C(15);
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_ALIGN);
	region->user.v += 2;
}

static void start_refuses_rings_outside_of_memory(void **state)
{
	const struct queue_spec good = d.spec;
	const uint64_t end = DRIVER_USER + DRIVER_REGION_LEN;

	d.spec.desc.v = end - UINT64_C(16) * SIZE + 16;
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_ADDRESS);
	d.spec.desc.v = end - UINT64_C(16) * SIZE;
	start();
	d.spec.avail.v = end - (6 + 2 * SIZE) + 2;
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_ADDRESS);
	d.spec.avail.v = end - (6 + 2 * SIZE);
	start();
	d.spec.used.v = end - (6 + 8 * SIZE) + 2;
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_ADDRESS);
	d.spec.used.v = UINT64_MAX & ~UINT64_C(15);
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_ADDRESS);
	d.spec.used.v = 0;
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_ADDRESS);
	d.spec = good;
	start();
}

static void start_refuses_a_region_of_another_size(void **state)
{
	d.region->version = 1;
	d.region->desc_num = SIZE * 2;
	assert_int_equal(driver_queue(&d, &q), QUEUE_BAD_INFLIGHT);
	assert_int_equal(d.region->desc_num, SIZE * 2);
}

static void requests_go_round_and_wrap(void **state)
{
	driver_set_idx(&d, 65533);
	start();
	assert_int_equal(queue_base(&q), 65533);
	for (unsigned i = 0; i < 3 * 65536 / 64; i++) {
		uint16_t head = (uint16_t)(2 * (i % 4));

		assert_int_equal(queue_pop(&q, &c), QUEUE_EMPTY);
		driver_offer(&d, head);
		pop(head);
		assert_int_equal(queue_n_inflight(&q), 1);
		queue_push(&q, head, i);
		queue_publish(&q);
		reap(head, i);
		assert_int_equal(queue_n_inflight(&q), 0);
	}
	assert_int_equal(queue_base(&q), (uint16_t)(65533 + 3 * 65536 / 64));
}

static void pop_takes_all_that_is_available_in_order(void **state)
{
	start();
	driver_offer(&d, 6);
	driver_offer(&d, 2);
	driver_offer(&d, 0);
	pop(6);
	pop(2);
	driver_offer(&d, 4);
	pop(0);
	pop(4);
	assert_int_equal(queue_pop(&q, &c), QUEUE_EMPTY);
	assert_int_equal(c.n_readable, 1);
	assert_int_equal(c.readable_len, 16);
	assert_int_equal(c.writable_len, 512);
}

static void nothing_is_visible_before_publish(void **state)
{
	start();
	for (uint16_t head = 0; head < SIZE; head += 2)
		driver_offer(&d, head);
	for (uint16_t head = 0; head < SIZE; head += 2)
		pop(head);
	queue_push(&q, 4, 1);
	queue_push(&q, 0, 2);
	reap_none();
	assert_int_equal(queue_n_inflight(&q), 4);
	queue_publish(&q);
	reap(4, 1);
	reap(0, 2);
	reap_none();
	assert_int_equal(queue_n_inflight(&q), 2);
	queue_publish(&q);
	reap_none();
}

static void check_broken(enum queue_verdict why, enum chain_verdict chain)
{
	assert_int_equal(queue_pop(&q, &c), QUEUE_BROKEN);
	assert_int_equal(q.broken_why, why);
	if (why == QUEUE_BAD_CHAIN)
		assert_int_equal(q.broken_chain, chain);
	assert_int_equal(queue_pop(&q, &c), QUEUE_BROKEN);
	assert_false(queue_enable_notify(&q));
}

static void pop_rejects_a_head_beyond_the_table(void **state)
{
	start();
	driver_offer(&d, SIZE);
	check_broken(QUEUE_BAD_INDEX, CHAIN_OK);
}

static void pop_rejects_an_index_that_runs_ahead(void **state)
{
	start();
	d.avail->idx = SIZE + 1;
	check_broken(QUEUE_BAD_INDEX, CHAIN_OK);
}

static void pop_rejects_an_index_that_runs_back(void **state)
{
	start();
	d.avail->idx = 0xffff;
	check_broken(QUEUE_BAD_INDEX, CHAIN_OK);
}

static void pop_counts_what_is_in_flight_against_the_ring(void **state)
{
	start();
	driver_offer(&d, 0);
	pop(0);
	driver_offer(&d, 2);
	d.avail->idx = SIZE + 1;
	check_broken(QUEUE_BAD_INDEX, CHAIN_OK);
}

static void pop_rejects_an_index_that_takes_back_what_is_in_flight(void **state)
{
	start();
	driver_offer(&d, 0);
	driver_offer(&d, 2);
	pop(0);
	pop(2);
	d.avail->ring[2] = 4;
	d.avail->idx = 1;
	check_broken(QUEUE_BAD_INDEX, CHAIN_OK);
}

static void pop_rejects_a_head_in_flight_already(void **state)
{
	start();
	driver_offer(&d, 2);
	driver_offer(&d, 2);
	pop(2);
	check_broken(QUEUE_BAD_INDEX, CHAIN_OK);
}

static void pop_rejects_a_head_pushed_but_not_published(void **state)
{
	start();
	driver_offer(&d, 2);
	driver_offer(&d, 2);
	pop(2);
	queue_push(&q, 2, 0);
	check_broken(QUEUE_BAD_INDEX, CHAIN_OK);
}

static void peek_rejects_an_index_that_takes_back_what_was_seen(void **state)
{
	start();
	for (uint16_t head = 0; head < 8; head += 2)
		driver_offer(&d, head);
	for (uint32_t n = 0; n < 4; n++)
		assert_int_equal(queue_peek(&q, n, &c), QUEUE_OK);
	d.avail->idx -= 4;
	assert_int_equal(queue_peek(&q, 4, &c), QUEUE_BROKEN);
	assert_int_equal(q.broken_why, QUEUE_BAD_INDEX);
}

static void pop_rejects_looped_chain(void **state)
{
	start();
	d.desc[0].next = 0;
	driver_offer(&d, 0);
	check_broken(QUEUE_BAD_CHAIN, CHAIN_LOOPED);
	assert_int_equal(queue_n_inflight(&q), 0);
}

static void indirect_needs_the_feature(void **state)
{
	d.spec.indirect = false;
	start();
	driver_desc(&d, 0, DRIVER_GUEST + DRIVER_INDIRECT, 16, RING_DESC_F_INDIRECT, 0);
	driver_offer(&d, 0);
	check_broken(QUEUE_BAD_CHAIN, CHAIN_INDIRECT_OFF);
}

static void a_broken_ring_still_gives_back_what_was_in_flight(void **state)
{
	start();
	driver_offer(&d, 0);
	pop(0);
	driver_offer(&d, 99);
	check_broken(QUEUE_BAD_INDEX, CHAIN_OK);
	queue_push(&q, 0, 7);
	queue_publish(&q);
	reap(0, 7);
	assert_int_equal(queue_n_inflight(&q), 0);
}

static void a_broken_ring_breaks_again_under_a_successor(void **state)
{
	start();
	driver_offer(&d, 0);
	pop(0);
	driver_offer(&d, 99);
	check_broken(QUEUE_BAD_INDEX, CHAIN_OK);
	start();
	assert_int_equal(d.n_entries, 1);
	assert_int_equal(queue_load_again(&q, d.entries[0].head, &c), QUEUE_OK);
	check_broken(QUEUE_BAD_INDEX, CHAIN_OK);
}

static void what_is_put_back_is_popped_next_also_by_a_successor(void **state)
{
	driver_set_idx(&d, 65535);
	start();
	driver_offer(&d, 6);
	driver_offer(&d, 2);
	driver_offer(&d, 0);
	pop(6);
	pop(2);
	pop(0);
	queue_unpop(&q, 0);
	queue_unpop(&q, 2);
	assert_int_equal(queue_n_inflight(&q), 1);
	pop(2);
	queue_unpop(&q, 2);
	start();
	assert_int_equal(d.n_entries, 1);
	assert_int_equal(d.entries[0].head, 6);
	pop(2);
	pop(0);
	queue_push(&q, 6, 3);
	queue_push(&q, 2, 1);
	queue_publish(&q);
	reap(6, 3);
	reap(2, 1);
	reap_none();
}

static void a_successor_gets_what_is_in_flight_in_order(void **state)
{
	driver_set_idx(&d, 65534);
	start();
	driver_offer(&d, 6);
	driver_offer(&d, 2);
	driver_offer(&d, 0);
	driver_offer(&d, 4);
	pop(6);
	pop(2);
	pop(0);
	queue_push(&q, 2, 1);
	queue_publish(&q);
	reap(2, 1);
	d.spec.base = 4711;
	start();
	assert_int_equal(d.n_entries, 2);
	assert_int_equal(d.entries[0].head, 6);
	assert_int_equal(d.entries[1].head, 0);
	assert_int_equal(queue_n_inflight(&q), 2);
	assert_int_equal(queue_load_again(&q, 6, &c), QUEUE_OK);
	assert_int_equal(c.head, 6);
	assert_int_equal(c.writable_len, 512);
	pop(4);
	queue_push(&q, 4, 2);
	queue_push(&q, 6, 3);
	queue_push(&q, 0, 4);
	queue_publish(&q);
	reap(4, 2);
	reap(6, 3);
	reap(0, 4);
	assert_int_equal(queue_pop(&q, &c), QUEUE_EMPTY);
}

static void a_successor_numbers_on_from_the_last(void **state)
{
	start();
	driver_offer(&d, 2);
	driver_offer(&d, 0);
	pop(2);
	pop(0);
	start();
	driver_offer(&d, 4);
	pop(4);
	assert_true(inflight_counter(&q.inflight, 4) > inflight_counter(&q.inflight, 0));
	start();
	assert_int_equal(d.n_entries, 3);
	assert_int_equal(d.entries[2].head, 4);
}

static void a_chain_changed_in_flight_breaks_the_ring(void **state)
{
	start();
	driver_offer(&d, 2);
	pop(2);
	start();
	d.desc[2].addr = 0;
	assert_int_equal(queue_load_again(&q, 2, &c), QUEUE_BROKEN);
	assert_int_equal(q.broken_chain, CHAIN_ADDRESS);
}

static void a_lost_request_is_taken_again_rather_than_forgotten(void **state)
{
	driver_offer(&d, 2);
	d.spec.base = 1;
	start();
	pop(2);
}

static void the_first_answer_after_a_start_is_to_signal(void **state)
{
	d.avail->flags = RING_AVAIL_F_NO_INTERRUPT;
	start();
	assert_true(queue_should_signal(&q));
	assert_false(queue_should_signal(&q));
}

/* Take, give back and publish one request. */
static void serve(uint16_t head)
{
	driver_offer(&d, head);
	pop(head);
	queue_push(&q, head, 0);
	queue_publish(&q);
}

static void no_interrupt_is_respected(void **state)
{
	start();
	queue_should_signal(&q);
	serve(0);
	assert_true(queue_should_signal(&q));
	d.avail->flags = RING_AVAIL_F_NO_INTERRUPT;
	serve(0);
	assert_false(queue_should_signal(&q));
	d.avail->flags = 0;
	assert_false(queue_should_signal(&q));
	serve(0);
	assert_true(queue_should_signal(&q));
}

static void signal_comes_when_the_used_event_is_passed(void **state)
{
	d.spec.event_idx = true;
	driver_set_idx(&d, 65534);
	start();
	queue_should_signal(&q);
	*driver_used_event(&d) = 0;
	serve(0);
	assert_false(queue_should_signal(&q));
	serve(0);
	assert_false(queue_should_signal(&q));
	serve(0);
	assert_true(queue_should_signal(&q));
	serve(0);
	assert_false(queue_should_signal(&q));
	*driver_used_event(&d) = 4;
	serve(0);
	serve(0);
	serve(0);
	serve(0);
	assert_true(queue_should_signal(&q));
}

static void an_event_is_passed_over_the_wrap_too(void **state)
{
	assert_true(ring_need_event(UINT16_MAX, 0, UINT16_MAX));
	assert_true(ring_need_event(0, 2, UINT16_MAX));
	assert_false(ring_need_event(2, 2, UINT16_MAX));
	assert_false(ring_need_event(UINT16_MAX - 1, 2, UINT16_MAX));
}

static void enable_notify_sets_the_avail_event_and_sees_the_race(void **state)
{
	d.spec.event_idx = true;
	start();
	assert_false(queue_enable_notify(&q));
	assert_int_equal(*driver_avail_event(&d), 0);
	serve(0);
	assert_false(queue_enable_notify(&q));
	assert_int_equal(*driver_avail_event(&d), 1);
	driver_offer(&d, 2);
	assert_true(queue_enable_notify(&q));
}

static void notify_flag_is_set_and_cleared_without_event_idx(void **state)
{
	start();
	queue_disable_notify(&q);
	assert_int_equal(d.used->flags, RING_USED_F_NO_NOTIFY);
	driver_offer(&d, 2);
	assert_true(queue_enable_notify(&q));
	assert_int_equal(d.used->flags, 0);
}

/* The used ring's page in the log, which is then cleaned. */
static bool log_take(int fd)
{
	static const uint8_t zeros[16384];
	uint64_t page = (DRIVER_GUEST + DRIVER_USED) / 4096;
	uint8_t byte = 0;

	assert_int_equal(pread(fd, &byte, 1, (off_t)(page / 8)), 1);
	for (size_t at = 0; at < 65536; at += sizeof(zeros))
		assert_int_equal(pwrite(fd, zeros, sizeof(zeros), (off_t)at), sizeof(zeros));
	return byte == 1u << (page % 8);
}

static void each_write_to_the_used_ring_is_logged(void **state)
{
	int fd = fd_open_memfd("log", 65536, 0);

	assert_int_equal(memory_log_set(&d.memory, 65536, 0, fd), MEMORY_OK);
	d.spec.log_used = true;
	start();
	assert_true(log_take(fd));
	assert_false(log_take(fd));
	driver_offer(&d, 0);
	pop(0);
	assert_false(log_take(fd));
	queue_push(&q, 0, 0);
	queue_publish(&q);
	assert_true(log_take(fd));
	queue_disable_notify(&q);
	assert_true(log_take(fd));
	queue_enable_notify(&q);
	assert_true(log_take(fd));
	d.spec.log_used = false;
	assert_int_equal(queue_remap(&q, &d.spec), QUEUE_OK);
	serve(0);
	assert_false(log_take(fd));
	fd_close(fd);
}

/* A used ring over a page boundary, far from where the log says that it is. */
static void the_log_has_the_pages_of_each_element_of_a_batch(void **state)
{
	int fd = fd_open_memfd("log", 8, 0);
	uint64_t bits = 0;

	assert_int_equal(memory_log_set(&d.memory, 8, 0, fd), MEMORY_OK);
	d.spec.log_used = true;
	/* Elements 0 to 2 in page 3, 3 to 7 in page 4. */
	d.spec.used_log.v = UINT64_C(4) * 4096 - 4 - 3 * sizeof(struct ring_used_elem);
	driver_set_idx(&d, 3);
	start();
	assert_int_equal(pwrite(fd, &bits, 8, 0), 8);
	driver_offer(&d, 0);
	driver_offer(&d, 2);
	pop(0);
	pop(2);
	queue_push(&q, 0, 0);
	queue_push(&q, 2, 0);
	queue_publish(&q);
	assert_int_equal(pread(fd, &bits, 8, 0), 8);
	assert_true(bits == (1u << 3 | 1u << 4)); /* the index, and elements 3 and 4 */
	bits = 0;
	assert_int_equal(pwrite(fd, &bits, 8, 0), 8);
	d.used_seen = d.used->idx;
	for (unsigned i = 0; i < 3; i++)
		serve(0);
	d.spec.used_log.v = UINT64_C(4) * 4096;
	assert_int_equal(queue_remap(&q, &d.spec), QUEUE_OK);
	assert_int_equal(pwrite(fd, &bits, 8, 0), 8);
	serve(0);
	assert_int_equal(pread(fd, &bits, 8, 0), 8);
	assert_true(bits == 1u << 4);
	fd_close(fd);
}

static void the_log_has_both_ends_of_a_batch_that_wraps(void **state)
{
	int fd = fd_open_memfd("log", 8, 0);
	uint64_t bits = 0;

	driver_stop(&d);
	driver_start(&d, 1024);
	driver_request(&d, 0);
	driver_request(&d, 2);
	assert_int_equal(memory_log_set(&d.memory, 8, 0, fd), MEMORY_OK);
	d.spec.log_used = true;
	/* The index in page 3, elements 0 to 511 in page 4, 512 to 1023 in page 5. */
	d.spec.used_log.v = UINT64_C(4) * 4096 - 4;
	driver_set_idx(&d, 1023);
	start();
	driver_offer(&d, 0);
	driver_offer(&d, 2);
	pop(0);
	pop(2);
	queue_push(&q, 0, 0);
	queue_push(&q, 2, 0);
	assert_int_equal(pwrite(fd, &bits, 8, 0), 8);
	queue_publish(&q);
	assert_int_equal(pread(fd, &bits, 8, 0), 8);
	assert_true(bits == (1u << 3 | 1u << 4 | 1u << 5));
	fd_close(fd);
}

static void remap_follows_the_memory_table(void **state)
{
	start();
	driver_offer(&d, 2);
	pop(2);
	/* The same file at other addresses, as after VHOST_USER_SET_MEM_TABLE. */
	memory_clear(&d.memory);
	assert_int_equal(queue_remap(&q, &d.spec), QUEUE_BAD_ADDRESS);
	assert_int_equal(memory_add(&d.memory, (struct guest_addr){ DRIVER_GUEST },
				    (struct user_addr){ DRIVER_USER_2 }, DRIVER_REGION_LEN, 0x10,
				    d.fd),
			 MEMORY_OK);
	d.spec.desc.v += DRIVER_USER_2 - DRIVER_USER;
	d.spec.avail.v += DRIVER_USER_2 - DRIVER_USER;
	d.spec.used.v += DRIVER_USER_2 - DRIVER_USER;
	assert_int_equal(queue_remap(&q, &d.spec), QUEUE_OK);
	queue_push(&q, 2, 3);
	queue_publish(&q);
	reap(2, 3);
	serve(4);
	reap(4, 0);
	d.spec.size = 4;
	assert_int_equal(queue_remap(&q, &d.spec), QUEUE_BAD_SIZE);
}

static void a_ring_restarts_at_zero_after_a_reset_of_the_driver(void **state)
{
	driver_set_idx(&d, 500);
	start();
	serve(0);
	serve(2);
	driver_set_idx(&d, 0);
	start();
	assert_int_equal(d.n_entries, 0);
	serve(0);
	reap(0, 0);
}

static void verdicts_have_texts(void **state)
{
	for (int v = QUEUE_OK; v <= QUEUE_BAD_CHAIN; v++)
		assert_non_null(queue_verdict_to_string((enum queue_verdict)v));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_head_is_in_hand_while_its_chain_is_walked),
		TEST(afterwards_what_was_in_hand_before_is_so_again),
		TEST(a_chain_that_crashes_again_and_again_breaks_the_ring_unseen),
		TEST(a_run_is_taken_and_given_back_in_order),
		TEST(a_writable_run_tells_what_was_written),
		TEST(a_run_ends_where_a_chain_is_another),
		TEST(a_suspect_is_not_in_a_run),
		TEST(a_head_twice_in_a_run_breaks_the_ring),
		TEST(a_head_beyond_the_table_ends_a_run_and_breaks_the_ring),
		TEST(start_refuses_unusable_sizes),
		TEST(start_refuses_misaligned_parts),
		TEST(start_refuses_a_map_that_shifts_the_alignment),
		TEST(start_refuses_rings_outside_of_memory),
		TEST(start_refuses_a_region_of_another_size),
		TEST(requests_go_round_and_wrap),
		TEST(pop_takes_all_that_is_available_in_order),
		TEST(nothing_is_visible_before_publish),
		TEST(pop_rejects_a_head_beyond_the_table),
		TEST(pop_rejects_an_index_that_runs_ahead),
		TEST(pop_rejects_an_index_that_runs_back),
		TEST(pop_counts_what_is_in_flight_against_the_ring),
		TEST(pop_rejects_an_index_that_takes_back_what_is_in_flight),
		TEST(peek_rejects_an_index_that_takes_back_what_was_seen),
		TEST(pop_rejects_a_head_in_flight_already),
		TEST(pop_rejects_a_head_pushed_but_not_published),
		TEST(pop_rejects_looped_chain),
		TEST(indirect_needs_the_feature),
		TEST(a_broken_ring_still_gives_back_what_was_in_flight),
		TEST(a_broken_ring_breaks_again_under_a_successor),
		TEST(what_is_put_back_is_popped_next_also_by_a_successor),
		TEST(a_successor_gets_what_is_in_flight_in_order),
		TEST(a_successor_numbers_on_from_the_last),
		TEST(a_chain_changed_in_flight_breaks_the_ring),
		TEST(a_lost_request_is_taken_again_rather_than_forgotten),
		TEST(the_first_answer_after_a_start_is_to_signal),
		TEST(no_interrupt_is_respected),
		TEST(signal_comes_when_the_used_event_is_passed),
		TEST(an_event_is_passed_over_the_wrap_too),
		TEST(enable_notify_sets_the_avail_event_and_sees_the_race),
		TEST(notify_flag_is_set_and_cleared_without_event_idx),
		TEST(each_write_to_the_used_ring_is_logged),
		TEST(the_log_has_the_pages_of_each_element_of_a_batch),
		TEST(the_log_has_both_ends_of_a_batch_that_wraps),
		TEST(remap_follows_the_memory_table),
		TEST(a_ring_restarts_at_zero_after_a_reset_of_the_driver),
		TEST(verdicts_have_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
