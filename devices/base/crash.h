/*
 * Crash points: named steps at which a test kills the process, to prove what a successor makes of
 * it. They exist only in programs built with VMDEV_CRASH_POINTS, for tests/e2e, never in what is
 * installed; elsewhere CRASH_POINT() is nothing.
 *
 * Runs in: worker and keeper of a crash-point build. Trusts: its environment.
 *
 * VMDEV_CRASH_AT=NAME:COUNT has the process killed with SIGKILL when NAME is passed for the
 * COUNTth time; with NAME:COUNT,NAME:COUNT a successor is killed by the second once the first one
 * has struck. The number of passes lives in memory that outlives the process, which the caller
 * of crash_arm() provides, so that the point fires once over all generations of a worker. What
 * kills is kill(2): a sandbox in which a crash-point build is to die has to allow it and getpid(2)
 * there; where the filter traps them instead, the process dies of that.
 *
 * VMDEV_STALL_AT=NAME has whoever passes STALL_POINT(NAME) stand still for a while, so that what
 * seldom happens between two steps does.
 */
#pragma once

#include <stdint.h>

#ifdef VMDEV_CRASH_POINTS

/*
 * One pass of the step. Each name is in a section of its own, so that crash_list() knows all of
 * them, whether they have been passed or not.
 */
#define CRASH_POINT(name)                                                                          \
	do {                                                                                       \
		static const char crash_point_name_[]                                              \
			__attribute__((section("vmdev_crash_points"), used)) = name;               \
		crash_point(crash_point_name_);                                                    \
	} while (0)

#define STALL_POINT(name) crash_stall(name)

/* Kill this process if the name is the armed one and this is its pass. */
void crash_point(const char *name);

/* Sleep 20 ms if the name is that of VMDEV_STALL_AT. */
void crash_stall(const char *name);

/*
 * Read VMDEV_CRASH_AT and count in *shared_hits from now on; NULL disarms. Passes before the call
 * do not count. An environment that is not of the form NAME:COUNT ends the process (abort): a test
 * that waits for a crash which cannot come must not pass.
 */
void crash_arm(uint32_t *shared_hits);

/* Write the name of each crash point in this program to fd, one a line, each once. */
void crash_list(int fd);

#else

#define CRASH_POINT(name) ((void)0)
#define STALL_POINT(name) ((void)0)

static inline void crash_arm(uint32_t *shared_hits)
{
}

static inline void crash_list(int fd)
{
}

#endif
