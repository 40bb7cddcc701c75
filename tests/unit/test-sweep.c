/*
 * What a worker closes at its start, and what it leaves open.
 *
 * Each case runs in a child, whose descriptors are its own: sweeping closes all but the kept ones.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/process/contract.h"
#include "devices/process/sweep.h"
#include "tests/unit/unit.h"

enum { MANY = 10000 };

struct keeping {
	struct model model; /* first */
	int fds[MANY];
	int n;
};

static struct keeping keeping;
static struct image_store store;
static struct session session;

static void name_kept(struct device *d, void (*found)(int fd, void *arg), void *arg)
{
	struct keeping *k = (struct keeping *)(void *)d;

	for (int i = 0; i < k->n; i++)
		found(k->fds[i], arg);
}

static void no_reset(struct device *d, struct image *im)
{
}

static const struct device_ops device_ops = { .reset = no_reset };
static const struct model_ops with_descriptors = { .for_each_fd = name_kept };
static const struct model_ops without_descriptors = { .for_each_fd = NULL };

static int set_up(void **unused)
{
	memset(&keeping, 0, sizeof(keeping));
	keeping.model.device.ops = &device_ops;
	keeping.model.ops = &with_descriptors;
	session_store_init(&store, &keeping.model.device);
	session = (struct session){ .store = &store, .device = &keeping.model.device };
	session.image = store.image[0];
	session.limits.fd_limit = CONTRACT_FD_LIMIT_MAX;
	return 0;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static bool open_at(int number)
{
	return dup2(0, number) == number;
}

/* The case's verdict, found out in a child. */
static void in_a_child(bool (*holds)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(holds() ? 0 : 1);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static bool raise_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return false;
	if (l.rlim_max < CONTRACT_FD_LIMIT_FS)
		l.rlim_max = CONTRACT_FD_LIMIT_FS;
	l.rlim_cur = l.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &l) == 0;
}

static bool closes_all_that_nobody_names(void)
{
	static const int numbers[] = { 48, 49, 50, 63, 64, 65, 127, 128, 200, 500, 1000 };
	bool ok = true;

	for (size_t i = 0; i < UNIT_N(numbers); i++)
		ok = ok && open_at(numbers[i]);
	sweep_session(&session, &keeping.model, false);
	for (size_t i = 0; i < UNIT_N(numbers); i++)
		ok = ok && !is_open(numbers[i]);
	return ok && is_open(0);
}

static void descriptors_that_nobody_names_are_closed(void **unused)
{
	in_a_child(closes_all_that_nobody_names);
	keeping.model.ops = &without_descriptors;
	in_a_child(closes_all_that_nobody_names);
}

/* Every number from the first on is open; those of the model are at the borders of words, and around them. */
static bool keeps_the_models(void)
{
	static const int numbers[] = { 48, 63, 64, 66, 127, 191, 192, 1000, 1023 };
	int n_open = 0;
	bool ok = true;

	for (int fd = CONTRACT_FD_SESSION; fd < 1024; fd++)
		ok = ok && open_at(fd);
	keeping.n = UNIT_N(numbers);
	memcpy(keeping.fds, numbers, sizeof(numbers));
	sweep_session(&session, &keeping.model, false);
	for (int fd = CONTRACT_FD_SESSION; fd < 1024; fd++)
		n_open += is_open(fd);
	for (size_t i = 0; i < UNIT_N(numbers); i++)
		ok = ok && is_open(numbers[i]);
	return ok && n_open == UNIT_N(numbers);
}

static void the_models_descriptors_stay_and_their_neighbours_go(void **unused)
{
	in_a_child(keeps_the_models);
}

/* What a dead worker wrote may name anything. */
static bool bears_any_number(void)
{
	static const int numbers[] = { -1, INT32_MIN, INT32_MAX, CONTRACT_FD_LIMIT_MAX, 0, 100 };

	keeping.n = UNIT_N(numbers);
	memcpy(keeping.fds, numbers, sizeof(numbers));
	if (!open_at(100) || !open_at(101))
		return false;
	sweep_session(&session, &keeping.model, false);
	return is_open(100) && !is_open(101);
}

static void numbers_out_of_range_are_of_no_account(void **unused)
{
	in_a_child(bears_any_number);
}

static bool finds_the_stray(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || dup2(pair[0], 60) != 60 ||
	    !open_at(61))
		return false;
	close(pair[0]);
	return sweep_session(&session, &keeping.model, false) == 60 && is_open(60) && !is_open(61);
}

static void a_connection_that_was_accepted_and_not_committed_is_found(void **unused)
{
	in_a_child(finds_the_stray);
}

/* As a file system's after a while: mostly side by side. With the time that it takes, for a person to read. */
static bool keeps_many(void)
{
	uint64_t begin;
	bool ok = true;

	if (!raise_limit()) {
		printf("# not run: RLIMIT_NOFILE is too low here\n");
		return true;
	}

	for (int i = 0; i < MANY; i++) {
		keeping.fds[keeping.n++] = CONTRACT_FD_SESSION + i + i / 100;
		ok = ok && open_at(CONTRACT_FD_SESSION + i + i / 100);
	}
	ok = ok && open_at(CONTRACT_FD_SESSION + 100) && open_at(2 * MANY);
	begin = clock_now_ns();
	sweep_session(&session, &keeping.model, false);
	printf("# %d kept, swept in %llu us\n", MANY,
	       (unsigned long long)(clock_now_ns() - begin) / 1000);
	fflush(stdout);
	for (int i = 0; i < MANY; i++)
		ok = ok && is_open(keeping.fds[i]);
	return ok && !is_open(CONTRACT_FD_SESSION + 100) && !is_open(2 * MANY);
}

static void ten_thousand_are_kept(void **unused)
{
	in_a_child(keeps_many);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(descriptors_that_nobody_names_are_closed),
		TEST(the_models_descriptors_stay_and_their_neighbours_go),
		TEST(numbers_out_of_range_are_of_no_account),
		TEST(a_connection_that_was_accepted_and_not_committed_is_found),
		TEST(ten_thousand_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
