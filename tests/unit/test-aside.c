/*
 * Companions of workers that have died: none submits once its successor has gone on, however many have died since.
 *
 * A worker is a process here, on one shared state. Its companion is caught inside io_uring_enter by a filter that
 * leaves the call unanswered: so a companion looks that cannot die, as one does whose file system does not
 * answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/process/aside.h"
#include "tests/unit/unit.h"

enum {
	RING_FD = 100,
	WHILE_MS = 150, /* what is not to happen does not within this */
	SOON_MS = 5000,
};

/* One byte each: how far a worker is. */
enum report {
	READY = 'r',	/* its companion is there */
	PASSED = 'p',	/* its predecessor has been shut out */
	ENTERED = 'e',	/* its companion is inside io_uring_enter, for ever */
	NO_URING = 'u', /* cannot be tried here */
	NOT_ENTERED = 'n',
	FAILED = 'f',
};

struct process {
	pid_t pid;
	int reports, orders;
};

static struct state *state;

static int set_up(void **unused)
{
	state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	return state == MAP_FAILED ? -1 : 0;
}

static int tear_down(void **unused)
{
	return munmap(state, sizeof(*state));
}

static void report(int fd, enum report what)
{
	char c = (char)what;

	if (write(fd, &c, 1) != 1)
		_exit(1);
}

/* Descriptor on which calls of io_uring_enter can be seen, and are never answered. */
static int catch_enter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(*code), .filter = code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			    &program);
}

static int open_ring(struct uring *u)
{
	static const uint8_t opcodes[] = { IORING_OP_NOP };
	struct io_uring_params params;
	int file = STDIN_FILENO;
	struct uring_spec spec = { .n_entries = 4,
				   .n_cq_entries = 8,
				   .files = &file,
				   .n_files = 1,
				   .opcodes = opcodes,
				   .n_opcodes = 1 };

	return uring_create(u, RING_FD, &spec, &params);
}

/* A worker, as worker_main() does it. On an order it hands something over to its companion. */
static _Noreturn void be_worker(int reports, int orders)
{
	static struct uring u;
	struct uring *urings[] = { &u };
	struct pollfd caught = { .events = POLLIN };
	char order;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	caught.fd = catch_enter();
	if (caught.fd < 0 || open_ring(&u) < 0)
		report(reports, NO_URING);
	if (aside_start(state, urings, 1) < 0 || aside_await() < 0)
		report(reports, FAILED);
	report(reports, READY);
	aside_close_gate(state);
	while (!aside_is_shut_out(state))
		usleep(1000);
	report(reports, PASSED);
	if (read(orders, &order, 1) != 1)
		_exit(1);
	uring_sqe(&u);
	aside_hand_over(&u);
	report(reports, poll(&caught, 1, order) == 1 ? ENTERED : NOT_ENTERED);
	for (;;)
		pause();
}

static struct process start_worker(void)
{
	int reports[2], orders[2];
	struct process p;

	assert_int_equal(pipe2(reports, O_CLOEXEC), 0);
	assert_int_equal(pipe2(orders, O_CLOEXEC), 0);
	state->generation++;
	p = (struct process){ .pid = fork(), .reports = reports[0], .orders = orders[1] };
	assert_true(p.pid >= 0);
	if (p.pid == 0)
		be_worker(reports[1], orders[0]);
	close(reports[1]);
	close(orders[0]);
	return p;
}

/* The next report within so many milliseconds; 0: none. */
static int next_report(const struct process *p, int ms)
{
	struct pollfd wait = { .fd = p->reports, .events = POLLIN };
	char c = 0;

	if (poll(&wait, 1, ms) == 1 && read(p->reports, &c, 1) != 1)
		fail_msg("a worker of the test has gone");
	if (c == NO_URING)
		unit_skip("this host has no io_uring");
	return c;
}

static void expect_report(const struct process *p, enum report what)
{
	assert_int_equal(next_report(p, SOON_MS), what);
}

static void kill_worker(struct process *p)
{
	assert_int_equal(kill(p->pid, SIGKILL), 0);
	assert_int_equal(waitpid(p->pid, NULL, 0), p->pid);
	close(p->reports);
	close(p->orders);
}

static void order(const struct process *p, char wait_ms)
{
	assert_int_equal(write(p->orders, &wait_ms, 1), 1);
}

static struct process start_and_pass(void)
{
	struct process p = start_worker();

	expect_report(&p, READY);
	expect_report(&p, PASSED);
	return p;
}

/* Its companion is in the kernel and stays there. */
static struct process start_and_enter(void)
{
	struct process p = start_and_pass();

	order(&p, 100);
	expect_report(&p, ENTERED);
	return p;
}

static void expect_held_up(const struct process *p)
{
	expect_report(p, READY);
	assert_int_equal(next_report(p, WHILE_MS), 0);
}

static void a_companion_that_submits_is_waited_for(void **unused)
{
	struct process first = start_and_enter(), second = start_worker();

	expect_held_up(&second);
	kill_worker(&first);
	expect_report(&second, PASSED);
	kill_worker(&second);
}

static void a_companion_that_submits_is_waited_for_over_two_deaths(void **unused)
{
	struct process first = start_and_enter(), next;

	for (int deaths = 0; deaths < 4; deaths++) {
		next = start_worker();
		expect_held_up(&next);
		kill_worker(&next);
	}
	next = start_worker();
	expect_held_up(&next);
	kill_worker(&first);
	expect_report(&next, PASSED);
	/* And it is one that can be waited for in its turn. */
	order(&next, 100);
	expect_report(&next, ENTERED);
	first = next;
	next = start_worker();
	expect_held_up(&next);
	kill_worker(&first);
	expect_report(&next, PASSED);
	kill_worker(&next);
}

static void a_companion_that_submits_nothing_is_not_waited_for(void **unused)
{
	struct process first = start_and_pass(), second = start_and_pass();

	kill_worker(&first);
	kill_worker(&second);
}

static void a_companion_that_was_shut_out_submits_nothing(void **unused)
{
	struct process first = start_and_pass(), second = start_and_pass();

	order(&first, 100);
	expect_report(&first, NOT_ENTERED);
	order(&second, 100);
	expect_report(&second, ENTERED);
	kill_worker(&first);
	kill_worker(&second);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_companion_that_submits_is_waited_for),
		TEST(a_companion_that_submits_is_waited_for_over_two_deaths),
		TEST(a_companion_that_submits_nothing_is_not_waited_for),
		TEST(a_companion_that_was_shut_out_submits_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
