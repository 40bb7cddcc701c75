/*
 * A device's life: the table of states and events, and what is done in each of its cells.
 *
 * Runs in: vmdevd.
 * Trusts:  see device.h.
 *
 * Every change of state is in device_set_state. An empty cell of the table is a refusal, which
 * device_handle returns to whoever brought the event; a cell with `nothing` is an event that is in
 * order and needs no action.
 *
 * Rung 1 of the ladder is the keeper's: vmdevd only hears of it. Rung 2 is recover_afresh: a fresh
 * sandbox around the same listening socket, not more often than the document's restart limit. Rung
 * 3 is fail: the socket is closed, so that a front-end is told at once instead of waiting.
 */
#include "daemon/device.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/device-private.h"
#include "daemon/listener.h"
#include "daemon/priority.h"
#include "daemon/resource.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"

const char *device_state_to_string(enum device_state state)
{
	static const char *const names[] = {
		[DEVICE_STOPPED] = "stopped",	    [DEVICE_STARTING] = "starting",
		[DEVICE_READY] = "ready",	    [DEVICE_CONNECTED] = "connected",
		[DEVICE_RECOVERING] = "recovering", [DEVICE_STOPPING] = "stopping",
		[DEVICE_FAILED] = "failed",
	};

	static_assert(sizeof(names) / sizeof(names[0]) == N_DEVICE_STATES, "a state has no name");
	return names[state];
}

const char *device_event_to_string(enum device_event event)
{
	static const char *const names[] = {
		[DEVICE_EVENT_START] = "start",
		[DEVICE_EVENT_STOP] = "stop",
		[DEVICE_EVENT_RESTART] = "restart",
		[DEVICE_EVENT_READY] = "ready",
		[DEVICE_EVENT_FRONTEND_CAME] = "front-end came",
		[DEVICE_EVENT_FRONTEND_WENT] = "front-end went",
		[DEVICE_EVENT_DIED] = "died",
		[DEVICE_EVENT_RECOVERED] = "recovered",
		[DEVICE_EVENT_ENDED] = "ended",
		[DEVICE_EVENT_GAVE_UP] = "gave up",
		[DEVICE_EVENT_TIMEOUT] = "timeout",
	};

	static_assert(sizeof(names) / sizeof(names[0]) == N_DEVICE_EVENTS, "an event has no name");
	return names[event];
}

enum {
	/* How long a predecessor that is just ending may take to let go of the resource. */
	LOCK_WAIT_USEC = 1000000,
	LOCK_RETRY_USEC = 20000,
	/* And the kernel, while I/O of who is gone is still on its way to a slow disk. */
	ORPHAN_WAIT_USEC = 60000000,
	ORPHAN_RETRY_USEC = 200000,
};

static void device_set_state(struct device *d, enum device_state state)
{
	enum device_state old = d->state;

	if (old == state)
		return;
	d->state = state;
	d->since_usec = clock_usec(CLOCK_REALTIME);
	device_journal(d, LOG_LEVEL_DEBUG, JOURNAL_PLAIN, "%s -> %s", device_state_to_string(old),
		       device_state_to_string(state));
	d->host->happened(d->host->arg, d, "state", NULL);
}

/* ---- the timer ---- */

/* What has been said in time counts, even if vmdevd has not got round to reading it. */
static int on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	struct device *d = arg;

	d->is_due = true;
	if (d->launched.keeper_pid)
		device_contract_read(d, DEVICE_MAX_UNREAD);
	if (d->is_due)
		(void)device_handle(d, DEVICE_EVENT_TIMEOUT);
	return 0;
}

static void timer_arm(struct device *d, uint64_t usec)
{
	int r;

	d->is_due = false;
	if (!d->timer)
		r = sd_event_add_time_relative(d->host->event, &d->timer, CLOCK_MONOTONIC, usec,
					       1000, on_timer, d);
	else
		r = sd_event_source_set_time_relative(d->timer, usec);
	if (r >= 0)
		r = sd_event_source_set_enabled(d->timer, SD_EVENT_ONESHOT);
	if (r < 0)
		device_journal(d, LOG_LEVEL_ERROR, JOURNAL_PLAIN, "cannot set a timer: %s",
			       error_text(r));
}

static void timer_disarm(struct device *d)
{
	d->is_due = false;
	if (d->timer)
		(void)sd_event_source_set_enabled(d->timer, SD_EVENT_OFF);
}

/* ---- what the cells do ---- */

