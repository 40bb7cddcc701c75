/* Claims: named tests, each in a process of its own, reported as TAP. */
#pragma once

#include "tests/frontend/backend.h"
#include "tests/frontend/blk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	CLAIM_SKIPPED = 77,
};

/* What a claim is given: a back-end that lives through many claims, and its own session. */
struct claim_context {
	struct backend backend;
	const struct backend_spec *spec;
	const char *program;
	struct fe fe;
	struct fe_blk b;
};

struct claim {
	const char *name;
	void (*run)(struct claim_context *x);
	const struct backend_spec *spec; /* claims with the same one share a back-end; NULL: none */
};

#define expect(condition, ...)                                                                     \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "#   %s:%d: %s", __FILE__, __LINE__, #condition);          \
			fprintf(stderr, " -- " __VA_ARGS__);                                       \
			fprintf(stderr, "\n");                                                     \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* For calls that return 0 or negative errno. */
#define expect_ok(call)                                                                            \
	do {                                                                                       \
		int expect_r = (call);                                                             \
		expect(expect_r == 0, "%s is %d (%s)", #call, expect_r,                            \
		       expect_r < 0 ? strerror(-expect_r) : "not 0");                              \
	} while (0)

#define expect_is(value, wanted)                                                                   \
	do {                                                                                       \
		long long expect_v = (long long)(value), expect_w = (long long)(wanted);           \
		expect(expect_v == expect_w, "%s is %lld, not %lld", #value, expect_v, expect_w);  \
	} while (0)

/* Leaves the running claim out: @why stands in its line of TAP, and at ./quickstart test's end. */
void claim_skip(const char *why) __attribute__((noreturn));

/* Runs the claims whose names are in @names (all when it is empty) against @program. Exit status.
 */
int claims_run(const struct claim *claims, unsigned n, int argc, char **argv);

/* The session of a claim: everything on, memory of 32 MiB. */
void claim_begin(struct claim_context *x, const struct fe_spec *spec);
