/*
 * A helper: a program that vmdevd keeps running beside devices, in a sandbox of its own. It has no
 * guest's session and keeps nothing that must not be lost, so its death is answered with a fresh
 * one.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing that it says or writes.
 *
 * A helper that ends is started again after a wait that doubles from a tenth of a second to five
 * seconds, and is short again once it has lived for ten. Stopping is killing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/launch.h"

struct helper;

struct helper_spec {
	sd_event *event;
	const char *name;	 /* for records, copied: "switch lan0" */
	const char *vm, *device; /* whose records they are, copied; NULL: nobody's */
	/* Start one. As launch_device. */
	int (*launch)(void *arg, struct launched *ret, char **ret_error);
	/* A datagram from its contract socket. NULL where it has none. */
	void (*said)(void *arg, const void *bytes, size_t len);
	/* One has ended, or could not be started; another follows. */
	void (*ended)(void *arg);
	void *arg;
};

/*
 * 0 and a helper that has been started, or is to be; -ENOMEM. A first start that fails is tried
 * again.
 */
int helper_new(const struct helper_spec *spec, struct helper **ret);
/* Kills it. Accepts NULL, returns NULL. Not from inside its own callbacks. */
struct helper *helper_free(struct helper *h);

/* Kill what runs: a fresh one follows. */
void helper_restart(struct helper *h);

/* Send a datagram with descriptors to it. 0 or a negative errno (-ENOTCONN: none runs). */
int helper_send(struct helper *h, const void *bytes, size_t len, const int *fds, size_t n_fds);

/* For status: its pid, 0 if none runs; how often a fresh one had to be started. */
int helper_pid(const struct helper *h);
uint64_t helper_restarts(const struct helper *h);
