/*
 * The inside of a device, for device*.c only.
 *
 * Runs in: vmdevd. Trusts: see device.h.
 */
#pragma once

#include "daemon/broker.h"
#include "daemon/device.h"
#include "daemon/journal.h"
#include "daemon/lines.h"
#include "daemon/turns.h"

enum {
	/*
	 * What a worker can make vmdevd read in a second; the rest waits in the kernel. A message
	 * may be an event for every client.
	 */
	DEVICE_MAX_MESSAGES = 500,
	DEVICE_MAX_LOG_READS = 50,
	/* messages that may be there when they count as said in time: more than the kernel keeps */
	DEVICE_MAX_UNREAD = 512,
	DEVICE_REASON_LEN = 800,
	DEVICE_FAILURE_LEN = 520, /* any text of the contract */
};

struct device {
	const struct device_host *host;
	struct device_config *config;
	struct device_config *next_config; /* for the next launch; NULL: none */
	uint32_t uid_index;
	enum device_state state;
	bool start_again; /* stopping is half of a restart */
	char socket_path[128];
	int listen_fd;
	struct broker *broker; /* of a vsock device; else NULL */

	/* what runs; keeper_pid 0: nothing */
	struct launched launched;
	sd_event_source *control, *log, *exit;
	struct turn turn; /* to be launched */
	sd_event_source *timer;
	bool is_due;	  /* the timer has run out, and nothing since has set or ended it */
	pid_t worker_pid; /* 0: not known */
	uint32_t generation;
	bool frontend; /* a front-end is connected, as far as the contract has said */

	uint64_t locked_usec; /* since when a launch waits for its resource's lock; 0: not */

	/* rung 2's count */
	uint64_t window_start_usec;
	unsigned window_n;

	/* records */
	uint64_t since_usec; /* CLOCK_REALTIME of the last change of state */
	uint64_t n_restarts, n_relaunches, n_connections, n_violations, n_poisoned,
		n_protocol_errors;
	uint64_t n_refused; /* messages that were malformed or out of place */
	uint64_t last_recovery_ns;
	bool has_recovered;
	char last_violation[48];
	char policy_wider[512]; /* where its policy allows more than the shipped one; "": nowhere */
	char reason[DEVICE_REASON_LEN];	  /* why it failed; "": nothing to say */
	char failure[DEVICE_FAILURE_LEN]; /* the last CONTRACT_MSG_FAILED of this launch */
	struct lines lines;
	struct log_rate death_rate, protocol_rate, refuse_rate;
};

#define device_journal(d, level_, id_, ...)                                                        \
	journal_write(&(struct journal_about){ .level = (level_),                                  \
					       .id = (id_),                                        \
					       .vm = (d)->config->vm,                              \
					       .device = (d)->config->name },                      \
		      __VA_ARGS__)

/* device-contract.c: what is there to be read, at most so many messages. */
void device_contract_read(struct device *device, unsigned max);

/* device-json.c: nanoseconds as milliseconds with three decimals. */
json_object *device_ms_to_json(uint64_t ns);

/* device-process.c */
/* What is kept for the device from one sandbox to the next (type.h: release). */
void device_release(struct device *d);

/* What is to be from the next launch on is from now on. Nothing runs. */
void device_take_config(struct device *device);
int device_launch(struct device *device, char **ret_error);
/*
 * It has been locked for too long: a negative errno, and a text that says whose lock it is.
 * RESOURCE_LOCKED, with a text: that of nobody who can be found.
 */
int device_why_locked(struct device *device, char **ret_error);
/* Asks the device to stop; a negative errno if it cannot be asked. */
int device_ask_to_stop(struct device *device);
void device_kill(struct device *device);
/* Gives up what belonged to the sandbox that has ended. */
void device_forget(struct device *device);
