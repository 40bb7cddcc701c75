/*
 * What vmdevd tells the service manager (sd_notify(3)); silent where there is none.
 *
 * Runs in: vmdevd. Trusts: NOTIFY_SOCKET, which the service manager has set.
 */
#pragma once

#include <systemd/sd-event.h>

#include "daemon/manager.h"

struct notify_spec {
	sd_event *event;
	/* How things stand, to be told; false: nothing is to be told. */
	bool (*look)(void *arg, struct manager_counts *ret, unsigned *ret_n_refused);
	void *arg;
};

/* Answers the watchdog from the event loop, if the unit has one. 0 or a negative errno. */
int notify_init(const struct notify_spec *spec);
void notify_done(void);

void notify_ready(void);
void notify_stopping(void);
/*
 * Things have changed: the line that `systemctl status` shows follows soon, one for all that
 * changes until then. What changes may be a device's doing, and a word to the service manager waits
 * for that one to read.
 */
void notify_changed(void);
