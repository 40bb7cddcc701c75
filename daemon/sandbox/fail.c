/* A host error with its sentence. See fail.h. */
#include <stdarg.h>
#include <stdio.h>

#include "daemon/sandbox/fail.h"

int fail(char **ret_error, int r, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	if (vasprintf(ret_error, fmt, args) < 0)
		*ret_error = NULL;
	va_end(args);
	return r;
}
