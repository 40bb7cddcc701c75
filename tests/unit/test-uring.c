/*
 * I/O rings that outlive their worker: what a successor takes over, what it is owed, and what it
 * refuses.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "devices/process/uring.h"
#include "tests/unit/unit.h"

enum { RING_FD = 100, N = 8 };

static const uint8_t opcodes[] = { IORING_OP_NOP, IORING_OP_READ };
static const int file = RING_FD + 1;
static const struct uring_spec spec = { .n_entries = N,
					.n_cq_entries = 2 * N,
					.files = &file,
					.n_files = 1,
					.opcodes = opcodes,
					.n_opcodes = 2 };
static struct uring u;
static struct io_uring_params params;

static int set_up(void **unused)
{
	int r;

	if (dup2(open("/dev/zero", O_RDONLY | O_CLOEXEC), file) < 0)
		return -1;
	r = uring_create(&u, RING_FD, &spec, &params);
	if (r == -ENOSYS || r == -EPERM)
		return 0;
	return r;
}

static int tear_down(void **unused)
{
	close(file);
	close(RING_FD);
	return 0;
}

static void need_uring(void)
{
	if (!u.open)
		unit_skip("this host has no io_uring");
}

static void queue(uint8_t opcode, uint64_t tag)
{
	struct io_uring_sqe *sqe = uring_sqe(&u);

	sqe->opcode = opcode;
	sqe->user_data = tag;
}

static void completions_of_the_dead_are_the_successors(void **unused)
{
	struct uring_completion c[4];
	struct uring next;

	need_uring();
	queue(IORING_OP_NOP, 11);
	queue(IORING_OP_NOP, 12);
	assert_int_equal(uring_submit(&u), 0);
	assert_int_equal(uring_take_over(&next, RING_FD, &spec, &params), 0);
	assert_int_equal(uring_owed(&next), 0);
	assert_int_equal(uring_peek(&next, c, 4), 2);
	assert_int_equal(c[0].tag, 11);
	assert_int_equal(c[1].tag, 12);
	uring_advance(&next, 2);
	assert_int_equal(uring_peek(&next, c, 4), 0);
}

/* Neither what was queued only, nor what was shown to the kernel and not taken. */
static void what_the_kernel_did_not_take_is_not_owed(void **unused)
{
	struct uring_completion c;
	struct uring next;

	need_uring();
	queue(IORING_OP_NOP, 11);
	uring_show(&u);
	queue(IORING_OP_NOP, 12);
	assert_int_equal(uring_take_over(&next, RING_FD, &spec, &params), 0);
	assert_int_equal(uring_owed(&next), 0);
	assert_int_equal(uring_room(&next), N);
	u = next;
	queue(IORING_OP_NOP, 13);
	assert_int_equal(uring_submit(&u), 0);
	assert_int_equal(uring_peek(&u, &c, 1), 1);
	assert_int_equal(c.tag, 13);
}

/* A read of a pipe that nobody writes to: taken, and not done. */
static void what_the_kernel_took_is_owed_until_it_is_done(void **unused)
{
	struct io_uring_sqe *sqe;
	struct uring next;
	int pair[2];
	char byte;

	need_uring();
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	assert_int_equal(io_uring_register_files_update(&u.ring, 0, pair, 1), -EACCES);
	/* The restriction holds: so a ring of the pipe from the start. */
	close(RING_FD);
	assert_int_equal(uring_create(&u, RING_FD,
				      &(struct uring_spec){ .n_entries = N,
							    .n_cq_entries = 2 * N,
							    .files = pair,
							    .n_files = 1,
							    .opcodes = opcodes,
							    .n_opcodes = 2 },
				      &params),
			 0);
	sqe = uring_sqe(&u);
	sqe->opcode = IORING_OP_READ;
	sqe->addr = (uintptr_t)&byte;
	sqe->len = 1;
	sqe->off = (uint64_t)-1;
	assert_int_equal(uring_submit(&u), 0);
	assert_int_equal(uring_take_over(&next, RING_FD, &spec, &params), 0);
	assert_int_equal(uring_owed(&next), 1);
	assert_int_equal(write(pair[1], "x", 1), 1);
	for (int i = 0; i < 1000 && uring_owed(&next) > 0; i++) {
		uring_flush(&next);
		usleep(1000);
	}
	assert_int_equal(uring_owed(&next), 0);
	close(pair[0]);
	close(pair[1]);
}

static void only_the_rings_opcodes_and_files_are_taken(void **unused)
{
	struct uring_completion c;

	need_uring();
	queue(IORING_OP_FSYNC, 1);
	assert_int_equal(uring_submit(&u), 0);
	assert_int_equal(uring_peek(&u, &c, 1), 1);
	assert_int_equal(c.res, -EACCES);
	uring_advance(&u, 1);
	queue(IORING_OP_NOP, 2);
	u.ring.sq.sqes[(u.ring.sq.sqe_tail - 1) & u.ring.sq.ring_mask].flags = 0;
	assert_int_equal(uring_submit(&u), 0);
	assert_int_equal(uring_peek(&u, &c, 1), 1);
	assert_int_equal(c.res, -EACCES);
}

/* They come from a worker that a guest may have taken over: a verdict on the state, not on the host. */
static void parameters_that_cannot_be_are_refused(void **unused)
{
	struct io_uring_params bad[8];
	struct uring next;

	need_uring();
	for (int i = 0; i < 8; i++)
		bad[i] = params;
	bad[0].sq_entries *= 2;
	bad[1].cq_entries *= 2;
	bad[2].features = 0;
	bad[3].flags |= IORING_SETUP_SQPOLL;
	bad[4].sq_off.head = 1 << 20;
	bad[5].cq_off.tail = UINT32_MAX;
	bad[6].cq_off.overflow += 1;
	bad[7].sq_off.array = 1 << 30;
	for (int i = 0; i < 8; i++)
		assert_int_equal(uring_take_over(&next, RING_FD, &spec, &bad[i]), -EBADMSG);
}

#define C(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		C(completions_of_the_dead_are_the_successors),
		C(what_the_kernel_did_not_take_is_not_owed),
		C(what_the_kernel_took_is_owed_until_it_is_done),
		C(only_the_rings_opcodes_and_files_are_taken),
		C(parameters_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
