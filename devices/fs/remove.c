/*
 * UNLINK, RMDIR, RENAME, RENAME2.
 *
 * Runs in: worker, I/O threads. Trusts: nothing in requests.
 *
 * A repeat of an unlink would find the name gone by its own first run, and answer ENOENT; worse, it
 * could remove what somebody on the host has put there since. The intent holds the time; a
 * successor that finds an intent and no result takes for done (past.h) a name that is gone, that is
 * of something made after the intent, or of something changed since about then that the guest does
 * not know: a guest looks up what it removes, and moving a file changes it. What is not told from
 * the guest's own is a file that the guest knows by another name, and that somebody on the host
 * moves to the very name within the moments of a death; for that the intent would have to hold the
 * inode, which would cost each unlink a system call.
 *
 * A rename is recognised by the inodes: its intent holds what was at both names.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/error.h"
#include "devices/fs/creds.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/host.h"
#include "devices/fs/operation.h"
#include "devices/fs/past.h"

/* A name in a directory; the directory is in use. */
struct place {
	struct inode *parent;
	int dir;
	const char *name;
};

static int place_init(struct place *p, struct request *rq, uint64_t nodeid)
{
	p->parent = inode_get(rq->fs, nodeid);
	if (!p->parent)
		return -ESTALE;
	p->dir = inode_fd(rq->fs, p->parent);
	return p->dir < 0 ? p->dir : 0;
}

static void place_done(struct place *p, struct request *rq)
{
	if (p->parent)
		inode_put(rq->fs, p->parent);
}

static bool is_known(struct fs *fs, const struct statx *st)
{
	struct inode *i = inode_find(fs, st);

	if (i)
		inode_put(fs, i);
	return i != NULL;
}

/* A dead worker had the intention: is it gone? */
static bool was_removed(struct fs *fs, const struct place *p, uint64_t now_ns)
{
	struct statx st;
	int r = past_look(p->dir, p->name, &st);

	if (r < 0)
		return r == -ENOENT;
	return past_is_new(&st, now_ns) ||
	       (past_may_be_changed(&st, now_ns - PAST_TICK_NS) && !is_known(fs, &st));
}

static int remove_it(struct request *rq, const struct place *p, int flags)
{
	struct journal_intent intent = { .when_ns = past_now() };
	int r;

	inode_name_gone(rq->fs, p->parent, p->name);
	journal_intend(rq, &intent);
	CRASH_POINT("fs.remove.intended");
	r = errno_or(HOST(unlinkat(p->dir, p->name, flags)));
	CRASH_POINT("fs.remove.acted");
	readdir_name_gone(rq->in.nodeid);
	return r;
}

static int remove_once(struct request *rq, const struct place *p, int flags)
{
	struct journal_intent intent;
	enum journal_past past;
	int64_t result = 0;
	int r;

	past = journal_past(rq, &result, &intent);
	if (past == JOURNAL_DONE)
		return (int)result;
	r = past == JOURNAL_BEGUN && was_removed(rq->fs, p, intent.when_ns)
		    ? 0
		    : remove_it(rq, p, flags);
	journal_result(rq, r);
	CRASH_POINT("fs.remove.recorded");
	return r;
}

static int op_remove(struct request *rq, int flags)
{
	struct place p = {};
	uint32_t end;
	int r = 0;

	p.name = request_name(rq, 0, &end, &r);
	if (!p.name)
		return r;
	r = place_init(&p, rq, rq->in.nodeid);
	if (r == 0)
		r = remove_once(rq, &p, flags);
	place_done(&p, rq);
	return r;
}

int op_unlink(struct request *rq)
{
	return op_remove(rq, 0);
}

int op_rmdir(struct request *rq)
{
	return op_remove(rq, AT_REMOVEDIR);
}

struct move {
	struct request *rq;
	struct place from, to;
	uint32_t flags; /* RENAME_* */
};

/* What is at a place now; ino 0: nothing. */
struct seen {
	struct statx st;
	uint64_t ino, dev;
};

static int see(const struct place *p, struct seen *ret)
{
	int r = past_look(p->dir, p->name, &ret->st);

	ret->ino = ret->dev = 0;
	if (r == 0) {
		ret->ino = ret->st.stx_ino;
		ret->dev = past_dev(&ret->st);
	}
	return r == -ENOENT ? 0 : r;
}

static bool seen_is(const struct seen *s, uint64_t ino, uint64_t dev)
{
	return s->ino == ino && s->dev == dev;
}

