/*
 * Frames between a device and the switch on this host: a pair of rings for each pair of virtqueues,
 * in one memfd that vmdevd makes for the port (process/contract.h).
 *
 * Runs in: worker (its I/O threads), and vmdev-switch.
 * Trusts:  neither the other: each takes everything in the memory for hostile. A worker that a
 *          guest owns can spoil the rings of its own port, and has no other's; what it then gets
 *          from them is its own affair, and the switch goes on with the others.
 *
 * A ring has one writer and one reader. Its bytes are records, each at a multiple of 16:
 *
 *	u32 len; struct virtio_net_hdr_v1 header; frame        len: of header and frame
 *
 * A record never wraps: where one would, a len of 0 says that the next one is at the ring's start.
 * tail and head count bytes, modulo 2^32; the writer may be LANE_RING_LEN ahead.
 *
 * Shared words, who writes them, and what is found if the writer dies:
 *
 *  tail    the writer, after the records before it (release; pairs with the acquire in
 *          lane_look). Killed before it: the records do not exist, and are written again.
 *  head    the reader, after it has done with the records before it (release; pairs with the
 *          acquire in lane_reserve). Killed before it: they are read again.
 *  reader_waits, writer_waits
 *          1 by who is about to sleep, then it looks once more; 0 by the other, who then
 *          wakes it. The store, a full barrier and the look on one side pair with tail or head, a
 *          full barrier and the look here on the other: one of the two sees the other. Killed
 *          after clearing it and before waking: whoever takes over wakes all its peers once.
 *
 * A position that cannot be (further ahead than the ring is long, or not a multiple of 16) makes
 * the ring empty: its reader goes on where the writer claims to be, its writer where the reader
 * claims to be.
 */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/base/fetch.h"
#include "devices/process/contract.h"

enum {
	LANE_RING_LEN = CONTRACT_PORT_RING_LEN,
	LANE_ALIGN = 16,
	LANE_HEADER_LEN = 12, /* struct virtio_net_hdr_v1 */
	LANE_ETHER_LEN = 14,
	LANE_MIN_LEN = LANE_HEADER_LEN + LANE_ETHER_LEN, /* of a record: header and frame */
	/* at least the longest frame of the device (host.h), a tag more, and the header */
	LANE_MAX_LEN = 65536 + 128,
	LANE_MAX_QUEUES = CONTRACT_PORT_MAX_QUEUES,
	LANE_CALL_LEN = 32 << 10, /* bytes that need not wait for more */
};

/* One ring's shared words: a cache line for each side. */
struct lane_words {
	_Alignas(64) uint32_t tail;
	uint32_t writer_waits;
	_Alignas(64) uint32_t head;
	uint32_t reader_waits;
};

enum lane_direction {
	LANE_TO_SWITCH,
	LANE_TO_DEVICE,
	N_LANE_DIRECTIONS,
};

/*
 * The beginning of a port's memfd, CONTRACT_PORT_AREA_LEN bytes; the rings' bytes follow it, by
 * queue, then by direction.
 */
struct lane_area {
	uint32_t n_active; /* queues that the guest uses; the device writes it */
	struct lane_words words[LANE_MAX_QUEUES][N_LANE_DIRECTIONS];
};
_Static_assert(sizeof(struct lane_area) <= CONTRACT_PORT_AREA_LEN,
	       "the words fit before the rings");

/* A port's memory as mapped here. */
struct lane_map {
	struct lane_area *area;
	uint8_t *rings;
	uint32_t n_queues;
};

/* Map a port's memfd of n_queues queues. 0 or a negative errno; -EBADMSG: its size is not that. */
int lane_map(struct lane_map *m, int fd, uint32_t n_queues);
void lane_unmap(struct lane_map *m);

/* One end of a ring, in its owner's private memory. */
struct lane {
	struct lane_words *words;
	uint8_t *bytes;
	uint32_t at;	   /* own position: of the writer's next record, or the reader's */
	uint32_t other;	   /* the peer's, as loaded last and found possible */
	uint32_t step;	   /* bytes of the record that was reserved or looked at last */
	uint32_t called;   /* of a writer: where it was when it last looked whether to wake */
	uint64_t n_resets; /* positions of the peer's that could not be */
};

void lane_open_writer(struct lane *f, const struct lane_map *m, uint32_t queue,
		      enum lane_direction d);
void lane_open_reader(struct lane *f, const struct lane_map *m, uint32_t queue,
		      enum lane_direction d);

/*
 * The writer. Room for a record of len bytes (header and frame; LANE_MIN_LEN to LANE_MAX_LEN),
 * contiguous; NULL: there is none now. It counts with lane_commit, where len may have become
 * smaller, and is seen with lane_publish. True from that: the reader sleeps, wake it.
 */
