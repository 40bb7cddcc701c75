/* Locks on files: GETLK, SETLK, SETLKW, INTERRUPT. See lock.h. */
#include "devices/fs/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/fd.h"
#include "devices/base/touch.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/host.h"
#include "devices/fs/operation.h"
#include "devices/process/contract.h"

enum {
	N_BUCKETS = 1024,
	MAX_WAITS = 4096, /* that are known: others are not looked at for deadlocks */
	MAX_CIRCLE = 16,  /* owners in one; Linux looks for 10 */
	NONE = LOCK_MAX,  /* no entry */
};

/*
 * Where to look in the table: private, made anew by each worker. The mutex guards it and the table.
 * n is also read without it: FLUSH and RELEASE of a guest that locks nothing must cost nothing.
 */
static struct {
	pthread_mutex_t mutex;
	uint32_t n;		   /* entries in use */
	uint16_t heads[N_BUCKETS]; /* by inode */
	uint16_t next[LOCK_MAX];   /* in the bucket, or in the list of free ones */
	uint16_t free;		   /* the first of those that have been used before */
} known = { .mutex = PTHREAD_MUTEX_INITIALIZER };

/*
 * Record locks that are waited for, as far as this worker has been asked. Private, under the same
 * mutex.
 */
struct wait {
	uint64_t tag; /* of the request */
	uint64_t nodeid, owner, fh;
	struct flock fl;
};
static struct wait waits[MAX_WAITS];
static uint32_t n_waits;

static uint32_t bucket_of(uint64_t nodeid)
{
	return (uint32_t)((nodeid * UINT64_C(0x9e3779b97f4a7c15)) >> 54);
}

static struct lock_entry *entry_at(struct fs *fs, uint32_t idx)
{
	return &fs->store->locks.entries[idx];
}

/*
 * The entry after idx (NONE: the first) in the bucket of nodeid that is one of nodeid's; or NONE.
 */
static uint32_t next_of(struct fs *fs, uint64_t nodeid, uint32_t idx)
{
	idx = idx == NONE ? known.heads[bucket_of(nodeid)] : known.next[idx];
	while (idx != NONE && entry_at(fs, idx)->nodeid != nodeid)
		idx = known.next[idx];
	return idx;
}

static uint32_t find(struct fs *fs, uint64_t nodeid, uint64_t owner)
{
	uint32_t idx = next_of(fs, nodeid, NONE);

	while (idx != NONE && entry_at(fs, idx)->owner != owner)
		idx = next_of(fs, nodeid, idx);
	return idx;
}

static void enter_bucket(struct fs *fs, uint32_t idx)
{
	uint16_t *head = &known.heads[bucket_of(entry_at(fs, idx)->nodeid)];

	known.next[idx] = *head;
	*head = (uint16_t)idx;
	__atomic_store_n(&known.n, known.n + 1, __ATOMIC_RELAXED);
}

/* A free one, or NONE. */
static uint32_t take_free(struct fs *fs)
{
	struct lock_table *t = &fs->store->locks;
	uint32_t idx = known.free;

	if (idx != NONE) {
		known.free = known.next[idx];
	} else if (t->high < LOCK_MAX) {
		idx = t->high;
		__atomic_store_n(&t->high, idx + 1, __ATOMIC_RELEASE);
	}
	return idx;
}

/* fd is the entry's from here on. NONE: the table is full. */
static uint32_t insert(struct fs *fs, const struct lock_entry *e)
{
	uint32_t idx = take_free(fs);
	struct lock_entry *to;

	if (idx == NONE)
		return NONE;
	to = entry_at(fs, idx);
	to->nodeid = e->nodeid;
	to->owner = e->owner;
	to->fh = e->fh;
	to->pid = e->pid;
	CRASH_POINT("fs.lock.opened");
	__atomic_store_n(&to->fd, e->fd, __ATOMIC_RELEASE);
	CRASH_POINT("fs.lock.entered");
	enter_bucket(fs, idx);
	return idx;
}

/*
 * The locks go first: closing alone would not do if we died over it, for a keeper that executes
 * itself leaves the dying worker a copy of the descriptor table, in which fd is open until that is
 * gone.
 */
static void drop(struct fs *fs, uint32_t idx)
{
	struct lock_entry *e = entry_at(fs, idx);
	uint16_t *link = &known.heads[bucket_of(e->nodeid)];
	struct flock all = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
	int fd = e->fd;

	(void)HOST(fcntl(fd, F_OFD_SETLK, &all));
	while (*link != idx)
		link = &known.next[*link];
	*link = known.next[idx];
	known.next[idx] = known.free;
	known.free = (uint16_t)idx;
	__atomic_store_n(&known.n, known.n - 1, __ATOMIC_RELAXED);
	__atomic_store_n(&e->fd, 0, __ATOMIC_RELEASE);
	CRASH_POINT("fs.lock.dropped");
	host_close(fd);
}

