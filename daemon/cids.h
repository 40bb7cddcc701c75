/*
 * The table of CIDs: which address a vsock device was given that asked for any ("cid": "auto").
 *
 * Runs in: vmdevd.
 * Trusts:  the runtime directory, which is vmdevd's own; of what the file says only what can be.
 *
 * A device keeps its CID for as long as the host runs, over restarts of vmdevd and also while its
 * document is away, so that what was written down somewhere stays true. The file is RUNTIME/cids, a
 * JSON object of VM/DEVICE and number; after a boot there is none, and no guest either that would
 * know its address.
 *
 * Only what is applied is written down. The table is bounded: beyond CIDS_MAX names, those that
 * have been there longest and that no document has at present are dropped.
 *
 * Addresses are given from CIDS_FIRST on: what people choose themselves is usually lower.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct cids;

enum { CIDS_FIRST = 4096, CIDS_MAX = 4096 };

/*
 * What the file says; an empty table if there is none. A file that cannot be read or makes no sense
 * is a negative errno and a text: beginning anew would give guests that run other addresses.
 */
int cids_load(const char *runtime_dir, struct cids **ret, char **ret_error);
struct cids *cids_free(struct cids *cids);

/*
 * The CID that this device would be given: the one that it had, unless somebody else has it now, or
 * the first that nobody has. 0: none is left. The table does not change.
 */
uint64_t cids_find(const struct cids *cids, const char *name,
		   bool (*taken)(void *arg, uint64_t cid), void *arg);

/* Now it has it. 0 or -ENOMEM. */
int cids_set(struct cids *cids, const char *name, uint64_t cid);

/* Drop what is too much, and write down what has changed. 0 or a negative errno. */
int cids_save(struct cids *cids, bool (*in_use)(void *arg, const char *name), void *arg);
