/*
 * All VMs and their devices; manager.h has the idea.
 *
 * Runs in: vmdevd.
 * Trusts:  see manager.h.
 *
 * A device may not be freed while one of its own functions runs. So `happened` only wakes the
 * sweep, which runs from the event loop and there frees what is removed and ends waits.
 */
#include "daemon/manager.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "daemon/launch.h"
#include "daemon/manager-private.h"
#include "daemon/sandbox/plan.h"
#include "daemon/turns.h"
#include "devices/base/error.h"
#include "devices/base/log.h"

enum {
	START_TIMEOUT_S = 30,
	STOP_TIMEOUT_S = 20, /* the guest's I/O may have to drain from a slow disk */
	STATES_PER_S = 50,   /* of one device that are told one by one */
	STATES_LATER_USEC = 500000,
};

struct wait {
	struct list link;
	json_object *names;
	void (*done)(void *arg);
	void *arg;
};

struct entry *manager_find(const struct manager *m, const char *name)
{
	struct entry *e;

	list_for_each (e, &m->entries, link)
		if (strcmp(device_config(e->device)->full_name, name) == 0)
			return e;
	return NULL;
}

static void sweep_wake(struct manager *m)
{
	(void)sd_event_source_set_enabled(m->sweep, SD_EVENT_ONESHOT);
}

/* ---- what happens ---- */

