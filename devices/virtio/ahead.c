/* Looking ahead. See ahead.h. */
#include "devices/virtio/ahead.h"

#include <string.h>

enum { AHEAD_TABLE = 8 }; /* the longest indirect table whose end is worth while */

/* Part of a descriptor, as it is just now. Any alignment. */
static uint64_t load_addr(const uint8_t *desc)
{
	uint64_t addr;

	memcpy(&addr, desc, sizeof(addr));
	return addr;
}

/*
 * What a descriptor names, on its way: a buffer, or an indirect table. Of a short table the last
 * descriptor; NULL if there is none.
 */
static const uint8_t *fetch_first(const struct memory *m, const struct ring_desc *desc,
				  const uint8_t **ret_last)
{
	const struct ring_desc d = *(const volatile struct ring_desc *)desc;
	const uint8_t *p = memory_at(m, (struct guest_addr){ d.addr }, d.len);

	if (!p)
		return NULL;
	__builtin_prefetch(p);
	if (!(d.flags & RING_DESC_F_INDIRECT) || d.len == 0 || d.len % sizeof(d) ||
	    d.len > AHEAD_TABLE * sizeof(d))
		return NULL;
	*ret_last = p + d.len - sizeof(d);
	__builtin_prefetch(*ret_last);
	return p;
}

/* A small request's first buffer is its header, the last one its status, which will be written. */
static void fetch_ends(const struct memory *m, const uint8_t *first, const uint8_t *last)
{
	__builtin_prefetch(memory_at(m, (struct guest_addr){ load_addr(first) }, 1));
	__builtin_prefetch(memory_at(m, (struct guest_addr){ load_addr(last) }, 1), 1);
}

void ahead_fetch(const struct memory *m, const struct ring_desc *desc, const uint16_t *heads,
		 uint32_t n)
{
	const uint8_t *first[AHEAD_MAX], *last[AHEAD_MAX];

	for (uint32_t i = 0; i < n; i++)
		__builtin_prefetch(&desc[heads[i]]);
	for (uint32_t i = 0; i < n; i++)
		first[i] = fetch_first(m, &desc[heads[i]], &last[i]);
	for (uint32_t i = 0; i < n; i++)
		if (first[i])
			fetch_ends(m, first[i], last[i]);
}
