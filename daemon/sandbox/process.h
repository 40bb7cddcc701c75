/*
 * What a process inherits besides descriptors, ids and mounts: put back to what a program may
 * expect.
 *
 * Runs in: the exec child. Trusts: nothing.
 */
#pragma once

struct policy_rlimit;

/* Nothing blocked, nothing ignored, no handler. */
int process_reset_signals(void);

/* A session of its own, and a mode mask that lets nobody else in. */
int process_leave_session(void);

/* Neither core dumps nor tracers of the same user, until exec. */
int process_forbid_dumps(void);

int process_forbid_new_privileges(void);

int process_limit(const struct policy_rlimit *rlimit);
