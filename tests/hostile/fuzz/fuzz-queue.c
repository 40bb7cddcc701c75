/*
 * A device against a driver that does anything: the input is a list of operations, some of the
 * device, some that write into the ring and the in-flight region behind its back, and restarts.
 */
#include <string.h>
#include <sys/mman.h>

#include "devices/base/fd.h"
#include "devices/base/wire.h"
#include "devices/virtio/queue.h"
#include "tests/hostile/fuzz/fuzz.h"

enum {
	SIZE = 8,
	RAM_LEN = 0x2000,
	AVAIL = 0x100,
	USED = 0x200,
	REGION = 0x400, /* the in-flight region: in the same memory, at the guest's mercy */
};

static struct memory m;
static uint8_t *ram;
static struct queue q;
static uint16_t heads[SIZE]; /* in flight, as the device knows it */
static uint32_t n_heads;

static void setup(void)
{
	int fd = fd_open_memfd("fuzz", RAM_LEN, 0);

	CLAIM(fd >= 0);
	CLAIM(memory_add(&m, (struct guest_addr){ 0 }, (struct user_addr){ 0 }, RAM_LEN, 0, fd) ==
	      MEMORY_OK);
	CLAIM(memory_log_set(&m, 1, 0x1fff, fd) == MEMORY_OK);
	fd_close(fd);
	ram = memory_at(&m, (struct guest_addr){ 0 }, RAM_LEN);
}

static bool start(uint8_t flags)
{
	struct inflight_entry entries[SIZE];
	struct queue_spec spec = {
		.size = SIZE,
		.avail = { AVAIL },
		.used = { USED },
		.event_idx = flags & 1,
		.indirect = flags & 2,
		.log_used = flags & 4,
	};

	if (queue_start(&q, &m, &spec, (struct inflight_region *)(void *)(ram + REGION), entries,
			&n_heads) != QUEUE_OK)
		return false;
	CLAIM(n_heads <= SIZE && queue_n_inflight(&q) == n_heads);
	for (uint32_t i = 0; i < n_heads; i++) {
		CLAIM(entries[i].head < SIZE);
		heads[i] = entries[i].head;
	}
	return true;
}

static void pop(void)
{
	struct iovec iov[16];
	struct chain c = { .iov = iov, .iov_max = 16 };
	enum queue_verdict v = queue_pop(&q, &c);

	CLAIM(v == QUEUE_OK || v == QUEUE_EMPTY || v == QUEUE_BROKEN);
	CLAIM((v == QUEUE_BROKEN) == q.broken);
	if (v != QUEUE_OK)
		return;
	CLAIM(c.head < SIZE && n_heads < SIZE);
	for (uint32_t i = 0; i < n_heads; i++)
		CLAIM(heads[i] != c.head);
	heads[n_heads++] = c.head;
	/* The device writes to what is writable. */
	for (uint32_t i = 0; i < c.n_writable; i++)
		memset(c.iov[c.n_readable + i].iov_base, 0xa5, c.iov[c.n_readable + i].iov_len);
}

static void push(uint8_t which)
{
	uint32_t i = which % (n_heads ? n_heads : 1);

	if (n_heads == 0)
		return;
	queue_push(&q, heads[i], which);
	heads[i] = heads[--n_heads];
}

/* The guest, or whoever shares the memory, writes a few bytes somewhere. */
static void scribble(struct wire_reader *r)
{
	size_t at = wire_get_u16(r) % (RAM_LEN - 8), n = wire_get_u8(r) % 8 + 1;

	wire_get_bytes(r, ram + at, n);
}

/* The driver makes a head available, as it should. */
static void offer(uint8_t head)
{
	struct ring_avail *avail = (void *)(ram + AVAIL);

	avail->ring[avail->idx % SIZE] = head % (SIZE + 1);
	avail->idx++;
}

static bool step(struct wire_reader *r)
{
	uint8_t op = wire_get_u8(r);

	switch (op % 10) {
	case 0:
	case 1:
		pop();
		break;
	case 2:
		push(op / 10);
		break;
	case 3:
		queue_publish(&q);
		CLAIM(queue_n_inflight(&q) == n_heads);
		break;
	case 4:
		(void)queue_should_signal(&q);
		break;
	case 5:
		(void)queue_enable_notify(&q);
		break;
	case 6:
		queue_disable_notify(&q);
		break;
	case 7:
		scribble(r);
		break;
	case 8:
		offer(op / 10);
		break;
	default:
		return start(op / 10);
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct wire_reader r = wire_reader(data, len);

	if (!ram)
		setup();
	memset(ram, 0, RAM_LEN);
	for (unsigned i = 0; i < SIZE; i++)
		((struct ring_desc *)(void *)ram)[i] = (struct ring_desc){
			.addr = 0x1000 + UINT64_C(64) * i,
			.len = 64,
			.flags = RING_DESC_F_WRITE,
		};
	if (!start(wire_get_u8(&r)))
		return 0;
	while (wire_left(&r) > 0)
		if (!step(&r))
			break;
	return 0;
}
