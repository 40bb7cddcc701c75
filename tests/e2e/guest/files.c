/*
 * The file load: see files.h.
 *
 * Runs in: the test guest.
 * Trusts:  nothing that comes from the disk.
 *
 * Every thread has a directory and a few files of its own and knows, block by block, what they must
 * hold (pattern.h: the block number carries the file's). Writes and reads pass the page cache by
 * O_DIRECT, so that every check asks the disk; what the file system itself keeps goes through its
 * journal.
 */
#include "tests/e2e/guest/files.h"
#include "tests/e2e/guest/pattern.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FILES_PER_THREAD = 6,
	FILE_BLOCKS = 128,
	CHUNK_BLOCKS = 16,
	MAX_THREADS = 16,
	PATH_LEN = 256,
};

struct file {
	char path[PATH_LEN];
	uint64_t number;
	uint64_t gens[FILE_BLOCKS];
	unsigned n_blocks; /* 0: there is no file */
};

struct writer {
	const struct files_spec *spec;
	struct report *report;
	atomic_uint_fast64_t *n_mismatches;
	struct file files[FILES_PER_THREAD];
	char scratch[PATH_LEN];
	uint64_t random, gen;
	uint8_t *buf;
	pthread_t thread;
};

static unsigned pick(struct writer *w, unsigned n)
{
	w->random++;
	return (unsigned)(pattern_mix(w->random, w->spec->seed) % n);
}

static void failed(struct writer *w, const char *what, const struct file *f)
{
	atomic_fetch_add(&w->report->n_errors, 1);
	report_complain(w->report, "%s %s: %s", what, f->path, strerror(errno));
}

static bool write_chunk(struct writer *w, struct file *f, int fd, unsigned first, unsigned n)
{
	uint64_t sent_ns;
	size_t len = (size_t)n * PATTERN_BLOCK_LEN;

	w->gen++;
	for (unsigned i = 0; i < n; i++)
		pattern_fill(w->buf + i * PATTERN_BLOCK_LEN, w->spec->seed,
			     f->number << 32 | (first + i), w->gen);
	sent_ns = now_ns();
	errno = EIO;
	if (pwrite(fd, w->buf, len, (off_t)first * PATTERN_BLOCK_LEN) != (ssize_t)len) {
		failed(w, "write", f);
		return false;
	}
	report_done(w->report, sent_ns);
	atomic_fetch_add(&w->report->n_writes, 1);
	for (unsigned i = 0; i < n; i++)
		f->gens[first + i] = w->gen;
	return true;
}

static bool sync_file(struct writer *w, struct file *f, int fd)
{
	uint64_t sent_ns = now_ns();

	if (fsync(fd) < 0) {
		failed(w, "fsync", f);
		return false;
	}
	report_done(w->report, sent_ns);
	atomic_fetch_add(&w->report->n_flushes, 1);
	return true;
}

