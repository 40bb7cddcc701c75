/*
 * Claims about the session: features, configuration space, memory slots, logging, reset, status,
 * the next session, and the program's own conventions.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/claim.h"
#include "tests/frontend/load.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define IMAGE_LEN (UINT64_C(64) << 20)

static const struct backend_spec writeback = { .image_len = IMAGE_LEN, .n_queues = 2 };
static const struct backend_spec four_queues = { .image_len = IMAGE_LEN + 512, .n_queues = 4 };
static const struct backend_spec writethrough = { .image_len = IMAGE_LEN, .cache = "writethrough" };
static const struct backend_spec visited = { .image_len = IMAGE_LEN, .cache = "none" };
static const struct backend_spec odd_image = { .image_len = IMAGE_LEN + 100 };

static const struct fe_spec everything;

static int run(struct claim_context *x, uint32_t type, uint64_t sector, void *p, size_t len)
{
	return fe_blk_rw(&x->fe.queues[0], &x->b, type, sector, (struct fe_sg){ p, (uint32_t)len });
}

static void work_once(struct claim_context *x)
{
	uint8_t *p = fe_memory_alloc(&x->fe.mem, 4096, 4096);

	fill_pattern(p, 4096, 1, 1);
	expect_is(run(x, VIRTIO_BLK_T_OUT, 8, p, 4096), VIRTIO_BLK_S_OK);
	memset(p, 0, 4096);
	expect_is(run(x, VIRTIO_BLK_T_IN, 8, p, 4096), VIRTIO_BLK_S_OK);
	expect(fill_matches(p, 4096, 1, 1), "data differ");
}

static void what_a_blk_device_needs_is_offered(struct claim_context *x)
{
	static const unsigned bits[] = { VIRTIO_BLK_F_SEG_MAX,
					 VIRTIO_BLK_F_BLK_SIZE,
					 VIRTIO_BLK_F_FLUSH,
					 VIRTIO_BLK_F_TOPOLOGY,
					 VIRTIO_BLK_F_CONFIG_WCE,
					 VIRTIO_BLK_F_MQ,
					 VIRTIO_BLK_F_DISCARD,
					 VIRTIO_BLK_F_WRITE_ZEROES,
					 26,
					 28,
					 29,
					 30,
					 32 };
	static const unsigned pf_bits[] = { FE_PF_MQ,		FE_PF_LOG_SHMFD,
					    FE_PF_REPLY_ACK,	FE_PF_BACKEND_REQ,
					    FE_PF_CONFIG,	FE_PF_INFLIGHT_SHMFD,
					    FE_PF_RESET_DEVICE, FE_PF_CONFIGURE_MEM_SLOTS,
					    FE_PF_STATUS };
	unsigned i;

	claim_begin(x, &everything);
	for (i = 0; i < sizeof(bits) / sizeof(*bits); i++)
		expect(x->fe.offered & FE_BIT(bits[i]), "feature bit %u is not offered", bits[i]);
	for (i = 0; i < sizeof(pf_bits) / sizeof(*pf_bits); i++)
		expect(x->fe.pf_offered & FE_BIT(pf_bits[i]), "protocol feature %u is not offered",
		       pf_bits[i]);
	/* 21 and 22 mean different things to different front-ends; above 19 nothing is ours to
	 * offer. */
	expect(x->fe.pf_offered >> 20 == 0, "unknown protocol features 0x%lx", x->fe.pf_offered);
}

static void get_queue_num_is_what_was_configured(struct claim_context *x)
{
	uint64_t n;

	claim_begin(x, &everything);
	expect_ok(fe_ask(&x->fe, FE_GET_QUEUE_NUM, NULL, 0, &n));
	expect_is(n, x->spec->n_queues);
}

static void config_describes_the_image(struct claim_context *x)
{
	struct virtio_blk_config c = {};
	struct stat st;

	claim_begin(x, &everything);
	expect_is(stat(x->backend.image, &st), 0);
	expect_ok(fe_get_config(&x->fe, 0, FE_BLK_CONFIG_LEN, &c));
	printf("# capacity %llu size_max %u seg_max %u blk_size %u min_io %u opt_io %u wce %u "
	       "queues %u discard %u/%u/%u zeroes %u/%u/%u\n",
	       (unsigned long long)c.capacity, c.size_max, c.seg_max, c.blk_size, c.min_io_size,
	       c.opt_io_size, c.wce, c.num_queues, c.max_discard_sectors, c.max_discard_seg,
	       c.discard_sector_alignment, c.max_write_zeroes_sectors, c.max_write_zeroes_seg,
	       c.write_zeroes_may_unmap);
	expect_is(c.capacity, st.st_size / 512);
	expect_is(c.num_queues, x->spec->n_queues ? x->spec->n_queues : 1);
	expect(c.blk_size >= 512 && (c.blk_size & (c.blk_size - 1)) == 0, "blk_size %u",
	       c.blk_size);
	expect(c.seg_max >= 126 && c.seg_max <= 254, "seg_max %u in a ring of 256", c.seg_max);
	expect(!(x->fe.offered & FE_BIT(VIRTIO_BLK_F_SIZE_MAX)) || c.size_max >= 1 << 20,
	       "size_max %u", c.size_max);
	expect(c.max_discard_sectors > 0 && c.max_discard_seg > 0, "no discard limits");
	expect(c.max_write_zeroes_sectors > 0 && c.max_write_zeroes_seg > 0, "no zeroes limits");
	expect(c.discard_sector_alignment > 0, "discard_sector_alignment 0");
}

