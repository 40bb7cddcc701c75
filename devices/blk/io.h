/*
 * The steps of a request, by io_uring or by plain system calls.
 *
 * Runs in: worker's I/O threads. Trusts: requests as parsed.
 *
 * By io_uring a step goes to the thread's first ring, if it is a direct transfer or a read of the
 * page cache, or to its second one (process/aside.h), if it may wait in the kernel. A direct
 * transfer is told not to wait; one that would have to is issued again, aside.
 */
#pragma once

#include "devices/blk/request.h"
#include "devices/process/thread.h"

struct io_target {
	bool direct;	       /* O_DIRECT: buffers must be aligned */
	uint32_t memory_align; /* bytes, a power of two */
	bool uring;
	bool writeback; /* the driver's write cache is on: writes may be volatile until flushed */
	const uint8_t *zeroes; /* REQUEST_ZEROES_LEN bytes, aligned for direct I/O */
};

/* A thread's one bounce buffer, and who waits for it. */
struct io_bounce {
	uint8_t *buffer; /* REQUEST_BOUNCE_LEN bytes, aligned */
	struct blk_request *owner, *first, *last;
};

enum io_outcome {
	IO_PENDING, /* a completion will come */
	IO_DONE,    /* rq->status is set; the request can be answered */
};

/* Start a parsed request. */
enum io_outcome io_start(const struct io_target *target, struct io_bounce *bounce, struct thread *t,
			 struct blk_request *rq);

/* The step in flight ended with res (bytes, 0, or a negative errno): go on, or be done. */
enum io_outcome io_continue(const struct io_target *target, struct io_bounce *bounce,
			    struct thread *t, struct blk_request *rq, int32_t res);

/* Was this request done by one step with this result? It must be just parsed. */
bool io_was_done(const struct io_target *target, const struct blk_request *rq, int32_t res);

/* A request that waited for the bounce buffer and may start now, or NULL. */
struct blk_request *io_next_waiting(struct io_bounce *bounce);

/* Opcodes that go to a thread's first ring, and to its second one. */
extern const uint8_t io_transfer_opcodes[], io_aside_opcodes[];
extern const uint32_t io_n_transfer_opcodes, io_n_aside_opcodes;
