/*
 * The verb watch: events as they happen, until it is interrupted or vmdevd ends.
 *
 * Runs in: vmdevctl. Trusts: see ctl.h.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "ctl/ctl.h"
#include "devices/base/error.h"

static void print_event(json_object *event)
{
	static const char *const shown[] = { "time_usec", "event", "device", "state" };
	int64_t usec = ctl_number(event, "time_usec");
	const char *state = ctl_text(event, "state", "");
	time_t s = usec / 1000000;
	struct tm tm;
	char when[32] = "";

	if (localtime_r(&s, &tm))
		(void)strftime(when, sizeof(when), "%T", &tm);
	printf("%s.%03d  %-20s %-10s %s%-10s%s", when, (int)(usec / 1000 % 1000),
	       ctl_text(event, "device", "-"), ctl_text(event, "event", "?"),
	       ctl_colour(ctl_colour_of_state(state)), state, ctl_colour(CTL_PLAIN));
	json_object_object_foreach (event, key, value) {
		bool is_shown = false;

		for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
			is_shown |= strcmp(shown[i], key) == 0;
		if (!is_shown && value)
			printf("  %s %s", key, json_object_get_string(value));
	}
	putchar('\n');
}

static int on_event(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct ctl *ctl = userdata;
	json_object *event;
	const char *text;

	if (sd_bus_message_read(m, "s", &text) < 0)
		return 0;
	event = json_tokener_parse(text);
	if (ctl->json)
		puts(text);
	else if (event)
		print_event(event);
	fflush(stdout);
	json_object_put(event);
	return 0;
}

static enum ctl_exit run_watch(struct ctl *ctl, int argc, char **argv)
{
	json_object *devices;
	enum ctl_exit exit = ctl_connect(ctl);
	int r;

	if (exit)
		return exit;
	r = sd_bus_match_signal(ctl->bus, NULL, NULL, CTL_PATH, CTL_INTERFACE, "Event", on_event,
				ctl);
	if (r < 0) {
		ctl_error("cannot watch: %s", error_text(r));
		return CTL_FAILED;
	}
	exit = ctl_call(ctl, "List", "", &devices); /* whether vmdevd is there at all */
	if (exit)
		return exit;
	json_object_put(devices);
	do {
		r = sd_bus_process(ctl->bus, NULL);
		if (r == 0)
			r = sd_bus_wait(ctl->bus, UINT64_MAX);
	} while (r >= 0 && !ferror(stdout));
	if (ferror(stdout))
		return CTL_DONE; /* whoever read this has gone */
	ctl_error("vmdevd has ended");
	return CTL_FAILED;
}

const struct verb watch_verbs[] = {
	{ "watch", "", "events as they happen", 0, 0, run_watch, .takes_json = true,
	  .only_prints = true },
	{ 0 },
};
