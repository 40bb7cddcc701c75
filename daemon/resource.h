/*
 * Host resources of a device: what vmdevd opens so that the device need not.
 *
 * Runs in: vmdevd.
 * Trusts:  the document's path as a wish, not as a fact: what is found there is looked at before it
 * is opened, and never read. An image format is never probed.
 *
 * The image's lock is the one that QEMU's tools take (devices/base/lock.h).
 *
 * The lock belongs to the open file description that the device gets. It goes when the last
 * descriptor does, and as requests of a dying io_uring hold the file too, a successor that gets the
 * lock knows that its predecessor's last write has landed.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

struct resource_image {
	const char *name; /* VM/DEVICE, whose image it is */
	const char *path;
	const char *cache; /* "none": O_DIRECT */
	bool readonly;
};

/*
 * What resource_open() returns, without a text, while somebody has the image locked: an errno that
 * nothing else here returns. A process of the same device that is just dying has it for as long as
 * its last requests take, so it is to be tried again for a while, but not by waiting here.
 */
enum { RESOURCE_LOCKED = -EINPROGRESS };

/*
 * Could the image be opened and locked now? Takes no lock. Negative errno and a text, which names
 * the holder of a lock: to find it, all processes are looked at. A holder that is the device
 * itself, or cannot be found, is no obstacle. what: a struct resource_image.
 */
int resource_check(const void *what, char **ret_error);

/* Opens and locks it. Negative errno and a text, or RESOURCE_LOCKED. */
int resource_open(const void *what, uint32_t uid_index, int *ret_fds, char **ret_error);
