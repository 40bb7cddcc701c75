/*
 * One device: its state, and everything that vmdevd does about it.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing that the contract socket, the log pipe or an exit status says: the worker is the
 *          guest's. What it claims moves only its own device's state, in the ways the table has.
 *
 * The states (design: "The recovery ladder"):
 *
 *	stopped ── start ──▶ starting ── READY ──▶ ready ◀── front-end ──▶ connected
 *	                        │                    └──────┬─────────────────┘
 *	                        ▼                    DIED ▼ ▲ RECOVERED, READY
 *	  failed ◀── gave up, limit ──────────────── recovering
 *
 * (recovering: in rung 1 the keeper has a new worker, in rung 2 vmdevd makes a fresh sandbox)
 *
 * and stopping, between any of them and stopped. device.c has the table of states and events.
 *
 * Invariants:
 *  1. Only device_set_state changes the state; the table decides when.
 *  2. The listening socket exists from the first start until stopped or failed, and is one inode
 *     over recoveries, restarts and changes of the configuration.
 *  3. A process that was launched is waited for; nothing of it is given up before.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/config.h"
#include "daemon/launch.h"
#include "daemon/type.h"

enum device_state {
	DEVICE_STOPPED,
	DEVICE_STARTING,
	DEVICE_READY,
	DEVICE_CONNECTED,
	DEVICE_RECOVERING,
	DEVICE_STOPPING,
	DEVICE_FAILED,
	N_DEVICE_STATES,
};

enum device_event {
	DEVICE_EVENT_START, /* the operator's three */
	DEVICE_EVENT_STOP,
	DEVICE_EVENT_RESTART,
	DEVICE_EVENT_READY, /* the contract's five */
	DEVICE_EVENT_FRONTEND_CAME,
	DEVICE_EVENT_FRONTEND_WENT,
	DEVICE_EVENT_DIED,
	DEVICE_EVENT_RECOVERED,
	DEVICE_EVENT_ENDED,   /* the sandbox is gone; a fresh one may help */
	DEVICE_EVENT_GAVE_UP, /* the sandbox is gone; a fresh one would not help */
	DEVICE_EVENT_TIMEOUT,
	N_DEVICE_EVENTS,
};

const char *device_state_to_string(enum device_state state);
const char *device_event_to_string(enum device_event event);

struct device;
struct turns;

/* What a device needs from around it. */
struct device_host {
	sd_event *event;
	const char *runtime_dir;
	const char *program_dir; /* has vmdev-TYPE, or TYPE/vmdev-TYPE if it is a build tree's */
	bool is_build_tree;
	const char *policy_dir;
	const char *override_dir;    /* the administrator's policies; a name found here wins */
	struct networks *networks;   /* NULL: net devices that need one cannot be had */
	struct turns *turns;	     /* launches wait there */
	uint64_t start_timeout_usec; /* until READY, and for a recovery */
	uint64_t stop_timeout_usec;  /* until a device that was asked to stop is killed */
	int (*launch)(const struct launch_spec *spec, struct launched *ret, char **ret_error);
	int (*kill)(const struct launched *launched);
	/* The sandbox has ended; what outlives it (its cgroup) can go. */
	void (*forget)(const struct launched *launched);
	/*
	 * Something happened to the device: `what` is a word for `vmdevctl watch`, `details` may be
	 * NULL and stays the caller's. The device may not be freed from in here.
	 */
	void (*happened)(void *arg, struct device *device, const char *what, json_object *details);
	/* The device of the guest with this CID, if the asker's guest may reach it; else NULL. */
	struct device *(*find_guest)(void *arg, const struct device *asker, uint64_t cid);
	/* Another device that has what only one may have, and this one is to have; else NULL. */
	struct device *(*find_holder)(void *arg, const struct device *device);
	void *arg; /* of happened, find_guest and find_holder */
};

/* Copies the configuration; the host has to outlive the device. 0 or -ENOMEM. */
int device_new(const struct device_host *host, const struct device_config *config,
	       uint32_t uid_index, struct device **ret);

/* Kills what runs, at once. Accepts NULL, returns NULL. */
struct device *device_free(struct device *device);

/* Kills the sandbox, whatever state the device is in; its end comes as an event. */
void device_kill_now(struct device *device);

/* Gives the table an event. False: the event is refused in this state. */
bool device_handle(struct device *device, enum device_event event);

/*
 * Another configuration of the same name. Owner and mode of the socket change at once; anything
 * else with the next launch, which the caller brings about. 0, or a negative errno and a text to be
 * freed.
 */
int device_reconfigure(struct device *device, const struct device_config *config, char **ret_error);
/* Could it be done? Changes nothing. */
int device_check_reconfigure(const struct device *device, char **ret_error);

/*
 * As it is to be from the next launch on; and as what runs was launched, or would be if nothing had
 * changed since.
 */
const struct device_config *device_config(const struct device *device);
const struct device_config *device_config_running(const struct device *device);
uint32_t device_uid_index(const struct device *device);
enum device_state device_state(const struct device *device);
/* Nothing is on its way that was asked for. */
bool device_is_settled(const struct device *device);
const char *device_reason(const struct device *device);

/* The object that `vmdevctl --json` shows; the caller puts it. NULL: no memory. */
json_object *device_to_json(const struct device *device);

/* What a launch_spec points to besides the configuration. */
struct device_launch_texts {
	char program[4096];
	char policy[4096];
	char cgroup[2 * CONFIG_MAX_NAME_LEN + 2];
	struct launch_limits limits;
	union type_resource resource;
};

/* The specification of a launch, but for its listening socket and its uid. */
struct launch_spec device_launch_spec(const struct device_host *host,
				      const struct device_config *config, char *const *argv,
				      struct device_launch_texts *texts);
