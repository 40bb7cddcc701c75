/*
 * Large reads of the page cache are copied by two: the I/O thread, and its companion
 * (process/aside.h), which has nothing else to do then.
 *
 * Runs in: worker's I/O threads. Trusts: requests as parsed.
 *
 * To copy 128 KiB takes as long as several wake-ups. While the driver has more for us, some such
 * reads go to the second I/O ring, and the companion copies them on another processor. Where there
 * is no processor for it, or the page is not in memory, they come back late; then no more are
 * shared for a while, and for twice as long each time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/blk/request.h"
#include "devices/process/thread.h"

struct share {
	uint32_t n_out;	  /* reads that the companion has */
	uint32_t skip;	  /* so many large reads are not shared */
	uint32_t penalty; /* and so many the next time that one is late */
};

/* Hand this read over? It is parsed, and of the page cache. If so, it is counted: rq->share. */
bool share_begin(struct share *s, struct thread *t, struct blk_request *rq);

/* It has come back. */
void share_end(struct share *s, struct thread *t, struct blk_request *rq);
