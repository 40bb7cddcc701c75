/*
 * Recovery from an in-flight region that somebody else wrote: the ring's size, its used.idx, then
 * the region, in memory of exactly its length.
 */
#include <string.h>

#include "devices/virtio/inflight.h"
#include "tests/hostile/fuzz/fuzz.h"

enum { MAX_SIZE = 64 };

static void check_entries(const struct inflight_entry *entries, uint32_t n, uint32_t size)
{
	bool seen[MAX_SIZE] = { false };

	CLAIM(n <= size);
	for (uint32_t i = 0; i < n; i++) {
		CLAIM(entries[i].head < size && !seen[entries[i].head]);
		seen[entries[i].head] = true;
		CLAIM(i == 0 || entries[i - 1].counter <= entries[i].counter);
	}
}

/* Give everything back, in batches, and take it again. */
static void use(struct inflight *f, const struct inflight_entry *entries, uint32_t n, uint16_t used)
{
	uint16_t heads[MAX_SIZE], n_batch = 0;

	for (uint32_t i = 0; i < n; i++) {
		inflight_complete(f, entries[i].head);
		heads[n_batch++] = entries[i].head;
		if (i % 3 == 2 || i == n - 1) {
			used += n_batch;
			inflight_clear(f, heads, n_batch, used);
			n_batch = 0;
		}
		CLAIM(n_batch || !inflight_is(f, entries[i].head));
	}
	for (uint32_t i = 0; i < n; i++) {
		inflight_take(f, entries[i].head);
		CLAIM(inflight_is(f, entries[i].head));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct inflight_entry entries[MAX_SIZE], again[MAX_SIZE];
	uint32_t size, n = 0, n_again = 0;
	struct inflight_region *region;
	struct inflight f;
	uint16_t used_idx;
	size_t region_len;

	if (len < 3)
		return 0;
	size = 1u << (data[0] % 7);
	used_idx = (uint16_t)(data[1] | data[2] << 8);
	region_len = sizeof(*region) + size * sizeof(region->desc[0]);
	region = calloc(1, region_len);
	CLAIM(region);
	memcpy(region, data + 3, len - 3 < region_len ? len - 3 : region_len);
	if (inflight_attach(&f, region, size, used_idx, entries, &n)) {
		check_entries(entries, n, size);
		CLAIM(region->used_idx == used_idx && region->desc_num == size);
		/* A successor of the successor finds the same. */
		CLAIM(inflight_attach(&f, region, size, used_idx, again, &n_again));
		CLAIM(n == n_again);
		for (uint32_t i = 0; i < n; i++)
			CLAIM(entries[i].head == again[i].head &&
			      entries[i].counter == again[i].counter);
		use(&f, entries, n, used_idx);
		CLAIM(inflight_attach(&f, region, size, (uint16_t)(used_idx + n), again, &n_again));
		CLAIM(n == n_again);
		check_entries(again, n_again, size);
	}
	free(region);
	return 0;
}
