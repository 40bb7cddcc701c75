/*
 * The block device model (VIRTIO 1.3 §5.2): configuration space, write cache, requests.
 *
 * Runs in: worker. Trusts: its options and its image; nothing of the guest.
 */
#pragma once

#include "devices/blk/image.h"
#include "devices/process/model.h"
#include "devices/process/options.h"

struct blk_config {
	const char *path; /* by hand */
	enum image_cache cache;
	bool readonly;
	bool discard;
	const char *serial;
	uint64_t iops;	    /* 0: no limit */
	uint64_t bandwidth; /* bytes per second; 0: no limit */
};

/* The model of the image at CONTRACT_FD_BLK_IMAGE, one a process; NULL after having said why. */
struct model *blk_create(void *config, const struct options *o);
