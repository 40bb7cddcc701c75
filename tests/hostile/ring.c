/*
 * Attacks by rings: what a malicious guest would write there.
 *
 * Runs in: frontend-hostile. Trusts: nothing.
 */
#include "tests/hostile/attack.h"

#include "tests/frontend/fill.h"

#include <string.h>
#include <unistd.h>

/* Three good descriptors, header, data, status, at 0, 1, 2; a row spoils something and then offers
 * 0. */
struct good {
	struct fe_queue *q;
	struct vring_desc *d;
	struct virtio_blk_outhdr *header;
	uint8_t *data, *status;
};

static struct good good_chain(struct fe *fe, uint32_t type)
{
	struct fe_queue *q = &fe->queues[0];
	struct good g = { .q = q,
			  .d = q->desc,
			  .header = fe_memory_alloc(&fe->mem, 16, 16),
			  .data = fe_memory_alloc(&fe->mem, 4096, 512),
			  .status = fe_memory_alloc(&fe->mem, 1, 1) };
	uint16_t write = type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0;

	*g.header = (struct virtio_blk_outhdr){ .type = type };
	g.d[0] = (struct vring_desc){ fe_memory_guest(&fe->mem, g.header).v, 16, VRING_DESC_F_NEXT,
				      1 };
	g.d[1] = (struct vring_desc){ fe_memory_guest(&fe->mem, g.data).v, 4096,
				      VRING_DESC_F_NEXT | write, 2 };
	g.d[2] = (struct vring_desc){ fe_memory_guest(&fe->mem, g.status).v, 1, VRING_DESC_F_WRITE,
				      0 };
	return g;
}

static int offer(struct fe_queue *q, uint16_t head)
{
	q->avail->ring[q->avail_idx++ % q->size] = head;
	fe_queue_publish(q);
	fe_queue_kick_always(q);
	return 0;
}

static int head_out_of_range(struct fe *fe, unsigned round)
{
	static const uint16_t heads[] = { 128, 129, 255, 0x8000, UINT16_MAX };

	return offer(&fe->queues[0], heads[round % 5]);
}

static int next_out_of_range(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);

	g.d[round % 2].next = round % 4 < 2 ? 128 : UINT16_MAX;
	return offer(g.q, 0);
}

static int chain_loops(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);

	switch (round % 3) {
	case 0: /* to itself */
		g.d[1].next = 1;
		break;
	case 1: /* to its head */
		g.d[2].flags |= VRING_DESC_F_NEXT;
		g.d[2].next = 0;
		break;
	default: /* two that are device-writable, so that nothing but the length is wrong */
		g.d[2].flags |= VRING_DESC_F_NEXT;
		g.d[2].next = 1;
	}
	return offer(g.q, 0);
}

static int available_index_jumps(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);

	g.q->avail_idx = (uint16_t)(g.q->avail_idx + (round % 2 ? 129 : 40000));
	fe_queue_publish(g.q);
	fe_queue_kick_always(g.q);
	return 0;
}

static int available_index_goes_back(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);

	offer(g.q, 0);
	usleep(500);
	g.q->avail_idx--;
	g.q->avail_idx--;
	fe_queue_publish(g.q);
	fe_queue_kick_always(g.q);
	return 0;
}

static int buffer_outside_memory(struct fe *fe, unsigned round)
{
	struct fe_region *m = &fe->mem.regions[0];
	struct good g = good_chain(fe, round % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT);
	struct vring_desc *d = &g.d[round / 2 % 3];
	uint64_t bad[] = { 0,
			   m->guest.v - 1,
			   m->guest.v + m->len,
			   m->guest.v + m->len - d->len + 1,
			   UINT64_MAX,
			   UINT64_MAX - d->len + 1,
			   m->user.v };

	d->addr = bad[round / 6 % 7];
	return offer(g.q, 0);
}

static int buffer_too_long(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);

	g.d[1].len = round % 2 ? UINT32_MAX : 0x80000000u;
	return offer(g.q, 0);
}

static int buffers_of_many_gigabytes(struct fe *fe, unsigned round)
{
	struct fe_region *m = &fe->mem.regions[0];
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);
	uint16_t i;

	/* The whole memory, 126 times over. */
	for (i = 1; i < 127; i++)
		g.d[i] = (struct vring_desc){ m->guest.v, (uint32_t)m->len,
					      VRING_DESC_F_NEXT | VRING_DESC_F_WRITE,
					      (uint16_t)(i + 1) };
	g.d[127] = (struct vring_desc){ fe_memory_guest(&fe->mem, g.status).v, 1,
					VRING_DESC_F_WRITE, 0 };
	return offer(g.q, 0);
}

