/*
 * Attacks by memory: regions that overlap, overflow, do not exist or go away; in-flight regions and
 * logs full of lies.
 *
 * Runs in: frontend-hostile. Trusts: nothing.
 */
#include "tests/hostile/attack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

/* A table of two regions over two files of 1 MiB, which the row may spoil first. */
struct table {
	struct fe_mem_table_wire wire;
	int fds[8];
	unsigned n_fds;
};

static void table_init(struct table *t)
{
	unsigned i;

	memset(t, 0, sizeof(*t));
	t->wire.n_regions = t->n_fds = 2;
	for (i = 0; i < 8; i++) {
		t->fds[i] = memfd_create("hostile", MFD_CLOEXEC);
		if (ftruncate(t->fds[i], MIB) < 0)
			continue;
		t->wire.regions[i] = (struct fe_region_wire){ .guest = i * MIB,
							      .size = MIB,
							      .user = (64 + i) * MIB };
	}
}

static int table_send(struct fe *fe, struct table *t)
{
	struct fe_out out = { .request = FE_SET_MEM_TABLE,
			      .payload = &t->wire,
			      .len = 8 + 32 * (t->wire.n_regions <= 8 ? t->wire.n_regions : 8),
			      .fds = t->fds,
			      .n_fds = t->n_fds };
	unsigned i;
	int r;

	r = fe_do(fe, &out);
	for (i = 0; i < 8; i++)
		close(t->fds[i]);
	return r;
}

static int regions_overlap_in_guest_addresses(struct fe *fe, unsigned round)
{
	struct table t;

	table_init(&t);
	t.wire.regions[1].guest = round % 2 ? 0 : MIB - 4096;
	return table_send(fe, &t);
}

static int regions_overlap_in_user_addresses(struct fe *fe, unsigned round)
{
	struct table t;

	table_init(&t);
	t.wire.regions[1].user = t.wire.regions[0].user + (round % 2 ? 0 : MIB - 4096);
	return table_send(fe, &t);
}

static int region_overflows(struct fe *fe, unsigned round)
{
	struct table t;
	struct fe_region_wire *w;

	table_init(&t);
	w = &t.wire.regions[round % 2];
	switch (round / 2 % 5) {
	case 0:
		w->guest = UINT64_MAX - 4095;
		break;
	case 1:
		w->user = UINT64_MAX - 4095;
		break;
	case 2:
		w->offset = UINT64_MAX - 4095;
		break;
	case 3:
		w->size = UINT64_MAX;
		break;
	default:
		w->size = UINT64_MAX - 4095;
		w->offset = 8192;
	}
	return table_send(fe, &t);
}

static int region_of_no_size(struct fe *fe, unsigned round)
{
	struct table t;

	table_init(&t);
	t.wire.regions[round % 2].size = 0;
	return table_send(fe, &t);
}

static int region_larger_than_its_file(struct fe *fe, unsigned round)
{
	struct table t;

	table_init(&t);
	if (round % 3 == 0)
		t.wire.regions[1].size = 2 * MIB;
	else if (round % 3 == 1)
		t.wire.regions[1].offset = MIB;
	else if (ftruncate(t.fds[1], 4096) < 0)
		return -errno;
	return table_send(fe, &t);
}

static int region_count_lies(struct fe *fe, unsigned round)
{
	static const uint32_t counts[] = { 9, 255, UINT32_MAX };
	struct table t;

	table_init(&t);
	t.wire.n_regions = counts[round % 3];
	return table_send(fe, &t);
}

static int more_regions_than_descriptors(struct fe *fe, unsigned round)
{
	struct table t;

	table_init(&t);
	t.n_fds = round % 2 ? 1 : 3;
	return table_send(fe, &t);
}

static int slot_overlaps_a_slot(struct fe *fe, unsigned round)
{
	struct fe_region r = fe->mem.regions[0];

	if (round % 2)
		r.user.v += r.len;
	else
		r.guest.v += r.len;
	return fe_slot_add(fe, &r);
}

static int removal_of_no_slot(struct fe *fe, unsigned round)
{
	struct fe_region r = fe->mem.regions[0];

	r.guest.v += 4096 * (1 + round % 3);
	return fe_slot_remove(fe, &r);
}

/* Until it is refused; nothing may be kept of it afterwards. */
static int slots_without_end(struct fe *fe, unsigned round)
{
	struct fe_region r = fe->mem.regions[0];
	unsigned i;
	int error = 0;

	r.guest.v = UINT64_C(1) << 40;
	r.user.v = UINT64_C(1) << 40;
	for (i = 0; error == 0 && i < 2000; i++) {
		r.guest.v += 2 * r.len;
		r.user.v += 2 * r.len;
		error = fe_slot_add(fe, &r);
	}
	return error;
}

