/* Workers and tables of a file system device in a test. See fs-bench.h. */
#include "tests/unit/fs-bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/process/contract.h"
#include "tests/unit/unit.h"

static char dir[] = "/tmp/vmdev-fs-tables-XXXXXX";
const char *const names[N_FILES] = { "a", "b", "c", "made" };

struct store *store_new(void)
{
	struct store *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(s != MAP_FAILED);
	return s;
}

void store_free(struct store *s)
{
	munmap(s, sizeof(*s));
}

uint32_t fds_at_most;

/* As fs_create() does. */
int worker_start(struct worker *w, struct store *s)
{
	int r;

	/* Not all of it cleared: that is a hundred thousand instructions to be stepped through. */
	w->fs.inodes = NULL;
	w->fs.handles = NULL;
	w->fs.journals = NULL;
	w->fs.store = s;
	w->fs.proc_fd = PROC_FD;
	w->fs.n_threads = 1;
	w->thread.index = 0;
	w->thread.resumed = true;
	w->ring.index = 0;
	r = inode_prepare(&w->fs);
	if (r == 0)
		r = handle_prepare(&w->fs);
	if (r == 0)
		r = journal_prepare(&w->fs);
	if (r == 0)
		r = inode_init(&w->fs, ROOT_FD);
	if (r == 0 && fds_at_most > 0)
		w->fs.inodes->max_fds = fds_at_most;
	if (r == 0)
		r = handle_init(&w->fs);
	if (r == 0)
		r = journal_init(&w->fs);
	return r;
}

void worker_free(struct worker *w)
{
	if (w->fs.inodes)
		munmap(w->fs.inodes, sizeof(*w->fs.inodes));
	free(w->fs.handles);
	free(w->fs.journals);
}

struct request request_of(struct worker *w, uint64_t tag, bool again)
{
	return (struct request){
		.fs = &w->fs, .thread = &w->thread, .ring = &w->ring, .tag = tag, .again = again
	};
}

void published(struct worker *w)
{
	journal_published(&w->fs, &w->thread, NULL);
}

struct inode *root(struct worker *w)
{
	struct inode *i = inode_get(&w->fs, FUSE_ROOT_ID);

	assert_non_null(i);
	return i;
}

void touch(const char *name)
{
	int fd = openat(ROOT_FD, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

void fill_dir(void)
{
	for (uint32_t i = 0; i < N_FILES; i++)
		touch(names[i]);
}

static int remove_tree(const char *path)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf '%s'", path);
	return system(command);
}

int bench_group_setup(void **state)
{
	struct rlimit limit;

	if (!mkdtemp(dir))
		return -1;
	/* Large memory comes from the kernel, cleared: clearing it here would be stepped through. */
	mallopt(M_MMAP_THRESHOLD, 64 << 10);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	/* Descriptors of the tables are the session's: nothing free is left below. */
	for (int fd = open("/dev/null", O_RDWR); fd >= 0 && fd < CONTRACT_FD_SESSION;)
		fd = dup(fd);
	return 0;
}

int bench_group_teardown(void **state)
{
	return remove_tree(dir);
}

int bench_setup(void **state)
{
	int fd;

	fds_at_most = 0;
	close_range(CONTRACT_FD_SESSION, ~0u, 0);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -1;
	fd = open(dir, O_PATH | O_DIRECTORY);
	if (fd < 0 || fd_move(fd, ROOT_FD, false) < 0)
		return -1;
	fd = open("/proc/self/fd", O_PATH | O_DIRECTORY);
	return fd < 0 || fd_move(fd, PROC_FD, false) < 0 ? -1 : 0;
}

int bench_teardown(void **state)
{
	close_range(CONTRACT_FD_SESSION, ~0u, 0);
	return remove_tree(dir);
}

struct worker alone;

void alone_start(void)
{
	fill_dir();
	assert_int_equal(worker_start(&alone, store_new()), 0);
}

void alone_stop(void)
{
	store_free(alone.fs.store);
	worker_free(&alone);
}

void alone_again(void)
{
	struct store *s = alone.fs.store;

	worker_free(&alone);
	assert_int_equal(worker_start(&alone, s), 0);
}

uint64_t next_tag = 1;

uint64_t look_up(struct inode *parent, const char *name, struct statx *ret)
{
	struct request rq = request_of(&alone, next_tag++, false);
	struct inode *i;
	uint64_t id;

	journal_begin(&rq);
	assert_int_equal(inode_look_up(&rq, parent, name, &i, ret), 0);
	id = inode_id(&alone.fs, i);
	inode_put(&alone.fs, i);
	published(&alone);
	return id;
}

uint64_t look_up_in_root(const char *name)
{
	struct inode *r = root(&alone);
	struct statx st;
	uint64_t id = look_up(r, name, &st);

	inode_put(&alone.fs, r);
	return id;
}

void forget(uint64_t nodeid, uint64_t n)
{
	struct request rq = request_of(&alone, next_tag++, false);

	journal_begin(&rq);
	inode_forget(&rq, nodeid, n);
	published(&alone);
}

uint32_t n_open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	uint32_t n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += atoi(e->d_name) >= CONTRACT_FD_SESSION;
	closedir(d);
	return n - 1; /* d's own */
}

