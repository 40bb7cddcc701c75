/*
 * What a device writes to its stderr, line by line.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing: the pipe is in the worker's hands too. Lines are cut to size, control
 * characters replaced, and what comes too fast is counted instead of forwarded.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "devices/base/log.h"

enum {
	LINES_KEPT = 10,      /* for status */
	LINES_MAX_LEN = 400,  /* bytes of a line, the rest is cut */
	LINES_BURST = 40,     /* lines forwarded ... */
	LINES_INTERVAL_S = 5, /* ... in this time */
};

struct lines {
	char kept[LINES_KEPT][LINES_MAX_LEN + 1]; /* a ring; next is the oldest once it is full */
	unsigned next, n;
	char partial[LINES_MAX_LEN + 4]; /* of the line that has not ended: "<N>" and text */
	size_t partial_len;
	struct log_rate rate;
};

void lines_init(struct lines *lines);

/*
 * Reads what fd has, at most a pipe's worth; `line` gets each line that may be forwarded. Returns
 * 0, or -EPIPE when the writers are gone, or a negative errno.
 */
int lines_read(struct lines *lines, int fd, void (*line)(void *arg, int level, const char *text),
	       void *arg);

/* The i-th kept line, 0 the oldest; NULL: there are no more. */
const char *lines_get(const struct lines *lines, unsigned i);
