/*
 * The inode table of a worker: what is shared between inode.c (counting, the journal's hand),
 * inode-find.c (hash, making and freeing), inode-lookup.c (what a name is) and inode-park.c
 * (descriptors beyond the limit).
 *
 * Runs in: worker, all I/O threads. Trusts: nothing in the table; what is in private memory here.
 *
 * One lock, held for a few dozen instructions at most and never over a system call. Functions whose
 * comment says "locked" want it held.
 */
#pragma once

#include <pthread.h>

#include "devices/base/scope.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/inode.h"

/* Private to this worker, one for each index. The address names the inode in a request's hands. */
struct inode {
	uint32_t in_use;     /* requests between get and put: it is neither freed nor parked */
	uint32_t referenced; /* (atomic) used since the clock hand has passed (second chance) */
};

enum {
	INODE_WORD_BITS = 64,
	INODE_CHUNK = 4096, /* indices whose memory is given back at a time */
	INODE_CHUNKS = INODE_MAX / INODE_CHUNK,
	INODE_FDS = 1 << (64 - INODE_COUNT_BITS), /* descriptors that a word can hold */
};

struct inodes {
	pthread_mutex_t lock;
	struct inode_table *table; /* in the store */
	uint32_t max_fds;
	uint32_t n_fds;	   /* in the table, without the root's; written locked, read without */
	uint32_t n_parked; /* the same */
	uint32_t n_known;
	uint32_t clock;	     /* next to be asked whether it can be parked */
	uint32_t first_free; /* no free index is in a word of taken[] below this */
	/* Chunks that have memory and no inode; written locked, read without. */
	uint32_t n_spare;
	uint16_t n_in_chunk[INODE_CHUNKS];
	bool has_memory[INODE_CHUNKS];
	uint8_t strange[CONTRACT_MAX_THREADS]; /* by thread: how new what it looked up lately was */
	uint64_t taken[INODE_MAX / INODE_WORD_BITS];   /* by index: not free */
	uint64_t claimed[INODE_FDS / INODE_WORD_BITS]; /* by descriptor, at take-over: in a table */
	uint32_t n_claimed_words;		       /* of claimed[]; all others are 0 */
	struct inode node[INODE_MAX];
};

/* What an inode is: the host's names for it. */
struct inode_key {
	uint64_t ino;
	uint32_t dev, mnt;
};

static inline void inode_unlock_cleanup(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

static inline pthread_mutex_t *inode_lock(struct inodes *s)
{
	pthread_mutex_lock(&s->lock);
	return &s->lock;
}

/* To the end of the block. */
#define INODE_LOCKED(s)                                                                            \
	__attribute__((cleanup(inode_unlock_cleanup), unused)) pthread_mutex_t *locked_ =          \
		inode_lock(s)

static inline uint64_t inode_word(int fd, uint64_t count)
{
	return (uint64_t)fd << INODE_COUNT_BITS | count;
}

static inline int word_fd(uint64_t word)
{
	return (int)(word >> INODE_COUNT_BITS);
}

static inline uint64_t word_count(uint64_t word)
{
	return word & INODE_COUNT_MAX;
}

static inline bool word_open(uint64_t word)
{
	return word_fd(word) >= CONTRACT_FD_SESSION;
}

static inline uint64_t inode_load(const struct inodes *s, uint32_t index)
{
	return __atomic_load_n(&s->table->word[index], __ATOMIC_ACQUIRE);
}

static inline void inode_store(struct inodes *s, uint32_t index, uint64_t word)
{
	/* Release: what the word stands for is there. */
	__atomic_store_n(&s->table->word[index], word, __ATOMIC_RELEASE);
}

/* Locked. */
static inline void inode_tally(uint32_t *n, int32_t change)
{
	__atomic_store_n(n, *n + (uint32_t)change, __ATOMIC_RELAXED);
}

static inline uint32_t inode_tallied(const uint32_t *n)
{
	return __atomic_load_n(n, __ATOMIC_RELAXED);
}

static inline void inode_set_referenced(struct inode *i, uint32_t referenced)
{
	__atomic_store_n(&i->referenced, referenced, __ATOMIC_RELAXED);
}

static inline uint32_t inode_index(const struct inodes *s, const struct inode *i)
{
	return (uint32_t)(i - s->node);
}

static inline uint64_t inode_nodeid(const struct inodes *s, uint32_t index)
{
	return (uint64_t)s->table->entry[index].generation << 32 | index;
}

struct inode_key inode_key_of(const struct statx *st);

/* Where the chain of a key begins. */
uint32_t *inode_bucket(struct inodes *s, const struct inode_key *key);

/* inode-find.c; all locked. 0: no such inode, or none free. */
uint32_t inode_find_key(struct inodes *s, const struct inode_key *key);
uint32_t inode_find_id(struct inodes *s, uint64_t nodeid);

/*
 * A new inode that has fd and is not counted yet. Index 0: the table is full, fd stays the
 * caller's.
 */
uint32_t inode_make(struct inodes *s, const struct inode_key *key, int fd, uint32_t type,
		    uint32_t flags);

/* inode-chunk.c; locked: an index of an inode that is made, or was freed. */
void inode_chunk_taken(struct inodes *s, uint32_t index);
void inode_chunk_freed(struct inodes *s, uint32_t index);
void inode_chunks_found(struct inodes *s); /* at take-over, when all are taken */

/* In the hash, or no longer (inode_init(), stale inodes). */
void inode_hash(struct inodes *s, uint32_t index);
void inode_unhash(struct inodes *s, uint32_t index);

/* Free it; its descriptor, to be closed when unlocked, or -1. */
int inode_free(struct inodes *s, uint32_t index);

/* If nobody knows it and nobody uses it: inode_free(). */
int inode_free_if_unknown(struct inodes *s, uint32_t index);

/* inode.c. Locked: one more look-up of rq's, and in use by it. NULL: counted too often. */
struct inode *inode_count(struct request *rq, uint32_t index);

/* The item at position of rq's journal says that nodeid was counted for rq: both are taken back. */
void inode_uncount(struct request *rq, uint32_t position, uint64_t nodeid);

/* inode-park.c. Not locked: make room for one more descriptor. 0, -ENFILE. */
int inode_make_room(struct fs *fs);

/* Its descriptor back. Not locked, i in use. The descriptor, -ESTALE, negative errno. */
int inode_revive(struct fs *fs, struct inode *i);

/* What fd is, for good: number and generation. 0 or -EOPNOTSUPP. */
int inode_digest(int fd, const struct statx *st, uint64_t *ret);

/* Locked: remember the name; NULL: it has none. */
void inode_name_record(struct inodes *s, uint32_t index, uint64_t parent, const char *name);

/* Locked: is that the name on record? */
bool inode_is_named(const struct inodes *s, uint32_t index, uint64_t parent, const char *name);
