/*
 * Texts made to measure.
 *
 * Runs in: vmdevd, vmdevctl. Trusts: nothing.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * Replaces in place what is a control character or not UTF-8, such as the rest of a character that
 * was cut: D-Bus and JSON carry UTF-8 only.
 */
void text_clean(char *text);

/*
 * A regular file of at most max_len bytes, with a NUL behind it; to be freed. More flags of open():
 * it is never waited for. Negative: errno; -EINVAL: another kind of file, -EFBIG: a longer one.
 */
int text_read(const char *path, int flags, size_t max_len, char **ret_text, size_t *ret_len);

/* Is `word` one of the words of the list, which spaces part, and a newline may end? */
bool text_has_word(const char *list, const char *word);

/* A text to be freed, or NULL when there is no memory for it. */
__attribute__((format(printf, 1, 2))) static inline char *text_format(const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&text, format, args);
	va_end(args);
	return n < 0 ? NULL : text;
}