static void config_is_readable_in_any_piece(struct claim_context *x)
{
	uint8_t all[FE_BLK_CONFIG_LEN], piece[FE_BLK_CONFIG_LEN];
	uint32_t at, len;

	claim_begin(x, &everything);
	expect_ok(fe_get_config(&x->fe, 0, sizeof(all), all));
	for (at = 0; at < sizeof(all); at++)
		for (len = 1; at + len <= sizeof(all); len += 7) {
			expect_ok(fe_get_config(&x->fe, at, len, piece));
			expect(!memcmp(piece, all + at, len), "offset %u length %u", at, len);
		}
}

/* QEMU asks for a config of its own size, larger or smaller than the back-end's. */
static void config_beyond_the_end_is_zero_or_refused(struct claim_context *x)
{
	uint8_t bytes[256];
	int r;

	claim_begin(x, &everything);
	memset(bytes, 0, sizeof(bytes));
	r = fe_get_config(&x->fe, 0, 256, bytes);
	expect(r == 0 || r == -EREMOTEIO, "%d", r);
	if (r == 0)
		expect(fill_is_zero(bytes + 96, 160), "bytes beyond every known field");
	if (r < 0)
		expect_ok(fe_get_config(&x->fe, 0, FE_BLK_CONFIG_LEN, bytes));
	work_once(x);
}

static void wce_is_switched_by_set_config(struct claim_context *x)
{
	const uint32_t at = offsetof(struct virtio_blk_config, wce);
	uint8_t wce = 9, off = 0, on = 1;

	claim_begin(x, &everything);
	expect_ok(fe_get_config(&x->fe, at, 1, &wce));
	expect_is(wce, 1);
	expect_ok(fe_set_config(&x->fe, at, 1, &off));
	expect_ok(fe_get_config(&x->fe, at, 1, &wce));
	expect_is(wce, 0);
	work_once(x);
	expect_ok(fe_set_config(&x->fe, at, 1, &on));
	expect_ok(fe_get_config(&x->fe, at, 1, &wce));
	expect_is(wce, 1);
	work_once(x);
}

static void nothing_else_in_config_can_be_set(struct claim_context *x)
{
	uint8_t before[FE_BLK_CONFIG_LEN], after[FE_BLK_CONFIG_LEN], bytes[8] = { 1, 2, 3 };
	static const uint32_t at[] = { 0, 8, 20, 31, 33, 36 };
	unsigned i;
	int r;

	claim_begin(x, &everything);
	expect_ok(fe_get_config(&x->fe, 0, sizeof(before), before));
	for (i = 0; i < sizeof(at) / sizeof(*at); i++) {
		r = fe_set_config(&x->fe, at[i], 2, bytes);
		expect(r == -EREMOTEIO, "offset %u: %d", at[i], r);
	}
	expect_ok(fe_get_config(&x->fe, 0, sizeof(after), after));
	expect(!memcmp(before, after, sizeof(before)), "config has changed");
}

/* Who does not ask for an answer must not lose its session by what its guest writes. */
static void a_refused_write_that_wants_no_answer_changes_nothing(struct claim_context *x)
{
	struct fe_spec spec = { .pf_not = FE_BIT(FE_PF_REPLY_ACK) };
	const uint32_t at = offsetof(struct virtio_blk_config, wce);
	uint8_t wce = 9, two = 2;

	claim_begin(x, &spec);
	expect_ok(fe_set_config(&x->fe, at, 1, &two));
	expect_ok(fe_set_config(&x->fe, 0, 1, &two));
	expect_ok(fe_get_config(&x->fe, at, 1, &wce));
	expect_is(wce, 1);
	work_once(x);
}

/* vhost-user.rst, REPLY_ACK: a back-end that fails says so, also when it then hangs up. */
static void a_request_that_ends_the_session_is_answered_first(struct claim_context *x)
{
	uint64_t three = UINT64_C(3) << 32; /* descriptors in ring 0: no power of two */
	struct fe_out out = { .request = FE_SET_VRING_NUM, .payload = &three, .len = 8 };

	claim_begin(x, &everything);
	expect_ok(fe_queue_enable(&x->fe, &x->fe.queues[0], false));
	expect_is(fe_do(&x->fe, &out), -EREMOTEIO);
	expect_is(fe_await_gone(&x->fe, 2000), 0);
}

/* User Mode Linux waits for it. */
static void the_request_that_acknowledges_acks_is_acked(struct claim_context *x)
{
	uint64_t bits, ack = 9;
	uint32_t len = sizeof(ack);
	struct fe_out set = { .request = FE_SET_PROTOCOL_FEATURES,
			      .payload = &bits,
			      .len = sizeof(bits) };

	expect_ok(fe_open(&x->fe, x->backend.socket));
	expect_ok(fe_ask(&x->fe, FE_GET_PROTOCOL_FEATURES, NULL, 0, &bits));
	expect(bits & FE_BIT(FE_PF_REPLY_ACK), "REPLY_ACK is not offered");
	expect_ok(fe_send(&x->fe, &set, FE_FLAG_NEED_REPLY));
	expect_ok(fe_recv(&x->fe, FE_SET_PROTOCOL_FEATURES, &ack, &len, NULL));
	expect_is(ack, 0);
}

