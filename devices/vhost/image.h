/*
 * The session's image: all that a new worker must know to go on with a front-end's session, as it
 * stands in the state memfd.
 *
 * Runs in: worker. Trusts: nothing when it is loaded (image_check): what it holds was written by an
 *          earlier worker, which a guest may have taken over.
 *
 * There are two images. One is current; a request is worked on in the other, and one store of
 * store->current makes the change, the consumption of the request and the reply to it true
 * at the same instant. Each image has its own receive and transmit slot (vhost/message.h).
 *
 * A worker copies the current image, checks the copy and uses that: what wrote it is dead by then
 * (process/keeper.h, invariant 1), but reads that it had begun may still land in the state. So
 * nothing of the store is loaded twice.
 *
 * Invariants:
 *  1. The current image, its rx and its tx are complete at every instruction. Nobody writes the
 *     current image; its rx and tx are written as message.h says.
 *  2. A descriptor number in the image is open and >= the first session descriptor, or IMAGE_NO_FD.
 *  3. A started vring has a size and addresses. (That they lie in guest memory, and that the
 *     in-flight region has a place for it, shows when it is attached: process/rings.h.)
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/vhost/message.h"

enum {
	IMAGE_MAX_VRINGS = 64,
	IMAGE_MAX_REGIONS = 512,
	IMAGE_DEVICE_LEN = 64,
	IMAGE_NO_FD = -1,
};

struct image_region {
	uint64_t guest;
	uint64_t user;
	uint64_t size;
	uint64_t offset;
	int32_t fd;
	uint32_t padding;
};

struct image_vring {
	uint64_t desc, avail, used; /* user addresses */
	uint64_t log;		    /* guest address of the used ring, for logging */
	uint32_t size;		    /* descriptors; 0: not set */
	int32_t kick, call, err;
	uint16_t base;	  /* where a ring that is started next begins */
	uint8_t addr_set; /* SET_VRING_ADDR has been seen */
	uint8_t log_used; /* PROTO_VRING_F_LOG */
	uint8_t started;  /* between SET_VRING_KICK and GET_VRING_BASE */
	uint8_t enabled;
	uint8_t event_idx; /* as acknowledged when the ring was started */
	uint8_t indirect;
};

struct image {
	uint64_t features;	    /* acknowledged by SET_FEATURES */
	uint64_t protocol_features; /* acknowledged by SET_PROTOCOL_FEATURES */
	uint64_t log_len, log_offset;
	uint64_t inflight_len, inflight_offset;
	int32_t connection; /* the socket; IMAGE_NO_FD: none */
	int32_t backreq;
	int32_t log_fd;
	int32_t inflight_fd; /* the front-end's region; IMAGE_NO_FD: our own is used */
	uint16_t inflight_queues, inflight_size;
	uint8_t owned;	      /* SET_OWNER seen */
	uint8_t features_set; /* SET_FEATURES seen */
	uint8_t status;	      /* VIRTIO 1.3 §2.1, as SET_STATUS says */
	uint8_t padding;
	uint32_t n_regions;
	struct image_region regions[IMAGE_MAX_REGIONS];
	struct image_vring vrings[IMAGE_MAX_VRINGS];
	uint8_t device[IMAGE_DEVICE_LEN]; /* what the type must remember (blk: write cache) */
};

/* Both images with their messages: the part of the state memfd that this floor owns. */
struct image_store {
	uint32_t current; /* 0 or 1 */
	uint32_t padding;
	struct image image[2];
	struct message_rx rx[2];
	struct message_tx tx[2];
};

/* Limits that depend on the device, for the check. */
struct image_limits {
	uint32_t n_vrings;
	uint32_t max_size; /* descriptors */
	int32_t fd_min, fd_limit;
	uint64_t features, protocol_features; /* what was offered */
};

/* No connection, no memory, every ring stopped; the device part is zero. */
void image_init(struct image *im);

/* Is this a state that a session can be in? Numbers are in range, descriptors are open. */
bool image_check(const struct image *im, const struct image_limits *l);

/* Call fn for each descriptor that the image owns. */
void image_for_each_fd(const struct image *im, void (*fn)(int fd, void *arg), void *arg);
