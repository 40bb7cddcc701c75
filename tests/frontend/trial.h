/*
 * Trials of a crash-point build: each named step, several times on, in each way; and what came of it.
 *
 * Runs in: frontend-crash, frontend-fs-crash. Trusts: the back-end's log for whether the point was passed.
 *
 * The program kills its own worker with SIGKILL when it passes CRASH_POINT("NAME") for the COUNTth time (environment
 * VMDEV_CRASH_AT=NAME:COUNT), and prints all names with --list-crash-points. A name that is never passed fails the suite: it
 * would be a step that nobody has tried.
 */
#pragma once

#include "tests/frontend/backend.h"

#include <stdbool.h>

enum { TRIAL_MAX_COUNTS = 8 };

enum trial_verdict {
	TRIAL_NOT_REACHED,
	TRIAL_SURVIVED,
	TRIAL_FAILED,
};

struct trial {
	const char *program, *name;
	char point[128]; /* for the environment of the back-end */
	unsigned count;	 /* of passes, until the worker dies */
	unsigned count_idx;
	unsigned way; /* what a way is, the suite knows */
};

struct trial_suite {
	const char *usage;
	unsigned counts[TRIAL_MAX_COUNTS], n_counts; /* unless --counts says others */
	unsigned n_ways;
	bool (*takes)(const char *name);  /* NULL: every name */
	bool (*first_only)(unsigned way); /* one count is enough; NULL: never */
	enum trial_verdict (*run)(const struct trial *t);
};

/* main() of a suite: [--counts=N,N…] --program=PATH [NAME…]. The exit status. */
int trial_main(const struct trial_suite *suite, int argc, char **argv);

/* script(arg) in a process of its own, which has a minute; its wait status. */
int trial_in_child(void (*script)(void *arg), void *arg);

/*
 * A verdict on a back-end whose script ended with this wait status: of its workers more have died than n_killed, and is it still
 * there? What went wrong is told; the back-end is ended.
 */
enum trial_verdict trial_judge(const struct trial *t, struct backend *b, int status, bool right,
			       unsigned n_killed);
