/* Requests of a virtio block device, from the driver's side. */
#pragma once

#include "tests/frontend/session.h"

#include <linux/virtio_blk.h>

enum {
	FE_BLK_CONFIG_LEN = 60, /* of struct virtio_blk_config, up to the limits of write zeroes */
	FE_BLK_MAX_SEGS = 254,
	FE_BLK_UNANSWERED = 0xaa, /* what the status byte holds until the device has written it */
};

/* One request's header and status in guest memory, used again and again. */
struct fe_blk {
	struct virtio_blk_outhdr *header;
	uint8_t *status;
	uint32_t used_len; /* of the last completion */
	bool done;
	struct fe_sg sg[FE_BLK_MAX_SEGS + 2];
	void *user; /* of the test */
};

struct fe_blk_op {
	uint32_t type;
	uint64_t sector;
	const struct fe_sg *data;
	unsigned n_data;
	bool indirect;
};

void fe_blk_init(struct fe_blk *b, struct fe_memory *m);
int fe_blk_add(struct fe_queue *q, struct fe_blk *b, const struct fe_blk_op *op);

/* Submit one, wait for it. The status that the device wrote, or negative errno. */
int fe_blk_run(struct fe_queue *q, struct fe_blk *b, const struct fe_blk_op *op);
int fe_blk_rw(struct fe_queue *q, struct fe_blk *b, uint32_t type, uint64_t sector,
	      struct fe_sg data);
int fe_blk_wait(struct fe_queue *q, struct fe_blk *b, int timeout_ms);
