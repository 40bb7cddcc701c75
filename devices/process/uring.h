/*
 * An I/O ring that outlives its worker, and the fence.
 *
 * Runs in: worker; each I/O thread has two, for transfers and for what is done aside (aside.h).
 * Trusts:  the kernel; of what an earlier worker left in the shared ring only what is checked here.
 *
 * The ring's descriptor is in the shared table (CONTRACT_FD_RING). A killed worker's O_DIRECT
 * requests go on landing, on disk and in guest memory, for as long as the disk takes; their
 * completions are posted to this ring all the same. So the successor takes over the very ring and
 * waits until each request that the kernel had taken has its completion: uring_owed() == 0. That is
 * the fence.
 *
 * What the fence rests on:
 *  1. The kernel counts what it has taken in the SQ head and what it has posted in the CQ tail;
 *     both live in the ring. Each request taken posts exactly one completion: no CQE_SKIP, no
 *     multishot (the restrictions allow no such flag or opcode). Entries with a bad index are
 *     counted in "dropped".
 *  2. The SQ head is stored before io_uring_enter returns, and a kill takes effect only then: when
 *     the thread's robust futex reports its death, the head is final. (Second rings are submitted
 *     by another thread, whose death is not waited for: theirs is final when that one is shut out,
 *     aside_is_shut_out(). Until then the ring is mapped, not open.)
 *  3. Completions of a dead task are posted by the kernel's fall-back work for plain and
 *     COOP_TASKRUN rings. Not for DEFER_TASKRUN, and SINGLE_ISSUER refuses the successor: neither
 *     is used. SQPOLL is not used.
 *  4. The CQ holds what is usually in flight. What overflows it (64 long rings on one thread) the
 *     kernel keeps until it is asked for (IORING_FEAT_NODROP, uring_flush_overflow).
 *  5. Requests between SQ head and tail were never taken: the tail is set back.
 *
 * A worker that a guest has taken over can falsify the shared counters; it then cheats its own
 * disk.
 *
 * An I/O thread has two rings, and a fence for each. Behind the first one's, all that never went
 * aside is resubmitted and new requests are served; what may still be owed by the second ring, an
 * fsync of seconds perhaps, waits for that, and so does whatever is to be submitted to it. What the
 * fence is for still holds: no request is answered before its own earlier I/O is over. Until then
 * the driver has no answer, and so no reason to expect an order between that request and others.
 *
 * A ring is created disabled, restricted to the given opcodes on registered files (or, for a device
 * that opens files as it goes, on any descriptor), then enabled (IORING_REGISTER_RESTRICTIONS):
 * io_uring is not seen by seccomp.
 */
#pragma once

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

struct uring {
	struct io_uring ring;
	bool mapped; /* another worker may submit to it still; its completions can be taken */
	bool open;
	struct io_uring_sq theirs; /* while it is mapped: its SQ; ring.sq has what is prepared */
	uint32_t none_taken;	   /* the head of that, 0 */
	uint8_t sqe_flags;	   /* of every entry */
	uint32_t n_queued;	   /* prepared, not yet submitted */
};

struct uring_spec {
	uint32_t n_entries;
	uint32_t n_cq_entries;
	const int *files; /* registered: requests name them by index. NULL: they name descriptors */
	uint32_t n_files;
	const uint8_t *opcodes;
	uint32_t n_opcodes;
};

/*
 * From here on rings are made only for those opcodes of their spec that are in this set, bit n for
 * opcode n; what else is submitted completes with -EACCES. All are before the first call.
 */
void uring_narrow(uint64_t opcodes);

enum { URING_ANY_FD = -1 };

/*
 * Create a ring at descriptor number fd, or at any: one that ends with its worker. Its parameters
 * are in *ret_params, for a successor. 0 or a negative errno (-ENOSYS, -EPERM, -EACCES: io_uring is
 * not to be had here).
 */
int uring_create(struct uring *u, int fd, const struct uring_spec *spec,
		 struct io_uring_params *ret_params);

/*
 * Take over the ring at fd from a dead worker. -EBADMSG: params, which are hostile, are not those
 * of such a ring. Another negative errno: the host's.
 */
int uring_take_over(struct uring *u, int fd, const struct uring_spec *spec,
		    const struct io_uring_params *params);

/*
 * The same in two steps, the first while the other worker lives: map its ring, and later, when
 * nobody submits to it any more, go on with it. Entries that are prepared in between, in memory of
 * our own, are kept. (For a ring that is open: what was prepared and not taken is forgotten.)
 */
int uring_map(struct uring *u, int fd, const struct uring_spec *spec,
	      const struct io_uring_params *params);
void uring_go_on(struct uring *u);

/* Completions that the kernel still owes; the fence holds while it is not 0. */
uint32_t uring_owed(const struct uring *u);

/* Entries that can still be prepared before a submission. */
uint32_t uring_room(const struct uring *u);

/*
 * The next free submission entry, for registered file 0 if there are any. There is one as long as
 * there is room (uring_room).
 */
struct io_uring_sqe *uring_sqe(struct uring *u);

/* Make what is queued visible to whoever submits this ring's entries (process/aside.h). */
void uring_show(struct uring *u);

/* Submit what is queued. 0 or a negative errno (-EAGAIN, -EBUSY: try again after completions). */
int uring_submit(struct uring *u);

/* Let the kernel run what is due for this ring without waiting (completions of COOP_TASKRUN). */
void uring_flush(struct uring *u);

/* The same, if completions have overflowed the CQ. */
void uring_flush_overflow(struct uring *u);

/*
 * Completions [0, n) that are there: uring_peek() says how many (at most max), and copies them; the
 * entries are given back by uring_advance() only after their results are visible to the driver, so
 * that a successor finds what was not.
 */
struct uring_completion {
	uint64_t tag;
	int32_t res;
};
static inline bool uring_has_completions(const struct uring *u)
{
	return u->open && *u->ring.cq.khead != __atomic_load_n(u->ring.cq.ktail, __ATOMIC_RELAXED);
}
uint32_t uring_peek(struct uring *u, struct uring_completion *ret, uint32_t max);
void uring_advance(struct uring *u, uint32_t n);
