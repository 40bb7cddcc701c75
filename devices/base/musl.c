/*
 * assert() of device programs built against musl, whose own writes with writev and ends with tkill:
 * the worker's filter stops both, so that its text would be lost and the report would speak of
 * a system call.
 *
 * Runs in: keeper, worker. Trusts: nothing.
 */
#include <assert.h>

#include "devices/base/log.h"

/* The linker takes this one, since it comes before libc.a. */
_Noreturn void __assert_fail(const char *claim, const char *file, int line, const char *function)
{
	log_error("%s:%d: %s: assertion failed: %s", file, line, function, claim);
	__builtin_trap(); /* SIGILL, which process/fault.c records */
}
