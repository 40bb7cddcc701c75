/*
 * Words for the service manager. See notify.h.
 *
 * Runs in: vmdevd. Trusts: see notify.h.
 */
#include "daemon/notify.h"

#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

int notify_init(sd_event *event)
{
	int r = sd_event_set_watchdog(event, true);

	return r < 0 ? r : 0;
}

void notify_ready(void)
{
	(void)sd_notify(0, "READY=1");
}

void notify_stopping(void)
{
	(void)sd_notify(0, "STOPPING=1\nSTATUS=Stopping all devices");
}

void notify_status(struct manager_counts counts, unsigned n_refused)
{
	static char last[200];
	char text[200];
	int at;

	at = snprintf(text, sizeof(text), "STATUS=%u devices, %u connected", counts.n_devices,
		      counts.n_connected);
	if (counts.n_failed)
		at += snprintf(text + at, sizeof(text) - (size_t)at, ", %u failed",
			       counts.n_failed);
	if (n_refused)
		(void)snprintf(text + at, sizeof(text) - (size_t)at, "; %u documents refused",
			       n_refused);
	if (strcmp(text, last) == 0)
		return;
	(void)snprintf(last, sizeof(last), "%s", text);
	(void)sd_notify(0, text);
}
