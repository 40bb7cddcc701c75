/* Configuration space, features, the write cache. See blk-private.h. */
#include "devices/blk/blk-private.h"

#include <linux/virtio_blk.h>
#include <stddef.h>
#include <string.h>

#include "devices/virtio/feature.h"

/* image.device[0]: the driver's write cache. */
enum { DEVICE_BYTE_WCE = 0, WCE_UNSET = 0, WCE_OFF, WCE_ON };

enum {
	MAX_RANGE_SECTORS = 1 << 22, /* 2 GiB in one range of a discard */
};

static void fill_topology(const struct blk *b, struct virtio_blk_config *c)
{
	const struct disk_image *im = &b->image;
	uint32_t ratio = im->physical_len / im->block_len;

	while (ratio > 1 && c->physical_block_exp < 16) {
		c->physical_block_exp++;
		ratio >>= 1;
	}
	c->alignment_offset = (uint8_t)(im->align_offset / im->block_len);
	c->min_io_size = (uint16_t)(im->io_min / im->block_len);
	c->opt_io_size = im->io_opt / im->block_len;
}

/*
 * VIRTIO 1.3 §5.2.6.2: a driver without FLUSH has no way to make writes durable, so each is;
 * without CONFIG_WCE it cannot know that the cache is off, which is safe.
 */
static bool is_writeback(const struct image *im)
{
	return im->device[DEVICE_BYTE_WCE] == WCE_ON &&
	       feature_has(im->features, FEATURE_BIT(VIRTIO_BLK_F_FLUSH));
}

static void fill_config(const struct blk *b, const struct image *im, struct virtio_blk_config *c)
{
	uint32_t per_block = b->image.block_len / REQUEST_SECTOR;

	memset(c, 0, sizeof(*c));
	c->capacity = b->image.sectors;
	c->size_max = REQUEST_BOUNCE_LEN;
	c->seg_max =
		b->queue_size - 2 < REQUEST_MAX_SEGMENTS ? b->queue_size - 2 : REQUEST_MAX_SEGMENTS;
	c->blk_size = b->image.block_len;
	fill_topology(b, c);
	/* Before the driver has chosen: what it will be. */
	c->wce = im->features_set ? is_writeback(im) : im->device[DEVICE_BYTE_WCE] == WCE_ON;
	c->num_queues = (uint16_t)b->model.device.n_queues;
	c->max_discard_sectors = MAX_RANGE_SECTORS;
	c->max_discard_seg = REQUEST_MAX_RANGES;
	c->discard_sector_alignment = per_block;
	c->max_write_zeroes_sectors = MAX_RANGE_SECTORS;
	c->max_write_zeroes_seg = REQUEST_MAX_RANGES;
	c->write_zeroes_may_unmap = 1;
}

void blk_config_read(struct device *d, const struct image *im, uint32_t offset, uint32_t len,
		     uint8_t *ret_bytes)
{
	struct virtio_blk_config c;

	fill_config(blk_of(d), im, &c);
	memcpy(ret_bytes, (const uint8_t *)&c + offset, len);
}

/* The write cache is the one writable field (VIRTIO 1.3 §5.2.5.2). */
bool blk_config_write(struct device *d, struct image *im, uint32_t offset, uint32_t len,
		      const uint8_t *bytes)
{
	if (offset != offsetof(struct virtio_blk_config, wce) || len != 1 || bytes[0] > 1)
		return false;
	im->device[DEVICE_BYTE_WCE] = bytes[0] ? WCE_ON : WCE_OFF;
	return true;
}

/*
 * A cache that is off stays off: QEMU resets the device too when it only pauses the guest, who
 * relies on it still (VIRTIO 1.3 §5.2.5: either mode may be there after a reset).
 */
void blk_reset(struct device *d, struct image *im)
{
	bool cached = blk_of(d)->cache != IMAGE_CACHE_WRITETHROUGH;

	if (im->device[DEVICE_BYTE_WCE] != WCE_OFF)
		im->device[DEVICE_BYTE_WCE] = cached ? WCE_ON : WCE_OFF;
}

void blk_configure(struct device *d, const struct image *im)
{
	struct blk *b = blk_of(d);

	b->target.writeback = is_writeback(im);
}

uint64_t blk_features(const struct blk *b, bool discard)
{
	uint64_t f = FEATURE_VERSION_1 | FEATURE_RING_EVENT_IDX | FEATURE_RING_INDIRECT_DESC |
		     FEATURE_BIT(VIRTIO_BLK_F_SIZE_MAX) | FEATURE_BIT(VIRTIO_BLK_F_SEG_MAX) |
		     FEATURE_BIT(VIRTIO_BLK_F_BLK_SIZE) | FEATURE_BIT(VIRTIO_BLK_F_TOPOLOGY) |
		     FEATURE_BIT(VIRTIO_BLK_F_FLUSH) | FEATURE_BIT(VIRTIO_BLK_F_CONFIG_WCE) |
		     FEATURE_BIT(VIRTIO_BLK_F_MQ);

	if (b->limits.readonly)
		f |= FEATURE_BIT(VIRTIO_BLK_F_RO);
	else if (discard)
		f |= FEATURE_BIT(VIRTIO_BLK_F_DISCARD) | FEATURE_BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	return f;
}
