/*
 * Closing what a dead worker left open.
 *
 * Runs in: worker, before it opens anything.
 * Trusts:  the session as loaded, and the model as attached (their numbers were checked).
 *
 * The descriptor table is shared over all generations, and a worker can die between receiving a
 * descriptor and committing it, or between replacing one and closing it. So a worker begins by
 * closing every session descriptor that neither the session nor the model names. (If the session is
 * over, the keeper closes them all before the next.)
 */
#pragma once

#include <stdbool.h>

#include "devices/process/model.h"
#include "devices/vhost/session.h"

/* Ahead of its turn: memory for what is kept of n_fds descriptors is there. */
void sweep_prepare(uint32_t n_fds);

/*
 * If there is no connection but a connected socket is left open, it was accepted and not yet
 * committed: it is kept and returned, else -1. given: it is the one that the program was started
 * with.
 */
int sweep_session(const struct session *s, struct model *m, bool given);
