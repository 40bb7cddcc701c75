/*
 * The worker's last step before it meets the guest: its own system call filter, for all threads.
 *
 * Runs in: worker, after its start-up and before any byte of the session is used. Trusts: the
 * filter, which vmdevd compiled and sealed; it can only narrow what the keeper's filter allows.
 */
#pragma once

#include <stdbool.h>

/*
 * Install the filter at CONTRACT_FD_FILTER on all threads; none is there if run by hand. 0 or a
 * negative errno: then the worker must not go on.
 */
int confine_worker(bool filtered);
