/*
 * SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR.
 *
 * Runs in: worker, I/O threads. Trusts: nothing in requests.
 *
 * The system calls for descriptors refuse O_PATH ones, and symlinks, FIFOs and devices cannot or
 * must not be opened otherwise. So those for paths are used, with the path "N": the worker's
 * working directory is its own /proc/PID/fd (fs.c), where N is a link to what descriptor N is, and
 * stands for that even if it is a symlink.
 *
 * Not repeatable are XATTR_CREATE, which would find its own first run's attribute, and REMOVEXATTR,
 * which would not find any. Both are rare enough to look first, so that an intent means: it was not
 * there (was there). What a successor finds is then the work of the dead worker, if the value is
 * the request's; or of somebody on the host.
 */
#include "devices/fs/xattr.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "devices/base/crash.h"
#include "devices/base/error.h"
#include "devices/fs/creds.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/host.h"
#include "devices/fs/operation.h"
#include "devices/fs/past.h"
#include "devices/fs/xattr-map.h"

enum {
	VALUE_MAX = 64 << 10, /* XATTR_SIZE_MAX of the kernel */
	LIST_MAX = 64 << 10,  /* XATTR_LIST_MAX */
};
static_assert((int)VALUE_MAX <= (int)REQUEST_PAYLOAD_MAX, "built there");
static_assert((int)LIST_MAX <= (int)REQUEST_PAYLOAD_MAX, "built there");

/* One attribute of one inode, by the names that system calls take. */
struct subject {
	struct request *rq;
	struct inode *inode; /* in use */
	char path[16];	     /* of the inode */
	char name[XATTR_MAP_NAME_MAX];
};

static struct xattr_map map_of(const struct fs *fs)
{
	return (struct xattr_map){ .prefix = fs->config.xattr_map, .acl = fs->config.acl };
}

/* fd in decimal, which is its path. */
static void fd_path(int fd, char ret[16])
{
	char digits[16];
	unsigned n = 0, v = (unsigned)fd;

	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n > 0)
		*ret++ = digits[--n];
	*ret = '\0';
}

/* The inode of the request. Put it with subject_done(), also after failure. */
static int subject_init(struct subject *s, struct request *rq)
{
	int fd;

	s->rq = rq;
	s->inode = NULL;
	if (!rq->fs->config.xattr)
		return -EOPNOTSUPP;
	s->inode = inode_get(rq->fs, rq->in.nodeid);
	if (!s->inode)
		return -ESTALE;
	fd = inode_fd(rq->fs, s->inode);
	if (fd < 0)
		return fd;
	fd_path(fd, s->path);
	return 0;
}

static void subject_done(struct subject *s)
{
	if (s->inode)
		inode_put(s->rq->fs, s->inode);
}

/* The attribute that the text at offset names. */
static int subject_name(struct subject *s, uint32_t offset, uint32_t *ret_end)
{
	struct xattr_map map = map_of(s->rq->fs);
	const char *name = request_text(s->rq, offset, ret_end);

	if (!name || !*name)
		return -EINVAL;
	return xattr_map_to_host(&map, name, s->name);
}

int xattr_set(struct fs *fs, int fd, const struct extension_context *c)
{
	struct xattr_map map = map_of(fs);
	char path[16], name[XATTR_MAP_NAME_MAX];
	int r = fs->config.xattr ? xattr_map_to_host(&map, c->name, name) : -EOPNOTSUPP;

	if (r < 0)
		return r;
	fd_path(fd, path);
	return errno_or(HOST(setxattr(path, name, c->value, c->len, 0)));
}

void xattr_capabilities_end(struct fs *fs, int fd)
{
	struct xattr_map map = map_of(fs);
	char path[16], name[XATTR_MAP_NAME_MAX];

	if (!fs->config.xattr || !map.prefix ||
	    xattr_map_to_host(&map, "security.capability", name) < 0)
		return;
	fd_path(fd, path);
	HOST(removexattr(path, name)); /* there is rarely one */
}

int op_getxattr(struct request *rq)
{
	const struct fuse_getxattr_in *in = REQUEST_ARGS(rq, fuse_getxattr_in);
	uint32_t room = in->size < VALUE_MAX ? in->size : VALUE_MAX, end;
	struct subject s;
	ssize_t len = 0;
	int r;

	r = subject_init(&s, rq);
	if (r == 0)
		r = subject_name(&s, sizeof(*in), &end);
	if (r == -EPERM)
		r = -ENODATA; /* hidden */
	if (r == 0) {
		len = HOST(getxattr(s.path, s.name, room > 0 ? rq->payload : NULL, room));
		r = len < 0 ? -errno : 0;
	}
	subject_done(&s);
	if (r < 0)
		return r;
	if (room > 0)
		return request_reply(rq, rq->payload, (uint32_t)len);
	return request_reply(rq, &(struct fuse_getxattr_out){ .size = (uint32_t)len },
			     sizeof(struct fuse_getxattr_out));
}

/* The list as the guest sees it, in rq->payload. Its length or a negative errno. */
static ssize_t list(struct request *rq)
{
	struct xattr_map map = map_of(rq->fs);
	struct subject s;
	ssize_t len;
	int r = subject_init(&s, rq);

	len = r < 0 ? r : HOST(listxattr(s.path, (char *)rq->payload, LIST_MAX));
	if (r == 0 && len < 0)
		len = -errno;
	subject_done(&s);
	return len < 0 ? len : (ssize_t)xattr_map_list(&map, (char *)rq->payload, (size_t)len);
}

