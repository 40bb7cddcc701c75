/*
 * Verbs that show: list, status.
 *
 * Runs in: vmdevctl. Trusts: see ctl.h.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl/ctl.h"
#include "daemon/text.h"
#include "devices/base/scope.h"

/* Prints the devices that are asked for, or their JSON. judge, if any, says the exit status. */
static enum ctl_exit show(struct ctl *ctl, const char *selector,
			  void (*print)(json_object *devices),
			  enum ctl_exit (*judge)(json_object *devices))
{
	json_object *devices;
	enum ctl_exit exit = ctl_call(ctl, "List", selector, &devices);

	if (exit)
		return exit;
	if (ctl->json) {
		ctl_print_json(devices);
	} else if (!ctl->quiet && json_object_array_length(devices) == 0) {
		puts("No devices. `vmdevctl apply FILE` makes some.");
	} else if (!ctl->quiet) {
		ctl_pager_start(ctl);
		print(devices);
	}
	if (judge)
		exit = judge(devices);
	json_object_put(devices);
	return exit;
}

/* ---- list ---- */

static void add_number_or_dash(struct table *table, json_object *device, const char *key)
{
	if (ctl_has(device, key))
		table_add(table, CTL_PLAIN, "%lld", (long long)ctl_number(device, key));
	else
		table_add(table, CTL_PLAIN, "-");
}

static char *recovery_text(json_object *device)
{
	json_object *value;

	if (!json_object_object_get_ex(device, "last_recovery_ms", &value) || !value)
		return strdup("-");
	return text_format("%.2f ms", json_object_get_double(value));
}

static bool is_true(json_object *device, const char *key)
{
	json_object *value;

	return json_object_object_get_ex(device, key, &value) && json_object_get_boolean(value);
}

static void add_device(struct table *table, json_object *device)
{
	const char *state = ctl_text(device, "state", "?");
	scope_free char *recovery = recovery_text(device);

	table_add(table, CTL_PLAIN, "%s", ctl_text(device, "name", "?"));
	table_add(table, CTL_PLAIN, "%s", ctl_text(device, "type", "?"));
	table_add(table, ctl_colour_of_state(state), "%s", state);
	table_add(table, CTL_PLAIN, "%s", is_true(device, "connected") ? "yes" : "no");
	add_number_or_dash(table, device, "pid");
	table_add(table, CTL_PLAIN, "%lld", (long long)ctl_number(device, "restarts"));
	table_add(table, CTL_PLAIN, "%s", recovery ? recovery : "-");
	table_add(table, CTL_PLAIN, "%s", ctl_text(device, "socket", "-"));
}

static void print_list(json_object *devices)
{
	static const char *const heads[] = { "VM/DEVICE", "TYPE",     "STATE",	       "CONNECTED",
					     "PID",	  "RESTARTS", "LAST-RECOVERY", "SOCKET" };
	struct table *table = table_new(heads, sizeof(heads) / sizeof(heads[0]));

	for (size_t i = 0; i < json_object_array_length(devices); i++)
		add_device(table, json_object_array_get_idx(devices, i));
	table_print(table);
	table_free(table);
}

static enum ctl_exit run_list(struct ctl *ctl, int argc, char **argv)
{
	return show(ctl, argc ? argv[0] : "", print_list, NULL);
}

/* ---- status ---- */

static char *since_text(json_object *device)
{
	int64_t usec = ctl_number(device, "since_usec");
	time_t then = usec / 1000000, now = time(NULL);
	long long s = now > then ? now - then : 0;
	struct tm tm;
	char date[40];

	if (!localtime_r(&then, &tm) || strftime(date, sizeof(date), "%a %F %T %Z", &tm) == 0)
		return NULL;
	if (s < 120)
		return text_format("%s; %llds ago", date, s);
	if (s < 7200)
		return text_format("%s; %lldmin ago", date, s / 60);
	if (s < 172800) /* two days */
		return text_format("%s; %lldh ago", date, s / 3600);
	return text_format("%s; %lld days ago", date, s / 86400);
}

