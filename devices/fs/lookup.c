/*
 * LOOKUP, FORGET, BATCH_FORGET.
 *
 * Runs in: worker, I/O threads. Trusts: nothing of the request's.
 *
 * A name that is not there is ENOENT, which the guest's kernel does not keep; only with
 * cache=always, where nobody else makes names, it is an entry without a node, which it keeps as
 * long as any other.
 *
 * "." and ".." are refused by request_name(): the guest's kernel knows them, and asks only for file
 * handles (FUSE_EXPORT_SUPPORT), which are not offered.
 */
#include <errno.h>

#include "devices/fs/attr.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/inode.h"
#include "devices/fs/journal.h"
#include "devices/fs/operation.h"

static int reply_negative(struct request *rq)
{
	struct fuse_entry_out out;

	if (rq->fs->config.cache != FS_CACHE_ALWAYS)
		return -ENOENT;
	attr_no_entry(rq->fs, &out);
	return request_reply(rq, &out, sizeof(out));
}

int op_lookup(struct request *rq)
{
	struct fuse_entry_out out;
	struct inode *parent, *i;
	struct statx st;
	const char *name;
	uint32_t end;
	int r;

	name = request_name(rq, 0, &end, &r);
	if (!name)
		return r;
	parent = inode_get(rq->fs, rq->in.nodeid);
	if (!parent)
		return -ESTALE;
	r = inode_look_up(rq, parent, name, &i, &st);
	inode_put(rq->fs, parent);
	if (r < 0)
		return r == -ENOENT ? reply_negative(rq) : r;
	attr_entry(rq->fs, i, &st, &out);
	inode_put(rq->fs, i);
	r = request_reply(rq, &out, sizeof(out));
	if (r < 0)
		journal_take_back(rq);
	return r;
}

int op_forget(struct request *rq)
{
	inode_forget(rq, rq->in.nodeid, REQUEST_ARGS(rq, fuse_forget_in)->nlookup);
	inode_give_back(rq->fs);
	return REQUEST_NO_REPLY;
}

int op_batch_forget(struct request *rq)
{
	const struct fuse_batch_forget_in *in = REQUEST_ARGS(rq, fuse_batch_forget_in);
	const struct fuse_forget_one *one = (const void *)(in + 1);
	uint32_t room = (uint32_t)((rq->args_len - sizeof(*in)) / sizeof(*one));

	for (uint32_t i = 0; i < in->count && i < room; i++)
		inode_forget(rq, one[i].nodeid, one[i].nlookup);
	inode_give_back(rq->fs);
	return REQUEST_NO_REPLY;
}
