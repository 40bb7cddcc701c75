/* What is tried out as long as it pays off (process/bet.h). */
#include "devices/process/bet.h"
#include "tests/unit/unit.h"

/* How many chances pass before it is tried again. */
static unsigned until_tried(struct bet *b)
{
	unsigned n = 0;

	while (!bet_on(b)) {
		bet_missed(b);
		n++;
	}
	return n;
}

static void lose(struct bet *b)
{
	while (bet_on(b))
		bet_lost(b);
}

static void nothing_is_tried_before_there_was_a_chance(void **state)
{
	struct bet b = { 0 };

	assert_false(bet_on(&b));
	assert_int_equal(until_tried(&b), 1);
}

static void two_of_three_keep_it_on(void **state)
{
	struct bet b = { 0 };

	until_tried(&b);
	for (unsigned i = 0; i < 10000; i++) {
		bet_won(&b);
		bet_won(&b);
		bet_lost(&b);
		assert_true(bet_on(&b));
	}
}

static void what_is_always_lost_is_tried_ever_more_rarely(void **state)
{
	struct bet b = { 0 };
	unsigned n = until_tried(&b), last;

	for (unsigned i = 0; i < 20; i++) {
		lose(&b);
		last = n;
		n = until_tried(&b);
		assert_true(n >= last);
	}
	assert_int_equal(n, BET_UNTIL_MAX);
}

static void what_has_paid_off_for_long_is_soon_tried_again(void **state)
{
	struct bet b = { 0 };

	for (unsigned i = 0; i < 20; i++) {
		until_tried(&b);
		lose(&b);
	}
	until_tried(&b);
	for (unsigned i = 0; i < 100; i++)
		bet_won(&b);
	lose(&b);
	assert_true(until_tried(&b) <= 2 * BET_UNTIL_MIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_tried_before_there_was_a_chance),
		cmocka_unit_test(two_of_three_keep_it_on),
		cmocka_unit_test(what_is_always_lost_is_tried_ever_more_rarely),
		cmocka_unit_test(what_has_paid_off_for_long_is_soon_tried_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
