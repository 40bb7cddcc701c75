/*
 * A running worker or keeper that is made to do system calls, as its attacker would.
 *
 * Runs in: a test, as root on the host, as the tracer of the device process.
 * Trusts:  nothing that the process says; the kernel's answers are read with ptrace.
 *
 * A new process in the sandbox would not do: the worker cannot execute one, and what is to be tried
 * is what this very process may do, with its filter, its namespaces, its ids and its descriptors. So
 * the main thread is stopped, its registers are set to a system call, it is let run over a syscall
 * instruction of its own text, and its registers are put back. The filter sees the call as the
 * process's own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "tests/e2e/sandbox-attempts.h"

/* Whose sandbox it is. */
enum ids { BLK, VSOCK, FS_HOST, FS_OWN };

struct target {
	pid_t pid;
	pid_t inner_pid; /* the process as it knows itself */
	pid_t outsider;
	enum ids ids;
	const char *canary; /* the path of a file outside */
	const char *number; /* of a descriptor, in decimal */
	uint64_t last;	    /* the descriptor that the attempt before got */
	int mem;
	uint64_t syscall_at; /* a syscall instruction */
	uint64_t scratch;    /* below its stack */
	struct user_regs_struct saved;
};

/* Says what could not be done, and errno; exit status 2. */
_Noreturn void die(const char *what);

void attach(struct target *t);
/* Puts its registers back, and lets it go on. */
void detach(const struct target *t);
/* Not while it begins itself anew, when it has its signals blocked and no handlers yet. */
void attach_at_work(struct target *t);
/* Kills the worker, and follows the keeper until it stops in its fresh address space, where SIGSYS has just been unblocked. */
void attach_renewed(struct target *t, pid_t worker);

/* Makes the process do one system call. True: its filter refused; else *ret_result is what it returned. */
bool inject(const struct target *t, const struct attempt *a, long *ret_result);
/* Lets the SIGSYS that a refused call has queued come as far as the tracer, and no further. */
void take_signal(const struct target *t);
