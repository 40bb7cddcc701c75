/*
 * A device as the JSON object that `vmdevctl --json` shows. Its keys are a promise to scripts: they
 * may be added to, never changed.
 *
 * Runs in: vmdevd.
 * Trusts:  texts have been cleaned where they came in.
 */
#include <stdio.h>
#include <stdlib.h>

#include "daemon/device-private.h"
#include "daemon/type.h"

/* 0: null. */
static void put_pid(json_object *object, const char *key, pid_t pid)
{
	json_object_object_add(object, key, pid ? json_object_new_int64(pid) : NULL);
}

json_object *device_ms_to_json(uint64_t ns)
{
	double ms = (double)ns / 1e6;
	char text[40];

	(void)snprintf(text, sizeof(text), "%.3f", ms);
	return json_object_new_double_s(ms, text);
}

static json_object *lines_to_json(const struct lines *lines)
{
	json_object *array = json_object_new_array();
	const char *line;

	for (unsigned i = 0; (line = lines_get(lines, i)) != NULL; i++)
		json_object_array_add(array, json_object_new_string(line));
	return array;
}

static void put_records(json_object *object, const struct device *d)
{
	json_put_number(object, "connections", d->n_connections);
	json_put_number(object, "restarts", d->n_restarts);
	json_put_number(object, "relaunches", d->n_relaunches);
	json_object_object_add(object, "last_recovery_ms",
			       d->has_recovered
				       ? json_object_new_double((double)d->last_recovery_ns / 1e6)
				       : NULL);
	json_put_number(object, "violations", d->n_violations);
	json_put_text(object, "last_violation", d->last_violation);
	json_put_number(object, "poisoned", d->n_poisoned);
	json_put_number(object, "protocol_errors", d->n_protocol_errors);
	json_put_number(object, "refused_messages", d->n_refused);
}

static void put_limits(json_object *object, const struct limits_config *limits)
{
	json_object *o = json_object_new_object();

	json_put_text(o, "cpu", limits->cpu);
	json_put_text(o, "memory", limits->memory);
	json_put_text(o, "pids", limits->pids);
	json_object_object_add(o, "iops",
			       limits->iops ? json_object_new_int64((int64_t)limits->iops) : NULL);
	json_object_object_add(o, "bandwidth",
			       limits->bandwidth ? json_object_new_int64((int64_t)limits->bandwidth)
						 : NULL);
	json_object_object_add(object, "limits", o);
}

static void put_restart(json_object *object, const struct restart_config *restart)
{
	json_object *o = json_object_new_object();

	json_put_number(o, "limit", restart->limit);
	json_put_number(o, "interval_usec", restart->interval_usec);
	json_put_number(o, "backoff_usec", restart->backoff_usec);
	json_put_number(o, "hang_timeout_usec", restart->hang_timeout_usec);
	json_object_object_add(object, "restart", o);
}

json_object *device_to_json(const struct device *d)
{
	json_object *object = json_object_new_object();

	if (!object)
		return NULL;
	json_put_text(object, "name", d->config->full_name);
	json_put_text(object, "vm", d->config->vm);
	json_put_text(object, "device", d->config->name);
	json_put_text(object, "type", device_type_to_string(d->config->type));
	json_put_text(object, "state", device_state_to_string(d->state));
	json_put_number(object, "since_usec", d->since_usec);
	json_object_object_add(object, "connected", json_object_new_boolean(d->frontend));
	put_pid(object, "pid", d->worker_pid);
	put_pid(object, "keeper_pid", d->launched.keeper_pid);
	json_put_number(object, "generation", d->generation);
	put_records(object, d);
	json_put_text(object, "socket", d->socket_path);
	json_put_text(object, "policy",
		      d->config->policy ? d->config->policy
					: device_type_to_string(d->config->type));
	json_put_text(object, "policy_wider", d->policy_wider);
	json_put_number(object, "uid", (uint64_t)PLAN_UID_BASE + d->uid_index);
	json_put_number(object, "queues", d->config->queues);
	json_put_number(object, "queue_size", d->config->queue_size);
	type_get(d->config->type)->json(d->config, object);
	put_limits(object, &d->config->limits);
	put_restart(object, &d->config->restart);
	json_put_text(object, "reason", d->reason);
	json_object_object_add(object, "log", lines_to_json(&d->lines));
	return object;
}
