/*
 * A descriptor chain (VIRTIO 1.3 §2.7.5): walked once, checked, copied into iovecs.
 *
 * Runs in: worker. Trusts: nothing; the guest can change every descriptor while it is read, so each
 * is loaded once and only the copy is used.
 *
 * Invariants of a chain that chain_load() accepted:
 *  1. iov[0..n_readable) are device-readable, the n_writable after them device-writable.
 *  2. Each element lies in guest memory (virtio/memory.h, invariant 2).
 *  3. The sum of the lengths fits in 32 bits (VIRTIO 1.3 §2.7.4: no chain is longer than 2^32
 *     bytes).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/virtio/memory.h"
#include "devices/virtio/ring.h"

struct chain {
	uint16_t head;
	uint32_t n_readable;
	uint32_t n_writable;
	uint32_t readable_len; /* bytes */
	uint32_t writable_len; /* bytes */
	struct iovec *iov;     /* the caller's array */
	uint32_t iov_max;      /* its length */
};

enum chain_verdict {
	CHAIN_OK = 0,
	CHAIN_LOOPED,	       /* more descriptors than the table holds */
	CHAIN_INDEX,	       /* a next or head beyond the table */
	CHAIN_ADDRESS,	       /* a buffer that is not guest memory */
	CHAIN_ORDER,	       /* device-readable after device-writable (§2.7.4.2) */
	CHAIN_TOO_LONG,	       /* more elements than iov_max, or more bytes than 32 bits hold */
	CHAIN_INDIRECT_NESTED, /* indirect in indirect, or indirect with next (§2.7.5.3.1) */
	CHAIN_INDIRECT_LEN,    /* a table whose length is 0 or no multiple of 16 or too large */
	CHAIN_TOO_SHORT,       /* for the device type: no room for what it must answer */
	CHAIN_INDIRECT_OFF,    /* indirect although the feature was not negotiated */
	CHAIN_POISON,	       /* whoever walks it crashes (queue.h: queue_watch) */
};
const char *chain_verdict_to_string(enum chain_verdict v);

/*
 * Load the chain that starts at head of the table desc[0..size). c->iov and c->iov_max are set by
 * the caller; the rest is filled. On anything but CHAIN_OK the contents are unspecified.
 */
enum chain_verdict chain_load(struct chain *c, const struct memory *m, const struct ring_desc *desc,
			      uint32_t size, bool indirect, uint16_t head);

/*
 * A chain of one direct descriptor whose buffer lies in one region: that buffer. False: it is not
 * such a chain, or not of this direction, or not good; chain_load() says which. *near: the region
 * that was found last, NULL at first.
 */
bool chain_piece(const struct memory *m, const struct memory_region **near,
		 const struct ring_desc *desc, bool writable, uint8_t **ret_p, uint32_t *ret_len);
