/*
 * The tree load: see tree.h.
 *
 * Every thread has a directory of its own and a model of it (tree-model.h), so that the result of each operation is known
 * beforehand: what must succeed must, and what must not (a second mkdir, an exclusive create of a name that is there, a lock
 * that another holds) must fail with the very error. An operation that is carried out twice, or not at all, shows at once or
 * at the next look. All threads together count under one lock (F_OFD_SETLKW) in one file: no increment may be lost.
 */
#include "tests/e2e/guest/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/e2e/guest/pattern.h"
#include "tests/e2e/guest/tree-model.h"

enum { MAX_THREADS = 16, PER_DIRECTORY = 500 };

struct gardener {
	const struct tree_spec *spec;
	struct report *report;
	atomic_uint_fast64_t *n_mismatches, *n_counted;
	struct tree_model model;
	uint64_t random;
	uint32_t gen;
	int counter; /* the common file */
	pthread_t thread;
};

/* Random choices and what goes wrong */

static unsigned pick(struct gardener *g, unsigned n)
{
	g->random++;
	return (unsigned)(pattern_mix(g->random, g->spec->seed) % n);
}

static void differs(struct gardener *g, const char *what, const char *path, const char *text)
{
	atomic_fetch_add(g->n_mismatches, 1);
	report_complain(g->report, "%s: %s: %s", what, path, text);
}

/* The outcome of a call: error is what must come of it, 0 for success. */
static bool expect(struct gardener *g, const char *what, const char *path, long result, int error,
		   uint64_t sent_ns)
{
	int got = result < 0 ? errno : 0;

	report_done(g->report, sent_ns);
	atomic_fetch_add(&g->report->n_writes, 1);
	if (got == error)
		return true;
	atomic_fetch_add(&g->report->n_errors, 1);
	report_complain(g->report, "%s %s: %s, not %s", what, path, strerror(got), strerror(error));
	return false;
}

static void look(struct gardener *g, const char *what, const struct model_file *f, const char *path,
		 int fd)
{
	char text[200];
	const char *wrong = tree_model_check(f, path, fd, text, sizeof(text));

	atomic_fetch_add(&g->report->n_reads, 1);
	if (wrong)
		differs(g, what, path ? path : "an open file", wrong);
}

/* Names */

static void name_set(struct gardener *g, unsigned name, struct model_file *f)
{
	struct model_file *old = g->model.names[name];

	if (f)
		tree_model_hold(f, true);
	g->model.names[name] = f;
	if (old)
		tree_model_drop(old, true);
}

static void make(struct gardener *g)
{
	static const mode_t types[] = { S_IFREG, S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO };
	unsigned name = pick(g, MODEL_NAMES);
	mode_t type = types[pick(g, 5)], mode = type == S_IFLNK ? 0777 : 0600 | pick(g, 0100);
	int error = g->model.names[name] ? EEXIST : 0;
	char path[MODEL_PATH_LEN], target[40];
	struct model_file *f;
	uint64_t sent = now_ns();
	long r;

	tree_model_path(&g->model, name, path);
	snprintf(target, sizeof(target), "to-%u", ++g->gen);
	if (type == S_IFDIR)
		r = mkdir(path, mode);
	else if (type == S_IFLNK)
		r = symlink(target, path);
	else if (type == S_IFIFO)
		r = mkfifo(path, mode);
	else
		r = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (!expect(g, "make", path, r, error, sent) || r < 0)
		return;
	if (type == S_IFREG)
		close((int)r);
	f = tree_model_make(&g->model, type, mode);
	if (type == S_IFLNK) {
		f->len = (uint32_t)strlen(target);
		memcpy(f->data, target, f->len);
	}
	name_set(g, name, f);
}

static void remove_name(struct gardener *g)
{
	unsigned name = pick(g, MODEL_NAMES);
	struct model_file *f = g->model.names[name];
	bool directory = f && f->type == S_IFDIR;
	char path[MODEL_PATH_LEN];
	uint64_t sent = now_ns();

	tree_model_path(&g->model, name, path);
	if (expect(g, "remove", path, directory ? rmdir(path) : unlink(path), f ? 0 : ENOENT,
		   sent) &&
	    f)
		name_set(g, name, NULL);
}

static int rename_error(const struct model_file *from, const struct model_file *to, unsigned flags)
{
	if (!from)
		return ENOENT;
	if (flags & RENAME_EXCHANGE)
		return to ? 0 : ENOENT;
	if (to && flags & RENAME_NOREPLACE)
		return EEXIST;
	if (to && to != from && from->type == S_IFDIR && to->type != S_IFDIR)
		return ENOTDIR;
	if (to && to != from && from->type != S_IFDIR && to->type == S_IFDIR)
		return EISDIR;
	return 0;
}