/* VIRTIO 1.3 §5.2.5.2. */
static void without_flush_there_is_no_write_cache(struct claim_context *x)
{
	struct fe_spec spec = { .features_not = FE_BIT(VIRTIO_BLK_F_FLUSH) };
	uint8_t wce = 9;

	claim_begin(x, &spec);
	expect_ok(fe_get_config(&x->fe, offsetof(struct virtio_blk_config, wce), 1, &wce));
	expect_is(wce, 0);
}

static void writethrough_says_so(struct claim_context *x)
{
	uint8_t wce = 9;

	claim_begin(x, &everything);
	expect_ok(fe_get_config(&x->fe, offsetof(struct virtio_blk_config, wce), 1, &wce));
	expect_is(wce, 0);
	work_once(x);
}

static void a_ragged_image_end_is_not_capacity(struct claim_context *x)
{
	struct virtio_blk_config c = {};

	claim_begin(x, &everything);
	expect_ok(fe_get_config(&x->fe, 0, FE_BLK_CONFIG_LEN, &c));
	expect_is(c.capacity, IMAGE_LEN / 512);
}

static void a_session_follows_a_session(struct claim_context *x)
{
	unsigned i;

	for (i = 0; i < 50; i++) {
		claim_begin(x, &everything);
		work_once(x);
		fe_close(&x->fe);
	}
}

static void a_session_that_ends_in_full_flight_is_followed_by_the_next(struct claim_context *x)
{
	struct fe_spec spec = { .n_queues = 2 };
	static struct load load;
	struct load_spec ls = { .depth = 32, .area_len = 16 << 20 };
	unsigned i;

	for (i = 0; i < 50; i++) {
		claim_begin(x, &spec);
		expect_ok(load_init(&load, &x->fe, &ls));
		expect_ok(load_run(&load, 100 + 13 * i));
		fe_close(&x->fe);
		load_done(&load);
	}
	claim_begin(x, &everything);
	work_once(x);
}

