/* The guest memory of the test front-end: memfds, mapped here, described to the back-end. */
#pragma once

#include "tests/frontend/proto.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FE_MAX_REGIONS = 600,
};

/* An address as the driver writes it into a ring, and one as it goes into SET_VRING_ADDR. */
struct fe_guest {
	uint64_t v;
};
struct fe_user {
	uint64_t v;
};

struct fe_memory_spec {
	uint64_t len;	       /* of all regions together; 0: 32 MiB */
	unsigned n_regions;    /* equal parts; 0: 1 */
	struct fe_guest guest; /* of the first region; 0: a page-aligned odd place */
	struct fe_user user;   /* likewise */
	uint64_t gap;	       /* hole between two regions, in guest and in user addresses */
	uint64_t offset;       /* of each region in its memfd */
	bool huge;	       /* ask for transparent huge pages */
};

struct fe_region {
	struct fe_guest guest;
	struct fe_user user;
	uint64_t len;
	uint64_t offset; /* into the memfd */
	uint64_t used;	 /* handed out by fe_memory_alloc */
	uint8_t *map;	 /* the region's first byte */
	int fd;
};

struct fe_memory {
	struct fe_region regions[FE_MAX_REGIONS];
	unsigned n_regions;
};

int fe_memory_init(struct fe_memory *m, const struct fe_memory_spec *spec);
void fe_memory_done(struct fe_memory *m);
int fe_memory_add(struct fe_memory *m, const struct fe_region *like, bool huge);
void fe_memory_remove(struct fe_memory *m, unsigned idx);

/* Memory of one region, zeroed, never given back. Exits the program when there is no more: a bug of
 * the test. */
void *fe_memory_alloc_in(struct fe_memory *m, unsigned region, size_t len, size_t align);
void *fe_memory_alloc(struct fe_memory *m, size_t len, size_t align);

struct fe_guest fe_memory_guest(const struct fe_memory *m, const void *p);
struct fe_user fe_memory_user(const struct fe_memory *m, const void *p);
struct fe_region_wire fe_memory_wire(const struct fe_region *r);
