/* The split virtqueue's layout. See ring.h. */
#include <assert.h>
#include <stddef.h>

#include "devices/virtio/ring.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	      "rings are little endian, read as they are");
static_assert(sizeof(struct ring_desc) == 16, "VIRTIO 1.3 §2.7.5");
static_assert(offsetof(struct ring_avail, ring) == 4, "VIRTIO 1.3 §2.7.6");
static_assert(offsetof(struct ring_used, ring) == 4, "VIRTIO 1.3 §2.7.8");
static_assert(sizeof(struct ring_used_elem) == 8, "VIRTIO 1.3 §2.7.8");

bool ring_size_ok(uint32_t size)
{
	return size != 0 && size <= RING_MAX_SIZE && (size & (size - 1)) == 0;
}

uint64_t ring_desc_len(uint32_t size)
{
	return (uint64_t)sizeof(struct ring_desc) * size;
}

uint64_t ring_avail_len(uint32_t size)
{
	return sizeof(struct ring_avail) + (uint64_t)sizeof(uint16_t) * size + sizeof(uint16_t);
}

uint64_t ring_used_len(uint32_t size)
{
	return sizeof(struct ring_used) + (uint64_t)sizeof(struct ring_used_elem) * size +
	       sizeof(uint16_t);
}