static void socket_close(struct device *d)
{
	if (d->broker)
		broker_close(d->broker);
	if (d->listen_fd < 0)
		return;
	d->listen_fd = fd_close(d->listen_fd);
	(void)unlink(d->socket_path);
}

static void fail(struct device *d)
{
	timer_disarm(d);
	socket_close(d);
	device_release(d);
	d->start_again = false;
	device_journal(d, LOG_LEVEL_ERROR, JOURNAL_DEVICE_FAILED, "failed: %s", d->reason);
	device_set_state(d, DEVICE_FAILED);
}

/* The resource is locked, and will be tried again, if it has not been so for long. */
static bool wait_for_lock(struct device *d, uint64_t longest_usec, uint64_t retry_usec)
{
	uint64_t now = now_usec();

	if (d->locked_usec == 0)
		d->locked_usec = now;
	if (now - d->locked_usec >= longest_usec)
		return false;
	timer_arm(d, retry_usec);
	return true;
}

/*
 * It is locked: by a predecessor still, who is just ending? RESOURCE_LOCKED: maybe, and it is
 * waited for.
 */
static int judge_lock(struct device *d, char **ret_error)
{
	int r;

	if (wait_for_lock(d, LOCK_WAIT_USEC, LOCK_RETRY_USEC))
		return RESOURCE_LOCKED;
	free(take_ptr(*ret_error));
	r = device_why_locked(d, ret_error);
	if (r != RESOURCE_LOCKED)
		return r;
	return wait_for_lock(d, ORPHAN_WAIT_USEC, ORPHAN_RETRY_USEC) ? RESOURCE_LOCKED : -EBUSY;
}

/* -EBUSY: it is another device's. 1: still, for that one stops. */
static int ask_holder(struct device *d, char **ret_error)
{
	const struct device *holder =
		d->host->find_holder ? d->host->find_holder(d->host->arg, d) : NULL;
	const struct type_single *single;

	if (!holder)
		return 0;
	if (holder->state == DEVICE_STOPPING)
		return 1;
	single = type_clash(holder->config, d->config);
	*ret_error = text_format("%s is used by %s", single ? single->what : "something",
				 holder->config->full_name);
	return -EBUSY;
}

/*
 * device_launch, and what it has to say if it fails becomes the reason. 0 too if it is to be tried
 * again, when the timer says so.
 */
static int launch(struct device *d)
{
	scope_free char *error = NULL;
	int r;

	device_take_config(d);
	r = ask_holder(d, &error);
	if (r > 0) {
		timer_arm(d, LOCK_RETRY_USEC);
		return 0;
	}
	if (r == 0)
		r = device_launch(d, &error);
	if (r == RESOURCE_LOCKED)
		r = judge_lock(d, &error);
	if (r == RESOURCE_LOCKED)
		return 0;
	d->locked_usec = 0;
	if (r < 0) {
		(void)snprintf(d->reason, sizeof(d->reason), "%s", error ? error : error_text(r));
		text_clean(d->reason);
	} else {
		timer_arm(d, d->host->start_timeout_usec);
	}
	return r;
}

static void start(struct device *d)
{
	d->start_again = false;
	d->reason[0] = '\0';
	d->window_n = 0;
	d->locked_usec = 0;
	device_set_state(d, DEVICE_STARTING);
	turn_ask(d->host->turns, &d->turn);
}

static void nothing(struct device *d)
{
	(void)d;
}

static void stopped(struct device *d)
{
	timer_disarm(d);
	socket_close(d);
	device_release(d);
	device_set_state(d, DEVICE_STOPPED);
}

/* Without a process (between two launches of rung 2) there is nothing to wait for. */
static void stop(struct device *d)
{
	turn_give_up(&d->turn);
	device_set_state(d, DEVICE_STOPPING);
	if (d->launched.keeper_pid == 0) {
		(void)device_handle(d, DEVICE_EVENT_ENDED);
		return;
	}
	timer_arm(d, d->host->stop_timeout_usec);
	if (device_ask_to_stop(d) < 0)
		device_kill(d);
}

static void restart(struct device *d)
{
	d->start_again = true;
	stop(d);
}

static void come_again(struct device *d)
{
	d->start_again = true;
}

static void stay_stopped(struct device *d)
{
	d->start_again = false;
}

/* stopping has come to its end, however it did. */
static void end_stopping(struct device *d)
{
	timer_disarm(d);
	d->reason[0] = '\0';
	if (d->start_again)
		start(d);
	else
		stopped(d);
}

