/*
 * The block load: see disk.h.
 *
 * Runs in: the test guest (and on the host over a regular file, for the self-test).
 * Trusts:  nothing that comes from the disk.
 *
 * The disk is cut into extents. A request holds the extent that it lies in from before it is sent
 * until it has been judged, so for every block it is known at any moment what must be there; a
 * third of all requests goes to a few hot extents, so that the same blocks are written again as
 * soon as they may be (a write that lands late, after a newer one to the same place, is what that
 * finds). Reads, writes and flushes are sent by io_uring, depth / threads in flight per thread;
 * discards and write-zeroes come from one more thread, since older kernels have only blocking calls
 * for them.
 *
 * Invariants:
 *  1. No two requests in flight touch the same extent, flushes touch none.
 *  2. A thread ends only when everything that it sent has completed.
 */
#include "tests/e2e/guest/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	EXTENT_BLOCKS = 32,
	HOT_EXTENTS = 8,
	MIN_EXTENTS = 64,
	MAX_DEPTH = 256,
	PICK_TRIES = 16,
	EXTENT_LEN = EXTENT_BLOCKS * PATTERN_BLOCK_LEN,
};

enum request_kind { REQUEST_READ, REQUEST_WRITE, REQUEST_FLUSH };

struct slot {
	enum request_kind kind;
	bool busy;
	uint64_t extent_idx;
	uint64_t block_idx;
	uint64_t n_blocks;
	uint64_t gen; /* of a write */
	uint64_t seq; /* of a flush: the sequence when it was sent */
	uint64_t sent_ns;
	uint8_t *buf;
};

struct sender {
	struct disk *disk;
	struct io_uring ring;
	struct slot slots[MAX_DEPTH];
	unsigned n_slots;
	unsigned n_in_flight;
	unsigned cpu;
	uint64_t random;
	pthread_t thread;
};

static uint64_t next_random(uint64_t *state)
{
	*state += 1;
	return pattern_mix(*state, UINT64_C(0x6c6f6164));
}

static bool extent_take(struct disk *d, uint64_t *random, uint64_t *ret_idx)
{
	for (unsigned i = 0; i < PICK_TRIES; i++) {
		uint64_t r = next_random(random);
		uint64_t idx = r % 3 == 0 ? (r >> 8) % HOT_EXTENTS : (r >> 8) % d->n_extents;

		if (!atomic_exchange(&d->extents[idx], true)) {
			*ret_idx = idx;
			return true;
		}
	}
	return false;
}

static void extent_drop(struct disk *d, uint64_t idx)
{
	atomic_store(&d->extents[idx], false);
}

/* A range in an extent: mostly one block, sometimes all of it. */
static void pick_range(uint64_t *random, uint64_t extent_idx, uint64_t *ret_block, uint64_t *ret_n)
{
	uint64_t r = next_random(random);
	uint64_t n = r % 10 < 6 ? 1 : r % 10 < 9 ? 2 + (r >> 8) % 7 : 9 + (r >> 8) % 24;

	*ret_n = n;
	*ret_block = extent_idx * EXTENT_BLOCKS + (r >> 32) % (EXTENT_BLOCKS - n + 1);
}

static void slot_send_flush(struct sender *s, struct slot *slot, struct io_uring_sqe *sqe)
{
	slot->kind = REQUEST_FLUSH;
	slot->seq = atomic_load(&s->disk->model.ack_seq);
	io_uring_prep_fsync(sqe, s->disk->fd, IORING_FSYNC_DATASYNC);
}

static void slot_send_rw(struct sender *s, struct slot *slot, struct io_uring_sqe *sqe)
{
	struct disk *d = s->disk;
	unsigned len;
	uint64_t offset;

	slot->kind = next_random(&s->random) % 2 ? REQUEST_WRITE : REQUEST_READ;
	pick_range(&s->random, slot->extent_idx, &slot->block_idx, &slot->n_blocks);
	len = (unsigned)slot->n_blocks * PATTERN_BLOCK_LEN;
	offset = slot->block_idx * PATTERN_BLOCK_LEN;
	if (slot->kind == REQUEST_READ) {
		/* What is not overwritten by the disk must not look right. */
		for (unsigned i = 0; i < len; i += PATTERN_SECTOR_LEN)
			slot->buf[i] = 0xa5;
		io_uring_prep_read(sqe, d->fd, slot->buf, len, offset);
		return;
	}
	slot->gen = atomic_fetch_add(&d->model.gen, 1) + 1;
	for (uint64_t i = 0; i < slot->n_blocks; i++)
		pattern_fill(slot->buf + i * PATTERN_BLOCK_LEN, d->spec.seed, slot->block_idx + i,
			     slot->gen);
	io_uring_prep_write(sqe, d->fd, slot->buf, len, offset);
}

