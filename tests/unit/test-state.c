/*
 * What a worker finds out from the state that the last one left.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/base/fd.h"
#include "devices/process/state.h"
#include "tests/unit/unit.h"

enum { N_QUEUES = 4, GENERATION = 7 };

static struct state state;

static int set_up(void **unused)
{
	memset(&state, 0, sizeof(state));
	return 0;
}

static void in_hand(uint32_t thread, uint32_t queue, uint16_t head)
{
	state_threads(&state, GENERATION)[thread].suspect = 1 + (queue << 16 | head);
}

static void fault_in(uint32_t thread)
{
	const struct state_thread *threads = state_threads(&state, GENERATION);

	state.fault =
		(struct state_fault){ .signo = SIGSEGV,
				      .thread = thread,
				      .suspect = thread < STATE_THREADS ? threads[thread].suspect
									: UINT32_MAX };
}

static void the_request_in_the_hand_of_the_thread_that_faulted_is_suspect(void **unused)
{
	in_hand(1, 0, 7);
	fault_in(1);
	state_raise_suspicion(&state, N_QUEUES);
	assert_int_equal(state.suspicion[0][7], 1);
	in_hand(2, 3, QUEUE_MAX_SIZE - 1);
	fault_in(2);
	state_raise_suspicion(&state, N_QUEUES);
	assert_int_equal(state.suspicion[3][QUEUE_MAX_SIZE - 1], 1);
	assert_int_equal(state.suspicion[0][7], 1);
}

/* It may have been in a long system call, over many faults of another. */
static void what_another_thread_had_in_hand_is_no_suspect(void **unused)
{
	for (int i = 0; i < 5; i++) {
		in_hand(1, 0, 7);
		in_hand(2, 1, 9);
		fault_in(1);
		state_raise_suspicion(&state, N_QUEUES);
	}
	assert_int_equal(state.suspicion[0][7], 5);
	assert_int_equal(state.suspicion[1][9], 0);
}

static void a_fault_counts_once(void **unused)
{
	in_hand(1, 0, 7);
	fault_in(1);
	state_raise_suspicion(&state, N_QUEUES);
	in_hand(1, 0, 7);
	state_raise_suspicion(&state, N_QUEUES);
	assert_int_equal(state.suspicion[0][7], 1);
}

static void a_kill_from_outside_makes_no_suspect(void **unused)
{
	in_hand(1, 0, 7);
	state_raise_suspicion(&state, N_QUEUES);
	assert_int_equal(state.suspicion[0][7], 0);
}

static void suspicion_does_not_wrap(void **unused)
{
	state.suspicion[0][7] = UINT8_MAX;
	in_hand(1, 0, 7);
	fault_in(1);
	state_raise_suspicion(&state, N_QUEUES);
	assert_int_equal(state.suspicion[0][7], UINT8_MAX);
}

static void numbers_that_cannot_be_are_ignored(void **unused)
{
	static const uint32_t words[] = { UINT32_MAX, 1 + (N_QUEUES << 16), 1 + QUEUE_MAX_SIZE };
	static const uint32_t threads[] = { STATE_THREADS, CONTRACT_MAX_THREADS + 1, UINT32_MAX };

	for (uint32_t i = 0; i < 3; i++) {
		for (uint32_t t = 1; t < STATE_THREADS; t++)
			state_threads(&state, GENERATION)[t].suspect = words[i];
		fault_in(1);
		state_raise_suspicion(&state, N_QUEUES);
		in_hand(1, 0, 0);
		fault_in(threads[i]);
		state_raise_suspicion(&state, N_QUEUES);
	}
	for (uint32_t i = 0; i < sizeof(state.suspicion); i++)
		assert_int_equal(((const uint8_t *)state.suspicion)[i], 0);
}

static void a_message_in_hand_is_counted_if_the_main_thread_faulted(void **unused)
{
	for (int i = 0; i < 2; i++) {
		state.message_in_hand = 1;
		fault_in(0);
		state_raise_suspicion(&state, N_QUEUES);
	}
	state.message_in_hand = 1;
	fault_in(1);
	state_raise_suspicion(&state, N_QUEUES);
	assert_int_equal(state.session_faults, 2);
	assert_int_equal(state.message_in_hand, 0);
}

static void only_a_state_of_this_version_and_size_is_mapped(void **unused)
{
	struct state *s;

	assert_true(state_create(3 * 4096, 4096, 7) >= 0);
	s = state_map(3 * 4096);
	assert_non_null(s);
	assert_int_equal(s->generation, 7);
	assert_null(state_map(0));
	assert_int_equal(errno, EBADMSG);
	s->version++;
	assert_null(state_map(3 * 4096));
	assert_int_equal(errno, EBADMSG);
	s->version--;
	s->magic++;
	assert_null(state_map(3 * 4096));
	assert_int_equal(errno, EBADMSG);
	munmap(s, sizeof(*s));
}

/* One that is too short must not be touched: there would be SIGBUS. */
static void a_state_that_is_too_short_is_refused(void **unused)
{
	int fd = fd_open_memfd("short", 4096, 0);

	assert_true(fd_move(fd, CONTRACT_FD_STATE, false) >= 0);
	assert_null(state_map(0));
	assert_int_equal(errno, EBADMSG);
	assert_null(state_map(UINT64_MAX - 100));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
			the_request_in_the_hand_of_the_thread_that_faulted_is_suspect, set_up),
		cmocka_unit_test_setup(what_another_thread_had_in_hand_is_no_suspect, set_up),
		cmocka_unit_test_setup(a_fault_counts_once, set_up),
		cmocka_unit_test_setup(a_kill_from_outside_makes_no_suspect, set_up),
		cmocka_unit_test_setup(suspicion_does_not_wrap, set_up),
		cmocka_unit_test_setup(numbers_that_cannot_be_are_ignored, set_up),
		cmocka_unit_test_setup(a_message_in_hand_is_counted_if_the_main_thread_faulted,
				       set_up),
		cmocka_unit_test(only_a_state_of_this_version_and_size_is_mapped),
		cmocka_unit_test(a_state_that_is_too_short_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
