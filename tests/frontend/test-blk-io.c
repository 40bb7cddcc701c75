/*
 * Claims about the requests of a blk device.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/claim.h"
#include "tests/frontend/fill.h"
#include "tests/frontend/load.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE_LEN (UINT64_C(64) << 20)
#define SECTORS	  (IMAGE_LEN / 512)

static const struct backend_spec writeback = {
	.image_len = IMAGE_LEN,
	.n_queues = 2,
	.args = (const char *const[]){ "--serial=serial-of-20-bytes", "--discard=on", NULL }
};
static const struct backend_spec direct = { .image_len = IMAGE_LEN,
					    .n_queues = 2,
					    .cache = "none" };
static const struct backend_spec writethrough = { .image_len = IMAGE_LEN, .cache = "writethrough" };
static const struct backend_spec read_only = {
	.image_len = IMAGE_LEN, .args = (const char *const[]){ "--read-only", NULL }
};
static const struct backend_spec no_discard = {
	.image_len = IMAGE_LEN, .args = (const char *const[]){ "--discard=off", NULL }
};
static const struct backend_spec no_io_uring = {
	.image_len = IMAGE_LEN, .args = (const char *const[]){ "--no-io-uring", NULL }
};

static int image_open(struct claim_context *x)
{
	int fd = open(x->backend.image, O_RDWR | O_CLOEXEC);

	expect(fd >= 0, "%s", x->backend.image);
	return fd;
}

static void image_write(struct claim_context *x, uint64_t sector, const void *p, size_t len)
{
	int fd = image_open(x);

	expect_is(pwrite(fd, p, len, (off_t)sector * 512), len);
	close(fd);
}

static void image_read(struct claim_context *x, uint64_t sector, void *p, size_t len)
{
	int fd = image_open(x);

	expect_is(pread(fd, p, len, (off_t)sector * 512), len);
	close(fd);
}

static int run(struct claim_context *x, uint32_t type, uint64_t sector, void *p, size_t len)
{
	return fe_blk_rw(&x->fe.queues[0], &x->b, type, sector, (struct fe_sg){ p, (uint32_t)len });
}

static void *guest(struct claim_context *x, size_t len)
{
	return fe_memory_alloc(&x->fe.mem, len, 4096);
}

static const struct fe_spec everything;

static void write_lands_in_the_image(struct claim_context *x)
{
	uint8_t *p, got[8192];

	claim_begin(x, &everything);
	p = guest(x, sizeof(got));
	fill_pattern(p, sizeof(got), 24, 1);
	expect_is(run(x, VIRTIO_BLK_T_OUT, 24, p, sizeof(got)), VIRTIO_BLK_S_OK);
	expect_is(x->b.used_len, 1);
	image_read(x, 24, got, sizeof(got));
	expect(fill_matches(got, sizeof(got), 24, 1), "the image has something else");
}

static void read_returns_the_image(struct claim_context *x)
{
	uint8_t want[4096], *p;

	claim_begin(x, &everything);
	p = guest(x, sizeof(want));
	fill_pattern(want, sizeof(want), 4000, 2);
	image_write(x, 4000, want, sizeof(want));
	expect_is(run(x, VIRTIO_BLK_T_IN, 4000, p, sizeof(want)), VIRTIO_BLK_S_OK);
	expect_is(x->b.used_len, sizeof(want) + 1);
	expect(fill_matches(p, sizeof(want), 4000, 2), "guest memory has something else");
}

static void one_sector_and_the_last_sector_work(struct claim_context *x)
{
	uint8_t *p;

	claim_begin(x, &everything);
	p = guest(x, 512);
	fill_pattern(p, 512, SECTORS - 1, 3);
	expect_is(run(x, VIRTIO_BLK_T_OUT, SECTORS - 1, p, 512), VIRTIO_BLK_S_OK);
	memset(p, 0, 512);
	expect_is(run(x, VIRTIO_BLK_T_IN, SECTORS - 1, p, 512), VIRTIO_BLK_S_OK);
	expect(fill_matches(p, 512, SECTORS - 1, 3), "the last sector has something else");
}

static void out_of_range_is_ioerr_and_touches_nothing(struct claim_context *x)
{
	static const uint64_t sectors[] = { SECTORS,	      SECTORS - 1,	SECTORS + 8,
					    UINT64_MAX,	      UINT64_MAX / 512, UINT64_MAX - 7,
					    UINT64_C(1) << 55 };
	struct stat st;
	unsigned i;
	uint8_t *p;

	claim_begin(x, &everything);
	p = guest(x, 4096);
	for (i = 0; i < sizeof(sectors) / sizeof(*sectors); i++) {
		expect_is(run(x, VIRTIO_BLK_T_OUT, sectors[i], p, 4096), VIRTIO_BLK_S_IOERR);
		expect_is(run(x, VIRTIO_BLK_T_IN, sectors[i], p, 4096), VIRTIO_BLK_S_IOERR);
	}
	expect_is(stat(x->backend.image, &st), 0);
	expect_is(st.st_size, IMAGE_LEN);
}

static void odd_length_is_ioerr(struct claim_context *x)
{
	static const uint32_t lens[] = { 1, 511, 513, 4095 };
	unsigned i;
	uint8_t *p;

	claim_begin(x, &everything);
	p = guest(x, 8192);
	for (i = 0; i < 4; i++) {
		expect_is(run(x, VIRTIO_BLK_T_IN, 0, p, lens[i]), VIRTIO_BLK_S_IOERR);
		expect_is(run(x, VIRTIO_BLK_T_OUT, 0, p, lens[i]), VIRTIO_BLK_S_IOERR);
	}
}

static void unknown_request_is_unsupp(struct claim_context *x)
{
	static const uint32_t types[] = { 2, 3, 7, 9, 10, 12, 14, 15, 99, 0x80000000u, UINT32_MAX };
	unsigned i;
	uint8_t *p;

	claim_begin(x, &everything);
	p = guest(x, 512);
	for (i = 0; i < sizeof(types) / sizeof(*types); i++)
		expect_is(run(x, types[i], 0, p, 512), VIRTIO_BLK_S_UNSUPP);
}

static void get_id_is_the_serial(struct claim_context *x)
{
	char *p;

	claim_begin(x, &everything);
	p = guest(x, 512);
	memset(p, 0xee, 512);
	expect_is(run(x, VIRTIO_BLK_T_GET_ID, 0, p, 20), VIRTIO_BLK_S_OK);
	expect(memcmp(p, "serial-of-20-bytes\0\0", 20) == 0, "%.20s", p);
	expect_is(x->b.used_len, 21);
	expect_is((uint8_t)p[20], 0xee);
}

static void flush_is_answered_ok(struct claim_context *x)
{
	claim_begin(x, &everything);
	expect(x->fe.features & FE_BIT(VIRTIO_BLK_F_FLUSH), "FLUSH is not offered");
	expect_is(run(x, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	expect_is(x->b.used_len, 1);
}

static void seed_image(struct claim_context *x, uint64_t sector, size_t len, uint64_t version)
{
	uint8_t *p = malloc(len);

	fill_pattern(p, len, sector, version);
	image_write(x, sector, p, len);
	free(p);
}

/* One discard or write-zeroes request with @n ranges; @type tells them apart. */
static int run_ranges(struct claim_context *x, uint32_t type,
		      const struct virtio_blk_discard_write_zeroes *ranges, unsigned n)
{
	uint8_t *p = guest(x, 8192);

	memcpy(p, ranges, n * sizeof(*ranges));
	return run(x, type, 0, p, n * sizeof(*ranges));
}

