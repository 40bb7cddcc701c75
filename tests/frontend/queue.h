/* The driver's side of a split virtqueue. */
#pragma once

#include "tests/frontend/memory.h"

#include <linux/virtio_ring.h>

enum {
	FE_MAX_QUEUE_SIZE = 1024,
	FE_INDIRECT_LEN = 256, /* descriptors in one indirect table */
};

struct fe_sg {
	void *p; /* guest memory, as mapped here */
	uint32_t len;
};

/* One element of the used ring, checked. */
struct fe_used {
	void *user;    /* what was given to fe_queue_add */
	uint16_t head; /* its first descriptor */
	uint32_t len;  /* bytes that the device says it wrote */
};

struct fe_queue {
	const struct fe_memory *mem;
	unsigned idx;
	uint16_t size;
	bool event_idx;
	bool indirect;

	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	struct vring_desc *tables; /* size × FE_INDIRECT_LEN, when indirect */
	int kick, call, err;

	uint16_t n_free;
	uint16_t free_head;  /* list through next[] */
	uint16_t avail_idx;  /* added, perhaps not yet published */
	uint16_t kicked_idx; /* avail_idx at the last decision about a kick */
	uint16_t last_used;
	uint16_t next[FE_MAX_QUEUE_SIZE];
	uint16_t chain_len[FE_MAX_QUEUE_SIZE]; /* by head; 0: not outstanding */
	void *user[FE_MAX_QUEUE_SIZE];

	uint64_t n_kicks;
	uint64_t n_bogus; /* used elements that nobody had asked for: must stay 0 */
	bool started;
};

struct fe_queue_spec {
	unsigned idx;
	uint16_t size;
	bool event_idx;
	bool indirect;
	unsigned region; /* where the rings go */
};

int fe_queue_init(struct fe_queue *q, struct fe_memory *m, const struct fe_queue_spec *spec);
void fe_queue_done(struct fe_queue *q);
void fe_queue_rewind(struct fe_queue *q); /* empty, as after a reset */

/* A chain of n_out device-readable and then n_in device-writable buffers; its head or -ENOSPC. */
int fe_queue_add(struct fe_queue *q, const struct fe_sg *sg, unsigned n_out, unsigned n_in,
		 void *user);
int fe_queue_add_indirect(struct fe_queue *q, const struct fe_sg *sg, unsigned n_out, unsigned n_in,
			  void *user);
void fe_queue_publish(struct fe_queue *q);
bool fe_queue_kick_wanted(struct fe_queue *q);
void fe_queue_kick_always(struct fe_queue *q);
bool fe_queue_kick(struct fe_queue *q); /* publish, and kick if the device asks for it */

bool fe_queue_pop(struct fe_queue *q, struct fe_used *ret_used);
bool fe_queue_pending(const struct fe_queue *q);
unsigned fe_queue_outstanding(const struct fe_queue *q);
bool fe_queue_arm(
	struct fe_queue *q); /* ask for the next call; true when something is there already */
void fe_queue_disarm(struct fe_queue *q); /* ask for no calls */
void fe_queue_drain_call(struct fe_queue *q);
int fe_queue_wait(struct fe_queue *q, int timeout_ms); /* 1: pending, 0: timeout */
