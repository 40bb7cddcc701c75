/* What no guest may reach: a directory beside the shared one, with a file in it, watched. */
#pragma once

#include "tests/frontend/claim.h"

struct outside {
	char dir[500], canary[520];
	int watch;
};

void outside_begin(struct outside *o, const struct claim_context *x);

/* Nothing has been opened, read, made, changed or removed there. */
void outside_end(struct outside *o);
