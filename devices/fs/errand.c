/* Errands. See errand.h. */
#include "devices/fs/errand.h"

#include <errno.h>
#include <sys/mman.h>

#include "devices/base/crash.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/xattr.h"
#include "devices/process/aside.h"
#include "devices/virtio/iov.h"

enum { CROWD_REQUESTS = 256 };

struct errand {
	bool active;
	struct vring *ring;
	uint16_t head;
	uint64_t tag;
	uint64_t unique;
	struct errand_spec what;
	struct iovec *iov; /* where the data is, in guest memory; of REQUEST_MAX_IOV */
	uint32_t n_iov;
};

struct errands {
	uint32_t n_copies;
	struct errand errand[ERRAND_MAX];
	struct iovec iov[ERRAND_MAX][REQUEST_MAX_IOV];
};

/* The same as the filter allows as system calls, on any file that the worker has open. */
static const uint8_t opcodes[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC };

const struct uring_spec errand_ring = {
	.n_entries = ERRAND_RING_LEN,
	.n_cq_entries = 2 * ERRAND_RING_LEN,
	.opcodes = opcodes,
	.n_opcodes = sizeof(opcodes),
};

int errand_init(struct fs *fs, uint32_t thread)
{
	struct errands *all = mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (all == MAP_FAILED)
		return -errno;
	fs->threads[thread].errands = all;
	return 0;
}

void errand_crowd(const struct request *rq)
{
	if (queue_n_available(&rq->ring->queue) > 0)
		rq->fs->threads[rq->thread->index].crowded = CROWD_REQUESTS;
}

/* Has there been anybody who would have to wait? */
static bool is_alone(const struct request *rq)
{
	uint32_t *crowded = &rq->fs->threads[rq->thread->index].crowded;

	errand_crowd(rq);
	if (*crowded == 0)
		return true;
	--*crowded;
	return false;
}

static struct errands *errands_of(const struct fs *fs, const struct thread *t)
{
	return fs->threads[t->index].errands;
}

static bool copies(const struct errand_spec *what)
{
	return what->opcode != IORING_OP_FSYNC && what->len >= ERRAND_COPY_LEN;
}

uint32_t errand_copies(const struct request *rq)
{
	return errands_of(rq->fs, rq->thread)->n_copies;
}

static void queue_entry(struct thread *t, const struct errand *e)
{
	struct io_uring_sqe *sqe;

	thread_goes_aside(e->ring, e->head);
	sqe = uring_sqe(&t->aside);
	sqe->opcode = e->what.opcode;
	sqe->fd = e->what.handle->fd;
	sqe->user_data = e->tag;
	if (e->what.opcode == IORING_OP_FSYNC) {
		sqe->fsync_flags = e->what.flags;
	} else {
		sqe->addr = (uint64_t)(uintptr_t)e->iov;
		sqe->len = e->n_iov;
		sqe->off = e->what.offset + e->what.done;
		sqe->rw_flags = (int)e->what.flags;
	}
	/* Now, not when the turn ends: the next request of this turn may be another large copy. */
	aside_hand_over(&t->aside);
	CRASH_POINT("fs.errand.begun");
}

static struct errand *find_free(struct errands *all)
{
	for (uint32_t i = 0; i < ERRAND_MAX; i++)
		if (!all->errand[i].active) {
			all->errand[i].iov = all->iov[i];
			return &all->errand[i];
		}
	return NULL;
}

/* Where what is left of the request's data goes to or comes from. */
static bool set_iov(struct errand *e, const struct request *rq)
{
	const struct iovec *iov = e->what.opcode == IORING_OP_READV ? rq->out : rq->data;
	uint32_t n_iov = e->what.opcode == IORING_OP_READV ? rq->n_out : rq->n_data;
	int n = 0;

	if (e->what.opcode != IORING_OP_FSYNC)
		n = iov_slice(iov, n_iov, e->what.done, e->what.len - e->what.done, e->iov,
			      REQUEST_MAX_IOV);
	e->n_iov = n < 0 ? 0 : (uint32_t)n;
	return n >= 0;
}

