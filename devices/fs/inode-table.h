/*
 * The inode table as it lies in the store.
 *
 * Runs in: worker, all I/O threads; every store under inodes.lock (inode-private.h), which is
 *          private memory: the threads of a worker die together, so there is one writer, and one
 *          store that was the last.
 * Trusts:  nothing at take-over; inode_init() checks what is walked then, each use checks what it
 *          follows.
 *
 * An inode has an index in all of these arrays. Index 0 is none, index 1 the root.
 *
 * word[i] decides. It holds the descriptor and how often the guest has looked the inode up, in one
 * 64-bit word, so that making, counting, parking and freeing are one store each:
 *
 *	0			free
 *	descriptor, count	known to the guest
 *	INODE_FD_PARKED, count	known, without a descriptor: revived by its name
 *	descriptor, 0		being made, or forgotten: the successor of a killed worker frees it
 *
 * What a kill between any two stores leaves, and what inode_init() makes of it:
 *
 *  make      high; entry, name; word = (fd, 0); into the hash chain (bucket, release); counted.
 *            Before word: free as it was, the descriptor is named by nobody and swept. Before the
 *            count: nobody knows it, freed.
 *  count     word and the item in the journal that says for which request have to change together,
 *            in two places. So they are written to hand first: hand, hand.armed (release), word,
 *            item, journal n, armed = 0. Armed: the three stores are done again. They are values,
 *            not differences: twice is once.
 *  free      count 0; out of the chain (one store, in the predecessor); word = 0; the descriptor is
 *            closed. Before word = 0: done again. After it: swept.
 *  park      the digest of its file handle; word = (INODE_FD_PARKED, count); the descriptor is
 *            closed.
 *  revive    word = (fd, count).
 *  give back the memory of free indices is zero again, high is what is left below: nothing that
 *            counts.
 *  name      written while the inode has a descriptor, and looked up again before that is given up:
 *            a torn name is found out then.
 *
 * There is no free list, so none that can leak: what is free is read from word[] at take-over. A
 * descriptor that is open and in no word is closed by the sweep, so a word loses its descriptor
 * before that is closed, and gains one after it was opened.
 */
#pragma once

#include <stdint.h>

#include "devices/fs/journal.h"

enum {
	INODE_MAX = 1 << 24,
	INODE_BUCKETS = 1 << 22,
	INODE_ROOT = 1,		 /* index */
	INODE_FD_PARKED = 1,	 /* no descriptor of a session has this number */
	INODE_FD_ROOT = 2,	 /* nor this: the worker's own root_fd */
	INODE_MAX_FDS = 1 << 16, /* descriptors in the table */
	INODE_NAME_LEN = 256,
	INODE_HEAD_LEN = 48, /* of a name: most are shorter */
};

/*
 * A word: descriptor << INODE_COUNT_BITS | look-ups. 2^44 look-ups take a year at half a million a
 * second.
 */
enum { INODE_COUNT_BITS = 44 };
#define INODE_COUNT_MAX ((UINT64_C(1) << INODE_COUNT_BITS) - 1)

enum {
	INODE_SUBMOUNT = 1 << 0, /* a directory in which another file system begins */
	INODE_NAMELESS = 1 << 1, /* its name is not known, or no longer its name: not parked */
};

/* What every look-up needs: two in a cache line. */
struct inode_entry {
	uint64_t ino;
	uint32_t dev; /* major << 20 | minor */
	uint32_t mnt; /* STATX_MNT_ID: one file system mounted twice is two sets of inodes */
	uint32_t generation;
	uint32_t next; /* in the chain of its bucket; 0: last */
	uint32_t flags;
	uint32_t type; /* S_IFMT */
};

/*
 * What parking and revival need. A name that has no NUL here goes on in the table's tail: sparse,
 * so that memory is used for long names only.
 */
struct inode_cold {
	uint64_t parent; /* node id */
	uint64_t digest; /* of the file handle */
	char head[INODE_HEAD_LEN];
};

/* See above, "count". */
struct inode_hand {
	uint32_t armed; /* written last, and cleared */
	uint32_t index;
	uint64_t word;
	uint32_t thread; /* whose journal */
	uint32_t n;	 /* of its items afterwards */
	uint32_t position;
	uint32_t unused;
	struct journal_item item;
};

struct inode_table {
	uint32_t made;	 /* 0: as the keeper has made it. Written last by inode_init() */
	uint32_t high;	 /* indices from here on are free, and all is zero there */
	uint32_t n_made; /* inodes so far; the next one's generation */
	uint32_t unused;
	struct inode_hand hand;
	uint32_t bucket[INODE_BUCKETS];
	uint64_t word[INODE_MAX];
	struct inode_entry entry[INODE_MAX];
	struct inode_cold cold[INODE_MAX];
	char tail[INODE_MAX][INODE_NAME_LEN - INODE_HEAD_LEN];
};
