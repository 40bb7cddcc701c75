/*
 * Looking ahead: what the next requests will need is fetched into the cache all at once.
 *
 * Runs in: worker's I/O threads. Trusts: nothing; what is read here from guest memory is only a
 * guess where more will be read, is used for nothing else, and never for an address that is not
 * guest memory.
 *
 * What a driver has written lies in the cache of another processor. A chain is a list of such
 * places (descriptor, indirect table, header), each known only when the one before has come, and
 * each a wait of some 50 ns. For several chains these waits go on side by side.
 */
#pragma once

#include <stdint.h>

#include "devices/virtio/memory.h"
#include "devices/virtio/ring.h"

enum { AHEAD_MAX = 8 };

/* The chains that begin at heads[0..n) of desc; n is at most AHEAD_MAX. */
void ahead_fetch(const struct memory *m, const struct ring_desc *desc, const uint16_t *heads,
		 uint32_t n);