static void kill_what_does_not_stop(struct device *d)
{
	device_journal(d, LOG_LEVEL_WARNING, JOURNAL_PLAIN, "did not stop in %u s: killing it",
		       (unsigned)(d->host->stop_timeout_usec / 1000000));
	device_kill(d);
	timer_arm(d, d->host->stop_timeout_usec);
}

static void clear(struct device *d)
{
	d->reason[0] = '\0';
	device_set_state(d, DEVICE_STOPPED);
}

static void serve(struct device *d)
{
	timer_disarm(d);
	device_set_state(d, DEVICE_READY);
}

static void connect_frontend(struct device *d)
{
	if (!d->frontend)
		d->n_connections++;
	d->frontend = true;
	if (d->state != DEVICE_RECOVERING)
		device_set_state(d, DEVICE_CONNECTED);
}

static void disconnect_frontend(struct device *d)
{
	d->frontend = false;
	if (d->state == DEVICE_CONNECTED)
		device_set_state(d, DEVICE_READY);
}

/* A first worker died before it served: the keeper tries again, and the timer watches over that. */
static void count_death(struct device *d)
{
	d->n_restarts++;
	d->worker_pid = 0;
}

static void recover(struct device *d)
{
	count_death(d);
	timer_arm(d, d->host->start_timeout_usec);
	device_set_state(d, DEVICE_RECOVERING);
}

/*
 * RECOVERED ends the recovery of a connection; without one, READY does. With one, a worker that is
 * ready answers its front-end, and only its fence may be waiting still: for a disk, as long as that
 * takes.
 */
static void recovered(struct device *d)
{
	timer_disarm(d);
	d->reason[0] = '\0';
	device_set_state(d, d->frontend ? DEVICE_CONNECTED : DEVICE_READY);
}

static void ready_again(struct device *d)
{
	if (d->frontend)
		timer_disarm(d);
	else
		recovered(d);
}

/* Rung 2, if the restart limit allows one more. */
static void recover_afresh(struct device *d)
{
	const struct restart_config *limits = &d->config->restart;
	uint64_t now = now_usec();
	char why[DEVICE_REASON_LEN];

	(void)snprintf(why, sizeof(why), "%s", d->reason);
	if (d->window_n == 0 || now - d->window_start_usec >= limits->interval_usec) {
		d->window_start_usec = now;
		d->window_n = 0;
	}
	if (d->window_n++ >= limits->limit) {
		(void)snprintf(
			d->reason, sizeof(d->reason),
			"restart limit reached (%llu fresh sandboxes in %llu s), at last: %.400s",
			(unsigned long long)limits->limit,
			(unsigned long long)(limits->interval_usec / 1000000), why);
		text_clean(d->reason);
		fail(d);
		return;
	}
	d->n_restarts++;
	d->n_relaunches++;
	device_journal(d, LOG_LEVEL_WARNING, JOURNAL_DEVICE_RELAUNCHED,
		       "%s; a fresh sandbox follows in %llu ms, the front-end has to reconnect",
		       why, (unsigned long long)(limits->backoff_usec / 1000));
	timer_arm(d, limits->backoff_usec);
	device_set_state(d, DEVICE_RECOVERING);
	d->host->happened(d->host->arg, d, "relaunch", NULL);
}

/* The back-off is over, a lock may have gone, or a recovery takes too long. */
static void recovery_timeout(struct device *d)
{
	if (d->launched.keeper_pid == 0) {
		turn_ask(d->host->turns, &d->turn);
		return;
	}
	device_journal(d, LOG_LEVEL_WARNING, JOURNAL_PLAIN,
		       "no recovery in %u s: killing the sandbox",
		       (unsigned)(d->host->start_timeout_usec / 1000000));
	device_kill(d); /* its end is rung 2 */
	timer_arm(d, d->host->start_timeout_usec);
}

/* A lock may have gone, or a start takes too long. */
static void start_timeout(struct device *d)
{
	if (d->launched.keeper_pid == 0) {
		turn_ask(d->host->turns, &d->turn);
		return;
	}
	(void)snprintf(d->failure, sizeof(d->failure), "it was not ready in %u s",
		       (unsigned)(d->host->start_timeout_usec / 1000000));
	device_journal(d, LOG_LEVEL_WARNING, JOURNAL_PLAIN,
		       "not ready in %u s: killing the sandbox",
		       (unsigned)(d->host->start_timeout_usec / 1000000));
	device_kill(d); /* its end is the failure */
	timer_arm(d, d->host->start_timeout_usec);
}

