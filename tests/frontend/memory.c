/*
 * Guest memory of the test front-end.
 *
 * Runs in: test programs. Trusts: its caller.
 *
 * Every region is a memfd of its own. The default layout gives the guest address, the user address
 * and the offset in the file three different and unaligned-looking values, so that a back-end that
 * takes one for another cannot pass by luck.
 */
#include "tests/frontend/memory.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUEST_DEFAULT UINT64_C(0x00c4f000)
#define USER_DEFAULT  UINT64_C(0x7100003d5000)
#define LEN_DEFAULT   (UINT64_C(32) << 20)

static int region_map(struct fe_region *r, bool huge)
{
	size_t len = r->len + r->offset;
	uint8_t *map;

	r->fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (r->fd < 0)
		return -errno;
	if (ftruncate(r->fd, (off_t)len) < 0)
		goto failed;
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	if (map == MAP_FAILED)
		goto failed;
	if (huge)
		madvise(map, len, MADV_HUGEPAGE);
	r->map = map + r->offset;
	return 0;
failed:
	len = (size_t)errno;
	close(r->fd);
	r->fd = -1;
	return -(int)len;
}

/* Adds a region with the addresses, length and offset of @like; its number, or negative errno. */
int fe_memory_add(struct fe_memory *m, const struct fe_region *like, bool huge)
{
	struct fe_region *r = &m->regions[m->n_regions];
	int error;

	if (m->n_regions == FE_MAX_REGIONS)
		return -ENOSPC;
	*r = *like;
	r->used = 0;
	error = region_map(r, huge);
	if (error < 0)
		return error;
	return (int)m->n_regions++;
}

void fe_memory_remove(struct fe_memory *m, unsigned idx)
{
	struct fe_region *r = &m->regions[idx];

	munmap(r->map - r->offset, r->len + r->offset);
	close(r->fd);
	memmove(r, r + 1, (m->n_regions - idx - 1) * sizeof(*r));
	m->n_regions--;
}

int fe_memory_init(struct fe_memory *m, const struct fe_memory_spec *spec)
{
	unsigned n = spec->n_regions ? spec->n_regions : 1;
	uint64_t len = (spec->len ? spec->len : LEN_DEFAULT) / n;
	struct fe_region like = {
		.guest.v = spec->guest.v ? spec->guest.v : GUEST_DEFAULT,
		.user.v = spec->user.v ? spec->user.v : USER_DEFAULT,
		.offset = spec->offset,
		.len = len,
		.fd = -1,
	};
	unsigned i;
	int r;

	m->n_regions = 0;
	for (i = 0; i < n; i++) {
		r = fe_memory_add(m, &like, spec->huge);
		if (r < 0) {
			fe_memory_done(m);
			return r;
		}
		like.guest.v += len + spec->gap;
		like.user.v += len + spec->gap;
	}
	return 0;
}

void fe_memory_done(struct fe_memory *m)
{
	while (m->n_regions > 0)
		fe_memory_remove(m, m->n_regions - 1);
}

void *fe_memory_alloc_in(struct fe_memory *m, unsigned region, size_t len, size_t align)
{
	struct fe_region *r = &m->regions[region];
	uint64_t at = (r->used + align - 1) / align * align;

	if (region >= m->n_regions || at + len > r->len)
		errx(99, "test bug: guest memory of region %u is used up (%zu wanted)", region,
		     len);
	r->used = at + len;
	memset(r->map + at, 0, len);
	return r->map + at;
}

void *fe_memory_alloc(struct fe_memory *m, size_t len, size_t align)
{
	return fe_memory_alloc_in(m, 0, len, align);
}

static const struct fe_region *region_of(const struct fe_memory *m, const void *p)
{
	const uint8_t *b = p;
	unsigned i;

	for (i = 0; i < m->n_regions; i++)
		if (b >= m->regions[i].map && b < m->regions[i].map + m->regions[i].len)
			return &m->regions[i];
	errx(99, "test bug: %p is not guest memory", p);
}

struct fe_guest fe_memory_guest(const struct fe_memory *m, const void *p)
{
	const struct fe_region *r = region_of(m, p);

	return (struct fe_guest){ r->guest.v + (uint64_t)((const uint8_t *)p - r->map) };
}

struct fe_user fe_memory_user(const struct fe_memory *m, const void *p)
{
	const struct fe_region *r = region_of(m, p);

	return (struct fe_user){ r->user.v + (uint64_t)((const uint8_t *)p - r->map) };
}

struct fe_region_wire fe_memory_wire(const struct fe_region *r)
{
	return (struct fe_region_wire){
		.guest = r->guest.v, .size = r->len, .user = r->user.v, .offset = r->offset
	};
}