/* The rings' memory under the running rings is taken away. */
static int removal_of_the_slot_with_the_rings(struct fe *fe, unsigned round)
{
	struct fe_blk b;
	int r;

	r = fe_slot_remove(fe, &fe->mem.regions[0]);
	fe_blk_init(&b, &fe->mem);
	fe_blk_add(&fe->queues[0], &b, &(struct fe_blk_op){ .type = VIRTIO_BLK_T_FLUSH });
	fe_queue_publish(&fe->queues[0]);
	fe_queue_kick_always(&fe->queues[0]);
	usleep(2000);
	return r;
}

static int vring_outside_memory(struct fe *fe, unsigned round)
{
	struct fe_region *m = &fe->mem.regions[0];
	uint64_t good = m->user.v + m->len / 2;
	struct fe_vring_addr_wire addr = {
		.idx = 1, .desc = good, .avail = good + 4096, .used = good + 8192
	};
	uint64_t bad[] = { 0,
			   m->user.v - 16,
			   m->user.v + m->len,
			   m->user.v + m->len - 16,
			   UINT64_MAX & ~UINT64_C(15),
			   m->guest.v };
	struct fe_vring_state_wire num = { .idx = 1, .num = 256 };
	int r;

	r = fe_do(fe, &(struct fe_out){
			      .request = FE_SET_VRING_NUM, .payload = &num, .len = sizeof(num) });
	if (r == 0)
		r = fe_do_u64(fe, FE_SET_VRING_ERR, 1, fe->queues[0].err);
	if (r < 0)
		return r;
	*(round % 3 == 0   ? &addr.desc
	  : round % 3 == 1 ? &addr.avail
			   : &addr.used) = bad[round / 3 % 6];
	r = fe_do(fe, &(struct fe_out){ .request = FE_SET_VRING_ADDR,
					.payload = &addr,
					.len = sizeof(addr) });
	if (r == 0)
		r = fe_do_u64(fe, FE_SET_VRING_KICK, 1, fe->queues[0].kick);
	return r;
}

static int vring_misaligned(struct fe *fe, unsigned round)
{
	struct fe_region *m = &fe->mem.regions[0];
	uint64_t good = m->user.v + m->len / 2;
	struct fe_vring_addr_wire addr = {
		.idx = 1, .desc = good, .avail = good + 4096, .used = good + 8192
	};
	int r;

	r = fe_do_u64(fe, FE_SET_VRING_ERR, 1, fe->queues[0].err);
	if (r < 0)
		return r;
	*(round % 3 == 0 ? &addr.desc : round % 3 == 1 ? &addr.avail : &addr.used) += 1;
	r = fe_do(fe, &(struct fe_out){ .request = FE_SET_VRING_ADDR,
					.payload = &addr,
					.len = sizeof(addr) });
	if (r == 0)
		r = fe_do_u64(fe, FE_SET_VRING_KICK, 1, fe->queues[0].kick);
	return r;
}

/* The file shrinks under the map: the worker's next access is a SIGBUS. */
static int guest_memory_truncated_under_the_rings(struct fe *fe, unsigned round)
{
	struct fe_blk b;

	fe_blk_init(&b, &fe->mem);
	fe_blk_add(&fe->queues[0], &b, &(struct fe_blk_op){ .type = VIRTIO_BLK_T_FLUSH });
	fe_queue_publish(&fe->queues[0]);
	if (ftruncate(fe->mem.regions[0].fd, 0) < 0)
		return -errno;
	fe_queue_kick_always(&fe->queues[0]);
	return 0;
}

/* The rings stay, the data buffer goes. The kernel answers that with EFAULT, or the worker with
 * SIGBUS. */
static int guest_memory_truncated_under_the_data(struct fe *fe, unsigned round)
{
	struct fe_region *m = &fe->mem.regions[0];
	struct fe_sg sg = { m->map + m->len - 8192, 8192 };
	struct fe_blk_op op = { .type = round % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT,
				.data = &sg,
				.n_data = 1 };
	struct fe_blk b;

	fe_blk_init(&b, &fe->mem);
	fe_blk_add(&fe->queues[0], &b, &op);
	if (ftruncate(m->fd, (off_t)m->len - 8192) < 0)
		return -errno;
	fe_queue_publish(&fe->queues[0]);
	fe_queue_kick_always(&fe->queues[0]);
	usleep(2000);
	return 0;
}

/* The back-end's own region is sealed; a front-end that was here before brings one of its own. */
static int inflight_fd_exchange(struct fe *fe)
{
	int fd = memfd_create("hostile", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)fe->inflight.desc.mmap_size) < 0)
		return -errno;
	close(fe->inflight.fd);
	fe->inflight.fd = fd;
	fe->inflight.desc.mmap_offset = 0;
	return fe_inflight_set(fe);
}

