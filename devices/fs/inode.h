/*
 * The inodes that the guest knows: found by LOOKUP and its like, kept until FORGET.
 *
 * Runs in: worker, all I/O threads. Trusts: neither the table (inode-table.h) nor node ids.
 *
 * An inode is held by an O_PATH descriptor in the shared descriptor table, so it outlives the
 * worker, renames and unlinks, and its number cannot be used again meanwhile: (device, number,
 * mount) names it. No file handles (open_by_handle_at): they need CAP_DAC_READ_SEARCH, and whoever
 * has that opens any file of the file system, inside the shared directory or not.
 *
 * Descriptors are bounded (INODE_MAX_FDS). Beyond that the longest unused are closed ("parked"); a
 * parked inode is revived by opening its last known name in its parent, and is the same only if its
 * file handle (name_to_handle_at, which needs no privilege; it holds the generation) says so; else
 * the guest gets ESTALE and looks the path up again. An inode without a name (unlinked), or one
 * that is in use, is never parked.
 *
 * A node id is generation << 32 | index; the root is FUSE_ROOT_ID. Guessed and stale ones are not
 * found.
 *
 * Numbers of several file systems: the guest sees st_ino as the host does, so two files of
 * different file systems below the shared directory can show the same number in the one st_dev that
 * the guest has for them. What tells them apart for the guest's kernel is the node id, so nothing
 * is mixed up; only programs that take (st_dev, st_ino) for the file's name (tar and its like, for
 * files with several links) can be misled. With announce-submounts the guest mounts each file
 * system under a st_dev of its own, and they are not.
 */
#pragma once

#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "devices/fs/inode-table.h"

struct fs;
struct request;
struct inode;

/* Before a turn: private memory. 0 or a negative errno. */
int inode_prepare(struct fs *fs);

/*
 * Attach to the table of the store: the first worker makes it with the root (descriptor root_fd,
 * borrowed), later ones check it. 0, -EBADMSG if it does not pass, other negative errno.
 */
int inode_init(struct fs *fs, int root_fd);

/* In use by one request, from get to put: neither freed nor parked. NULL: no such node. */
struct inode *inode_get(struct fs *fs, uint64_t nodeid);
void inode_put(struct fs *fs, struct inode *i);

uint64_t inode_id(const struct fs *fs, const struct inode *i);

/* S_IFMT of its mode. */
uint32_t inode_type(const struct fs *fs, const struct inode *i);

/* A directory in which another file system begins. */
bool inode_is_submount(const struct fs *fs, const struct inode *i);

/*
 * Its O_PATH descriptor, revived if it was parked; valid until inode_put. Negative errno: -ESTALE.
 */
int inode_fd(struct fs *fs, struct inode *i);

/*
 * Open it anew with open(2) flags, through /proc: a descriptor of the caller's, without CLOEXEC.
 * Not for symlinks or device nodes (-ELOOP, -ENXIO). -EWOULDBLOCK: somebody has a lease on it.
 * Negative errno.
 */
int inode_reopen(struct fs *fs, struct inode *i, int flags);

/* statx of the inode itself. 0 or a negative errno. */
int inode_stat(struct fs *fs, struct inode *i, struct statx *ret);

/*
 * What name in the directory parent is now: find or make its inode, count one lookup of the
 * guest's. The count is on rq's record in the journal: when rq is run again, it is taken back first
 * (journal_begin). *ret is in use: put it. name was checked (request_name). 0 or a negative errno,
 * -ENOENT among them.
 */
int inode_look_up(struct request *rq, struct inode *parent, const char *name, struct inode **ret,
		  struct statx *ret_stat);

/* The same for a name that has just been made and so is not known: a system call less. */
int inode_look_up_new(struct request *rq, struct inode *parent, const char *name,
		      struct inode **ret, struct statx *ret_stat);

/*
 * The same for a name in a listing that gives it this number: if that is unknown, so is the name,
 * mostly.
 */
int inode_look_up_listed(struct request *rq, struct inode *parent, const char *name, uint64_t ino,
			 struct inode **ret, struct statx *ret_stat);

/*
 * The same for a name that was listed moments ago and has not been removed by the guest since: if
 * its number is that of an inode of this name, the name is not looked at again.
 */
int inode_look_up_just_listed(struct request *rq, struct inode *parent, const char *name,
			      uint64_t ino, struct inode **ret, struct statx *ret_stat);

/*
 * The same for what the descriptor fd, borrowed, is open on. It has no name until inode_name_set().
 */
int inode_look_up_fd(struct request *rq, int fd, struct inode **ret, struct statx *ret_stat);

/*
 * rq is run again and has a result: the inode that its earlier run has counted for it, in use. The
 * count stays. False: it had not come to that.
 */
bool inode_found(struct request *rq, struct inode **ret);

/* A file system of the host, and an inode of it that can be opened, if there is one a directory. */
struct inode_device {
	uint64_t nodeid;
	uint32_t dev;
	bool directory;
};

/* Those that the guest knows inodes of, the root's first; at most max. How many. */
uint32_t inode_devices(struct fs *fs, struct inode_device *ret, uint32_t max);

/* The guest forgets n lookups of nodeid; exactly once over deaths. Unknown ids are ignored. */
void inode_forget(struct request *rq, uint64_t nodeid, uint64_t n);

/* The inode that the guest knows for this stat, in use. NULL: it knows none. */
struct inode *inode_find(struct fs *fs, const struct statx *st);

/*
 * The names kept for revival. gone: name in parent is about to be removed or given to another
 * inode; a parked inode that has it is revived while that can be done. set: i was given this name.
 */
void inode_name_gone(struct fs *fs, struct inode *parent, const char *name);
void inode_name_set(struct fs *fs, struct inode *i, struct inode *parent, const char *name);

/*
 * At take-over: fd is a session's and in no table yet, as far as these have been looked at. It is
 * now.
 */
bool inode_claim_fd(struct fs *fs, int fd);

/* For sweep, after that: the set of what has been claimed (process/model.h: fds). */
const uint64_t *inode_claimed_fds(const struct fs *fs, uint32_t *ret_n_words);

/* Every descriptor that the table holds. */
void inode_for_each_fd(struct fs *fs, void (*found)(int fd, void *arg), void *arg);

/* After forgetting: memory that the table does not need any more. */
void inode_give_back(struct fs *fs);

/* Forget all (DESTROY, or a new INIT). */
void inode_forget_all(struct fs *fs);
