/* I/O rings: made, taken over, submitted to and reaped. The fence is explained in uring.h. */
#include "devices/process/uring.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/fd.h"
#include "devices/base/log.h"

enum {
	MAX_RESTRICTIONS = 16,
	PAGE_LEN = 4096, /* more than the words before the entries take */
	RING_FLAGS = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN |
		     IORING_SETUP_SUBMIT_ALL,
	SQ_OFFSETS = 7, /* head tail mask entries flags dropped array */
	CQ_OFFSETS = 7, /* head tail mask entries overflow cqes flags */
};

static uint64_t narrowed_to = UINT64_MAX;

void uring_narrow(uint64_t opcodes)
{
	narrowed_to = opcodes;
}

/* The flags that every entry has, and none other. */
static uint8_t flags_of(const struct uring_spec *spec)
{
	return spec->files ? IOSQE_FIXED_FILE : 0;
}

static int restrict_ring(struct io_uring *ring, const struct uring_spec *spec)
{
	struct io_uring_restriction r[MAX_RESTRICTIONS] = { 0 };
	uint32_t n = 0;

	if (spec->n_opcodes + 2 > MAX_RESTRICTIONS)
		return -EINVAL;
	for (uint32_t i = 0; i < spec->n_opcodes; i++) {
		if (!(narrowed_to >> spec->opcodes[i] & 1)) {
			log_warning("opcode %u of its I/O rings is not allowed to this device: "
				    "requests that need it fail",
				    spec->opcodes[i]);
			continue;
		}
		r[n].opcode = IORING_RESTRICTION_SQE_OP;
		r[n++].sqe_op = spec->opcodes[i];
	}
	r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	r[n++].sqe_flags = flags_of(spec);
	r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	r[n++].sqe_flags = flags_of(spec);
	return io_uring_register_restrictions(ring, r, n);
}

static int set_up(struct io_uring *ring, const struct uring_spec *spec, struct io_uring_params *p)
{
	int r;

	*p = (struct io_uring_params){
		.flags = RING_FLAGS,
		.cq_entries = spec->n_cq_entries,
	};
	r = io_uring_queue_init_params(spec->n_entries, ring, p);
	if (r < 0)
		return r;
	if (spec->files)
		r = io_uring_register_files(ring, spec->files, spec->n_files);
	if (r >= 0)
		r = restrict_ring(ring, spec);
	if (r >= 0)
		r = io_uring_enable_rings(ring);
	if (r < 0)
		io_uring_queue_exit(ring);
	return r < 0 ? r : 0;
}

int uring_create(struct uring *u, int fd, const struct uring_spec *spec,
		 struct io_uring_params *ret_params)
{
	int r;

	memset(u, 0, sizeof(*u));
	r = set_up(&u->ring, spec, ret_params);
	if (r < 0)
		return r;
	r = fd == URING_ANY_FD ? u->ring.ring_fd : fd_move(u->ring.ring_fd, fd, false);
	if (r < 0) {
		io_uring_queue_exit(&u->ring);
		return r;
	}
	u->ring.ring_fd = r;
	u->ring.enter_ring_fd = r;
	u->sqe_flags = flags_of(spec);
	u->open = true;
	return 0;
}

/*
 * The geometry that was asked for, and all offsets inside the one map that it implies, which is
 * no larger than that geometry needs.
 */
static bool params_ok(const struct io_uring_params *p, const struct uring_spec *spec)
{
	uint64_t sq_len = p->sq_off.array + (uint64_t)p->sq_entries * sizeof(uint32_t);
	uint64_t cq_len = p->cq_off.cqes + (uint64_t)p->cq_entries * sizeof(struct io_uring_cqe);
	uint64_t len = sq_len > cq_len ? sq_len : cq_len;
	const uint32_t *sq = &p->sq_off.head, *cq = &p->cq_off.head;

	if (p->sq_entries != spec->n_entries || p->cq_entries != spec->n_cq_entries)
		return false;
	if (len > PAGE_LEN + p->sq_entries * sizeof(uint32_t) +
			  p->cq_entries * sizeof(struct io_uring_cqe))
		return false;
	if (!(p->features & IORING_FEAT_SINGLE_MMAP) || p->flags != RING_FLAGS)
		return false;
	for (uint32_t i = 0; i < SQ_OFFSETS; i++)
		if (sq[i] % 4 || sq[i] + 4ull > len)
			return false;
	for (uint32_t i = 0; i < CQ_OFFSETS; i++)
		if (cq[i] % 4 || cq[i] + 4ull > len)
			return false;
	return true;
}

