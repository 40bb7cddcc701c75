/*
 * Memory of the inode table that nobody needs any more. See inode-private.h.
 *
 * A guest that has walked a large tree and forgotten it would keep what its inodes took (112 bytes
 * each, 320 with a long name). Indices are given out from the lowest free one on, so those of few
 * inodes are together, and a chunk of indices without any is given back: its memory reads as zero
 * afterwards, which is what a free index is. One such chunk is kept, so that a guest at the border
 * between two does not pay for each inode. Numbers of generations come from one counter for all:
 * what an index had last is gone with its memory, and must not come again.
 */
#include "devices/fs/host.h"
#include "devices/fs/inode-private.h"

enum { SPARE_CHUNKS = 1 };

void inode_chunk_taken(struct inodes *s, uint32_t index)
{
	uint32_t chunk = index / INODE_CHUNK;

	if (s->n_in_chunk[chunk]++ > 0)
		return;
	if (s->has_memory[chunk])
		inode_tally(&s->n_spare, -1);
	s->has_memory[chunk] = true;
}

void inode_chunk_freed(struct inodes *s, uint32_t index)
{
	if (--s->n_in_chunk[index / INODE_CHUNK] == 0)
		inode_tally(&s->n_spare, 1);
}

/* What a dead worker has left, after all that is there is taken. */
void inode_chunks_found(struct inodes *s)
{
	for (uint32_t chunk = 1; chunk <= (s->table->high - 1) / INODE_CHUNK; chunk++) {
		if (s->n_in_chunk[chunk] == 0)
			inode_tally(&s->n_spare, 1);
		s->has_memory[chunk] = true;
	}
}

static void set_taken(struct inodes *s, uint32_t chunk, uint64_t words)
{
	const uint32_t n = INODE_CHUNK / INODE_WORD_BITS;

	for (uint32_t w = chunk * n; w < (chunk + 1) * n; w++)
		s->taken[w] = words;
	if (words == 0 && chunk * n < s->first_free)
		s->first_free = chunk * n;
}

/* The last chunk that can do without its memory; nobody gets an index of it meanwhile. 0: none. */
static uint32_t reserve(struct inodes *s)
{
	INODE_LOCKED(s);
	uint32_t chunk = (s->table->high - 1) / INODE_CHUNK + 1;

	if (s->n_spare <= SPARE_CHUNKS)
		return 0;
	while (--chunk > 0)
		if (s->has_memory[chunk] && s->n_in_chunk[chunk] == 0)
			break;
	if (chunk == 0)
		return 0;
	set_taken(s, chunk, UINT64_MAX);
	s->has_memory[chunk] = false;
	inode_tally(&s->n_spare, -1);
	return chunk;
}

/* It may be used again; what is free at the end of the table need not be looked at by anybody. */
static void release(struct inodes *s, uint32_t chunk)
{
	INODE_LOCKED(s);
	uint32_t last;

	set_taken(s, chunk, 0);
	for (last = (s->table->high - 1) / INODE_CHUNK; last > 0; last--)
		if (s->has_memory[last] || s->n_in_chunk[last] > 0)
			break;
	if (s->table->high > (last + 1) * INODE_CHUNK)
		__atomic_store_n(&s->table->high, (last + 1) * INODE_CHUNK, __ATOMIC_RELEASE);
}

#define PART_OF(fs, array, chunk)                                                                  \
	(uint64_t)((uint8_t *)&(fs)->store->inodes.array[(chunk)*INODE_CHUNK] -                    \
		   (uint8_t *)(fs)->store),                                                        \
		sizeof((fs)->store->inodes.array[0]) * INODE_CHUNK

static void give_back(struct fs *fs, uint32_t chunk)
{
	HOST(state_give_back(PART_OF(fs, word, chunk)));
	HOST(state_give_back(PART_OF(fs, entry, chunk)));
	HOST(state_give_back(PART_OF(fs, cold, chunk)));
	HOST(state_give_back(PART_OF(fs, tail, chunk)));
}

void inode_give_back(struct fs *fs)
{
	struct inodes *s = fs->inodes;
	uint32_t chunk;

	while (inode_tallied(&s->n_spare) > SPARE_CHUNKS) {
		chunk = reserve(s);
		if (chunk == 0)
			return;
		give_back(fs, chunk);
		release(s, chunk);
	}
}
