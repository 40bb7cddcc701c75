/*
 * An image that is read and written past the page cache gets rid of what the page cache still has
 * of it.
 *
 * Runs in: worker's first I/O thread. Trusts: nobody is asked.
 *
 * An image that has just been copied, say, lies in the page cache. A direct write to such a page
 * has to wait until the page is gone, one by one, at twice the price. So when a session begins, the
 * image is written back and dropped from the cache, a step at a time, on the second I/O ring
 * (process/aside.h): the guest is served meanwhile. A worker that dies leaves at most one step to
 * the fence, and its successor does not begin again. What fails ends it; nothing depends on it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/process/thread.h"

struct uncache {
	uint64_t at, len, step; /* bytes */
	bool dropping;		/* the step is written back, and being dropped */
};

/* Begin with an image of len bytes. */
void uncache_begin(struct uncache *u, struct thread *t, uint64_t len);

/* Is this the tag of such a step? It ended with res: go on. */
bool uncache_is(uint64_t tag);
void uncache_continue(struct uncache *u, struct thread *t, int32_t res);
