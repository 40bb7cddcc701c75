/*
 * The block load: verified reads, writes, flushes, discards and write-zeroes at a queue depth.
 *
 * Runs in: the test guest (and on the host over a regular file, for the self-test).
 * Trusts:  nothing that comes from the disk.
 */
#pragma once

#include "tests/e2e/guest/model.h"
#include "tests/e2e/guest/report.h"

struct disk_spec {
	const char *path;
	uint64_t seed;
	unsigned depth;	  /* requests in flight, over all threads */
	unsigned threads; /* pinned to one CPU each, and so to one queue each */
	uint64_t len;	  /* how much of it to use, in bytes; 0: all */
};

struct disk {
	struct disk_spec spec;
	int fd;
	bool is_file; /* a regular file: discards are holes */
	uint64_t n_extents;
	atomic_bool *extents; /* held by the request that is in flight on it */
	struct model model;
	struct report *report;
	bool stalled;
};

int disk_open(struct disk *d, const struct disk_spec *spec, struct report *report);
void disk_close(struct disk *d);
/* Runs until the report says stop; then everything is flushed. */
int disk_load(struct disk *d);
/* Reads every block and judges it. */
int disk_verify(struct disk *d);
int disk_result(struct disk *d);

/* Reads an image whose guest is gone: what it holds, by what its blocks say. Returns an exit
 * status. */
int disk_examine(const char *path, uint64_t seed);