static int empty_descriptors(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);

	g.d[round % 3].len = 0;
	if (round % 4 == 3)
		g.d[0].len = g.d[1].len = g.d[2].len = 0;
	return offer(g.q, 0);
}

static int readable_after_writable(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);

	g.d[2].flags |= VRING_DESC_F_NEXT;
	g.d[2].next = 3;
	g.d[3] = (struct vring_desc){ g.d[1].addr, 512, 0, 0 };
	return offer(g.q, 0);
}

static int short_header(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);

	g.d[0].len = round % 16;
	return offer(g.q, 0);
}

static int no_header_at_all(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);

	g.d[0].flags |= VRING_DESC_F_WRITE;
	return offer(g.q, 0);
}

static int no_place_for_the_status(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_OUT);

	if (round % 2)
		g.d[2].flags = 0;
	else
		g.d[1].flags = 0; /* the chain ends before it */
	return offer(g.q, 0);
}

static int one_head_offered_twice(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_OUT);
	unsigned i;

	for (i = 0; i < 64; i++)
		g.q->avail->ring[g.q->avail_idx++ % g.q->size] = 0;
	fe_queue_publish(g.q);
	fe_queue_kick_always(g.q);
	return 0;
}

/* A table with the same three descriptors; descriptor 5 points to it. */
static struct vring_desc *indirect_chain(struct fe *fe, struct good *ret_good)
{
	struct vring_desc *table = fe_memory_alloc(&fe->mem, 16 * 1024, 16);

	*ret_good = good_chain(fe, VIRTIO_BLK_T_IN);
	memcpy(table, ret_good->d, 3 * sizeof(*table));
	ret_good->d[5] = (struct vring_desc){ fe_memory_guest(&fe->mem, table).v, 48,
					      VRING_DESC_F_INDIRECT, 0 };
	return table;
}

static int indirect_inside_indirect(struct fe *fe, unsigned round)
{
	struct good g;
	struct vring_desc *table = indirect_chain(fe, &g);

	table[round % 3].flags |= VRING_DESC_F_INDIRECT;
	table[round % 3].addr = g.d[5].addr;
	table[round % 3].len = 48;
	return offer(g.q, 5);
}

static int indirect_table_of_odd_length(struct fe *fe, unsigned round)
{
	static const uint32_t lens[] = { 0, 1, 15, 47, 49 };
	struct good g;

	indirect_chain(fe, &g);
	g.d[5].len = lens[round % 5];
	return offer(g.q, 5);
}

static int indirect_table_outside_memory(struct fe *fe, unsigned round)
{
	struct fe_region *m = &fe->mem.regions[0];
	uint64_t bad[] = { 0, m->guest.v - 16, m->guest.v + m->len - 16, UINT64_MAX - 15,
			   m->user.v };
	struct good g;

	indirect_chain(fe, &g);
	g.d[5].addr = bad[round % 5];
	return offer(g.q, 5);
}

static int indirect_table_too_long(struct fe *fe, unsigned round)
{
	struct good g;
	struct vring_desc *table = indirect_chain(fe, &g);
	uint16_t i;

	for (i = 1; i < 1023; i++)
		table[i] = (struct vring_desc){ g.d[1].addr, 512,
						VRING_DESC_F_NEXT | VRING_DESC_F_WRITE,
						(uint16_t)(i + 1) };
	table[1023] = g.d[2];
	g.d[5].len = round % 2 ? 16 * 1024 : 0xfffffff0u;
	return offer(g.q, 5);
}

static int indirect_next_outside_the_table(struct fe *fe, unsigned round)
{
	struct good g;
	struct vring_desc *table = indirect_chain(fe, &g);

	table[1].next = round % 2 ? 3 : UINT16_MAX;
	return offer(g.q, 5);
}

static int indirect_loop(struct fe *fe, unsigned round)
{
	struct good g;
	struct vring_desc *table = indirect_chain(fe, &g);

	table[1].next = 1;
	return offer(g.q, 5);
}

static int indirect_with_next(struct fe *fe, unsigned round)
{
	struct good g;

	indirect_chain(fe, &g);
	g.d[5].flags |= VRING_DESC_F_NEXT;
	g.d[5].next = 1;
	return offer(g.q, 5);
}

static int indirect_that_is_writable(struct fe *fe, unsigned round)
{
	struct good g;

	indirect_chain(fe, &g);
	g.d[5].flags |= VRING_DESC_F_WRITE;
	return offer(g.q, 5);
}

