/*
 * Which port a MAC address was last seen at, in which VLAN.
 *
 * Runs in: vmdev-switch. Trusts: its caller; addresses are whatever ports send.
 *
 * A bounded table of buckets of eight. No port can take from another what that one has there: a new
 * address takes a place that is free, has aged, or is its own port's, and each port has at most
 * TABLE_PER_PORT. Where none is to be had the address is not learned; frames to it are flooded.
 * Which bucket an address is in depends on a secret, so that no port can fill one on purpose.
 *
 * Addresses that ports are bound to (port.h) are here for ever, in every VLAN, and move to no other
 * port: such an address is never learned.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	TABLE_BUCKETS = 1024,
	TABLE_WAYS = 8,
	TABLE_PER_PORT = 1024,
	TABLE_AGE_S = 300,
	TABLE_MAX_PORTS = 256,
	TABLE_NOWHERE = 0xffff,
	TABLE_ANY_VLAN = 0xfff, /* of a bound address; no VLAN has this number */
};

#define TABLE_MAC_MASK ((UINT64_C(1) << 48) - 1)

/* A MAC address as a number, most significant byte first, and the VLAN above it. */
static inline uint64_t table_key(uint64_t mac, uint16_t vlan)
{
	return (uint64_t)vlan << 48 | mac;
}

struct table_entry {
	uint64_t key;
	uint32_t seen_s;
	uint16_t port; /* TABLE_NOWHERE: free */
};

struct table {
	uint64_t secret;
	uint32_t n_of_port[TABLE_MAX_PORTS];
	uint64_t n_refused; /* addresses that found no place */
	uint64_t n_changes; /* of where an address is */
	struct table_entry entries[TABLE_BUCKETS][TABLE_WAYS];
};

void table_init(struct table *t, uint64_t secret);

/* The port of an address that has not aged, or TABLE_NOWHERE. */
uint16_t table_find(const struct table *t, uint64_t key, uint32_t now_s);

/*
 * A frame with this source came from the port. False: another port is bound to the address, so the
 * frame is forged.
 */
bool table_learn(struct table *t, uint64_t key, uint16_t port, uint32_t now_s);

/* Bind an address to the port. False: it is another port's, or the bucket is full of such. */
bool table_bind(struct table *t, uint64_t mac, uint16_t port);

/* Forget what was learned at a port, and what it is bound to. */
void table_forget(struct table *t, uint16_t port);

/* Free what has aged: so that ports have their numbers back. */
void table_age(struct table *t, uint32_t now_s);