static int run_range(struct claim_context *x, uint32_t type, uint64_t sector, uint32_t n,
		     uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = { .sector = sector,
							 .num_sectors = n,
							 .flags = flags };

	return run_ranges(x, type, &range, 1);
}

static void expect_zero_between(struct claim_context *x, uint64_t sector, size_t len)
{
	uint8_t *p = malloc(len + 1024), *edge = malloc(len + 1024);

	/* The sector on either side belongs to a pattern that began there, and is untouched. */
	image_read(x, sector - 1, p, len + 1024);
	fill_pattern(edge, len + 1024, sector - 1, 9);
	expect(memcmp(p, edge, 512) == 0, "the sector before has changed");
	expect(memcmp(p + 512 + len, edge + 512 + len, 512) == 0, "the sector after has changed");
	expect(fill_is_zero(p + 512, len), "not zero");
	free(p);
	free(edge);
}

static void write_zeroes_zeroes_exactly_the_range(struct claim_context *x)
{
	unsigned flags;

	claim_begin(x, &everything);
	expect(x->fe.features & FE_BIT(VIRTIO_BLK_F_WRITE_ZEROES), "WRITE_ZEROES is not offered");
	for (flags = 0; flags <= 1; flags++) {
		seed_image(x, 1000, 512 * 102, 9);
		expect_is(run_range(x, VIRTIO_BLK_T_WRITE_ZEROES, 1001, 100, flags),
			  VIRTIO_BLK_S_OK);
		expect_zero_between(x, 1001, 512 * 100);
	}
}

