/* Limits on requests and bytes. See throttle.h. */
#include "devices/process/throttle.h"

#include "devices/base/clock.h"

enum { BURST_NS = 20000000 };
#define NS_PER_S UINT64_C(1000000000)

void throttle_init(struct throttle *t, uint64_t iops, uint64_t bandwidth)
{
	*t = (struct throttle){ .requests = { .per_second = iops },
				.bytes = { .per_second = bandwidth } };
}

static uint64_t wait_ns(const struct throttle_limit *l, uint64_t now)
{
	uint64_t due;

	if (l->per_second == 0)
		return 0;
	due = __atomic_load_n(&l->due_ns, __ATOMIC_RELAXED);
	return due > now + BURST_NS ? due - now - BURST_NS : 0;
}

uint64_t throttle_wait_ns(const struct throttle *t)
{
	uint64_t now, requests, bytes;

	if (throttle_is_off(t))
		return 0;
	now = clock_now_ns();
	requests = wait_ns(&t->requests, now);
	bytes = wait_ns(&t->bytes, now);
	return requests > bytes ? requests : bytes;
}

static void charge(struct throttle_limit *l, uint64_t amount, uint64_t now)
{
	uint64_t due, next;

	if (l->per_second == 0)
		return;
	due = __atomic_load_n(&l->due_ns, __ATOMIC_RELAXED);
	do {
		next = (due > now ? due : now) + amount * NS_PER_S / l->per_second;
	} while (!__atomic_compare_exchange_n(&l->due_ns, &due, next, true, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
}

void throttle_charge(struct throttle *t, uint64_t len)
{
	uint64_t now;

	if (throttle_is_off(t))
		return;
	now = clock_now_ns();
	charge(&t->requests, 1, now);
	charge(&t->bytes, len, now);
}