/* Attaching, and the whole table */

/*
 * An entry that a dead worker left: a regular file of ours that nothing else names, for a pair that
 * no other has.
 */
static bool entry_is_sound(struct fs *fs, const struct lock_entry *e)
{
	int fd = e->fd;
	struct stat st;

	return inode_claim_fd(fs, fd) && fd_stat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	       find(fs, e->nodeid, e->owner) == NONE;
}

void lock_prepare(void)
{
	n_waits = 0;
	known.n = 0;
	known.free = NONE;
	for (uint32_t i = 0; i < N_BUCKETS; i++)
		known.heads[i] = NONE;
	touch(known.next, sizeof(known.next));
}

int lock_init(struct fs *fs)
{
	uint32_t high = fs->store->locks.high;

	if (high > LOCK_MAX)
		return -EBADMSG;
	for (uint32_t i = high; i-- > 0;) {
		const struct lock_entry *e = entry_at(fs, i);

		if (e->fd == 0) {
			known.next[i] = known.free;
			known.free = (uint16_t)i;
			continue;
		}
		if (!entry_is_sound(fs, e))
			return -EBADMSG;
		enter_bucket(fs, i);
	}
	return 0;
}

void lock_release_all(struct fs *fs)
{
	HOST(pthread_mutex_lock(&known.mutex));
	for (uint32_t i = 0; i < fs->store->locks.high && known.n > 0; i++)
		if (entry_at(fs, i)->fd != 0)
			drop(fs, i);
	pthread_mutex_unlock(&known.mutex);
}

static bool none_held(void)
{
	return __atomic_load_n(&known.n, __ATOMIC_RELAXED) == 0;
}

void lock_release_owner(struct request *rq, uint64_t nodeid, uint64_t owner)
{
	uint32_t idx;

	if (none_held())
		return;
	HOST(pthread_mutex_lock(&known.mutex));
	idx = find(rq->fs, nodeid, owner);
	if (idx != NONE)
		drop(rq->fs, idx);
	pthread_mutex_unlock(&known.mutex);
	if (idx != NONE)
		request_retry_waiting(rq);
}

void lock_release_handle(struct request *rq, uint64_t nodeid, uint64_t fh)
{
	bool dropped = false;

	if (none_held())
		return;
	HOST(pthread_mutex_lock(&known.mutex));
	for (uint32_t idx = next_of(rq->fs, nodeid, NONE), next; idx != NONE; idx = next) {
		next = next_of(rq->fs, nodeid, idx);
		if (entry_at(rq->fs, idx)->fh != fh)
			continue;
		drop(rq->fs, idx);
		dropped = true;
	}
	pthread_mutex_unlock(&known.mutex);
	if (dropped)
		request_retry_waiting(rq);
}

/* Record locks */

/* What the guest says, as fcntl(2) takes it. 0 or -EINVAL. */
static int range_of(const struct fuse_file_lock *lk, struct flock *ret)
{
	if (lk->start > INT64_MAX || lk->end > INT64_MAX || lk->end < lk->start ||
	    (lk->type != F_RDLCK && lk->type != F_WRLCK && lk->type != F_UNLCK))
		return -EINVAL;
	*ret = (struct flock){ .l_type = (short)lk->type,
			       .l_whence = SEEK_SET,
			       .l_start = (off_t)lk->start,
			       .l_len = lk->end == INT64_MAX ? 0
							     : (off_t)(lk->end - lk->start + 1) };
	return 0;
}

static bool whole_file(const struct fuse_file_lock *lk)
{
	return lk->start == 0 && lk->end == INT64_MAX;
}

/* Would somebody's lock stand in the way of fl, taken through fd? Then fl says which. */
static bool conflicts(int fd, struct flock *fl)
{
	return HOST(fcntl(fd, F_OFD_GETLK, fl)) == 0 && fl->l_type != F_UNLCK;
}

/*
 * A descriptor for locks of this type, with no more access than they need: as long as a file is
 * open for writing the host can neither execute it nor have a lease on it.
 */