/* A second front-end is not a reason to disturb the first. */
/* Whoever connects again and again has the device start a worker each time: that may not take a whole processor. */
static void sessions_without_end_do_not_keep_the_device_busy(struct claim_context *x)
{
	enum { FREE = 64, N = 464, PAUSE_MS = 10 };
	struct timespec begun, ended;
	int64_t ms;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (unsigned i = 0; i < N; i++) {
		uint64_t features;

		expect_ok(fe_open(&x->fe, x->backend.socket));
		expect_ok(fe_ask(&x->fe, FE_GET_FEATURES, NULL, 0, &features));
		fe_close(&x->fe);
	}
	clock_gettime(CLOCK_MONOTONIC, &ended);
	ms = (ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000;
	expect(ms >= (N - FREE - 1) * PAUSE_MS, "%u sessions in %lld ms", N, (long long)ms);
	claim_begin(x, &everything);
}

static void a_second_connection_waits_for_the_first_to_end(struct claim_context *x)
{
	static struct fe second;
	struct pollfd p = { .events = POLLIN };
	struct fe_out get = { .request = FE_GET_FEATURES };
	uint64_t features;
	uint32_t len = 8;

	claim_begin(x, &everything);
	expect_ok(fe_open(&second, x->backend.socket));
	expect_ok(fe_send(&second, &get, 0));
	p.fd = second.fd;
	work_once(x);
	expect_is(poll(&p, 1, 50), 0);
	work_once(x);
	fe_close(&x->fe);
	expect_ok(fe_recv(&second, FE_GET_FEATURES, &features, &len, NULL));
	fe_close(&second);
}

/* vhost-user.rst has 20 bytes; QEMU's structure is padded to 24, and it takes an answer of no other length. */
static void get_inflight_fd_is_answered_with_as_many_bytes_as_were_sent(struct claim_context *x)
{
	static const uint32_t lens[] = { 20, 24 };
	uint16_t base;
	unsigned i;

	claim_begin(x, &everything);
	expect_ok(fe_queue_stop(&x->fe, &x->fe.queues[0], &base));
	for (i = 0; i < 2; i++) {
		struct fe_inflight_wire wire = { .n_queues = 1, .queue_size = 128 };
		struct fe_out get = { .request = FE_GET_INFLIGHT_FD,
				      .payload = &wire,
				      .len = lens[i] };
		struct fe_out set = {
			.request = FE_SET_INFLIGHT_FD, .payload = &wire, .len = lens[i], .n_fds = 1
		};
		uint32_t len = sizeof(wire);
		int fd = -1;

		expect_ok(fe_send(&x->fe, &get, 0));
		expect_ok(fe_recv(&x->fe, FE_GET_INFLIGHT_FD, &wire, &len, &fd));
		expect_is(len, lens[i]);
		expect(fd >= 0 && wire.mmap_size >= 128 * 16 && wire.n_queues == 1 &&
			       wire.queue_size == 128,
		       "fd %d, %lu bytes, %u × %u", fd, wire.mmap_size, wire.n_queues,
		       wire.queue_size);
		set.fds = &fd;
		expect_ok(fe_do(&x->fe, &set));
		close(fd);
	}
	expect_ok(fe_queue_start(&x->fe, &x->fe.queues[0], base));
	expect_ok(fe_queue_enable(&x->fe, &x->fe.queues[0], true));
	work_once(x);
}

/* As after firmware, which uses fewer descriptors than the system that comes then. */
static void an_inflight_region_that_is_asked_for_again_is_empty(struct claim_context *x)
{
	struct fe_spec spec = { .inflight = true, .queue_size = 64 };
	struct fe_queue_spec more = { .size = 128 };
	struct fe_queue *q;
	uint16_t base;

	claim_begin(x, &spec);
	q = &x->fe.queues[0];
	work_once(x);
	expect_ok(fe_queue_stop(&x->fe, q, &base));
	expect_ok(fe_inflight_get(&x->fe, 1, 128));
	expect(fill_is_zero(x->fe.inflight.map, 16 + 128 * 16), "the region is not empty");
	expect_ok(fe_inflight_set(&x->fe));
	more.event_idx = q->event_idx;
	more.indirect = q->indirect;
	fe_queue_done(q);
	expect_ok(fe_queue_init(q, &x->fe.mem, &more));
	expect_ok(fe_queue_start(&x->fe, q, 0));
	expect_ok(fe_queue_enable(&x->fe, q, true));
	work_once(x);
}

/* What was answered just before a front-end reconnects may not have been told. */
static void a_ring_is_signalled_when_its_call_descriptor_comes(struct claim_context *x)
{
	struct pollfd p = { .events = POLLIN };

	claim_begin(x, &everything);
	p.fd = x->fe.queues[0].call;
	expect_is(poll(&p, 1, 2000), 1);
}

static void status_is_kept_and_zero_resets(struct claim_context *x)
{
	uint64_t status = 99;
	uint16_t base;

	claim_begin(x, &everything);
	expect_ok(fe_do_u64(&x->fe, FE_SET_STATUS, 0xf, -1));
	expect_ok(fe_ask(&x->fe, FE_GET_STATUS, NULL, 0, &status));
	expect_is(status, 0xf);
	work_once(x);
	expect_ok(fe_queue_stop(&x->fe, &x->fe.queues[0], &base));
	expect_ok(fe_do_u64(&x->fe, FE_SET_STATUS, 0, -1));
	expect_ok(fe_ask(&x->fe, FE_GET_STATUS, NULL, 0, &status));
	expect_is(status, 0);
}

static void reset_device_stops_the_rings_and_they_start_anew(struct claim_context *x)
{
	struct fe_queue *q;
	unsigned i;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	for (i = 0; i < 20; i++) {
		work_once(x);
		expect_ok(fe_do(&x->fe, &(struct fe_out){ .request = FE_RESET_DEVICE }));
		fe_queue_rewind(q);
		expect_ok(fe_do_u64(&x->fe, FE_SET_FEATURES, x->fe.features, -1));
		expect_ok(fe_queue_start(&x->fe, q, 0));
		expect_ok(fe_queue_enable(&x->fe, q, true));
	}
	work_once(x);
}

/* VIRTIO 1.3 §5.2.5: either mode will do after a reset, and a VMM that only pauses resets too. */
static void a_write_cache_that_is_off_stays_off_over_a_reset(struct claim_context *x)
{
	const uint32_t at = offsetof(struct virtio_blk_config, wce);
	uint8_t wce = 9, off = 0;

	claim_begin(x, &everything);
	expect_ok(fe_set_config(&x->fe, at, 1, &off));
	expect_ok(fe_do_u64(&x->fe, FE_SET_STATUS, 0, -1));
	expect_ok(fe_get_config(&x->fe, at, 1, &wce));
	expect_is(wce, 0);
	expect_ok(fe_do(&x->fe, &(struct fe_out){ .request = FE_RESET_DEVICE }));
	expect_ok(fe_get_config(&x->fe, at, 1, &wce));
	expect_is(wce, 0);
}

/* QEMU 7.2 stops its device before it asks where the rings stand, and migrates the answer. */
static void a_ring_that_a_reset_stopped_still_tells_where_it_stood(struct claim_context *x)
{
	uint16_t base = 0;

	claim_begin(x, &everything);
	work_once(x);
	work_once(x);
	expect_ok(fe_do_u64(&x->fe, FE_SET_STATUS, 0, -1));
	expect_ok(fe_queue_stop(&x->fe, &x->fe.queues[0], &base));
	expect_is(base, 4);
}

static void a_disabled_ring_that_is_set_up_anew_still_tells_where_it_stood(struct claim_context *x)
{
	struct fe_queue *q;
	uint16_t base = 0;
	uint64_t num;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	work_once(x);
	expect_ok(fe_queue_enable(&x->fe, q, false));
	num = (uint64_t)(q->size / 2) << 32; /* of ring 0 */
	expect_ok(fe_do(&x->fe, &(struct fe_out){ .request = FE_SET_VRING_NUM,
						  .payload = &num,
						  .len = sizeof(num) }));
	expect_ok(fe_queue_stop(&x->fe, q, &base));
	expect_is(base, 2);
}

/* QEMU does so with each ring of a network card, also those not in use, as a migration begins. */
static void logging_turned_on_for_a_disabled_ring_does_not_stop_it(struct claim_context *x)
{
	struct fe_queue *q;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	work_once(x);
	expect_ok(fe_queue_enable(&x->fe, q, false));
	expect_ok(fe_log_vring(&x->fe, q, true));
	expect_ok(fe_queue_enable(&x->fe, q, true));
	work_once(x);
}

static struct fe_region slot_at(const struct fe *fe, unsigned i)
{
	return (struct fe_region){
		.guest.v = fe->mem.regions[0].guest.v + (UINT64_C(1) << 32) + i * UINT64_C(0x30000),
		.user.v = fe->mem.regions[0].user.v + (UINT64_C(1) << 36) + i * UINT64_C(0x50000),
		.len = 0x10000
	};
}

static void five_hundred_and_nine_memory_slots_work(struct claim_context *x)
{
	struct fe_spec spec = { .slots = true };
	struct fe_region like;
	uint64_t n_slots;
	unsigned i;
	uint8_t *p;

	claim_begin(x, &spec);
	expect_ok(fe_ask(&x->fe, FE_GET_MAX_MEM_SLOTS, NULL, 0, &n_slots));
	expect(n_slots >= 509, "%lu slots", n_slots);
	for (i = 1; i < 509; i++) {
		like = slot_at(&x->fe, i);
		expect(fe_memory_add(&x->fe.mem, &like, false) == (int)i, "memory");
		expect_ok(fe_slot_add(&x->fe, &x->fe.mem.regions[i]));
	}
	for (i = 1; i < 509; i += 13) {
		p = x->fe.mem.regions[i].map;
		fill_pattern(p, 4096, i, 1);
		expect_is(run(x, VIRTIO_BLK_T_OUT, 8, p, 4096), VIRTIO_BLK_S_OK);
		p = x->fe.mem.regions[509 - i].map + 0x8000;
		expect_is(run(x, VIRTIO_BLK_T_IN, 8, p, 4096), VIRTIO_BLK_S_OK);
		expect(fill_matches(p, 4096, i, 1), "slot %u", i);
	}
	while (x->fe.mem.n_regions > 1) {
		i = x->fe.mem.n_regions - 1;
		expect_ok(fe_slot_remove(&x->fe, &x->fe.mem.regions[i]));
		fe_memory_remove(&x->fe.mem, i);
	}
	work_once(x);
}

static void slots_come_and_go_under_load(struct claim_context *x)
{
	struct fe_spec spec = { .slots = true, .n_queues = 2 };
	static struct load load;
	struct load_spec ls = { .depth = 32, .area_len = 16 << 20 };
	struct fe_region like;
	unsigned i;

	claim_begin(x, &spec);
	expect_ok(load_init(&load, &x->fe, &ls));
	for (i = 0; i < 100; i++) {
		expect_ok(load_run(&load, 50));
		like = slot_at(&x->fe, 1);
		expect(fe_memory_add(&x->fe.mem, &like, false) == 1, "memory");
		expect_ok(fe_slot_add(&x->fe, &x->fe.mem.regions[1]));
		expect_ok(load_run(&load, 50));
		expect_ok(fe_slot_remove(&x->fe, &x->fe.mem.regions[1]));
		fe_memory_remove(&x->fe.mem, 1);
	}
	expect_ok(load_drain(&load));
	expect_ok(load_verify(&load));
	expect_is(load.n_errors + load.n_mismatches, 0);
}

static void a_removed_slot_is_gone(struct claim_context *x)
{
	struct fe_spec spec = { .slots = true };
	struct fe_region like;
	struct pollfd p = { .events = POLLIN };
	struct fe_sg sg;
	struct fe_blk_op op = { .type = VIRTIO_BLK_T_IN, .data = &sg, .n_data = 1 };

	claim_begin(x, &spec);
	like = slot_at(&x->fe, 1);
	expect(fe_memory_add(&x->fe.mem, &like, false) == 1, "memory");
	expect_ok(fe_slot_add(&x->fe, &x->fe.mem.regions[1]));
	sg = (struct fe_sg){ x->fe.mem.regions[1].map, 4096 };
	expect_is(fe_blk_run(&x->fe.queues[0], &x->b, &op), VIRTIO_BLK_S_OK);
	expect_ok(fe_slot_remove(&x->fe, &x->fe.mem.regions[1]));
	memset(sg.p, 0x77, 4096);
	expect(fe_blk_add(&x->fe.queues[0], &x->b, &op) >= 0, "no room");
	fe_queue_kick(&x->fe.queues[0]);
	/* The chain names memory that is not there: the ring breaks, or the request fails. */
	p.fd = x->fe.queues[0].err;
	if (poll(&p, 1, 2000) == 0)
		expect(*x->b.status == VIRTIO_BLK_S_IOERR, "status %u", *x->b.status);
	expect_is(*(uint8_t *)sg.p, 0x77);
}

/* QEMU does so while the rings run, when a region grows: first all that go, then all that come. */
static void a_ring_outlives_its_memory_being_taken_away_and_given_back(struct claim_context *x)
{
	struct fe_spec spec = { .slots = true };
	unsigned i;

	claim_begin(x, &spec);
	for (i = 0; i < 5; i++) {
		work_once(x);
		expect_ok(fe_slot_remove(&x->fe, &x->fe.mem.regions[0]));
		expect_ok(fe_slot_add(&x->fe, &x->fe.mem.regions[0]));
	}
	work_once(x);
}

/* The table may be replaced while the rings stand still, and the memory then is other memory. */
static void the_memory_table_can_be_replaced(struct claim_context *x)
{
	struct fe_queue *q;
	uint16_t base;
	unsigned i;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	for (i = 0; i < 20; i++) {
		work_once(x);
		expect_ok(fe_queue_stop(&x->fe, q, &base));
		x->fe.mem.regions[0].guest.v += 0x200000;
		x->fe.mem.regions[0].user.v += 0x400000;
		expect_ok(fe_send_memory(&x->fe, &everything));
		expect_ok(fe_queue_start(&x->fe, q, base));
		expect_ok(fe_queue_enable(&x->fe, q, true));
	}
	work_once(x);
}

static void log_clear(struct claim_context *x)
{
	memset(x->fe.log, 0, x->fe.log_len);
}

static bool log_has(struct claim_context *x, const void *p)
{
	uint64_t page = fe_memory_guest(&x->fe.mem, p).v / 4096;

	return x->fe.log[page / 8] >> (page % 8) & 1;
}

static unsigned log_count(struct claim_context *x)
{
	unsigned n = 0;
	size_t i;

	for (i = 0; i < x->fe.log_len; i++)
		n += (unsigned)__builtin_popcount(x->fe.log[i]);
	return n;
}

static void every_write_to_guest_memory_is_logged_and_nothing_else(struct claim_context *x)
{
	struct fe_sg sg[3];
	struct fe_blk_op op = { .data = sg, .n_data = 3 };
	uint8_t *p;

	claim_begin(x, &everything);
	p = fe_memory_alloc(&x->fe.mem, 1 << 20, 4096);
	x->b.status = fe_memory_alloc(&x->fe.mem, 4096, 4096);
	expect_ok(fe_log_start(&x->fe, 65536));
	expect_ok(fe_log_vring(&x->fe, &x->fe.queues[0], true));
	expect(fe_memory_guest(&x->fe.mem, x->fe.queues[0].used).v / 4096 ==
		       fe_memory_guest(&x->fe.mem, &x->fe.queues[0].used->ring[129]).v / 4096,
	       "test bug: the used ring crosses a page");

	/* A read into: one page in part; three pages from the middle of the first; exactly one
	 * page. */
	sg[0] = (struct fe_sg){ p + 100, 512 };
	sg[1] = (struct fe_sg){ p + 0x10800, 0x2000 };
	sg[2] = (struct fe_sg){ p + 0x20000, 0x1000 };
	op.type = VIRTIO_BLK_T_IN;
	log_clear(x);
	expect_is(fe_blk_run(&x->fe.queues[0], &x->b, &op), VIRTIO_BLK_S_OK);
	expect(log_has(x, p), "first page");
	expect(log_has(x, p + 0x10000) && log_has(x, p + 0x11000) && log_has(x, p + 0x12000),
	       "second buffer");
	expect(log_has(x, p + 0x20000), "third buffer");
	expect(log_has(x, x->b.status), "status");
	expect(log_has(x, x->fe.queues[0].used), "used ring");
	expect_is(log_count(x), 7);

	/* A write changes no guest memory but the status and the ring. */
	op.type = VIRTIO_BLK_T_OUT;
	log_clear(x);
	expect_is(fe_blk_run(&x->fe.queues[0], &x->b, &op), VIRTIO_BLK_S_OK);
	expect(log_has(x, x->b.status) && log_has(x, x->fe.queues[0].used), "status and ring");
	expect_is(log_count(x), 2);

	/* Without the vring's flag its own page is not logged. */
	expect_ok(fe_log_vring(&x->fe, &x->fe.queues[0], false));
	log_clear(x);
	expect_is(fe_blk_run(&x->fe.queues[0], &x->b, &op), VIRTIO_BLK_S_OK);
	expect(log_has(x, x->b.status), "status");
	expect_is(log_count(x), 1);

	/* GET_ID writes too. */
	sg[0] = (struct fe_sg){ p + 0x40000, 20 };
	op = (struct fe_blk_op){ .type = VIRTIO_BLK_T_GET_ID, .data = sg, .n_data = 1 };
	log_clear(x);
	expect_is(fe_blk_run(&x->fe.queues[0], &x->b, &op), VIRTIO_BLK_S_OK);
	expect(log_has(x, p + 0x40000), "GET_ID data");
	expect_is(log_count(x), 2);
}

/*
 * vhost-user.rst names no payload of this answer. QEMU takes any; the crates of rust-vmm, and with
 * them Cloud Hypervisor, wait for as many bytes as they have sent, for ever.
 */
static void set_log_base_is_answered_with_what_was_sent(struct claim_context *x)
{
	struct fe_log_wire wire = { .size = 65536 - 4, .offset = 4096 }, reply = { 0 };
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct fe_out out = { .request = FE_SET_LOG_BASE,
			      .payload = &wire,
			      .len = sizeof(wire),
			      .fds = &fd,
			      .n_fds = 1 };
	uint32_t len = sizeof(reply);

	expect(fd >= 0 && ftruncate(fd, 65536 + 4096) == 0, "no log");
	claim_begin(x, &everything);
	expect_ok(fe_send(&x->fe, &out, FE_FLAG_NEED_REPLY));
	expect_ok(fe_recv(&x->fe, FE_SET_LOG_BASE, &reply, &len, NULL));
	expect_is(len, sizeof(reply));
	expect(memcmp(&reply, &wire, sizeof(wire)) == 0, "%lu, %lu", reply.size, reply.offset);
	work_once(x);
}

static void a_log_that_is_too_small_ends_the_session_not_the_device(struct claim_context *x)
{
	struct fe_blk_op op = { .type = VIRTIO_BLK_T_FLUSH };

	claim_begin(x, &everything);
	/* 8 × 4096 pages from 0, and guest memory begins below but ends above. */
	if (fe_log_start(&x->fe, 64) == 0) {
		fe_log_vring(&x->fe, &x->fe.queues[0], true);
		fe_blk_add(&x->fe.queues[0], &x->b, &op);
		fe_queue_kick(&x->fe.queues[0]);
		usleep(50000);
	}
	fe_close(&x->fe);
	claim_begin(x, &everything);
	work_once(x);
}

static void print_capabilities_is_the_documented_object(struct claim_context *x)
{
	char out[4096];
	int status;

	status = backend_run(x->program, (const char *const[]){ "--print-capabilities", NULL }, out,
			     sizeof(out));
	expect_is(status, 0);
	expect(strstr(out, "\"type\"") && strstr(out, "\"block\""), "%s", out);
	expect(strstr(out, "\"features\"") && strstr(out, "blk-file"), "%s", out);
}

static void unusable_arguments_are_refused_with_exit_2(struct claim_context *x)
{
	static const char *const bad[][4] = {
		{ "--no-such-option", NULL },
		{ "--socket-path=/nonexistent/a", NULL },
		{ "--queues=0", "--socket-path=/tmp/x", "--blk-file=/dev/zero", NULL },
		{ "--cache=fast", "--socket-path=/tmp/x", "--blk-file=/dev/zero", NULL },
		{ "stray", NULL },
	};
	char out[4096];
	unsigned i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		expect_is(backend_run(x->program, bad[i], out, sizeof(out)), 2);
}

static void sigterm_ends_it_with_exit_0(struct claim_context *x)
{
	struct backend_spec spec = writeback;
	struct backend b;
	unsigned round;
	int status;

	spec.program = x->program;
	for (round = 0; round < 2; round++) {
		expect_ok(backend_start(&b, &spec));
		x->backend = b;
		if (round == 1) {
			claim_begin(x, &everything);
			work_once(x);
		}
		expect_ok(backend_stop(&b, &status));
		expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "wait status 0x%x", status);
		backend_done(&b);
	}
	expect_ok(fe_await_gone(&x->fe, 5000));
}

