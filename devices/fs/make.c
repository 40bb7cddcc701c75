/* MKNOD, MKDIR, SYMLINK, LINK. See make.h; CREATE and TMPFILE are in create.c. */
#include "devices/fs/make.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/error.h"
#include "devices/fs/creds.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/host.h"
#include "devices/fs/operation.h"
#include "devices/fs/xattr.h"

int make_init(struct make *m, struct request *rq, uint32_t offset, uint32_t *ret_end)
{
	int r = 0;

	*m = (struct make){ .rq = rq, .fd = -1, .dir = -1 };
	m->name = request_name(rq, offset, ret_end, &r);
	if (!m->name)
		return r;
	m->parent = inode_get(rq->fs, rq->in.nodeid);
	if (!m->parent)
		return -ESTALE;
	m->dir = inode_fd(rq->fs, m->parent);
	return m->dir < 0 ? m->dir : 0;
}

void make_done(struct make *m)
{
	if (m->source)
		inode_put(m->rq->fs, m->source);
	if (m->parent)
		inode_put(m->rq->fs, m->parent);
}

/*
 * This thread's umask: each has one of its own (fs.c). It is nearly always what it was the last
 * time.
 */
static void set_umask(uint32_t mask)
{
	static _Thread_local uint32_t current = UINT32_MAX;

	mask &= 0777;
	if (mask == current)
		return;
	umask((mode_t)mask);
	current = mask;
}

int make_act(struct make *m)
{
	int r;

	if (!m->ops->as_sender)
		return m->ops->act(m);
	r = creds_enter(m->rq, CREDS_NO_GROUP);
	if (r < 0)
		return r;
	if (m->mode && !S_ISLNK(m->mode)) /* links have no mode of their own */
		set_umask(m->umask);
	r = m->ops->act(m);
	creds_leave(m->rq);
	return r;
}

/*
 * The worker keeps CAP_FSETID while it acts for a sender, so the host's kernel leaves SGID as it
 * is. Guests before Linux 6.0 leave it to us. The sender's groups: its own, and the one that it
 * sent because it is the directory's.
 */
uint32_t make_mode(const struct make *m)
{
	const uint32_t both = S_ISGID | S_IXGRP;
	const struct fuse_in_header *in = &m->rq->in;
	struct statx st;

	if ((m->mode & both) != both || in->uid == 0)
		return m->mode;
	if (inode_stat(m->rq->fs, m->parent, &st) < 0)
		return m->mode & ~(uint32_t)S_ISGID;
	if (!(st.stx_mode & S_ISGID) || st.stx_gid == in->gid ||
	    extension_has_group(&m->extension, st.stx_gid))
		return m->mode;
	return m->mode & ~(uint32_t)S_ISGID;
}

/* Files and directories: the kernel gives attributes of user.* to nothing else. */
static bool takes_labels(const struct make *m)
{
	return S_ISREG(m->mode) || S_ISDIR(m->mode);
}

int make_label(const struct make *m, int fd)
{
	struct extension_context c;
	uint32_t at = 0;
	int r = 0;

	while (r == 0 && extension_next_context(&m->extension, &at, &c)) {
		r = xattr_set(m->rq->fs, fd, &c);
		if (r == -EPERM && m->rq->fs->config.xattr_map && !takes_labels(m))
			r = 0;
	}
	return r;
}

/* On what act() has made. Without its label it must not stay: the guest's policy counts on it. */
static int label(const struct make *m)
{
	host_fd int opened = -1;
	int fd = m->fd, r;

	if (m->extension.n_contexts == 0)
		return 0;
	if (fd < 0)
		fd = opened = HOST(openat(m->dir, m->name, O_PATH | O_NOFOLLOW));
	r = fd < 0 ? -errno : make_label(m, fd);
	if (r < 0)
		HOST(unlinkat(m->dir, m->name, S_ISDIR(m->mode) ? AT_REMOVEDIR : 0));
	return r;
}