bool errand_begin(struct request *rq, const struct errand_spec *spec)
{
	struct thread *t = rq->thread;
	struct errands *all = errands_of(rq->fs, t);
	struct errand *e;

	/*
	 * Nothing is submitted before the dead worker's are over; what cannot wait for that is done
	 * here.
	 */
	if (!t->aside.open || t->aside_fenced || uring_room(&t->aside) == 0 || is_alone(rq))
		return false;
	e = find_free(all);
	if (!e)
		return false;
	e->what = *spec;
	if (!set_iov(e, rq))
		return false;
	e->ring = rq->ring;
	e->head = rq->head;
	e->tag = rq->tag;
	e->unique = rq->in.unique;
	e->active = true;
	all->n_copies += copies(spec);
	queue_entry(t, e);
	return true;
}

static struct errand *find(struct errands *all, uint64_t tag)
{
	for (uint32_t i = 0; i < ERRAND_MAX; i++)
		if (all->errand[i].active && all->errand[i].tag == tag)
			return &all->errand[i];
	return NULL;
}

static void drop_front(struct errand *e, size_t len)
{
	uint32_t i = 0;

	while (i < e->n_iov && e->iov[i].iov_len <= len)
		len -= e->iov[i++].iov_len;
	for (uint32_t k = i; k < e->n_iov; k++)
		e->iov[k - i] = e->iov[k];
	e->n_iov -= i;
	if (len > 0) {
		e->iov[0].iov_base = (uint8_t *)e->iov[0].iov_base + len;
		e->iov[0].iov_len -= len;
	}
}

/*
 * Part of it was done, or nothing for now (the kernel's thread was interrupted, or the file cannot
 * be read without waiting from there): on with the rest. What ends at zero bytes is at the end of
 * the file.
 */
static bool goes_on(struct thread *t, struct errand *e, int32_t res)
{
	bool again = res == -EINTR || res == -EAGAIN || res == -ECANCELED;

	if (res > 0) {
		e->what.done += (uint32_t)res;
		again = e->what.done < e->what.len;
		if (again)
			drop_front(e, (size_t)res);
	}
	if (!again || uring_room(&t->aside) == 0)
		return false;
	queue_entry(t, e);
	return true;
}

/* Bytes altogether, 0, or a negative errno. */
static int32_t result_of(const struct errand *e, int32_t res)
{
	if (e->what.opcode == IORING_OP_FSYNC)
		return res < 0 ? res : 0;
	return res < 0 && e->what.done == 0 ? res : (int32_t)e->what.done;
}

/*
 * The answer's place is read from the chain once more; which request it is of was on record here.
 */
static void answer(struct fs *fs, struct thread *t, const struct errand *e, int32_t result)
{
	struct request rq = { .fs = fs, .thread = t, .ring = e->ring, .head = e->head };
	struct chain c = { .iov = fs->threads[t->index].iov, .iov_max = REQUEST_MAX_IOV };
	struct fuse_write_out out = { .size = result < 0 ? 0 : (uint32_t)result };
	int r = result < 0 ? result : 0;

	if (queue_load_again(&e->ring->queue, e->head, &c) != QUEUE_OK) {
		thread_push(t, e->ring, e->head, 0);
		return;
	}
	request_load(&rq, &c);
	rq.in.unique = e->unique;
	if (r == 0 && e->what.opcode == IORING_OP_READV)
		request_reply_filled(&rq, out.size < rq.out_len ? out.size : rq.out_len);
	if (r == 0 && e->what.opcode == IORING_OP_WRITEV)
		r = request_reply(&rq, &out, sizeof(out));
	thread_push(t, e->ring, e->head, request_end(&rq, r));
}

void errand_end(struct fs *fs, struct thread *t, uint64_t tag, int32_t res)
{
	struct errands *all = errands_of(fs, t);
	struct errand *e = find(all, tag);

	if (!e || goes_on(t, e, res))
		return;
	all->n_copies -= copies(&e->what);
	if (e->what.opcode == IORING_OP_WRITEV && e->what.done > 0)
		xattr_capabilities_end(fs, e->what.handle->fd);
	thread_take_up(t, e->ring, e->head);
	answer(fs, t, e, result_of(e, res));
	thread_set_down(t);
	handle_put(fs, e->what.handle);
	e->active = false;
	CRASH_POINT("fs.errand.ended");
}
