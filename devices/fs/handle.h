/*
 * Open files and directories of the guest.
 *
 * Runs in: worker, all I/O threads. Trusts: neither the table (store.h) nor handles in requests.
 *
 * The descriptor itself is in the shared descriptor table and outlives the worker, with its locks
 * and its position; the table says which number it is and what it is for. A handle is generation <<
 * 32 | index; one that was released is not found again.
 *
 * Every store is under one lock in private memory (inode-table.h says why that is enough). What a
 * kill between any two of them leaves:
 *
 *  open      generation, kind, flags, nodeid; the item in rq's journal; fd (release).
 *            Before fd: the index is free, an item that names its coming generation is not found,
 *            and the descriptor, in no table, is swept. After it: handle_found().
 *  release   fd = 0 (release); the descriptor is closed, at once or by the last request that uses
 *            it. Killed in between: swept.
 *
 * So fd alone says whether an index is taken, and there is no free list in the store.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fs;
struct request;
struct inode;
enum {
	HANDLE_MAX = 1 << 15,
};

enum handle_kind {
	HANDLE_FREE = 0,
	HANDLE_FILE,
	HANDLE_DIRECTORY,
};

struct handle {
	int fd;
	enum handle_kind kind;
	uint32_t flags;	 /* open(2) flags that it has */
	uint64_t nodeid; /* what was opened */
};

/* In the store. */
struct handle_entry {
	int32_t fd; /* 0: free */
	uint32_t generation;
	uint32_t kind;
	uint32_t flags;
	uint64_t nodeid;
};

struct handle_table {
	uint32_t high; /* indices from here on have never been used; only grows */
	uint32_t unused;
	struct handle_entry entry[HANDLE_MAX];
};

/* Before a turn: private memory. 0 or a negative errno. */
int handle_prepare(struct fs *fs);

/*
 * Attach to the table: check what a dead worker left. After inode_init(). 0, -EBADMSG, negative
 * errno.
 */
int handle_init(struct fs *fs);

/*
 * Put fd into the table, on rq's record in the journal: if rq is run again, handle_found() gives
 * the same handle. fd is taken (closed on failure). 0, -ENFILE.
 */
int handle_open(struct request *rq, int fd, enum handle_kind kind, uint32_t flags, uint64_t nodeid,
		uint64_t *ret_fh);

/* rq->again: the handle that an earlier run has opened. False: none. */
bool handle_found(struct request *rq, uint64_t *ret_fh);

/*
 * In use by one request until put: a release meanwhile closes it then. NULL: not a handle of this
 * kind.
 */
const struct handle *handle_get(struct fs *fs, uint64_t fh, enum handle_kind kind);
void handle_put(struct fs *fs, const struct handle *h);

/*
 * Release: the descriptor is closed when nobody uses it. A handle that is gone already is fine (run
 * again).
 */
void handle_release(struct request *rq, uint64_t fh, enum handle_kind kind);

/* Every descriptor that the table holds. */
void handle_for_each_fd(struct fs *fs, void (*found)(int fd, void *arg), void *arg);

void handle_release_all(struct fs *fs);