/* Its pipe is full from the start, and stays so. */
static void a_log_that_nobody_reads_stops_nothing(struct claim_context *x)
{
	struct backend_spec spec = writeback;
	char dir[] = "/tmp/vmdev-log-XXXXXX", path[64], page[4096] = "";
	struct backend b;
	int fd, status;

	expect(mkdtemp(dir), "no directory");
	snprintf(path, sizeof(path), "%s/log", dir);
	expect_is(mkfifo(path, 0600), 0);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	while (write(fd, page, sizeof(page)) > 0)
		;
	spec.program = x->program;
	spec.log = path;
	expect_ok(backend_start(&b, &spec));
	unlink(path);
	rmdir(dir);
	x->backend = b;
	claim_begin(x, &everything);
	work_once(x);
	expect_is(kill(backend_worker(b.pid), SIGKILL), 0);
	work_once(x);
	expect_ok(backend_stop(&b, &status));
	expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "wait status 0x%x", status);
	backend_done(&b);
	close(fd);
}

static double seconds(void)
{
	struct timespec t = {};

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* It is replaced by one that only drains; SIGSTOP stands for whatever keeps it from leaving. */
static void a_worker_that_does_not_leave_holds_up_no_stop(struct claim_context *x)
{
	/* One that is stopped in the midst of its work hangs, which is known sooner. */
	const char *args[] = { "--hang-timeout=0", NULL };
	struct backend_spec spec = writeback;
	double began, took;
	struct backend b;
	int status = -1;

	spec.program = x->program;
	spec.args = args;
	expect_ok(backend_start(&b, &spec));
	x->backend = b;
	claim_begin(x, &everything);
	work_once(x);
	expect_is(kill(backend_worker(b.pid), SIGSTOP), 0);
	began = seconds();
	expect_is(kill(b.pid, SIGTERM), 0);
	/* It has 15 s to leave. */
	do {
		usleep(100000);
		took = seconds() - began;
	} while (waitpid(b.pid, &status, WNOHANG) == 0 && took < 25);
	expect(took >= 14 && took < 25, "after %.1f s", took);
	expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "wait status 0x%x", status);
	b.pid = 0;
	backend_done(&b);
	expect_ok(fe_await_gone(&x->fe, 5000));
}

