/* How long there is a look for work before a sleep (base/look.h). */
#include "devices/base/look.h"

#include <unistd.h>

#include "tests/unit/unit.h"

/* In vain; how long it took. */
static uint64_t look_in_vain(struct look *l)
{
	uint64_t begin = clock_now_ns();

	if (look_begin(l, l->ns)) {
		while (look_again(l))
			;
		look_end(l);
	}
	return clock_now_ns() - begin;
}

static void a_look_is_as_long_as_it_was_worth(void **state)
{
	struct look l = { 0 };

	assert_false(look_begin(&l, l.ns));
	look_learn(&l, true);
	assert_int_equal(l.ns, LOOK_MIN_NS);
	for (unsigned i = 0; i < 20; i++)
		look_learn(&l, true);
	assert_int_equal(l.ns, LOOK_MAX_NS);
	assert_true(look_in_vain(&l) >= LOOK_MAX_NS);
	for (unsigned i = 0; i < 20; i++)
		look_learn(&l, false);
	assert_int_equal(l.ns, 0);
}

/* We sleep where the scheduler would have had another run. */
static void after_another_had_to_wait_for_us_there_is_no_look(void **state)
{
	struct look l = { .ns = LOOK_MAX_NS };
	uint64_t begin;

	assert_true(look_begin(&l, l.ns));
	usleep(5 * LOOK_GAP_NS / 1000);
	look_end(&l);
	begin = clock_now_ns();
	while (!look_begin(&l, l.ns))
		usleep(1000);
	assert_true(clock_now_ns() - begin >= UINT64_C(4) * LOOK_GAP_NS * LOOK_REST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_look_is_as_long_as_it_was_worth),
		cmocka_unit_test(after_another_had_to_wait_for_us_there_is_no_look),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
