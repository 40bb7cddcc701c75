/* Descriptor chains: what a driver may build, and what no driver gets past the walk. */
#include <pthread.h>
#include <string.h>

#include "devices/virtio/chain.h"
#include "tests/unit/driver.h"
#include "tests/unit/unit.h"

#define SIZE ((uint16_t)8)
enum { N_IOV = 16 };
#define DATA	 (DRIVER_GUEST + DRIVER_DATA)
#define NEXT	 RING_DESC_F_NEXT
#define WRITE	 RING_DESC_F_WRITE
#define INDIRECT RING_DESC_F_INDIRECT

static struct driver d;
static struct iovec iov[N_IOV];
static struct chain c;

static int setup(void **state)
{
	driver_start(&d, SIZE);
	c = (struct chain){ .iov = iov, .iov_max = N_IOV };
	return 0;
}

static int teardown(void **state)
{
	driver_stop(&d);
	return 0;
}

static enum chain_verdict load(uint16_t head)
{
	return chain_load(&c, &d.memory, d.desc, SIZE, true, head);
}

/* Entry i of the indirect table at DRIVER_INDIRECT. */
static void indirect_desc(uint32_t i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	((struct ring_desc *)(void *)(d.ram + DRIVER_INDIRECT))[i] =
		(struct ring_desc){ .addr = addr, .len = len, .flags = flags, .next = next };
}

static void indirect_head(uint16_t head, uint32_t n)
{
	driver_desc(&d, head, DRIVER_GUEST + DRIVER_INDIRECT, n * 16, INDIRECT, 0);
}

static void load_splits_readable_and_writable(void **state)
{
	driver_desc(&d, 3, DATA, 16, NEXT, 7);
	driver_desc(&d, 7, DATA + 0x100, 512, NEXT, 0);
	driver_desc(&d, 0, DATA + 0x1000, 4096, NEXT | WRITE, 1);
	driver_desc(&d, 1, DATA + 0x3000, 1, WRITE, 0xffff);
	assert_int_equal(load(3), CHAIN_OK);
	assert_int_equal(c.head, 3);
	assert_int_equal(c.n_readable, 2);
	assert_int_equal(c.n_writable, 2);
	assert_int_equal(c.readable_len, 528);
	assert_int_equal(c.writable_len, 4097);
	assert_ptr_equal(iov[1].iov_base,
			 memory_at(&d.memory, (struct guest_addr){ DATA + 256 }, 1));
	assert_int_equal(iov[3].iov_len, 1);
}

static void load_uses_the_whole_table(void **state)
{
	for (uint16_t i = 0; i < SIZE; i++)
		driver_desc(&d, i, DATA + i, 1, i == SIZE - 1 ? 0 : NEXT, (uint16_t)(i + 1));
	assert_int_equal(load(0), CHAIN_OK);
	assert_int_equal(c.n_readable, SIZE);
}

static void load_rejects_looped_chain(void **state)
{
	driver_desc(&d, 0, DATA, 1, NEXT, 1);
	driver_desc(&d, 1, DATA, 1, NEXT, 0);
	assert_int_equal(load(0), CHAIN_LOOPED);
	driver_desc(&d, 2, DATA, 0, NEXT, 2);
	assert_int_equal(load(2), CHAIN_LOOPED);
}

static void load_rejects_indices_beyond_the_table(void **state)
{
	driver_desc(&d, 0, DATA, 1, NEXT, SIZE);
	assert_int_equal(load(0), CHAIN_INDEX);
	assert_int_equal(load(SIZE), CHAIN_INDEX);
	assert_int_equal(load(0xffff), CHAIN_INDEX);
	indirect_head(1, 2);
	indirect_desc(0, DATA, 1, NEXT, 2);
	assert_int_equal(load(1), CHAIN_INDEX);
}

static void load_rejects_buffers_outside_of_memory(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
	} rows[] = {
		{ 0, 1 },
		{ DRIVER_GUEST - 1, 2 },
		{ DRIVER_END - 1, 2 },
		{ DRIVER_END, 1 },
		{ DRIVER_GUEST, UINT32_MAX },
		{ UINT64_MAX, 1 },
		{ UINT64_MAX - 10, 100 },
	};

	for (size_t i = 0; i < UNIT_N(rows); i++) {
		driver_desc(&d, 0, rows[i].addr, rows[i].len, 0, 0);
		assert_int_equal(load(0), CHAIN_ADDRESS);
	}
}