static int inflight_truncated(struct fe *fe, unsigned round)
{
	struct fe_blk b;
	uint16_t base;
	int r;

	r = fe_inflight_get(fe, 2, 128);
	if (r < 0)
		return r;
	if (ftruncate(fe->inflight.fd, 0) == 0)
		return -EPROTO; /* everybody's region, and anybody could do that */
	r = fe_queue_stop(fe, &fe->queues[0], &base);
	if (r == 0)
		r = inflight_fd_exchange(fe);
	if (r < 0)
		return r;
	/* Before it is used, or only while it is. */
	if (round % 2 && ftruncate(fe->inflight.fd, 0) < 0)
		return -errno;
	fe_queue_start(fe, &fe->queues[0], base);
	fe_queue_enable(fe, &fe->queues[0], true);
	if (ftruncate(fe->inflight.fd, 0) < 0)
		return -errno;
	fe_blk_init(&b, &fe->mem);
	fe_blk_add(&fe->queues[0], &b, &(struct fe_blk_op){ .type = VIRTIO_BLK_T_FLUSH });
	fe_queue_publish(&fe->queues[0]);
	fe_queue_kick_always(&fe->queues[0]);
	return 0;
}

static int inflight_full_of_lies(struct fe *fe, unsigned round)
{
	uint16_t base;
	size_t i;
	int r;

	r = fe_queue_stop(fe, &fe->queues[0], &base);
	if (r == 0)
		r = fe_inflight_get(fe, 2, 128);
	if (r < 0)
		return r;
	for (i = 0; i < fe->inflight.desc.mmap_size; i++)
		fe->inflight.map[i] = (uint8_t)(round % 3 == 0	 ? 0xff
						: round % 3 == 1 ? 0x01
								 : i * 2654435761u >> 13);
	if (round % 3) { /* a plausible head: version 1, 128 descriptors */
		memset(fe->inflight.map, 0, 16);
		fe->inflight.map[8] = 1;
		fe->inflight.map[10] = 128;
		fe->inflight.map[12] = round % 2 ? 0xff : 5;
		fe->inflight.map[14] = (uint8_t)round;
	}
	r = fe_inflight_set(fe);
	if (r == 0)
		r = fe_queue_start(fe, &fe->queues[0], 0);
	if (r == 0)
		r = fe_queue_enable(fe, &fe->queues[0], true);
	usleep(2000);
	return r;
}

static int inflight_sizes_that_lie(struct fe *fe, unsigned round)
{
	struct fe_inflight_wire bad[] = {
		{ .mmap_size = 64, .n_queues = 1, .queue_size = 128 },
		{ .mmap_size = UINT64_MAX, .n_queues = 1, .queue_size = 128 },
		{ .mmap_size = 4096,
		  .mmap_offset = UINT64_MAX - 4095,
		  .n_queues = 1,
		  .queue_size = 128 },
		{ .mmap_size = 4096, .mmap_offset = 1, .n_queues = 1, .queue_size = 128 },
		{ .mmap_size = 4096, .n_queues = 65535, .queue_size = 65535 },
		{ .mmap_size = 0, .n_queues = 1, .queue_size = 128 },
	};
	int fd = memfd_create("hostile", MFD_CLOEXEC), r;

	if (ftruncate(fd, 4096) < 0)
		return -errno;
	r = fe_do(fe, &(struct fe_out){ .request = FE_SET_INFLIGHT_FD,
					.payload = &bad[round % 6],
					.len = 20,
					.fds = &fd,
					.n_fds = 1 });
	close(fd);
	return r;
}

/* A region in a file that has room for it, where the counters would not be aligned. */
static int inflight_misaligned(struct fe *fe, unsigned round)
{
	static const uint64_t offsets[] = { 4, 1, 4100, 4095 };
	struct fe_inflight_wire wire = { .mmap_size = 4096,
					 .mmap_offset = offsets[round % 4],
					 .n_queues = 1,
					 .queue_size = 128 };
	int fd = memfd_create("hostile", MFD_CLOEXEC), r;

	if (ftruncate(fd, 65536) < 0)
		return -errno;
	r = fe_do(fe, &(struct fe_out){ .request = FE_SET_INFLIGHT_FD,
					.payload = &wire,
					.len = 20,
					.fds = &fd,
					.n_fds = 1 });
	close(fd);
	return r;
}