static int begin(struct make *m)
{
	struct journal_intent intent = { .when_ns = past_tick() };
	int r;

	journal_intend(m->rq, &intent);
	CRASH_POINT("fs.make.intended");
	r = make_act(m);
	CRASH_POINT("fs.make.acted");
	m->fresh = r == 0 && !m->source;
	return r;
}

/* A dead worker had the intention: is it there? */
static bool was_done(struct make *m, const struct journal_intent *intent)
{
	struct statx st;

	return past_look(m->dir, m->name, &st) == 0 && m->ops->is_ours(m, &st, intent->when_ns);
}

int make_once(struct make *m)
{
	struct journal_intent intent;
	enum journal_past past;
	int64_t result = 0;
	int r;

	past = journal_past(m->rq, &result, &intent);
	if (past == JOURNAL_DONE)
		return (int)result;
	r = past == JOURNAL_BEGUN && was_done(m, &intent) ? 0 : begin(m);
	if (r == 0)
		r = label(m);
	journal_result(m->rq, r);
	CRASH_POINT("fs.make.recorded");
	return r;
}

int make_look_up(struct make *m, struct inode **ret, struct statx *ret_stat)
{
	int r;

	if (m->fresh)
		return inode_look_up_new(m->rq, m->parent, m->name, ret, ret_stat);
	if (!inode_found(m->rq, ret))
		return inode_look_up(m->rq, m->parent, m->name, ret, ret_stat);
	r = inode_stat(m->rq->fs, *ret, ret_stat);
	if (r < 0)
		inode_put(m->rq->fs, *ret);
	return r;
}

static int reply_entry(struct make *m)
{
	struct fuse_entry_out out = {};
	struct inode *i;
	struct statx st;
	int r = make_look_up(m, &i, &st);

	if (r < 0)
		return r;
	CRASH_POINT("fs.make.looked_up");
	attr_entry(m->rq->fs, i, &st, &out);
	inode_put(m->rq->fs, i);
	return request_reply(m->rq, &out, sizeof(out));
}

static int make_and_reply(struct make *m)
{
	int r = make_once(m);

	return r < 0 ? r : reply_entry(m);
}

/* The guest's 32 bits (the kernel's new_encode_dev) as a device number. */
static dev_t decode_rdev(uint32_t rdev)
{
	return makedev((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00));
}

static bool is_device(uint32_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode);
}

static int act_mknod(struct make *m)
{
	dev_t dev = is_device(m->mode) ? decode_rdev(m->rdev) : 0;

	return errno_or(HOST(mknodat(m->dir, m->name, (mode_t)make_mode(m), dev)));
}

static bool node_is_ours(const struct make *m, const struct statx *st, uint64_t tick_ns)
{
	if ((st->stx_mode & S_IFMT) != (m->mode & S_IFMT) || !past_may_be_new(st, tick_ns))
		return false;
	return !is_device(m->mode) ||
	       makedev(st->stx_rdev_major, st->stx_rdev_minor) == decode_rdev(m->rdev);
}

/*
 * Which kinds the guest may make. A character device 0:0 is a whiteout, which is none (overlayfs in
 * the guest has them).
 */
static int check_node(const struct fs *fs, const struct make *m)
{
	switch (m->mode & S_IFMT) {
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
		return 0;
	case S_IFCHR:
		return m->rdev == 0 || fs->config.device_nodes ? 0 : -EPERM;
	case S_IFBLK:
		return fs->config.device_nodes ? 0 : -EPERM;
	default:
		return -EINVAL;
	}
}