static void discard_gives_the_blocks_back(struct claim_context *x)
{
	struct stat before, after;

	claim_begin(x, &everything);
	expect(x->fe.features & FE_BIT(VIRTIO_BLK_F_DISCARD), "DISCARD is not offered");
	seed_image(x, 8192, 1 << 20, 9);
	expect_is(stat(x->backend.image, &before), 0);
	expect_is(run_range(x, VIRTIO_BLK_T_DISCARD, 8192, 2048, 0), VIRTIO_BLK_S_OK);
	expect_is(stat(x->backend.image, &after), 0);
	expect(before.st_blocks - after.st_blocks >= 2000, "%ld of 2048 sectors given back",
	       (long)(before.st_blocks - after.st_blocks));
}

static void discard_and_write_zeroes_refuse_what_the_specification_refuses(struct claim_context *x)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };
	unsigned i;

	claim_begin(x, &everything);
	seed_image(x, 0, 4096, 5);
	for (i = 0; i < 2; i++) {
		expect_is(run_range(x, types[i], SECTORS, 1, 0), VIRTIO_BLK_S_IOERR);
		expect_is(run_range(x, types[i], SECTORS - 1, 2, 0), VIRTIO_BLK_S_IOERR);
		expect_is(run_range(x, types[i], UINT64_MAX, 8, 0), VIRTIO_BLK_S_IOERR);
		expect_is(run_range(x, types[i], 0, 8, 2), VIRTIO_BLK_S_UNSUPP);
		expect_is(run_range(x, types[i], 0, 8, 0x80000000u), VIRTIO_BLK_S_UNSUPP);
	}
	/* §5.2.6.2: the unmap bit is for write zeroes alone. */
	expect_is(run_range(x, VIRTIO_BLK_T_DISCARD, 0, 8, 1), VIRTIO_BLK_S_UNSUPP);
	{
		uint8_t got[4096];

		image_read(x, 0, got, sizeof(got));
		expect(fill_matches(got, sizeof(got), 0, 5), "a refused request changed data");
	}
}

static void each_range_of_zeroes_says_whether_its_blocks_may_go(struct claim_context *x)
{
	struct virtio_blk_discard_write_zeroes ranges[] = {
		{ .sector = 8192, .num_sectors = 2048, .flags = 0 },
		{ .sector = 10240, .num_sectors = 2048, .flags = 1 },
		{ .sector = 12288, .num_sectors = 2048, .flags = 0 },
	};
	struct stat before, after;
	uint8_t *got = malloc(3 << 20);
	long gone;

	claim_begin(x, &everything);
	seed_image(x, 8192, 3 << 20, 9);
	expect_is(stat(x->backend.image, &before), 0);
	expect_is(run_ranges(x, VIRTIO_BLK_T_WRITE_ZEROES, ranges, 3), VIRTIO_BLK_S_OK);
	expect_is(stat(x->backend.image, &after), 0);
	gone = (long)(before.st_blocks - after.st_blocks);
	expect(gone >= 2000 && gone <= 2100, "%ld of 2048 sectors given back", gone);
	image_read(x, 8192, got, 3 << 20);
	expect(fill_is_zero(got, 3 << 20), "not zero");
	free(got);
}