int op_listxattr(struct request *rq)
{
	const struct fuse_getxattr_in *in = REQUEST_ARGS(rq, fuse_getxattr_in);
	ssize_t len = list(rq);

	if (len < 0)
		return (int)len;
	if (in->size == 0)
		return request_reply(rq, &(struct fuse_getxattr_out){ .size = (uint32_t)len },
				     sizeof(struct fuse_getxattr_out));
	return (size_t)len > in->size ? -ERANGE : request_reply(rq, rq->payload, (uint32_t)len);
}

/* SETXATTR's arguments. */
struct setting {
	struct subject subject;
	const uint8_t *value;
	uint32_t len;
	int flags;	/* XATTR_* */
	bool kill_sgid; /* as chmod by somebody outside of the file's group would */
};

/* The structure grew with FUSE_SETXATTR_EXT. */
static int setting_parse(struct setting *x, struct request *rq)
{
	const struct fuse_setxattr_in *in = REQUEST_ARGS(rq, fuse_setxattr_in);
	bool extended = init_has(rq->fs, FUSE_SETXATTR_EXT);
	uint32_t head = extended ? sizeof(*in) : FUSE_COMPAT_SETXATTR_IN_SIZE, end;
	int r;

	if (rq->args_len < head)
		return -EINVAL;
	r = subject_name(&x->subject, head, &end);
	if (r < 0)
		return r;
	if (in->size > VALUE_MAX)
		return -E2BIG;
	if (!span_fits(rq->args_len, end, in->size) ||
	    (in->flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)))
		return -EINVAL;
	x->value = rq->args + end;
	x->len = in->size;
	x->flags = (int)in->flags;
	x->kill_sgid = extended && (in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID);
	return 0;
}

static int set(const struct setting *x)
{
	const struct subject *s = &x->subject;
	int r;

	if (!x->kill_sgid)
		return errno_or(HOST(setxattr(s->path, s->name, x->value, x->len, x->flags)));
	/* The host's kernel clears SGID itself for a caller that is not of the file's group. */
	r = creds_enter(s->rq, CREDS_NO_GROUP);
	if (r < 0)
		return r;
	creds_fsetid_drop();
	r = errno_or(HOST(setxattr(s->path, s->name, x->value, x->len, x->flags)));
	creds_fsetid_restore();
	creds_leave(s->rq);
	return r;
}

/* A dead worker meant to create it: is it there, with this value? */
static bool was_set(const struct setting *x)
{
	const struct subject *s = &x->subject;
	ssize_t len = HOST(getxattr(s->path, s->name, s->rq->payload, VALUE_MAX));

	return len >= 0 && (size_t)len == x->len && memcmp(s->rq->payload, x->value, x->len) == 0;
}

static int create(const struct setting *x)
{
	struct journal_intent intent = { .when_ns = past_tick() };
	int r;

	if (HOST(getxattr(x->subject.path, x->subject.name, NULL, 0)) >= 0)
		return -EEXIST;
	journal_intend(x->subject.rq, &intent);
	CRASH_POINT("fs.setxattr.intended");
	r = set(x);
	CRASH_POINT("fs.setxattr.acted");
	return r;
}

static int set_once(const struct setting *x)
{
	struct request *rq = x->subject.rq;
	struct journal_intent intent;
	enum journal_past past;
	int64_t result = 0;
	int r;

	past = journal_past(rq, &result, &intent);
	if (past == JOURNAL_DONE)
		return (int)result;
	if (!(x->flags & XATTR_CREATE))
		r = set(x);
	else
		r = past == JOURNAL_BEGUN && was_set(x) ? 0 : create(x);
	journal_result(rq, r);
	CRASH_POINT("fs.setxattr.recorded");
	return r;
}

int op_setxattr(struct request *rq)
{
	struct setting x;
	int r;

	r = subject_init(&x.subject, rq);
	if (r == 0)
		r = setting_parse(&x, rq);
	if (r == 0)
		r = set_once(&x);
	subject_done(&x.subject);
	return r;
}

static int take_away(const struct subject *s)
{
	struct journal_intent intent = { .when_ns = past_tick() };
	int r;

	if (HOST(getxattr(s->path, s->name, NULL, 0)) < 0 && errno == ENODATA)
		return -ENODATA;
	journal_intend(s->rq, &intent);
	CRASH_POINT("fs.removexattr.intended");
	r = errno_or(HOST(removexattr(s->path, s->name)));
	CRASH_POINT("fs.removexattr.acted");
	return r;
}

static int take_away_once(const struct subject *s)
{
	struct journal_intent intent;
	enum journal_past past;
	int64_t result = 0;
	int r;

	past = journal_past(s->rq, &result, &intent);
	if (past == JOURNAL_DONE)
		return (int)result;
	r = take_away(s);
	if (past == JOURNAL_BEGUN && r == -ENODATA)
		r = 0; /* it was there before the intent */
	journal_result(s->rq, r);
	CRASH_POINT("fs.removexattr.recorded");
	return r;
}

int op_removexattr(struct request *rq)
{
	struct subject s;
	uint32_t end;
	int r;

	r = subject_init(&s, rq);
	if (r == 0)
		r = subject_name(&s, 0, &end);
	if (r == 0)
		r = take_away_once(&s);
	subject_done(&s);
	return r;
}
