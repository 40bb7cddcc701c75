/*
 * The walk of a descriptor chain: four bytes of parameters, then what lies in guest memory from
 * the descriptor table on. Guest addresses from 0 are the table and what follows it.
 */
#include <string.h>
#include <sys/mman.h>

#include "devices/base/fd.h"
#include "devices/base/span.h"
#include "devices/virtio/chain.h"
#include "tests/hostile/fuzz/fuzz.h"

#define REGION_LEN UINT64_C(0x4000)
enum { N_IOV = 64 };

static struct memory m;
static uint8_t *ram;

/* Two regions that follow each other, and a third that stands alone at the end of addresses. */
static void setup(void)
{
	static const uint64_t at[] = { 0, REGION_LEN, UINT64_MAX - 2 * REGION_LEN };
	int fd = fd_open_memfd("fuzz", 3 * REGION_LEN, 0);

	CLAIM(fd >= 0);
	for (uint64_t i = 0; i < 3; i++)
		CLAIM(memory_add(&m, (struct guest_addr){ at[i] }, (struct user_addr){ at[i] },
				 REGION_LEN, i * REGION_LEN, fd) == MEMORY_OK);
	fd_close(fd);
	ram = memory_at(&m, (struct guest_addr){ 0 }, REGION_LEN);
	CLAIM(ram);
}

static void check_element(const struct iovec *iov)
{
	CLAIM(iov->iov_len > 0);
	for (uint32_t i = 0; i < m.n_regions; i++)
		if (span_has(span_of(m.regions[i].host, m.regions[i].size), iov->iov_base,
			     iov->iov_len))
			return;
	abort();
}

static void check_chain(const struct chain *c)
{
	uint64_t readable = 0, writable = 0;

	CLAIM(c->n_readable <= c->iov_max && c->n_writable <= c->iov_max - c->n_readable);
	for (uint32_t i = 0; i < c->n_readable + c->n_writable; i++) {
		check_element(&c->iov[i]);
		*(i < c->n_readable ? &readable : &writable) += c->iov[i].iov_len;
	}
	CLAIM(readable == c->readable_len && writable == c->writable_len);
	CLAIM(readable + writable <= UINT32_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct iovec iov[N_IOV];
	struct chain c = { .iov = iov };
	enum chain_verdict v;
	uint32_t size;
	size_t n;

	if (!ram)
		setup();
	if (len < 4)
		return 0;
	size = 1u << (data[0] % 9);
	c.iov_max = data[1] % (N_IOV + 1);
	n = len - 4 < REGION_LEN ? len - 4 : REGION_LEN;
	memcpy(ram, data + 4, n);
	memset(ram + n, 0, REGION_LEN - n);
	v = chain_load(&c, &m, (const struct ring_desc *)(const void *)ram, size, data[2] & 1,
		       (uint16_t)(data[3] | (data[2] & 2 ? 0x100 : 0)));
	CLAIM(chain_verdict_to_string(v));
	if (v == CHAIN_OK)
		check_chain(&c);
	return 0;
}
