/* Messages as bytes: bounded, little endian, exactly consumed, and no bad text. */
#include <string.h>

#include "devices/base/wire.h"
#include "tests/unit/unit.h"

static void fields_come_back_as_they_were_put(void **state)
{
	uint8_t buf[64], bytes[3] = { 0 };
	struct wire_writer w = wire_writer(buf, sizeof(buf));
	struct wire_reader r;
	char text[16];

	wire_put_u8(&w, 0x12);
	wire_put_u16(&w, 0x3456);
	wire_put_u32(&w, 0x789abcde);
	wire_put_u64(&w, UINT64_C(0xfedcba9876543210));
	wire_put_bytes(&w, "abc", 3);
	wire_put_text(&w, "disk \xc3\xa9");
	assert_int_equal(wire_len(&w), 1 + 2 + 4 + 8 + 3 + 7);
	assert_int_equal(buf[1], 0x56);
	r = wire_reader(buf, wire_len(&w));
	assert_int_equal(wire_get_u8(&r), 0x12);
	assert_int_equal(wire_get_u16(&r), 0x3456);
	assert_int_equal(wire_get_u32(&r), 0x789abcde);
	assert_true(wire_get_u64(&r) == UINT64_C(0xfedcba9876543210));
	wire_get_bytes(&r, bytes, 3);
	assert_memory_equal(bytes, "abc", 3);
	assert_false(wire_done(&r));
	assert_int_equal(wire_get_text(&r, text, sizeof(text)), 7);
	assert_string_equal(text, "disk \xc3\xa9");
	assert_true(wire_done(&r));
}

static void reader_stays_bad_after_a_short_field(void **state)
{
	const uint8_t buf[3] = { 1, 2, 3 };
	struct wire_reader r = wire_reader(buf, sizeof(buf));

	assert_int_equal(wire_get_u32(&r), 0);
	assert_true(r.bad);
	assert_int_equal(wire_get_u8(&r), 0);
	assert_int_equal(wire_left(&r), 0);
	assert_false(wire_done(&r));
}

static void leftover_bytes_are_not_done(void **state)
{
	const uint8_t buf[3] = { 1, 2, 3 };
	struct wire_reader r = wire_reader(buf, sizeof(buf));

	assert_int_equal(wire_get_u16(&r), 0x0201);
	assert_false(r.bad);
	assert_false(wire_done(&r));
}

static void an_empty_message_is_done_and_yields_nothing(void **state)
{
	struct wire_reader r = wire_reader(NULL, 0);
	char text[4] = "abc";

	assert_true(wire_done(&r));
	assert_int_equal(wire_get_text(&r, text, sizeof(text)), 0);
	assert_string_equal(text, "");
	assert_true(wire_done(&r));
	assert_int_equal(wire_get_u8(&r), 0);
	assert_false(wire_done(&r));
}

static void short_bytes_read_as_zeros(void **state)
{
	const uint8_t buf[2] = { 1, 2 };
	const uint8_t zeros[4] = { 0 };
	uint8_t out[4] = { 9, 9, 9, 9 };
	struct wire_reader r = wire_reader(buf, sizeof(buf));

	wire_get_bytes(&r, out, sizeof(out));
	assert_memory_equal(out, zeros, sizeof(zeros));
	assert_true(r.bad);
}

static void writer_never_writes_past_its_end(void **state)
{
	uint8_t buf[8];
	struct wire_writer w = wire_writer(buf, 6);

	memset(buf, 0xee, sizeof(buf));
	wire_put_u32(&w, 1);
	wire_put_u32(&w, 2);
	assert_true(w.bad);
	assert_int_equal(wire_len(&w), 0);
	wire_put_u8(&w, 3);
	assert_int_equal(buf[4], 0xee);
	assert_int_equal(buf[6], 0xee);
}

static void text_that_is_no_utf8_or_has_controls_is_bad(void **state)
{
	static const char *const bad[] = {
		"a\nb",
		"\x1b[31m",
		"\x7f",
		"\x80",
		"\xc0\x80",
		"\xc1\xbf",
		"\xe0\x80\x80",
		"\xed\xa0\x80",
		"\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80",
		"\xe2\x82",
		"\xc2\x85",
		"\xff",
		"\xf0\x8f\xbf\xbf",
		"\xe2\x28\xa1",
	};

	for (size_t i = 0; i < UNIT_N(bad); i++) {
		struct wire_reader r = wire_reader(bad[i], strlen(bad[i]));
		char text[16] = "x";

		assert_int_equal(wire_get_text(&r, text, sizeof(text)), 0);
		assert_string_equal(text, "");
		assert_true(r.bad);
	}
}

static void text_with_a_nul_or_too_long_is_bad(void **state)
{
	char text[4];
	struct wire_reader r = wire_reader("a\0b", 3);

	wire_get_text(&r, text, sizeof(text));
	assert_true(r.bad);
	r = wire_reader("abcd", 4);
	wire_get_text(&r, text, sizeof(text));
	assert_true(r.bad);
	r = wire_reader("abc", 3);
	assert_int_equal(wire_get_text(&r, text, sizeof(text)), 3);
	assert_true(wire_done(&r));
	r = wire_reader("", 0);
	wire_get_text(&r, text, 0);
	assert_true(r.bad);
}

static void put_text_cleans_and_cuts_between_characters(void **state)
{
	uint8_t buf[8];
	char text[16];
	struct wire_writer w = wire_writer(buf, 5);
	struct wire_reader r;

	wire_put_text(&w, "a\n\xff\xc3\xa9\xc3\xa9");
	assert_int_equal(wire_len(&w), 5);
	r = wire_reader(buf, wire_len(&w));
	wire_get_text(&r, text, sizeof(text));
	assert_true(wire_done(&r));
	assert_string_equal(text, "a??\xc3\xa9");
	w = wire_writer(buf, 4);
	wire_put_text(&w, "abc\xe2\x82\xac");
	assert_int_equal(wire_len(&w), 3);
	assert_false(w.bad);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_come_back_as_they_were_put),
		cmocka_unit_test(reader_stays_bad_after_a_short_field),
		cmocka_unit_test(leftover_bytes_are_not_done),
		cmocka_unit_test(an_empty_message_is_done_and_yields_nothing),
		cmocka_unit_test(short_bytes_read_as_zeros),
		cmocka_unit_test(writer_never_writes_past_its_end),
		cmocka_unit_test(text_that_is_no_utf8_or_has_controls_is_bad),
		cmocka_unit_test(text_with_a_nul_or_too_long_is_bad),
		cmocka_unit_test(put_text_cleans_and_cuts_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
