/*
 * GETATTR, SETATTR, STATX, ACCESS, STATFS, READLINK, and attributes on the wire.
 *
 * Runs in: worker, I/O threads. Trusts: nothing of the request's.
 *
 * Who may change what is decided by the guest's kernel (default_permissions); setting attributes is
 * done with the worker's own ids and capabilities. The change time is the host's affair:
 * FATTR_CTIME is ignored.
 *
 * SETATTR goes owner, mode, size, times: an owner's change clears setuid and setgid bits, a size's
 * change sets times, and the later one is what was asked for. Its result is on record in the
 * journal, so that a repeat does not truncate again what has been written meanwhile.
 */
#include "devices/fs/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/error.h"
#include "devices/fs/creds.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/host.h"
#include "devices/fs/open.h"
#include "devices/fs/operation.h"
#include "devices/fs/proto.h"
#include "devices/fs/xattr.h"

#define NS_PER_S UINT64_C(1000000000)

static uint64_t validity_ns(const struct fs *fs)
{
	static const uint64_t seconds[] = {
		[FS_CACHE_NONE] = 0,
		[FS_CACHE_METADATA] = 1,
		[FS_CACHE_AUTO] = 1,
		[FS_CACHE_ALWAYS] = 86400,
	};

	return seconds[fs->config.cache] * NS_PER_S;
}

/*
 * The guest's kernel leaves it to us to take set-user-id and set-group-id from a file that is
 * written to, and then goes on believing the mode that it knew, which programs can ask for alone.
 * So a mode that has them is never to be believed.
 */
static uint64_t attr_validity_ns(const struct fs *fs, uint32_t mode)
{
	bool may_end = S_ISREG(mode) && (mode & (S_ISUID | S_ISGID));

	return may_end && init_has(fs, FUSE_HANDLE_KILLPRIV_V2) ? 0 : validity_ns(fs);
}

/* As the kernel packs a device number into 32 bits (new_encode_dev). */
static uint32_t rdev_of(const struct statx *st)
{
	uint32_t minor = st->stx_rdev_minor;

	return (minor & 0xff) | st->stx_rdev_major << 8 | (minor & ~0xffu) << 12;
}

void attr_fill(const struct fs *fs, const struct statx *st, struct fuse_attr *ret)
{
	*ret = (struct fuse_attr){
		.ino = st->stx_ino,
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		/* Before 1970 they are negative: the guest takes the same 64 bits as signed. */
		.atime = (uint64_t)st->stx_atime.tv_sec,
		.mtime = (uint64_t)st->stx_mtime.tv_sec,
		.ctime = (uint64_t)st->stx_ctime.tv_sec,
		.atimensec = st->stx_atime.tv_nsec,
		.mtimensec = st->stx_mtime.tv_nsec,
		.ctimensec = st->stx_ctime.tv_nsec,
		.mode = st->stx_mode,
		.nlink = st->stx_nlink,
		.uid = st->stx_uid,
		.gid = st->stx_gid,
		.rdev = rdev_of(st),
		.blksize = st->stx_blksize,
	};
}

void attr_no_entry(const struct fs *fs, struct fuse_entry_out *ret)
{
	uint64_t ns = validity_ns(fs);

	*ret = (struct fuse_entry_out){
		.entry_valid = ns / NS_PER_S,
		.entry_valid_nsec = (uint32_t)(ns % NS_PER_S),
	};
}

/* The node id alone names an inode for ever: its upper half is a generation, so the wire's is 0. */
void attr_entry(const struct fs *fs, const struct inode *i, const struct statx *st,
		struct fuse_entry_out *ret)
{
	uint64_t ns = attr_validity_ns(fs, st->stx_mode);

	attr_no_entry(fs, ret);
	ret->attr_valid = ns / NS_PER_S;
	ret->attr_valid_nsec = (uint32_t)(ns % NS_PER_S);
	ret->nodeid = inode_id(fs, i);
	attr_fill(fs, st, &ret->attr);
	if (fs->config.announce_submounts && inode_is_submount(fs, i) &&
	    init_has(fs, FUSE_SUBMOUNTS))
		ret->attr.flags |= FUSE_ATTR_SUBMOUNT;
}