static bool slot_send(struct sender *s, struct slot *slot)
{
	bool flush = next_random(&s->random) % 24 == 0;
	struct io_uring_sqe *sqe;

	if (!flush && !extent_take(s->disk, &s->random, &slot->extent_idx))
		return false;
	sqe = io_uring_get_sqe(&s->ring);
	if (!sqe) {
		if (!flush)
			extent_drop(s->disk, slot->extent_idx);
		return false;
	}
	if (flush)
		slot_send_flush(s, slot, sqe);
	else
		slot_send_rw(s, slot, sqe);
	io_uring_sqe_set_data(sqe, slot);
	slot->busy = true;
	slot->sent_ns = now_ns();
	s->n_in_flight++;
	return true;
}

static void check_blocks(struct disk *d, uint64_t block_idx, uint64_t n, const uint8_t *buf)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t expected = d->model.blocks[block_idx + i].gen;
		enum verdict v = model_check(&d->model, block_idx + i, buf + i * PATTERN_BLOCK_LEN);

		if (v != VERDICT_GOOD)
			report_complain(d->report, "block %llu is %s (generation %llu expected)",
					(unsigned long long)(block_idx + i), verdict_to_string(v),
					(unsigned long long)expected);
	}
}

static void slot_failed(struct sender *s, struct slot *slot, int res)
{
	struct disk *d = s->disk;

	atomic_fetch_add(&d->report->n_errors, 1);
	report_complain(d->report, "request of kind %d at block %llu, %llu blocks, gave %d",
			(int)slot->kind, (unsigned long long)slot->block_idx,
			(unsigned long long)slot->n_blocks, res);
	if (slot->kind == REQUEST_WRITE)
		model_acked(&d->model, slot->block_idx, slot->n_blocks, BLOCK_UNKNOWN, 0);
}

static void slot_complete(struct sender *s, struct slot *slot, int res)
{
	struct disk *d = s->disk;
	int expected = slot->kind == REQUEST_FLUSH ? 0 : (int)slot->n_blocks * PATTERN_BLOCK_LEN;

	report_done(d->report, slot->sent_ns);
	if (res != expected) {
		slot_failed(s, slot, res);
	} else if (slot->kind == REQUEST_READ) {
		atomic_fetch_add(&d->report->n_reads, 1);
		check_blocks(d, slot->block_idx, slot->n_blocks, slot->buf);
	} else if (slot->kind == REQUEST_WRITE) {
		atomic_fetch_add(&d->report->n_writes, 1);
		model_acked(&d->model, slot->block_idx, slot->n_blocks, BLOCK_DATA, slot->gen);
	} else {
		atomic_fetch_add(&d->report->n_flushes, 1);
		model_flushed(&d->model, slot->seq);
	}
	if (slot->kind != REQUEST_FLUSH)
		extent_drop(d, slot->extent_idx);
	slot->busy = false;
	s->n_in_flight--;
}

static void sender_fill(struct sender *s)
{
	for (unsigned i = 0; i < s->n_slots; i++)
		if (!s->slots[i].busy && !slot_send(s, &s->slots[i]))
			return;
}

static void sender_reap(struct sender *s)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&s->ring, &cqe) == 0) {
		slot_complete(s, io_uring_cqe_get_data(cqe), cqe->res);
		io_uring_cqe_seen(&s->ring, cqe);
	}
}

static void pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof(set),
				&set); /* fewer CPUs: fewer queues, and the report says so */
}

static void sender_run(struct sender *s)
{
	for (;;) {
		int r;

		if (!atomic_load(&s->disk->report->stop))
			sender_fill(s);
		else if (s->n_in_flight == 0)
			return;
		if (s->n_in_flight == 0) {
			usleep(100); /* every extent is someone else's */
			continue;
		}
		r = io_uring_submit_and_wait(&s->ring, 1);
		if (r < 0 && r != -EINTR && r != -EBUSY && r != -EAGAIN) {
			atomic_fetch_add(&s->disk->report->n_errors, 1);
			report_complain(s->disk->report, "io_uring_enter gave %d", r);
			return;
		}
		sender_reap(s);
	}
}

static void *sender_main(void *userdata)
{
	struct sender *s = userdata;

	pin(s->cpu);
	sender_run(s);
	atomic_fetch_sub(&s->disk->report->n_running, 1);
	return NULL;
}

