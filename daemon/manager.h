/*
 * All VMs and their devices: which there should be, and which there are.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing in documents and selectors; who may ask for what is decided in
 *          bus-methods.c.
 *
 * Applying is a comparison: each document is the whole truth about its VM, so what it has and we
 * have not is created, what differs is changed, and what we have and it has not is removed. VMs
 * that no document names are left alone. Everything that can be checked without changing anything
 * is checked for all documents first; only then does the first change happen.
 *
 * Whatever takes time goes on by itself; a wait tells when named devices have settled.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "daemon/config.h"
#include "daemon/device.h"

struct manager;

struct manager_spec {
	sd_event *event;
	const char *runtime_dir;
	const char *program_dir;
	bool is_build_tree; /* see struct device_host */
	const char *policy_dir;
	const char *override_dir;
	/* Something happened: one JSON object, for `vmdevctl watch`. */
	void (*happened)(void *arg, const char *json);
	void *arg;
};

/* The texts in spec have to outlive the manager. */
int manager_new(const struct manager_spec *spec, struct manager **ret);
/* Kills what still runs. */
struct manager *manager_free(struct manager *manager);

struct document {
	const char *file; /* for messages */
	const char *text;
	size_t len;
};

struct manager_apply_spec {
	const struct document *documents;
	size_t n_documents;
	bool dry_run;
	/* At start: a device whose resources cannot be had is created nevertheless, and fails
	 * alone. */
	bool at_start;
};

/*
 * 0; -EINVAL: *errors says what is wrong, and nothing has changed; -ENOMEM. *ret_changes is an
 * array of {"device", "change": "create"|"change"|"start"|"remove"|"none", "keys"}, and "error"
 * where it could not be done after all; the caller puts it.
 */
int manager_apply(struct manager *manager, const struct manager_apply_spec *spec,
		  json_object **ret_changes, struct config_errors *errors);

/* Applies the *.json files of a directory, each for itself. Returns how many were refused. */
unsigned manager_apply_directory(struct manager *manager, const char *path);

enum manager_verb { MANAGER_START, MANAGER_STOP, MANAGER_RESTART, MANAGER_REMOVE };

/*
 * Devices are selected by "VM/DEVICE", "VM" (all of its devices), or "" (all there are). An array
 * of their names, or NULL when there are none or no memory. The caller puts it.
 */
json_object *manager_select(struct manager *manager, const char *selector);
/* False: one of them is being removed, and cannot be started any more; nothing is done. */
bool manager_command(struct manager *manager, enum manager_verb verb, json_object *names);

/* The device of this name as device_to_json has it; NULL: there is none. The caller puts it. */
json_object *manager_describe(struct manager *manager, const char *name);

/*
 * Calls `done` from the event loop, once, when every device of the array of names has settled or is
 * gone. *names is referenced. -ENOMEM: done will not be called.
 */
int manager_wait(struct manager *manager, json_object *names, void (*done)(void *arg), void *arg);

void manager_kill_all(struct manager *manager);

/*
 * vmdevd is about to end, when all devices have stopped: from here on nothing may be asked for that
 * would have one run again. Whoever asks is to be told so.
 */
void manager_refuse_changes(struct manager *manager);
bool manager_refuses_changes(const struct manager *manager);

struct manager_counts {
	unsigned n_devices, n_connected, n_failed;
};
struct manager_counts manager_count(const struct manager *manager);
