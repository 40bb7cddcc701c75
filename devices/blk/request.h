/*
 * One request of the driver: what it asks for, and the steps of I/O that answer it
 * (VIRTIO 1.3 §5.2.6).
 *
 * Runs in: worker's I/O threads. Trusts: nothing in the request.
 *
 * Most requests are one step: one submission to the kernel, straight from or to guest memory. More
 * steps are taken by requests that the kernel did in part, that need a bounce buffer for direct
 * I/O, and by discards of several ranges. All steps are idempotent, so a request that a dead worker
 * left is simply begun anew.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/process/model.h"

enum {
	REQUEST_MAX_SEGMENTS = 254, /* seg_max */
	REQUEST_MAX_RANGES = 16,    /* max_discard_seg, max_write_zeroes_seg */
	REQUEST_IOV_LEN =
		REQUEST_MAX_SEGMENTS + 10, /* with header, status, and some crossing regions */
	REQUEST_SMALL_IOV = 6,
	REQUEST_BOUNCE_LEN = 1 << 20,
	REQUEST_ZEROES_LEN = 64 << 10,
	REQUEST_SECTOR = 512,
	REQUEST_ID_LEN = 20,
};

enum request_kind {
	REQUEST_READ,
	REQUEST_WRITE,
	REQUEST_FLUSH,
	REQUEST_DISCARD,
	REQUEST_ZERO,	/* write zeroes */
	REQUEST_ANSWER, /* nothing to do: status is known */
};

struct request_range {
	uint64_t offset, len; /* bytes */
	bool unmap;	      /* zeroes: the blocks may go */
};

/* Room for large requests, apart from the rest: what small ones touch lies close together. */
struct blk_request_room {
	struct iovec iov[REQUEST_IOV_LEN];
	struct request_range ranges[REQUEST_MAX_RANGES];
};

struct blk_request {
	bool active;
	bool bounced;	     /* goes through the thread's bounce buffer */
	bool flushing;	     /* its last step: flush, for a disk without a volatile cache */
	bool aside;	     /* the step is one that the kernel could not do without waiting */
	bool share;	     /* the step is the companion's (share.h) */
	bool writing_zeroes; /* the file cannot zero a range: plain writes do */
	uint8_t status;	     /* for REQUEST_ANSWER */
	uint8_t kind;
	uint16_t head;
	uint64_t tag;
	struct vring *ring;
	uint8_t *status_byte; /* in guest memory */
	uint64_t offset;      /* bytes in the image */
	uint32_t len, done;   /* bytes asked for; bytes that are done */
	uint32_t step_len;    /* bytes of the step in flight */
	uint32_t n_iov;
	uint64_t shared_ns; /* when the companion got it */

	struct iovec *data;
	uint32_t n_ranges, range; /* ranges, and which is being worked on */
	struct blk_request *next; /* waiting for the bounce buffer */
	struct blk_request_room *room;
	struct iovec small[REQUEST_SMALL_IOV];
};

struct request_limits {
	uint64_t sectors;
	uint32_t block_len;
	bool readonly;
	bool discard;
	const char *serial;
};

/*
 * Understand a chain: fill rq from c, whose elements are copied. False: it has no room for a
 * status, so that it cannot be answered; the ring is broken then.
 */
bool blk_request_parse(struct blk_request *rq, const struct chain *c,
		       const struct request_limits *l);

/* The last device-writable byte of c: where the status goes. NULL: there is none. */
uint8_t *blk_request_status_byte(const struct chain *c);

/* Take n bytes off the front of the data. */
void blk_request_advance(struct blk_request *rq, uint32_t n);
