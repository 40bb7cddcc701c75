/* Open files and directories of the guest. See handle.h. */
#include "devices/fs/handle.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "devices/base/crash.h"
#include "devices/base/scope.h"
#include "devices/base/touch.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/host.h"

enum { WORD_BITS = 64 };

/* Private to this worker, one for each index. */
struct handle_use {
	struct handle handle; /* first: what requests are given; set by the first of them */
	uint32_t in_use;      /* requests between get and put */
	bool released;	      /* the last of them closes it */
};

struct handles {
	pthread_mutex_t lock;
	struct handle_table *table; /* in the store */
	uint32_t max, n;
	uint32_t first_free; /* no free index is in a word of taken[] below this */
	uint64_t taken[HANDLE_MAX / WORD_BITS];
	struct handle_use use[HANDLE_MAX];
};

static void unlock_cleanup(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

static pthread_mutex_t *lock(struct handles *s)
{
	pthread_mutex_lock(&s->lock);
	return &s->lock;
}

/* To the end of the block. */
#define LOCKED(s)                                                                                  \
	__attribute__((cleanup(unlock_cleanup), unused)) pthread_mutex_t *locked_ = lock(s)

static int fd_load(const struct handle_entry *e)
{
	return __atomic_load_n(&e->fd, __ATOMIC_ACQUIRE);
}

static uint64_t fh_of(const struct handles *s, uint32_t index)
{
	return (uint64_t)s->table->entry[index].generation << 32 | index;
}

static int take_stock(struct fs *fs)
{
	struct handles *s = fs->handles;
	uint32_t high = s->table->high;

	if (high > HANDLE_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < high; i++) {
		const struct handle_entry *e = &s->table->entry[i];
		int fd = fd_load(e);

		if (fd == 0)
			continue;
		if ((e->kind != HANDLE_FILE && e->kind != HANDLE_DIRECTORY) ||
		    !inode_claim_fd(fs, fd))
			return -EBADMSG;
		s->taken[i / WORD_BITS] |= UINT64_C(1) << i % WORD_BITS;
		s->n++;
	}
	return 0;
}

/* A third of what is left beside a session and the worker's own: inode.c has the rest. */
static uint32_t handles_allowed(void)
{
	struct rlimit limit;
	uint64_t n;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		limit.rlim_cur = CONTRACT_FD_LIMIT;
	if (limit.rlim_cur > 2 * CONTRACT_FD_LIMIT)
		n = (limit.rlim_cur - CONTRACT_FD_LIMIT) / 3;
	else
		n = limit.rlim_cur / 4;
	return n < HANDLE_MAX ? (uint32_t)n : HANDLE_MAX;
}

int handle_prepare(struct fs *fs)
{
	struct handles *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	fs->handles = s;
	pthread_mutex_init(&s->lock, NULL);
	s->max = handles_allowed();
	/* What the first few take. */
	touch(s->taken, TOUCH_PAGE);
	touch(s->use, TOUCH_PAGE);
	return 0;
}

int handle_init(struct fs *fs)
{
	fs->handles->table = &fs->store->handles;
	return take_stock(fs);
}

/* Locked. The index of a handle that is open; HANDLE_MAX: none. */
static uint32_t find(const struct handles *s, uint64_t fh, enum handle_kind kind)
{
	uint32_t index = (uint32_t)fh;

	if (index >= s->table->high || fd_load(&s->table->entry[index]) == 0 ||
	    fh_of(s, index) != fh || s->table->entry[index].kind != (uint32_t)kind)
		return HANDLE_MAX;
	return index;
}

/* Locked. The lowest free index; HANDLE_MAX: none. */
static uint32_t take_free(struct handles *s)
{
	uint32_t index;

	if (s->n >= s->max)
		return HANDLE_MAX;
	while (s->first_free < HANDLE_MAX / WORD_BITS && s->taken[s->first_free] == UINT64_MAX)
		s->first_free++;
	if (s->first_free == HANDLE_MAX / WORD_BITS)
		return HANDLE_MAX;
	index = s->first_free * WORD_BITS + (uint32_t)__builtin_ctzll(~s->taken[s->first_free]);
	s->taken[s->first_free] |= UINT64_C(1) << index % WORD_BITS;
	s->n++;
	return index;
}

/* Locked. */
static void give_free(struct handles *s, uint32_t index)
{
	s->taken[index / WORD_BITS] &= ~(UINT64_C(1) << index % WORD_BITS);
	s->n--;
	if (index / WORD_BITS < s->first_free)
		s->first_free = index / WORD_BITS;
}

int handle_open(struct request *rq, int fd, enum handle_kind kind, uint32_t flags, uint64_t nodeid,
		uint64_t *ret_fh)
{
	struct handles *s = rq->fs->handles;
	host_fd int own = fd;
	LOCKED(s);
	uint32_t index = take_free(s);
	struct handle_entry *e = &s->table->entry[index];

	if (index == HANDLE_MAX)
		return -ENFILE;
	if (index >= s->table->high)
		__atomic_store_n(&s->table->high, index + 1, __ATOMIC_RELEASE);
	*e = (struct handle_entry){
		.generation = e->generation + 1,
		.kind = kind,
		.flags = flags,
		.nodeid = nodeid,
	};
	CRASH_POINT("fs.handle.written");
	journal_append(rq, JOURNAL_HANDLE, fh_of(s, index));
	CRASH_POINT("fs.handle.item");
	__atomic_store_n(&e->fd, take_fd(&own), __ATOMIC_RELEASE);
	CRASH_POINT("fs.handle.open");
	*ret_fh = fh_of(s, index);
	return 0;
}

bool handle_found(struct request *rq, uint64_t *ret_fh)
{
	struct handles *s = rq->fs->handles;
	uint64_t fh;

	if (!journal_find(rq, JOURNAL_HANDLE, &fh))
		return false;
	LOCKED(s);
	if (find(s, fh, HANDLE_FILE) == HANDLE_MAX && find(s, fh, HANDLE_DIRECTORY) == HANDLE_MAX)
		return false;
	*ret_fh = fh;
	return true;
}

const struct handle *handle_get(struct fs *fs, uint64_t fh, enum handle_kind kind)
{
	struct handles *s = fs->handles;
	LOCKED(s);
	uint32_t index = find(s, fh, kind);
	const struct handle_entry *e;
	struct handle_use *use;

	if (index == HANDLE_MAX)
		return NULL;
	e = &s->table->entry[index];
	use = &s->use[index];
	if (use->in_use++ == 0)
		use->handle = (struct handle){
			.fd = fd_load(e),
			.kind = kind,
			.flags = e->flags,
			.nodeid = e->nodeid,
		};
	return &use->handle;
}

void handle_put(struct fs *fs, const struct handle *h)
{
	struct handles *s = fs->handles;
	host_fd int fd = -1;
	LOCKED(s);
	uint32_t index = (uint32_t)((const struct handle_use *)(const void *)h - s->use);
	struct handle_use *use = &s->use[index];

	assert(use->in_use > 0);
	if (--use->in_use > 0 || !use->released)
		return;
	fd = use->handle.fd;
	use->released = false;
	give_free(s, index);
}

/* Locked. The descriptor to be closed, or -1. */
static int detach(struct handles *s, uint32_t index)
{
	struct handle_entry *e = &s->table->entry[index];
	int fd = fd_load(e);

	__atomic_store_n(&e->fd, 0, __ATOMIC_RELEASE);
	CRASH_POINT("fs.handle.released");
	if (s->use[index].in_use > 0) {
		s->use[index].released = true;
		return -1;
	}
	give_free(s, index);
	return fd;
}

void handle_release(struct request *rq, uint64_t fh, enum handle_kind kind)
{
	struct handles *s = rq->fs->handles;
	host_fd int fd = -1;
	LOCKED(s);
	uint32_t index = find(s, fh, kind);

	if (index != HANDLE_MAX)
		fd = detach(s, index);
}

void handle_for_each_fd(struct fs *fs, void (*found)(int fd, void *arg), void *arg)
{
	const struct handle_table *t = fs->handles->table;

	for (uint32_t i = 0; i < t->high; i++) {
		int fd = fd_load(&t->entry[i]);

		if (fd != 0)
			found(fd, arg);
	}
}

static void release_one(struct handles *s, uint32_t index)
{
	host_fd int fd = -1;
	LOCKED(s);

	if (fd_load(&s->table->entry[index]) != 0)
		fd = detach(s, index);
}

void handle_release_all(struct fs *fs)
{
	uint32_t high = __atomic_load_n(&fs->handles->table->high, __ATOMIC_RELAXED);

	for (uint32_t i = 0; i < high; i++)
		release_one(fs->handles, i);
}