/* What a request is about: the inode, and the open file if it names one that is there. */
struct subject {
	struct request *rq;
	struct inode *inode;
	const struct handle *handle; /* or NULL */
};

static void subject_done(struct subject *s)
{
	if (s->handle)
		handle_put(s->rq->fs, s->handle);
	if (s->inode)
		inode_put(s->rq->fs, s->inode);
}

/* fh counts if by_handle. */
static int subject_init(struct subject *s, struct request *rq, bool by_handle, uint64_t fh)
{
	*s = (struct subject){ .rq = rq, .inode = inode_get(rq->fs, rq->in.nodeid) };
	if (!s->inode)
		return -ESTALE;
	if (by_handle)
		s->handle = handle_get(rq->fs, fh, HANDLE_FILE);
	return 0;
}

/*
 * Its file if it is open, else its inode's O_PATH descriptor: both will do for *at() calls with an
 * empty path.
 */
static int subject_fd(const struct subject *s)
{
	return s->handle ? s->handle->fd : inode_fd(s->rq->fs, s->inode);
}

static int subject_stat(const struct subject *s, int flags, struct statx *ret)
{
	int fd = subject_fd(s);

	if (fd < 0)
		return fd;
	return errno_or(HOST(statx(fd, "", AT_EMPTY_PATH | flags, ATTR_STATX_MASK, ret)));
}

static int reply_attr(const struct subject *s)
{
	struct fuse_attr_out out = { 0 };
	struct statx st;
	uint64_t ns;
	int r = subject_stat(s, 0, &st);

	if (r < 0)
		return r;
	ns = attr_validity_ns(s->rq->fs, st.stx_mode);
	out.attr_valid = ns / NS_PER_S;
	out.attr_valid_nsec = (uint32_t)(ns % NS_PER_S);
	attr_fill(s->rq->fs, &st, &out.attr);
	return request_reply(s->rq, &out, sizeof(out));
}

int op_getattr(struct request *rq)
{
	const struct fuse_getattr_in *in = REQUEST_ARGS(rq, fuse_getattr_in);
	struct subject s;
	int r = subject_init(&s, rq, in->getattr_flags & FUSE_GETATTR_FH, in->fh);

	if (r == 0)
		r = reply_attr(&s);
	subject_done(&s);
	return r;
}

static struct proto_statx_time statx_time(const struct statx_timestamp *t)
{
	return (struct proto_statx_time){ .sec = t->tv_sec, .nsec = t->tv_nsec };
}

static void statx_fill(const struct statx *st, struct proto_statx *ret)
{
	*ret = (struct proto_statx){
		.mask = st->stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
		.blksize = st->stx_blksize,
		.attributes = st->stx_attributes,
		.nlink = st->stx_nlink,
		.uid = st->stx_uid,
		.gid = st->stx_gid,
		.mode = st->stx_mode,
		.ino = st->stx_ino,
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.attributes_mask = st->stx_attributes_mask,
		.atime = statx_time(&st->stx_atime),
		.btime = statx_time(&st->stx_btime),
		.ctime = statx_time(&st->stx_ctime),
		.mtime = statx_time(&st->stx_mtime),
		.rdev_major = st->stx_rdev_major,
		.rdev_minor = st->stx_rdev_minor,
		.dev_major = st->stx_dev_major,
		.dev_minor = st->stx_dev_minor,
	};
}

static int reply_statx(const struct subject *s, uint32_t flags)
{
	struct proto_statx_out out = { 0 };
	struct statx st;
	uint64_t ns;
	int r = subject_stat(s, (int)(flags & AT_STATX_SYNC_TYPE), &st);

	if (r < 0)
		return r;
	ns = attr_validity_ns(s->rq->fs, st.stx_mode);
	out.attr_valid = ns / NS_PER_S;
	out.attr_valid_nsec = (uint32_t)(ns % NS_PER_S);
	statx_fill(&st, &out.stat);
	return request_reply(s->rq, &out, sizeof(out));
}

