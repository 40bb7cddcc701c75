/* What each unit test includes: cmocka, and the headers that it wants before it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define UNIT_N(array) (sizeof(array) / sizeof((array)[0]))

/* Leaves the running test out and says why: ./quickstart test repeats it at its end. */
#define unit_skip(...)                                                                             \
	do {                                                                                       \
		print_message("skipped: " __VA_ARGS__);                                            \
		print_message("\n");                                                               \
		skip();                                                                            \
	} while (0)