static void move(struct gardener *g)
{
	static const unsigned all_flags[] = { 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	unsigned a = pick(g, MODEL_NAMES), b = pick(g, MODEL_NAMES), flags = all_flags[pick(g, 4)];
	struct model_file *from = g->model.names[a], *to = g->model.names[b];
	char old[MODEL_PATH_LEN], new[MODEL_PATH_LEN];
	uint64_t sent = now_ns();
	long r;

	if (a == b)
		return;
	tree_model_path(&g->model, a, old);
	tree_model_path(&g->model, b, new);
	r = syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, flags);
	if (!expect(g, "rename", old, r, rename_error(from, to, flags), sent) || r < 0)
		return;
	if (flags & RENAME_EXCHANGE) {
		g->model.names[a] = to;
		g->model.names[b] = from;
	} else if (from != to) { /* two names of one file: nothing happens */
		name_set(g, b, from);
		name_set(g, a, NULL);
	}
}

static void add_link(struct gardener *g)
{
	unsigned a = pick(g, MODEL_NAMES), b = pick(g, MODEL_NAMES);
	struct model_file *from = g->model.names[a], *to = g->model.names[b];
	char old[MODEL_PATH_LEN], new[MODEL_PATH_LEN];
	int error = !from ? ENOENT : to ? EEXIST : from->type == S_IFDIR ? EPERM : 0;
	uint64_t sent = now_ns();
	long r;

	tree_model_path(&g->model, a, old);
	tree_model_path(&g->model, b, new);
	r = link(old, new);
	if (expect(g, "link", old, r, error, sent) && r == 0)
		name_set(g, b, from);
}

/* Open files */

static struct model_open *pick_open(struct gardener *g)
{
	struct model_open *o = &g->model.open[pick(g, MODEL_OPEN)];

	return o->fd < 0 ? NULL : o;
}

static void open_or_close(struct gardener *g)
{
	struct model_open *o = &g->model.open[pick(g, MODEL_OPEN)];
	unsigned name = pick(g, MODEL_NAMES);
	struct model_file *f = g->model.names[name];
	char path[MODEL_PATH_LEN];
	uint64_t sent = now_ns();

	if (o->fd >= 0) {
		look(g, "close", o->file, NULL, o->fd);
		expect(g, "close", "an open file", close(o->fd), 0, sent);
		tree_model_drop(o->file, false);
		o->fd = -1;
		return;
	}
	if (!f || f->type != S_IFREG)
		return;
	tree_model_path(&g->model, name, path);
	o->append = pick(g, 4) == 0;
	o->locked = false;
	o->fd = open(path, O_RDWR | O_CLOEXEC | (o->append ? O_APPEND : 0));
	if (!expect(g, "open", path, o->fd, 0, sent))
		return;
	o->file = f;
	tree_model_hold(f, false);
}

static void fill(struct gardener *g, uint8_t *p, uint32_t len)
{
	uint64_t word = pattern_mix(++g->gen, g->spec->seed);

	for (uint32_t i = 0; i < len; i++)
		p[i] = (uint8_t)(word >> (i % 8 * 8)) ^ (uint8_t)i;
}

static void write_some(struct gardener *g)
{
	struct model_open *o = pick_open(g);
	uint32_t at, len = 1 + pick(g, 6000);
	struct model_file *f;
	uint8_t data[6000];
	uint64_t sent;
	ssize_t n;

	if (!o)
		return;
	f = o->file;
	at = o->append ? f->len : pick(g, MODEL_MAX_LEN - 6000);
	if (at + len > MODEL_MAX_LEN)
		return;
	fill(g, data, len);
	sent = now_ns();
	n = o->append ? write(o->fd, data, len) : pwrite(o->fd, data, len, at);
	if (!expect(g, "write", "an open file", n, 0, sent))
		return;
	if (n != (ssize_t)len)
		differs(g, "write", "an open file", "was cut short");
	if (at > f->len)
		memset(f->data + f->len, 0, at - f->len);
	memcpy(f->data + at, data, len);
	f->len = at + len > f->len ? at + len : f->len;
	f->mtime_s = 0;
}

