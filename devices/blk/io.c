/* Steps of I/O: what comes next, how it is issued, what its end means. See io.h. */
#include "devices/blk/io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/process/contract.h"
#include "devices/virtio/iov.h"

const uint8_t io_transfer_opcodes[] = { IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READV,
					IORING_OP_WRITEV };
/* The last two: uncache.c. */
const uint8_t io_aside_opcodes[] = { IORING_OP_READ,	IORING_OP_WRITE,
				     IORING_OP_READV,	IORING_OP_WRITEV,
				     IORING_OP_FSYNC,	IORING_OP_FALLOCATE,
				     IORING_OP_FADVISE, IORING_OP_SYNC_FILE_RANGE };
const uint32_t io_n_transfer_opcodes = sizeof(io_transfer_opcodes);
const uint32_t io_n_aside_opcodes = sizeof(io_aside_opcodes);

/* What one step asks of the kernel; an SQE, or the arguments of a system call. */
struct step {
	uint8_t opcode; /* READV, WRITEV, FSYNC or FALLOCATE */
	uint64_t offset;
	const struct iovec *iov;
	uint32_t n_iov;
	uint32_t rw_flags;
	int mode; /* fallocate */
	uint64_t len;
};

static int32_t call(struct thread *t, const struct step *s)
{
	int fd = CONTRACT_FD_BLK_IMAGE;
	ssize_t r = -1;
	int error;

	/* Waiting for a disk is not hanging. */
	state_thread_blocks(t->shared);
	switch (s->opcode) {
	case IORING_OP_READV:
		r = preadv2(fd, s->iov, (int)s->n_iov, (off_t)s->offset, (int)s->rw_flags);
		break;
	case IORING_OP_WRITEV:
		r = pwritev2(fd, s->iov, (int)s->n_iov, (off_t)s->offset, (int)s->rw_flags);
		break;
	case IORING_OP_FSYNC:
		r = fdatasync(fd);
		break;
	case IORING_OP_FALLOCATE:
		r = fallocate(fd, s->mode, (off_t)s->offset, (off_t)s->len);
		break;
	default:
		assert(false);
	}
	error = errno;
	state_thread_goes_on(t->shared);
	return r < 0 ? -error : (int32_t)r;
}

/*
 * What may wait in the kernel goes aside (process/aside.h): that is all but direct transfers, which
 * are told not to wait and come back with EAGAIN if they would have to (step_ended), and reads of
 * the page cache, which wait without a thread, unless they are shared (share.h).
 */
static bool goes_aside(const struct io_target *target, const struct blk_request *rq,
		       const struct step *s)
{
	if (s->opcode == IORING_OP_FSYNC || s->opcode == IORING_OP_FALLOCATE)
		return true;
	return rq->aside || rq->share || (s->opcode == IORING_OP_WRITEV && !target->direct);
}

static void submit(const struct io_target *target, struct thread *t, const struct blk_request *rq,
		   const struct step *s)
{
	bool aside = goes_aside(target, rq, s);
	struct io_uring_sqe *sqe;

	if (aside)
		thread_goes_aside(rq->ring, rq->head);
	sqe = uring_sqe(aside ? &t->aside : &t->uring);
	sqe->opcode = s->opcode;
	sqe->user_data = rq->tag;
	sqe->off = s->offset;
	switch (s->opcode) {
	case IORING_OP_FSYNC:
		sqe->off = 0;
		sqe->fsync_flags = IORING_FSYNC_DATASYNC;
		return;
	case IORING_OP_FALLOCATE:
		sqe->addr = s->len;
		sqe->len = (uint32_t)s->mode;
		return;
	default:
		break;
	}
	sqe->rw_flags = (int)(s->rw_flags | (target->direct && !aside ? RWF_NOWAIT : 0));
	if (s->n_iov > 1) {
		sqe->addr = (uintptr_t)s->iov;
		sqe->len = s->n_iov;
		return;
	}
	sqe->opcode = s->opcode == IORING_OP_READV ? IORING_OP_READ : IORING_OP_WRITE;
	sqe->addr = (uintptr_t)s->iov->iov_base;
	sqe->len = (uint32_t)s->iov->iov_len;
}

static bool needs_bounce(const struct io_target *target, const struct blk_request *rq)
{
	uintptr_t bits = 0;

	if (!target->direct || (rq->kind != REQUEST_READ && rq->kind != REQUEST_WRITE))
		return false;
	for (uint32_t i = 0; i < rq->n_iov; i++)
		bits |= (uintptr_t)rq->data[i].iov_base | rq->data[i].iov_len;
	/* Linux wants lengths aligned like addresses; its wish for offsets is in block_len. */
	return (bits & (target->memory_align - 1)) != 0;
}

