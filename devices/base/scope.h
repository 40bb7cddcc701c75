/*
 * Scope attributes: a local that owns something gives it back when it goes out of scope.
 *
 *	scope_fd int fd = open(...);
 *	if (fd < 0)
 *		return -errno;
 *	...
 *	*ret_fd = take_fd(&fd);
 *
 * Runs in: every process. Trusts: nothing.
 *
 * Invariant: errno is the same after a clean-up as before it, so that `return -errno;` says what
 * failed and not what was closed.
 */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/base/fd.h"

static inline void scope_fd_cleanup(int *fd)
{
	if (*fd >= 0)
		fd_close(*fd);
}

static inline void scope_free_cleanup(void *p)
{
	int saved = errno;

	free(*(void **)p);
	errno = saved;
}

static inline void scope_file_cleanup(FILE **file)
{
	int saved = errno;

	if (*file)
		fclose(*file);
	errno = saved;
}

/* The variable owns: a descriptor (negative: none), memory of malloc (NULL: none), a stream. */
#define scope_fd   __attribute__((cleanup(scope_fd_cleanup)))
#define scope_free __attribute__((cleanup(scope_free_cleanup)))
#define scope_file __attribute__((cleanup(scope_file_cleanup)))

/* The descriptor in *fd, which the caller of take_fd() owns from now on; *fd is -1. */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* The pointer in the variable p, which whoever receives it owns from now on; p is NULL. */
#define take_ptr(p)                                                                                \
	({                                                                                         \
		__typeof__(p) taken_ = (p);                                                        \
		(p) = NULL;                                                                        \
		taken_;                                                                            \
	})