/* VIRTIO 1.3 §2.7.8.2. */
static void an_answer_counts_what_was_written_and_no_more(struct claim_context *x)
{
	uint8_t *p;

	claim_begin(x, &everything);
	p = guest(x, 4096);
	expect_is(run(x, VIRTIO_BLK_T_IN, 0, p, 4096), VIRTIO_BLK_S_OK);
	expect_is(x->b.used_len, 4097);
	expect_is(run(x, VIRTIO_BLK_T_OUT, 0, p, 4096), VIRTIO_BLK_S_OK);
	expect_is(x->b.used_len, 1);
	expect_is(run(x, VIRTIO_BLK_T_IN, SECTORS, p, 4096), VIRTIO_BLK_S_IOERR);
	expect_is(x->b.used_len, 0);
	expect_is(run(x, VIRTIO_BLK_T_GET_ID, 0, p, 20), VIRTIO_BLK_S_OK);
	expect_is(x->b.used_len, 21);
	expect_is(run(x, VIRTIO_BLK_T_GET_ID, 0, p, 64), VIRTIO_BLK_S_OK);
	expect_is(x->b.used_len, 20);
}

static void ranges_of_half_a_segment_are_refused(struct claim_context *x)
{
	uint8_t *p;
	int status;

	claim_begin(x, &everything);
	p = guest(x, 64);
	status = run(x, VIRTIO_BLK_T_DISCARD, 0, p, 15);
	expect(status == VIRTIO_BLK_S_IOERR || status == VIRTIO_BLK_S_UNSUPP, "status %d", status);
	status = run(x, VIRTIO_BLK_T_WRITE_ZEROES, 0, p, 17);
	expect(status == VIRTIO_BLK_S_IOERR || status == VIRTIO_BLK_S_UNSUPP, "status %d", status);
}

static void as_many_ranges_as_config_says_and_no_more(struct claim_context *x)
{
	struct virtio_blk_discard_write_zeroes ranges[300] = {};
	struct virtio_blk_config c = {};
	uint8_t *got = malloc(512 * 600);
	unsigned i, n;
	int status;

	claim_begin(x, &everything);
	expect_ok(fe_get_config(&x->fe, 0, FE_BLK_CONFIG_LEN, &c));
	n = c.max_write_zeroes_seg;
	expect(n >= 1 && n < 300, "max_write_zeroes_seg is %u", n);
	seed_image(x, 0, 512 * 600, 4);
	for (i = 0; i <= n; i++)
		ranges[i] = (struct virtio_blk_discard_write_zeroes){ .sector = 2 * i,
								      .num_sectors = 1 };
	expect_is(run_ranges(x, VIRTIO_BLK_T_WRITE_ZEROES, ranges, n), VIRTIO_BLK_S_OK);
	image_read(x, 0, got, 512 * 600);
	for (i = 0; i < n; i++) {
		expect(fill_is_zero(got + 1024 * i, 512), "range %u", i);
		expect(!fill_is_zero(got + 1024 * i + 512, 512), "after range %u", i);
	}
	status = run_ranges(x, VIRTIO_BLK_T_WRITE_ZEROES, ranges, n + 1);
	expect(status == VIRTIO_BLK_S_IOERR || status == VIRTIO_BLK_S_UNSUPP, "status %d", status);
}

