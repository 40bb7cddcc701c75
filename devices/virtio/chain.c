/* A descriptor chain. See chain.h. */
#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "devices/base/span.h"
#include "devices/virtio/chain.h"

static const char *const chain_verdicts[] = {
	[CHAIN_OK] = "ok",
	[CHAIN_LOOPED] = "a descriptor chain that loops",
	[CHAIN_INDEX] = "a descriptor index beyond the table",
	[CHAIN_ADDRESS] = "a buffer outside of guest memory",
	[CHAIN_ORDER] = "a device-readable buffer after a device-writable one",
	[CHAIN_TOO_LONG] = "a descriptor chain that is too long",
	[CHAIN_INDIRECT_NESTED] = "an indirect descriptor where none may be",
	[CHAIN_INDIRECT_LEN] = "an indirect table of unusable length",
	[CHAIN_TOO_SHORT] = "a chain without room for an answer",
	[CHAIN_INDIRECT_OFF] = "an indirect descriptor without the feature",
	[CHAIN_POISON] = "a descriptor chain that crashes the device again and again",
};
static_assert(sizeof(chain_verdicts) / sizeof(chain_verdicts[0]) == CHAIN_POISON + 1,
	      "a text for each verdict");

const char *chain_verdict_to_string(enum chain_verdict v)
{
	return chain_verdicts[v];
}

/* The table that is being walked: the ring's own, or an indirect one. */
struct chain_table {
	const uint8_t *desc; /* an indirect table has any alignment */
	uint32_t size;	     /* descriptors */
	bool indirect;
};

/*
 * Load a descriptor once. The empty asm makes the compiler forget where the copy came from, so
 * that it cannot load a checked field again.
 */
static struct ring_desc chain_desc(const struct chain_table *t, uint32_t idx)
{
	uint64_t word[2];
	struct ring_desc desc;

	memcpy(word, t->desc + (size_t)idx * sizeof(desc), sizeof(word));
	__asm__ volatile("" : "+r"(word[0]), "+r"(word[1]));
	memcpy(&desc, word, sizeof(desc));
	return desc;
}

/* Append the buffer of one descriptor to the chain. */
static enum chain_verdict chain_add(struct chain *c, const struct memory *m,
				    const struct ring_desc *desc)
{
	uint32_t n = c->n_readable + c->n_writable, before = n;
	bool writable = desc->flags & RING_DESC_F_WRITE;
	uint32_t sum;

	if (!writable && c->n_writable > 0)
		return CHAIN_ORDER;
	if (__builtin_add_overflow(c->readable_len + c->writable_len, desc->len, &sum))
		return CHAIN_TOO_LONG;
	if (!memory_iov(m, (struct guest_addr){ desc->addr }, desc->len, c->iov, &n, c->iov_max))
		return n == c->iov_max ? CHAIN_TOO_LONG : CHAIN_ADDRESS;
	if (writable) {
		c->n_writable += n - before;
		c->writable_len += desc->len;
	} else {
		c->n_readable += n - before;
		c->readable_len += desc->len;
	}
	return CHAIN_OK;
}

/* Go on in the indirect table that desc names (§2.7.5.3). */
static enum chain_verdict chain_enter(struct chain_table *t, const struct memory *m,
				      const struct ring_desc *desc, bool allowed)
{
	if (!allowed)
		return CHAIN_INDIRECT_OFF;
	if (t->indirect || (desc->flags & RING_DESC_F_NEXT))
		return CHAIN_INDIRECT_NESTED;
	if (desc->len == 0 || desc->len % sizeof(*desc) != 0 ||
	    desc->len / sizeof(*desc) > RING_MAX_SIZE)
		return CHAIN_INDIRECT_LEN;
	t->desc = memory_at(m, (struct guest_addr){ desc->addr }, desc->len);
	t->size = desc->len / sizeof(*desc);
	t->indirect = true;
	return t->desc ? CHAIN_OK : CHAIN_ADDRESS;
}

enum chain_verdict chain_load(struct chain *c, const struct memory *m, const struct ring_desc *desc,
			      uint32_t size, bool indirect, uint16_t head)
{
	struct chain_table t = { .desc = (const uint8_t *)desc, .size = size };
	uint32_t idx = head, n_walked = 0;
	enum chain_verdict v;

	c->head = head;
	c->n_readable = c->n_writable = 0;
	c->readable_len = c->writable_len = 0;
	for (;;) {
		struct ring_desc d;

		if (idx >= t.size)
			return CHAIN_INDEX;
		if (n_walked++ == t.size)
			return CHAIN_LOOPED;
		d = chain_desc(&t, idx);
		if (d.flags & RING_DESC_F_INDIRECT) {
			v = chain_enter(&t, m, &d, indirect);
			if (v != CHAIN_OK)
				return v;
			idx = n_walked = 0;
			continue;
		}
		v = chain_add(c, m, &d);
		if (v != CHAIN_OK || !(d.flags & RING_DESC_F_NEXT))
			return v;
		idx = d.next;
	}
}

bool chain_piece(const struct memory *m, const struct memory_region **near,
		 const struct ring_desc *desc, bool writable, uint8_t **ret_p, uint32_t *ret_len)
{
	const struct chain_table t = { .desc = (const uint8_t *)desc, .size = 1 };
	const struct ring_desc d = chain_desc(&t, 0);
	const struct memory_region *r = *near;

	if ((d.flags & (RING_DESC_F_NEXT | RING_DESC_F_INDIRECT)) ||
	    writable != !!(d.flags & RING_DESC_F_WRITE) || d.len == 0)
		return false;
	if (!r || !span_fits(r->size, d.addr - r->guest.v, d.len)) {
		r = memory_region_of(m, (struct guest_addr){ d.addr });
		if (!r || !span_fits(r->size, d.addr - r->guest.v, d.len))
			return false;
		*near = r;
	}
	*ret_p = r->host + (d.addr - r->guest.v);
	*ret_len = d.len;
	return true;
}
