/* INIT and DESTROY. See init.h. */
#include "devices/fs/init.h"

#include <errno.h>
#include <string.h>

#include "devices/base/crash.h"
#include "devices/base/log.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/operation.h"
#include "devices/fs/proto.h"

enum {
	OLDEST_MINOR = 31, /* virtio-fs began with it (Linux 5.4) */
	MAX_WRITE = 1 << 20,
	MAX_PAGES = MAX_WRITE >> 12,
	MAX_BACKGROUND = 4096, /* what a queue holds is the limit */
};

/* INIT of the kernels before 7.36 ends with flags. */
#define INIT_SHORT_LEN offsetof(struct fuse_init_in, flags2)

bool init_done(const struct fs *fs)
{
	return __atomic_load_n(&fs->store->init.agreed, __ATOMIC_ACQUIRE) != 0;
}

bool init_has(const struct fs *fs, uint64_t flag)
{
	return init_done(fs) &&
	       (__atomic_load_n(&fs->store->init.flags, __ATOMIC_RELAXED) & flag) != 0;
}

/* What we would have, whatever the driver offers. */
static uint64_t wanted(const struct fs_config *c)
{
	uint64_t f = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS |
		     FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |
		     FUSE_ABORT_ERROR | FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2 |
		     FUSE_SETXATTR_EXT | FUSE_INIT_EXT | PROTO_CREATE_SUPP_GROUP |
		     PROTO_NO_EXPORT_SUPPORT;

	/* Believed for ever: no need to look whether the host has changed a file. */
	if (c->cache != FS_CACHE_ALWAYS)
		f |= FUSE_AUTO_INVAL_DATA;
	if (c->cache == FS_CACHE_ALWAYS)
		f |= FUSE_CACHE_SYMLINKS;
	if (c->cache == FS_CACHE_NONE || c->cache == FS_CACHE_METADATA)
		f |= PROTO_DIRECT_IO_ALLOW_MMAP;
	if (!c->no_locks)
		f |= FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
	if (c->writeback)
		f |= FUSE_WRITEBACK_CACHE;
	/* The parent's default ACL takes the umask's place, and only the host can see it. */
	if (c->acl)
		f |= FUSE_POSIX_ACL | FUSE_DONT_MASK;
	/*
	 * Without a prefix, security.* would need CAP_SYS_ADMIN of us, and each file made by a
	 * labelled guest fail.
	 */
	if (c->xattr_map)
		f |= FUSE_SECURITY_CTX;
	if (c->announce_submounts)
		f |= FUSE_SUBMOUNTS;
	return f;
}

/* A driver that mounts (again) knows nothing of what was before. */
static void forget_session(struct fs *fs)
{
	__atomic_store_n(&fs->store->init.agreed, 0, __ATOMIC_RELEASE);
	CRASH_POINT("fs.init.forgetting");
	lock_release_all(fs);
	handle_release_all(fs);
	inode_forget_all(fs);
}

void init_reset(struct fs *fs)
{
	if (init_done(fs))
		forget_session(fs);
}

static void agree(struct fs *fs, uint32_t minor, uint64_t flags)
{
	struct init_state *s = &fs->store->init;

	s->minor = minor;
	s->flags = flags;
	s->max_write = MAX_WRITE;
	CRASH_POINT("fs.init.written");
	/* Last: an INIT that was cut short has not been. */
	__atomic_store_n(&s->agreed, 1, __ATOMIC_RELEASE);
}

int op_init(struct request *rq)
{
	struct fuse_init_in in = { 0 };
	struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION, .minor = PROTO_MINOR };
	uint64_t flags;

	memcpy(&in, rq->args, rq->args_len < sizeof(in) ? rq->args_len : sizeof(in));
	/* A newer major version asks again with ours. */
	if (in.major > FUSE_KERNEL_VERSION)
		return request_reply(rq, &out, sizeof(out));
	if (in.major < FUSE_KERNEL_VERSION || in.minor < OLDEST_MINOR) {
		log_warning("the guest's FUSE %u.%u is older than 7.%d", in.major, in.minor,
			    OLDEST_MINOR);
		return -EPROTO;
	}
	flags = in.flags;
	if ((in.flags & FUSE_INIT_EXT) && rq->args_len > INIT_SHORT_LEN)
		flags |= (uint64_t)in.flags2 << 32;
	flags &= wanted(&rq->fs->config);
	if (in.minor < out.minor)
		out.minor = in.minor;
	forget_session(rq->fs);
	agree(rq->fs, out.minor, flags);
	out.max_readahead = in.max_readahead;
	out.flags = (uint32_t)flags;
	out.flags2 = (uint32_t)(flags >> 32);
	out.max_background = MAX_BACKGROUND;
	out.congestion_threshold = MAX_BACKGROUND / 4 * 3;
	out.max_write = MAX_WRITE;
	out.max_pages = MAX_PAGES;
	out.time_gran = 1;
	return request_reply(rq, &out, sizeof(out));
}

int op_destroy(struct request *rq)
{
	forget_session(rq->fs);
	return 0;
}
