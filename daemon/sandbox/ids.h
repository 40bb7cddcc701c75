/*
 * Whose the process is, and that it stays so.
 *
 * Runs in: the exec child. Trusts: nothing.
 */
#pragma once

#include <stdint.h>

/* Locks the rules by which capabilities come and go with ids: they never do. */
int ids_lock_securebits(void);

/* Real, effective and saved user and group are id; there are no supplementary groups. */
int ids_become(uint32_t id);