static void cut(struct gardener *g)
{
	struct model_open *o = pick_open(g);
	uint32_t len = pick(g, MODEL_MAX_LEN);
	uint64_t sent = now_ns();

	if (!o || !expect(g, "truncate", "an open file", ftruncate(o->fd, len), 0, sent))
		return;
	if (len > o->file->len)
		memset(o->file->data + o->file->len, 0, len - o->file->len);
	o->file->len = len;
	o->file->mtime_s = 0;
}

static void punch(struct gardener *g)
{
	struct model_open *o = pick_open(g);
	uint32_t at = pick(g, MODEL_MAX_LEN), len = 1 + pick(g, 8000), end;
	uint64_t sent = now_ns();

	if (!o ||
	    !expect(g, "punch", "an open file",
		    fallocate(o->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len), 0, sent))
		return;
	end = at + len < o->file->len ? at + len : o->file->len;
	if (at < end)
		memset(o->file->data + at, 0, end - at);
	o->file->mtime_s = 0;
}

static void sync_some(struct gardener *g)
{
	struct model_open *o = pick_open(g);
	uint64_t sent = now_ns();

	if (o && expect(g, "fsync", "an open file", fsync(o->fd), 0, sent))
		atomic_fetch_add(&g->report->n_flushes, 1);
}

static void map_and_write(struct gardener *g)
{
	struct model_open *o = pick_open(g);
	uint64_t sent = now_ns();
	uint8_t *p;

	if (!o || o->file->len < 4096)
		return;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, o->fd, 0);
	if (!expect(g, "mmap", "an open file", p == MAP_FAILED ? -1 : 0, 0, sent))
		return;
	if (memcmp(p, o->file->data, 4096) != 0)
		differs(g, "mmap", "an open file", "shows something else than was written");
	fill(g, o->file->data, 4096);
	memcpy(p, o->file->data, 4096);
	expect(g, "msync", "an open file", msync(p, 4096, MS_SYNC), 0, sent);
	munmap(p, 4096);
	o->file->mtime_s = 0;
}

/* Attributes */

static void change_attributes(struct gardener *g)
{
	unsigned name = pick(g, MODEL_NAMES);
	struct model_file *f = g->model.names[name];
	char path[MODEL_PATH_LEN];
	uint64_t sent = now_ns();
	mode_t mode = 0600 | pick(g, 0100);
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
				     { .tv_sec = 1 + pick(g, 1000000) } };

	if (!f || f->type == S_IFLNK)
		return;
	tree_model_path(&g->model, name, path);
	if (expect(g, "chmod", path, chmod(path, mode), 0, sent))
		f->mode = mode;
	if (f->type == S_IFREG &&
	    expect(g, "utimens", path, utimensat(AT_FDCWD, path, times, 0), 0, sent))
		f->mtime_s = (uint64_t)times[1].tv_sec;
}

static void change_value(struct gardener *g)
{
	static const int all_flags[] = { 0, XATTR_CREATE, XATTR_REPLACE };
	unsigned name = pick(g, MODEL_NAMES), kind = pick(g, 4);
	struct model_file *f = g->model.names[name];
	char path[MODEL_PATH_LEN], value[MODEL_VALUE_LEN];
	uint64_t sent = now_ns();
	int error;

	if (!f || f->type != S_IFREG)
		return;
	tree_model_path(&g->model, name, path);
	if (kind == 3) {
		error = f->value[0] ? 0 : ENODATA;
		if (expect(g, "removexattr", path, removexattr(path, "user.t"), error, sent))
			f->value[0] = '\0';
		return;
	}
	snprintf(value, sizeof(value), "v%u", ++g->gen);
	error = kind == 1 && f->value[0] ? EEXIST : kind == 2 && !f->value[0] ? ENODATA : 0;
	if (expect(g, "setxattr", path,
		   setxattr(path, "user.t", value, strlen(value), all_flags[kind]), error, sent) &&
	    error == 0)
		memcpy(f->value, value, sizeof(value));
}

/* Locks */

static int lock(int fd, int cmd, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET };

	return fcntl(fd, cmd, &l);
}

/* The common counter: read, add one and write under the lock that all threads wait for. */
static void count(struct gardener *g)
{
	uint64_t sent = now_ns(), n = 0;

	if (!expect(g, "lock", "the counter", lock(g->counter, F_OFD_SETLKW, F_WRLCK), 0, sent))
		return;
	if (pread(g->counter, &n, sizeof(n), 0) < 0 ||
	    (n++, pwrite(g->counter, &n, sizeof(n), 0)) != sizeof(n))
		expect(g, "count", "the counter", -1, 0, sent);
	else
		atomic_fetch_add(g->n_counted, 1);
	expect(g, "unlock", "the counter", lock(g->counter, F_OFD_SETLK, F_UNLCK), 0, sent);
}