int op_statx(struct request *rq)
{
	const struct proto_statx_in *in = REQUEST_ARGS(rq, proto_statx_in);
	struct subject s;
	int r = subject_init(&s, rq, in->getattr_flags & FUSE_GETATTR_FH, in->fh);

	if (r == 0)
		r = reply_statx(&s, in->sx_flags);
	subject_done(&s);
	return r;
}

/*
 * Through the link in /proc, which leads to the very file whatever its name is now. A symlink has
 * no mode.
 */
static int set_mode(const struct subject *s, mode_t mode)
{
	char name[16];
	int fd;

	if (s->handle)
		return errno_or(HOST(fchmod(s->handle->fd, mode & 07777)));
	fd = inode_fd(s->rq->fs, s->inode);
	if (fd < 0)
		return fd;
	if (inode_type(s->rq->fs, s->inode) == S_IFLNK)
		return -EOPNOTSUPP;
	snprintf(name, sizeof(name), "%d", fd);
	return errno_or(HOST(fchmodat(s->rq->fs->proc_fd, name, mode & 07777, 0)));
}

static int set_owner(const struct subject *s, const struct fuse_setattr_in *in)
{
	uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
	gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;
	int fd = subject_fd(s), r;

	if (fd < 0)
		return fd;
	r = errno_or(HOST(fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)));
	if (r == 0)
		xattr_capabilities_end(s->rq->fs, fd);
	return r;
}

/* A handle that is open for reading only will not do. */
static int open_for_size(const struct subject *s)
{
	if (s->handle && (s->handle->flags & O_ACCMODE) != O_RDONLY)
		return s->handle->fd;
	return inode_reopen(s->rq->fs, s->inode, O_WRONLY);
}

static int set_size(const struct subject *s, const struct fuse_setattr_in *in)
{
	int fd = open_for_size(s), r;
	struct creds_kill kill;

	if (fd < 0)
		return open_awaits_lease(s->rq, fd);
	creds_kill_begin(&kill, s->rq, fd, in->valid & FATTR_KILL_SUIDGID);
	/* Beyond what an off_t holds it is negative, and refused. */
	r = errno_or(HOST(ftruncate(fd, (off_t)in->size)));
	creds_kill_end(&kill);
	if (r == 0)
		xattr_capabilities_end(s->rq->fs, fd);
	if (!s->handle || fd != s->handle->fd)
		host_close(fd);
	return r;
}

/*
 * One of the two times. Nanoseconds that mean something else to the kernel (UTIME_NOW, …) must not
 * get there.
 */
static int time_of(uint32_t valid, uint32_t now, uint64_t sec, uint32_t nsec, struct timespec *ret)
{
	*ret = (struct timespec){ .tv_sec = (time_t)sec, .tv_nsec = nsec };
	if (!valid)
		ret->tv_nsec = UTIME_OMIT;
	else if (now)
		ret->tv_nsec = UTIME_NOW;
	else if (nsec >= NS_PER_S)
		return -EINVAL;
	return 0;
}

static int set_times(const struct subject *s, const struct fuse_setattr_in *in)
{
	struct timespec ts[2];
	int fd = subject_fd(s), r;

	r = time_of(in->valid & FATTR_ATIME, in->valid & FATTR_ATIME_NOW, in->atime, in->atimensec,
		    &ts[0]);
	if (r == 0)
		r = time_of(in->valid & FATTR_MTIME, in->valid & FATTR_MTIME_NOW, in->mtime,
			    in->mtimensec, &ts[1]);
	if (r < 0 || fd < 0)
		return r < 0 ? r : fd;
	return errno_or(HOST(utimensat(fd, "", ts, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)));
}

static int set_all(const struct subject *s, const struct fuse_setattr_in *in)
{
	int r = 0;

	if (in->valid & (FATTR_UID | FATTR_GID))
		r = set_owner(s, in);
	if (r == 0 && in->valid & FATTR_MODE)
		r = set_mode(s, in->mode);
	if (r == 0 && in->valid & FATTR_SIZE)
		r = set_size(s, in);
	if (r == 0 && in->valid & (FATTR_ATIME | FATTR_MTIME))
		r = set_times(s, in);
	return r;
}

