/* The memory table: what is mapped, what is refused, what is found, and which pages are dirty. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/virtio/memory.h"
#include "tests/unit/unit.h"

#define PAGE	UINT64_C(4096)
#define G(addr) ((struct guest_addr){ (addr) })
#define U(addr) ((struct user_addr){ (addr) })

static struct memory m;
static int fd;

static int setup(void **state)
{
	memset(&m, 0, sizeof(m));
	fd = fd_open_memfd("guest", 16 * PAGE, 0);
	return fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	memory_clear(&m);
	memory_log_set(&m, 0, 0, -1);
	fd_close(fd);
	return 0;
}

static void add(uint64_t guest, uint64_t user, uint64_t size, uint64_t offset)
{
	assert_int_equal(memory_add(&m, G(guest), U(user), size, offset, fd), MEMORY_OK);
}

static void add_refuses_empty_and_wrapping_regions(void **state)
{
	assert_int_equal(memory_add(&m, G(0), U(0), 0, 0, fd), MEMORY_EMPTY);
	assert_int_equal(memory_add(&m, G(UINT64_MAX - 4095), U(0), PAGE, 0, fd), MEMORY_WRAPS);
	assert_int_equal(memory_add(&m, G(0), U(UINT64_MAX - 4095), PAGE, 0, fd), MEMORY_WRAPS);
	assert_int_equal(memory_add(&m, G(0), U(0), PAGE, UINT64_MAX - 4095, fd), MEMORY_WRAPS);
	assert_int_equal(memory_add(&m, G(0), U(0), UINT64_MAX, 0, fd), MEMORY_SHORT);
	assert_int_equal(m.n_regions, 0);
}

static void add_refuses_a_file_that_is_too_short(void **state)
{
	assert_int_equal(memory_add(&m, G(0), U(0), 16 * PAGE + 1, 0, fd), MEMORY_SHORT);
	assert_int_equal(memory_add(&m, G(0), U(0), 16 * PAGE, 1, fd), MEMORY_SHORT);
	add(0, 0, 16 * PAGE - 1, 1);
}

static void add_refuses_what_cannot_be_mapped(void **state)
{
	int fds[2];

	assert_int_equal(memory_add(&m, G(0), U(0), PAGE, 0, -1), MEMORY_UNMAPPABLE);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(memory_add(&m, G(0), U(0), PAGE, 0, fds[0]), MEMORY_SHORT);
	fd_close(fds[0]);
	fd_close(fds[1]);
}

static void add_refuses_overlaps_as_guest_and_as_user_addresses(void **state)
{
	add(0x10000, 0x90000, 2 * PAGE, 0);
	assert_int_equal(memory_add(&m, G(0x11000), U(0), PAGE, 0, fd), MEMORY_OVERLAPS);
	assert_int_equal(memory_add(&m, G(0xf001), U(0), PAGE, 0, fd), MEMORY_OVERLAPS);
	assert_int_equal(memory_add(&m, G(0), U(0x91fff), PAGE, 0, fd), MEMORY_OVERLAPS);
	assert_int_equal(memory_add(&m, G(0), U(0x8f001), PAGE, 0, fd), MEMORY_OVERLAPS);
	add(0x12000, 0x8f000, PAGE, 0);
	add(0xf000, 0x92000, PAGE, 0);
}

static void table_takes_509_regions_sorted_and_says_when_it_is_full(void **state)
{
	for (unsigned i = 0; i < MEMORY_MAX_REGIONS; i++) {
		/* 7 and 512 share no factor: every place, in a scrambled order. */
		uint64_t at = UINT64_C(2) * (i * 7u % MEMORY_MAX_REGIONS) * PAGE;

		add(at, at, PAGE, 0);
	}
	assert_true(m.n_regions >= 509);
	for (unsigned i = 1; i < m.n_regions; i++)
		assert_true(m.regions[i - 1].guest.v < m.regions[i].guest.v);
	assert_int_equal(memory_add(&m, G(PAGE), U(PAGE), PAGE, 0, fd), MEMORY_FULL);
}

