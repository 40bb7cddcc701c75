/*
 * Memory that is there when it is needed.
 *
 * The first access to each page of fresh memory is a fault of some microseconds. Who has time
 * before something urgent takes them then.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { TOUCH_PAGE = 4096 };

/* An atomic "or" of nothing beside a plain write: ThreadSanitizer would call it a race. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TOUCH_UNSEEN __attribute__((disable_sanitizer_instrumentation, noinline))
#endif
#endif
#ifndef TOUCH_UNSEEN
#define TOUCH_UNSEEN
#endif

/* Every page of [start, start + len) is ours to write. Its bytes stay, whoever else writes them. */
static inline TOUCH_UNSEEN void touch(void *start, size_t len)
{
	uint8_t *first = start;

	for (size_t at = 0; at < len; at += TOUCH_PAGE)
		__atomic_fetch_or(first + at, 0, __ATOMIC_RELAXED);
	if (len > 0)
		__atomic_fetch_or(first + len - 1, 0, __ATOMIC_RELAXED);
}