/* Data in pieces of any length and alignment: what lands is their concatenation. */
static void pieces_round_trip(struct claim_context *x, const uint32_t *lens, unsigned n,
			      bool indirect)
{
	struct fe_sg sg[FE_BLK_MAX_SEGS];
	struct fe_blk_op op = { .type = VIRTIO_BLK_T_OUT,
				.sector = 16,
				.data = sg,
				.n_data = n,
				.indirect = indirect };
	size_t total = 0, at = 0;
	uint8_t *want, *got;
	unsigned i;

	for (i = 0; i < n; i++) {
		/* Nothing is aligned: every piece begins three bytes after the last one's end. */
		sg[i] = (struct fe_sg){ fe_memory_alloc(&x->fe.mem, lens[i] + 3, 1), lens[i] };
		sg[i].p = (uint8_t *)sg[i].p + 3;
		total += lens[i];
	}
	want = malloc(total);
	got = malloc(total);
	fill_pattern(want, total, 16, total);
	for (i = 0, at = 0; i < n; at += lens[i], i++)
		memcpy(sg[i].p, want + at, lens[i]);
	expect_is(fe_blk_run(&x->fe.queues[0], &x->b, &op), VIRTIO_BLK_S_OK);
	image_read(x, 16, got, total);
	expect(memcmp(got, want, total) == 0, "written data differ");
	for (i = 0; i < n; i++)
		memset(sg[i].p, 0, lens[i]);
	op.type = VIRTIO_BLK_T_IN;
	expect_is(fe_blk_run(&x->fe.queues[0], &x->b, &op), VIRTIO_BLK_S_OK);
	expect_is(x->b.used_len, total + 1);
	for (i = 0, at = 0; i < n; at += lens[i], i++)
		expect(memcmp(sg[i].p, want + at, lens[i]) == 0, "piece %u read differs", i);
	free(want);
	free(got);
}

static void unaligned_and_odd_pieces_round_trip(struct claim_context *x)
{
	static const uint32_t odd[] = { 1, 511, 4095, 1, 4096, 7, 505, 3, 4093 };

	claim_begin(x, &everything);
	pieces_round_trip(x, odd, 9, false);
	pieces_round_trip(x, odd, 9, true);
	pieces_round_trip(x, (const uint32_t[]){ 512 }, 1, false);
}

static void as_many_segments_as_config_says_round_trip(struct claim_context *x)
{
	struct fe_spec spec = { .queue_size = 256, .memory.len = 64 << 20 };
	struct virtio_blk_config c = {};
	uint32_t lens[FE_BLK_MAX_SEGS];
	unsigned i, n;

	claim_begin(x, &spec);
	expect_ok(fe_get_config(&x->fe, 0, FE_BLK_CONFIG_LEN, &c));
	expect(c.seg_max >= 1, "seg_max is 0");
	n = c.seg_max < FE_BLK_MAX_SEGS ? c.seg_max : FE_BLK_MAX_SEGS;
	printf("# seg_max %u, tried %u\n", c.seg_max, n);
	for (i = 0; i < n; i++)
		lens[i] = 512;
	pieces_round_trip(x, lens, n, true);
	pieces_round_trip(x, lens, n, false);
	for (i = 0; i < n; i++)
		lens[i] = i % 2 ? 1024 - 13 : 13;
	pieces_round_trip(x, lens, n & ~1u, true);
}

static void a_megabyte_in_one_piece_round_trips(struct claim_context *x)
{
	claim_begin(x, &everything);
	pieces_round_trip(x, (const uint32_t[]){ 1 << 20 }, 1, false);
}

