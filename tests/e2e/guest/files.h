/*
 * The file load: files written, renamed, rewritten in place, removed, and read back past the page
 * cache.
 *
 * Runs in: the test guest.
 * Trusts:  nothing that comes from the disk.
 */
#pragma once

#include "tests/e2e/guest/report.h"

struct files_spec {
	const char *dir; /* where the file system is mounted */
	const char
		*remount_dev; /* unmounted and mounted from here before the last check; or NULL */
	uint64_t seed;
	unsigned threads;
};

/* Returns the exit status. */
int files_load(const struct files_spec *spec, struct report *report);
