/*
 * Locks of the guest's on files: POSIX record locks (and the guest's own OFD locks), and flock.
 *
 * Runs in: worker, all I/O threads. Trusts: neither the table (store.h) nor what a request says.
 *
 * Record locks. In the protocol an owner is a 64-bit number that the guest's kernel makes of a
 * process (or, for its OFD locks, of an open file). Each pair of inode and owner gets a descriptor
 * of its own, opened for it, and the owner's locks are OFD locks of that descriptor: the host's
 * kernel merges, splits and compares ranges, other processes of the host see them, and as the
 * descriptor is in the shared table they outlive the worker. Not the POSIX kind: those belong to a
 * process, and every guest process would be this one. It is opened for reading until the owner's
 * first write lock; that one moves what is there to another (lock.c: make_writable).
 *
 *	FLUSH	  somebody closed a descriptor of the file: all locks of that owner go (that is
 *		  POSIX)
 *	RELEASE	  the open file is gone: so are locks whose owner's first was taken through it and
 *		  who has sent no FLUSH (the guest's OFD locks end like that)
 *
 * flock is that of the handle's own descriptor.
 *
 * A lock that is to be waited for is tried again (REQUEST_WAITS): nobody sleeps in the kernel,
 * where a worker's threads could not be stopped. Linux's driver does not pass on that who waits was
 * interrupted, so nobody who waits can be killed: who would wait in a circle gets EDEADLK, as POSIX
 * allows it (with OFD locks, too, for they look the same). Seen is a circle of owners of this guest
 * of whom each is held up by one alone; one through the host's processes, or through shared locks
 * of several, is not. A queue that is stopped neither waits for them nor answers them: they stay on
 * record, and are tried again when it goes on (process/rings.c: lay_down).
 *
 * The table is consistent at each instruction: an entry's other fields are written before fd, which
 * is written last; it is taken out of the table (fd = 0) before the descriptor is closed. A worker
 * killed in between leaves a descriptor that nobody names, which its successor sweeps: a lock that
 * was being taken is then not there, and is taken again when the request is run again; one that was
 * being given up is gone; of two descriptors of one owner's read locks the other one has them.
 */
#pragma once

#include <stdint.h>

#include "devices/fs/handle.h"

struct fs;
struct request;

enum { LOCK_MAX = 4096 }; /* pairs of inode and owner; beyond that ENOLCK */

/* The locks of one owner on one inode. */
struct lock_entry {
	uint64_t nodeid, owner;
	uint64_t fh;  /* through which its first lock was taken */
	uint32_t pid; /* in the guest, of who took its last one */
	int32_t fd;   /* whose OFD locks they are; 0: entry is free */
};

/* In the store. */
struct lock_table {
	uint32_t high; /* indices from here on have never been used; only grows */
	uint32_t unused;
	struct lock_entry entries[LOCK_MAX];
};

/* Before a turn: private memory. */
void lock_prepare(void);

/*
 * Attach to the table, empty or left by a dead worker. After inode_init() and handle_init(). 0, or
 * -EBADMSG if it does not pass.
 */
int lock_init(struct fs *fs);

/* FLUSH: what owner holds of nodeid is given up. */
void lock_release_owner(struct request *rq, uint64_t nodeid, uint64_t owner);

/* RELEASE of an open file: what was locked through it, and its flock if unlock_flock. */
void lock_release_handle(struct request *rq, uint64_t nodeid, uint64_t fh);

/* The request of this tag, which has waited (REQUEST_WAITS), does so no more. */
void lock_wait_over(uint64_t tag);

/* Give up all (DESTROY, or a new INIT). */
void lock_release_all(struct fs *fs);