/* A lock that one descriptor has had for long: a second one is refused it, a third after the release is not. */
static void try_lock(struct gardener *g)
{
	struct model_open *o = pick_open(g);
	char path[64];
	uint64_t sent = now_ns();
	int other;

	if (!o)
		return;
	for (unsigned i = 0; i < MODEL_OPEN; i++)
		if (&g->model.open[i] != o && g->model.open[i].fd >= 0 &&
		    g->model.open[i].file == o->file)
			return;
	if (!o->locked) {
		o->locked = expect(g, "lock", "an open file", lock(o->fd, F_OFD_SETLK, F_WRLCK), 0,
				   sent) &&
			    expect(g, "flock", "an open file", flock(o->fd, LOCK_EX | LOCK_NB), 0,
				   sent);
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", o->fd);
	other = open(path, O_RDWR | O_CLOEXEC);
	if (!expect(g, "open again", path, other, 0, sent))
		return;
	expect(g, "lock held", path, lock(other, F_OFD_SETLK, F_WRLCK), EAGAIN, sent);
	expect(g, "flock held", path, flock(other, LOCK_EX | LOCK_NB), EAGAIN, sent);
	if (pick(g, 4) == 0) {
		expect(g, "unlock", path, lock(o->fd, F_OFD_SETLK, F_UNLCK), 0, sent);
		expect(g, "unflock", path, flock(o->fd, LOCK_UN), 0, sent);
		o->locked = false;
		expect(g, "lock free", path, lock(other, F_OFD_SETLK, F_WRLCK), 0, sent);
		expect(g, "flock free", path, flock(other, LOCK_EX | LOCK_NB), 0, sent);
	}
	expect(g, "close", path, close(other), 0, sent);
}

/* Looking */

static void look_at_name(struct gardener *g)
{
	unsigned name = pick(g, MODEL_NAMES);
	struct model_file *f = g->model.names[name];
	char path[MODEL_PATH_LEN];
	struct stat st;

	tree_model_path(&g->model, name, path);
	if (f)
		look(g, "look", f, path, -1);
	else if (lstat(path, &st) == 0 || errno != ENOENT)
		differs(g, "look", path, "is there, and should not be");
}

static void look_at_open(struct gardener *g)
{
	struct model_open *o = pick_open(g);

	if (o)
		look(g, o->file->n_names ? "open" : "unlinked", o->file, NULL, o->fd);
}

static void list(struct gardener *g)
{
	bool seen[MODEL_NAMES] = { 0 };
	DIR *dir = opendir(g->model.dir);
	uint64_t sent = now_ns();
	unsigned name;
	char rest;

	if (!expect(g, "opendir", g->model.dir, dir ? 0 : -1, 0, sent))
		return;
	errno = 0;
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		if (sscanf(e->d_name, "n%u%c", &name, &rest) != 1 || name >= MODEL_NAMES)
			continue;
		if (seen[name] || !g->model.names[name])
			differs(g, "readdir", e->d_name,
				seen[name] ? "comes twice" : "should not be there");
		seen[name] = true;
	}
	expect(g, "readdir", g->model.dir, errno ? -1 : 0, 0, sent);
	closedir(dir);
	for (name = 0; name < MODEL_NAMES; name++)
		if (g->model.names[name] && !seen[name])
			differs(g, "readdir", g->model.dir, "a name is missing");
}

/* Life */

static void *work(void *arg)
{
	static void (*const operations[])(struct gardener *) = {
		make,
		make,
		make,
		remove_name,
		remove_name,
		move,
		move,
		add_link,
		cut,
		open_or_close,
		open_or_close,
		write_some,
		write_some,
		write_some,
		punch,
		count,
		sync_some,
		map_and_write,
		change_attributes,
		change_value,
		try_lock,
		try_lock,
		look_at_name,
		look_at_name,
		look_at_open,
		list,
	};
	struct gardener *g = arg;

	while (!atomic_load(&g->report->stop))
		operations[pick(g, sizeof(operations) / sizeof(*operations))](g);
	atomic_fetch_sub(&g->report->n_running, 1);
	return NULL;
}