static void tell(struct manager *m, const char *what, const char *name, const struct device *device,
		 json_object *details)
{
	json_object *event = json_object_new_object();
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	json_object_object_add(event, "time_usec",
			       json_object_new_int64(ts.tv_sec * 1000000 + ts.tv_nsec / 1000));
	json_object_object_add(event, "event", json_object_new_string(what));
	json_object_object_add(event, "device", json_object_new_string(name));
	if (device) {
		enum device_state state = device_state(device);

		json_object_object_add(event, "state",
				       json_object_new_string(device_state_to_string(state)));
		if (state == DEVICE_FAILED)
			json_object_object_add(event, "reason",
					       json_object_new_string(device_reason(device)));
	}
	if (details) {
		json_object_object_foreach (details, key, value)
			json_object_object_add(event, key, json_object_get(value));
	}
	m->spec.happened(m->spec.arg,
			 json_object_to_json_string_ext(event, JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(event);
}

/*
 * A device may change its state as often as it likes, by connections that come and go, and each
 * change is a message to every client: beyond a rate, only what has come of it is told.
 */
static bool may_tell_state(struct manager *m, const struct device *device)
{
	struct entry *e;

	list_for_each (e, &m->entries, link) {
		if (e->device != device || log_rate_pass(&e->states, NULL))
			continue;
		if (!e->state_untold &&
		    sd_event_source_set_time_relative(m->later, STATES_LATER_USEC) >= 0)
			(void)sd_event_source_set_enabled(m->later, SD_EVENT_ONESHOT);
		e->state_untold = true;
		return false;
	}
	return true;
}

static int on_later(sd_event_source *source, uint64_t usec, void *arg)
{
	struct manager *m = arg;
	struct entry *e;

	list_for_each (e, &m->entries, link) {
		if (e->state_untold)
			tell(m, "state", device_config(e->device)->full_name, e->device, NULL);
		e->state_untold = false;
	}
	return 0;
}

static void on_happened(void *arg, struct device *device, const char *what, json_object *details)
{
	struct manager *m = arg;

	if (strcmp(what, "state") != 0 || may_tell_state(m, device))
		tell(m, what, device_config(device)->full_name, device, details);
	sweep_wake(m);
}

/* ---- the sweep ---- */

static void entry_free(struct manager *m, struct entry *e)
{
	char directory[256];

	/* Goes if this was the VM's last socket. */
	(void)snprintf(directory, sizeof(directory), "%s/%s", m->spec.runtime_dir,
		       device_config(e->device)->vm);
	list_remove(&e->link);
	device_free(e->device);
	(void)rmdir(directory);
	free(e);
}

static void sweep_removed(struct manager *m)
{
	struct entry *e;

	list_for_each (e, &m->entries, link) {
		char name[2 * CONFIG_MAX_NAME_LEN + 2];

		if (!e->removing || device_state(e->device) != DEVICE_STOPPED)
			continue;
		(void)snprintf(name, sizeof(name), "%s", device_config(e->device)->full_name);
		entry_free(m, e);
		tell(m, "removed", name, NULL, NULL);
	}
}

static bool wait_is_over(const struct manager *m, const struct wait *wait)
{
	for (size_t i = 0; i < json_object_array_length(wait->names); i++) {
		json_object *name = json_object_array_get_idx(wait->names, i);
		struct entry *e = manager_find(m, json_object_get_string(name));

		if (e && (e->removing || !device_is_settled(e->device)))
			return false;
	}
	return true;
}

static void sweep_waits(struct manager *m)
{
	struct wait *w;

	list_for_each (w, &m->waits, link) {
		if (!wait_is_over(m, w))
			continue;
		list_remove(&w->link);
		w->done(w->arg);
		json_object_put(w->names);
		free(w);
	}
}

static int on_sweep(sd_event_source *source, void *arg)
{
	struct manager *m = arg;

	sweep_removed(m);
	sweep_waits(m);
	return 0;
}

int manager_wait(struct manager *m, json_object *names, void (*done)(void *arg), void *arg)
{
	struct wait *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct wait){ .names = json_object_get(names), .done = done, .arg = arg };
	list_append(&m->waits, &w->link);
	sweep_wake(m);
	return 0;
}

/* ---- guests ---- */

/* A guest that another one of its group may reach: as both run, not as they are going to. */
static struct device *find_guest(void *arg, const struct device *asker, uint64_t cid)
{
	const char *group = device_config_running(asker)->group;
	struct manager *m = arg;
	struct entry *e;

	list_for_each (e, &m->entries, link) {
		const struct device_config *config = device_config_running(e->device);

		if (group && e->device != asker && config->type == DEVICE_TYPE_VSOCK &&
		    config->cid == cid && config->group && strcmp(config->group, group) == 0)
			return e->device;
	}
	return NULL;
}

/*
 * What has stopped has let go of all that it had; what runs has what it was launched with. That no
 * two are to have the same has been seen (apply.c), but one may not have let go yet.
 */
static struct device *find_holder(void *arg, const struct device *device)
{
	struct manager *m = arg;
	struct entry *e;

	list_for_each (e, &m->entries, link) {
		enum device_state state = device_state(e->device);

		if (e->device != device && state != DEVICE_STOPPED && state != DEVICE_FAILED &&
		    type_clash(device_config_running(e->device), device_config_running(device)))
			return e->device;
	}
	return NULL;
}

/* ---- commands ---- */

static bool is_selected(const struct device_config *config, const char *selector)
{
	return selector[0] == '\0' || strcmp(config->vm, selector) == 0 ||
	       strcmp(config->full_name, selector) == 0;
}

json_object *manager_select(struct manager *m, const char *selector)
{
	json_object *names = json_object_new_array();
	struct entry *e;

	list_for_each (e, &m->entries, link) {
		const struct device_config *config = device_config(e->device);

		if (is_selected(config, selector))
			json_object_array_add(names, json_object_new_string(config->full_name));
	}
	if (selector[0] && json_object_array_length(names) == 0) {
		json_object_put(names);
		return NULL;
	}
	return names;
}

static void command(struct entry *e, enum manager_verb verb)
{
	static const enum device_event events[] = {
		[MANAGER_START] = DEVICE_EVENT_START,
		[MANAGER_STOP] = DEVICE_EVENT_STOP,
		[MANAGER_RESTART] = DEVICE_EVENT_RESTART,
		[MANAGER_REMOVE] = DEVICE_EVENT_STOP,
	};

	if (verb == MANAGER_REMOVE)
		e->removing = true;
	(void)device_handle(e->device, events[verb]);
}

static bool is_going(struct manager *m, json_object *names)
{
	for (size_t i = 0; i < json_object_array_length(names); i++) {
		json_object *name = json_object_array_get_idx(names, i);
		struct entry *e = manager_find(m, json_object_get_string(name));

		if (e && e->removing)
			return true;
	}
	return false;
}

bool manager_command(struct manager *m, enum manager_verb verb, json_object *names)
{
	if ((verb == MANAGER_START || verb == MANAGER_RESTART) && is_going(m, names))
		return false;
	for (size_t i = 0; i < json_object_array_length(names); i++) {
		json_object *name = json_object_array_get_idx(names, i);
		struct entry *e = manager_find(m, json_object_get_string(name));

		if (e)
			command(e, verb);
	}
	sweep_wake(m);
	return true;
}

json_object *manager_describe(struct manager *m, const char *name)
{
	struct entry *e = manager_find(m, name);

	return e ? device_to_json(e->device) : NULL;
}

void manager_kill_all(struct manager *m)
{
	struct entry *e;

	list_for_each (e, &m->entries, link)
		device_kill_now(e->device);
}

void manager_refuse_changes(struct manager *m)
{
	m->refuses_changes = true;
}

bool manager_refuses_changes(const struct manager *m)
{
	return m->refuses_changes;
}

struct manager_counts manager_count(const struct manager *m)
{
	struct manager_counts counts = { 0 };
	struct entry *e;

	list_for_each (e, &m->entries, link) {
		counts.n_devices++;
		counts.n_connected += device_state(e->device) == DEVICE_CONNECTED;
		counts.n_failed += device_state(e->device) == DEVICE_FAILED;
	}
	return counts;
}

/* ---- life ---- */

int manager_entry_new(struct manager *m, const struct device_config *config)
{
	struct entry *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	r = device_new(&m->host, config, manager_uid_index(m), &e->device);
	if (r < 0) {
		free(e);
		return r;
	}
	e->states = (struct log_rate){ .interval_ns = 1000000000, .burst = STATES_PER_S };
	list_append(&m->entries, &e->link);
	return 0;
}

/* The smallest index that no device has. */
uint32_t manager_uid_index(const struct manager *m)
{
	uint32_t index = m->uid_index_base;
	struct entry *e;

again:
	list_for_each (e, &m->entries, link) {
		if (device_uid_index(e->device) == index) {
			index++;
			goto again;
		}
	}
	return index;
}

static int new_networks(struct manager *m)
{
	struct networks_spec spec = {
		.event = m->spec.event,
		.program_dir = m->spec.program_dir,
		.is_build_tree = m->spec.is_build_tree,
		.policy_dir = m->spec.policy_dir,
		.override_dir = m->spec.override_dir,
	};

	return networks_new(&spec, &m->host.networks);
}

int manager_new(const struct manager_spec *spec, struct manager **ret)
{
	struct manager *m = calloc(1, sizeof(*m));
	uint32_t start = 0;
	int r;

	if (!m)
		return -ENOMEM;
	m->spec = *spec;
	m->host = (struct device_host){
		.event = spec->event,
		.runtime_dir = spec->runtime_dir,
		.program_dir = spec->program_dir,
		.is_build_tree = spec->is_build_tree,
		.policy_dir = spec->policy_dir,
		.override_dir = spec->override_dir,
		.start_timeout_usec = START_TIMEOUT_S * UINT64_C(1000000),
		.stop_timeout_usec = STOP_TIMEOUT_S * UINT64_C(1000000),
		.launch = launch_device,
		.kill = launch_kill,
		.forget = launch_forget,
		.happened = on_happened,
		.find_guest = find_guest,
		.find_holder = find_holder,
		.arg = m,
	};
	/*
	 * Keepers outlive a vmdevd that was killed. That no new device shares the uid of one of
	 * those, each vmdevd begins somewhere else.
	 */
	(void)!getrandom(&start, sizeof(start), 0);
	m->uid_index_base = start % (PLAN_UID_RANGE / 2);
	list_init(&m->entries);
	list_init(&m->waits);
	r = new_networks(m);
	if (r >= 0)
		r = turns_new(spec->event, &m->host.turns);
	if (r >= 0)
		r = sd_event_add_defer(spec->event, &m->sweep, on_sweep, m);
	if (r >= 0)
		r = sd_event_add_time_relative(spec->event, &m->later, CLOCK_MONOTONIC, 0, 0,
					       on_later, m);
	if (r < 0) {
		sd_event_source_disable_unref(m->sweep);
		turns_free(m->host.turns);
		networks_free(m->host.networks);
		free(m);
		return r;
	}
	(void)sd_event_source_set_enabled(m->sweep, SD_EVENT_OFF);
	(void)sd_event_source_set_enabled(m->later, SD_EVENT_OFF);
	*ret = m;
	return 0;
}

struct manager *manager_free(struct manager *m)
{
	struct entry *e;
	struct wait *w;

	if (!m)
		return NULL;
	list_for_each (e, &m->entries, link)
		entry_free(m, e);
	list_for_each (w, &m->waits, link) {
		list_remove(&w->link);
		json_object_put(w->names);
		free(w);
	}
	sd_event_source_disable_unref(m->sweep);
	sd_event_source_disable_unref(m->later);
	turns_free(m->host.turns);
	cids_free(m->cids);
	networks_free(m->host.networks);
	free(m);
	return NULL;
}
