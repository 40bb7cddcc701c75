/*
 * frontend-smoke: the shortest proof that a vhost-user blk back-end lives.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says.
 *
 * Negotiates, writes a pattern on every queue, flushes, reads it back and compares. It overwrites
 * the start of the image.
 */
#include "tests/frontend/blk.h"

#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PIECE = 65536,
	PIECES = 64,
};

static void fill(uint8_t *p, unsigned seed)
{
	unsigned i;

	for (i = 0; i < PIECE; i++)
		p[i] = (uint8_t)((i >> 8) * 7 + i + seed * 31);
}

static void expect_ok(int status, const char *what, unsigned queue, unsigned piece)
{
	if (status < 0)
		errx(1, "%s, queue %u, piece %u: %s", what, queue, piece, strerror(-status));
	if (status != VIRTIO_BLK_S_OK)
		errx(1, "%s, queue %u, piece %u: status %d", what, queue, piece, status);
}

static void queue_exercise(struct fe *fe, struct fe_queue *q, struct fe_blk *b, uint8_t *buf)
{
	uint8_t *want = malloc(PIECE);
	uint64_t sector;
	unsigned i;

	for (i = 0; i < PIECES; i++) {
		sector = (uint64_t)(q->idx * PIECES + i) * (PIECE / 512);
		fill(buf, q->idx * PIECES + i);
		expect_ok(fe_blk_rw(q, b, VIRTIO_BLK_T_OUT, sector, (struct fe_sg){ buf, PIECE }),
			  "write", q->idx, i);
	}
	expect_ok(fe_blk_rw(q, b, VIRTIO_BLK_T_FLUSH, 0, (struct fe_sg){}), "flush", q->idx, 0);
	for (i = 0; i < PIECES; i++) {
		sector = (uint64_t)(q->idx * PIECES + i) * (PIECE / 512);
		fill(want, q->idx * PIECES + i);
		memset(buf, 0xee, PIECE);
		expect_ok(fe_blk_rw(q, b, VIRTIO_BLK_T_IN, sector, (struct fe_sg){ buf, PIECE }),
			  "read", q->idx, i);
		if (memcmp(buf, want, PIECE) != 0)
			errx(1, "queue %u, piece %u: the data is not what was written", q->idx, i);
		if (b->used_len != PIECE + 1)
			errx(1, "queue %u: used length %u, not %u", q->idx, b->used_len, PIECE + 1);
	}
	free(want);
}

static void run(const char *path, unsigned n_queues)
{
	struct fe_spec spec = { .n_queues = n_queues };
	struct virtio_blk_config config = {};
	static struct fe fe;
	struct fe_blk b;
	unsigned i;
	uint8_t *buf;
	int r;

	r = fe_begin(&fe, path, &spec);
	printf("features offered 0x%lx, protocol features 0x%lx (taken 0x%lx)\n", fe.offered,
	       fe.pf_offered, fe.pf);
	if (r < 0)
		errx(1, "%s: session does not come up: %s", path, strerror(-r));
	r = fe_get_config(&fe, 0, FE_BLK_CONFIG_LEN, &config);
	if (r < 0)
		errx(1, "GET_CONFIG: %s", strerror(-r));
	printf("capacity %llu sectors, blk_size %u, seg_max %u, queues %u, wce %u\n",
	       (unsigned long long)config.capacity, config.blk_size, config.seg_max,
	       config.num_queues, config.wce);
	if (config.capacity < (uint64_t)n_queues * PIECES * (PIECE / 512))
		errx(1, "the image is too small for this test");
	fe_blk_init(&b, &fe.mem);
	buf = fe_memory_alloc(&fe.mem, PIECE, 4096);
	for (i = 0; i < n_queues; i++)
		queue_exercise(&fe, &fe.queues[i], &b, buf);
	for (i = 0; i < n_queues; i++)
		if (fe.queues[i].n_bogus)
			errx(1, "queue %u: %lu requests answered that were not asked", i,
			     fe.queues[i].n_bogus);
	fe_close(&fe);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "queues", required_argument, NULL, 'q' },
		{},
	};
	const char *path = NULL;
	unsigned n_queues = 1;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		if (c == 's')
			path = optarg;
		else if (c == 'q')
			n_queues = (unsigned)atoi(optarg);
		else
			return 2;
	if (!path || n_queues < 1 || n_queues > FE_MAX_QUEUES || optind != argc)
		errx(2, "usage: frontend-smoke --socket=PATH [--queues=N]");
	run(path, n_queues);
	printf("OK\n");
	return 0;
}
