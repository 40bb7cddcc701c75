/*
 * What has been done for requests whose answers the guest has not seen yet.
 *
 * Runs in: worker; each thread writes its own journal. Trusts: nothing in the store (store.h).
 *
 * A thread carries out one request at a time and publishes answers in batches. (Errands, errand.h,
 * go on meanwhile, and leave nothing here.) If the worker is killed, every request not published is
 * run again (again is set), in the order of taking, and must answer as the first run would have. So
 * each thread keeps, in the store:
 *
 *	items	what was done for requests not published: lookups counted, handles opened, forgets,
 *		results of operations that cannot be repeated. Emptied after each publish.
 *	intent	the operation that cannot be repeated which is in hand: what it is about to do, and
 *		what the world looked like before, so that a successor can find out whether it was
 *		done.
 *
 * Order: intent; the system call; its result as an item; intent cleared; look-ups and handles;
 * answer; publish; items emptied. Killed
 *
 *	before the intent	nothing was done: run as new
 *	with an intent		look: was it done? (the operation's own question)
 *	with a result		answer by it
 *	after publish		the request is not run again: items of requests not in flight mean
 *				nothing
 *
 * How the store is consistent at each instruction:
 *
 *  1. An item counts when n is beyond it (release), and is void when its tag is 0. Look-ups and
 *     forgets are added together with the inode's count: inode-table.h, "count".
 *  2. There is one intent for each ring, because a thread may serve several: the one in hand when a
 *     worker died stays until its request is run again, which is before any later request of its
 *     ring; those of other rings write to other places. It is complete when its tag is set
 *     (release), and over when that is 0.
 *  3. A result is added before its intent is cleared, and looked for first.
 *  4. Items that were inherited from a dead worker stay, whatever is published, until every request
 *     that was in flight then has been answered. So a worker that dies while it runs them again
 *     leaves a third one all it needs.
 *  5. A tag may name another request after a take-over (it holds a counter that begins anew).
 *     journal_begin() of a request that is not run again voids what an earlier one of its name has
 *     left.
 *
 * tests/unit/test-fs-deaths.c steps through all of this one instruction at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/process/contract.h"

struct fs;
struct request;
struct thread;

enum {
	JOURNAL_NAME_LEN = 256,
	/*
	 * Items of one worker between two publishes: more than two READDIRPLUS of
	 * REQUEST_PAYLOAD_MAX bytes can need.
	 */
	JOURNAL_BATCH = 2048,
	/* With those of three that died before it. */
	JOURNAL_MAX_ITEMS = 4 * JOURNAL_BATCH,
};

enum journal_past {
	JOURNAL_NEW,   /* not begun: do it */
	JOURNAL_BEGUN, /* an intent is there, no result: find out */
	JOURNAL_DONE,  /* it was done, with this result */
};

/* What an operation is about to do. Fields that it does not need are 0. */
struct journal_intent {
	uint64_t parent, parent2; /* node ids */
	uint64_t ino, dev;	  /* of what is removed, moved or linked, before */
	uint64_t ino2, dev2;	  /* of what is at the destination, before; 0: nothing */
	uint64_t size;	  /* append: of the file before; link, unlink: links of the inode before */
	uint64_t when_ns; /* CLOCK_REALTIME_COARSE before */
	char name[JOURNAL_NAME_LEN], name2[JOURNAL_NAME_LEN];
};

enum journal_kind {
	JOURNAL_LOOKUP = 1, /* value: node id */
	JOURNAL_FORGET,	    /* value: how many of the request's forgets are done */
	JOURNAL_HANDLE,	    /* value: handle */
	JOURNAL_RESULT,	    /* value: 0 or more, or a negative errno */
};

/* In the store. */
struct journal_item {
	uint64_t tag; /* of the request; 0: void */
	uint64_t value;
	uint32_t kind;
	uint32_t unused;
};

struct journal_begun {
	uint64_t tag; /* 0: no operation of this ring is in hand */
	struct journal_intent intent;
};

struct journal_thread {
	uint32_t n;
	struct journal_begun begun[CONTRACT_MAX_QUEUES];
	struct journal_item item[JOURNAL_MAX_ITEMS];
};

/* Before a turn: private memory. 0 or a negative errno. */
int journal_prepare(struct fs *fs);

/* Attach to the journals of this worker's threads; no other has ever been written. 0, -EBADMSG. */
int journal_init(struct fs *fs);

/*
 * For every request, before its operation is called. If it is run again and has no result yet, what
 * its earlier run has counted is taken back; if it has one, the operation finds it by inode_found()
 * and handle_found().
 */
void journal_begin(struct request *rq);

/*
 * What is known of rq from a dead worker. *ret_result with JOURNAL_DONE (0 or a negative errno, or
 * a count), *ret_intent (in the store, hostile: check what you follow) with JOURNAL_BEGUN.
 * JOURNAL_NEW when rq is not run again.
 */
enum journal_past journal_past(struct request *rq, int64_t *ret_result,
			       struct journal_intent *ret_intent);

/* Before the system call; *intent is copied. */
void journal_intend(struct request *rq, const struct journal_intent *intent);

/* After it: result is on record and the intent is over. Before look-ups for the answer. */
void journal_result(struct request *rq, int64_t result);

/* rq fails after a look-up: those counted for it are taken back. */
void journal_take_back(struct request *rq);

/*
 * The answers of this thread have been published: forget its items. in_hand: the request in which
 * this happens (request_slow_begin), whose items stay; NULL: none.
 */
void journal_published(struct fs *fs, struct thread *t, const struct request *in_hand);

/*
 * All requests that were in flight at take-over have been answered (which journal_published() also
 * finds out).
 */
void journal_resumed(struct fs *fs, struct thread *t);

/* Whether there is room for a request that needs n more items; if not, publish first. */
bool journal_has_room(const struct fs *fs, const struct thread *t, uint32_t n);

/* inode.c, handle.c: */

/* Place of a new item of rq's, n of its journal before it is added. */
uint32_t journal_position(struct request *rq);

/* Add an item. */
void journal_append(struct request *rq, enum journal_kind kind, uint64_t value);

/* rq->again: the value of the last item of this kind that its earlier run has left. False: none. */
bool journal_find(struct request *rq, enum journal_kind kind, uint64_t *ret_value);

/*
 * One more forget of rq: is it still to be done? If so, *ret_item says where the record goes that
 * it is done and *ret_n how many items there are then.
 */
bool journal_next_forget(struct request *rq, uint32_t *ret_position, uint32_t *ret_n,
			 struct journal_item *ret_item);