/* VIRTIO 1.3 §2.7.4.4 (VERSION_1): the device may not assume where a descriptor ends. */
static void framing_is_free(struct claim_context *x)
{
	struct fe_queue *q;
	uint8_t *p, *h;
	struct fe_sg sg[6];
	struct fe_used used;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	seed_image(x, 64, 4096, 6);
	p = guest(x, 8192);
	h = guest(x, 64);
	*(struct virtio_blk_outhdr *)(void *)h =
		(struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN, .sector = 64 };
	/* The header in three pieces; data and status in one buffer, then split in the other place.
	 */
	sg[0] = (struct fe_sg){ h, 1 };
	sg[1] = (struct fe_sg){ h + 1, 8 };
	sg[2] = (struct fe_sg){ h + 9, 7 };
	sg[3] = (struct fe_sg){ p, 1000 };
	sg[4] = (struct fe_sg){ p + 1000, 3097 };
	p[4096] = FE_BLK_UNANSWERED;
	expect(fe_queue_add(q, sg, 3, 2, q) >= 0, "no room");
	fe_queue_kick(q);
	expect_is(fe_queue_wait(q, 5000), 1);
	expect(fe_queue_pop(q, &used), "not answered");
	expect_is(p[4096], VIRTIO_BLK_S_OK);
	expect_is(used.len, 4097);
	expect(fill_matches(p, 4096, 64, 6), "data differ");

	/* Header and data of a write in one buffer. */
	h = guest(x, 4096);
	*(struct virtio_blk_outhdr *)(void *)h =
		(struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_OUT, .sector = 72 };
	fill_pattern(h + 16, 512, 72, 7);
	sg[0] = (struct fe_sg){ h, 16 + 512 };
	sg[1] = (struct fe_sg){ p, 1 };
	p[0] = FE_BLK_UNANSWERED;
	expect(fe_queue_add(q, sg, 1, 1, q) >= 0, "no room");
	fe_queue_kick(q);
	expect_is(fe_queue_wait(q, 5000), 1);
	expect(fe_queue_pop(q, &used), "not answered");
	expect_is(p[0], VIRTIO_BLK_S_OK);
	image_read(x, 72, p, 512);
	expect(fill_matches(p, 512, 72, 7), "written data differ");
}

static void a_buffer_over_two_regions_round_trips(struct claim_context *x)
{
	struct fe_spec spec = { .memory.n_regions = 2, .memory.len = 16 << 20 };
	struct fe_region *a, *b;
	struct fe_queue *q;
	struct fe_blk_op op;
	struct fe_sg sg;
	int head;

	claim_begin(x, &spec);
	a = &x->fe.mem.regions[0];
	b = &x->fe.mem.regions[1];
	q = &x->fe.queues[0];
	/* The last 3000 bytes of one region and the first 5192 of the next are one buffer for the
	 * guest. */
	sg = (struct fe_sg){ a->map + a->len - 3000, 3000 };
	fill_pattern(a->map + a->len - 3000, 3000, 1, 1);
	fill_pattern(b->map, 5192, 2, 1);
	op = (struct fe_blk_op){
		.type = VIRTIO_BLK_T_OUT, .sector = 200, .data = &sg, .n_data = 1
	};
	head = fe_blk_add(q, &x->b, &op);
	expect(head >= 0, "no room");
	q->desc[q->desc[head].next].len = 8192;
	fe_queue_kick(q);
	expect_is(fe_blk_wait(q, &x->b, 5000), VIRTIO_BLK_S_OK);
	{
		uint8_t got[8192];

		image_read(x, 200, got, sizeof(got));
		expect(fill_matches(got, 3000, 1, 1), "first part");
		expect(fill_matches(got + 3000, 5192, 2, 1), "second part");
	}
}

static void read_only_refuses_every_change(struct claim_context *x)
{
	uint8_t *p, got[4096];

	claim_begin(x, &everything);
	expect(x->fe.offered & FE_BIT(VIRTIO_BLK_F_RO), "RO is not offered");
	seed_image(x, 0, 4096, 8);
	p = guest(x, 4096);
	expect_is(run(x, VIRTIO_BLK_T_OUT, 0, p, 4096), VIRTIO_BLK_S_IOERR);
	expect(run_range(x, VIRTIO_BLK_T_DISCARD, 0, 8, 0) != VIRTIO_BLK_S_OK, "discarded");
	expect(run_range(x, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0) != VIRTIO_BLK_S_OK, "zeroed");
	image_read(x, 0, got, sizeof(got));
	expect(fill_matches(got, 4096, 0, 8), "the image has changed");
	expect_is(run(x, VIRTIO_BLK_T_IN, 0, p, 4096), VIRTIO_BLK_S_OK);
	expect(fill_matches(p, 4096, 0, 8), "read differs");
}

