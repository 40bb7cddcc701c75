/*
 * The memory table: the input is a list of operations with small operands, so that regions meet.
 * After each, the table's invariants are checked against plain loops.
 */
#include <string.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/span.h"
#include "devices/base/wire.h"
#include "devices/virtio/memory.h"
#include "tests/hostile/fuzz/fuzz.h"

enum { FILE_LEN = 64 * 4096 };

/* 16 bits of input as an address: small ones, and ones close to the end of 64 bits. */
static uint64_t address(struct wire_reader *r)
{
	uint16_t v = wire_get_u16(r);
	uint64_t low = (uint64_t)(v & 0x7fff) << 7;

	return v & 0x8000 ? UINT64_MAX - low : low;
}

static void check_table(const struct memory *m)
{
	CLAIM(m->n_regions <= MEMORY_MAX_REGIONS);
	for (uint32_t i = 0; i < m->n_regions; i++) {
		const struct memory_region *a = &m->regions[i];
		struct span map = span_of(a->map, a->map_len);

		CLAIM(a->size > 0 && a->guest.v + a->size > a->guest.v);
		CLAIM(a->user.v + a->size > a->user.v);
		CLAIM(span_has(map, a->host, a->size));
		for (uint32_t j = 0; j < i; j++) {
			const struct memory_region *b = &m->regions[j];

			CLAIM(b->guest.v + b->size <= a->guest.v);
			CLAIM(!span_overlaps(a->user.v, a->size, b->user.v, b->size));
		}
	}
}

/* Is [p, p + len) in one region? */
static void check_inside(const struct memory *m, const void *p, uint64_t len)
{
	for (uint32_t i = 0; i < m->n_regions; i++)
		if (span_has(span_of(m->regions[i].host, m->regions[i].size), p, len))
			return;
	abort();
}

static void lookup(const struct memory *m, struct wire_reader *r)
{
	struct guest_addr guest = { address(r) };
	struct user_addr user = { guest.v };
	uint64_t len = address(r), sum = 0;
	const void *p = memory_at(m, guest, len);
	struct iovec iov[8];
	uint32_t n = 0;

	if (p)
		check_inside(m, p, len);
	if (p && len > 0) {
		/* The first and the last byte really are there. */
		(void)*(const volatile uint8_t *)p;
		(void)*((const volatile uint8_t *)p + len - 1);
	}
	p = memory_at_user(m, user, len);
	if (p)
		check_inside(m, p, len);
	if (!memory_iov(m, guest, len, iov, &n, 8)) {
		CLAIM(n == 0);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		check_inside(m, iov[i].iov_base, iov[i].iov_len);
		sum += iov[i].iov_len;
	}
	CLAIM(sum == len);
	memory_log_guest(m, guest, len);
	for (uint32_t i = 0; i < n; i++)
		memory_log_host(m, iov[i].iov_base, iov[i].iov_len);
}

static void step(struct memory *m, struct wire_reader *r, int fd)
{
	uint8_t op = wire_get_u8(r);
	uint32_t n = m->n_regions;
	struct guest_addr guest;
	struct user_addr user;
	uint64_t size;

	if (op % 8 >= 6) {
		lookup(m, r);
		return;
	}
	guest.v = address(r);
	user.v = address(r);
	size = address(r);
	if (op % 8 < 4) {
		enum memory_verdict check = memory_check(m, guest, user, size);
		enum memory_verdict v = memory_add(m, guest, user, size, address(r), fd);

		CLAIM(check == MEMORY_OK || v == check);
		CLAIM(m->n_regions == n + (v == MEMORY_OK));
	} else if (op % 8 == 4) {
		enum memory_verdict v = memory_remove(m, guest, user, size);

		CLAIM(v == MEMORY_OK || v == MEMORY_UNKNOWN);
		CLAIM(m->n_regions == n - (v == MEMORY_OK));
	} else {
		memory_log_set(m, size, guest.v, fd);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct memory m;
	struct wire_reader r = wire_reader(data, len);
	int fd = fd_open_memfd("fuzz", FILE_LEN, 0);

	CLAIM(fd >= 0);
	memset(&m, 0, sizeof(m));
	while (wire_left(&r) > 0) {
		step(&m, &r, fd);
		check_table(&m);
	}
	memory_clear(&m);
	memory_log_set(&m, 0, 0, -1);
	fd_close(fd);
	return 0;
}
