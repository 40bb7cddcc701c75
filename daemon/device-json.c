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

static void put_text(json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, text && text[0] ? json_object_new_string(text) : NULL);
}

static void put_number(json_object *object, const char *key, uint64_t v)
{
	json_object_object_add(object, key, json_object_new_int64((int64_t)v));
}

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

static void put_blk(json_object *object, const struct device_config *config)
{
	put_text(object, "path", config->path);
	json_object_object_add(object, "readonly", json_object_new_boolean(config->readonly));
	put_text(object, "cache", config->cache);
	put_text(object, "serial", config->serial);
	json_object_object_add(object, "discard", json_object_new_boolean(config->discard));
	put_number(object, "queues", config->queues);
	put_number(object, "queue_size", config->queue_size);
}

static void put_records(json_object *object, const struct device *d)
{
	put_number(object, "connections", d->n_connections);
	put_number(object, "restarts", d->n_restarts);
	put_number(object, "relaunches", d->n_relaunches);
	json_object_object_add(object, "last_recovery_ms",
			       d->has_recovered
				       ? json_object_new_double((double)d->last_recovery_ns / 1e6)
				       : NULL);
	put_number(object, "violations", d->n_violations);
	put_text(object, "last_violation", d->last_violation);
	put_number(object, "poisoned", d->n_poisoned);
	put_number(object, "protocol_errors", d->n_protocol_errors);
	put_number(object, "refused_messages", d->n_refused);
}

static void put_limits(json_object *object, const struct limits_config *limits)
{
	json_object *o = json_object_new_object();

	put_text(o, "cpu", limits->cpu);
	put_text(o, "memory", limits->memory);
	put_text(o, "pids", limits->pids);
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

	put_number(o, "limit", restart->limit);
	put_number(o, "interval_usec", restart->interval_usec);
	put_number(o, "backoff_usec", restart->backoff_usec);
	put_number(o, "hang_timeout_usec", restart->hang_timeout_usec);
	json_object_object_add(object, "restart", o);
}

json_object *device_to_json(const struct device *d)
{
	json_object *object = json_object_new_object();

	if (!object)
		return NULL;
	put_text(object, "name", d->config->full_name);
	put_text(object, "vm", d->config->vm);
	put_text(object, "device", d->config->name);
	put_text(object, "type", device_type_to_string(d->config->type));
	put_text(object, "state", device_state_to_string(d->state));
	put_number(object, "since_usec", d->since_usec);
	json_object_object_add(object, "connected", json_object_new_boolean(d->frontend));
	put_pid(object, "pid", d->worker_pid);
	put_pid(object, "keeper_pid", d->launched.keeper_pid);
	put_number(object, "generation", d->generation);
	put_records(object, d);
	put_text(object, "socket", d->socket_path);
	put_text(object, "policy",
		 d->config->policy ? d->config->policy : device_type_to_string(d->config->type));
	put_number(object, "uid", UINT64_C(1900000000) + d->uid_index);
	put_blk(object, d->config);
	put_limits(object, &d->config->limits);
	put_restart(object, &d->config->restart);
	put_text(object, "reason", d->reason);
	json_object_object_add(object, "log", lines_to_json(&d->lines));
	return object;
}
