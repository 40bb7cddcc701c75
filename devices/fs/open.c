/*
 * Open files and directories: OPEN, RELEASE, OPENDIR, RELEASEDIR, FLUSH.
 *
 * Runs in: worker, I/O threads. Trusts: nothing in requests.
 *
 * Run again: an open whose handle is on record answers with that one; one that was killed before is
 * done anew, and the descriptor that nobody names is swept. O_TRUNC may so happen twice, both times
 * before the guest has seen its OPEN answered.
 */
#include "devices/fs/open.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/fs/creds.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/host.h"
#include "devices/fs/lock.h"
#include "devices/fs/operation.h"
#include "devices/fs/xattr.h"

/* Flags of open(2) that are passed on. */
#define PASSED_ON (O_ACCMODE | O_TRUNC | O_DSYNC | O_SYNC | O_NOATIME)

#define LEASE_MAX_NS UINT64_C(120000000000)

static bool writeback(const struct fs *fs)
{
	return init_has(fs, FUSE_WRITEBACK_CACHE);
}

int open_host_flags(const struct fs *fs, uint32_t flags)
{
	int host = (int)flags & PASSED_ON;

	if ((host & O_ACCMODE) == O_ACCMODE) /* 3: neither; Linux takes it for ioctls only */
		host &= ~O_ACCMODE;
	if (writeback(fs) && (host & O_ACCMODE) == O_WRONLY)
		host = (host & ~O_ACCMODE) | O_RDWR;
	if (fs->config.direct_io)
		host |= (int)flags & O_DIRECT;
	return host | O_NONBLOCK | O_NOCTTY;
}

uint32_t open_reply_flags(const struct fs *fs, bool directory)
{
	switch (fs->config.cache) {
	case FS_CACHE_NONE:
		return directory ? 0 : FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
	case FS_CACHE_METADATA:
		return directory ? FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR
				 : FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
	case FS_CACHE_AUTO:
		return 0;
	case FS_CACHE_ALWAYS:
		return FOPEN_KEEP_CACHE | (directory ? FOPEN_CACHE_DIR : 0);
	}
	return 0;
}

/* The kernel ends a lease by force after 45 s, unless its administrator says otherwise. */
int open_awaits_lease(const struct request *rq, int r)
{
	return r == -EWOULDBLOCK && rq->waited_ns < LEASE_MAX_NS ? REQUEST_WAITS : r;
}

/*
 * What the host may refuse that the guest did not ask for: reading a file that is only written (the
 * guest's cache would like to), and direct I/O where its file system has none.
 */
static int open_with_less(struct fs *fs, struct inode *i, int flags, uint32_t asked, int error)
{
	if (error == -EACCES && (asked & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~O_ACCMODE) | O_WRONLY;
	else if (error == -EINVAL)
		flags &= ~O_DIRECT;
	else
		return error;
	return inode_reopen(fs, i, flags);
}

static int open_inode(struct request *rq, int flags, uint32_t asked, bool kill)
{
	struct fs *fs = rq->fs;
	struct inode *i = inode_get(fs, rq->in.nodeid);
	struct creds_kill k;
	int fd;

	if (!i)
		return -ESTALE;
	/* As a file it would be none: its locks, say, could not be taken over. */
	if (!(asked & O_DIRECTORY) && inode_type(fs, i) == S_IFDIR) {
		inode_put(fs, i);
		return -EISDIR;
	}
	creds_kill_begin(&k, rq, inode_fd(fs, i), kill);
	fd = inode_reopen(fs, i, flags);
	if (fd < 0 && !(asked & O_DIRECTORY))
		fd = open_with_less(fs, i, flags, asked, fd);
	creds_kill_end(&k);
	if (fd >= 0 && (flags & O_TRUNC))
		xattr_capabilities_end(fs, fd);
	inode_put(fs, i);
	return fd;
}

static int reply(struct request *rq, uint64_t fh, bool directory)
{
	struct fuse_open_out out = { .fh = fh, .open_flags = open_reply_flags(rq->fs, directory) };

	return request_reply(rq, &out, sizeof(out));
}

static bool would_write(const struct fuse_open_in *in)
{
	return (in->flags & O_ACCMODE) != O_RDONLY || (in->flags & O_TRUNC);
}

int op_open(struct request *rq)
{
	const struct fuse_open_in *in = REQUEST_ARGS(rq, fuse_open_in);
	int flags = open_host_flags(rq->fs, in->flags), fd, r;
	uint64_t fh;

	if (rq->fs->config.readonly && would_write(in))
		return -EROFS;
	if (rq->again && handle_found(rq, &fh))
		return reply(rq, fh, false);
	fd = open_inode(rq, flags, in->flags & ~(uint32_t)O_DIRECTORY,
			in->open_flags & FUSE_OPEN_KILL_SUIDGID);
	if (fd < 0)
		return open_awaits_lease(rq, fd);
	CRASH_POINT("fs.open.opened");
	r = handle_open(rq, fd, HANDLE_FILE, (uint32_t)flags, rq->in.nodeid, &fh);
	return r < 0 ? r : reply(rq, fh, false);
}

int op_opendir(struct request *rq)
{
	uint64_t fh;
	int fd, r;

	if (rq->again && handle_found(rq, &fh))
		return reply(rq, fh, true);
	fd = open_inode(rq, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_NOCTTY, O_DIRECTORY, false);
	if (fd < 0)
		return fd;
	r = handle_open(rq, fd, HANDLE_DIRECTORY, O_RDONLY | O_DIRECTORY, rq->in.nodeid, &fh);
	return r < 0 ? r : reply(rq, fh, true);
}

/* Before the handle is closed, which may be later: another request may be using it. */
static void unlock_flock(struct request *rq, uint64_t fh)
{
	const struct handle *h = handle_get(rq->fs, fh, HANDLE_FILE);

	if (!h)
		return;
	HOST(flock(h->fd, LOCK_UN));
	handle_put(rq->fs, h);
	request_retry_waiting(rq);
}

int op_release(struct request *rq)
{
	const struct fuse_release_in *in = REQUEST_ARGS(rq, fuse_release_in);

	if (in->release_flags & FUSE_RELEASE_FLOCK_UNLOCK)
		unlock_flock(rq, in->fh);
	lock_release_handle(rq, rq->in.nodeid, in->fh);
	CRASH_POINT("fs.release.unlocked");
	handle_release(rq, in->fh, HANDLE_FILE);
	return 0;
}

int op_releasedir(struct request *rq)
{
	handle_release(rq, REQUEST_ARGS(rq, fuse_release_in)->fh, HANDLE_DIRECTORY);
	return 0;
}

/*
 * A descriptor of the guest's was closed. Host file systems that report errors then (NFS, FUSE) do
 * so for each close, of a duplicate too.
 */
int op_flush(struct request *rq)
{
	const struct fuse_flush_in *in = REQUEST_ARGS(rq, fuse_flush_in);
	const struct handle *h = handle_get(rq->fs, in->fh, HANDLE_FILE);
	int copy, r = 0;

	if (!h)
		return -EBADF;
	lock_release_owner(rq, h->nodeid, in->lock_owner);
	if ((h->flags & O_ACCMODE) != O_RDONLY) {
		copy = dup(h->fd);
		if (copy >= 0 && HOST(close(copy)) < 0)
			r = -errno;
	}
	handle_put(rq->fs, h);
	return r == -EINTR ? 0 : r;
}
