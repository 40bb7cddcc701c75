/*
 * Words for the service manager. See notify.h.
 *
 * Runs in: vmdevd. Trusts: see notify.h.
 */
#include "daemon/notify.h"

#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

enum { STATUS_USEC = 250000 };

static struct notify_spec spec;
static sd_event_source *timer;

static void tell_status(struct manager_counts counts, unsigned n_refused);

static int on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	struct manager_counts counts;
	unsigned n_refused;

	if (spec.look(spec.arg, &counts, &n_refused))
		tell_status(counts, n_refused);
	return 0;
}

int notify_init(const struct notify_spec *s)
{
	int r = sd_event_set_watchdog(s->event, true);

	spec = *s;
	if (r >= 0)
		r = sd_event_add_time_relative(spec.event, &timer, CLOCK_MONOTONIC, 0, 0, on_timer,
					       NULL);
	if (r >= 0)
		r = sd_event_source_set_enabled(timer, SD_EVENT_OFF);
	return r < 0 ? r : 0;
}

void notify_done(void)
{
	timer = sd_event_source_disable_unref(timer);
}

void notify_changed(void)
{
	int on = 0;

	if (!timer || sd_event_source_get_enabled(timer, &on) < 0 || on != SD_EVENT_OFF)
		return;
	if (sd_event_source_set_time_relative(timer, STATUS_USEC) >= 0)
		(void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

void notify_ready(void)
{
	(void)sd_notify(0, "READY=1");
}

void notify_stopping(void)
{
	(void)sd_notify(0, "STOPPING=1\nSTATUS=Stopping all devices");
}

static void tell_status(struct manager_counts counts, unsigned n_refused)
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
