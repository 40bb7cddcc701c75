/*
 * Frames of a host side that are written to a descriptor: many by one system call.
 *
 * Runs in: worker's I/O threads, each with one of its own; made in its main thread, before confinement.
 * Trusts:  the kernel.
 *
 * An I/O ring (process/uring.h), restricted to writes. It does not outlive its worker and
 * needs no fence: each entry says RWF_NOWAIT, so that all of a batch is over when the call returns, and a SIGKILL takes
 * effect only then. Against a write() for each frame
 * it saves most of a system call each. Registered descriptors would save 0.13 us more each; but a ring lets go of them, and so of the interface,
 * some 20 ms after its owner's end.
 */
#pragma once

#include "devices/net/host.h"
#include "devices/process/uring.h"

enum {
	BATCH_MAX = 64,
	BATCH_CAREFUL = 1024, /* frames that are sent one by one after there was no room */
};

struct batch {
	struct uring uring;
	bool usable;	    /* false: frames are sent one by one */
	uint32_t n_careful; /* so are as many of the next: none is to overtake another */
};

/*
 * A ring for a host side, if there may be one: opcodes is the set of what its policy allows, bit n for
 * opcode n. Without one the batch is not usable; the reason is not the device's affair.
 */
void batch_open(struct batch *b, const struct host *h, uint64_t opcodes);

static inline bool batch_is_apt(const struct batch *b)
{
	return b->usable && b->n_careful == 0;
}

/* Of n frames so many have been sent one by one instead; returns that. */
static inline uint32_t batch_sent_singly(struct batch *b, uint32_t n, uint32_t n_sent)
{
	if (n_sent < n)
		b->n_careful = BATCH_CAREFUL;
	else
		b->n_careful -= n < b->n_careful ? n : b->n_careful;
	return n_sent;
}

/*
 * Send frames to a queue's descriptor, BATCH_MAX at most: how many went (a frame that the host refuses has gone); they are marked. The
 * others found no room, all or not: a frame may overtake one that has to wait, when there is none for the first time.
 */
uint32_t batch_send(struct batch *b, int fd, struct host_frame *frames, uint32_t n);