int op_mknod(struct request *rq)
{
	static const struct make_ops ops = { .act = act_mknod,
					     .is_ours = node_is_ours,
					     .as_sender = true };
	const struct fuse_mknod_in *in = REQUEST_ARGS(rq, fuse_mknod_in);
	uint32_t end;
	struct make m;
	int r;

	r = make_init(&m, rq, sizeof(*in), &end);
	m.ops = &ops;
	m.mode = in->mode & (S_IFMT | 07777);
	m.umask = in->umask;
	m.rdev = in->rdev;
	if (r == 0)
		r = extension_parse(rq, end, &m.extension);
	if (r == 0)
		r = check_node(rq->fs, &m);
	if (r == 0)
		r = make_and_reply(&m);
	make_done(&m);
	return r;
}

static int act_mkdir(struct make *m)
{
	return errno_or(HOST(mkdirat(m->dir, m->name, (mode_t)m->mode & 07777)));
}

int op_mkdir(struct request *rq)
{
	static const struct make_ops ops = { .act = act_mkdir,
					     .is_ours = node_is_ours,
					     .as_sender = true };
	const struct fuse_mkdir_in *in = REQUEST_ARGS(rq, fuse_mkdir_in);
	uint32_t end;
	struct make m;
	int r;

	r = make_init(&m, rq, sizeof(*in), &end);
	m.ops = &ops;
	m.mode = S_IFDIR | (in->mode & 07777);
	m.umask = in->umask;
	if (r == 0)
		r = extension_parse(rq, end, &m.extension);
	if (r == 0)
		r = make_and_reply(&m);
	make_done(&m);
	return r;
}

static int act_symlink(struct make *m)
{
	return errno_or(HOST(symlinkat(m->target, m->dir, m->name)));
}

static bool symlink_is_ours(const struct make *m, const struct statx *st, uint64_t tick_ns)
{
	char target[PATH_MAX];
	ssize_t len;

	if (!S_ISLNK(st->stx_mode) || !past_may_be_new(st, tick_ns))
		return false;
	len = HOST(readlinkat(m->dir, m->name, target, sizeof(target)));
	return len >= 0 && (size_t)len == strlen(m->target) &&
	       memcmp(target, m->target, (size_t)len) == 0;
}

int op_symlink(struct request *rq)
{
	static const struct make_ops ops = { .act = act_symlink,
					     .is_ours = symlink_is_ours,
					     .as_sender = true };
	uint32_t end;
	struct make m;
	int r;

	r = make_init(&m, rq, 0, &end);
	m.ops = &ops;
	m.mode = S_IFLNK;
	if (r == 0) {
		m.target = request_text(rq, end, &end);
		r = m.target ? extension_parse(rq, end, &m.extension) : -EINVAL;
	}
	if (r == 0)
		r = make_and_reply(&m);
	make_done(&m);
	return r;
}

/*
 * By the descriptor, not by a name that may have changed; AT_EMPTY_PATH would need
 * CAP_DAC_READ_SEARCH.
 */
static int act_link(struct make *m)
{
	char number[16];
	int fd = inode_fd(m->rq->fs, m->source);

	if (fd < 0)
		return fd;
	snprintf(number, sizeof(number), "%d", fd);
	return errno_or(
		HOST(linkat(m->rq->fs->proc_fd, number, m->dir, m->name, AT_SYMLINK_FOLLOW)));
}

static bool link_is_ours(const struct make *m, const struct statx *st, uint64_t tick_ns)
{
	struct statx source;

	return inode_stat(m->rq->fs, m->source, &source) == 0 && source.stx_ino == st->stx_ino &&
	       past_dev(&source) == past_dev(st) && past_may_be_changed(st, tick_ns);
}

int op_link(struct request *rq)
{
	static const struct make_ops ops = { .act = act_link,
					     .is_ours = link_is_ours,
					     .as_sender = true };
	const struct fuse_link_in *in = REQUEST_ARGS(rq, fuse_link_in);
	uint32_t end;
	struct make m;
	int r;

	r = make_init(&m, rq, sizeof(*in), &end);
	m.ops = &ops;
	if (r == 0) {
		m.source = inode_get(rq->fs, in->oldnodeid);
		r = m.source ? make_and_reply(&m) : -ESTALE;
	}
	make_done(&m);
	return r;
}