static int sender_start(struct sender *s, struct disk *d, unsigned idx)
{
	int r;

	s->disk = d;
	s->n_slots = d->spec.depth / d->spec.threads;
	s->cpu = idx;
	s->random = pattern_mix(d->spec.seed, idx + 1);
	for (unsigned i = 0; i < s->n_slots; i++) {
		s->slots[i].buf = aligned_alloc(PATTERN_BLOCK_LEN, EXTENT_LEN);
		if (!s->slots[i].buf)
			return -ENOMEM;
	}
	r = io_uring_queue_init(s->n_slots, &s->ring, 0);
	if (r < 0)
		return r;
	return -pthread_create(&s->thread, NULL, sender_main, s);
}

static void sender_done(struct sender *s)
{
	for (unsigned i = 0; i < s->n_slots; i++)
		free(s->slots[i].buf);
	if (s->ring.ring_fd > 0)
		io_uring_queue_exit(&s->ring);
}

/* Discards and write-zeroes: how, and what is there afterwards. */
struct trim {
	const char *name;
	enum block_state state;
	unsigned long block_ioctl; /* 0: by fallocate on block devices too */
	int falloc_mode;
	bool unsupported;
};

static int trim_do(struct disk *d, const struct trim *t, uint64_t block_idx, uint64_t n)
{
	uint64_t range[2] = { block_idx * PATTERN_BLOCK_LEN, n * PATTERN_BLOCK_LEN };

	if (t->block_ioctl && !d->is_file)
		return ioctl(d->fd, t->block_ioctl, range) < 0 ? -errno : 0;
	return fallocate(d->fd, t->falloc_mode, (off_t)range[0], (off_t)range[1]) < 0 ? -errno : 0;
}

static void trim_one(struct disk *d, struct trim *t, uint64_t *random)
{
	uint64_t extent_idx, block_idx, n, sent_ns = now_ns();
	int r;

	if (t->unsupported || !extent_take(d, random, &extent_idx))
		return;
	pick_range(random, extent_idx, &block_idx, &n);
	r = trim_do(d, t, block_idx, n);
	if (r == -EOPNOTSUPP) {
		t->unsupported = true;
		atomic_fetch_add(&d->report->n_unsupported, 1);
	} else if (r < 0) {
		atomic_fetch_add(&d->report->n_errors, 1);
		report_complain(d->report, "%s at block %llu gave %d", t->name,
				(unsigned long long)block_idx, r);
		model_acked(&d->model, block_idx, n, BLOCK_UNKNOWN, 0);
	} else {
		report_done(d->report, sent_ns);
		atomic_fetch_add(t->state == BLOCK_EITHER ? &d->report->n_discards
							  : &d->report->n_zeroes,
				 1);
		model_acked(&d->model, block_idx, n, t->state, 0);
	}
	extent_drop(d, extent_idx);
}

static void *trimmer_main(void *userdata)
{
	struct disk *d = userdata;
	const int keep = FALLOC_FL_KEEP_SIZE;
	struct trim trims[] = {
		{ "discard", BLOCK_EITHER, BLKDISCARD, FALLOC_FL_PUNCH_HOLE | keep, false },
		{ "write-zeroes", BLOCK_ZERO, BLKZEROOUT, FALLOC_FL_ZERO_RANGE | keep, false },
		{ "write-zeroes with unmap", BLOCK_ZERO, 0, FALLOC_FL_PUNCH_HOLE | keep, false },
	};
	uint64_t random = pattern_mix(d->spec.seed, UINT64_C(0x7472696d));

	while (!atomic_load(&d->report->stop)) {
		uint64_t r = next_random(&random);

		trim_one(d, &trims[r % 3], &random);
		usleep(1000 + (useconds_t)((r >> 8) % 9000));
	}
	atomic_fetch_sub(&d->report->n_running, 1);
	return NULL;
}

static uint64_t count_mismatches(void *userdata)
{
	struct disk *d = userdata;

	return model_n_mismatches(&d->model);
}

