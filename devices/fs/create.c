/*
 * CREATE and TMPFILE: make a file and open it, in one.
 *
 * Runs in: worker, I/O threads. Trusts: nothing in requests.
 *
 * What is opened is what this request has made, and nothing else: the guest's kernel asks nobody
 * whether the sender may open a file that he makes. Where something is at the name by now, a
 * symlink, a device or a file of somebody's, it is answered with ESTALE, upon which the guest's
 * kernel looks the name up and does what is right for it.
 *
 * Steps, and what a successor does when its predecessor died after each:
 *
 *	intent			looks whether the file was made (make.h)
 *	file made		the same; its descriptor had no name in a table and was swept:
 *				opened anew, by inode
 *	result on record	likewise
 *	handle on record	answers with that handle
 */
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/host.h"
#include "devices/fs/make.h"
#include "devices/fs/open.h"
#include "devices/fs/operation.h"

struct create_out {
	struct fuse_entry_out entry;
	struct fuse_open_out open;
};
static_assert(sizeof(struct create_out) == 144, "as on the wire");

/* i, in use, is open by this handle. */
static int reply(struct request *rq, struct inode *i, const struct statx *st, uint64_t fh)
{
	struct create_out out = { .open.fh = fh };

	attr_entry(rq->fs, i, st, &out.entry);
	out.open.open_flags = open_reply_flags(rq->fs, false);
	return request_reply(rq, &out, sizeof(out));
}

/* Run again, and the handle is there: so was all the rest. */
static int reply_again(struct request *rq, uint64_t fh)
{
	const struct handle *h = handle_get(rq->fs, fh, HANDLE_FILE);
	struct inode *i;
	struct statx st;
	int r;

	if (!h)
		return -EBADF;
	if (inode_found(rq, &i)) {
		r = inode_stat(rq->fs, i, &st);
		if (r < 0)
			inode_put(rq->fs, i);
	} else {
		r = inode_look_up_fd(rq, h->fd, &i, &st);
	}
	handle_put(rq->fs, h);
	if (r < 0)
		return r;
	r = reply(rq, i, &st, fh);
	inode_put(rq->fs, i);
	return r;
}

/* fd is taken. */
static int finish(struct make *m, int fd, struct inode *i, const struct statx *st)
{
	struct request *rq = m->rq;
	uint64_t fh;
	int r;

	CRASH_POINT("fs.create.opened");
	r = handle_open(rq, fd, HANDLE_FILE, (uint32_t)m->flags, inode_id(rq->fs, i), &fh);
	CRASH_POINT("fs.create.handled");
	if (r == 0)
		return reply(rq, i, st, fh);
	journal_take_back(rq); /* the guest will not know of it */
	return r;
}

/*
 * The inode of the file that m->fd is. Its name leads there faster than its descriptor, unless
 * somebody on the host has given it to another file meanwhile.
 */
static int look_up_new(struct make *m, struct inode **ret, struct statx *ret_stat)
{
	struct stat made;
	int r;

	if (!m->name)
		return inode_look_up_fd(m->rq, m->fd, ret, ret_stat);
	r = HOST(fd_stat(m->fd, &made));
	if (r < 0)
		return r;
	r = inode_look_up_new(m->rq, m->parent, m->name, ret, ret_stat);
	if (r == 0 && ret_stat->stx_ino == made.st_ino &&
	    makedev(ret_stat->stx_dev_major, ret_stat->stx_dev_minor) == made.st_dev)
		return 0;
	if (r == 0) {
		journal_take_back(m->rq);
		inode_put(m->rq->fs, *ret);
	} else if (r != -ENOENT) {
		return r;
	}
	return inode_look_up_fd(m->rq, m->fd, ret, ret_stat);
}

/*
 * The file is m->fd, made and opened here. With direct I/O it is opened once more: an open that
 * makes a file and is then refused for O_DIRECT would leave it behind.
 */
static int finish_new(struct make *m)
{
	struct inode *i;
	struct statx st;
	int r, direct;

	r = look_up_new(m, &i, &st);
	if (r < 0) {
		host_close(m->fd);
		return r;
	}
	CRASH_POINT("fs.create.looked_up");
	direct = m->flags & O_DIRECT ? inode_reopen(m->rq->fs, i, m->flags & ~O_TRUNC) : -1;
	if (direct >= 0) {
		host_close(m->fd);
		m->fd = direct;
	}
	r = finish(m, m->fd, i, &st);
	inode_put(m->rq->fs, i);
	return r;
}

static int open_made(struct make *m, struct inode *i)
{
	int flags = m->flags & ~O_TRUNC;
	int fd = inode_reopen(m->rq->fs, i, flags);

	if (fd == -EINVAL && (flags & O_DIRECT))
		fd = inode_reopen(m->rq->fs, i, flags & ~O_DIRECT);
	return fd;
}

