/*
 * Crash points: this test is built with all sources of base and virtio and -DVMDEV_CRASH_POINTS,
 * as the device programs for tests/e2e are.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "tests/unit/unit.h"

static uint32_t *hits;

static void pass_both(void)
{
	CRASH_POINT("test.first");
	CRASH_POINT("test.second");
}

/* Fork a generation that passes both points n times; its wait status. */
static int generation(const char *at, unsigned n)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		if (at)
			setenv("VMDEV_CRASH_AT", at, 1);
		else
			unsetenv("VMDEV_CRASH_AT");
		signal(SIGABRT, SIG_DFL);
		crash_arm(hits);
		while (n-- > 0)
			pass_both();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int setup(void **state)
{
	hits = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return hits == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state)
{
	return munmap(hits, 4096);
}

static void unarmed_points_do_nothing(void **state)
{
	assert_int_equal(generation(NULL, 10), 0);
	assert_int_equal(*hits, 0);
}

static void the_armed_pass_kills(void **state)
{
	int status = generation("test.second:3", 10);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	assert_int_equal(*hits, 3);
}

static void passes_count_over_generations_and_fire_once(void **state)
{
	assert_int_equal(generation("test.first:5", 3), 0);
	assert_int_equal(*hits, 3);
	assert_true(WIFSIGNALED(generation("test.first:5", 3)));
	assert_int_equal(generation("test.first:5", 10), 0);
	assert_int_equal(*hits, 5);
}

static void the_second_point_strikes_after_the_first(void **state)
{
	const char *both = "test.second:2,test.first:3";

	assert_true(WIFSIGNALED(generation(both, 10)));
	assert_int_equal(*hits, 2);
	assert_int_equal(generation(both, 2), 0);
	assert_true(WIFSIGNALED(generation(both, 10)));
	assert_int_equal(*hits, 5);
	assert_int_equal(generation(both, 10), 0);
	assert_int_equal(*hits, 5);
}

static void a_bad_setting_aborts(void **state)
{
	static const char *const bad[] = { "",	     "name",   "name:",	     ":1",
					   "name:0", "name:x", "name:-1",    "a:1,",
					   "a:1,b",  ",a:1",   "a:1,b:1,c:1" };

	for (size_t i = 0; i < UNIT_N(bad); i++) {
		int status = generation(bad[i], 1);

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGABRT);
	}
}

static void list_has_each_point_of_the_program_once(void **state)
{
	static const char *const names[] = {
		"test.first\n",
		"test.second\n",
		"queue.pop.recorded\n",
		"queue.push.linked\n",
		"queue.publish.elements\n",
		"queue.publish.idx\n",
		"queue.publish.logged\n",
		"queue.publish.cleared\n",
		"inflight.take.counter\n",
		"inflight.complete.next\n",
		"inflight.clear.one\n",
		"inflight.finish.one\n",
	};
	char text[4096];
	int fds[2];
	ssize_t n;

	assert_int_equal(pipe(fds), 0);
	crash_list(fds[1]);
	n = read(fds[0], text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	for (size_t i = 0; i < UNIT_N(names); i++) {
		char *at = strstr(text, names[i]);

		assert_non_null(at);
		assert_null(strstr(at + 1, names[i]));
	}
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(unarmed_points_do_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(the_armed_pass_kills, setup, teardown),
		cmocka_unit_test_setup_teardown(passes_count_over_generations_and_fire_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_second_point_strikes_after_the_first, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_bad_setting_aborts, setup, teardown),
		cmocka_unit_test(list_has_each_point_of_the_program_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
