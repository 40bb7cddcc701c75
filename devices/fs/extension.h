/*
 * What may follow the names of a request that makes something: security contexts, groups of the
 * sender.
 *
 * Runs in: worker. Trusts: nothing; the area is walked once, bounded, in the private copy of the
 *          arguments.
 *
 * An extension is a header (its size, its type), then its contents; types up to PROTO_MAX_NR_SECCTX
 * are the number of security contexts in it (<linux/fuse.h>, 7.36 and 7.38). Extensions follow each
 * other without a gap.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/base/span.h"

struct request;

struct extension {
	struct span contexts; /* of n_contexts records, checked; into rq->args */
	uint32_t n_contexts;
	struct span groups; /* 32-bit group ids, perhaps not aligned */
};

/* One security context: the extended attribute that the new inode gets. */
struct extension_context {
	const char *name;
	const uint8_t *value;
	uint32_t len;
};

/* What begins at offset of the arguments; nothing there is no error. 0 or -EINVAL. */
int extension_parse(const struct request *rq, uint32_t offset, struct extension *ret);

/* Is gid among the sender's groups that came along? */
bool extension_has_group(const struct extension *x, uint32_t gid);

/* The context at *at (0 at first), which moves to the next one. False: no more. */
bool extension_next_context(const struct extension *x, uint32_t *at, struct extension_context *ret);
