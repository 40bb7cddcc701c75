/*
 * The record of requests in flight: its form, its recovery, and that neither a request is lost nor
 * one answered twice wherever its writer is killed.
 *
 * The proof for "wherever" runs the device in a child, one instruction at a time. After each
 * instruction that changed the shared memory a successor starts on a copy of it, as it would
 * after a SIGKILL at that place, and is held against what the driver is owed.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/driver.h"
#include "tests/unit/unit.h"

#define SIZE ((uint16_t)8)

static struct driver d;

static int setup(void **state)
{
	driver_start(&d, SIZE);
	for (uint16_t head = 0; head < SIZE; head++)
		driver_desc(&d, head, DRIVER_GUEST + DRIVER_DATA, 1, 0, 0);
	return 0;
}

static int teardown(void **state)
{
	driver_stop(&d);
	return 0;
}

static struct inflight f;

static bool attach(uint16_t used_idx)
{
	return inflight_attach(&f, d.region, SIZE, used_idx, d.entries, &d.n_entries);
}

static void parts_are_as_long_as_the_specification_says(void **state)
{
	assert_int_equal(inflight_queue_len(1), 64);
	assert_int_equal(inflight_queue_len(3), 64);
	assert_int_equal(inflight_queue_len(4), 128);
	assert_int_equal(inflight_queue_len(128), 2112);
	assert_int_equal(offsetof(struct inflight_desc, next), 6);
	assert_int_equal(offsetof(struct inflight_desc, counter), 8);
}

static void a_fresh_region_is_initialised(void **state)
{
	/* As a front-end's memfd can be: version 0, the rest anything. */
	memset(d.region, 0xff, inflight_queue_len(SIZE));
	d.region->version = 0;
	assert_true(attach(77));
	assert_int_equal(d.n_entries, 0);
	assert_int_equal(d.region->version, 1);
	assert_int_equal(d.region->desc_num, SIZE);
	assert_int_equal(d.region->used_idx, 77);
	for (uint16_t head = 0; head < SIZE; head++)
		assert_false(inflight_is(&f, head));
}

static void a_region_of_another_version_or_size_is_left_alone(void **state)
{
	struct inflight_region before;

	*d.region = (struct inflight_region){ .version = 2, .desc_num = SIZE };
	before = *d.region;
	assert_false(attach(5));
	assert_memory_equal(d.region, &before, sizeof(before));
	*d.region = (struct inflight_region){ .version = 1, .desc_num = SIZE / 2 };
	before = *d.region;
	assert_false(attach(5));
	assert_memory_equal(d.region, &before, sizeof(before));
}

/* The record of a request that another process took. */
static void record(uint16_t head, uint64_t counter)
{
	d.region->desc[head].inflight = 1;
	d.region->desc[head].counter = counter;
}

static void entries_come_in_the_order_of_their_counters(void **state)
{
	static const uint64_t counters[SIZE] = { 7, 3, UINT64_MAX, 0, 9, 8, 1, 2 };
	static const uint16_t heads[SIZE] = { 3, 6, 7, 1, 0, 5, 4, 2 };

	*d.region = (struct inflight_region){ .version = 1, .desc_num = SIZE, .used_idx = 5 };
	for (uint16_t head = 0; head < SIZE; head++)
		record(head, counters[head]);
	assert_true(attach(5));
	assert_int_equal(d.n_entries, SIZE);
	for (uint16_t i = 0; i < SIZE; i++)
		assert_int_equal(d.entries[i].head, heads[i]);
}

static void numbers_go_on_over_a_death_with_nothing_in_flight(void **state)
{
	*d.region = (struct inflight_region){ .version = 1, .desc_num = SIZE, .used_idx = 5 };
	memset(d.region->desc, 0, SIZE * sizeof(d.region->desc[0]));
	d.region->desc[3].counter = 41; /* given back */
	assert_true(attach(5));
	assert_int_equal(d.n_entries, 0);
	inflight_take(&f, 6);
	assert_int_equal(inflight_counter(&f, 6), 42);
}

