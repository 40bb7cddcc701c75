/* Values that a person wrote: each accepted form, and each near miss refused. */
#include <errno.h>

#include "devices/base/parse.h"
#include "tests/unit/unit.h"

/* One text and what becomes of it: r, and the value if r is 0. */
struct row {
	const char *text;
	int r;
	uint64_t v;
};

static void check_rows(int (*parse)(const char *, uint64_t *), const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t v = 4711;
		int r = parse(rows[i].text, &v);

		if (r != rows[i].r || v != (r == 0 ? rows[i].v : 4711))
			fail_msg("\"%s\": %d, %llu", rows[i].text, r, (unsigned long long)v);
	}
}

static int parse_any_u64(const char *text, uint64_t *ret_v)
{
	return parse_u64(text, 0, UINT64_MAX, ret_v);
}

static void u64_takes_digits_and_nothing_else(void **state)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "1", 0, 1 },
		{ "007", 0, 7 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE },
		{ "99999999999999999999999999", -ERANGE },
		{ "", -EINVAL },
		{ "-1", -EINVAL },
		{ "+1", -EINVAL },
		{ " 1", -EINVAL },
		{ "1 ", -EINVAL },
		{ "0x10", -EINVAL },
		{ "1e3", -EINVAL },
		{ "99999999999999999999999999x", -EINVAL },
	};

	check_rows(parse_any_u64, rows, UNIT_N(rows));
}

static void u64_keeps_to_its_range(void **state)
{
	uint64_t v = 4711;

	assert_int_equal(parse_u64("0", 1, 64, &v), -ERANGE);
	assert_int_equal(parse_u64("65", 1, 64, &v), -ERANGE);
	assert_int_equal(v, 4711);
	assert_int_equal(parse_u64("1", 1, 64, &v), 0);
	assert_int_equal(v, 1);
	assert_int_equal(parse_u64("64", 1, 64, &v), 0);
	assert_int_equal(v, 64);
}

static void size_takes_one_binary_suffix(void **state)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ "64K", 0, 65536 },
		{ "1M", 0, UINT64_C(1) << 20 },
		{ "3G", 0, UINT64_C(3) << 30 },
		{ "16777215T", 0, UINT64_C(16777215) << 40 },
		{ "16777216T", -ERANGE },
		{ "18446744073709551616", -ERANGE },
		{ "18446744073709551616K", -ERANGE },
		{ "", -EINVAL },
		{ "K", -EINVAL },
		{ "1k", -EINVAL },
		{ "1KB", -EINVAL },
		{ "1KK", -EINVAL },
		{ "1 K", -EINVAL },
		{ "1P", -EINVAL },
		{ "1.5G", -EINVAL },
		{ "-1K", -EINVAL },
		{ "18446744073709551616Q", -EINVAL },
	};

	check_rows(parse_size, rows, UNIT_N(rows));
}

static void time_takes_what_systemd_takes(void **state)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "5", 0, 5000000 },
		{ "5s", 0, 5000000 },
		{ "5 s", 0, 5000000 },
		{ "250ms", 0, 250000 },
		{ "7us", 0, 7 },
		{ "7\xce\xbcs", 0, 7 },
		{ "7\xc2\xb5s", 0, 7 },
		{ "1.5h", 0, UINT64_C(5400000000) },
		{ "0.000001s", 0, 1 },
		{ "0.0000001s", 0, 0 },
		{ "2min 200ms", 0, 120200000 },
		{ "2min200ms", 0, 120200000 },
		{ "1h 1h", 0, UINT64_C(7200000000) },
		{ "1y", 0, UINT64_C(31557600000000) },
		{ "0.5y", 0, UINT64_C(15778800000000) },
		{ "1M", 0, UINT64_C(2629800000000) },
		{ "1m", 0, 60000000 },
		{ "infinity", 0, UINT64_MAX },
		{ "584542y", 0, UINT64_C(584542) * 31557600000000u },
		{ "584543y", -ERANGE },
		{ "584542y 1y", -ERANGE },
		{ "18446744073709551615us", -ERANGE },
		{ "18446744073709551616us", -ERANGE },
	};

	check_rows(parse_time_usec, rows, UNIT_N(rows));
}

static void time_refuses_near_misses(void **state)
{
	static const struct row rows[] = {
		{ "", -EINVAL },
		{ "s", -EINVAL },
		{ ".5s", -EINVAL },
		{ "5.s", -EINVAL },
		{ "-5s", -EINVAL },
		{ " 5s", -EINVAL },
		{ "5s ", -EINVAL },
		{ "5x", -EINVAL },
		{ "5sx", -EINVAL },
		{ "5s,", -EINVAL },
		{ "5S", -EINVAL },
		{ "infinity ", -EINVAL },
		{ "5s infinity", -EINVAL },
		{ "1.5.5s", -EINVAL },
		{ "5 ", -EINVAL },
		{ "5\ts", -EINVAL },
		{ "18446744073709551616us x", -EINVAL },
	};

	check_rows(parse_time_usec, rows, UNIT_N(rows));
}

static void bool_takes_the_words_of_systemd(void **state)
{
	static const char *const yes[] = { "1", "yes", "Y", "true", "T", "ON" };
	static const char *const no[] = { "0", "no", "N", "False", "f", "off" };
	static const char *const neither[] = { "", "2", "yess", " yes", "o", "-1", "enabled" };
	bool v;

	for (size_t i = 0; i < UNIT_N(yes); i++) {
		v = false;
		assert_int_equal(parse_bool(yes[i], &v), 0);
		assert_true(v);
	}
	for (size_t i = 0; i < UNIT_N(no); i++) {
		v = true;
		assert_int_equal(parse_bool(no[i], &v), 0);
		assert_false(v);
	}
	for (size_t i = 0; i < UNIT_N(neither); i++)
		assert_int_equal(parse_bool(neither[i], &v), -EINVAL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(u64_takes_digits_and_nothing_else),
		cmocka_unit_test(u64_keeps_to_its_range),
		cmocka_unit_test(size_takes_one_binary_suffix),
		cmocka_unit_test(time_takes_what_systemd_takes),
		cmocka_unit_test(time_refuses_near_misses),
		cmocka_unit_test(bool_takes_the_words_of_systemd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
