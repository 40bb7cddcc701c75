/* Guest memory. See memory.h. */
#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/span.h"
#include "devices/virtio/memory.h"

enum { MEMORY_LOG_PAGE = 4096 }; /* vhost-user.rst "Migration": VHOST_LOG_PAGE */

static const char *const memory_verdicts[] = {
	[MEMORY_OK] = "ok",
	[MEMORY_FULL] = "no memory slot is free",
	[MEMORY_EMPTY] = "a region of size 0",
	[MEMORY_WRAPS] = "an address and size that overflow",
	[MEMORY_OVERLAPS] = "a region that overlaps another",
	[MEMORY_UNKNOWN] = "no such region",
	[MEMORY_SHORT] = "a file shorter than its region",
	[MEMORY_UNMAPPABLE] = "a file that cannot be mapped",
};
static_assert(sizeof(memory_verdicts) / sizeof(memory_verdicts[0]) == MEMORY_UNMAPPABLE + 1,
	      "a text for each verdict");

const char *memory_verdict_to_string(enum memory_verdict v)
{
	return memory_verdicts[v];
}

/* The number of regions that start at or below addr. */
static uint32_t memory_rank(const struct memory *m, struct guest_addr addr)
{
	uint32_t low = 0, high = m->n_regions;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (m->regions[middle].guest.v <= addr.v)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct memory_region *memory_region_of(const struct memory *m, struct guest_addr addr)
{
	uint32_t rank = memory_rank(m, addr);
	const struct memory_region *region;

	if (rank == 0)
		return NULL;
	region = &m->regions[rank - 1];
	return addr.v - region->guest.v < region->size ? region : NULL;
}

enum memory_verdict memory_check(const struct memory *m, struct guest_addr guest,
				 struct user_addr user, uint64_t size)
{
	uint64_t end;

	if (size == 0)
		return MEMORY_EMPTY;
	if (__builtin_add_overflow(guest.v, size, &end) ||
	    __builtin_add_overflow(user.v, size, &end))
		return MEMORY_WRAPS;
	for (uint32_t i = 0; i < m->n_regions; i++) {
		const struct memory_region *region = &m->regions[i];

		if (span_overlaps(region->guest.v, region->size, guest.v, size) ||
		    span_overlaps(region->user.v, region->size, user.v, size))
			return MEMORY_OVERLAPS;
	}
	return m->n_regions == MEMORY_MAX_REGIONS ? MEMORY_FULL : MEMORY_OK;
}

struct memory_map {
	void *map;
	size_t map_len;
	uint8_t *at; /* the byte at the offset asked for */
};

/*
 * What the start and length of a map of this file must be multiples of: the page size, and on
 * hugetlbfs, which says so in st_blksize, its huge page. Elsewhere more alignment does no harm.
 */
static uint64_t memory_map_align(const struct stat *st)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), block = (uint64_t)st->st_blksize;

	return block > page && block <= UINT64_C(1) << 30 && (block & (block - 1)) == 0 ? block
											: page;
}

/* Map [offset, offset + size) of fd, shared. size is not 0. */
static enum memory_verdict memory_map(int fd, uint64_t offset, uint64_t size,
				      struct memory_map *ret_map)
{
	uint64_t end, align, start;
	struct stat st;
	size_t map_len;
	void *map;

	if (__builtin_add_overflow(offset, size, &end))
		return MEMORY_WRAPS;
	if (fd_stat(fd, &st) < 0)
		return MEMORY_UNMAPPABLE;
	if (st.st_size < 0 || end > (uint64_t)st.st_size)
		return MEMORY_SHORT;
	align = memory_map_align(&st);
	start = offset & ~(align - 1);
	/* end is at most 2^63 - 1 and align at most 2^30: rounding up does not wrap. */
	map_len = (size_t)(((end + align - 1) & ~(align - 1)) - start);
	map = mmap(NULL, map_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		   (off_t)start);
	if (map == MAP_FAILED)
		return MEMORY_UNMAPPABLE;
	*ret_map = (struct memory_map){
		.map = map,
		.map_len = map_len,
		.at = (uint8_t *)map + (offset - start),
	};
	return MEMORY_OK;
}

enum memory_verdict memory_add(struct memory *m, struct guest_addr guest, struct user_addr user,
			       uint64_t size, uint64_t offset, int fd)
{
	enum memory_verdict v = memory_check(m, guest, user, size);
	struct memory_map map;
	uint32_t rank;

	if (v != MEMORY_OK)
		return v;
	v = memory_map(fd, offset, size, &map);
	if (v != MEMORY_OK)
		return v;
	rank = memory_rank(m, guest);
	memmove(&m->regions[rank + 1], &m->regions[rank],
		(m->n_regions - rank) * sizeof(m->regions[0]));
	m->regions[rank] = (struct memory_region){
		.guest = guest,
		.user = user,
		.size = size,
		.host = map.at,
		.map = map.map,
		.map_len = map.map_len,
	};
	m->n_regions++;
	return MEMORY_OK;
}

