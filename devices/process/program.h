/*
 * A device program: what main() of each type hands over, and the start of all of them.
 *
 * Runs in: every process of a device. Trusts: its arguments.
 *
 * Run by hand, the program first puts everything at its contract numbers (process/contract.h); from
 * there on it is the keeper, as when vmdevd has started it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/process/model.h"
#include "devices/process/options.h"

struct program {
	const char *type;	  /* "blk" */
	const char *capabilities; /* for --print-capabilities: JSON, docs/interop/vhost-user.json */
	const struct options_row *options;
	void *config;		 /* what the rows set */
	uint32_t fd_limit;	 /* RLIMIT_NOFILE, at most CONTRACT_FD_LIMIT_MAX */
	uint32_t n_rings_each;	 /* virtqueues for each that --queues counts; 0: one */
	uint32_t n_extra_queues; /* virtqueues besides those that --queues counts */
	/* The I/O thread that serves a virtqueue; NULL: they are dealt out one by one. */
	uint32_t (*thread_of)(uint32_t ring, uint32_t n_rings, uint32_t n_threads);
	bool uses_rings;    /* I/O rings, and so a companion (model.h: uring_spec) */
	uint64_t state_len; /* of the type's part of the state memfd (model.h: attach) */

	/* By hand only: open the resources at their contract numbers. 0, or negative after having
	 * said why. */
	int (*arrange)(void *config, const struct options *o);

	/* In a worker before it has threads, and then in each I/O thread as it starts; all before
	 * confinement. 0 or a negative errno. NULL: nothing to do. */
	int (*begin)(void);
	int (*thread_begin)(void);

	/* In the worker: look at the resources and make the model. NULL after having said why. */
	struct model *(*create)(void *config, const struct options *o);
};

/* main() of every device program. */
int program_main(const struct program *program, char *const *argv);