static void remove_wants_exactly_the_region(void **state)
{
	add(0x10000, 0x90000, 2 * PAGE, 0);
	add(0x20000, 0xa0000, 2 * PAGE, 0);
	assert_int_equal(memory_remove(&m, G(0x10000), U(0x90000), PAGE), MEMORY_UNKNOWN);
	assert_int_equal(memory_remove(&m, G(0x10000), U(0xa0000), 2 * PAGE), MEMORY_UNKNOWN);
	assert_int_equal(memory_remove(&m, G(0x11000), U(0x90000), 2 * PAGE), MEMORY_UNKNOWN);
	assert_int_equal(memory_remove(&m, G(0), U(0), 1), MEMORY_UNKNOWN);
	assert_int_equal(memory_remove(&m, G(0x10000), U(0x90000), 2 * PAGE), MEMORY_OK);
	assert_null(memory_at(&m, G(0x10000), 1));
	assert_non_null(memory_at(&m, G(0x20000), 1));
	assert_int_equal(memory_remove(&m, G(0x10000), U(0x90000), 2 * PAGE), MEMORY_UNKNOWN);
}

static void an_offset_need_not_be_page_aligned(void **state)
{
	uint8_t byte = 0x5a;

	assert_int_equal(pwrite(fd, &byte, 1, 0x1234), 1);
	add(0xc4f234, 0xc4f234, 3 * PAGE, 0x1234);
	assert_int_equal(*(uint8_t *)memory_at(&m, G(0xc4f234), 1), 0x5a);
}

static void at_never_leaves_one_region(void **state)
{
	add(0x10000, 0x90000, 2 * PAGE, 0);
	add(0x12000, 0x70000, PAGE, 8 * PAGE);
	assert_non_null(memory_at(&m, G(0x10000), 2 * PAGE));
	assert_null(memory_at(&m, G(0x10000), 2 * PAGE + 1));
	assert_null(memory_at(&m, G(0xffff), 2));
	assert_non_null(memory_at(&m, G(0x12fff), 1));
	assert_null(memory_at(&m, G(0x12fff), 2));
	assert_null(memory_at(&m, G(0x13000), 0));
	assert_null(memory_at(&m, G(0x10001), UINT64_MAX));
	assert_null(memory_at(&m, G(UINT64_MAX), 1));
	assert_ptr_equal(memory_at_user(&m, U(0x70000), PAGE), memory_at(&m, G(0x12000), PAGE));
	assert_null(memory_at_user(&m, U(0x6ffff), 1));
	assert_null(memory_at_user(&m, U(0x91fff), 2));
	assert_null(memory_at_user(&m, U(0x90001), UINT64_MAX));
}

static void iov_crosses_into_the_region_that_continues(void **state)
{
	struct iovec iov[4];
	uint32_t n = 1;

	add(0x10000, 0x90000, 2 * PAGE, 0);
	add(0x12000, 0x70000, PAGE, 8 * PAGE);
	assert_true(memory_iov(&m, G(0x11ff0), 0x20, iov, &n, 4));
	assert_int_equal(n, 3);
	assert_ptr_equal(iov[1].iov_base, memory_at(&m, G(0x11ff0), 0x10));
	assert_int_equal(iov[1].iov_len, 0x10);
	assert_ptr_equal(iov[2].iov_base, memory_at(&m, G(0x12000), 0x10));
	assert_int_equal(iov[2].iov_len, 0x10);
}

static void iov_leaves_the_count_alone_when_it_fails(void **state)
{
	struct iovec iov[4];
	uint32_t n = 3;

	add(0x10000, 0x90000, 2 * PAGE, 0);
	add(0x12000, 0x70000, PAGE, 8 * PAGE);
	assert_false(memory_iov(&m, G(0x11ff0), 0x20, iov, &n, 4));
	assert_int_equal(n, 3);
	n = 0;
	assert_false(memory_iov(&m, G(0x12ff0), 0x20, iov, &n, 4));
	assert_false(memory_iov(&m, G(0xff0), 1, iov, &n, 4));
	assert_int_equal(n, 0);
	assert_true(memory_iov(&m, G(0x10000), 0, iov, &n, 0));
	assert_int_equal(n, 0);
}

/* The dirty bits as a mask of the first 64 pages. */
static uint64_t log_take(int log_fd)
{
	static const uint64_t zero;
	uint64_t bits = 0;

	assert_int_equal(pread(log_fd, &bits, sizeof(bits), 0), sizeof(bits));
	assert_int_equal(pwrite(log_fd, &zero, sizeof(zero), 0), sizeof(zero));
	return bits;
}

