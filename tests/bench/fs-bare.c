/*
 * The limit rows: what each row of frontend-bench-fs is to the host's kernel, by plain calls from this process.
 *
 * Runs in: frontend-bench-fs. Trusts: its caller.
 *
 *	lookup+getattr	    statx of a name, statx of a descriptor
 *	create+unlink	    openat, fstat, close, unlinkat
 *	reads, writes	    pread, pwrite
 *	readdirplus	    getdents64, statx of each name
 *
 * The buffers are as many as --depth says, in a memfd, used in turns: a guest has as many requests under way, and copies into what
 * the processor's cache no longer has cost a fifth more than into one and the same MiB.
 */
#include "tests/bench/fs.h"
#include "tests/frontend/fill.h"

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct bare {
	struct fs_bench *b;
	struct fill_random random;
	int dir, data;
	int inodes[FS_N_FILES];
	uint8_t *buffers, *buf; /* all, and whose turn it is */
	uint64_t offset, n;
};

static void name_of(uint64_t n, char *ret, size_t len)
{
	snprintf(ret, len, "f%05u", (unsigned)n);
}

static int open_in(const struct bare *x, const char *name, int flags)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", x->b->dir, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static void stat_at(int fd, const char *name, int flags)
{
	struct statx st;

	if (statx(fd, name, flags, STATX_BASIC_STATS, &st) < 0)
		err(1, "statx %s", name);
}

static uint64_t lookup_getattr(struct bare *x)
{
	uint64_t n = fill_below(&x->random, FS_N_FILES);
	char name[16];

	name_of(n, name, sizeof(name));
	stat_at(x->dir, name, AT_SYMLINK_NOFOLLOW);
	stat_at(x->inodes[n], "", AT_EMPTY_PATH);
	return 1;
}

static uint64_t create_unlink(struct bare *x)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "bare-%d-%lu", getpid(), x->n++);
	fd = openat(x->dir, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		err(1, "%s", name);
	stat_at(fd, "", AT_EMPTY_PATH);
	close(fd);
	unlinkat(x->dir, name, 0);
	return 1;
}

static void next_buffer(struct bare *x)
{
	x->buf = x->buffers + x->n++ % x->b->depth * FS_MIB;
}

static uint64_t read_random(struct bare *x)
{
	uint64_t at = fill_below(&x->random, x->b->data_len / FS_BLOCK) * FS_BLOCK;

	next_buffer(x);
	if (pread(x->data, x->buf, FS_BLOCK, (off_t)at) != FS_BLOCK)
		err(1, "pread");
	return 1;
}

static uint64_t next_offset(struct bare *x)
{
	uint64_t at = x->offset;

	x->offset = (at + FS_MIB) % x->b->data_len;
	return at;
}

static uint64_t read_sequential(struct bare *x)
{
	next_buffer(x);
	if (pread(x->data, x->buf, FS_MIB, (off_t)next_offset(x)) != FS_MIB)
		err(1, "pread");
	return 1;
}

static uint64_t write_sequential(struct bare *x)
{
	next_buffer(x);
	if (pwrite(x->data, x->buf, FS_MIB, (off_t)next_offset(x)) != FS_MIB)
		err(1, "pwrite");
	return 1;
}

static uint64_t list(struct bare *x)
{
	long n = syscall(SYS_getdents64, x->dir, x->buf, 32 << 10);
	uint64_t count = 0;

	if (n <= 0)
		lseek(x->dir, 0, SEEK_SET);
	for (long at = 0; at < n; count++) {
		uint16_t len;

		memcpy(&len, x->buf + at + 16, sizeof(len));
		stat_at(x->dir, (const char *)x->buf + at + 19, AT_SYMLINK_NOFOLLOW);
		at += len;
	}
	return count;
}

static const struct row {
	const char *name, *dir;
	uint64_t (*step)(struct bare *x);
} rows[] = {
	{ "lookup-getattr", "lookup", lookup_getattr },
	{ "create-unlink", "create", create_unlink },
	{ "read-4k-random", ".", read_random },
	{ "read-1m-sequential", ".", read_sequential },
	{ "write-1m-sequential", ".", write_sequential },
	{ "readdirplus-10000", "list", list },
};

static void prepare_buffers(struct bare *x)
{
	size_t len = (size_t)x->b->depth * FS_MIB;
	int fd = memfd_create("buffers", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)len) < 0)
		err(1, "memfd");
	x->buffers = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (x->buffers == MAP_FAILED)
		err(1, "mmap");
	close(fd);
	next_buffer(x);
}

static void prepare(struct bare *x, const struct row *row)
{
	char name[16];

	x->dir = open_in(x, row->dir, O_RDONLY | O_DIRECTORY);
	x->data = open_in(x, "data", O_RDWR);
	prepare_buffers(x);
	for (unsigned i = 0; row->step == lookup_getattr && i < FS_N_FILES; i++) {
		name_of(i, name, sizeof(name));
		x->inodes[i] = openat(x->dir, name, O_PATH | O_CLOEXEC);
		if (x->inodes[i] < 0)
			err(1, "%s", name);
	}
}

void fs_run_bare(struct fs_bench *b)
{
	static struct bare x;
	const struct row *row = rows;
	uint64_t now = measure_now_ns();

	x = (struct bare){ .b = b, .random.state = 42 };
	while (strcmp(row->name, b->row) != 0)
		if (++row == rows + sizeof(rows) / sizeof(*rows))
			errx(2, "no row %s", b->row);
	prepare(&x, row);
	b->m.pids[0] = getpid();
	do {
		uint64_t started = now;

		measure_count(&b->m, row->step(&x), started, now = measure_now_ns());
	} while (measure_goes_on(&b->m, now));
}