static void step_bounced(struct step *s, const struct io_bounce *b, struct blk_request *rq)
{
	static _Thread_local struct iovec one;
	uint32_t left = rq->len - rq->done;

	rq->step_len = left < REQUEST_BOUNCE_LEN ? left : REQUEST_BOUNCE_LEN;
	if (rq->kind == REQUEST_WRITE)
		iov_read(rq->data, rq->n_iov, 0, b->buffer, rq->step_len);
	one = (struct iovec){ .iov_base = b->buffer, .iov_len = rq->step_len };
	s->iov = &one;
	s->n_iov = 1;
}

static void step_transfer(struct step *s, const struct io_target *target, const struct io_bounce *b,
			  struct blk_request *rq)
{
	s->opcode = rq->kind == REQUEST_READ ? IORING_OP_READV : IORING_OP_WRITEV;
	s->rw_flags = rq->kind == REQUEST_WRITE && !target->writeback ? RWF_DSYNC : 0;
	s->offset = rq->offset;
	if (rq->bounced) {
		step_bounced(s, b, rq);
		return;
	}
	s->iov = rq->data;
	s->n_iov = rq->n_iov;
	rq->step_len = rq->len - rq->done;
}

/* For files that cannot zero a range: as much of the range as the request's iovecs can describe. */
static void step_write_zeroes(struct step *s, const struct io_target *target,
			      struct blk_request *rq)
{
	const struct request_range *r = &rq->room->ranges[rq->range];
	uint64_t left = r->len;
	uint32_t n = 0;

	for (; left > 0 && n < REQUEST_MAX_SEGMENTS; n++) {
		size_t len = left < REQUEST_ZEROES_LEN ? left : REQUEST_ZEROES_LEN;

		rq->room->iov[n] = (struct iovec){ (void *)(uintptr_t)target->zeroes, len };
		left -= len;
	}
	s->opcode = IORING_OP_WRITEV;
	s->offset = r->offset;
	s->iov = rq->room->iov;
	s->n_iov = n;
}

static void step_erase(struct step *s, const struct io_target *target, struct blk_request *rq)
{
	const struct request_range *r = &rq->room->ranges[rq->range];

	if (rq->writing_zeroes) {
		step_write_zeroes(s, target, rq);
		return;
	}
	s->opcode = IORING_OP_FALLOCATE;
	s->mode = FALLOC_FL_KEEP_SIZE |
		  (rq->kind == REQUEST_ZERO && !r->unmap ? FALLOC_FL_ZERO_RANGE
							 : FALLOC_FL_PUNCH_HOLE);
	s->offset = r->offset;
	s->len = r->len;
}

static struct step next_step(const struct io_target *target, const struct io_bounce *b,
			     struct blk_request *rq)
{
	struct step s = { .opcode = IORING_OP_FSYNC };

	switch ((enum request_kind)rq->kind) {
	case REQUEST_READ:
	case REQUEST_WRITE:
		step_transfer(&s, target, b, rq);
		break;
	case REQUEST_DISCARD:
	case REQUEST_ZERO:
		if (!rq->flushing)
			step_erase(&s, target, rq);
		break;
	case REQUEST_FLUSH:
	case REQUEST_ANSWER:
		break;
	}
	return s;
}

/* What the end of a step means for its request. */
enum step_end {
	STEP_LAST,  /* done, rq->status is set */
	STEP_AGAIN, /* there is another one to issue */
};

static enum step_end last(struct io_bounce *b, struct blk_request *rq, uint8_t status)
{
	if (b->owner == rq)
		b->owner = NULL;
	rq->status = status;
	return STEP_LAST;
}

/*
 * A file system or disk that cannot do it: a discard is only advice (VIRTIO 1.3 §5.2.6.2), zeroes
 * are written instead.
 */
static enum step_end erase_refused(struct io_bounce *b, struct blk_request *rq)
{
	if (rq->kind == REQUEST_DISCARD)
		return last(b, rq, VIRTIO_BLK_S_OK);
	rq->writing_zeroes = true;
	return STEP_AGAIN;
}

/* res bytes of the range, or all of it by fallocate, are erased. True if nothing of it is left. */
static bool range_done(struct blk_request *rq, int32_t res)
{
	struct request_range *r = &rq->room->ranges[rq->range];

	if (!rq->writing_zeroes)
		return true;
	r->offset += (uint64_t)res;
	r->len -= (uint64_t)res;
	return r->len == 0;
}

static enum step_end erase_ended(const struct io_target *target, struct io_bounce *b,
				 struct blk_request *rq, int32_t res)
{
	if (!rq->flushing && !rq->writing_zeroes && res == -EOPNOTSUPP)
		return erase_refused(b, rq);
	if (res < 0 || (rq->writing_zeroes && !rq->flushing && res == 0))
		return last(b, rq, VIRTIO_BLK_S_IOERR);
	if (rq->flushing)
		return last(b, rq, VIRTIO_BLK_S_OK);
	if (!range_done(rq, res) || ++rq->range < rq->n_ranges)
		return STEP_AGAIN;
	if (target->writeback)
		return last(b, rq, VIRTIO_BLK_S_OK);
	/* Without a write cache the ranges have to be durable before the answer. */
	rq->flushing = true;
	return STEP_AGAIN;
}