/* What is at the name was made by a worker that died. */
static int finish_found(struct make *m)
{
	struct request *rq = m->rq;
	struct inode *i;
	struct statx st;
	int fd, r = make_look_up(m, &i, &st);

	if (r < 0)
		return r;
	fd = S_ISREG(st.stx_mode) ? open_made(m, i) : -ESTALE;
	if (fd < 0)
		journal_take_back(rq);
	r = fd < 0 ? fd : finish(m, fd, i, &st);
	inode_put(rq->fs, i);
	return r;
}

static int act_create(struct make *m)
{
	int flags = (m->flags & ~(O_TRUNC | O_DIRECT)) | O_CREAT | O_EXCL | O_NOFOLLOW;

	m->fd = HOST(openat(m->dir, m->name, flags, (mode_t)make_mode(m) & 07777));
	return m->fd < 0 ? -errno : 0;
}

static bool create_is_ours(const struct make *m, const struct statx *st, uint64_t tick_ns)
{
	return S_ISREG(st->stx_mode) && past_may_be_new(st, tick_ns);
}

static int create(struct make *m, bool exclusive)
{
	int r = make_once(m);

	if (r == -EEXIST && !exclusive)
		return -ESTALE;
	if (r < 0) {
		if (m->fd >= 0)
			host_close(m->fd); /* it could not be labelled */
		return r;
	}
	return m->fd >= 0 ? finish_new(m) : finish_found(m);
}

/* What both requests bring. */
static void init(struct make *m, const struct make_ops *ops)
{
	const struct fuse_create_in *in = REQUEST_ARGS(m->rq, fuse_create_in);

	m->ops = ops;
	m->mode = S_IFREG | (in->mode & 07777);
	m->umask = in->umask;
	m->flags = open_host_flags(m->rq->fs, in->flags);
}

int op_create(struct request *rq)
{
	static const struct make_ops ops = { .act = act_create,
					     .is_ours = create_is_ours,
					     .as_sender = true };
	const struct fuse_create_in *in = REQUEST_ARGS(rq, fuse_create_in);
	struct make m;
	uint32_t end;
	uint64_t fh;
	int r;

	if (rq->again && handle_found(rq, &fh))
		return reply_again(rq, fh);
	r = make_init(&m, rq, sizeof(*in), &end);
	init(&m, &ops);
	if (r == 0)
		r = extension_parse(rq, end, &m.extension);
	if (r == 0)
		r = create(&m, in->flags & O_EXCL);
	make_done(&m);
	return r;
}

/*
 * A file without a name; the guest's kernel sends one all the same, "/". O_EXCL: it never gets one.
 */
static int act_tmpfile(struct make *m)
{
	int flags = m->flags & ~(O_TRUNC | O_DIRECT);

	if (REQUEST_ARGS(m->rq, fuse_create_in)->flags & O_EXCL)
		flags |= O_EXCL;
	m->fd = HOST(openat(m->dir, ".", flags | O_TMPFILE, (mode_t)make_mode(m) & 07777));
	return m->fd < 0 ? -errno : 0;
}

/*
 * A repeat need not ask whether it was done: without a handle on record, what a dead worker made is
 * gone with its descriptor. The result is there so that, with one, the look-up stays on record too,
 * and with it the node id that the handle is of.
 */
static int tmpfile_new(struct make *m)
{
	int r;

	if (m->rq->again)
		journal_take_back(m->rq);
	r = make_act(m);
	if (r == 0 && m->extension.n_contexts > 0) {
		r = make_label(m, m->fd);
		if (r < 0)
			host_close(m->fd);
	}
	if (r < 0)
		return r;
	journal_result(m->rq, 0);
	return finish_new(m);
}

int op_tmpfile(struct request *rq)
{
	static const struct make_ops ops = { .act = act_tmpfile, .as_sender = true };
	const struct fuse_create_in *in = REQUEST_ARGS(rq, fuse_create_in);
	struct make m = { .rq = rq, .fd = -1 };
	uint32_t end;
	uint64_t fh;
	int r;

	if (rq->again && handle_found(rq, &fh))
		return reply_again(rq, fh);
	if (!request_text(rq, sizeof(*in), &end))
		return -EINVAL;
	m.parent = inode_get(rq->fs, rq->in.nodeid);
	if (!m.parent)
		return -ESTALE;
	init(&m, &ops);
	m.dir = inode_fd(rq->fs, m.parent);
	r = m.dir < 0 ? m.dir : extension_parse(rq, end, &m.extension);
	if (r == 0)
		r = tmpfile_new(&m);
	make_done(&m);
	return r;
}
