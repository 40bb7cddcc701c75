/* Crash points. See crash.h; this file is empty unless it is built with VMDEV_CRASH_POINTS. */
#include "devices/base/crash.h"

#ifdef VMDEV_CRASH_POINTS

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/parse.h"

/* The linker makes these for a section whose name is a C identifier; weak: there may be none. */
extern const char __start_vmdev_crash_points[] __attribute__((weak));
extern const char __stop_vmdev_crash_points[] __attribute__((weak));

static struct crash {
	char name[64]; /* empty: not armed */
	uint32_t at;   /* the pass that kills */
	uint32_t *hits;
} crash;

static void crash_die(void)
{
	syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
	/* A process that the kernel shields from itself (PID 1 of a namespace). */
	__builtin_trap();
}

void crash_point(const char *name)
{
	uint32_t hits;

	if (!crash.hits || strcmp(name, crash.name) != 0)
		return;
	hits = __atomic_load_n(crash.hits, __ATOMIC_RELAXED);
	/* Stops at the fatal pass, so that it comes only once whatever happens later. */
	do
		if (hits >= crash.at)
			return;
	while (!__atomic_compare_exchange_n(crash.hits, &hits, hits + 1, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_RELAXED));
	if (hits + 1 == crash.at)
		crash_die();
}

void crash_arm(uint32_t *shared_hits)
{
	const char *text = getenv("VMDEV_CRASH_AT"), *colon = text ? strrchr(text, ':') : NULL;
	uint64_t at = 0;

	crash.hits = NULL;
	if (!shared_hits || !text)
		return;
	if (!colon || colon == text || (size_t)(colon - text) >= sizeof(crash.name) ||
	    parse_u64(colon + 1, 1, UINT32_MAX, &at) < 0)
		abort();
	memcpy(crash.name, text, (size_t)(colon - text));
	crash.name[colon - text] = '\0';
	crash.at = (uint32_t)at;
	crash.hits = shared_hits;
}

/* The next name in the section from p on: the compiler may pad between them with zeros. */
static const char *crash_next(const char *p)
{
	while (p < __stop_vmdev_crash_points && *p == '\0')
		p++;
	return p;
}

static bool crash_listed_before(const char *name)
{
	const char *p = crash_next(__start_vmdev_crash_points);

	for (; p < name; p = crash_next(p + strlen(p)))
		if (strcmp(p, name) == 0)
			return true;
	return false;
}

void crash_list(int fd)
{
	const char *p = crash_next(__start_vmdev_crash_points);

	for (; p < __stop_vmdev_crash_points; p = crash_next(p + strlen(p))) {
		if (crash_listed_before(p))
			continue;
		if (fd_write_all(fd, p, strlen(p)) < 0 || fd_write_all(fd, "\n", 1) < 0)
			return;
	}
}

#endif
