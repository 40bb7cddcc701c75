/*
 * Strict parsing of values that a person wrote, in arguments or documents.
 *
 * Runs in: every process. Trusts: nothing.
 *
 * All return 0, -EINVAL (not of the form) or -ERANGE (of the form, but out of range), and leave
 * *ret alone unless they return 0. The whole text must be the value: no blanks around it, no sign,
 * nothing after it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Decimal digits, min <= value <= max. */
int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_v);

/* Decimal digits and at most one of K M G T (powers of 1024): "64K", "1T", "4096". */
int parse_size(const char *text, uint64_t *ret_bytes);

/*
 * A time span as in systemd.time(7), in microseconds: "5s", "1.5h", "2min 200ms", "infinity"
 * (UINT64_MAX); a plain number is seconds.
 */
int parse_time_usec(const char *text, uint64_t *ret_usec);

/* As systemd: 1 yes y true t on, 0 no n false f off; letters of either case. */
int parse_bool(const char *text, bool *ret_v);
