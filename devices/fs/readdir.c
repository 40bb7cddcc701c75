/*
 * Reading directories: READDIR, READDIRPLUS.
 *
 * Runs in: worker, I/O threads. Trusts: nothing in requests; the host's kernel.
 *
 * An offset is the host's d_off: where its file system says that the next entry is, which stays
 * true while entries come and go. So there is no position to be kept for the guest; the
 * descriptor's is set for each read of it.
 *
 * A read of the host's directory yields more entries than one answer holds. The rest is kept for
 * the request that goes on there, for at most a second: without it each request would have the host
 * find its place again, which for a large directory is most of the work. What vanishes meanwhile is
 * noticed by READDIRPLUS, whose entries are looked up as they are answered; READDIR may name it, as
 * with any buffered stream.
 *
 * A third of READDIRPLUS would be the host's way from names to inodes that are known by number. So
 * what was read no more than JUST_NS ago is believed, unless the guest has removed or moved names
 * of such a directory since: then names are looked at again. What others do to a name is thus seen
 * so much later.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/crash.h"
#include "devices/base/fd.h"
#include "devices/fs/attr.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/host.h"
#include "devices/fs/operation.h"

enum {
	STREAM_LEN = 8 << 10,
	STREAM_FRESH_NS = 1000000000,
	JUST_NS = 20000000,
	N_STREAMS = 256,
	N_CHANGES = 1024,
};

/* struct linux_dirent64, of which the kernel gives out no definition. */
struct host_dirent {
	uint64_t ino;
	int64_t next;
	uint16_t len;
	uint8_t type;
	char name[];
};

/*
 * Entries of an open directory that have been read and not been answered. Handles share them by
 * number; who comes later has it. Its mutex also makes one step of setting a descriptor's position
 * and reading from there.
 */
struct stream {
	pthread_mutex_t mutex;
	uint64_t fh;   /* of which handle */
	uint64_t next; /* offset of the first of them */
	uint64_t read_ns;
	uint32_t n_changes; /* of its directory, when they were read */
	bool just_read;	    /* in this request, or just before */
	uint32_t pos, len;
	_Alignas(8) uint8_t bytes[STREAM_LEN];
};

static struct stream streams[N_STREAMS] = {
	[0 ... N_STREAMS - 1] = { .mutex = PTHREAD_MUTEX_INITIALIZER },
};

/* Names removed or moved by the guest so far, of all directories with this remainder. */
static uint32_t changes[N_CHANGES];

static uint32_t *changes_of(uint64_t nodeid)
{
	return &changes[nodeid % N_CHANGES];
}

void readdir_name_gone(uint64_t parent)
{
	__atomic_fetch_add(changes_of(parent), 1, __ATOMIC_RELEASE);
}

static const struct host_dirent *stream_entry(const struct stream *s)
{
	return (const struct host_dirent *)(const void *)(s->bytes + s->pos);
}

static void stream_advance(struct stream *s, const struct host_dirent *e)
{
	s->pos += e->len;
	s->next = (uint64_t)e->next;
}

/* Read on at s->next. The number of bytes, 0 at the end, negative errno. */
static int stream_read(struct stream *s, const struct handle *h)
{
	long n = -1;

	s->pos = s->len = 0;
	s->n_changes = __atomic_load_n(changes_of(h->nodeid), __ATOMIC_ACQUIRE);
	s->just_read = true;
	if (HOST(lseek(h->fd, (off_t)s->next, SEEK_SET)) >= 0)
		n = HOST(syscall(SYS_getdents64, h->fd, s->bytes, sizeof(s->bytes)));
	n = n < 0 ? -errno : n;
	s->read_ns = clock_now_ns();
	s->len = n > 0 ? (uint32_t)n : 0;
	return (int)n;
}

/*
 * The stream of an open directory, at offset; what there is of it if that is fresh. Offset 0 is a
 * rewind.
 */
static struct stream *stream_lock(uint64_t fh, uint64_t nodeid, uint64_t offset)
{
	struct stream *s = &streams[fh % N_STREAMS];
	uint64_t age;

	HOST(pthread_mutex_lock(&s->mutex));
	age = clock_now_ns() - s->read_ns;
	if (s->fh != fh || s->next != offset || offset == 0 || age > STREAM_FRESH_NS)
		s->pos = s->len = 0;
	s->just_read = age <= JUST_NS &&
		       s->n_changes == __atomic_load_n(changes_of(nodeid), __ATOMIC_ACQUIRE);
	s->fh = fh;
	s->next = offset;
	return s;
}

static void stream_unlock(struct stream *s)
{
	pthread_mutex_unlock(&s->mutex);
}

/* One answer in the making. */
struct listing {
	struct request *rq;
	const struct handle *handle;
	struct inode *parent; /* for READDIRPLUS */
	uint32_t room, len;   /* of rq->payload */
	bool just_read;	      /* the entry in hand */
};

static uint32_t entry_len(size_t header, size_t name_len)
{
	return (uint32_t)FUSE_DIRENT_ALIGN(header + name_len);
}

