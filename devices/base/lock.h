/*
 * Locks on disk images, as QEMU and its tools take and respect them.
 *
 * Runs in: vmdevd, and a device program started by hand. Trusts: nothing; the image is never read.
 *
 * QEMU and its tools lock images by open file description (fcntl F_OFD_SETLK), each permission on
 * its own byte of the file: byte 100+p is read-locked by who has permission p, byte 200+p by who
 * does not share it with others; a conflict is found by asking whether the opposite byte could be
 * locked for writing. The lock lives as long as any descriptor of the description, in whichever
 * process.
 */
#pragma once

#include <stdbool.h>

struct lock_holder {
	int pid;
	char comm[32];
	char device[160]; /* VM/DEVICE, if it is one of ours; else empty */
};

/*
 * Take the locks of a guest's disk: others may read it, nobody else may write it (or, for a reader,
 * nobody may write it at all) or change its size. 0, -EAGAIN if somebody else has a claim, or
 * another negative errno.
 */
int lock_image(int fd, bool readonly);

/*
 * Give back whatever locks were taken through fd's open file description; one without any is fine.
 */
void lock_release(int fd);

/* As above, without taking anything. */
int lock_image_test(int fd, bool readonly);

/* A process other than this one that has a lock on the file; false: none is to be found here. */
bool lock_find_holder(int fd, struct lock_holder *ret);
