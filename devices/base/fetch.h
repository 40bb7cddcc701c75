/*
 * What will be needed, on its way into the cache.
 *
 * Runs in: every process. Trusts: nothing; any address will do.
 *
 * A line that another processor has written last is fetched for writing at once, or it would come
 * twice: first to be read. The compiler makes that a fetch for reading where it may not count on
 * PREFETCHW; a processor that lacks it takes it for nothing.
 */
#pragma once

enum { FETCH_LINE = 64 };

static inline void fetch_to_read(const void *p)
{
	__builtin_prefetch(p);
}

static inline void fetch_to_write(const void *p)
{
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
}