static void load_follows_memory_into_the_next_region(void **state)
{
	driver_desc(&d, 0, DRIVER_GUEST + DRIVER_REGION_LEN - 100, 300, WRITE, 0);
	assert_int_equal(load(0), CHAIN_OK);
	assert_int_equal(c.n_writable, 2);
	assert_int_equal(c.writable_len, 300);
	assert_int_equal(iov[0].iov_len, 100);
	assert_int_equal(iov[1].iov_len, 200);
}

static void load_rejects_readable_after_writable(void **state)
{
	driver_desc(&d, 0, DATA, 1, NEXT | WRITE, 1);
	driver_desc(&d, 1, DATA, 1, 0, 0);
	assert_int_equal(load(0), CHAIN_ORDER);
}

static void load_rejects_more_than_the_caller_has_room_for(void **state)
{
	for (uint16_t i = 0; i < 4; i++)
		driver_desc(&d, i, DATA, 1, i == 3 ? 0 : NEXT, (uint16_t)(i + 1));
	c.iov_max = 4;
	assert_int_equal(load(0), CHAIN_OK);
	c.iov_max = 3;
	assert_int_equal(load(0), CHAIN_TOO_LONG);
}

static void load_rejects_more_bytes_than_32_bits_hold(void **state)
{
	struct memory_region *region = &d.memory.regions[0];
	uint64_t size = region->size;

	/* Only addresses are computed, nothing is touched: pretend to have 4 GiB here. */
	region->size = UINT64_C(1) << 32;
	d.memory.n_regions = 1;
	driver_desc(&d, 0, DRIVER_GUEST, UINT32_MAX, NEXT, 1);
	driver_desc(&d, 1, DRIVER_GUEST, 1, WRITE, 0);
	assert_int_equal(load(0), CHAIN_TOO_LONG);
	driver_desc(&d, 1, DRIVER_GUEST, 0, WRITE, 0);
	assert_int_equal(load(0), CHAIN_OK);
	assert_int_equal(c.readable_len, UINT32_MAX);
	region->size = size;
	d.memory.n_regions = 2;
}

static void load_takes_empty_buffers_for_nothing(void **state)
{
	driver_desc(&d, 0, DATA, 0, NEXT, 1);
	driver_desc(&d, 1, DATA, 5, NEXT, 2);
	driver_desc(&d, 2, 0, 0, WRITE, 0);
	assert_int_equal(load(0), CHAIN_OK);
	assert_int_equal(c.n_readable, 1);
	assert_int_equal(c.n_writable, 0);
}

static void indirect_table_is_walked_after_direct_descriptors(void **state)
{
	driver_desc(&d, 5, DATA, 16, NEXT, 2);
	indirect_head(2, 3);
	indirect_desc(0, DATA + 16, 16, NEXT, 2);
	indirect_desc(2, DATA + 32, 32, NEXT | WRITE, 1);
	indirect_desc(1, DATA + 64, 1, WRITE, 0);
	assert_int_equal(load(5), CHAIN_OK);
	assert_int_equal(c.n_readable, 2);
	assert_int_equal(c.n_writable, 2);
	assert_int_equal(c.writable_len, 33);
}

static void indirect_table_may_be_larger_than_the_ring_and_unaligned(void **state)
{
	struct ring_desc desc = { .addr = DATA, .len = 1, .flags = NEXT };

	for (uint32_t i = 0; i < 12; i++) {
		desc.next = (uint16_t)(i + 1);
		desc.flags = i == 11 ? 0 : NEXT;
		memcpy(d.ram + DRIVER_INDIRECT + 3 + UINT64_C(16) * i, &desc, 16);
	}
	driver_desc(&d, 0, DRIVER_GUEST + DRIVER_INDIRECT + 3, 12 * 16, INDIRECT | WRITE, 0);
	assert_int_equal(load(0), CHAIN_OK);
	assert_int_equal(c.n_readable, 12);
}

static void indirect_is_refused_without_the_feature(void **state)
{
	indirect_head(0, 1);
	indirect_desc(0, DATA, 1, 0, 0);
	assert_int_equal(chain_load(&c, &d.memory, d.desc, SIZE, false, 0), CHAIN_INDIRECT_OFF);
}

