/* What frontend-bench-fs does through a device and, for the limit, without one. */
#pragma once

#include <stdint.h>

#include "tests/bench/measure.h"

enum {
	FS_N_FILES = 4096,    /* DIR/lookup/f00000 … */
	FS_N_ENTRIES = 10000, /* of DIR/list */
	FS_MAX_DEPTH = 64,
	FS_MIB = 1 << 20,
	FS_BLOCK = 4096,
	FS_LIST_LEN = 4096, /* of one READDIRPLUS: a page, as Linux asks for */
};

struct fs_bench {
	const char *row, *dir, *socket;
	unsigned depth;
	uint64_t data_len; /* of DIR/data */
	bool awake;	   /* the driver */
	struct measure m;
};

/* One thread, one after the other, the system calls that a device cannot do without. */
void fs_run_bare(struct fs_bench *b);