static void log_marks_exactly_the_pages_that_are_touched(void **state)
{
	int log_fd = fd_open_memfd("log", 64, 0);

	assert_int_equal(memory_log_set(&m, 8, 0, log_fd), MEMORY_OK);
	for (uint64_t first = 0; first < 20; first++) {
		for (uint64_t last = first; last < 40; last++) {
			uint64_t start = first * PAGE + (last & 1 ? 0 : PAGE - 1);
			uint64_t end = last * PAGE + (first & 1 ? 1 : PAGE);

			if (end <= start)
				continue;
			memory_log_guest(&m, G(start), end - start);
			assert_true(log_take(log_fd) ==
				    ((UINT64_C(2) << last) - 1 - ((UINT64_C(1) << first) - 1)));
		}
	}
	memory_log_guest(&m, G(5), 0);
	assert_true(log_take(log_fd) == 0);
	fd_close(log_fd);
}

static void log_ignores_pages_beyond_its_end(void **state)
{
	int log_fd = fd_open_memfd("log", 64, 0);
	uint8_t beyond[56] = { 0 }, zeros[56] = { 0 };

	assert_int_equal(memory_log_set(&m, 8, 0, log_fd), MEMORY_OK);
	memory_log_guest(&m, G(62 * PAGE), 10 * PAGE);
	assert_true(log_take(log_fd) == UINT64_C(3) << 62);
	memory_log_guest(&m, G(64 * PAGE), PAGE);
	memory_log_guest(&m, G(UINT64_MAX - 5), 100);
	memory_log_guest(&m, G(0), UINT64_MAX);
	assert_true(log_take(log_fd) == UINT64_MAX);
	assert_int_equal(pread(log_fd, beyond, sizeof(beyond), 8), sizeof(beyond));
	assert_memory_equal(beyond, zeros, sizeof(zeros));
	fd_close(log_fd);
}

static void log_of_a_pointer_is_that_of_its_guest_address(void **state)
{
	int log_fd = fd_open_memfd("log", 64, 0);

	add(0x10000, 0x90000, 2 * PAGE, 0);
	add(0x20000, 0x70000, PAGE, 8 * PAGE);
	assert_int_equal(memory_log_set(&m, 8, 0, log_fd), MEMORY_OK);
	memory_log_host(&m, (uint8_t *)memory_at(&m, G(0x11fff), 1), 1);
	assert_true(log_take(log_fd) == UINT64_C(1) << 0x11);
	memory_log_host(&m, memory_at(&m, G(0x20000), 1), PAGE);
	assert_true(log_take(log_fd) == UINT64_C(1) << 0x20);
	memory_log_host(&m, &log_fd, sizeof(log_fd));
	assert_true(log_take(log_fd) == 0);
	fd_close(log_fd);
}

static void log_is_replaced_and_taken_away(void **state)
{
	int a = fd_open_memfd("log", 64, 0), b = fd_open_memfd("log", 64, 0);

	assert_int_equal(memory_log_set(&m, 8, 0, a), MEMORY_OK);
	assert_int_equal(memory_log_set(&m, 65, 0, b), MEMORY_SHORT);
	memory_log_guest(&m, G(0), 1);
	assert_true(log_take(a) == 1);
	assert_int_equal(memory_log_set(&m, 8, 8, b), MEMORY_OK);
	memory_log_guest(&m, G(0), 1);
	assert_true(log_take(a) == 0);
	assert_true(log_take(b) == 0);
	assert_false(memory_logs(&m));
	m.log.all = true;
	assert_true(memory_logs(&m));
	assert_int_equal(memory_log_set(&m, 0, 0, -1), MEMORY_OK);
	assert_false(memory_logs(&m));
	memory_log_guest(&m, G(0), 1);
	fd_close(a);
	fd_close(b);
}

static void verdicts_have_texts(void **state)
{
	for (int v = MEMORY_OK; v <= MEMORY_UNMAPPABLE; v++)
		assert_non_null(memory_verdict_to_string((enum memory_verdict)v));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(add_refuses_empty_and_wrapping_regions),
		TEST(add_refuses_a_file_that_is_too_short),
		TEST(add_refuses_what_cannot_be_mapped),
		TEST(add_refuses_overlaps_as_guest_and_as_user_addresses),
		TEST(table_takes_509_regions_sorted_and_says_when_it_is_full),
		TEST(remove_wants_exactly_the_region),
		TEST(an_offset_need_not_be_page_aligned),
		TEST(at_never_leaves_one_region),
		TEST(iov_crosses_into_the_region_that_continues),
		TEST(iov_leaves_the_count_alone_when_it_fails),
		TEST(log_marks_exactly_the_pages_that_are_touched),
		TEST(log_ignores_pages_beyond_its_end),
		TEST(log_of_a_pointer_is_that_of_its_guest_address),
		TEST(log_is_replaced_and_taken_away),
		TEST(verdicts_have_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