static inline void *lane_reserve(struct lane *f, uint32_t len);
static inline void lane_commit(struct lane *f, uint32_t len);
bool lane_publish(struct lane *f);
/*
 * The same in two steps. First they can be seen; later, before the writer sleeps, true: the reader
 * sleeps, wake it. more: others are about to follow; then only when there are many already.
 */
void lane_show(struct lane *f);
bool lane_call(struct lane *f, bool more);
/* Before sleeping until there is room for a record of any length. False: there is already. */
bool lane_await_room(struct lane *f);

/*
 * The reader. The next record's header and frame, NULL: there is none. Their bytes may change at
 * any time: load once, check the copy. lane_next goes on to the one after it; what was gone past is
 * given back by lane_release, all of it or what is before a position (lane.at as it was then). True
 * from that: the writer waits for room, wake it.
 */
static inline const void *lane_look(struct lane *f, uint32_t *ret_len);
static inline void lane_next(struct lane *f);
bool lane_release(struct lane *f);
bool lane_release_to(struct lane *f, uint32_t at);
/*
 * A reader that has just been opened: its predecessor had done with what is before this position,
 * perhaps, and perhaps has not said so. One that cannot be is none.
 */
void lane_go_on(struct lane *f, uint32_t at);
/* Before sleeping until there is a record. False: there is one already. */
bool lane_await(struct lane *f);

/* The number of bytes between the reader and what it has seen of the writer: 0 is none. */
static inline uint32_t lane_seen(const struct lane *f)
{
	return f->other - f->at;
}

/* Is there a record? At the price of one load. */
static inline bool lane_any(const struct lane *f)
{
	return __atomic_load_n(&f->words->tail, __ATOMIC_RELAXED) != f->at;
}

/* ---- what is done for each frame ---- */

enum {
	LANE_LEN_WORD = sizeof(uint32_t),
	LANE_MASK = LANE_RING_LEN - 1,
	LANE_AHEAD = 320, /* bytes: what is fetched while this record is worked on */
};

static inline uint32_t *lane_len_at(const struct lane *f, uint32_t at)
{
	return (uint32_t *)(void *)(f->bytes + (at & LANE_MASK));
}

/* Bytes of the ring that a record takes. */
static inline uint32_t lane_step_of(uint32_t len)
{
	return (LANE_LEN_WORD + len + LANE_ALIGN - 1) & ~(uint32_t)(LANE_ALIGN - 1);
}

/* At the end of the ring, or where the other end has to be asked. */
void *lane_reserve_anew(struct lane *f, uint32_t len);
const void *lane_look_anew(struct lane *f, uint32_t *ret_len);

static inline void *lane_reserve(struct lane *f, uint32_t len)
{
	uint32_t step = lane_step_of(len), at = f->at & LANE_MASK;

	assert(len >= LANE_MIN_LEN && len <= LANE_MAX_LEN);
	if (LANE_RING_LEN - at < step || LANE_RING_LEN - (f->at - f->other) < step)
		return lane_reserve_anew(f, len);
	fetch_to_write(f->bytes + ((at + LANE_AHEAD) & LANE_MASK));
	fetch_to_write(f->bytes + ((at + LANE_AHEAD + FETCH_LINE) & LANE_MASK));
	f->step = step;
	return f->bytes + at + LANE_LEN_WORD;
}

static inline void lane_commit(struct lane *f, uint32_t len)
{
	uint32_t step = lane_step_of(len);

	assert(len >= LANE_MIN_LEN && step <= f->step);
	*lane_len_at(f, f->at) = len;
	f->at += step;
	f->step = 0;
}

static inline const void *lane_look(struct lane *f, uint32_t *ret_len)
{
	uint32_t at = f->at & LANE_MASK, seen = lane_seen(f), len, step;

	if (seen < LANE_ALIGN)
		return lane_look_anew(f, ret_len);
	len = __atomic_load_n(lane_len_at(f, at), __ATOMIC_RELAXED);
	step = lane_step_of(len);
	if (len < LANE_MIN_LEN || len > LANE_MAX_LEN || step > seen || step > LANE_RING_LEN - at)
		return lane_look_anew(f, ret_len);
	/* Both lines that the next one but some begins or ends in. */
	fetch_to_read(f->bytes + ((at + LANE_AHEAD) & LANE_MASK));
	fetch_to_read(f->bytes + ((at + LANE_AHEAD + FETCH_LINE) & LANE_MASK));
	f->step = step;
	*ret_len = len;
	return f->bytes + at + LANE_LEN_WORD;
}

static inline void lane_next(struct lane *f)
{
	f->at += f->step;
	f->step = 0;
}
