/*
 * Messages of the contract, from the device to vmdevd (process/contract.h).
 *
 * Runs in: keeper, worker (any thread).
 * Trusts:  nothing. vmdevd may be gone or slow: a message that does not get through at once is
 *          dropped, for the device must go on.
 */
#pragma once

#include <stdint.h>

/* Type and n 32-bit fields. */
void tell(uint32_t type, uint32_t n, const uint32_t *fields);
void tell_recovered(uint32_t generation, uint64_t duration_ns);
void tell_text(uint32_t type, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* False: nobody to tell (run by hand). */
void tell_enable(int enabled);
