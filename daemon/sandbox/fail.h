/*
 * A host error together with the sentence that tells a person what failed and what to do.
 *
 * Runs in: vmdevd. Trusts: nothing.
 */
#pragma once

/*
 * Puts the formatted text into *ret_error and returns r, so that a failure reads
 * `return fail(ret_error, -EBUSY, "…")`. The caller of the failing function frees the text. When
 * memory is short the text is NULL and r says what it can.
 */
int fail(char **ret_error, int r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
