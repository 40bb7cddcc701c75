/*
 * File data: READ, WRITE, FSYNC, FSYNCDIR, SYNCFS, FALLOCATE, LSEEK, COPY_FILE_RANGE.
 *
 * Runs in: worker, I/O threads. Trusts: nothing in requests.
 *
 * Data goes between guest memory and the host's page cache in one copy, the kernel's: the vectors
 * of the chain are what preadv2 and pwritev2 get. What has to wait for a disk is done aside if that
 * can be (errand.h); else it lets the answers before it go first. Of large reads of the page cache
 * two are made at a time, one aside.
 *
 * All of these but one may be done twice: the same bytes to the same place. The one is WRITE that
 * appends; it is on record in the journal with the size of the file before. Who runs it again
 * compares what is there with what was to be appended. So that this is exact, appends to one file
 * are done one at a time, with the question for its size; what another process of the host appends
 * between the two cannot be told apart from ours only where its bytes are the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/fd.h"
#include "devices/fs/creds.h"
#include "devices/fs/errand.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/host.h"
#include "devices/fs/init.h"
#include "devices/fs/operation.h"
#include "devices/fs/xattr.h"

enum {
	COPY_MAX = 256 << 20, /* of one COPY_FILE_RANGE: a guest asks again for the rest */
	N_APPEND_LOCKS = 64,
	MAX_FILE_SYSTEMS = 256, /* that SYNCFS of the root syncs */
	COPIES_ASIDE =
		2, /* large ones, beside that of the I/O thread: one under way, one that follows */
};

static const struct handle *file_of(struct request *rq, uint64_t fh)
{
	const struct handle *h = handle_get(rq->fs, fh, HANDLE_FILE);

	if (h && h->nodeid == rq->in.nodeid)
		return h;
	if (h)
		handle_put(rq->fs, h);
	return NULL;
}

/* len bytes of iov from byte skip on; the number of vectors. ret: REQUEST_MAX_IOV of them. */
static uint32_t iov_part(const struct iovec *iov, uint32_t n_iov, uint32_t skip, uint32_t len,
			 struct iovec *ret)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_iov && len > 0 && n < REQUEST_MAX_IOV; i++) {
		size_t part = iov[i].iov_len;

		if (part <= skip) {
			skip -= (uint32_t)part;
			continue;
		}
		part -= skip;
		part = part < len ? part : len;
		ret[n++] = (struct iovec){ (uint8_t *)iov[i].iov_base + skip, part };
		skip = 0;
		len -= (uint32_t)part;
	}
	return n;
}

/* After a change of a file's data: capabilities nobody may keep by that. */
static void kill_end(const struct creds_kill *k, struct fs *fs, int fd, bool changed)
{
	creds_kill_end(k);
	if (changed)
		xattr_capabilities_end(fs, fd);
}

/* READ */

/* Host file systems that do not know RWF_NOWAIT for their page cache say so once. */
static bool no_nowait;

struct reading {
	int fd;
	uint64_t offset;
	uint32_t len, done;
};