static void discard_off_is_neither_offered_nor_done(struct claim_context *x)
{
	claim_begin(x, &everything);
	expect(!(x->fe.offered & FE_BIT(VIRTIO_BLK_F_DISCARD)), "DISCARD is offered");
	expect_is(run_range(x, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
}

static void mixed_load_on_all_queues_is_right(struct claim_context *x)
{
	struct fe_spec spec = { .n_queues = x->spec->n_queues ? x->spec->n_queues : 1 };
	static struct load load;
	struct load_spec ls = { .depth = 32, .area_len = 32 << 20, .seed = 7 };

	claim_begin(x, &spec);
	expect_ok(load_init(&load, &x->fe, &ls));
	expect_ok(load_run(&load, 20000));
	expect_ok(load_drain(&load));
	expect_ok(load_verify(&load));
	expect_is(load.n_errors, 0);
	expect_is(load.n_mismatches, 0);
	printf("# %lu reads, %lu writes, %lu flushes, %lu discards, %lu zeroes\n", load.n_by_op[0],
	       load.n_by_op[1], load.n_by_op[2], load.n_by_op[3], load.n_by_op[4]);
	load_done(&load);
}

enum {
	LARGE = 128 << 10,
	LARGE_DEPTH = 12,
	LARGE_PLACES = IMAGE_LEN / LARGE,
};

struct large {
	struct fe_blk b;
	uint8_t *buf;
	uint64_t place;
};

static void large_submit(struct claim_context *x, struct large *l, struct fill_random *random)
{
	struct fe_sg sg = { l->buf, LARGE };
	struct fe_blk_op op = { .type = VIRTIO_BLK_T_IN, .data = &sg, .n_data = 1 };

	l->place = fill_below(random, LARGE_PLACES);
	op.sector = l->place * (LARGE / 512);
	memset(l->buf, 0, LARGE);
	expect(fe_blk_add(&x->fe.queues[0], &l->b, &op) >= 0, "no room");
}

/* They are shared with the companion thread (blk/share.h). */
static void large_reads_are_right_also_over_deaths(struct claim_context *x)
{
	static struct large slots[LARGE_DEPTH];
	struct fe_queue *q = &x->fe.queues[0];
	struct fill_random random = { .state = 3 };
	struct fe_used used;
	struct large *l;
	unsigned i, n = 0;

	claim_begin(x, &everything);
	for (i = 0; i < LARGE_PLACES; i++) {
		static uint8_t p[LARGE];

		fill_pattern(p, LARGE, i, 5);
		image_write(x, i * (LARGE / 512), p, LARGE);
	}
	for (i = 0; i < LARGE_DEPTH; i++) {
		slots[i].buf = guest(x, LARGE);
		fe_blk_init(&slots[i].b, &x->fe.mem);
		slots[i].b.user = &slots[i];
		large_submit(x, &slots[i], &random);
	}
	while (n < 3000) {
		fe_queue_kick(q);
		if (n % 500 == 250)
			expect_is(kill(backend_worker_await(x->backend.pid, 0, 1000), SIGKILL), 0);
		expect(fe_queue_wait(q, 10000) > 0, "no answer");
		while (fe_queue_pop(q, &used)) {
			l = ((struct fe_blk *)used.user)->user;
			expect_is(*l->b.status, VIRTIO_BLK_S_OK);
			expect(fill_matches(l->buf, LARGE, l->place, 5), "not what is there");
			large_submit(x, l, &random);
			n++;
		}
	}
}

static unsigned pages_in_cache(struct claim_context *x)
{
	static unsigned char map[IMAGE_LEN / 4096];
	int fd = image_open(x);
	void *p = mmap(NULL, IMAGE_LEN, PROT_READ, MAP_SHARED, fd, 0);
	unsigned n = 0;

	expect(p != MAP_FAILED, "%s", x->backend.image);
	expect_is(mincore(p, IMAGE_LEN, map), 0);
	for (unsigned i = 0; i < sizeof(map); i++)
		n += map[i] & 1;
	munmap(p, IMAGE_LEN);
	close(fd);
	return n;
}

/* A direct write to a page that is in the cache is slow; dirty ones are written back first. */
static void an_image_served_past_the_page_cache_leaves_it(struct claim_context *x)
{
	struct backend_spec spec = writeback;
	static struct backend first;
	static uint8_t p[1 << 20];
	int status;
	uint64_t at;
	unsigned n, i;

	spec.program = x->program;
	expect_ok(backend_start(&first, &spec)); /* has directory and image */
	x->backend = first;
	expect_ok(backend_stop(&x->backend, &status));
	for (at = 0; at < IMAGE_LEN; at += sizeof(p)) {
		fill_pattern(p, sizeof(p), at / 512, 6);
		image_write(x, at / 512, p, sizeof(p));
	}
	n = pages_in_cache(x);
	expect(n > IMAGE_LEN / 4096 * 9 / 10, "only %u pages are in the cache", n);
	spec.cache = "none";
	spec.image = first.image;
	spec.dir = first.dir;
	expect_ok(backend_start(&x->backend, &spec));
	claim_begin(x, &everything);
	for (i = 0; i < 1000 && (n = pages_in_cache(x)) > 0; i++)
		usleep(10000);
	expect_is(n, 0);
	for (at = 0; at < IMAGE_LEN; at += sizeof(p)) {
		image_read(x, at / 512, p, sizeof(p));
		expect(fill_matches(p, sizeof(p), at / 512, 6), "something is lost");
	}
	backend_done(&x->backend);
	first.pid = 0;
	backend_done(&first);
}

#define C(name, spec)                                                                              \
	{                                                                                          \
#name, name, &spec                                                                 \
	}

static const struct claim claims[] = {
	C(write_lands_in_the_image, writeback),
	C(read_returns_the_image, writeback),
	C(one_sector_and_the_last_sector_work, writeback),
	C(out_of_range_is_ioerr_and_touches_nothing, writeback),
	C(odd_length_is_ioerr, writeback),
	C(unknown_request_is_unsupp, writeback),
	C(get_id_is_the_serial, writeback),
	C(flush_is_answered_ok, writeback),
	C(write_zeroes_zeroes_exactly_the_range, writeback),
	C(discard_gives_the_blocks_back, writeback),
	C(discard_and_write_zeroes_refuse_what_the_specification_refuses, writeback),
	C(each_range_of_zeroes_says_whether_its_blocks_may_go, writeback),
	C(an_answer_counts_what_was_written_and_no_more, writeback),
	C(ranges_of_half_a_segment_are_refused, writeback),
	C(as_many_ranges_as_config_says_and_no_more, writeback),
	C(unaligned_and_odd_pieces_round_trip, writeback),
	C(as_many_segments_as_config_says_round_trip, writeback),
	C(a_megabyte_in_one_piece_round_trips, writeback),
	C(framing_is_free, writeback),
	C(a_buffer_over_two_regions_round_trips, writeback),
	C(mixed_load_on_all_queues_is_right, writeback),
	C(large_reads_are_right_also_over_deaths, writeback),
	C(unaligned_and_odd_pieces_round_trip, direct),
	C(as_many_segments_as_config_says_round_trip, direct),
	C(a_megabyte_in_one_piece_round_trips, direct),
	C(write_zeroes_zeroes_exactly_the_range, direct),
	C(framing_is_free, direct),
	C(one_sector_and_the_last_sector_work, direct),
	C(mixed_load_on_all_queues_is_right, direct),
	{ "an_image_served_past_the_page_cache_leaves_it",
	  an_image_served_past_the_page_cache_leaves_it, NULL },
	C(write_lands_in_the_image, writethrough),
	C(mixed_load_on_all_queues_is_right, writethrough),
	C(read_only_refuses_every_change, read_only),
	C(discard_off_is_neither_offered_nor_done, no_discard),
	C(write_lands_in_the_image, no_io_uring),
	C(unaligned_and_odd_pieces_round_trip, no_io_uring),
	C(write_zeroes_zeroes_exactly_the_range, no_io_uring),
	C(mixed_load_on_all_queues_is_right, no_io_uring),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
