/*
 * A driver with one split virtqueue, for tests of the device side: guest memory in two regions, the
 * ring in the first, an in-flight region. All of it is shared memory, so that a forked child can
 * be the device.
 *
 * Runs in: tests. Trusts: the test.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/queue.h"

/*
 * Guest memory: two regions of DRIVER_REGION_LEN that follow each other as guest addresses, but
 * not as user addresses nor in the file.
 */
#define DRIVER_GUEST	  UINT64_C(0x40000000)
#define DRIVER_USER	  UINT64_C(0x7f1200000000)
#define DRIVER_USER_2	  UINT64_C(0x7f3400000000)
#define DRIVER_REGION_LEN UINT64_C(0x40000)
#define DRIVER_END	  (DRIVER_GUEST + 2 * DRIVER_REGION_LEN)

/* Offsets into the first region. */
enum {
	DRIVER_DESC = 0x1000,
	DRIVER_AVAIL = 0x6000,
	DRIVER_USED = 0x8000,
	DRIVER_INDIRECT = 0xc000,
	DRIVER_DATA = 0x10000,
};

enum { DRIVER_MAX_SIZE = 1024 };

struct driver {
	struct memory memory; /* as the device has it */
	int fd;
	uint8_t *ram; /* the driver's own view: first region, then second */
	uint32_t size;
	struct ring_desc *desc;
	struct ring_avail *avail;
	struct ring_used *used;
	struct inflight_region *region;
	struct queue_spec spec;
	uint16_t used_seen; /* the driver has reaped up to here */
	struct inflight_entry entries[DRIVER_MAX_SIZE];
	uint32_t n_entries;
};

void driver_start(struct driver *d, uint32_t size);
void driver_stop(struct driver *d);

/* The ring's indices as if it had been in use before. Before the device starts. */
void driver_set_idx(struct driver *d, uint16_t idx);

/* Write descriptor idx of the ring's table, with an address of guest memory. */
void driver_desc(struct driver *d, uint16_t idx, uint64_t addr, uint32_t len, uint16_t flags,
		 uint16_t next);

/* A request of 16 readable and 512 writable bytes in descriptors head and head + 1. */
void driver_request(struct driver *d, uint16_t head);

/* Make a head available. */
void driver_offer(struct driver *d, uint16_t head);

/* Take the next used element; false if there is none. */
bool driver_reap(struct driver *d, struct ring_used_elem *ret_elem);

/* Start the device's queue on this ring; what was in flight is in d->entries. */
enum queue_verdict driver_queue(struct driver *d, struct queue *q);

/* The words behind the ring's entries. */
uint16_t *driver_used_event(struct driver *d);
uint16_t *driver_avail_event(struct driver *d);
