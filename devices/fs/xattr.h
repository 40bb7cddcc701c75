/*
 * Extended attributes of the guest's, for the other parts of the device.
 *
 * Runs in: worker, I/O threads. Trusts: nothing; names and values come from the guest.
 */
#pragma once

#include "devices/fs/extension.h"

struct fs;

/* A security context for what fd (any descriptor, O_PATH too) is. 0 or a negative errno. */
int xattr_set(struct fs *fs, int fd, const struct extension_context *c);

/*
 * The file of fd is written to, truncated or given to another owner: its capabilities end. The
 * kernel sees to that, whoever does it, but for those that are stored under a prefix (xattr-map.h),
 * which it does not know for what they are; without a prefix this does nothing.
 */
void xattr_capabilities_end(struct fs *fs, int fd);