int disk_load(struct disk *d)
{
	struct sender *senders = calloc(d->spec.threads, sizeof(*senders));
	pthread_t trimmer;
	unsigned n_started = 0;
	int r = senders ? 0 : -ENOMEM;

	atomic_store(&d->report->n_running, d->spec.threads + 1);
	for (; r == 0 && n_started < d->spec.threads; n_started++)
		r = sender_start(&senders[n_started], d, n_started);
	if (r == 0)
		r = -pthread_create(&trimmer, NULL, trimmer_main, d);
	if (r < 0)
		return r; /* the caller ends the program */
	if (!report_wait(d->report, count_mismatches, d) || !report_drain(d->report)) {
		d->stalled = true;
		return -ETIMEDOUT; /* as above: requests are stuck, nothing can be joined */
	}
	for (unsigned i = 0; i < n_started; i++) {
		pthread_join(senders[i].thread, NULL);
		sender_done(&senders[i]);
	}
	pthread_join(trimmer, NULL);
	free(senders);
	if (fdatasync(d->fd) < 0)
		return -errno;
	model_flushed(&d->model, atomic_load(&d->model.ack_seq));
	return 0;
}

int disk_verify(struct disk *d)
{
	uint8_t *buf = aligned_alloc(PATTERN_BLOCK_LEN, EXTENT_LEN);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t i = 0; r == 0 && i < d->n_extents; i++) {
		ssize_t n = pread(d->fd, buf, EXTENT_LEN, (off_t)(i * EXTENT_LEN));

		if (n == EXTENT_LEN)
			check_blocks(d, i * EXTENT_BLOCKS, EXTENT_BLOCKS, buf);
		else
			r = n < 0 ? -errno : -EIO;
	}
	free(buf);
	return r;
}

static int disk_measure(struct disk *d, uint64_t *ret_len)
{
	struct stat st;

	if (fstat(d->fd, &st) < 0)
		return -errno;
	d->is_file = S_ISREG(st.st_mode);
	if (d->is_file)
		*ret_len = (uint64_t)st.st_size;
	else if (ioctl(d->fd, BLKGETSIZE64, ret_len) < 0)
		return -errno;
	return 0;
}

int disk_open(struct disk *d, const struct disk_spec *spec, struct report *report)
{
	uint64_t len;
	int r;

	*d = (struct disk){ .spec = *spec, .report = report };
	if (spec->threads == 0 || spec->depth % spec->threads || spec->depth > MAX_DEPTH)
		return -EINVAL;
	d->fd = open(spec->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (d->fd < 0)
		return -errno;
	r = disk_measure(d, &len);
	if (r < 0)
		return r;
	if (spec->len && spec->len < len)
		len = spec->len;
	d->n_extents = len / EXTENT_LEN;
	if (d->n_extents < MIN_EXTENTS)
		return -ENOSPC;
	d->extents = calloc(d->n_extents, sizeof(*d->extents));
	if (!d->extents)
		return -ENOMEM;
	return model_init(&d->model, spec->seed, d->n_extents * EXTENT_BLOCKS);
}

void disk_close(struct disk *d)
{
	model_done(&d->model);
	free(d->extents);
	if (d->fd >= 0)
		close(d->fd);
}

int disk_result(struct disk *d)
{
	struct report_result result = {
		.kind = "load",
		.n_mismatches = model_n_mismatches(&d->model),
		.n_lost_flushed = atomic_load(&d->model.n_lost_flushed),
		.digest = model_digest(&d->model),
		.stalled = d->stalled,
	};
	char verdicts[256];
	size_t len = 0;

	for (unsigned v = VERDICT_GOOD + 1; v < _VERDICT_MAX; v++)
		len += (size_t)snprintf(verdicts + len, sizeof(verdicts) - len, "\"%s\":%llu,",
					verdict_to_string(v),
					(unsigned long long)d->model.n_verdicts[v]);
	for (uint64_t i = 0; i < d->model.n_blocks; i++)
		result.n_blocks += d->model.blocks[i].state == BLOCK_DATA;
	result.verdicts = verdicts;
	return report_result(d->report, &result);
}

int disk_examine(const char *path, uint64_t seed)
{
	FILE *f = fopen(path, "re");
	uint64_t digest = 0, n_whole = 0, n_bad = 0;
	static uint8_t buf[PATTERN_BLOCK_LEN] __attribute__((aligned(8)));

	if (!f) {
		perror(path);
		return 2;
	}
	for (uint64_t i = 0; fread(buf, sizeof(buf), 1, f) == 1; i++) {
		struct pattern p = pattern_read(buf, seed);

		if (p.kind == PATTERN_WHOLE && p.block == i) {
			digest += model_digest_of(i, p.gen);
			n_whole++;
		} else if (p.kind != PATTERN_ZERO) {
			n_bad++;
		}
	}
	fclose(f);
	printf("{\"digest\":\"%016llx\",\"blocks\":%llu,\"bad\":%llu}\n",
	       (unsigned long long)digest, (unsigned long long)n_whole, (unsigned long long)n_bad);
	return n_bad ? 1 : 0;
}