static void sorting_is_right_for_any_number_and_order(void **state)
{
	unsigned seed = 1;

	for (unsigned round = 0; round < 2000; round++) {
		uint32_t n = 0;

		*d.region = (struct inflight_region){ .version = 1, .desc_num = SIZE };
		memset(d.region->desc, 0, SIZE * sizeof(d.region->desc[0]));
		for (uint16_t head = 0; head < SIZE; head++) {
			if (rand_r(&seed) % 3 == 0)
				continue;
			record(head, (uint64_t)rand_r(&seed) % 5);
			n++;
		}
		assert_true(attach(0));
		assert_int_equal(d.n_entries, n);
		for (uint32_t i = 1; i < n; i++)
			assert_true(d.entries[i - 1].counter < d.entries[i].counter ||
				    (d.entries[i - 1].counter == d.entries[i].counter &&
				     d.entries[i - 1].head < d.entries[i].head));
	}
}

static void the_whole_last_batch_is_cleared_and_no_more(void **state)
{
	*d.region = (struct inflight_region){ .version = 1, .desc_num = SIZE, .used_idx = 0xffff };
	for (uint16_t head = 0; head < 5; head++)
		record(head, head);
	/* Batch: 1, 3, 2. Before it: 0. */
	d.region->desc[1].next = 0;
	d.region->desc[3].next = 1;
	d.region->desc[2].next = 3;
	d.region->last_batch_head = 2;
	d.region->desc[1].inflight = 0; /* cleared before the kill */
	assert_true(attach(2));
	assert_int_equal(d.n_entries, 2);
	assert_int_equal(d.entries[0].head, 0);
	assert_int_equal(d.entries[1].head, 4);
	assert_int_equal(d.region->used_idx, 2);
}

static void hostile_batch_lists_end(void **state)
{
	for (unsigned last = 0; last < 4; last++) {
		*d.region = (struct inflight_region){ .version = 1, .desc_num = SIZE };
		for (uint16_t head = 0; head < SIZE; head++) {
			record(head, UINT64_MAX);
			d.region->desc[head].next = last == 0 ? head : (uint16_t)(SIZE * last);
		}
		d.region->last_batch_head = (uint16_t)(last == 3 ? 0xffff : 1);
		assert_true(attach(0x8000));
		assert_int_equal(d.n_entries, last == 3 ? SIZE : SIZE - 1);
		assert_int_equal(d.region->used_idx, 0x8000);
	}
}

/* What a test knows of the driver's side: how often each head was offered and given back. */
struct ledger {
	uint16_t avail_idx, used_idx;
	int outstanding[SIZE];
	uint32_t offered[SIZE]; /* the number of the head's last offer, from 1 */
	uint32_t n_offered;
	uint32_t n_states;   /* distinct states of the shared memory that were checked */
	uint32_t n_finished; /* of them, states in which a batch had to be cleared */
};

/* Follow the indices of the ring; each step of them is seen, since each instruction is. */
static void ledger_follow(struct ledger *l)
{
	for (; l->avail_idx != d.avail->idx; l->avail_idx++) {
		uint16_t head = d.avail->ring[l->avail_idx % SIZE];

		l->outstanding[head]++;
		l->offered[head] = ++l->n_offered;
	}
	for (; l->used_idx != d.used->idx; l->used_idx++)
		l->outstanding[d.used->ring[l->used_idx % SIZE].id]--;
}

/*
 * Start a successor on a copy of the shared memory. What it resubmits and what it will pop must
 * be exactly what the driver is owed, and resubmission must be in the order of taking.
 */