enum memory_verdict memory_remove(struct memory *m, struct guest_addr guest, struct user_addr user,
				  uint64_t size)
{
	uint32_t rank = memory_rank(m, guest);
	struct memory_region *region = rank ? &m->regions[rank - 1] : NULL;

	if (!region || region->guest.v != guest.v || region->user.v != user.v ||
	    region->size != size)
		return MEMORY_UNKNOWN;
	munmap(region->map, region->map_len);
	memmove(region, region + 1, (m->n_regions - rank) * sizeof(m->regions[0]));
	m->n_regions--;
	return MEMORY_OK;
}

void memory_clear(struct memory *m)
{
	for (uint32_t i = 0; i < m->n_regions; i++)
		munmap(m->regions[i].map, m->regions[i].map_len);
	m->n_regions = 0;
}

void *memory_at(const struct memory *m, struct guest_addr addr, uint64_t len)
{
	const struct memory_region *region = memory_region_of(m, addr);

	if (!region || !span_fits(region->size, addr.v - region->guest.v, len))
		return NULL;
	return region->host + (addr.v - region->guest.v);
}

void *memory_at_user(const struct memory *m, struct user_addr addr, uint64_t len)
{
	for (uint32_t i = 0; i < m->n_regions; i++) {
		const struct memory_region *region = &m->regions[i];
		uint64_t offset = addr.v - region->user.v;

		if (addr.v >= region->user.v && offset < region->size)
			return span_fits(region->size, offset, len) ? region->host + offset : NULL;
	}
	return NULL;
}

bool memory_iov(const struct memory *m, struct guest_addr addr, uint64_t len, struct iovec *iov,
		uint32_t *n, uint32_t max)
{
	const struct memory_region *region;
	uint32_t at = *n;

	while (len > 0) {
		uint64_t offset, step;

		region = memory_region_of(m, addr);
		if (!region || at >= max)
			return false;
		offset = addr.v - region->guest.v;
		step = region->size - offset;
		if (step > len)
			step = len;
		iov[at++] = (struct iovec){
			.iov_base = region->host + offset,
			.iov_len = (size_t)step,
		};
		/* No wrap: a region's end does not (invariant 1). */
		addr.v += step;
		len -= step;
	}
	*n = at;
	return true;
}

enum memory_verdict memory_log_set(struct memory *m, uint64_t size, uint64_t offset, int fd)
{
	struct memory_map map = { 0 };

	if (size > 0) {
		enum memory_verdict v = memory_map(fd, offset, size, &map);

		if (v != MEMORY_OK)
			return v;
	}
	if (m->log.map)
		munmap(m->log.map, m->log.map_len);
	m->log.bits = map.at;
	m->log.len = size;
	m->log.map = map.map;
	m->log.map_len = map.map_len;
	return MEMORY_OK;
}

/*
 * Set bits [first, last] of one byte. Always a read-modify-write, never skipped for a bit that is
 * set already: it also orders our write to the page before the front-end's exchange, after which
 * it copies the page (vhost-user.rst "Migration").
 */
static void memory_log_byte(const struct memory *m, uint64_t byte, unsigned first, unsigned last)
{
	uint8_t mask = (uint8_t)(0xffu << first) & (uint8_t)(0xffu >> (7 - last));

	__atomic_fetch_or(&m->log.bits[byte], mask, __ATOMIC_SEQ_CST);
}

void memory_log_guest(const struct memory *m, struct guest_addr addr, uint64_t len)
{
	uint64_t page = addr.v / MEMORY_LOG_PAGE, last;

	if (!m->log.bits || len == 0 || __builtin_add_overflow(addr.v, len - 1, &last))
		return;
	last /= MEMORY_LOG_PAGE;
	if (last / 8 >= m->log.len)
		last = m->log.len * 8 - 1;
	for (uint64_t byte = page / 8; byte <= last / 8; byte++)
		memory_log_byte(m, byte, byte == page / 8 ? page % 8 : 0,
				byte == last / 8 ? last % 8 : 7);
}

void memory_log_host(const struct memory *m, const void *p, uint64_t len)
{
	for (uint32_t i = 0; i < m->n_regions; i++) {
		const struct memory_region *region = &m->regions[i];

		if (span_has(span_of(region->host, region->size), p, len)) {
			uint64_t offset = (uint64_t)((const uint8_t *)p - region->host);

			memory_log_guest(m, (struct guest_addr){ region->guest.v + offset }, len);
			return;
		}
	}
}
