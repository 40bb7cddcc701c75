/*
 * INIT: what this session's driver and we have agreed on.
 *
 * Runs in: worker. Trusts: neither the driver nor the store.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fs;

/* In the store. agreed is written last (release): 0 until then, and INIT is simply run again. */
struct init_state {
	uint32_t agreed;
	uint32_t minor;
	uint64_t flags; /* FUSE_* of INIT, both words: offered and wanted */
	uint32_t max_write;
};

/* Has INIT agreed on this flag? False before INIT. */
bool init_has(const struct fs *fs, uint64_t flag);

bool init_done(const struct fs *fs);

/* The driver has reset the device: as if nothing had been agreed on, looked up or opened. */
void init_reset(struct fs *fs);
