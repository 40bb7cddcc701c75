/*
 * The tables of a file system device without its processes: a store, and workers that attach to it in this process or in
 * its children. A worker's death is that nothing of its memory is left but the store (and its descriptors).
 *
 * Runs in: tests; one in a program. Trusts: the test, but what the test puts into a store may be anything.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "devices/fs/attr.h"
#include "devices/fs/inode-private.h"

enum {
	ROOT_FD = 20, /* below CONTRACT_FD_SESSION, as in a device */
	PROC_FD = 21,
	N_FILES = 4,
	TAG = 1000, /* of a script's first request */
};

/* The files of the shared directory, where a test makes them. */
extern const char *const names[N_FILES];

/* A worker: the store it is attached to, and its private memory. */
struct worker {
	struct fs fs;
	struct thread thread;
	struct vring ring;
};

/* A range of bytes of a store. */
struct part {
	size_t offset, len;
};

/* cmocka's fixtures: an empty shared directory, no descriptor of the session's, every number below taken. */
int bench_group_setup(void **state);
int bench_group_teardown(void **state);
int bench_setup(void **state);
int bench_teardown(void **state);

struct store *store_new(void);
void store_free(struct store *s);

/* Descriptors of inodes, in workers started from now on; 0: as many as they take. */
extern uint32_t fds_at_most;

/* 0, or what the store was refused with. */
int worker_start(struct worker *w, struct store *s);
void worker_free(struct worker *w);
struct request request_of(struct worker *w, uint64_t tag, bool again);
/* All that the worker's thread has answered is published. */
void published(struct worker *w);
/* The shared directory; to be put. */
struct inode *root(struct worker *w);

/* Make or truncate a file below the shared directory; all of names. */
void touch(const char *name);
void fill_dir(void);

/* A worker in a store of its own, for what needs no death, and its next request's tag. */
extern struct worker alone;
extern uint64_t next_tag;
void alone_start(void);
void alone_stop(void);
/* Another life on the same store. */
void alone_again(void);

/* Requests of its, each answered and published. */
uint64_t look_up(struct inode *parent, const char *name, struct statx *ret);
uint64_t look_up_in_root(const char *name);
void forget(uint64_t nodeid, uint64_t n);
uint64_t open_null(void);
void release(uint64_t fh, enum handle_kind kind);

/* How often the guest has looked this file up and not forgotten it. */
uint64_t count_of(struct worker *w, const char *name);
/* Of the session's, open in this process. */
uint32_t n_open_fds(void);

enum { N_PARKED = 60, FD_LIMIT = 8 };

/* 60 files in 6 directories, eight descriptors. */
struct tree {
	uint64_t sub[6], file[N_PARKED];
	uint64_t ino[N_PARKED];
};

/* Starts `alone` with it. */
void tree_make(struct tree *t);
/* A directory or file of it, to be put. */
struct inode *tree_get(uint64_t id);
/* Every fourth has a longer name: around what a record holds by itself, and the longest there is. */
void tree_name(char *buf, size_t len, uint32_t n);