/* Everything, once more; the sum of the digests. */
static uint64_t settle(struct gardener *g)
{
	uint64_t sum = 0;

	list(g);
	for (unsigned i = 0; i < MODEL_OPEN; i++)
		if (g->model.open[i].fd >= 0)
			look(g, "at the end", g->model.open[i].file, NULL, g->model.open[i].fd);
	for (unsigned i = 0; i < MODEL_NAMES; i++) {
		char path[MODEL_PATH_LEN];

		if (!g->model.names[i])
			continue;
		tree_model_path(&g->model, i, path);
		look(g, "at the end", g->model.names[i], path, -1);
		sum += tree_digest_model(g->model.names[i], path + strlen(g->spec->dir));
	}
	return sum;
}

static int begin(struct gardener *g, unsigned i)
{
	char path[MODEL_PATH_LEN];

	snprintf(g->model.dir, sizeof(g->model.dir), "%s/t%u", g->spec->dir, i);
	g->random = pattern_mix(i, g->spec->seed);
	for (unsigned k = 0; k < MODEL_OPEN; k++)
		g->model.open[k].fd = -1;
	snprintf(path, sizeof(path), "%s/counter", g->spec->dir);
	g->counter = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return g->counter < 0 || mkdir(g->model.dir, 0700) < 0 ? -errno : 0;
}

/* Inodes that the device must know all the time: the guest looks at each and keeps it in its cache. */
static int make_known(const struct tree_spec *spec)
{
	char path[MODEL_PATH_LEN];
	int fd;

	for (unsigned i = 0; i < spec->known; i++) {
		snprintf(path, sizeof(path), "%s/k%u", spec->dir, i / PER_DIRECTORY);
		if (i % PER_DIRECTORY == 0 && mkdir(path, 0755) < 0)
			return -errno;
		snprintf(path, sizeof(path), "%s/k%u/%u", spec->dir, i / PER_DIRECTORY, i);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0)
			return -errno;
		close(fd);
	}
	return 0;
}

static uint64_t mismatches(void *arg)
{
	return atomic_load((atomic_uint_fast64_t *)arg);
}

static uint64_t finish(struct gardener *gardeners, unsigned n, uint64_t counted)
{
	uint64_t sum = 0, value = 0;

	for (unsigned i = 0; i < n; i++)
		sum += settle(&gardeners[i]);
	if (pread(gardeners[0].counter, &value, sizeof(value), 0) < 0 || value != counted)
		differs(&gardeners[0], "at the end", "the counter",
			"increments were lost or came twice");
	return sum;
}

int tree_load(const struct tree_spec *spec, struct report *report)
{
	static struct gardener gardeners[MAX_THREADS];
	static atomic_uint_fast64_t n_mismatches, n_counted;
	struct report_result result = { .kind = "tree", .verdicts = "" };
	int r = make_known(spec);

	umask(0);
	for (unsigned i = 0; i < spec->threads && r == 0; i++) {
		gardeners[i] = (struct gardener){ .spec = spec,
						  .report = report,
						  .n_mismatches = &n_mismatches,
						  .n_counted = &n_counted };
		r = begin(&gardeners[i], i);
	}
	for (unsigned i = 0; i < spec->threads && r == 0; i++) {
		atomic_fetch_add(&report->n_running, 1);
		r = -pthread_create(&gardeners[i].thread, NULL, work, &gardeners[i]);
	}
	if (r < 0) {
		printf("@wrong cannot begin in %s: %s\n", spec->dir, strerror(-r));
		return 2;
	}
	if (!report_wait(report, mismatches, &n_mismatches) || !report_drain(report))
		result.stalled = true;
	else
		result.digest = finish(gardeners, spec->threads, atomic_load(&n_counted));
	result.n_mismatches = atomic_load(&n_mismatches);
	return result.stalled ? (report_result(report, &result), 3)
			      : report_result(report, &result);
}

/* The host */

static uint64_t examine_directory(const char *top, const char *name)
{
	char path[MODEL_PATH_LEN], inner[MODEL_PATH_LEN];
	uint64_t sum = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
		if (e->d_name[0] != 'n')
			continue;
		snprintf(inner, sizeof(inner), "%.100s/%.100s", path, e->d_name);
		sum += tree_digest_path(inner, inner + strlen(top));
	}
	if (dir)
		closedir(dir);
	return sum;
}

int tree_examine(const char *dir)
{
	uint64_t sum = 0;
	DIR *top = opendir(dir);

	if (!top)
		return 2;
	for (struct dirent *e; (e = readdir(top)) != NULL;)
		if (e->d_name[0] == 't')
			sum += examine_directory(dir, e->d_name);
	closedir(top);
	printf("{\"bad\":0,\"digest\":\"%016llx\"}\n", (unsigned long long)sum);
	return 0;
}
