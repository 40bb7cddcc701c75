/*
 * The keeper: starts the worker, notices its death, starts the next one.
 *
 * Runs in: keeper (PID 1 of the sandbox, or the program itself when run by hand).
 * Trusts:  its arguments; of the state only single words whose every value it can bear. It reads no
 *          message, no ring and no guest byte.
 *
 * It shares one descriptor table with the worker (clone with CLONE_FILES, no CLONE_VM), so every
 * descriptor that the worker receives outlives it. No two workers have the same address-space
 * layout: a while after a start the keeper begins its own program anew at other addresses
 * (renew.h), and clones the next worker, which stands by (standby.h); after the death it only has
 * to give it its turn. If the death comes first, it begins anew then. What it knows crosses in an
 * argument, which no worker can write. An exec does the same where beginning anew in place is not
 * to be had, but only after a death: it gives the keeper a table of its own.
 *
 * A death is noticed by the robust futexes of the worker's threads, before the kernel unmaps guest
 * memory, which takes some 30 ms for each GiB. The dying worker then still holds the old table
 * while the keeper's exec takes a copy: no harm, for it executes no more instructions. The main
 * thread and all I/O threads must have died, for each of these has its own I/O rings (uring.h); the
 * companion may still be dying (aside.h). If the words tell nothing (a worker killed before it
 * registered), SIGCHLD does.
 *
 * Invariants:
 *  1. There is one worker at most whose turn it is: the last one has been sent SIGKILL, and its
 *     main thread and I/O threads are seen dead, before the next has its turn.
 *  2. Faults of the worker count against the restart limit; a kill from outside only if that worker
 *     had answered nothing. Past the limit the keeper exits with CONTRACT_EXIT_LIMIT.
 *  3. A worker that is to stop and has not left after 15 s is killed, and its successor does
 *     nothing but keep the fence; after 15 s more the keeper exits with CONTRACT_EXIT_HOST. (A
 *     worker can be waiting for a disk that does not answer, or for ever by a fault of ours.)
 *  4. Workers that die before they serve, three in a row, make the keeper give the state up
 *     (CONTRACT_EXIT_STATE).
 */
#pragma once

#include "devices/process/options.h"
#include "devices/process/program.h"

/*
 * Keep the device alive until it is stopped. argv is the program's, for its exec. Ends in an exit
 * with a status of enum contract_exit.
 */
int keeper_main(const struct program *program, struct options *o, char *const *argv);
