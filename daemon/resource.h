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

#include <stdbool.h>

struct resource_image {
	const char *name; /* VM/DEVICE, whose image it is */
	const char *path;
	const char *cache; /* "none": O_DIRECT */
	bool readonly;
};

/* Could the image be opened and locked now? Takes no lock. Negative errno and a text. */
int resource_check_image(const struct resource_image *image, char **ret_error);

/*
 * Opens and locks it. A lock that a dying process of the same device holds is waited for, at most
 * timeout_ms; any other holder is named in the text at once.
 */
int resource_open_image(const struct resource_image *image, int timeout_ms, int *ret_fd,
			char **ret_error);
