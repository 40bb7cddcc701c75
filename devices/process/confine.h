/*
 * The worker's last step before it meets the guest: its own system call filter, for all threads.
 *
 * Runs in: worker, after its start-up. By then it has read what earlier workers left in state and
 *          in the I/O rings, but no byte of the socket, of a virtqueue or of guest memory.
 * Trusts:  the filter, which vmdevd compiled and sealed; it can only narrow what the keeper's
 *          filter allows.
 */
#pragma once

#include <stdbool.h>

/*
 * Install the filter at CONTRACT_FD_FILTER on all threads, if filtered (by hand there is none).
 * 0 or a negative errno: then the worker must not go on.
 */
int confine_worker(bool filtered);
