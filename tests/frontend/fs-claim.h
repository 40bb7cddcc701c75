/* What claims about a file system device share: a session and a directory of their own. */
#pragma once

#include "tests/frontend/claim.h"
#include "tests/frontend/fuse-client.h"

#include <sys/stat.h>

struct fs_claim {
	struct fc c;
	uint64_t dir;	/* node id of this claim's directory */
	char path[400]; /* of it on the host */
};

/* A session by spec (NULL: everything), and a fresh directory of this name. */
struct fs_claim *fs_claim_begin(struct claim_context *x, const char *name,
				const struct fc_spec *spec);
/* Nothing was answered twice, and the session still stands. */
void fs_claim_end(struct fs_claim *f);

/* The path of name in the claim's directory, valid until the next eight calls. */
const char *fs_claim_path(const struct fs_claim *f, const char *name);
/* lstat() of it, which must be there. */
struct stat fs_claim_stat(const struct fs_claim *f, const char *name);
bool fs_claim_exists(const struct fs_claim *f, const char *name);
/* A file made by the host, with this text. */
void fs_claim_write(const struct fs_claim *f, const char *name, const char *text);
/* Does the host's file hold just this text? */
bool fs_claim_holds(const struct fs_claim *f, const char *name, const char *text);
