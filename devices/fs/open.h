/*
 * How files are opened for the guest. Shared by OPEN and CREATE.
 *
 * Runs in: worker, I/O threads. Trusts: nothing; flags come from the guest.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fs;
struct request;

/*
 * The open(2) flags for the host, of those that the guest gave:
 *
 *  - only flags that mean something for an open file, so no O_CREAT, O_PATH, O_TMPFILE, O_NOFOLLOW,
 *    …;
 *  - without O_APPEND: each WRITE says whether it is to append (data.c);
 *  - with a writeback cache the guest's kernel reads what it writes only in part: O_WRONLY becomes
 *    O_RDWR;
 *  - without O_DIRECT unless the device passes it on.
 */
int open_host_flags(const struct fs *fs, uint32_t flags);

/*
 * What a host process has a lease on is opened when that is over: it has been told, and has time
 * (fs.lease-break-time) to put things in order. inode_reopen()'s r, or REQUEST_WAITS instead.
 */
int open_awaits_lease(const struct request *rq, int r);

/* FOPEN_* for the answer: what the guest may keep in its page cache, by the cache mode. */
uint32_t open_reply_flags(const struct fs *fs, bool directory);
