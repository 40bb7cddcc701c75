/*
 * Errands: system calls that may take long, made while the I/O thread goes on with other requests.
 *
 * Runs in: worker, I/O threads; the calls themselves are made by the companion (process/aside.h)
 *          and the kernel's own threads, through the second I/O ring of the request's thread.
 *          Trusts: nothing of the request's.
 *
 * Which: reads that have to wait for a disk, direct I/O, fsync; and one large copy at a time while
 * the I/O thread makes another. Only what may be done twice, and leaves nothing on record in the
 * journal: a request whose errand was under way when its worker died is begun anew, and the fence
 * (process/uring.h) makes sure that nothing of the first time lands after that.
 *
 * A request that is alone, as those before it were, holds nobody up: its call is made at once,
 * which spares it three threads' wake-ups.
 *
 * The operation hands over its use of the handle, returns REQUEST_ASIDE, and the request stays in
 * flight until errand_end(). Where there is no io_uring or no room, it is refused, and the
 * operation makes the call itself.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/process/uring.h"

struct fs;
struct handle;
struct request;
struct thread;

enum {
	ERRAND_MAX = 32, /* of a thread at the same time */
	ERRAND_RING_LEN = 64,
	/* A copy that takes clearly longer than to wake who makes it. */
	ERRAND_COPY_LEN = 256 << 10,
};

struct errand;

/* What a thread's errands need, and what its second ring may do. */
int errand_init(struct fs *fs, uint32_t thread);
extern const struct uring_spec errand_ring;

/*
 * Somebody else's request is there, or came while this one's call was made: so it will be for a
 * while.
 */
void errand_crowd(const struct request *rq);

/* How many large copies of this thread are under way? */
uint32_t errand_copies(const struct request *rq);

struct errand_spec {
	const struct handle *handle; /* taken, if the errand is */
	uint8_t opcode;		     /* IORING_OP_READV, WRITEV or FSYNC */
	uint64_t offset;	     /* of the request, not of what is left */
	uint32_t len, done;	     /* what of it is there already */
	uint32_t flags;		     /* IORING_FSYNC_*, of a write RWF_* */
};

/* False: not taken. */
bool errand_begin(struct request *rq, const struct errand_spec *spec);

/* The result of the errand with this tag. */
void errand_end(struct fs *fs, struct thread *t, uint64_t tag, int32_t res);
