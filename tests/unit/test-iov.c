/* Copying through scattered memory, over element boundaries and empty elements. */
#include <string.h>

#include "devices/virtio/iov.h"
#include "tests/unit/unit.h"

static char a[3], c[4], d[1];

static const struct iovec iov[] = {
	{ a, sizeof(a) },
	{ NULL, 0 },
	{ c, sizeof(c) },
	{ d, sizeof(d) },
};

static int setup(void **state)
{
	/* No strings: none of the pieces ends with a NUL. */
	for (size_t i = 0; i < 8; i++)
		*(i < 3 ? &a[i] : i < 7 ? &c[i - 3] : &d[0]) = (char)('a' + i);
	return 0;
}

static void len_is_the_sum(void **state)
{
	assert_int_equal(iov_len(iov, 4), 8);
	assert_int_equal(iov_len(iov, 0), 0);
}

static void read_crosses_elements_from_any_offset(void **state)
{
	static const char all[] = "abcdefgh";

	for (size_t offset = 0; offset <= 9; offset++) {
		for (size_t len = 0; len <= 10; len++) {
			size_t left = offset < 8 ? 8 - offset : 0, want = len < left ? len : left;
			char buf[16] = { 0 };

			assert_int_equal(iov_read(iov, 4, offset, buf, len), want);
			assert_memory_equal(buf, &all[want ? offset : 0], want);
			assert_int_equal(buf[want], 0);
		}
	}
}

static void write_crosses_elements_and_stops_at_the_end(void **state)
{
	assert_int_equal(iov_write(iov, 4, 2, "123456789", 9), 6);
	assert_memory_equal(a, "ab1", 3);
	assert_memory_equal(c, "2345", 4);
	assert_int_equal(d[0], '6');
}

static void zero_touches_its_range_only(void **state)
{
	assert_int_equal(iov_zero(iov, 4, 2, 3), 3);
	assert_memory_equal(a, "ab\0", 3);
	assert_memory_equal(c, "\0\0fg", 4);
}

static void slice_describes_exactly_the_range(void **state)
{
	struct iovec out[4];

	assert_int_equal(iov_slice(iov, 4, 1, 6, out, 4), 2);
	assert_ptr_equal(out[0].iov_base, a + 1);
	assert_int_equal(out[0].iov_len, 2);
	assert_ptr_equal(out[1].iov_base, c);
	assert_int_equal(out[1].iov_len, 4);
	assert_int_equal(iov_slice(iov, 4, 3, 1, out, 1), 1);
	assert_ptr_equal(out[0].iov_base, c);
	assert_int_equal(iov_slice(iov, 4, 0, 0, out, 0), 0);
}

static void slice_refuses_what_is_outside_or_too_many(void **state)
{
	struct iovec out[4];

	assert_int_equal(iov_slice(iov, 4, 1, 8, out, 4), -1);
	assert_int_equal(iov_slice(iov, 4, 9, 1, out, 4), -1);
	assert_int_equal(iov_slice(iov, 4, 0, 8, out, 2), -1);
	assert_int_equal(iov_slice(iov, 4, 0, 8, out, 3), 3);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(len_is_the_sum, setup),
		cmocka_unit_test_setup(read_crosses_elements_from_any_offset, setup),
		cmocka_unit_test_setup(write_crosses_elements_and_stops_at_the_end, setup),
		cmocka_unit_test_setup(zero_touches_its_range_only, setup),
		cmocka_unit_test_setup(slice_describes_exactly_the_range, setup),
		cmocka_unit_test_setup(slice_refuses_what_is_outside_or_too_many, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
