/*
 * The tree load: a directory tree that is made, changed, read, locked and removed, beside a model of what must be there.
 *
 * Runs in: the test guest; tree_examine also on the host.
 * Trusts:  nothing that comes from the file system.
 */
#pragma once

#include "tests/e2e/guest/report.h"

struct tree_spec {
	const char *dir; /* where the shared directory is mounted */
	uint64_t seed;
	unsigned threads;
	unsigned
		known; /* files that are made first and never touched again: inodes that a device must know */
};

/* Returns the exit status. */
int tree_load(const struct tree_spec *spec, struct report *report);

/* On the host, when the guest is gone: one JSON line with the digest of what is there. */
int tree_examine(const char *dir);