/* Its turn to be launched: for a start, or for rung 2. */
static void take_turn(void *arg)
{
	struct device *d = arg;

	if (launch(d) >= 0)
		return;
	if (d->state == DEVICE_RECOVERING)
		recover_afresh(d);
	else
		fail(d);
}

/* ---- the table ---- */

typedef void (*cell)(struct device *d);

/* An event of the contract that comes while the device stops is late, not wrong. */
static const cell table[N_DEVICE_STATES][N_DEVICE_EVENTS] = {
	[DEVICE_STOPPED] = {
		[DEVICE_EVENT_START] = start,
		[DEVICE_EVENT_STOP] = nothing,
		[DEVICE_EVENT_RESTART] = start,
	},
	[DEVICE_STARTING] = {
		[DEVICE_EVENT_START] = nothing,
		[DEVICE_EVENT_STOP] = stop,
		[DEVICE_EVENT_RESTART] = restart,
		[DEVICE_EVENT_READY] = serve,
		[DEVICE_EVENT_DIED] = count_death,
		[DEVICE_EVENT_ENDED] = fail,
		[DEVICE_EVENT_GAVE_UP] = fail,
		[DEVICE_EVENT_TIMEOUT] = start_timeout,
	},
	[DEVICE_READY] = {
		[DEVICE_EVENT_START] = nothing,
		[DEVICE_EVENT_STOP] = stop,
		[DEVICE_EVENT_RESTART] = restart,
		[DEVICE_EVENT_READY] = nothing, /* the next session's worker */
		[DEVICE_EVENT_FRONTEND_CAME] = connect_frontend,
		[DEVICE_EVENT_DIED] = recover,
		[DEVICE_EVENT_RECOVERED] = nothing, /* READY has come first */
		[DEVICE_EVENT_ENDED] = recover_afresh,
		[DEVICE_EVENT_GAVE_UP] = fail,
	},
	[DEVICE_CONNECTED] = {
		[DEVICE_EVENT_START] = nothing,
		[DEVICE_EVENT_STOP] = stop,
		[DEVICE_EVENT_RESTART] = restart,
		[DEVICE_EVENT_READY] = nothing,
		[DEVICE_EVENT_FRONTEND_CAME] = nothing, /* told again by the next worker */
		[DEVICE_EVENT_FRONTEND_WENT] = disconnect_frontend,
		[DEVICE_EVENT_DIED] = recover,
		[DEVICE_EVENT_RECOVERED] = nothing, /* without a death in between: told twice */
		[DEVICE_EVENT_ENDED] = recover_afresh,
		[DEVICE_EVENT_GAVE_UP] = fail,
	},
	[DEVICE_RECOVERING] = {
		[DEVICE_EVENT_START] = nothing,
		[DEVICE_EVENT_STOP] = stop,
		[DEVICE_EVENT_RESTART] = restart,
		[DEVICE_EVENT_READY] = ready_again,
		[DEVICE_EVENT_FRONTEND_CAME] = connect_frontend,
		[DEVICE_EVENT_FRONTEND_WENT] = disconnect_frontend,
		[DEVICE_EVENT_DIED] = recover,
		[DEVICE_EVENT_RECOVERED] = recovered,
		[DEVICE_EVENT_ENDED] = recover_afresh,
		[DEVICE_EVENT_GAVE_UP] = fail,
		[DEVICE_EVENT_TIMEOUT] = recovery_timeout,
	},
	[DEVICE_STOPPING] = {
		[DEVICE_EVENT_START] = come_again,
		[DEVICE_EVENT_STOP] = stay_stopped,
		[DEVICE_EVENT_RESTART] = come_again,
		[DEVICE_EVENT_READY] = nothing,
		[DEVICE_EVENT_FRONTEND_CAME] = nothing,
		[DEVICE_EVENT_FRONTEND_WENT] = nothing,
		[DEVICE_EVENT_DIED] = nothing,
		[DEVICE_EVENT_RECOVERED] = nothing,
		[DEVICE_EVENT_ENDED] = end_stopping,
		[DEVICE_EVENT_GAVE_UP] = end_stopping,
		[DEVICE_EVENT_TIMEOUT] = kill_what_does_not_stop,
	},
	[DEVICE_FAILED] = {
		[DEVICE_EVENT_START] = start,
		[DEVICE_EVENT_STOP] = clear,
		[DEVICE_EVENT_RESTART] = start,
	},
};