static void row(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void row(const char *name, const char *format, ...)
{
	va_list args;

	printf("%12s%s ", name, name[0] ? ":" : " ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static const char *plural(int64_t n)
{
	return n == 1 ? "" : "s";
}

static void print_records(json_object *device)
{
	int64_t restarts = ctl_number(device, "restarts"),
		connections = ctl_number(device, "connections"),
		violations = ctl_number(device, "violations"),
		poisoned = ctl_number(device, "poisoned"),
		protocol = ctl_number(device, "protocol_errors");
	scope_free char *recovery = recovery_text(device);

	row("Restarts", "%lld, %lld of them with a fresh sandbox; last recovery %s",
	    (long long)restarts, (long long)ctl_number(device, "relaunches"),
	    recovery ? recovery : "-");
	row("Front-end", "%s; %lld connection%s so far",
	    is_true(device, "connected") ? "connected" : "not connected", (long long)connections,
	    plural(connections));
	if (violations)
		row("Violations", "%s%lld refused system call%s, the last one %s%s",
		    ctl_colour(CTL_BAD), (long long)violations, plural(violations),
		    ctl_text(device, "last_violation", "?"), ctl_colour(CTL_PLAIN));
	if (poisoned)
		row("Poisoned", "%s%lld request%s failed after three crashes%s",
		    ctl_colour(CTL_WARN), (long long)poisoned, plural(poisoned),
		    ctl_colour(CTL_PLAIN));
	if (protocol)
		row("Protocol",
		    "%s%lld session%s closed because the front-end broke the protocol%s",
		    ctl_colour(CTL_WARN), (long long)protocol, plural(protocol),
		    ctl_colour(CTL_PLAIN));
}

static void print_blk(json_object *device)
{
	row("Image", "%s (%s, cache %s%s%s)", ctl_text(device, "path", "-"),
	    is_true(device, "readonly") ? "read-only" : "read-write",
	    ctl_text(device, "cache", "-"), ctl_has(device, "serial") ? ", serial " : "",
	    ctl_text(device, "serial", ""));
}

static void print_fs(json_object *device)
{
	row("Directory", "%s as \"%s\" (%s, cache %s, ids %s)", ctl_text(device, "path", "-"),
	    ctl_text(device, "tag", "-"), is_true(device, "readonly") ? "read-only" : "read-write",
	    ctl_text(device, "cache", "-"), ctl_text(device, "ids", "-"));
}

static void print_net(json_object *device)
{
	const char *side = ctl_text(device, "side", "-"), *name = ctl_text(device, "tap", "");
	const char *bridge = ctl_text(device, "bridge", "");
	json_object *lan;

	if (json_object_object_get_ex(device, "switch", &lan))
		name = ctl_text(lan, "name", "");
	row("Network", "%s%s%s%s%s, address %s", side, name[0] ? " " : "", name,
	    bridge[0] ? " in bridge " : "", bridge, ctl_text(device, "mac", "-"));
}

static void print_vsock(json_object *device)
{
	row("CID", "%lld, host programs connect to %s", (long long)ctl_number(device, "cid"),
	    ctl_text(device, "uds", "nothing"));
}

/* What the guest has of the host's. */
static void print_resource(json_object *device)
{
	static const struct {
		const char *type;
		void (*print)(json_object *device);
	} rows[] = { { "blk", print_blk },
		     { "fs", print_fs },
		     { "net", print_net },
		     { "vsock", print_vsock } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].type, ctl_text(device, "type", "")) == 0)
			rows[i].print(device);
}

static void print_device(json_object *device)
{
	print_resource(device);
	row("Queues", "%lld, of up to %lld descriptors", (long long)ctl_number(device, "queues"),
	    (long long)ctl_number(device, "queue_size"));
	row("Socket", "%s", ctl_text(device, "socket", "-"));
	row("Policy", "%s, as uid %lld", ctl_text(device, "policy", "-"),
	    (long long)ctl_number(device, "uid"));
	if (*ctl_text(device, "policy_wider", ""))
		row("", "%swider than the shipped one: %s%s", ctl_colour(CTL_WARN),
		    ctl_text(device, "policy_wider", ""), ctl_colour(CTL_PLAIN));
}

static void print_log(json_object *device)
{
	json_object *log;

	if (!json_object_object_get_ex(device, "log", &log) || json_object_array_length(log) == 0)
		return;
	putchar('\n');
	for (size_t i = 0; i < json_object_array_length(log); i++)
		puts(json_object_get_string(json_object_array_get_idx(log, i)));
}

static void print_status(json_object *device)
{
	const char *state = ctl_text(device, "state", "?");
	const char *colour = ctl_colour(ctl_colour_of_state(state)), *plain = ctl_colour(CTL_PLAIN);
	scope_free char *since = since_text(device);

	printf("%s●%s %s%s%s - %s device\n", colour, plain, ctl_colour(CTL_BOLD),
	       ctl_text(device, "name", "?"), plain, ctl_text(device, "type", "?"));
	row("State", "%s%s%s since %s", colour, state, plain, since ? since : "?");
	if (ctl_has(device, "reason"))
		row("Reason", "%s%s%s", ctl_colour(CTL_BAD), ctl_text(device, "reason", ""), plain);
	print_device(device);
	if (ctl_has(device, "keeper_pid"))
		row("Processes", "worker %lld (generation %lld), keeper %lld",
		    (long long)ctl_number(device, "pid"),
		    (long long)ctl_number(device, "generation"),
		    (long long)ctl_number(device, "keeper_pid"));
	print_records(device);
	print_log(device);
}

/* Like systemctl: 3 unless everything that was asked for serves. */
static enum ctl_exit exit_of(json_object *devices)
{
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		const char *state =
			ctl_text(json_object_array_get_idx(devices, i), "state", "stopped");

		if (strcmp(state, "stopped") == 0 || strcmp(state, "failed") == 0)
			return CTL_NOT_FOUND;
	}
	return CTL_DONE;
}

static void print_all(json_object *devices)
{
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		if (i)
			putchar('\n');
		print_status(json_object_array_get_idx(devices, i));
	}
}

static enum ctl_exit run_status(struct ctl *ctl, int argc, char **argv)
{
	return show(ctl, argc ? argv[0] : "", print_all, exit_of);
}

const struct verb show_verbs[] = {
	{ "list", "[VM[/DEVICE]]", "all devices, one line each", 0, 1, run_list,
	  .takes_json = true },
	{ "status", "[VM[/DEVICE]]", "everything about them, with their last log lines", 0, 1,
	  run_status, .takes_json = true },
	{ 0 },
};
