/*
 * Verbs that change what runs: start, stop, restart, remove.
 *
 * Runs in: vmdevctl. Trusts: see ctl.h.
 */
#include <string.h>

#include "ctl/ctl.h"

/* vmdevd answers when the devices have settled; one that has failed says why. */
static enum ctl_exit tell_failed(json_object *devices)
{
	enum ctl_exit exit = CTL_DONE;

	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);

		if (strcmp(ctl_text(device, "state", ""), "failed") != 0)
			continue;
		ctl_error("%s: failed: %s; `vmdevctl status %s` has its last log lines",
			  ctl_text(device, "name", "?"), ctl_text(device, "reason", "no reason"),
			  ctl_text(device, "name", "?"));
		exit = CTL_FAILED;
	}
	return exit;
}

static enum ctl_exit command(struct ctl *ctl, const char *method, int argc, char **argv)
{
	enum ctl_exit exit = CTL_DONE;

	/* Each by itself, so that one that is not there does not keep the others from it. */
	for (int i = 0; i < argc; i++) {
		json_object *devices = NULL;
		enum ctl_exit one = ctl_call(ctl, method, argv[i], &devices);

		if (one == CTL_DONE)
			one = tell_failed(devices);
		json_object_put(devices);
		if (one > exit)
			exit = one;
	}
	return exit;
}

static enum ctl_exit run_start(struct ctl *ctl, int argc, char **argv)
{
	return command(ctl, "Start", argc, argv);
}

static enum ctl_exit run_stop(struct ctl *ctl, int argc, char **argv)
{
	return command(ctl, "Stop", argc, argv);
}

static enum ctl_exit run_restart(struct ctl *ctl, int argc, char **argv)
{
	return command(ctl, "Restart", argc, argv);
}

static enum ctl_exit run_remove(struct ctl *ctl, int argc, char **argv)
{
	return command(ctl, "Remove", argc, argv);
}

const struct verb control_verbs[] = {
	{ "start", "VM[/DEVICE]...", "start devices", 1, -1, run_start },
	{ "stop", "VM[/DEVICE]...", "drain and stop them; their sockets go", 1, -1, run_stop },
	{ "restart", "VM[/DEVICE]...", "stop and start them, behind the same socket", 1, -1,
	  run_restart },
	{ "remove", "VM[/DEVICE]...", "stop them and forget them", 1, -1, run_remove },
	{ 0 },
};