static void indirect_is_refused_in_indirect_and_with_next(void **state)
{
	indirect_head(0, 2);
	indirect_desc(0, DRIVER_GUEST + DRIVER_INDIRECT, 32, INDIRECT, 0);
	assert_int_equal(load(0), CHAIN_INDIRECT_NESTED);
	driver_desc(&d, 0, DRIVER_GUEST + DRIVER_INDIRECT, 32, INDIRECT | NEXT, 1);
	assert_int_equal(load(0), CHAIN_INDIRECT_NESTED);
}

static void indirect_table_needs_a_sane_length_and_place(void **state)
{
	static const uint32_t lens[] = { 0, 1, 15, 17, (RING_MAX_SIZE + 1) * 16, UINT32_MAX };

	for (size_t i = 0; i < UNIT_N(lens); i++) {
		driver_desc(&d, 0, DRIVER_GUEST + DRIVER_INDIRECT, lens[i], INDIRECT, 0);
		assert_int_equal(load(0), CHAIN_INDIRECT_LEN);
	}
	driver_desc(&d, 0, DRIVER_END - 16, 32, INDIRECT, 0);
	assert_int_equal(load(0), CHAIN_ADDRESS);
	driver_desc(&d, 0, 0, 32, INDIRECT, 0);
	assert_int_equal(load(0), CHAIN_ADDRESS);
}

static void indirect_loop_is_found(void **state)
{
	indirect_head(0, 2);
	indirect_desc(0, DATA, 0, NEXT, 1);
	indirect_desc(1, DATA, 0, NEXT, 0);
	assert_int_equal(load(0), CHAIN_LOOPED);
}

static bool flip_stop;

/* The guest's other processor: turns a good descriptor into a bad one and back. */
static void *flip(void *arg)
{
	struct ring_desc *desc = arg;

	while (!__atomic_load_n(&flip_stop, __ATOMIC_RELAXED)) {
		__atomic_store_n(&desc->addr, DATA, __ATOMIC_RELAXED);
		__atomic_store_n(&desc->len, 16, __ATOMIC_RELAXED);
		__atomic_store_n(&desc->addr, DRIVER_END - 8, __ATOMIC_RELAXED);
		__atomic_store_n(&desc->len, 8, __ATOMIC_RELAXED);
		__atomic_store_n(&desc->addr, UINT64_MAX, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void load_checks_what_it_uses_while_the_guest_changes_it(void **state)
{
	const uint8_t *start = memory_at(&d.memory, (struct guest_addr){ DRIVER_GUEST }, 1);
	const uint8_t *last = memory_at(&d.memory, (struct guest_addr){ DRIVER_END - 8 }, 8);
	pthread_t thread;

	driver_desc(&d, 0, DATA, 16, 0, 0);
	flip_stop = false;
	assert_int_equal(pthread_create(&thread, NULL, flip, &d.desc[0]), 0);
	for (unsigned i = 0; i < 200000; i++) {
		const uint8_t *p;
		enum chain_verdict v = load(0);

		if (v == CHAIN_ADDRESS)
			continue;
		assert_int_equal(v, CHAIN_OK);
		p = iov[0].iov_base;
		assert_int_equal(c.n_readable, 1);
		assert_int_equal(iov[0].iov_len, c.readable_len);
		assert_true(p == start + DRIVER_DATA || (p == last && iov[0].iov_len == 8));
	}
	__atomic_store_n(&flip_stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

static void verdicts_have_texts(void **state)
{
	for (int v = CHAIN_OK; v <= CHAIN_INDIRECT_OFF; v++)
		assert_non_null(chain_verdict_to_string((enum chain_verdict)v));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(load_splits_readable_and_writable),
		TEST(load_uses_the_whole_table),
		TEST(load_rejects_looped_chain),
		TEST(load_rejects_indices_beyond_the_table),
		TEST(load_rejects_buffers_outside_of_memory),
		TEST(load_follows_memory_into_the_next_region),
		TEST(load_rejects_readable_after_writable),
		TEST(load_rejects_more_than_the_caller_has_room_for),
		TEST(load_rejects_more_bytes_than_32_bits_hold),
		TEST(load_takes_empty_buffers_for_nothing),
		TEST(indirect_table_is_walked_after_direct_descriptors),
		TEST(indirect_table_may_be_larger_than_the_ring_and_unaligned),
		TEST(indirect_is_refused_without_the_feature),
		TEST(indirect_is_refused_in_indirect_and_with_next),
		TEST(indirect_table_needs_a_sane_length_and_place),
		TEST(indirect_loop_is_found),
		TEST(load_checks_what_it_uses_while_the_guest_changes_it),
		TEST(verdicts_have_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