static int set_once(const struct subject *s, const struct fuse_setattr_in *in)
{
	struct journal_intent intent;
	int64_t result;
	int r;

	if (journal_past(s->rq, &result, &intent) == JOURNAL_DONE)
		return (int)result;
	r = set_all(s, in);
	if (r == REQUEST_WAITS)
		return r; /* what came before is done again with the rest */
	journal_result(s->rq, r);
	return r;
}

int op_setattr(struct request *rq)
{
	const struct fuse_setattr_in *in = REQUEST_ARGS(rq, fuse_setattr_in);
	struct subject s;
	int r = subject_init(&s, rq, in->valid & FATTR_FH, in->fh);

	if (r == 0)
		r = set_once(&s, in);
	if (r == 0)
		r = reply_attr(&s);
	subject_done(&s);
	return r;
}

/*
 * By mode bits alone: of the sender only user and group are known. The guest's kernel asks only
 * when it was not told to check itself.
 */
static int check_access(const struct statx *st, const struct fuse_in_header *in, uint32_t mask)
{
	uint32_t bits = st->stx_mode & 7;

	if ((mask & ~(uint32_t)(R_OK | W_OK | X_OK)) != 0)
		return -EINVAL;
	if (in->uid == 0) {
		/* Root may all, but execute only what somebody may. */
		bits = R_OK | W_OK;
		if (st->stx_mode & 0111 || S_ISDIR(st->stx_mode))
			bits |= X_OK;
	} else if (in->uid == st->stx_uid) {
		bits = st->stx_mode >> 6 & 7;
	} else if (in->gid == st->stx_gid) {
		bits = st->stx_mode >> 3 & 7;
	}
	return (mask & ~bits) != 0 ? -EACCES : 0;
}

int op_access(struct request *rq)
{
	struct subject s;
	struct statx st;
	int r = subject_init(&s, rq, false, 0);

	if (r == 0)
		r = subject_stat(&s, 0, &st);
	if (r == 0)
		r = check_access(&st, &rq->in, REQUEST_ARGS(rq, fuse_access_in)->mask);
	subject_done(&s);
	return r;
}

static int reply_statfs(const struct subject *s)
{
	struct fuse_statfs_out out = { 0 };
	struct statfs st;
	int fd = subject_fd(s);

	if (fd < 0)
		return fd;
	if (HOST(fstatfs(fd, &st)) < 0)
		return -errno;
	out.st = (struct fuse_kstatfs){
		.blocks = st.f_blocks,
		.bfree = st.f_bfree,
		.bavail = st.f_bavail,
		.files = st.f_files,
		.ffree = st.f_ffree,
		.bsize = (uint32_t)st.f_bsize,
		.namelen = (uint32_t)st.f_namelen,
		.frsize = (uint32_t)(st.f_frsize ? st.f_frsize : st.f_bsize),
	};
	return request_reply(s->rq, &out, sizeof(out));
}

int op_statfs(struct request *rq)
{
	struct subject s;
	int r = subject_init(&s, rq, false, 0);

	if (r == 0)
		r = reply_statfs(&s);
	subject_done(&s);
	return r;
}

static int reply_link(const struct subject *s)
{
	int fd = subject_fd(s);
	ssize_t len;

	if (fd < 0)
		return fd;
	if (inode_type(s->rq->fs, s->inode) != S_IFLNK)
		return -EINVAL;
	len = HOST(readlinkat(fd, "", (char *)s->rq->payload, PATH_MAX));
	if (len < 0)
		return -errno;
	return request_reply(s->rq, s->rq->payload, (uint32_t)len);
}

int op_readlink(struct request *rq)
{
	struct subject s;
	int r = subject_init(&s, rq, false, 0);

	if (r == 0)
		r = reply_link(&s);
	subject_done(&s);
	return r;
}
