/* Crash points. See crash.h; this file is empty unless it is built with VMDEV_CRASH_POINTS. */
#include "devices/base/crash.h"

#ifdef VMDEV_CRASH_POINTS

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/parse.h"

/* The linker makes these for a section whose name is a C identifier; weak: there may be none. */
extern const char __start_vmdev_crash_points[] __attribute__((weak));
extern const char __stop_vmdev_crash_points[] __attribute__((weak));

enum { MAX_STEPS = 2, STALL_NS = 20000000 };

/* One death. `hits` counts the passes of all steps, those of the first one first. */
struct crash_step {
	char name[64];
	uint32_t until; /* the pass that kills */
};

static struct crash {
	struct crash_step steps[MAX_STEPS];
	uint32_t n_steps;
	uint32_t *hits; /* NULL: not armed */
} crash;

static void crash_die(void)
{
	syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
	/* A process that the kernel shields from itself (PID 1 of a namespace). */
	__builtin_trap();
}

/* The step whose passes count now. NULL: all have been fatal, and none comes again. */
static const struct crash_step *crash_step(uint32_t hits)
{
	for (uint32_t i = 0; i < crash.n_steps; i++)
		if (hits < crash.steps[i].until)
			return &crash.steps[i];
	return NULL;
}

void crash_point(const char *name)
{
	const struct crash_step *step;
	uint32_t hits;

	if (!crash.hits)
		return;
	hits = __atomic_load_n(crash.hits, __ATOMIC_RELAXED);
	do {
		step = crash_step(hits);
		if (!step || strcmp(name, step->name) != 0)
			return;
	} while (!__atomic_compare_exchange_n(crash.hits, &hits, hits + 1, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_RELAXED));
	if (hits + 1 == step->until)
		crash_die();
}

void crash_stall(const char *name)
{
	const struct timespec pause = { .tv_nsec = STALL_NS };
	const char *at = getenv("VMDEV_STALL_AT");

	if (at && strcmp(at, name) == 0)
		nanosleep(&pause, NULL);
}

/* "NAME:COUNT" in text[0..len). */
static bool crash_step_parse(const char *text, size_t len)
{
	const char *colon = memrchr(text, ':', len);
	uint32_t before = crash.n_steps ? crash.steps[crash.n_steps - 1].until : 0;
	struct crash_step *step = &crash.steps[crash.n_steps];
	char count[16] = "";
	uint64_t at = 0;

	if (crash.n_steps == MAX_STEPS || !colon || colon == text ||
	    (size_t)(colon - text) >= sizeof(step->name) ||
	    (size_t)(text + len - colon) > sizeof(count))
		return false;
	memcpy(count, colon + 1, (size_t)(text + len - colon) - 1);
	if (parse_u64(count, 1, UINT32_MAX - before, &at) < 0)
		return false;
	memset(step->name, 0, sizeof(step->name));
	memcpy(step->name, text, (size_t)(colon - text));
	step->until = before + (uint32_t)at;
	crash.n_steps++;
	return true;
}

void crash_arm(uint32_t *shared_hits)
{
	const char *text = getenv("VMDEV_CRASH_AT");

	crash = (struct crash){ 0 };
	if (!shared_hits || !text)
		return;
	for (;;) {
		size_t len = strcspn(text, ",");

		if (!crash_step_parse(text, len))
			abort();
		if (text[len] == '\0')
			break;
		text += len + 1;
	}
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
