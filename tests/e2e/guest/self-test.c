/*
 * The verifier put to the test: a disk (a file) is loaded, then damaged behind the load's back,
 * once in each way in which a disk can lose data, and the damage must be found and called by its
 * name; and nothing must be found on a disk that was not damaged.
 *
 * Runs in: the host.
 * Trusts:  its argument.
 */
#include "tests/e2e/guest/self-test.h"
#include "tests/e2e/guest/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FILE_LEN = 16 << 20, LOAD_SECONDS = 1 };

struct damage {
	const char *name;
	enum verdict expected;
	void (*make)(uint8_t *block, const struct disk *d, uint64_t block_idx);
};

static void make_nothing(uint8_t *block, const struct disk *d, uint64_t block_idx)
{
}

static void make_lost(uint8_t *block, const struct disk *d, uint64_t block_idx)
{
	memset(block, 0, PATTERN_BLOCK_LEN);
}

static void make_stale(uint8_t *block, const struct disk *d, uint64_t block_idx)
{
	pattern_fill(block, d->spec.seed, block_idx, d->model.blocks[block_idx].gen - 1);
}

static void make_future(uint8_t *block, const struct disk *d, uint64_t block_idx)
{
	pattern_fill(block, d->spec.seed, block_idx, d->model.blocks[block_idx].gen + 1);
}

static void make_misplaced(uint8_t *block, const struct disk *d, uint64_t block_idx)
{
	pattern_fill(block, d->spec.seed, block_idx + 1, d->model.blocks[block_idx].gen);
}

static void make_torn(uint8_t *block, const struct disk *d, uint64_t block_idx)
{
	uint8_t old[PATTERN_BLOCK_LEN] __attribute__((aligned(8)));

	make_stale(old, d, block_idx);
	memcpy(block + 7 * PATTERN_SECTOR_LEN, old + 7 * PATTERN_SECTOR_LEN, PATTERN_SECTOR_LEN);
}

static void make_hole(uint8_t *block, const struct disk *d, uint64_t block_idx)
{
	memset(block + PATTERN_SECTOR_LEN, 0, PATTERN_SECTOR_LEN);
}

static void make_flip(uint8_t *block, const struct disk *d, uint64_t block_idx)
{
	block[PATTERN_BLOCK_LEN - 1] ^= 0x10;
}

static void make_other_run(uint8_t *block, const struct disk *d, uint64_t block_idx)
{
	pattern_fill(block, d->spec.seed + 1, block_idx, d->model.blocks[block_idx].gen);
}

static const struct damage damages[] = {
	{ "none", VERDICT_GOOD, make_nothing },
	{ "a lost write", VERDICT_STALE, make_lost },
	{ "an older write", VERDICT_STALE, make_stale },
	{ "a write that was never acknowledged", VERDICT_UNWRITTEN, make_future },
	{ "another block's data", VERDICT_MISPLACED, make_misplaced },
	{ "one sector of an older write", VERDICT_TORN, make_torn },
	{ "one sector of zeroes", VERDICT_TORN, make_hole },
	{ "one wrong bit", VERDICT_GARBAGE, make_flip },
	{ "another run's data", VERDICT_GARBAGE, make_other_run },
};

/* A block that holds data of a generation with a predecessor. */
static uint64_t find_data_block(const struct disk *d)
{
	for (uint64_t i = d->model.n_blocks / 2; i < d->model.n_blocks; i++)
		if (d->model.blocks[i].state == BLOCK_DATA && d->model.blocks[i].gen > 1)
			return i;
	return 0;
}

static int damage_disk(struct disk *d, const struct damage *damage, uint64_t block_idx)
{
	static uint8_t block[PATTERN_BLOCK_LEN] __attribute__((aligned(PATTERN_BLOCK_LEN)));
	off_t offset = (off_t)(block_idx * PATTERN_BLOCK_LEN);

	if (pread(d->fd, block, sizeof(block), offset) != sizeof(block))
		return -EIO;
	damage->make(block, d, block_idx);
	return pwrite(d->fd, block, sizeof(block), offset) == sizeof(block) ? 0 : -EIO;
}

/* True when exactly this damage, and nothing else, was found. */
static bool found(struct disk *d, const struct damage *damage)
{
	uint64_t expected = damage->expected == VERDICT_GOOD ? 0 : 1;

	return model_n_mismatches(&d->model) == expected &&
	       atomic_load(&d->model.n_lost_flushed) == expected &&
	       (!expected || atomic_load(&d->model.n_verdicts[damage->expected]) == 1);
}

static int try_damage(const char *path, const struct damage *damage, unsigned number)
{
	static struct report report;
	static struct disk disk;
	const struct disk_spec spec = {
		.path = path, .seed = 7 + number, .depth = 32, .threads = 2
	};
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r = fd < 0 || ftruncate(fd, FILE_LEN) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	report_init(&report, LOAD_SECONDS, 60);
	if (r == 0)
		r = disk_open(&disk, &spec, &report);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(-r));
		return 2;
	}
	r = disk_load(&disk);
	if (r == 0)
		r = disk_verify(&disk); /* settles what was discarded */
	if (r == 0 && model_n_mismatches(&disk.model) == 0)
		r = damage_disk(&disk, damage, find_data_block(&disk));
	if (r == 0)
		r = disk_verify(&disk);
	r = r == 0 && report.n_errors == 0 && report_n_ios(&report) > 1000 && found(&disk, damage);
	printf("%s %u - %s is %s\n", r ? "ok" : "not ok", number, damage->name,
	       verdict_to_string(damage->expected));
	disk_close(&disk);
	return r ? 0 : 1;
}

int self_test(const char *path)
{
	const unsigned n = sizeof(damages) / sizeof(*damages);
	int status = 0;

	printf("1..%u\n", n);
	for (unsigned i = 0; i < n && status != 2; i++) {
		int r = try_damage(path, &damages[i], i + 1);

		status = r > status ? r : status;
	}
	unlink(path);
	return status;
}
