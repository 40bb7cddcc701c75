/* The page cache of an image that is served past it. See uncache.h. */
#include "devices/blk/uncache.h"

#include <assert.h>
#include <fcntl.h>

enum {
	STEP_MIN_LEN = 16 << 20, /* what a slow disk writes back in a moment */
	STEPS_MAX = 4096,	 /* of a large image */
	TAG_RING = 0xff,	 /* no virtqueue has this number */
};

static_assert((int)CONTRACT_MAX_QUEUES <= (int)TAG_RING, "tags of steps are not those of requests");

static void submit(const struct uncache *u, struct thread *t)
{
	uint64_t left = u->len - u->at;
	struct io_uring_sqe *sqe;

	if (left == 0 || uring_room(&t->aside) == 0)
		return;
	sqe = uring_sqe(&t->aside);
	sqe->user_data = tag_make(TAG_RING, 0, 0);
	sqe->off = u->at;
	sqe->len = (uint32_t)(left < u->step ? left : u->step);
	if (u->dropping) {
		sqe->opcode = IORING_OP_FADVISE;
		sqe->fadvise_advice = POSIX_FADV_DONTNEED;
	} else {
		sqe->opcode = IORING_OP_SYNC_FILE_RANGE;
		sqe->sync_range_flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
					SYNC_FILE_RANGE_WAIT_AFTER;
	}
}

void uncache_begin(struct uncache *u, struct thread *t, uint64_t len)
{
	uint64_t step = len / STEPS_MAX & ~(uint64_t)(STEP_MIN_LEN - 1);

	if (step < STEP_MIN_LEN)
		step = STEP_MIN_LEN;
	if (step > 1u << 31)
		step = 1u << 31;
	*u = (struct uncache){ .len = len, .step = step };
	submit(u, t);
}

bool uncache_is(uint64_t tag)
{
	return tag_ring(tag) == TAG_RING;
}

void uncache_continue(struct uncache *u, struct thread *t, int32_t res)
{
	if (res < 0)
		return;
	if (u->dropping)
		u->at += u->len - u->at < u->step ? u->len - u->at : u->step;
	u->dropping = !u->dropping;
	submit(u, t);
}