static int open_for_locks(struct fs *fs, uint64_t nodeid, short type)
{
	struct inode *i = inode_get(fs, nodeid);
	int fd;

	if (!i)
		return -EBADF;
	fd = inode_reopen(fs, i, type == F_RDLCK ? O_RDONLY : O_RDWR);
	if (fd < 0 && type == F_WRLCK)
		fd = inode_reopen(fs, i, O_WRONLY);
	inode_put(fs, i);
	return fd == -EMFILE || fd == -ENFILE ? -ENOLCK : fd;
}

/* What the kernel knows of a descriptor, its locks among it (proc(5), fdinfo). */
static int read_fdinfo(struct fs *fs, int fd, char *buf, size_t size)
{
	char name[32];
	host_fd int info = -1;
	size_t len = 0;
	ssize_t n;

	snprintf(name, sizeof(name), "../fdinfo/%d", fd);
	info = HOST(openat(fs->proc_fd, name, O_RDONLY | O_CLOEXEC));
	if (info < 0)
		return -errno;
	do {
		n = HOST(read(info, buf + len, size - 1 - len));
		len += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	buf[len] = '\0';
	/* Filled to the end: there may be more. */
	return n < 0 ? -errno : len == size - 1 ? -ENOLCK : 0;
}

/* "lock:	1: OFDLCK  ADVISORY  READ -1 fe:00:131 0 9", or EOF in place of the end. */
static bool read_lock_of(const char *line, struct flock *ret)
{
	long long start, last = INT64_MAX;

	if (sscanf(line, "lock: %*d: OFDLCK ADVISORY READ %*d %*s %lld %lld", &start, &last) < 1)
		return false;
	*ret = (struct flock){ .l_type = F_RDLCK,
			       .l_whence = SEEK_SET,
			       .l_start = start,
			       .l_len = last == INT64_MAX ? 0 : last - start + 1 };
	return true;
}

static int copy_read_locks(struct fs *fs, int from, int to)
{
	static char text[64 << 10]; /* some thousand locks; guarded by the mutex */
	int r = read_fdinfo(fs, from, text, sizeof(text));

	for (char *line = text, *next; r == 0 && *line; line = next) {
		struct flock fl;

		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		if (read_lock_of(line, &fl) && HOST(fcntl(to, F_OFD_SETLK, &fl)) < 0)
			r = -errno;
	}
	return r;
}

/*
 * The owner's first write lock: what it has is moved to a descriptor that can have that, too. Until
 * then it had read locks alone, and these may be held twice: so the new ones are there before the
 * old ones go, and at no time has the owner none.
 */
static int make_writable(struct fs *fs, uint32_t idx)
{
	struct flock all = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
	struct lock_entry *e = entry_at(fs, idx);
	int old = e->fd, fd = open_for_locks(fs, e->nodeid, F_WRLCK);
	int r = fd < 0 ? fd : copy_read_locks(fs, old, fd);

	if (r < 0) {
		if (fd >= 0)
			host_close(fd);
		return r;
	}
	CRASH_POINT("fs.lock.copied");
	__atomic_store_n(&e->fd, fd, __ATOMIC_RELEASE);
	CRASH_POINT("fs.lock.moved");
	(void)HOST(fcntl(old, F_OFD_SETLK, &all));
	host_close(old);
	return 0;
}

static int lock_it(const struct lock_entry *e, const struct flock *fl)
{
	int r = HOST(fcntl(e->fd, F_OFD_SETLK, fl)) < 0 ? -errno : 0;

	return r == -EACCES ? -EAGAIN : r;
}

static int set_on_host(struct fs *fs, uint32_t idx, const struct flock *fl)
{
	int r = lock_it(entry_at(fs, idx), fl);
	struct flock probe = *fl;

	if (r != -EBADF || fl->l_type != F_WRLCK)
		return r;
	if (conflicts(entry_at(fs, idx)->fd, &probe))
		return -EAGAIN;
	r = make_writable(fs, idx);
	return r < 0 ? r : lock_it(entry_at(fs, idx), fl);
}

static int set(struct request *rq, const struct fuse_lk_in *in, uint32_t idx, struct flock *fl)
{
	int r;

	if (fl->l_type == F_UNLCK && whole_file(&in->lk)) {
		drop(rq->fs, idx);
		return 0;
	}
	r = set_on_host(rq->fs, idx, fl);
	if (r < 0)
		return r;
	entry_at(rq->fs, idx)->pid = in->lk.pid;
	CRASH_POINT("fs.lock.set");
	return 0;
}

/* The first lock of an owner on an inode. */
static int set_first(struct request *rq, const struct fuse_lk_in *in, int fd, struct flock *fl)
{
	struct lock_entry e = {
		.nodeid = rq->in.nodeid, .owner = in->owner, .fh = in->fh, .fd = fd
	};
	uint32_t idx = insert(rq->fs, &e);
	int r;

	if (idx == NONE) {
		host_close(fd);
		return -ENOLCK;
	}
	r = set(rq, in, idx, fl);
	if (r < 0)
		drop(rq->fs, idx);
	return r;
}

static int set_record_lock(struct request *rq, const struct fuse_lk_in *in, const struct handle *h)
{
	struct flock fl, probe;
	uint32_t idx;
	int r = range_of(&in->lk, &fl), access = (int)h->flags & O_ACCMODE;

	if (r < 0)
		return r;
	if ((fl.l_type == F_WRLCK && access == O_RDONLY) ||
	    (fl.l_type == F_RDLCK && access == O_WRONLY))
		return -EBADF;
	probe = fl;
	HOST(pthread_mutex_lock(&known.mutex));
	idx = find(rq->fs, rq->in.nodeid, in->owner);
	if (idx != NONE) {
		r = set(rq, in, idx, &fl);
	} else if (fl.l_type != F_UNLCK) {
		/* One that waits asks so often; asked through the handle it costs no open. */
		int fd = conflicts(h->fd, &probe)
				 ? -EAGAIN
				 : open_for_locks(rq->fs, rq->in.nodeid, fl.l_type);

		r = fd < 0 ? fd : set_first(rq, in, fd, &fl);
	}
	pthread_mutex_unlock(&known.mutex);
	if (r == 0 && fl.l_type != F_WRLCK)
		request_retry_waiting(rq);
	return r;
}

static int set_flock(struct request *rq, const struct fuse_lk_in *in, const struct handle *h)
{
	int how = LOCK_UN;

	if (in->lk.type != F_UNLCK)
		how = in->lk.type == F_WRLCK ? LOCK_EX : LOCK_SH;
	if (HOST(flock(h->fd, how | LOCK_NB)) < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	if (how != LOCK_EX)
		request_retry_waiting(rq);
	return 0;
}

static int set_lock(struct request *rq)
{
	const struct fuse_lk_in *in = REQUEST_ARGS(rq, fuse_lk_in);
	const struct handle *h = handle_get(rq->fs, in->fh, HANDLE_FILE);
	int r = -EBADF;

	if (!h)
		return -EBADF;
	if (h->nodeid == rq->in.nodeid)
		r = in->lk_flags & FUSE_LK_FLOCK ? set_flock(rq, in, h)
						 : set_record_lock(rq, in, h);
	handle_put(rq->fs, h);
	return r;
}

int op_setlk(struct request *rq)
{
	return set_lock(rq);
}

/*
 * Who in the guest holds the lock that stands in the way at fl's start, which for the host's kernel
 * is some OFD lock (l_pid -1)? An owner in whose way nothing stands there holds it alone. NONE:
 * several share it, or it is none of ours.
 */
static uint32_t holder_alone(struct fs *fs, uint64_t nodeid, uint64_t not_owner,
			     const struct flock *fl)
{
	for (uint32_t idx = next_of(fs, nodeid, NONE); idx != NONE;
	     idx = next_of(fs, nodeid, idx)) {
		const struct lock_entry *e = entry_at(fs, idx);
		struct flock probe = {
			.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = fl->l_start, .l_len = 1
		};

		if (e->owner != not_owner && !conflicts(e->fd, &probe))
			return idx;
	}
	return NONE;
}

static bool holder(struct fs *fs, uint64_t nodeid, uint64_t not_owner, const struct flock *fl,
		   uint64_t *ret_owner)
{
	uint32_t idx = holder_alone(fs, nodeid, not_owner, fl);

	if (idx == NONE)
		return false;
	*ret_owner = entry_at(fs, idx)->owner;
	return true;
}

/* For GETLK: where several share it, any of them will do. */
static uint32_t pid_of_holder(struct fs *fs, uint64_t nodeid, uint64_t not_owner,
			      const struct flock *fl)
{
	uint32_t idx = holder_alone(fs, nodeid, not_owner, fl);

	if (idx != NONE)
		return entry_at(fs, idx)->pid;
	for (idx = next_of(fs, nodeid, NONE); idx != NONE; idx = next_of(fs, nodeid, idx))
		if (entry_at(fs, idx)->owner != not_owner)
			return entry_at(fs, idx)->pid;
	return 0;
}

/* Deadlocks */

/* Which one owner holds up w, if there is one alone at the first byte that it cannot have? */
static bool held_up_by(struct fs *fs, const struct wait *w, uint64_t *ret_owner)
{
	uint32_t own = find(fs, w->nodeid, w->owner);
	const struct handle *h = handle_get(fs, w->fh, HANDLE_FILE);
	struct flock fl = w->fl;
	bool known_one = false;

	if (!h)
		return false;
	if (conflicts(own == NONE ? h->fd : entry_at(fs, own)->fd, &fl))
		known_one = holder(fs, w->nodeid, w->owner, &fl, ret_owner);
	handle_put(fs, h);
	return known_one;
}

static const struct wait *wait_of(uint64_t owner)
{
	for (uint32_t i = 0; i < n_waits; i++)
		if (waits[i].owner == owner)
			return &waits[i];
	return NULL;
}

static bool is_circle(struct fs *fs, const struct wait *first)
{
	const struct wait *w = first;
	uint64_t owner;

	for (uint32_t n = 0; w && n < MAX_CIRCLE; n++) {
		if (!held_up_by(fs, w, &owner))
			return false;
		if (owner == first->owner)
			return true;
		w = wait_of(owner);
	}
	return false;
}

/* REQUEST_WAITS, or -EDEADLK: it would wait for itself. */
static int begin_wait(struct request *rq)
{
	const struct fuse_lk_in *in = REQUEST_ARGS(rq, fuse_lk_in);
	struct wait w = {
		.tag = rq->tag, .nodeid = rq->in.nodeid, .owner = in->owner, .fh = in->fh
	};
	int r = range_of(&in->lk, &w.fl);

	if (r < 0)
		return r;
	HOST(pthread_mutex_lock(&known.mutex));
	r = is_circle(rq->fs, &w) ? -EDEADLK : REQUEST_WAITS;
	if (r == REQUEST_WAITS && n_waits < MAX_WAITS)
		waits[n_waits++] = w;
	pthread_mutex_unlock(&known.mutex);
	return r;
}

void lock_wait_over(uint64_t tag)
{
	HOST(pthread_mutex_lock(&known.mutex));
	for (uint32_t i = 0; i < n_waits; i++)
		if (waits[i].tag == tag)
			waits[i--] = waits[--n_waits];
	pthread_mutex_unlock(&known.mutex);
}

int op_setlkw(struct request *rq)
{
	int r = set_lock(rq);

	if (r != -EAGAIN)
		return r;
	if (rq->waited || REQUEST_ARGS(rq, fuse_lk_in)->lk_flags & FUSE_LK_FLOCK)
		return REQUEST_WAITS;
	return begin_wait(rq);
}

static int get_record_lock(struct request *rq, const struct fuse_lk_in *in, const struct handle *h,
			   struct fuse_lk_out *ret)
{
	struct flock fl;
	uint32_t idx;
	int r = range_of(&in->lk, &fl);

	*ret = (struct fuse_lk_out){ .lk = { .type = F_UNLCK } };
	if (r < 0 || fl.l_type == F_UNLCK)
		return r < 0 ? r : -EINVAL;
	HOST(pthread_mutex_lock(&known.mutex));
	idx = find(rq->fs, rq->in.nodeid, in->owner);
	if (conflicts(idx == NONE ? h->fd : entry_at(rq->fs, idx)->fd, &fl)) {
		ret->lk.type = (uint32_t)fl.l_type;
		ret->lk.start = (uint64_t)fl.l_start;
		ret->lk.end = fl.l_len == 0 ? INT64_MAX : (uint64_t)(fl.l_start + fl.l_len - 1);
		if (fl.l_pid == -1)
			ret->lk.pid = pid_of_holder(rq->fs, rq->in.nodeid, in->owner, &fl);
	}
	pthread_mutex_unlock(&known.mutex);
	return 0;
}

int op_getlk(struct request *rq)
{
	const struct fuse_lk_in *in = REQUEST_ARGS(rq, fuse_lk_in);
	const struct handle *h = handle_get(rq->fs, in->fh, HANDLE_FILE);
	struct fuse_lk_out out;
	int r = -EBADF;

	if (!h)
		return -EBADF;
	if (h->nodeid == rq->in.nodeid)
		r = get_record_lock(rq, in, h, &out);
	handle_put(rq->fs, h);
	return r < 0 ? r : request_reply(rq, &out, sizeof(out));
}

/*
 * One that comes before its request, or after the answer, has no effect: the guest's kernel takes
 * no answer as "wait".
 */
int op_interrupt(struct request *rq)
{
	request_interrupt(rq->fs, REQUEST_ARGS(rq, fuse_interrupt_in)->unique);
	return REQUEST_NO_REPLY;
}
