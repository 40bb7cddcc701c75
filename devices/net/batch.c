/* Frames written by one system call. See batch.h. */
#include "devices/net/batch.h"

#include <errno.h>
#include <sys/uio.h>

#include "devices/base/log.h"

static const uint8_t opcodes[] = { IORING_OP_WRITE, IORING_OP_WRITEV };

enum { N_OPCODES = sizeof(opcodes) / sizeof(*opcodes) };

static bool all_allowed(uint64_t allowed)
{
	for (uint32_t i = 0; i < N_OPCODES; i++)
		if (!(allowed >> opcodes[i] & 1))
			return false;
	return true;
}

void batch_open(struct batch *b, const struct host *h, uint64_t allowed)
{
	/* No registered files: an interface is to go with its last descriptor, not some time after. */
	struct uring_spec spec = { .n_entries = BATCH_MAX,
				   .n_cq_entries = 2 * BATCH_MAX,
				   .opcodes = opcodes,
				   .n_opcodes = N_OPCODES };
	struct io_uring_params params;

	if (!h->side->writes || !all_allowed(allowed))
		return;
	b->usable = uring_create(&b->uring, URING_ANY_FD, &spec, &params) == 0;
}

static void prepare(struct batch *b, int fd, const struct host_frame *f, uint32_t tag)
{
	struct io_uring_sqe *sqe = uring_sqe(&b->uring);
	bool single = f->n_iov == 1;

	sqe->opcode = single ? IORING_OP_WRITE : IORING_OP_WRITEV;
	sqe->fd = fd;
	sqe->addr = (uint64_t)(uintptr_t)(single ? f->iov[0].iov_base : f->iov);
	sqe->len = single ? (uint32_t)f->iov[0].iov_len : f->n_iov;
	sqe->rw_flags = RWF_NOWAIT;
	sqe->user_data = tag;
}

/* One by one from now on. */
static void give_up(struct batch *b, int error)
{
	b->usable = false;
	log_notice("frames are sent one by one: the host side's I/O ring does not work: %d", error);
}

/* What a completion says of its frame. An older kernel's host side may not know RWF_NOWAIT. */
static bool has_gone(struct batch *b, int32_t res)
{
	if (b->usable && (res == -EOPNOTSUPP || res == -EACCES))
		give_up(b, res);
	return res != -EAGAIN && res != -EOPNOTSUPP && res != -EACCES;
}

uint32_t batch_send(struct batch *b, int fd, struct host_frame *frames, uint32_t n)
{
	struct uring_completion done[BATCH_MAX];
	uint32_t n_frames = n, n_gone = 0;
	int r;

	for (uint32_t i = 0; i < n; i++) {
		frames[i].gone = false;
		prepare(b, fd, &frames[i], i);
	}
	r = uring_submit(&b->uring);
	n = uring_peek(&b->uring, done, n);
	for (uint32_t i = 0; i < n; i++)
		n_gone += frames[done[i].tag].gone = has_gone(b, done[i].res);
	uring_advance(&b->uring, n);
	if (n_gone < n_frames)
		b->n_careful = BATCH_CAREFUL;
	/* What the kernel had no memory for is not in it: to be sent again. */
	if (b->uring.n_queued > 0)
		uring_go_on(&b->uring);
	if (b->usable && (r < 0 || uring_owed(&b->uring) > 0))
		give_up(b, r);
	return n_gone;
}
