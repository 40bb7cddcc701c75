/*
 * The disk image: a regular file or a block device, raw; what it can do and what it wants.
 *
 * Runs in: program start (by hand: opening), worker (facts).
 * Trusts:  whoever opened the image; nothing in it. A format is never probed: the bytes are the
 *          disk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum image_cache {
	IMAGE_CACHE_NONE,	  /* O_DIRECT; volatile until flushed (the disk's own cache) */
	IMAGE_CACHE_WRITEBACK,	  /* page cache; volatile until flushed */
	IMAGE_CACHE_WRITETHROUGH, /* page cache; a write is on the disk before its answer */
};

struct disk_image {
	uint64_t sectors;	 /* of 512 bytes */
	uint32_t block_len;	 /* bytes: offsets and lengths are multiples of it */
	uint32_t memory_align;	 /* bytes: buffers of direct I/O start at multiples; 1: anywhere */
	uint32_t physical_len;	 /* bytes: smallest unit written without read-modify-write */
	uint32_t io_min, io_opt; /* bytes; 0: unknown */
	uint32_t align_offset;	 /* bytes to the first physical block */
	bool block_device;
	bool direct;
	bool readonly; /* the descriptor cannot write */
};

/*
 * Open path for this cache mode at CONTRACT_FD_BLK_IMAGE and lock it as QEMU's tools do, so that
 * two writers do not meet. 0, or a negative errno after having said why.
 */
int disk_image_arrange(const char *path, enum image_cache cache, bool readonly);

/* The facts of the image at CONTRACT_FD_BLK_IMAGE. 0, or a negative errno after having said why. */
int disk_image_init(struct disk_image *image);
