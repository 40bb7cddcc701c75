/*
 * The split virtqueue's layout in guest memory (VIRTIO 1.3 §2.7), and its geometry.
 *
 * Runs in: worker. Trusts: nothing. All fields are little endian; the only architectures that
 * vmdev builds for are little endian (static assert in ring.c).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	RING_DESC_F_NEXT = 1,
	RING_DESC_F_WRITE = 2,
	RING_DESC_F_INDIRECT = 4,
	RING_AVAIL_F_NO_INTERRUPT = 1,
	RING_USED_F_NO_NOTIFY = 1,
};

struct ring_desc {
	uint64_t addr; /* guest address */
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct ring_avail {
	uint16_t flags;
	uint16_t idx;
	uint16_t ring[]; /* size entries, then used_event */
};

struct ring_used_elem {
	uint32_t id;
	uint32_t len;
};

struct ring_used {
	uint16_t flags;
	uint16_t idx;
	struct ring_used_elem ring[]; /* size entries, then avail_event */
};

enum { RING_MAX_SIZE = 32768 }; /* VIRTIO 1.3 §2.7: Queue Size is a power of 2 up to this */

/* size in descriptors. */
bool ring_size_ok(uint32_t size);

/* Bytes of each part, with the event index words (VIRTIO 1.3 §2.7.7 and §2.7.10: always reserved).
 */
uint64_t ring_desc_len(uint32_t size);
uint64_t ring_avail_len(uint32_t size);
uint64_t ring_used_len(uint32_t size);

/* VIRTIO 1.3 §2.7.10: has the index passed event since it was old? */
static inline bool ring_need_event(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
	return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}
