/*
 * Carrying out a plan: vmdevd's part, then the exec child's, which ends in the device program.
 *
 * Runs in: vmdevd up to the clone, then both.
 * Trusts:  the plan.
 *
 * The child is a copy of vmdevd without its threads of control: it uses what it was given here, the
 * steps' own code and nothing else of vmdevd. When a step fails it writes one record to the log
 * pipe and exits with CONTRACT_EXIT_SANDBOX; there is no way on from a failed step.
 */
#pragma once

#include <linux/filter.h>
#include <sys/types.h>

#include "daemon/sandbox/plan.h"

struct apply_input {
	int fds[_PLAN_FD_N];	  /* all raised (descriptors_raise) */
	int cgroup_fd;		  /* -1: none */
	struct sock_fprog filter; /* the keeper's */
	char *const *argv;
	const char *path; /* of a program of the host's; NULL: it is PLAN_FD_PROGRAM */
};

/*
 * Clones the child and lets it go on to its program. Returns when its ids are mapped, not when the
 * program runs: the child's failure is read from the log pipe and its exit status. Negative errno
 * and a text; no child is left then.
 */
int apply_start(const struct plan *plan, const struct apply_input *input, pid_t *ret_pid,
		int *ret_pidfd, char **ret_error);
