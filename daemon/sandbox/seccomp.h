/*
 * System call filters: from a policy's rules to BPF, and into the kernel.
 *
 * Runs in: vmdevd (compile), the exec child (install).
 * Trusts:  the policy, which daemon/sandbox/policy has checked.
 *
 * There are two filters per device, because the worker's life has two halves. The keeper's is
 * installed in the exec child and so covers everything after it: the keeper for ever, and the
 * worker while it starts (threads, rings, signal handlers). The worker then adds its own, tighter
 * one, which vmdevd compiled for it. Filters only ever add up: a call must pass both.
 *
 * Invariants:
 *  1. The keeper's filter allows all that the worker's does: it is compiled from both lists.
 *  2. A filter knows one architecture, this machine's own; a call by any other ABI (i386, x32)
 * kills.
 */
#pragma once

#include <linux/filter.h>
#include <stddef.h>

#include "daemon/sandbox/policy.h"

/*
 * Compiles the rules into a sealed memfd that holds struct sock_filter[]. *ret_fd is CLOEXEC.
 * Negative errno and a text otherwise.
 */
int seccomp_compile_worker(const struct policy *policy, unsigned features, int *ret_fd,
			   char **ret_error);
int seccomp_compile_keeper(const struct policy *policy, int *ret_fd, char **ret_error);

/* The instructions of a compiled filter, in memory of malloc that the caller frees. */
int seccomp_read(int fd, struct sock_fprog *ret);

/* Puts the calling thread under the filter. Needs no_new_privs. 0 or a negative errno. */
int seccomp_install(const struct sock_fprog *program);
