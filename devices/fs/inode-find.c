/*
 * The inode table: which index is whose. See inode-table.h for what a kill leaves.
 *
 * Chains are in the store, so a hostile one may be a circle or lead anywhere: indices are checked
 * against high, and no walk is longer than the number of indices that were ever used.
 */
#include "devices/base/crash.h"
#include "devices/fs/inode-private.h"

struct inode_key inode_key_of(const struct statx *st)
{
	return (struct inode_key){
		.ino = st->stx_ino,
		.dev = st->stx_dev_major << 20 | st->stx_dev_minor,
		.mnt = (uint32_t)st->stx_mnt_id,
	};
}

/* Numbers of neighbours in a directory are mostly near each other; so then are their buckets. */
uint32_t *inode_bucket(struct inodes *s, const struct inode_key *key)
{
	uint64_t h = key->ino ^ key->ino >> 20 ^ key->ino >> 40;

	h += (key->dev + key->mnt * UINT64_C(31)) * 0x9e3779b1u >> 8;
	return &s->table->bucket[h % INODE_BUCKETS];
}

static struct inode_key key_at(const struct inodes *s, uint32_t index)
{
	const struct inode_entry *e = &s->table->entry[index];

	return (struct inode_key){ .ino = e->ino, .dev = e->dev, .mnt = e->mnt };
}

static bool key_same(const struct inode_entry *e, const struct inode_key *key)
{
	return e->ino == key->ino && e->dev == key->dev && e->mnt == key->mnt;
}

uint32_t inode_find_key(struct inodes *s, const struct inode_key *key)
{
	uint32_t high = s->table->high, index = *inode_bucket(s, key);

	for (uint32_t n = 0; n < high && index > 0 && index < high; n++) {
		const struct inode_entry *e = &s->table->entry[index];

		if (key_same(e, key) && inode_load(s, index) != 0)
			return index;
		index = e->next;
	}
	return 0;
}

uint32_t inode_find_id(struct inodes *s, uint64_t nodeid)
{
	uint32_t index = (uint32_t)nodeid;

	if (index == 0 || index >= s->table->high)
		return 0;
	if (word_count(inode_load(s, index)) == 0 || inode_nodeid(s, index) != nodeid)
		return 0;
	return index;
}

void inode_hash(struct inodes *s, uint32_t index)
{
	struct inode_key key = key_at(s, index);
	uint32_t *bucket = inode_bucket(s, &key);

	__atomic_store_n(&s->table->entry[index].next, *bucket, __ATOMIC_RELAXED);
	CRASH_POINT("fs.inode.next");
	__atomic_store_n(bucket, index, __ATOMIC_RELEASE);
	CRASH_POINT("fs.inode.hashed");
}

void inode_unhash(struct inodes *s, uint32_t index)
{
	struct inode_key key = key_at(s, index);
	uint32_t high = s->table->high, *link = inode_bucket(s, &key);

	for (uint32_t n = 0; n<high && * link> 0 && *link < high; n++) {
		struct inode_entry *e = &s->table->entry[*link];

		if (*link == index) {
			__atomic_store_n(link, e->next, __ATOMIC_RELEASE);
			CRASH_POINT("fs.inode.unhashed");
			return;
		}
		link = &e->next;
	}
}

/* The lowest free index, so that the table stays dense; 0: none. */
static uint32_t take_free(struct inodes *s)
{
	for (uint32_t w = s->first_free; w < INODE_MAX / INODE_WORD_BITS; w++) {
		if (s->taken[w] != UINT64_MAX) {
			uint32_t bit = (uint32_t)__builtin_ctzll(~s->taken[w]);

			s->taken[w] |= UINT64_C(1) << bit;
			s->first_free = w;
			return w * INODE_WORD_BITS + bit;
		}
	}
	s->first_free = INODE_MAX / INODE_WORD_BITS;
	return 0;
}

static void give_free(struct inodes *s, uint32_t index)
{
	uint32_t w = index / INODE_WORD_BITS;

	s->taken[w] &= ~(UINT64_C(1) << index % INODE_WORD_BITS);
	if (w < s->first_free)
		s->first_free = w;
}

uint32_t inode_make(struct inodes *s, const struct inode_key *key, int fd, uint32_t type,
		    uint32_t flags)
{
	uint32_t index = take_free(s);
	struct inode_entry *e = &s->table->entry[index];

	if (index == 0)
		return 0;
	if (index >= s->table->high)
		__atomic_store_n(&s->table->high, index + 1, __ATOMIC_RELEASE);
	*e = (struct inode_entry){
		.ino = key->ino,
		.dev = key->dev,
		.mnt = key->mnt,
		.generation = ++s->table->n_made,
		.flags = flags,
		.type = type,
	};
	s->node[index].in_use = 0;
	inode_set_referenced(&s->node[index], 0);
	CRASH_POINT("fs.inode.written");
	inode_store(s, index, inode_word(fd, 0));
	CRASH_POINT("fs.inode.made");
	inode_tally(&s->n_fds, 1);
	inode_chunk_taken(s, index);
	s->n_known++;
	inode_hash(s, index);
	return index;
}

int inode_free(struct inodes *s, uint32_t index)
{
	uint64_t word = inode_load(s, index);

	inode_unhash(s, index);
	inode_store(s, index, 0);
	CRASH_POINT("fs.inode.freed");
	give_free(s, index);
	inode_chunk_freed(s, index);
	s->n_known--;
	if (!word_open(word)) {
		inode_tally(&s->n_parked, -1);
		return -1;
	}
	inode_tally(&s->n_fds, -1);
	return word_fd(word);
}

int inode_free_if_unknown(struct inodes *s, uint32_t index)
{
	uint64_t word = inode_load(s, index);

	if (index == INODE_ROOT || word == 0 || word_count(word) > 0 || s->node[index].in_use > 0)
		return -1;
	return inode_free(s, index);
}
