/* The table of addresses. See table.h. */
#include "devices/net/switch/table.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

void table_init(struct table *t, uint64_t secret)
{
	memset(t, 0, sizeof(*t));
	t->secret = secret | 1;
	for (uint32_t b = 0; b < TABLE_BUCKETS; b++)
		for (uint32_t w = 0; w < TABLE_WAYS; w++)
			t->entries[b][w].port = TABLE_NOWHERE;
}

/* Multiplication by the secret, twice: without it, what shares a bucket cannot be foretold. */
static struct table_entry *bucket_of(const struct table *t, uint64_t key)
{
	uint64_t h = (key ^ t->secret >> 7) * t->secret;

	h ^= h >> 32;
	h *= t->secret;
	return (struct table_entry *)(uintptr_t)t->entries[h >> 40 & (TABLE_BUCKETS - 1)];
}

static struct table_entry *lookup(const struct table *t, uint64_t key)
{
	struct table_entry *e = bucket_of(t, key);

	for (uint32_t w = 0; w < TABLE_WAYS; w++)
		if (e[w].key == key && e[w].port != TABLE_NOWHERE)
			return &e[w];
	return NULL;
}

static uint64_t bound_key(uint64_t key)
{
	return table_key(key & TABLE_MAC_MASK, TABLE_ANY_VLAN);
}

static bool is_bound(const struct table_entry *e)
{
	return e->key >> 48 == TABLE_ANY_VLAN;
}

static bool aged(const struct table_entry *e, uint32_t now_s)
{
	return !is_bound(e) && now_s - e->seen_s > TABLE_AGE_S;
}

uint16_t table_find(const struct table *t, uint64_t key, uint32_t now_s)
{
	const struct table_entry *e = lookup(t, key);

	if (!e)
		e = lookup(t, bound_key(key));
	return e && !aged(e, now_s) ? e->port : TABLE_NOWHERE;
}

static void clear(struct table *t, struct table_entry *e)
{
	if (e->port == TABLE_NOWHERE)
		return;
	t->n_of_port[e->port]--;
	t->n_changes++;
	e->port = TABLE_NOWHERE;
}

/* A place in the key's bucket: free or aged, else the port's own that was seen longest ago. */
static struct table_entry *place_for(struct table *t, uint64_t key, uint16_t port, uint32_t now_s)
{
	struct table_entry *e = bucket_of(t, key), *own = NULL, *unused = NULL;

	for (uint32_t w = 0; w < TABLE_WAYS; w++) {
		if (e[w].port == TABLE_NOWHERE || aged(&e[w], now_s))
			unused = unused ? unused : &e[w];
		else if (e[w].port == port && !is_bound(&e[w]) &&
			 (!own || now_s - e[w].seen_s > now_s - own->seen_s))
			own = &e[w];
	}
	return unused && t->n_of_port[port] < TABLE_PER_PORT ? unused : own;
}

static void fill(struct table *t, struct table_entry *e, uint64_t key, uint16_t port,
		 uint32_t now_s)
{
	clear(t, e);
	*e = (struct table_entry){ .key = key, .seen_s = now_s, .port = port };
	t->n_of_port[port]++;
	t->n_changes++;
}

bool table_learn(struct table *t, uint64_t key, uint16_t port, uint32_t now_s)
{
	struct table_entry *e = lookup(t, key);

	assert(port < TABLE_MAX_PORTS);
	if (e && e->port == port) {
		e->seen_s = now_s;
		return true;
	}
	if (lookup(t, bound_key(key)))
		return false;
	/* It has moved: the old entry is no more, wherever the new one finds a place. */
	if (e)
		clear(t, e);
	e = place_for(t, key, port, now_s);
	if (e)
		fill(t, e, key, port, now_s);
	else
		t->n_refused++;
	return true;
}

static void forget_if(struct table *t, uint64_t mask, uint64_t key, uint16_t port)
{
	for (uint32_t b = 0; b < TABLE_BUCKETS; b++)
		for (uint32_t w = 0; w < TABLE_WAYS; w++) {
			struct table_entry *e = &t->entries[b][w];

			if (e->port == port || (e->key & mask) == (key & mask))
				clear(t, e);
		}
}

bool table_bind(struct table *t, uint64_t mac, uint16_t port)
{
	uint64_t key = bound_key(mac);
	struct table_entry *e = lookup(t, key), *bucket = bucket_of(t, key);

	assert(port < TABLE_MAX_PORTS);
	if (e)
		return e->port == port;
	/* Wherever it was learned, it is no more. */
	forget_if(t, TABLE_MAC_MASK, mac, TABLE_NOWHERE);
	for (uint32_t w = 0; !e && w < TABLE_WAYS; w++)
		if (bucket[w].port == TABLE_NOWHERE || !is_bound(&bucket[w]))
			e = &bucket[w];
	if (e)
		fill(t, e, key, port, 0);
	return e != NULL;
}

void table_forget(struct table *t, uint16_t port)
{
	forget_if(t, UINT64_MAX, UINT64_MAX, port);
}

void table_age(struct table *t, uint32_t now_s)
{
	for (uint32_t b = 0; b < TABLE_BUCKETS; b++)
		for (uint32_t w = 0; w < TABLE_WAYS; w++) {
			struct table_entry *e = &t->entries[b][w];

			if (e->port != TABLE_NOWHERE && aged(e, now_s))
				clear(t, e);
		}
}
