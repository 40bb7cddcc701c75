/* A driver with one split virtqueue. See driver.h. */
#include <sys/mman.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "tests/unit/driver.h"
#include "tests/unit/unit.h"

/* The regions lie in the file behind each other with a gap, at offsets that are not page-aligned.
 */
enum {
	DRIVER_OFFSET = 0x10,
	DRIVER_OFFSET_2 = 0x50010,
	DRIVER_FILE_LEN = 0xa0000,
};

static void *shared(size_t len, int fd)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0),
		       fd, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

void driver_start(struct driver *d, uint32_t size)
{
	*d = (struct driver){ .size = size, .fd = fd_open_memfd("guest", DRIVER_FILE_LEN, 0) };
	assert_true(d->fd >= 0);
	d->ram = (uint8_t *)shared(DRIVER_FILE_LEN, d->fd) + DRIVER_OFFSET;
	d->region = shared(inflight_queue_len(DRIVER_MAX_SIZE), -1);
	assert_int_equal(memory_add(&d->memory,
				    (struct guest_addr){ DRIVER_GUEST + DRIVER_REGION_LEN },
				    (struct user_addr){ DRIVER_USER_2 }, DRIVER_REGION_LEN,
				    DRIVER_OFFSET_2, d->fd),
			 MEMORY_OK);
	assert_int_equal(memory_add(&d->memory, (struct guest_addr){ DRIVER_GUEST },
				    (struct user_addr){ DRIVER_USER }, DRIVER_REGION_LEN,
				    DRIVER_OFFSET, d->fd),
			 MEMORY_OK);
	d->desc = (void *)(d->ram + DRIVER_DESC);
	d->avail = (void *)(d->ram + DRIVER_AVAIL);
	d->used = (void *)(d->ram + DRIVER_USED);
	d->spec = (struct queue_spec){
		.size = size,
		.desc = { DRIVER_USER + DRIVER_DESC },
		.avail = { DRIVER_USER + DRIVER_AVAIL },
		.used = { DRIVER_USER + DRIVER_USED },
		.used_log = { DRIVER_GUEST + DRIVER_USED },
		.indirect = true,
	};
}

void driver_stop(struct driver *d)
{
	memory_clear(&d->memory);
	memory_log_set(&d->memory, 0, 0, -1);
	munmap(d->ram - DRIVER_OFFSET, DRIVER_FILE_LEN);
	munmap(d->region, inflight_queue_len(DRIVER_MAX_SIZE));
	fd_close(d->fd);
}

void driver_set_idx(struct driver *d, uint16_t idx)
{
	d->avail->idx = d->used->idx = d->used_seen = d->spec.base = idx;
}

void driver_desc(struct driver *d, uint16_t idx, uint64_t addr, uint32_t len, uint16_t flags,
		 uint16_t next)
{
	d->desc[idx] = (struct ring_desc){ .addr = addr, .len = len, .flags = flags, .next = next };
}

void driver_request(struct driver *d, uint16_t head)
{
	uint64_t data = DRIVER_GUEST + DRIVER_DATA + head * UINT64_C(1024);

	driver_desc(d, head, data, 16, RING_DESC_F_NEXT, (uint16_t)(head + 1));
	driver_desc(d, (uint16_t)(head + 1), data + 512, 512, RING_DESC_F_WRITE, 0);
}

void driver_offer(struct driver *d, uint16_t head)
{
	uint16_t idx = d->avail->idx;

	__atomic_store_n(&d->avail->ring[idx & (d->size - 1)], head, __ATOMIC_RELAXED);
	/* Release: pairs with the acquire in queue_pop(). */
	__atomic_store_n(&d->avail->idx, (uint16_t)(idx + 1), __ATOMIC_RELEASE);
}

bool driver_reap(struct driver *d, struct ring_used_elem *ret_elem)
{
	/* Acquire: pairs with the release in queue_publish(). */
	if (__atomic_load_n(&d->used->idx, __ATOMIC_ACQUIRE) == d->used_seen)
		return false;
	*ret_elem = d->used->ring[d->used_seen++ & (d->size - 1)];
	return true;
}

enum queue_verdict driver_queue(struct driver *d, struct queue *q)
{
	return queue_start(q, &d->memory, &d->spec, d->region, d->entries, &d->n_entries);
}

uint16_t *driver_used_event(struct driver *d)
{
	return &d->avail->ring[d->size];
}

uint16_t *driver_avail_event(struct driver *d)
{
	return (uint16_t *)(void *)&d->used->ring[d->size];
}