uint64_t open_null(void)
{
	struct request rq = request_of(&alone, next_tag++, false);
	uint64_t fh;

	journal_begin(&rq);
	assert_int_equal(
		handle_open(&rq, open("/dev/null", O_RDONLY), HANDLE_FILE, O_RDONLY, 1, &fh), 0);
	published(&alone);
	return fh;
}

void release(uint64_t fh, enum handle_kind kind)
{
	struct request rq = request_of(&alone, next_tag++, false);

	handle_release(&rq, fh, kind);
}

struct inode *tree_get(uint64_t id)
{
	struct inode *i = inode_get(&alone.fs, id);

	assert_non_null(i);
	return i;
}

void tree_name(char *buf, size_t len, uint32_t n)
{
	static const int longer[] = { INODE_HEAD_LEN - 1, INODE_HEAD_LEN, INODE_HEAD_LEN + 1, 255 };
	int used = snprintf(buf, len, "file%u", n);

	if (n % 4 == 2)
		snprintf(buf + used, len - (size_t)used, "%0*d",
			 longer[n / 4 % UNIT_N(longer)] - used, 0);
}

void tree_make(struct tree *t)
{
	char name[INODE_NAME_LEN], path[INODE_NAME_LEN + 16];

	alone_start();
	alone.fs.inodes->max_fds = FD_LIMIT;
	for (uint32_t d = 0; d < UNIT_N(t->sub); d++) {
		snprintf(name, sizeof(name), "sub%u", d);
		assert_int_equal(mkdirat(ROOT_FD, name, 0700), 0);
		t->sub[d] = look_up_in_root(name);
	}
	for (uint32_t n = 0; n < N_PARKED; n++) {
		struct inode *d = tree_get(t->sub[n % UNIT_N(t->sub)]);
		struct statx st;

		tree_name(name, sizeof(name), n);
		snprintf(path, sizeof(path), "sub%u/%s", (uint32_t)(n % UNIT_N(t->sub)), name);
		touch(path);
		t->file[n] = look_up(d, name, &st);
		t->ino[n] = st.stx_ino;
		inode_put(&alone.fs, d);
		assert_true(alone.fs.inodes->n_fds <= FD_LIMIT);
	}
}

uint64_t count_of(struct worker *w, const char *name)
{
	struct inode *i;
	struct statx st;
	uint64_t count;

	assert_int_equal(statx(ROOT_FD, name, AT_SYMLINK_NOFOLLOW, ATTR_STATX_MASK, &st), 0);
	i = inode_find(&w->fs, &st);
	if (!i)
		return 0;
	count = word_count(inode_load(w->fs.inodes, inode_index(w->fs.inodes, i)));
	inode_put(&w->fs, i);
	return count;
}
