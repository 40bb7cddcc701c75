/*
 * What of a file system session outlives the worker: the device's part of the state memfd.
 *
 * Runs in: worker. Trusts: nothing; a dead worker wrote it, and a guest may have owned that. Each
 *          part is checked by its owner before it is used: inode.c, handle.c, lock.c, journal.c,
 *          init.c.
 *
 * Sizes are fixed and the file is sparse: memory is used as the guest looks things up. All threads
 * of a worker die together, so locks live in the worker's private memory, not here; what is here is
 * consistent at each instruction. How, is written beside each structure.
 */
#pragma once

#include <stdint.h>

#include "devices/fs/handle.h"
#include "devices/fs/init.h"
#include "devices/fs/inode.h"
#include "devices/fs/journal.h"
#include "devices/fs/lock.h"
#include "devices/process/contract.h"

struct store {
	struct init_state init;
	struct journal_thread journal[CONTRACT_MAX_THREADS];
	struct handle_table handles;
	struct lock_table locks;
	struct inode_table inodes;
};