static void ledger_check(struct ledger *l, struct driver *copy)
{
	uint32_t owed[SIZE] = { 0 };
	struct queue q;

	memcpy(copy->desc, d.desc, ring_desc_len(SIZE));
	memcpy(copy->avail, d.avail, ring_avail_len(SIZE));
	memcpy(copy->used, d.used, ring_used_len(SIZE));
	memcpy(copy->region, d.region, inflight_queue_len(SIZE));
	if (d.region->version && d.region->used_idx != d.used->idx)
		l->n_finished++;
	assert_int_equal(driver_queue(copy, &q), QUEUE_OK);
	for (uint32_t i = 0; i < copy->n_entries; i++) {
		uint16_t head = copy->entries[i].head;

		owed[head]++;
		assert_true(i == 0 || l->offered[copy->entries[i - 1].head] < l->offered[head]);
	}
	for (uint16_t idx = q.last_avail; idx != d.avail->idx; idx++)
		owed[d.avail->ring[idx % SIZE]]++;
	for (uint16_t head = 0; head < SIZE; head++) {
		assert_in_range(l->outstanding[head], 0, 1);
		assert_int_equal(owed[head], l->outstanding[head]);
	}
	l->n_states++;
}

/*
 * The shared memory that the device writes, to see which instruction changed it. Not the driver's
 * part: while the driver is between two of its own writes nobody is killed.
 */
struct snapshot {
	uint8_t used[512];
	uint8_t region[512];
	uint16_t avail_idx;
};

static bool snapshot_update(struct snapshot *s)
{
	size_t used_len = ring_used_len(SIZE), region_len = inflight_queue_len(SIZE);

	if (memcmp(s->used, d.used, used_len) == 0 &&
	    memcmp(s->region, d.region, region_len) == 0 && s->avail_idx == d.avail->idx)
		return false;
	memcpy(s->used, d.used, used_len);
	memcpy(s->region, d.region, region_len);
	s->avail_idx = d.avail->idx;
	return true;
}

/* Step through a child that runs body(), and check each state that it leaves in shared memory. */
static struct ledger step_through(void (*body)(void),
				  void (*check)(struct ledger *, struct driver *))
{
	struct ledger l = { .avail_idx = d.avail->idx, .used_idx = d.used->idx };
	static struct snapshot s;
	struct driver copy;
	int status;
	pid_t pid;

	driver_start(&copy, SIZE);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
			_exit(errno == EPERM ? 77 : 1);
		raise(SIGSTOP);
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		driver_stop(&copy);
		unit_skip("ptrace is not permitted here");
	}
	while (WIFSTOPPED(status)) {
		int sig = WSTOPSIG(status);

		if (snapshot_update(&s)) {
			ledger_follow(&l);
			check(&l, &copy);
		}
		sig = sig == SIGSTOP || sig == SIGTRAP ? 0 : sig;
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, 0, sig), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	driver_stop(&copy);
	return l;
}

static struct queue q;

static void device_pop(void)
{
	struct iovec iov[1];
	struct chain c = { .iov = iov, .iov_max = 1 };

	if (queue_pop(&q, &c) != QUEUE_OK)
		_exit(3);
}

/* A life of the ring: batches of several sizes, out of order, over the end of the indices. */
static void device_life(void)
{
	if (driver_queue(&d, &q) != QUEUE_OK || d.n_entries != 0)
		_exit(2);
	for (uint16_t head = 0; head < 5; head++)
		driver_offer(&d, (uint16_t)(head * 3 % SIZE)); /* 0 3 6 1 4 */
	device_pop();
	device_pop();
	device_pop();
	queue_push(&q, 3, 1);
	queue_publish(&q);
	device_pop();
	device_pop();
	queue_push(&q, 4, 2);
	queue_push(&q, 0, 3);
	queue_push(&q, 1, 4);
	queue_publish(&q);
	/* The driver uses heads again that the record has seen, while 6 stays in flight. */
	driver_offer(&d, 3);
	driver_offer(&d, 0);
	driver_offer(&d, 5);
	driver_offer(&d, 4);
	device_pop();
	device_pop();
	queue_push(&q, 0, 5);
	device_pop();
	queue_push(&q, 3, 6);
	device_pop();
	queue_publish(&q);
	queue_push(&q, 5, 7);
	queue_push(&q, 6, 8);
	queue_push(&q, 4, 9);
	queue_publish(&q);
	if (queue_n_inflight(&q) != 0)
		_exit(4);
}

