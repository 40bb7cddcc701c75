/*
 * Taps: network interfaces of the host's whose other end is a device.
 *
 * Runs in: vmdevd, in its network namespace. Trusts: the document's names as a wish, not as a fact.
 *
 * An interface of the name that is there already is used as it is: a tap that was made to have a
 * header and several queues, or a macvtap. Else one is made. It has the document's MTU, is put into
 * its bridge, and is up.
 *
 * One that was made here lives as long as the device does, be it in one sandbox after the other:
 * vmdevd holds a queue of it that takes no part (IFF_DETACH_QUEUE), until tap_release(). Should
 * vmdevd die, the device's own queues keep it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { TAP_MAX_NAME_LEN = 15 };

struct tap {
	const char *name;
	const char *bridge; /* NULL: in none */
	uint32_t mtu;	    /* 0: as it is */
	uint32_t n_queues;
};

/* Could it be had? Negative errno and a text. what: a struct tap. */
int tap_check(const void *what, char **ret_error);

/* Its queues, in order. */
int tap_open(const void *what, uint32_t uid_index, int *ret_fds, char **ret_error);

/* The device is stopped: an interface that was made for it goes. */
void tap_release(const char *name);

/* A name that an interface can have. */
bool tap_name_is_valid(const char *name);