/* Though it has nothing to do when it is stopped, and so does not look as if it hung. */
static void a_worker_that_stands_still_is_replaced(struct claim_context *x)
{
	const char *args[] = { "--hang-timeout=400000", NULL };
	struct backend_spec spec = writeback;
	pid_t worker;

	spec.program = x->program;
	spec.args = args;
	expect_ok(backend_start(&x->backend, &spec));
	claim_begin(x, &everything);
	work_once(x);
	worker = backend_worker(x->backend.pid);
	expect_is(kill(worker, SIGSTOP), 0);
	usleep(100000);
	expect_is(kill(worker, SIGCONT), 0);
	usleep(700000);
	expect_is(backend_worker(x->backend.pid), worker);
	expect_is(kill(worker, SIGSTOP), 0);
	work_once(x);
	expect(backend_worker(x->backend.pid) != worker, "it is still there");
	expect(backend_log_has(&x->backend, "stands still"), "nothing is said of it");
	expect(!fe_gone(&x->fe), "the connection is gone");
}

/* The kernel lets go of what I/O rings have used only some time after the program. */
static void the_image_is_free_as_soon_as_the_program_has_ended(struct claim_context *x)
{
	struct backend_spec spec = writeback;
	static struct backend first;
	unsigned round;
	int status;

	spec.program = x->program;
	expect_ok(backend_start(&first, &spec)); /* has directory and image */
	x->backend = first;
	for (round = 0; round < 20; round++) {
		claim_begin(x, &everything);
		work_once(x);
		expect_ok(backend_stop(&x->backend, &status));
		expect_is(status, 0);
		fe_close(&x->fe);
		spec.image = first.image;
		spec.dir = first.dir;
		expect_ok(backend_start(&x->backend, &spec));
	}
	backend_done(&x->backend);
	first.pid = 0;
	backend_done(&first);
}

