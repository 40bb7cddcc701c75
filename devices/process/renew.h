/*
 * The program begun anew in the same process: a fresh address-space layout without an exec.
 *
 * Runs in: keeper, while it has one thread. Trusts: its own program file (CONTRACT_FD_PROGRAM,
 *          which the kernel keeps from being written while it runs) and the kernel's auxiliary
 *          vector.
 *
 * What a guest has learnt of addresses in one worker must be worth nothing in the next. An exec
 * does that, but takes a third of a millisecond, and gives the keeper a descriptor table of its
 * own: it can only come after a death and before the next clone. So the keeper does what exec does
 * for a static program: it maps the segments of its file at a random place, builds a stack at
 * another, with argument vector, environment, auxiliary vector and 16 random bytes (of which the C
 * library makes its stack canary), and jumps to the entry point. The program relocates itself
 * there, unmaps the former one first thing and moves the vDSO. What is mapped later, by this
 * program or by the worker that is cloned from it, would be stacked by the kernel below the same
 * base as before: it lies below a gap of random size.
 *
 * What an exec would have changed and this does not:
 *  1. Descriptors, also those with CLOEXEC, stay: the next worker closes a dead one's (sweep.h).
 *  2. Handlers of signals still point into the former program: signals are blocked until new ones
 *     are there.
 *  3. /proc/PID/cmdline shows the first start: those pages of the kernel's stack are kept,
 *     read-only. They and the vsyscall page are all that stays where it was.
 *  4. The kernel's heap (brk) would go on from the same place. It is closed.
 *
 * Only for the C library that the device programs are shipped with, musl, on x86-64: glibc
 * registers memory with the kernel (rseq) that would be gone. Where it cannot be done, the keeper
 * executes itself.
 */
#pragma once

#include <stddef.h>

/*
 * Begin main() anew with argv and the same environment. map, map_len: what the keeper has mapped
 * and the new program is to unmap. Signals are to be blocked. Returns only on failure, with a
 * negative errno and nothing changed.
 */
int renew_in_place(char *const *argv, void *map, size_t map_len);

/*
 * In the new program, before it maps anything: the former one is unmapped. Nothing is done in one
 * that began with an exec. 0 or a negative errno.
 */
int renew_settle(void);
