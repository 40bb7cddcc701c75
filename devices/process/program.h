/*
 * A device program: what main() of each type hands over, and the start of all of them.
 *
 * Runs in: every process of a device. Trusts: its arguments.
 *
 * Run by hand, the program first puts everything at its contract numbers (process/contract.h); from
 * there on it is the keeper, as when vmdevd has started it.
 */
#pragma once

#include <stdint.h>

#include "devices/process/model.h"
#include "devices/process/options.h"

struct program {
	const char *type;	  /* "blk" */
	const char *capabilities; /* for --print-capabilities: JSON, docs/interop/vhost-user.json */
	const struct options_row *options;
	void *config; /* what the rows set */

	/* By hand only: open the resources at their contract numbers. 0, or negative after having
	 * said why. */
	int (*arrange)(void *config);

	/* In the worker: look at the resources and make the model. NULL after having said why. */
	struct model *(*create)(void *config, const struct options *o);
};

/* main() of every device program. */
int program_main(const struct program *program, char *const *argv);
