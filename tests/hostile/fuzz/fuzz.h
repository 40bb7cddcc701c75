/*
 * A fuzz target: one function that is given bytes and must come back, whatever they are. A claim
 * that does not hold aborts; the sanitizers see the rest.
 *
 * Built with -Dfuzz=true (clang) each target is a libFuzzer program; otherwise main.c replays the
 * corpus, and mutations of it, as a plain test.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What must hold for each input; not assert(), which belongs to the code under test. */
#define CLAIM(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)
