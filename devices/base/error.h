/*
 * Host errors as return values: 0 or more is success, a negative errno is a failure, forwarded
 * unchanged (docs/hacking.md, "Errors").
 *
 * Runs in: every process. Trusts: nothing.
 */
#pragma once

#include <assert.h>
#include <errno.h>
#include <string.h>

/* A system call's result with the error in errno, turned into a return value of ours. */
static inline int errno_or(int r)
{
	if (r >= 0)
		return r;
	assert(errno > 0);
	return -errno;
}

/* What a negative errno (or an errno) means, in English, without looking at the locale. */
static inline const char *error_text(int r)
{
	const char *text = strerrordesc_np(r < 0 ? -r : r);

	return text ? text : "Unknown error";
}
