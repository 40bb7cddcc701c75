/*
 * Guest memory: the table of regions that the front-end shares, the two address spaces that name
 * bytes in it, and the log of dirty pages.
 *
 * Runs in: worker. Trusts: nothing; addresses and lengths come from the guest or the front-end.
 *
 * A guest address is what the driver writes into descriptors; a user address is what the front-end
 * writes into SET_VRING_ADDR (vhost-user.rst "Front-end message types"). They are different types.
 * The table changes only while every I/O thread is paused (process/worker.h), so that readers need
 * no lock.
 *
 * Invariants:
 *  1. Regions are sorted by guest address and do not overlap, neither as guest nor as user
 *     addresses; no address + size wraps.
 *  2. A pointer that leaves this file lies, with its whole length, inside one mapped region.
 *  3. Bytes behind such a pointer may change or vanish (SIGBUS) at any time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct guest_addr {
	uint64_t v;
};

struct user_addr {
	uint64_t v;
};

enum { MEMORY_MAX_REGIONS = 512 }; /* VHOST_USER_GET_MAX_MEM_SLOTS answers 509 or more */

struct memory_region {
	struct guest_addr guest;
	struct user_addr user;
	uint64_t size; /* bytes, not 0 */
	uint8_t *host; /* where the region's first byte is mapped here */
	void *map;     /* what mmap returned; below host by the mmap offset's page remainder */
	size_t map_len;
};

/* The log of VHOST_USER_SET_LOG_BASE: one bit for each 4 KiB page of guest memory. */
struct memory_log {
	uint8_t *bits; /* NULL: no logging */
	uint64_t len;  /* bytes of the bitmap */
	bool all;      /* VHOST_F_LOG_ALL is acknowledged: log writes to buffers */
	void *map;
	size_t map_len;
};

struct memory {
	uint32_t n_regions;
	struct memory_region regions[MEMORY_MAX_REGIONS];
	struct memory_log log;
};

enum memory_verdict {
	MEMORY_OK = 0,
	MEMORY_FULL,	   /* no slot free */
	MEMORY_EMPTY,	   /* size 0 */
	MEMORY_WRAPS,	   /* address + size or offset + size overflows */
	MEMORY_OVERLAPS,   /* with a region already there */
	MEMORY_UNKNOWN,	   /* memory_remove: no region exactly like this */
	MEMORY_SHORT,	   /* the file is smaller than offset + size */
	MEMORY_UNMAPPABLE, /* mmap refused */
};
const char *memory_verdict_to_string(enum memory_verdict v);

/* Check a new region against the table, without changing it. Pure. */
enum memory_verdict memory_check(const struct memory *m, struct guest_addr guest,
				 struct user_addr user, uint64_t size);

/*
 * Map size bytes at offset of fd and add the region. fd is borrowed; it can be closed afterwards.
 * The file's size is checked first (fstat), so that a truncated one is refused here and not by
 * SIGBUS. offset need not be page-aligned (User Mode Linux sends 0xc4f000; only the map is aligned
 * down).
 */
enum memory_verdict memory_add(struct memory *m, struct guest_addr guest, struct user_addr user,
			       uint64_t size, uint64_t offset, int fd);

/* Unmap and remove the region with exactly this guest address, user address and size. */
enum memory_verdict memory_remove(struct memory *m, struct guest_addr guest, struct user_addr user,
				  uint64_t size);

/* Unmap and forget every region (not the log). */
void memory_clear(struct memory *m);

/* The region that holds the byte at addr, or NULL. */
const struct memory_region *memory_region_of(const struct memory *m, struct guest_addr addr);

/* size bytes at addr, or NULL if they do not lie in one region. len may be 0. */
void *memory_at(const struct memory *m, struct guest_addr addr, uint64_t len);
void *memory_at_user(const struct memory *m, struct user_addr addr, uint64_t len);

/*
 * Append len bytes at addr to iov[*n..max), several elements where they cross from one region into
 * the next one that continues it. Returns false, *n untouched, if part of it is not memory or max
 * is reached.
 */
bool memory_iov(const struct memory *m, struct guest_addr addr, uint64_t len, struct iovec *iov,
		uint32_t *n, uint32_t max);

/* Map the log (VHOST_USER_SET_LOG_BASE); replaces an earlier one. size 0 takes it away. */
enum memory_verdict memory_log_set(struct memory *m, uint64_t size, uint64_t offset, int fd);

/*
 * Mark the pages of [addr, addr + len) dirty: atomically, after the write that it is for
 * (release; pairs with the front-end's exchange of the word). Outside the log's range: ignored.
 */
void memory_log_guest(const struct memory *m, struct guest_addr addr, uint64_t len);

/* The same for bytes at a pointer that memory_at() or memory_iov() gave. */
void memory_log_host(const struct memory *m, const void *p, uint64_t len);

/* True if buffer writes are to be logged: the data path asks this once a batch. */
static inline bool memory_logs(const struct memory *m)
{
	return m->log.bits != NULL && m->log.all;
}