/* A new file beside the old one, written whole, synced, renamed over it. */
static void replace(struct writer *w, struct file *f)
{
	unsigned n_blocks = CHUNK_BLOCKS * (1 + pick(w, FILE_BLOCKS / CHUNK_BLOCKS));
	int fd = open(w->scratch, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	bool good = fd >= 0;

	if (!good)
		failed(w, "create", f);
	for (unsigned i = 0; good && i < n_blocks; i += CHUNK_BLOCKS)
		good = write_chunk(w, f, fd, i, CHUNK_BLOCKS);
	good = good && sync_file(w, f, fd);
	if (good && rename(w->scratch, f->path) < 0) {
		failed(w, "rename", f);
		good = false;
	}
	f->n_blocks = good ? n_blocks : 0;
	if (fd >= 0)
		close(fd);
}

static void overwrite(struct writer *w, struct file *f)
{
	unsigned n = 1 + pick(w, CHUNK_BLOCKS);
	int fd = open(f->path, O_RDWR | O_DIRECT | O_CLOEXEC);

	if (fd < 0) {
		failed(w, "open", f);
		return;
	}
	if (write_chunk(w, f, fd, pick(w, f->n_blocks - n + 1), n) && pick(w, 4) == 0)
		(void)sync_file(w, f, fd); /* counted there */
	close(fd);
}

static void check_chunk(struct writer *w, const struct file *f, unsigned first)
{
	for (unsigned i = 0; i < CHUNK_BLOCKS; i++) {
		struct pattern p = pattern_read(w->buf + i * PATTERN_BLOCK_LEN, w->spec->seed);

		if (p.kind == PATTERN_WHOLE && p.block == (f->number << 32 | (first + i)) &&
		    p.gen == f->gens[first + i])
			continue;
		atomic_fetch_add(w->n_mismatches, 1);
		report_complain(w->report, "%s: block %u is not what was written", f->path,
				first + i);
	}
}

static void verify(struct writer *w, const struct file *f)
{
	const ssize_t len = CHUNK_BLOCKS * PATTERN_BLOCK_LEN;
	int fd = open(f->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		failed(w, "open", f);
		return;
	}
	if (st.st_size != (off_t)f->n_blocks * PATTERN_BLOCK_LEN)
		atomic_fetch_add(w->n_mismatches, 1);
	for (unsigned i = 0; i < f->n_blocks; i += CHUNK_BLOCKS) {
		uint64_t sent_ns = now_ns();

		errno = EIO;
		if (pread(fd, w->buf, (size_t)len, (off_t)i * PATTERN_BLOCK_LEN) != len) {
			failed(w, "read", f);
			break;
		}
		report_done(w->report, sent_ns);
		atomic_fetch_add(&w->report->n_reads, 1);
		check_chunk(w, f, i);
	}
	close(fd);
}

static void step(struct writer *w)
{
	struct file *f = &w->files[pick(w, FILES_PER_THREAD)];
	unsigned what = pick(w, 16);

	if (f->n_blocks == 0 || what == 0) {
		replace(w, f);
	} else if (what == 1) {
		if (unlink(f->path) < 0)
			failed(w, "unlink", f);
		f->n_blocks = 0;
	} else if (what < 10) {
		overwrite(w, f);
	} else {
		verify(w, f);
	}
}

static void *writer_main(void *userdata)
{
	struct writer *w = userdata;

	while (!atomic_load(&w->report->stop))
		step(w);
	atomic_fetch_sub(&w->report->n_running, 1);
	return NULL;
}

static int writer_start(struct writer *w, const struct files_spec *spec, struct report *report,
			atomic_uint_fast64_t *n_mismatches, unsigned idx)
{
	char dir[PATH_LEN / 2];

	*w = (struct writer){ .spec = spec, .report = report, .n_mismatches = n_mismatches };
	w->random = pattern_mix(spec->seed, idx);
	w->buf = aligned_alloc(PATTERN_BLOCK_LEN, CHUNK_BLOCKS * PATTERN_BLOCK_LEN);
	snprintf(dir, sizeof(dir), "%s/%u", spec->dir, idx);
	if (!w->buf || mkdir(dir, 0700) < 0)
		return w->buf ? -errno : -ENOMEM;
	snprintf(w->scratch, sizeof(w->scratch), "%s/scratch", dir);
	for (unsigned i = 0; i < FILES_PER_THREAD; i++) {
		w->files[i].number = idx * FILES_PER_THREAD + i + 1;
		snprintf(w->files[i].path, PATH_LEN, "%s/%u", dir, i);
	}
	return -pthread_create(&w->thread, NULL, writer_main, w);
}

static int remount(const struct files_spec *spec)
{
	if (!spec->remount_dev)
		return 0;
	if (umount(spec->dir) < 0)
		return -errno;
	return mount(spec->remount_dev, spec->dir, "ext4", 0, NULL) < 0 ? -errno : 0;
}

static uint64_t get_mismatches(void *userdata)
{
	return atomic_load((atomic_uint_fast64_t *)userdata);
}

/* After the last write: the file system is mounted anew and every file is read. */
static void verify_all(struct writer *writers, const struct files_spec *spec, struct report *report)
{
	int r;

	for (unsigned i = 0; i < spec->threads; i++)
		pthread_join(writers[i].thread, NULL);
	r = remount(spec);
	if (r < 0) {
		atomic_fetch_add(&report->n_errors, 1);
		report_complain(report, "mounting %s again: %s", spec->dir, strerror(-r));
		return;
	}
	for (unsigned i = 0; i < spec->threads; i++)
		for (unsigned j = 0; j < FILES_PER_THREAD; j++)
			if (writers[i].files[j].n_blocks)
				verify(&writers[i], &writers[i].files[j]);
}

int files_load(const struct files_spec *spec, struct report *report)
{
	static struct writer writers[MAX_THREADS];
	static atomic_uint_fast64_t n_mismatches;
	struct report_result result = { .kind = "files", .verdicts = "" };

	atomic_store(&report->n_running, spec->threads);
	for (unsigned i = 0; i < spec->threads; i++) {
		int r = writer_start(&writers[i], spec, report, &n_mismatches, i);

		if (r < 0) {
			printf("@wrong cannot start: %s\n", strerror(-r));
			return 2;
		}
	}
	result.stalled =
		!report_wait(report, get_mismatches, &n_mismatches) || !report_drain(report);
	if (!result.stalled)
		verify_all(writers, spec, report);
	result.n_mismatches = atomic_load(&n_mismatches);
	for (unsigned i = 0; i < spec->threads; i++)
		for (unsigned j = 0; j < FILES_PER_THREAD; j++)
			result.n_blocks += writers[i].files[j].n_blocks;
	return report_result(report, &result);
}
