/*
 * What vmdevd tells the service manager (sd_notify(3)); silent where there is none.
 *
 * Runs in: vmdevd. Trusts: NOTIFY_SOCKET, which the service manager has set.
 */
#pragma once

#include <systemd/sd-event.h>

#include "daemon/manager.h"

/* Answers the watchdog from the event loop, if the unit has one. 0 or a negative errno. */
int notify_init(sd_event *event);

void notify_ready(void);
void notify_stopping(void);
/* The line that `systemctl status` shows; n_refused documents were bad at start. */
void notify_status(struct manager_counts counts, unsigned n_refused);