/*
 * A dead worker had the intention: is the source at the destination, and no longer at its own name?
 * With hard links of one inode at both, renaming changes nothing, and is simply done again. A
 * source that is nowhere was moved, and somebody on the host has removed it since, if the
 * destination is not what it was.
 */
static bool was_moved(const struct move *m, const struct journal_intent *in)
{
	struct seen from, to;

	if (see(&m->from, &from) < 0 || see(&m->to, &to) < 0 || seen_is(&from, in->ino, in->dev))
		return false;
	return seen_is(&to, in->ino, in->dev) || !seen_is(&to, in->ino2, in->dev2);
}

/* The names by which the guest's inodes can be found again. */
static void set_names(const struct move *m, const struct seen *from, const struct seen *to)
{
	struct fs *fs = m->rq->fs;
	struct inode *moved = from->ino ? inode_find(fs, &from->st) : NULL;
	struct inode *other = to->ino ? inode_find(fs, &to->st) : NULL;

	if (moved)
		inode_name_set(fs, moved, m->to.parent, m->to.name);
	if (other && (m->flags & RENAME_EXCHANGE))
		inode_name_set(fs, other, m->from.parent, m->from.name);
	if (moved)
		inode_put(fs, moved);
	if (other)
		inode_put(fs, other);
}

/*
 * As the sender: a whiteout is a new file, and where ids are mapped the kernel lets nobody make a
 * name whose own id has no place in the map (EOVERFLOW), as the device's has not.
 */
static int act(const struct move *m)
{
	int r = creds_enter(m->rq, CREDS_NO_GROUP);

	if (r < 0)
		return r;
	r = errno_or((int)HOST(syscall(SYS_renameat2, m->from.dir, m->from.name, m->to.dir,
				       m->to.name, m->flags)));
	creds_leave(m->rq);
	return r;
}

static int move_it(const struct move *m)
{
	struct journal_intent intent = {};
	struct seen from, to;
	int r = see(&m->from, &from);

	if (r == 0)
		r = see(&m->to, &to);
	if (r < 0)
		return r;
	if (!from.ino)
		return -ENOENT;
	intent.ino = from.ino;
	intent.dev = from.dev;
	intent.ino2 = to.ino;
	intent.dev2 = to.dev;
	inode_name_gone(m->rq->fs, m->from.parent, m->from.name);
	inode_name_gone(m->rq->fs, m->to.parent, m->to.name);
	journal_intend(m->rq, &intent);
	CRASH_POINT("fs.rename.intended");
	r = act(m);
	CRASH_POINT("fs.rename.acted");
	readdir_name_gone(inode_id(m->rq->fs, m->from.parent));
	readdir_name_gone(inode_id(m->rq->fs, m->to.parent));
	if (r == 0)
		set_names(m, &from, &to);
	return r;
}

/* After a death the table may have the old names of both: let them be found by those they have. */
static int moved_already(const struct move *m)
{
	struct seen from, to;

	/* As they are now, that is the other way round. */
	if (see(&m->from, &to) == 0 && see(&m->to, &from) == 0)
		set_names(m, &from, &to);
	return 0;
}

static int move_once(const struct move *m)
{
	struct journal_intent intent;
	enum journal_past past;
	int64_t result = 0;
	int r;

	past = journal_past(m->rq, &result, &intent);
	if (past == JOURNAL_DONE)
		return (int)result;
	r = past == JOURNAL_BEGUN && was_moved(m, &intent) ? moved_already(m) : move_it(m);
	journal_result(m->rq, r);
	CRASH_POINT("fs.rename.recorded");
	return r;
}

/* The names are at offset of the arguments, the old one first. */
static int op_move(struct request *rq, uint64_t newdir, uint32_t flags, uint32_t offset)
{
	struct move m = { .rq = rq, .flags = flags };
	int r = 0;

	m.from.name = request_name(rq, offset, &offset, &r);
	m.to.name = m.from.name ? request_name(rq, offset, &offset, &r) : NULL;
	if (!m.to.name)
		return r;
	r = place_init(&m.from, rq, rq->in.nodeid);
	if (r == 0)
		r = place_init(&m.to, rq, newdir);
	if (r == 0)
		r = move_once(&m);
	place_done(&m.from, rq);
	place_done(&m.to, rq);
	return r;
}

int op_rename(struct request *rq)
{
	return op_move(rq, REQUEST_ARGS(rq, fuse_rename_in)->newdir, 0,
		       sizeof(struct fuse_rename_in));
}

int op_rename2(struct request *rq)
{
	const struct fuse_rename2_in *in = REQUEST_ARGS(rq, fuse_rename2_in);

	if (in->flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	return op_move(rq, in->newdir, in->flags, sizeof(*in));
}
