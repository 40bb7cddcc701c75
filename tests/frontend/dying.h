/*
 * When a worker that was killed runs no more code of its own. It may publish for some microseconds
 * after kill() has returned, and what it publishes must not count for its successor: each thread's
 * /proc/…/stat is held open, and watched until the kernel has begun to end it (do_exit). That is
 * before the kernel waits for a dying thread's I/O and before it tears down its memory: nothing of
 * either wait is hidden.
 *
 * Runs in: test programs, as root where the worker is vmdevd's. Trusts: the kernel.
 */
#pragma once

#include <sys/types.h>

enum { DYING_MAX_THREADS = 32 };

struct dying {
	int fds[DYING_MAX_THREADS];
	unsigned n;
};

/* While it lives. */
void dying_open(struct dying *d, pid_t pid);
/* Sleeps between two looks. */
void dying_await(struct dying *d);