bool device_handle(struct device *d, enum device_event event)
{
	cell act = table[d->state][event];

	if (!act)
		return false;
	act(d);
	return true;
}

/* ---- life ---- */

/* A guest that is there, with a driver or not: its device is served. */
static int offer_guest(void *arg, const struct broker_call *call, int fd)
{
	struct device *d = arg, *peer = d->host->find_guest(d->host->arg, d, call->cid);

	if (!peer || (peer->state != DEVICE_CONNECTED && peer->state != DEVICE_RECOVERING))
		return -EHOSTUNREACH;
	return broker_incoming(peer->broker, d->config->cid, call, fd);
}

static int broker_for(struct device *d)
{
	const struct broker_spec spec = {
		.event = d->host->event,
		.priority = PRIORITY_ASKERS,
		.offer = offer_guest,
		.arg = d,
	};

	return broker_new(&spec, &d->broker);
}

int device_new(const struct device_host *host, const struct device_config *config,
	       uint32_t uid_index, struct device **ret)
{
	struct device *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->host = host;
	d->uid_index = uid_index;
	d->listen_fd = -1;
	d->launched =
		(struct launched){ .pidfd = -1, .control_fd = -1, .log_fd = -1, .cgroup_fd = -1 };
	d->since_usec = clock_usec(CLOCK_REALTIME);
	d->death_rate = (struct log_rate){ .interval_ns = 10000000000, .burst = 10 };
	d->protocol_rate = (struct log_rate){ .interval_ns = 10000000000, .burst = 10 };
	d->refuse_rate = (struct log_rate){ .interval_ns = 10000000000, .burst = 5 };
	lines_init(&d->lines);
	turn_init(&d->turn, take_turn, d);
	d->config = device_config_copy(config);
	if (!d->config || (config->type == DEVICE_TYPE_VSOCK && broker_for(d) < 0)) {
		device_free(d);
		return -ENOMEM;
	}
	(void)snprintf(d->socket_path, sizeof(d->socket_path), "%s/%s/%s.sock", host->runtime_dir,
		       config->vm, config->name);
	*ret = d;
	return 0;
}

struct device *device_free(struct device *d)
{
	siginfo_t info;

	if (!d)
		return NULL;
	if (d->launched.keeper_pid) {
		device_kill(d);
		(void)waitid(P_PIDFD, (id_t)d->launched.pidfd, &info, WEXITED);
		device_forget(d);
	}
	socket_close(d);
	device_release(d);
	turn_give_up(&d->turn);
	sd_event_source_disable_unref(d->timer);
	broker_free(d->broker);
	device_config_free(d->config);
	device_config_free(d->next_config);
	free(d);
	return NULL;
}

void device_kill_now(struct device *d)
{
	device_kill(d);
}

int device_check_reconfigure(const struct device *d, char **ret_error)
{
	*ret_error = NULL;
	return d->listen_fd >= 0 ? listener_find(d->socket_path, ret_error) : 0;
}

int device_reconfigure(struct device *d, const struct device_config *config, char **ret_error)
{
	struct device_config *copy = device_config_copy(config);
	int r = 0;

	*ret_error = NULL;
	if (!copy)
		return -ENOMEM;
	if (d->listen_fd >= 0)
		r = listener_set_owner(d->socket_path, &config->socket, ret_error);
	if (r == 0 && d->listen_fd >= 0 && d->broker)
		r = broker_set_owner(d->broker, &config->socket, ret_error);
	if (r < 0) {
		device_config_free(copy);
		return r;
	}
	device_config_free(d->next_config);
	d->next_config = copy;
	return 0;
}

const struct device_config *device_config(const struct device *d)
{
	return d->next_config ? d->next_config : d->config;
}

const struct device_config *device_config_running(const struct device *d)
{
	return d->config;
}

uint32_t device_uid_index(const struct device *d)
{
	return d->uid_index;
}

enum device_state device_state(const struct device *d)
{
	return d->state;
}

bool device_is_settled(const struct device *d)
{
	switch (d->state) {
	case DEVICE_STOPPED:
	case DEVICE_READY:
	case DEVICE_CONNECTED:
	case DEVICE_FAILED:
		return true;
	case DEVICE_STARTING:
	case DEVICE_RECOVERING:
	case DEVICE_STOPPING:
	case N_DEVICE_STATES:
		break;
	}
	return false;
}

const char *device_reason(const struct device *d)
{
	return d->reason;
}