/* From where the last one ended. Bytes (0: end of file), -EAGAIN, other negative errno. */
static ssize_t read_on(const struct request *rq, const struct reading *x, int flags)
{
	struct iovec iov[REQUEST_MAX_IOV];
	uint32_t n_iov = iov_part(rq->out, rq->n_out, x->done, x->len - x->done, iov);
	ssize_t n;

	do
		n = HOST(preadv2(x->fd, iov, (int)n_iov, (off_t)(x->offset + x->done), flags));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* What is in the page cache. True: that is all that there is to read. */
static bool read_cached(const struct request *rq, struct reading *x)
{
	while (x->done < x->len && !__atomic_load_n(&no_nowait, __ATOMIC_RELAXED)) {
		ssize_t n = read_on(rq, x, RWF_NOWAIT);

		if (n == -EOPNOTSUPP)
			__atomic_store_n(&no_nowait, true, __ATOMIC_RELAXED);
		if (n <= 0)
			return n == 0;
		x->done += (uint32_t)n;
	}
	return x->done == x->len;
}

/* Earlier answers go out before the disk is waited for. Bytes altogether or a negative errno. */
static ssize_t read_slowly(struct request *rq, struct reading *x)
{
	ssize_t n;

	request_slow_begin(rq);
	n = read_on(rq, x, 0);
	request_slow_end(rq);
	if (n < 0 && x->done == 0)
		return n;
	return x->done + (n > 0 ? n : 0);
}

/* The rest of it. h is taken if the errand is. */
static bool read_aside(struct request *rq, const struct handle *h, const struct reading *x)
{
	const struct errand_spec spec = { .handle = h,
					  .opcode = IORING_OP_READV,
					  .offset = x->offset,
					  .len = x->len,
					  .done = x->done };

	return errand_begin(rq, &spec);
}

/* There is another request, and somebody to make this copy meanwhile. */
static bool copied_meanwhile(const struct request *rq, uint32_t len)
{
	return len >= ERRAND_COPY_LEN && queue_n_available(&rq->ring->queue) > 0 &&
	       errand_copies(rq) < COPIES_ASIDE;
}

/* Bytes, or a negative errno; *ret_aside: h is taken, and the result comes later. */
static ssize_t read_file(struct request *rq, const struct handle *h, struct reading *x,
			 bool *ret_aside)
{
	bool direct = h->flags & O_DIRECT;

	*ret_aside = (direct || copied_meanwhile(rq, x->len)) && read_aside(rq, h, x);
	if (*ret_aside)
		return 0;
	if (x->len >= REQUEST_LARGE_LEN)
		thread_publish(rq->thread);
	if (!direct && read_cached(rq, x))
		return x->done;
	*ret_aside =
		!direct && !__atomic_load_n(&no_nowait, __ATOMIC_RELAXED) && read_aside(rq, h, x);
	return *ret_aside ? 0 : read_slowly(rq, x);
}

int op_read(struct request *rq)
{
	const struct fuse_read_in *in = REQUEST_ARGS(rq, fuse_read_in);
	const struct handle *h;
	struct reading x;
	bool aside;
	ssize_t n;

	if (in->offset > INT64_MAX || in->size > rq->out_len)
		return -EINVAL;
	h = file_of(rq, in->fh);
	if (!h)
		return -EBADF;
	x = (struct reading){ .fd = h->fd, .offset = in->offset, .len = in->size };
	n = read_file(rq, h, &x, &aside);
	if (aside)
		return REQUEST_ASIDE;
	handle_put(rq->fs, h);
	if (n < 0)
		return (int)n;
	request_reply_filled(rq, (uint32_t)n);
	return 0;
}

/* WRITE */

struct transfer {
	int fd;
	uint32_t skip, len; /* of the request's data */
	uint64_t offset;
	int flags; /* RWF_* */
};

static ssize_t write_part(const struct request *rq, const struct transfer *x)
{
	struct iovec own[REQUEST_MAX_IOV];
	const struct iovec *iov = rq->data;
	uint32_t n_iov = rq->n_data;
	ssize_t n;

	if (x->skip > 0 || x->len < rq->data_len) {
		n_iov = iov_part(rq->data, rq->n_data, x->skip, x->len, own);
		iov = own;
	}
	do
		n = HOST(pwritev2(x->fd, iov, (int)n_iov, (off_t)x->offset, x->flags));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/*
 * A write says how its file is open now (fcntl(F_SETFL) changes that in the guest alone). Pages
 * that the guest's kernel writes back have their place all the same; and with a writeback cache it
 * knows where the file ends, and its offsets are right.
 */
static bool appends(const struct request *rq, const struct fuse_write_in *in)
{
	return (in->flags & O_APPEND) && !(in->write_flags & FUSE_WRITE_CACHE) &&
	       !init_has(rq->fs, FUSE_WRITEBACK_CACHE);
}

/* Likewise whether it is to be on the disk when it is answered. RWF_*. */
static int durability(const struct fuse_write_in *in)
{
	if ((in->flags & O_SYNC) == O_SYNC)
		return RWF_SYNC;
	return in->flags & O_DSYNC ? RWF_DSYNC : 0;
}

/* Appending: see the head of the file. */

static pthread_mutex_t append_locks[N_APPEND_LOCKS] = {
	[0 ... N_APPEND_LOCKS - 1] = PTHREAD_MUTEX_INITIALIZER,
};

/* How many of len bytes at a equal those of the request's data from byte skip on? */
static uint32_t same_bytes(const struct request *rq, uint32_t skip, const uint8_t *a, uint32_t len)
{
	struct iovec iov[REQUEST_MAX_IOV];
	uint32_t n_iov = iov_part(rq->data, rq->n_data, skip, len, iov), done = 0;

	for (uint32_t i = 0; i < n_iov; i++) {
		const uint8_t *b = iov[i].iov_base;

		for (size_t k = 0; k < iov[i].iov_len; k++, done++)
			if (a[done] != b[k])
				return done;
	}
	return done;
}

/* How many bytes of the request's data does the file hold from offset on? */
static uint32_t already_there(struct request *rq, int fd, uint64_t offset, uint32_t len)
{
	uint32_t done = 0;

	while (done < len) {
		uint32_t want = len - done < REQUEST_PAYLOAD_MAX ? len - done : REQUEST_PAYLOAD_MAX;
		ssize_t n = HOST(pread(fd, rq->payload, want, (off_t)(offset + done)));
		uint32_t same = n > 0 ? same_bytes(rq, done, rq->payload, (uint32_t)n) : 0;

		done += same;
		if (n <= 0 || same < (uint32_t)n)
			break;
	}
	return done;
}

/*
 * A worker died between the intent and the result: what of the data did it append to the file of
 * size before? Part of it may be there: a write that is killed ends early. ret_size: the file's
 * now.
 */
static int64_t appended(struct request *rq, const struct handle *h, uint64_t before, uint64_t size,
			uint32_t len)
{
	struct inode *i;
	host_fd int fd = -1;
	uint32_t done;

	if (size <= before)
		return 0;
	i = inode_get(rq->fs, h->nodeid);
	if (!i)
		return -ESTALE;
	fd = inode_reopen(rq->fs, i, O_RDONLY);
	inode_put(rq->fs, i);
	if (fd < 0)
		return fd;
	done = already_there(rq, fd, before, len);
	/* Others' bytes follow a part of ours: what looks like a part of ours is theirs. */
	return done == len || before + done == size ? done : 0;
}

/* A dead worker's bytes are in the file; on the disk too, if its handle or the request says so. */
static int make_durable(const struct handle *h, const struct fuse_write_in *in)
{
	if (!durability(in) && !(h->flags & O_DSYNC))
		return 0;
	return HOST(fsync(h->fd)) < 0 ? -errno : 0;
}

static ssize_t append_locked(struct request *rq, const struct handle *h,
			     const struct fuse_write_in *in, const struct journal_intent *begun)
{
	struct transfer x = { .fd = h->fd, .len = in->size, .flags = RWF_APPEND | durability(in) };
	struct journal_intent intent = { .parent = rq->in.nodeid };
	ssize_t n;

	n = HOST(fd_size(h->fd, &intent.size));
	if (n < 0)
		return n;
	if (begun) {
		int64_t done = appended(rq, h, begun->size, intent.size, in->size);

		if (done > 0) {
			n = make_durable(h, in);
			if (n < 0)
				return n;
		}
		if (done < 0 || done == (int64_t)in->size)
			return done;
		x.skip = (uint32_t)done;
		x.len -= (uint32_t)done;
	} else {
		journal_intend(rq, &intent);
	}
	CRASH_POINT("fs.append.intended");
	n = write_part(rq, &x);
	CRASH_POINT("fs.append.written");
	return n < 0 && x.skip == 0 ? n : (ssize_t)x.skip + (n < 0 ? 0 : n);
}

static ssize_t append(struct request *rq, const struct handle *h, const struct fuse_write_in *in)
{
	pthread_mutex_t *lock = &append_locks[h->nodeid % N_APPEND_LOCKS];
	struct journal_intent intent;
	int64_t result;
	enum journal_past past = journal_past(rq, &result, &intent);

	if (past == JOURNAL_DONE)
		return result;
	HOST(pthread_mutex_lock(lock));
	result = append_locked(rq, h, in, past == JOURNAL_BEGUN ? &intent : NULL);
	journal_result(rq, result);
	CRASH_POINT("fs.append.recorded");
	pthread_mutex_unlock(lock);
	return result;
}

static bool waits_for_disk(const struct handle *h, const struct fuse_write_in *in)
{
	return in->size >= REQUEST_LARGE_LEN || durability(in) ||
	       (h->flags & (O_DIRECT | O_DSYNC | O_SYNC));
}

static bool is_direct(const struct handle *h, const struct fuse_write_in *in)
{
	return (h->flags & O_DIRECT) && !(in->write_flags & FUSE_WRITE_CACHE);
}

/*
 * Pages that the guest's kernel writes back (of a mapping, say) end where the file does, whatever
 * the handle that it has at hand: they go to the host's page cache. -1: the handle will do.
 */
static int open_for_pages(struct request *rq, const struct handle *h,
			  const struct fuse_write_in *in)
{
	struct inode *i;
	int fd;

	if (!(h->flags & O_DIRECT) || is_direct(h, in))
		return -1;
	i = inode_get(rq->fs, h->nodeid);
	if (!i)
		return -1;
	fd = inode_reopen(rq->fs, i, O_WRONLY);
	inode_put(rq->fs, i);
	return fd;
}

static ssize_t write_file(struct request *rq, const struct handle *h,
			  const struct fuse_write_in *in)
{
	host_fd int own = open_for_pages(rq, h, in);
	struct transfer x = { .fd = own < 0 ? h->fd : own,
			      .len = in->size,
			      .offset = in->offset,
			      .flags = durability(in) };
	bool slow = waits_for_disk(h, in);
	struct creds_kill kill;
	ssize_t n;

	if (slow)
		request_slow_begin(rq);
	creds_kill_begin(&kill, rq, h->fd, in->write_flags & FUSE_WRITE_KILL_SUIDGID);
	n = appends(rq, in) ? append(rq, h, in) : write_part(rq, &x);
	kill_end(&kill, rq->fs, h->fd, n > 0);
	if (slow)
		request_slow_end(rq);
	return n;
}

/*
 * Direct writes that are neither appended nor to drop setuid bits, which is done by who makes the
 * call.
 */
static bool write_aside(struct request *rq, const struct handle *h, const struct fuse_write_in *in)
{
	const struct errand_spec spec = { .handle = h,
					  .opcode = IORING_OP_WRITEV,
					  .offset = in->offset,
					  .len = in->size,
					  .flags = (uint32_t)durability(in) };

	return is_direct(h, in) && !appends(rq, in) && in->size > 0 &&
	       !(in->write_flags & FUSE_WRITE_KILL_SUIDGID) && errand_begin(rq, &spec);
}

int op_write(struct request *rq)
{
	const struct fuse_write_in *in = REQUEST_ARGS(rq, fuse_write_in);
	const struct handle *h;
	struct fuse_write_out out = { .size = 0 };
	ssize_t n;

	if (in->offset > INT64_MAX || in->size > rq->data_len)
		return -EINVAL;
	h = file_of(rq, in->fh);
	if (!h)
		return -EBADF;
	if (write_aside(rq, h, in))
		return REQUEST_ASIDE;
	n = write_file(rq, h, in);
	handle_put(rq->fs, h);
	if (n < 0)
		return (int)n;
	out.size = (uint32_t)n;
	return request_reply(rq, &out, sizeof(out));
}

/* FSYNC and the like */

static int sync_handle(struct request *rq, enum handle_kind kind)
{
	const struct fuse_fsync_in *in = REQUEST_ARGS(rq, fuse_fsync_in);
	const struct handle *h = handle_get(rq->fs, in->fh, kind);
	struct errand_spec spec = { .opcode = IORING_OP_FSYNC };
	int r;

	if (!h)
		return -EBADF;
	spec.handle = h;
	spec.flags = in->fsync_flags & FUSE_FSYNC_FDATASYNC ? IORING_FSYNC_DATASYNC : 0;
	if (errand_begin(rq, &spec))
		return REQUEST_ASIDE;
	request_slow_begin(rq);
	r = in->fsync_flags & FUSE_FSYNC_FDATASYNC ? HOST(fdatasync(h->fd)) : HOST(fsync(h->fd));
	r = r < 0 ? -errno : 0;
	request_slow_end(rq);
	handle_put(rq->fs, h);
	return r;
}

int op_fsync(struct request *rq)
{
	return sync_handle(rq, HANDLE_FILE);
}

int op_fsyncdir(struct request *rq)
{
	return sync_handle(rq, HANDLE_DIRECTORY);
}

static int sync_file_system_of(struct request *rq, uint64_t nodeid)
{
	struct inode *i = inode_get(rq->fs, nodeid);
	host_fd int fd = -1;

	if (!i)
		return -ESTALE;
	fd = inode_reopen(rq->fs, i, O_RDONLY);
	inode_put(rq->fs, i);
	if (fd < 0)
		return fd;
	return HOST(syncfs(fd)) < 0 ? -errno : 0;
}

/* What the guest takes for one file system may be several of the host's. */
static int sync_all(struct request *rq)
{
	struct inode_device devices[MAX_FILE_SYSTEMS];
	uint32_t n = inode_devices(rq->fs, devices, MAX_FILE_SYSTEMS);
	int r = 0;

	for (uint32_t i = 0; i < n; i++) {
		int one = sync_file_system_of(rq, devices[i].nodeid);

		r = r < 0 ? r : one;
	}
	return r;
}

/*
 * The whole host file system, as the kernel has nothing smaller that is as good; the guest's kernel
 * sends it for sync(2), once for each submount that it knows of.
 */
int op_syncfs(struct request *rq)
{
	bool all = rq->in.nodeid == FUSE_ROOT_ID && !init_has(rq->fs, FUSE_SUBMOUNTS);
	int r;

	request_slow_begin(rq);
	r = all ? sync_all(rq) : sync_file_system_of(rq, rq->in.nodeid);
	request_slow_end(rq);
	return r;
}

/* FALLOCATE, LSEEK, COPY_FILE_RANGE */

/* These requests have no flag that says so: only root keeps setuid bits by them. */
static bool kills_suid(const struct request *rq)
{
	return rq->in.uid != 0;
}

int op_fallocate(struct request *rq)
{
	const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	const struct fuse_fallocate_in *in = REQUEST_ARGS(rq, fuse_fallocate_in);
	const struct handle *h;
	struct creds_kill kill;
	int r;

	if (in->mode & ~(uint32_t)known)
		return -EOPNOTSUPP;
	if (in->offset > INT64_MAX || in->length > INT64_MAX)
		return -EINVAL;
	h = file_of(rq, in->fh);
	if (!h)
		return -EBADF;
	request_slow_begin(rq);
	creds_kill_begin(&kill, rq, h->fd, kills_suid(rq));
	do
		r = HOST(fallocate(h->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length));
	while (r < 0 && errno == EINTR);
	r = r < 0 ? -errno : 0;
	kill_end(&kill, rq->fs, h->fd, r == 0);
	request_slow_end(rq);
	handle_put(rq->fs, h);
	return r;
}

/*
 * The position of the host's descriptor, which this moves, means nothing: transfers have theirs
 * with them.
 */
int op_lseek(struct request *rq)
{
	const struct fuse_lseek_in *in = REQUEST_ARGS(rq, fuse_lseek_in);
	const struct handle *h;
	struct fuse_lseek_out out;
	off_t offset;
	int error;

	if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)
		return -EINVAL;
	h = file_of(rq, in->fh);
	if (!h)
		return -EBADF;
	offset = HOST(lseek(h->fd, (off_t)in->offset, (int)in->whence));
	error = errno;
	handle_put(rq->fs, h);
	if (offset < 0)
		return -error;
	out.offset = (uint64_t)offset;
	return request_reply(rq, &out, sizeof(out));
}

static ssize_t copy(struct request *rq, const struct handle *from, const struct handle *to,
		    const struct fuse_copy_file_range_in *in)
{
	off_t off_in = (off_t)in->off_in, off_out = (off_t)in->off_out;
	size_t len = in->len < COPY_MAX ? in->len : COPY_MAX;
	struct creds_kill kill;
	ssize_t n;

	request_slow_begin(rq);
	creds_kill_begin(&kill, rq, to->fd, kills_suid(rq));
	do
		n = HOST(copy_file_range(from->fd, &off_in, to->fd, &off_out, len, 0));
	while (n < 0 && errno == EINTR);
	n = n < 0 ? -errno : n;
	kill_end(&kill, rq->fs, to->fd, n > 0);
	request_slow_end(rq);
	return n;
}

int op_copy_file_range(struct request *rq)
{
	const struct fuse_copy_file_range_in *in = REQUEST_ARGS(rq, fuse_copy_file_range_in);
	const struct handle *from, *to;
	struct fuse_write_out out;
	ssize_t n = -EBADF;

	if (in->off_in > INT64_MAX || in->off_out > INT64_MAX || in->flags != 0)
		return -EINVAL;
	from = file_of(rq, in->fh_in);
	to = handle_get(rq->fs, in->fh_out, HANDLE_FILE);
	if (from && to && to->nodeid == in->nodeid_out)
		n = copy(rq, from, to, in);
	if (from)
		handle_put(rq->fs, from);
	if (to)
		handle_put(rq->fs, to);
	if (n < 0)
		return (int)n;
	out = (struct fuse_write_out){ .size = (uint32_t)n };
	return request_reply(rq, &out, sizeof(out));
}