/* One that ends a byte, or a page, behind the end of its file. */
static int inflight_beyond_its_file(struct fe *fe, unsigned round)
{
	struct fe_inflight_wire wire = {
		.mmap_size = 8192, .mmap_offset = 8192, .n_queues = 1, .queue_size = 128
	};
	int fd = memfd_create("hostile", MFD_CLOEXEC), r;

	if (ftruncate(fd, 16384 - (round % 2 ? 1 : 4096)) < 0)
		return -errno;
	r = fe_do(fe, &(struct fe_out){ .request = FE_SET_INFLIGHT_FD,
					.payload = &wire,
					.len = 20,
					.fds = &fd,
					.n_fds = 1 });
	close(fd);
	return r;
}

/* One that can be read and not written, or not be mapped at all. */
static int inflight_that_cannot_be_mapped(struct fe *fe, unsigned round)
{
	struct fe_inflight_wire wire = { .mmap_size = 4096, .n_queues = 1, .queue_size = 128 };
	int file = memfd_create("hostile", MFD_CLOEXEC), fd, r;
	char path[64];

	if (ftruncate(file, 4096) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	fd = open(path, (round % 2 ? O_PATH : O_RDONLY) | O_CLOEXEC);
	r = fe_do(fe, &(struct fe_out){ .request = FE_SET_INFLIGHT_FD,
					.payload = &wire,
					.len = 20,
					.fds = &fd,
					.n_fds = 1 });
	close(fd);
	close(file);
	return r;
}

static int log_that_lies(struct fe *fe, unsigned round)
{
	struct fe_log_wire bad[] = { { .size = UINT64_MAX },
				     { .size = 1 << 20 },
				     { .size = 4096, .offset = UINT64_MAX - 4095 },
				     { .size = 4096, .offset = 4096 } };
	int fd = memfd_create("hostile", MFD_CLOEXEC), r;

	if (ftruncate(fd, 4096) < 0)
		return -errno;
	r = fe_send(fe,
		    &(struct fe_out){ .request = FE_SET_LOG_BASE,
				      .payload = &bad[round % 4],
				      .len = sizeof(bad[0]),
				      .fds = &fd,
				      .n_fds = 1 },
		    FE_FLAG_NEED_REPLY);
	close(fd);
	return r;
}

static int log_truncated(struct fe *fe, unsigned round)
{
	struct fe_blk b;
	int r;

	r = fe_log_start(fe, 1 << 20);
	if (r == 0)
		r = fe_log_vring(fe, &fe->queues[0], true);
	if (r < 0)
		return r;
	if (ftruncate(fe->log_fd, 0) < 0)
		return -errno;
	fe_blk_init(&b, &fe->mem);
	fe_blk_add(&fe->queues[0], &b, &(struct fe_blk_op){ .type = VIRTIO_BLK_T_FLUSH });
	fe_queue_publish(&fe->queues[0]);
	fe_queue_kick_always(&fe->queues[0]);
	return 0;
}

#define ROW(name, stage, outcome)                                                                  \
	{                                                                                          \
#name, name, ATTACK_##stage, ATTACK_##outcome                                      \
	}

const struct attack attacks_memory[] = {
	ROW(regions_overlap_in_guest_addresses, AGREED, REFUSED),
	ROW(regions_overlap_in_user_addresses, AGREED, REFUSED),
	ROW(region_overflows, AGREED, REFUSED),
	ROW(region_of_no_size, AGREED, REFUSED),
	ROW(region_larger_than_its_file, AGREED, REFUSED),
	ROW(region_count_lies, AGREED, REFUSED),
	ROW(more_regions_than_descriptors, AGREED, REFUSED),
	ROW(slot_overlaps_a_slot, RUNNING, REFUSED),
	ROW(removal_of_no_slot, RUNNING, REFUSED),
	ROW(slots_without_end, RUNNING, REFUSED),
	ROW(removal_of_the_slot_with_the_rings, RUNNING, NO_HARM),
	ROW(vring_outside_memory, RUNNING, REFUSED),
	ROW(vring_misaligned, RUNNING, REFUSED),
	ROW(guest_memory_truncated_under_the_rings, RUNNING, LOST),
	ROW(guest_memory_truncated_under_the_data, RUNNING, NO_HARM),
	ROW(inflight_truncated, RUNNING, LOST),
	ROW(inflight_full_of_lies, RUNNING, NO_HARM),
	ROW(inflight_sizes_that_lie, AGREED, REFUSED),
	ROW(inflight_misaligned, AGREED, REFUSED),
	ROW(inflight_beyond_its_file, AGREED, REFUSED),
	ROW(inflight_that_cannot_be_mapped, AGREED, REFUSED),
	ROW(log_that_lies, AGREED, LOST),
	ROW(log_truncated, RUNNING, LOST),
};
const unsigned n_attacks_memory = sizeof(attacks_memory) / sizeof(*attacks_memory);