static void log_read(const struct blk_request *rq)
{
	const struct memory *m = rq->ring->queue.memory;

	if (rq->kind != REQUEST_READ || !memory_logs(m))
		return;
	for (uint32_t i = 0; i < rq->n_iov; i++)
		memory_log_host(m, rq->data[i].iov_base, rq->data[i].iov_len);
}

static enum step_end transfer_ended(struct io_bounce *b, struct blk_request *rq, int32_t res)
{
	if (rq->bounced && rq->kind == REQUEST_READ && res > 0)
		iov_write(rq->data, rq->n_iov, 0, b->buffer, (size_t)res);
	log_read(rq);
	/* 0: the image has become shorter than it was. */
	if (res <= 0 || (uint32_t)res > rq->step_len)
		return last(b, rq, VIRTIO_BLK_S_IOERR);
	blk_request_advance(rq, (uint32_t)res);
	return rq->done == rq->len ? last(b, rq, VIRTIO_BLK_S_OK) : STEP_AGAIN;
}

static enum step_end step_ended(const struct io_target *target, struct io_bounce *b,
				struct blk_request *rq, int32_t res)
{
	bool waits = !rq->aside && target->direct && (res == -EAGAIN || res == -EOPNOTSUPP);

	if (waits &&
	    (rq->kind == REQUEST_READ || rq->kind == REQUEST_WRITE || rq->writing_zeroes)) {
		rq->aside = true;
		return STEP_AGAIN;
	}
	rq->aside = false;
	if (res == -EINTR || res == -EAGAIN)
		return STEP_AGAIN;
	switch ((enum request_kind)rq->kind) {
	case REQUEST_READ:
	case REQUEST_WRITE:
		return transfer_ended(b, rq, res);
	case REQUEST_DISCARD:
	case REQUEST_ZERO:
		return erase_ended(target, b, rq, res);
	case REQUEST_FLUSH:
	case REQUEST_ANSWER:
		break;
	}
	return last(b, rq, res < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

/* Issue steps until one is pending or the request is done. Without io_uring each ends at once. */
static enum io_outcome issue(const struct io_target *target, struct io_bounce *b, struct thread *t,
			     struct blk_request *rq)
{
	struct step s;

	do {
		s = next_step(target, b, rq);
		if (target->uring) {
			submit(target, t, rq, &s);
			return IO_PENDING;
		}
	} while (step_ended(target, b, rq, call(t, &s)) == STEP_AGAIN);
	return IO_DONE;
}

static void wait_for_bounce(struct io_bounce *b, struct blk_request *rq)
{
	rq->next = NULL;
	if (b->last)
		b->last->next = rq;
	else
		b->first = rq;
	b->last = rq;
}

struct blk_request *io_next_waiting(struct io_bounce *b)
{
	struct blk_request *rq = b->first;

	if (b->owner || !rq)
		return NULL;
	b->first = rq->next;
	if (!b->first)
		b->last = NULL;
	return rq;
}

enum io_outcome io_start(const struct io_target *target, struct io_bounce *b, struct thread *t,
			 struct blk_request *rq)
{
	if (rq->kind == REQUEST_ANSWER)
		return IO_DONE;
	rq->bounced = needs_bounce(target, rq);
	if (rq->bounced && b->owner) {
		wait_for_bounce(b, rq);
		return IO_PENDING;
	}
	if (rq->bounced)
		b->owner = rq;
	return issue(target, b, t, rq);
}

enum io_outcome io_continue(const struct io_target *target, struct io_bounce *b, struct thread *t,
			    struct blk_request *rq, int32_t res)
{
	if (step_ended(target, b, rq, res) == STEP_AGAIN)
		return issue(target, b, t, rq);
	return IO_DONE;
}

/*
 * Only a success of the whole counts, and only of a request that is one step from or to guest
 * memory. Everything else is begun anew: repeating it is right, and an error that is real will come
 * again.
 */
bool io_was_done(const struct io_target *target, const struct blk_request *rq, int32_t res)
{
	switch ((enum request_kind)rq->kind) {
	case REQUEST_READ:
	case REQUEST_WRITE:
		return !needs_bounce(target, rq) && res > 0 && (uint32_t)res == rq->len;
	case REQUEST_FLUSH:
		return res == 0;
	case REQUEST_DISCARD:
	case REQUEST_ZERO:
		return res == 0 && rq->n_ranges == 1 && target->writeback;
	case REQUEST_ANSWER:
		break;
	}
	return false;
}
