/* The switch's table of addresses: bounded, ageing, and no port at another's expense. */
#include <stdlib.h>

#include "devices/net/switch/table.h"
#include "tests/unit/unit.h"

static struct table t;

static int setup(void **state)
{
	table_init(&t, 0x9e3779b97f4a7c15);
	return 0;
}

static uint64_t key(uint64_t mac)
{
	return table_key(mac, 7);
}

static void an_address_is_where_it_was_seen_last(void **state)
{
	assert_int_equal(table_find(&t, key(1), 0), TABLE_NOWHERE);
	assert_true(table_learn(&t, key(1), 3, 0));
	assert_int_equal(table_find(&t, key(1), 0), 3);
	assert_true(table_learn(&t, key(1), 4, 1));
	assert_int_equal(table_find(&t, key(1), 1), 4);
	assert_int_equal(t.n_of_port[3], 0);
	assert_int_equal(t.n_of_port[4], 1);
}

static void vlans_are_apart(void **state)
{
	table_learn(&t, table_key(1, 7), 3, 0);
	assert_int_equal(table_find(&t, table_key(1, 8), 0), TABLE_NOWHERE);
}

static void an_address_ages(void **state)
{
	table_learn(&t, key(1), 3, 100);
	assert_int_equal(table_find(&t, key(1), 100 + TABLE_AGE_S), 3);
	assert_int_equal(table_find(&t, key(1), 101 + TABLE_AGE_S), TABLE_NOWHERE);
	assert_int_equal(t.n_of_port[3], 1);
	table_age(&t, 101 + TABLE_AGE_S);
	assert_int_equal(t.n_of_port[3], 0);
}

static void a_bound_address_stays_in_every_vlan(void **state)
{
	table_learn(&t, key(1), 5, 0); /* learned before: forgotten */
	assert_true(table_bind(&t, 1, 3));
	assert_int_equal(table_find(&t, key(1), 1000000), 3);
	assert_int_equal(table_find(&t, table_key(1, 9), 0), 3);
	assert_false(table_learn(&t, key(1), 4, 0));
	assert_int_equal(table_find(&t, key(1), 0), 3);
	assert_false(table_bind(&t, 1, 4));
	assert_true(table_bind(&t, 1, 3));
	table_forget(&t, 3);
	assert_true(table_learn(&t, key(1), 4, 0));
	assert_int_equal(table_find(&t, key(1), 0), 4);
}

static void a_port_that_floods_takes_nothing_from_another(void **state)
{
	uint32_t n = 0;

	for (uint64_t mac = 0; mac < 100; mac++)
		table_learn(&t, key(mac), 1, 0);
	for (uint64_t mac = 1000; mac < 1000000; mac++)
		table_learn(&t, key(mac), 2, 0);
	for (uint64_t mac = 0; mac < 100; mac++)
		assert_int_equal(table_find(&t, key(mac), 0), 1);
	assert_in_range(t.n_of_port[2], 1, TABLE_PER_PORT);
	/* And what it has itself it may replace, where it has something. */
	for (uint64_t mac = 990000; mac < 1000000; mac++)
		n += table_find(&t, key(mac), 0) == 2;
	assert_true(n > 0);
}

static void the_table_is_bounded_over_all_ports(void **state)
{
	uint32_t sum = 0;

	srandom(3);
	for (uint32_t i = 0; i < 2000000; i++)
		table_learn(&t, key((uint64_t)random() << 16 | (uint64_t)i % 65536),
			    (uint16_t)(i % TABLE_MAX_PORTS), i / 10000);
	for (uint32_t p = 0; p < TABLE_MAX_PORTS; p++)
		sum += t.n_of_port[p];
	assert_in_range(sum, 1, TABLE_BUCKETS * TABLE_WAYS);
	for (uint16_t p = 0; p < TABLE_MAX_PORTS; p++)
		table_forget(&t, p);
	for (uint32_t p = 0; p < TABLE_MAX_PORTS; p++)
		assert_int_equal(t.n_of_port[p], 0);
}

static void a_binding_goes_before_what_was_learned(void **state)
{
	for (uint64_t mac = 0; mac < 200000; mac++)
		table_learn(&t, key(mac << 8), (uint16_t)(mac % 64), 0);
	for (uint16_t p = 100; p < 200; p++)
		assert_true(table_bind(&t, 0x525400000000 + p, p));
	for (uint16_t p = 100; p < 200; p++)
		assert_int_equal(table_find(&t, key(0x525400000000 + p), 0), p);
}

#define CASE(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(an_address_is_where_it_was_seen_last),
		CASE(vlans_are_apart),
		CASE(an_address_ages),
		CASE(a_bound_address_stays_in_every_vlan),
		CASE(a_port_that_floods_takes_nothing_from_another),
		CASE(the_table_is_bounded_over_all_ports),
		CASE(a_binding_goes_before_what_was_learned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