static int unknown_descriptor_flags(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);

	g.d[round % 3].flags |= 0xfff8;
	return offer(g.q, 0);
}

/* The data buffer is the ring itself, read from the disk: the device overwrites what it walks. */
static int data_over_the_rings(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);

	g.d[1].addr = fe_memory_guest(&fe->mem, round % 2 ? (void *)g.q->used : (void *)g.d).v;
	return offer(g.q, 0);
}

static int random_descriptors(struct fe *fe, unsigned round)
{
	struct fe_queue *q = &fe->queues[0];
	struct fe_region *m = &fe->mem.regions[0];
	struct fill_random random = { .state = round * UINT64_C(7919) + 1 };
	unsigned i;

	good_chain(fe, VIRTIO_BLK_T_IN);
	for (i = 3; i < q->size; i++)
		q->desc[i] = (struct vring_desc){ m->guest.v + fill_below(&random, m->len),
						  (uint32_t)fill_below(&random, 8192),
						  (uint16_t)fill_below(&random, 8),
						  (uint16_t)fill_below(&random, q->size + 2) };
	for (i = 0; i < 60; i++)
		q->avail->ring[q->avail_idx++ % q->size] = (uint16_t)fill_below(&random, q->size);
	fe_queue_publish(q);
	fe_queue_kick_always(q);
	usleep(1000);
	return 0;
}

/* Descriptors change while the device reads them: what was checked must be what is used. */
static int descriptors_change_under_the_device(struct fe *fe, unsigned round)
{
	struct good g = good_chain(fe, VIRTIO_BLK_T_IN);
	struct fill_random random = { .state = round };
	volatile struct vring_desc *d = g.d;
	struct vring_desc keep[3];
	unsigned i, k;

	memcpy(keep, g.d, sizeof(keep));
	for (i = 0; i < 40; i++) {
		memcpy(g.d, keep, sizeof(keep));
		offer(g.q, 0);
		for (k = 0; k < 300; k++) {
			d[1].addr = fill_next(&random);
			d[1].len = (uint32_t)fill_next(&random);
			d[1].next = (uint16_t)fill_next(&random);
			d[1].addr = keep[1].addr;
			d[1].len = keep[1].len;
			d[1].next = keep[1].next;
		}
	}
	return 0;
}

static int disk_ranges_that_lie(struct fe *fe, unsigned round)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };
	struct good g = good_chain(fe, types[round % 2]);
	struct virtio_blk_discard_write_zeroes *range = (void *)g.data;
	unsigned i;

	for (i = 0; i < 256; i++)
		range[i] = (struct virtio_blk_discard_write_zeroes){ .sector = UINT64_MAX - i,
								     .num_sectors = UINT32_MAX,
								     .flags = i };
	return offer(g.q, 0);
}

#define ROW(name, outcome)                                                                         \
	{                                                                                          \
#name, name, ATTACK_RUNNING, ATTACK_##outcome                                      \
	}

const struct attack attacks_ring[] = {
	ROW(head_out_of_range, BROKEN),
	ROW(next_out_of_range, BROKEN),
	ROW(chain_loops, BROKEN),
	ROW(available_index_jumps, BROKEN),
	ROW(available_index_goes_back, NO_HARM),
	ROW(buffer_outside_memory, BROKEN),
	ROW(buffer_too_long, BROKEN),
	ROW(buffers_of_many_gigabytes, NO_HARM),
	ROW(empty_descriptors, NO_HARM),
	ROW(readable_after_writable, BROKEN),
	ROW(short_header, FAILED),
	ROW(no_header_at_all, FAILED),
	ROW(no_place_for_the_status, BROKEN),
	ROW(one_head_offered_twice, NO_HARM),
	ROW(indirect_inside_indirect, BROKEN),
	ROW(indirect_table_of_odd_length, BROKEN),
	ROW(indirect_table_outside_memory, BROKEN),
	ROW(indirect_table_too_long, BROKEN),
	ROW(indirect_next_outside_the_table, BROKEN),
	ROW(indirect_loop, BROKEN),
	ROW(indirect_with_next, BROKEN),
	ROW(indirect_that_is_writable, NO_HARM),
	ROW(unknown_descriptor_flags, NO_HARM),
	ROW(data_over_the_rings, NO_HARM),
	ROW(random_descriptors, NO_HARM),
	ROW(descriptors_change_under_the_device, NO_HARM),
	ROW(disk_ranges_that_lie, NO_HARM),
};
const unsigned n_attacks_ring = sizeof(attacks_ring) / sizeof(*attacks_ring);
