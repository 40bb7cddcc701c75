/* The record of requests in flight. See inflight.h. */
#include <assert.h>

#include "devices/base/crash.h"
#include "devices/virtio/inflight.h"

enum {
	INFLIGHT_VERSION = 1,
	INFLIGHT_ALIGN = 64,
};

static_assert(sizeof(struct inflight_desc) == 16, "vhost-user.rst DescStateSplit");
static_assert(offsetof(struct inflight_region, desc) == 16, "vhost-user.rst QueueRegionSplit");

uint64_t inflight_queue_len(uint32_t size)
{
	uint64_t len =
		sizeof(struct inflight_region) + (uint64_t)size * sizeof(struct inflight_desc);

	return (len + INFLIGHT_ALIGN - 1) & ~(uint64_t)(INFLIGHT_ALIGN - 1);
}

bool inflight_is(const struct inflight *f, uint16_t head)
{
	assert(head < f->size);
	return __atomic_load_n(&f->region->desc[head].inflight, __ATOMIC_RELAXED) != 0;
}

/* The version goes last: killed before it, the region is as fresh as before. */
static void inflight_init(struct inflight_region *region, uint32_t size, uint16_t used_idx)
{
	for (uint32_t i = 0; i < size; i++)
		region->desc[i] = (struct inflight_desc){ 0 };
	region->features = 0;
	region->desc_num = (uint16_t)size;
	region->last_batch_head = 0;
	region->used_idx = used_idx;
	CRASH_POINT("inflight.init.filled");
	__atomic_store_n(&region->version, INFLIGHT_VERSION, __ATOMIC_RELEASE);
}

/*
 * Finish the clearing of the last batch: those between the region's used_idx and the ring's were
 * given back, and their writer died before it had said so. last_batch_head leads to them, the
 * latest first. The batch can have been cleared in part: clearing again does no harm. A hostile
 * list ends the walk at an index beyond the table, and no list can be longer than that.
 */
static void inflight_finish(struct inflight_region *region, uint32_t size, uint16_t used_idx)
{
	uint16_t recorded = __atomic_load_n(&region->used_idx, __ATOMIC_RELAXED);
	uint16_t left = (uint16_t)(used_idx - recorded);
	uint16_t head = __atomic_load_n(&region->last_batch_head, __ATOMIC_RELAXED);

	for (uint32_t n = 0; n < left && n < size && head < size; n++) {
		struct inflight_desc *desc = &region->desc[head];

		__atomic_store_n(&desc->inflight, 0, __ATOMIC_RELAXED);
		CRASH_POINT("inflight.finish.one");
		head = __atomic_load_n(&desc->next, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&region->used_idx, used_idx, __ATOMIC_RELEASE);
}

static bool inflight_before(const struct inflight_entry *a, const struct inflight_entry *b)
{
	return a->counter != b->counter ? a->counter < b->counter : a->head < b->head;
}

/* Let entries[i] sink to its place in the heap entries[0..n). */
static void inflight_sink(struct inflight_entry *entries, uint32_t i, uint32_t n)
{
	struct inflight_entry entry = entries[i];
	uint32_t child;

	while ((child = 2 * i + 1) < n) {
		if (child + 1 < n && inflight_before(&entries[child], &entries[child + 1]))
			child++;
		if (!inflight_before(&entry, &entries[child]))
			break;
		entries[i] = entries[child];
		i = child;
	}
	entries[i] = entry;
}

/* Heap sort. Not qsort(), which allocates and asks the kernel for the size of memory. */
static void inflight_sort(struct inflight_entry *entries, uint32_t n)
{
	for (uint32_t i = n / 2; i-- > 0;)
		inflight_sink(entries, i, n);
	for (uint32_t last = n; last-- > 1;) {
		struct inflight_entry top = entries[0];

		entries[0] = entries[last];
		entries[last] = top;
		inflight_sink(entries, 0, last);
	}
}

/*
 * What is in flight; each field is loaded once. *ret_last: the highest counter, also of requests
 * given back, so that numbers go on over deaths and name one request each.
 */
static uint32_t inflight_collect(struct inflight_region *region, uint32_t size,
				 struct inflight_entry *entries, uint64_t *ret_last)
{
	uint32_t n = 0;

	*ret_last = 0;
	for (uint32_t i = 0; i < size; i++) {
		struct inflight_desc *desc = &region->desc[i];
		/* Pairs with the release in inflight_take(): the counter is the request's. */
		bool inflight = __atomic_load_n(&desc->inflight, __ATOMIC_ACQUIRE);
		uint64_t counter = __atomic_load_n(&desc->counter, __ATOMIC_RELAXED);

		if (counter > *ret_last)
			*ret_last = counter;
		if (inflight)
			entries[n++] =
				(struct inflight_entry){ .counter = counter, .head = (uint16_t)i };
	}
	inflight_sort(entries, n);
	return n;
}

bool inflight_attach(struct inflight *f, struct inflight_region *region, uint32_t size,
		     uint16_t used_idx, struct inflight_entry *entries, uint32_t *ret_n)
{
	/* Pairs with the release in inflight_init(). */
	uint16_t version = __atomic_load_n(&region->version, __ATOMIC_ACQUIRE);
	uint64_t last;
	uint32_t n;

	if (version != 0 && version != INFLIGHT_VERSION)
		return false;
	if (version != 0 && __atomic_load_n(&region->desc_num, __ATOMIC_RELAXED) != size)
		return false;
	if (version == 0)
		inflight_init(region, size, used_idx);
	else
		inflight_finish(region, size, used_idx);
	n = inflight_collect(region, size, entries, &last);
	*f = (struct inflight){
		.region = region,
		.size = size,
		.counter = last + 1,
	};
	*ret_n = n;
	return true;
}

uint32_t inflight_count(const struct inflight_region *region, uint32_t size)
{
	uint32_t n = 0;

	if (__atomic_load_n(&region->desc_num, __ATOMIC_RELAXED) != size)
		return 0;
	for (uint32_t i = 0; i < size; i++)
		n += __atomic_load_n(&region->desc[i].inflight, __ATOMIC_RELAXED) != 0;
	return n;
}

void inflight_untake(struct inflight *f, uint16_t head)
{
	__atomic_store_n(&f->region->desc[head].inflight, 0, __ATOMIC_RELEASE);
}

void inflight_clear(struct inflight *f, const uint16_t *heads, uint16_t n, uint16_t used_idx)
{
	struct inflight_region *region = f->region;

	for (uint16_t i = 0; i < n; i++) {
		__atomic_store_n(&region->desc[heads[i]].inflight, 0, __ATOMIC_RELAXED);
		CRASH_POINT("inflight.clear.one");
	}
	/* Release: who sees this index sees the whole batch cleared. */
	__atomic_store_n(&region->used_idx, used_idx, __ATOMIC_RELEASE);
}