static bool is_dot(const char *name)
{
	return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

/*
 * What is above the shared directory is nobody's business: its ".." is itself, as that of any root.
 */
static uint64_t ino_of(const struct listing *l, const struct host_dirent *e)
{
	struct stat st;

	if (l->rq->in.nodeid != FUSE_ROOT_ID || strcmp(e->name, "..") != 0 ||
	    HOST(fd_stat(l->handle->fd, &st)) < 0)
		return e->ino;
	return st.st_ino;
}

/*
 * At the answer's end, behind header bytes that the caller fills; what is left up to the alignment
 * is zero.
 */
static void put_dirent(struct listing *l, const struct host_dirent *e, size_t name_len,
		       uint32_t header)
{
	struct fuse_dirent d = { .ino = ino_of(l, e),
				 .off = (uint64_t)e->next,
				 .namelen = (uint32_t)name_len,
				 .type = e->type };
	uint8_t *to = l->rq->payload + l->len + header;
	uint32_t len = entry_len(header + FUSE_NAME_OFFSET, name_len);

	memcpy(to, &d, FUSE_NAME_OFFSET);
	memcpy(to + FUSE_NAME_OFFSET, e->name, name_len);
	memset(to + FUSE_NAME_OFFSET + name_len, 0, len - header - FUSE_NAME_OFFSET - name_len);
	l->len += len;
}

/* False: no room for it. */
static bool put(struct listing *l, const struct host_dirent *e)
{
	size_t name_len = strlen(e->name);

	if (entry_len(FUSE_NAME_OFFSET, name_len) > l->room - l->len)
		return false;
	put_dirent(l, e, name_len, 0);
	return true;
}

static int look_up(const struct listing *l, const struct host_dirent *e, struct inode **ret,
		   struct statx *ret_stat)
{
	if (l->just_read)
		return inode_look_up_just_listed(l->rq, l->parent, e->name, e->ino, ret, ret_stat);
	return inode_look_up_listed(l->rq, l->parent, e->name, e->ino, ret, ret_stat);
}

/*
 * With what a LOOKUP of it would answer, and counted like one. Node id 0 says nothing: for "." and
 * "..", which are not looked up, and for what cannot be looked up now; the guest does that itself
 * if it wants to know. What is gone is left out.
 */
static bool put_plus(struct listing *l, const struct host_dirent *e)
{
	const uint32_t header = offsetof(struct fuse_direntplus, dirent);
	size_t name_len = strlen(e->name);
	struct fuse_entry_out out = { .nodeid = 0 };
	struct inode *i;
	struct statx st;
	int r = 0;

	if (entry_len(header + FUSE_NAME_OFFSET, name_len) > l->room - l->len)
		return false;
	if (!is_dot(e->name)) {
		r = look_up(l, e, &i, &st);
		if (r == -ENOENT)
			return true;
		if (r == 0) {
			attr_entry(l->rq->fs, i, &st, &out);
			inode_put(l->rq->fs, i);
		}
	}
	CRASH_POINT("fs.readdirplus.entry");
	memcpy(l->rq->payload + l->len, &out, sizeof(out));
	put_dirent(l, e, name_len, header);
	return true;
}

typedef bool (*put_fn)(struct listing *l, const struct host_dirent *e);

/*
 * Entries until the answer is full or the directory ends. 0 or a negative errno of the first read.
 */
static int list(struct listing *l, struct stream *s, put_fn put_entry)
{
	for (;;) {
		const struct host_dirent *e;
		int r = 1;

		if (s->pos == s->len)
			r = stream_read(s, l->handle);
		if (r <= 0)
			return l->len > 0 ? 0 : r;
		e = stream_entry(s);
		l->just_read = s->just_read;
		if (!put_entry(l, e))
			return l->len > 0 ? 0 : -EINVAL;
		stream_advance(s, e);
	}
}

static int read_directory(struct request *rq, struct inode *parent, put_fn put_entry)
{
	const struct fuse_read_in *in = REQUEST_ARGS(rq, fuse_read_in);
	struct listing l = { .rq = rq, .parent = parent, .room = in->size };
	struct stream *s;
	int r = -EBADF;

	if (in->offset > INT64_MAX)
		return -EINVAL;
	l.room = l.room < rq->out_len ? l.room : rq->out_len;
	l.room = l.room < REQUEST_PAYLOAD_MAX ? l.room : REQUEST_PAYLOAD_MAX;
	l.handle = handle_get(rq->fs, in->fh, HANDLE_DIRECTORY);
	if (!l.handle)
		return -EBADF;
	if (l.handle->nodeid == rq->in.nodeid) {
		s = stream_lock(in->fh, rq->in.nodeid, in->offset);
		r = list(&l, s, put_entry);
		stream_unlock(s);
	}
	handle_put(rq->fs, l.handle);
	return r < 0 ? r : request_reply(rq, rq->payload, l.len);
}

int op_readdir(struct request *rq)
{
	return read_directory(rq, NULL, put);
}

/*
 * Each entry may be a lookup on record: answers before this one go out if there is no room for all.
 */
static void make_room(struct request *rq)
{
	uint32_t size = REQUEST_ARGS(rq, fuse_read_in)->size;
	uint32_t shortest = entry_len(FUSE_NAME_OFFSET_DIRENTPLUS, 1);

	size = size < REQUEST_PAYLOAD_MAX ? size : REQUEST_PAYLOAD_MAX;
	if (journal_has_room(rq->fs, rq->thread, size / shortest))
		return;
	request_slow_begin(rq);
	request_slow_end(rq);
}

int op_readdirplus(struct request *rq)
{
	struct inode *parent = inode_get(rq->fs, rq->in.nodeid);
	int r;

	if (!parent)
		return -ESTALE;
	make_room(rq);
	r = read_directory(rq, parent, put_plus);
	inode_put(rq->fs, parent);
	return r;
}