/* The other worker's SQ is left alone: what is prepared meanwhile goes elsewhere. */
static int prepare_elsewhere(struct uring *u)
{
	struct io_uring_sq *sq = &u->ring.sq;
	void *sqes = mmap(NULL, sq->ring_entries * sizeof(*sq->sqes), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (sqes == MAP_FAILED)
		return -errno;
	u->theirs = *sq;
	sq->sqes = sqes;
	sq->khead = &u->none_taken;
	return 0;
}

int uring_map(struct uring *u, int fd, const struct uring_spec *spec,
	      const struct io_uring_params *params)
{
	struct io_uring_params p = *params;
	int r;

	memset(u, 0, sizeof(*u));
	if (!params_ok(&p, spec))
		return -EBADMSG;
	r = io_uring_queue_mmap(fd, &p, &u->ring);
	if (r < 0)
		return r;
	u->ring.ring_fd = fd;
	u->ring.enter_ring_fd = fd;
	u->ring.sq.ring_mask = p.sq_entries - 1;
	u->ring.sq.ring_entries = p.sq_entries;
	u->ring.cq.ring_mask = p.cq_entries - 1;
	u->ring.cq.ring_entries = p.cq_entries;
	u->sqe_flags = flags_of(spec);
	r = prepare_elsewhere(u);
	u->mapped = r == 0;
	return r;
}

/* What the other worker prepared and the kernel has not taken will be prepared anew. */
void uring_go_on(struct uring *u)
{
	struct io_uring_sq *sq = &u->ring.sq;
	const struct io_uring_sqe *ours = sq->sqes;
	uint32_t n_ours = u->mapped ? sq->sqe_tail : 0;

	if (u->mapped)
		*sq = u->theirs;
	sq->sqe_head = sq->sqe_tail = __atomic_load_n(sq->khead, __ATOMIC_ACQUIRE);
	for (uint32_t i = 0; i < sq->ring_entries; i++)
		sq->array[i] = i;
	__atomic_store_n(sq->ktail, sq->sqe_tail, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < n_ours; i++)
		sq->sqes[sq->sqe_tail++ & sq->ring_mask] = ours[i];
	u->n_queued = n_ours;
	u->mapped = false;
	/* The companion looks at it, too. */
	__atomic_store_n(&u->open, true, __ATOMIC_RELEASE);
}

int uring_take_over(struct uring *u, int fd, const struct uring_spec *spec,
		    const struct io_uring_params *params)
{
	int r = uring_map(u, fd, spec, params);

	if (r == 0)
		uring_go_on(u);
	return r;
}

uint32_t uring_owed(const struct uring *u)
{
	uint32_t taken, dropped, posted;

	if (!u->open)
		return 0;
	taken = __atomic_load_n(u->ring.sq.khead, __ATOMIC_ACQUIRE);
	dropped = __atomic_load_n(u->ring.sq.kdropped, __ATOMIC_RELAXED);
	posted = __atomic_load_n(u->ring.cq.ktail, __ATOMIC_ACQUIRE);
	return taken - dropped - posted;
}

uint32_t uring_room(const struct uring *u)
{
	return io_uring_sq_space_left(&u->ring);
}

struct io_uring_sqe *uring_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	assert(sqe);
	memset(sqe, 0, sizeof(*sqe));
	sqe->flags = u->sqe_flags;
	u->n_queued++;
	return sqe;
}

void uring_show(struct uring *u)
{
	struct io_uring_sq *sq = &u->ring.sq;

	__atomic_store_n(sq->ktail, sq->sqe_tail, __ATOMIC_RELEASE);
	sq->sqe_head = sq->sqe_tail;
	u->n_queued = 0;
}

int uring_submit(struct uring *u)
{
	int r;

	CRASH_POINT("uring.queued");
	r = io_uring_submit(&u->ring);
	CRASH_POINT("uring.submitted");
	if (r < 0)
		return r == -EINTR ? 0 : r;
	u->n_queued -= (uint32_t)r < u->n_queued ? (uint32_t)r : u->n_queued;
	return 0;
}

void uring_flush(struct uring *u)
{
	if (u->open)
		io_uring_get_events(&u->ring);
}

void uring_flush_overflow(struct uring *u)
{
	if ((u->open || u->mapped) && io_uring_cq_has_overflow(&u->ring))
		io_uring_get_events(&u->ring);
}

uint32_t uring_peek(struct uring *u, struct uring_completion *ret, uint32_t max)
{
	const struct io_uring_cq *cq = &u->ring.cq;
	uint32_t head, tail, mask, n;

	if (!u->open && !u->mapped)
		return 0;
	head = *cq->khead;
	tail = __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE);
	mask = cq->ring_mask;
	n = tail - head;
	if (n > max)
		n = max;
	for (uint32_t i = 0; i < n; i++) {
		const struct io_uring_cqe *cqe = &cq->cqes[(head + i) & mask];

		ret[i] = (struct uring_completion){ .tag = cqe->user_data, .res = cqe->res };
	}
	return n;
}

void uring_advance(struct uring *u, uint32_t n)
{
	CRASH_POINT("uring.reaped");
	io_uring_cq_advance(&u->ring, n);
}