static void nothing_is_lost_or_repeated_wherever_the_device_is_killed(void **state)
{
	struct ledger l;

	driver_set_idx(&d, 65532);
	l = step_through(device_life, ledger_check);
	/* A lower bound of what the stores of nine requests alone change. */
	assert_true(l.n_states >= 9 * 5);
	assert_true(l.n_finished >= 9);
	for (uint16_t head = 0; head < SIZE; head++)
		assert_int_equal(l.outstanding[head], 0);
	assert_int_equal(d.used->idx, (uint16_t)(65532 + 9));
	assert_int_equal(d.region->used_idx, d.used->idx);
	print_message("%u states checked, %u with a batch to clear\n", l.n_states, l.n_finished);
}

/* States of a life in which a successor has a batch to clear. */
enum { N_INTERRUPTED = 32 };
static struct interrupted {
	struct driver at;
	struct ledger ledger;
} interrupted[N_INTERRUPTED];
static uint32_t n_interrupted;

static void interrupted_collect(struct ledger *l, struct driver *copy)
{
	struct interrupted *i = &interrupted[n_interrupted];

	if (d.region->version == 0 || d.region->used_idx == d.used->idx ||
	    n_interrupted == N_INTERRUPTED)
		return;
	driver_start(&i->at, SIZE);
	memcpy(i->at.desc, d.desc, ring_desc_len(SIZE));
	memcpy(i->at.avail, d.avail, ring_avail_len(SIZE));
	memcpy(i->at.used, d.used, ring_used_len(SIZE));
	memcpy(i->at.region, d.region, inflight_queue_len(SIZE));
	i->ledger = *l;
	n_interrupted++;
}

static const struct interrupted *interrupted_now;

static void recovery_check(struct ledger *l, struct driver *copy)
{
	memcpy(l->outstanding, interrupted_now->ledger.outstanding, sizeof(l->outstanding));
	memcpy(l->offered, interrupted_now->ledger.offered, sizeof(l->offered));
	ledger_check(l, copy);
}

static void device_recovery(void)
{
	if (driver_queue(&d, &q) != QUEUE_OK)
		_exit(2);
}

static void recovery_itself_can_be_killed_anywhere(void **state)
{
	driver_set_idx(&d, 65532);
	step_through(device_life, interrupted_collect);
	assert_true(n_interrupted >= 9);
	for (uint32_t i = 0; i < n_interrupted; i++) {
		struct ledger l;

		driver_stop(&d);
		d = interrupted[i].at;
		interrupted_now = &interrupted[i];
		l = step_through(device_recovery, recovery_check);
		assert_true(l.n_finished >= 1);
		assert_int_equal(d.region->used_idx, d.used->idx);
	}
}

static void initialisation_can_be_killed_anywhere(void **state)
{
	struct ledger l;

	memset(d.region, 0xff, inflight_queue_len(SIZE));
	d.region->version = 0;
	l = step_through(device_recovery, ledger_check);
	assert_true(l.n_states > 3);
	assert_int_equal(d.region->version, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(parts_are_as_long_as_the_specification_says),
		TEST(a_fresh_region_is_initialised),
		TEST(a_region_of_another_version_or_size_is_left_alone),
		TEST(entries_come_in_the_order_of_their_counters),
		TEST(numbers_go_on_over_a_death_with_nothing_in_flight),
		TEST(sorting_is_right_for_any_number_and_order),
		TEST(the_whole_last_batch_is_cleared_and_no_more),
		TEST(hostile_batch_lists_end),
		TEST(nothing_is_lost_or_repeated_wherever_the_device_is_killed),
		TEST(recovery_itself_can_be_killed_anywhere),
		TEST(initialisation_can_be_killed_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