static void an_inherited_connection_is_served(struct claim_context *x)
{
	struct backend_spec spec = writeback;
	struct backend b;
	uint64_t features;
	int pair[2];

	expect_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	spec.program = x->program;
	spec.fd = pair[1];
	expect_ok(backend_start(&b, &spec));
	close(pair[1]);
	fe_adopt(&x->fe, pair[0]);
	expect_ok(fe_ask(&x->fe, FE_GET_FEATURES, NULL, 0, &features));
	expect(features & FE_F_VERSION_1, "features 0x%lx", features);
	backend_done(&b);
}

#define C(name, spec)                                                                              \
	{                                                                                          \
#name, name, &spec                                                                 \
	}
#define ALONE(name)                                                                                \
	{                                                                                          \
#name, name, NULL                                                                  \
	}

static const struct claim claims[] = {
	C(what_a_blk_device_needs_is_offered, writeback),
	C(get_queue_num_is_what_was_configured, writeback),
	C(config_describes_the_image, writeback),
	C(config_is_readable_in_any_piece, writeback),
	C(config_beyond_the_end_is_zero_or_refused, writeback),
	C(wce_is_switched_by_set_config, writeback),
	C(nothing_else_in_config_can_be_set, writeback),
	C(a_refused_write_that_wants_no_answer_changes_nothing, writeback),
	C(a_request_that_ends_the_session_is_answered_first, writeback),
	C(the_request_that_acknowledges_acks_is_acked, writeback),
	C(without_flush_there_is_no_write_cache, writeback),
	C(a_session_follows_a_session, writeback),
	C(a_session_that_ends_in_full_flight_is_followed_by_the_next, writeback),
	C(a_second_connection_waits_for_the_first_to_end, writeback),
	C(get_inflight_fd_is_answered_with_as_many_bytes_as_were_sent, writeback),
	C(an_inflight_region_that_is_asked_for_again_is_empty, writeback),
	C(a_ring_is_signalled_when_its_call_descriptor_comes, writeback),
	C(status_is_kept_and_zero_resets, writeback),
	C(reset_device_stops_the_rings_and_they_start_anew, writeback),
	C(a_write_cache_that_is_off_stays_off_over_a_reset, writeback),
	C(a_ring_that_a_reset_stopped_still_tells_where_it_stood, writeback),
	C(a_disabled_ring_that_is_set_up_anew_still_tells_where_it_stood, writeback),
	C(logging_turned_on_for_a_disabled_ring_does_not_stop_it, writeback),
	C(five_hundred_and_nine_memory_slots_work, writeback),
	C(slots_come_and_go_under_load, writeback),
	C(a_removed_slot_is_gone, writeback),
	C(a_ring_outlives_its_memory_being_taken_away_and_given_back, writeback),
	C(the_memory_table_can_be_replaced, writeback),
	C(every_write_to_guest_memory_is_logged_and_nothing_else, writeback),
	C(set_log_base_is_answered_with_what_was_sent, writeback),
	C(a_log_that_is_too_small_ends_the_session_not_the_device, writeback),
	C(config_describes_the_image, four_queues),
	C(get_queue_num_is_what_was_configured, four_queues),
	C(writethrough_says_so, writethrough),
	C(a_ragged_image_end_is_not_capacity, odd_image),
	C(sessions_without_end_do_not_keep_the_device_busy, visited),
	ALONE(print_capabilities_is_the_documented_object),
	ALONE(unusable_arguments_are_refused_with_exit_2),
	ALONE(sigterm_ends_it_with_exit_0),
	ALONE(a_log_that_nobody_reads_stops_nothing),
	ALONE(a_worker_that_does_not_leave_holds_up_no_stop),
	ALONE(a_worker_that_stands_still_is_replaced),
	ALONE(the_image_is_free_as_soon_as_the_program_has_ended),
	ALONE(an_inherited_connection_is_served),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
