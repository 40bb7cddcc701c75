/*
 * vsock devices: sockets between programs in the guest and on the host.
 *
 * Runs in: vmdevd. Trusts: see type.h.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config-private.h"
#include "daemon/device.h"
#include "daemon/type.h"
#include "devices/process/contract.h"

#define PORTS_FORM "an array of at most 32 ports, such as 1024, and ranges, such as \"5000-5999\""

static const struct key ports_keys[] = {
	{ "host", PORTS_FORM, take_port_list, offsetof(struct vsock_ports, host) },
	{ "guest", PORTS_FORM, take_port_list, offsetof(struct vsock_ports, guest) },
	{ 0 },
};

static const struct key keys[] = {
	{ "cid", "a whole number from 3 to 4294967294, or \"auto\"", take_cid },
	{ "uds", "the absolute path of a socket, at most 96 bytes", take_uds,
	  offsetof(struct device_config, uds) },
	{ "listen",
	  "an array of at most 32 objects with port and path, or port and fd; each port once",
	  take_listens, offsetof(struct device_config, listens) },
	{ "ports", "an object with host and guest", take_object,
	  offsetof(struct device_config, ports), .members = ports_keys },
	{ "group", "1 to 63 letters, digits, '_', '.' or '-', the first one a letter or a digit",
	  take_label, offsetof(struct device_config, group) },
	{ "forward", "an array of at most 8 CIDs, none of them 2", take_forward,
	  offsetof(struct device_config, forward) },
	{ "limits", "an object with cpu, memory and pids", take_object,
	  offsetof(struct device_config, limits), .members = cgroup_limits_keys },
	{ 0 },
};

static bool defaults(struct device_config *config)
{
	config->cid_auto = true;
	return true;
}

static const char *check(const struct device_config *c)
{
	if (!c->uds && c->listens.n == 0 && !c->group && c->forward.n == 0)
		return "nobody could be reached by it; expected \"uds\", \"listen\", \"group\" or "
		       "\"forward\"";
	return NULL;
}

static void ports_to_text(const struct port_list *list, char *text, size_t size)
{
	size_t at = 0;

	(void)snprintf(text, size, "%s", list->limited ? "none" : "all");
	for (uint32_t i = 0; list->limited && i < list->n && at < size; i++)
		at += (size_t)snprintf(text + at, size - at, "%s%u-%u", i ? "," : "",
				       list->ranges[i].first, list->ranges[i].last);
}

static void argv(const struct device_config *c, struct argv *argv)
{
	char ports[CONFIG_MAX_PORT_RANGES * 24];

	argv_add(argv, "--guest-cid=%" PRIu64, c->cid);
	ports_to_text(&c->ports.guest, ports, sizeof(ports));
	argv_add(argv, "--guest-ports=%s", ports);
}

static json_object *listens_to_json(const struct vsock_listens *listens)
{
	json_object *array = json_object_new_array();

	for (uint32_t i = 0; i < listens->n; i++) {
		json_object *entry = json_object_new_object();

		json_put_number(entry, "port", listens->entries[i].port);
		if (listens->entries[i].path[0])
			json_put_text(entry, "path", listens->entries[i].path);
		else
			json_put_text(entry, "fd", listens->entries[i].fd_name);
		json_object_array_add(array, entry);
	}
	return array;
}

static json_object *ports_to_json(const struct port_list *list)
{
	json_object *array = list->limited ? json_object_new_array() : NULL;

	for (uint32_t i = 0; i < list->n; i++) {
		char text[32];

		(void)snprintf(text, sizeof(text), "%u-%u", list->ranges[i].first,
			       list->ranges[i].last);
		json_object_array_add(array, json_object_new_string(text));
	}
	return array;
}

static void json(const struct device_config *c, json_object *object)
{
	json_object *ports = json_object_new_object(), *forward = json_object_new_array();

	json_put_number(object, "cid", c->cid);
	json_put_bool(object, "cid_auto", c->cid_auto);
	json_put_text(object, "uds", c->uds);
	json_object_object_add(object, "listen", listens_to_json(&c->listens));
	json_object_object_add(ports, "host", ports_to_json(&c->ports.host));
	json_object_object_add(ports, "guest", ports_to_json(&c->ports.guest));
	json_object_object_add(object, "ports", ports);
	json_put_text(object, "group", c->group);
	for (uint32_t i = 0; i < c->forward.n; i++)
		json_object_array_add(forward, json_object_new_int64((int64_t)c->forward.cids[i]));
	json_object_object_add(object, "forward", forward);
}

/* Two guests with one address. Those that are to be given one get different ones (cids.h). */
static bool clash(const struct device_config *a, const struct device_config *b)
{
	return a->cid != 0 && a->cid == b->cid;
}

static bool clash_of_uds(const struct device_config *a, const struct device_config *b)
{
	return a->uds && b->uds && strcmp(a->uds, b->uds) == 0;
}

static json_object *uds_of(const struct device_config *config)
{
	return json_object_new_string(config->uds);
}

static json_object *cid_of(const struct device_config *config)
{
	return json_object_new_int64((int64_t)config->cid);
}

static const struct type_single singles[] = {
	{ .clash = clash,
	  .key = "cid",
	  .what = "the CID",
	  .expected = "one of its own, or \"auto\"",
	  .value = cid_of },
	{ .clash = clash_of_uds,
	  .key = "uds",
	  .what = "the socket",
	  .expected = "one of its own",
	  .value = uds_of },
	{ 0 },
};

static const struct plan_resource resources[] = {
	{ "stream", CONTRACT_FD_VSOCK_STREAM,
	  "host programs connect here; /dev/null without a uds" },
	{ "seqpacket", CONTRACT_FD_VSOCK_SEQPACKET, "those that send messages connect here" },
	{ "broker", CONTRACT_FD_VSOCK_BROKER,
	  "vmdevd makes the connections that the guest asks for: the device makes no socket" },
};

static struct launch_resource resource(const struct device_host *host,
				       const struct device_config *config,
				       union type_resource *room)
{
	room->vsock =
		(struct broker_resource){ .config = config, .runtime_dir = host->runtime_dir };
	return (struct launch_resource){
		.plan = { .type = "vsock",
			  .ids = PLAN_IDS_ONE,
			  .fd_limit = CONTRACT_FD_LIMIT_VSOCK,
			  .resources = resources,
			  .n_resources = sizeof(resources) / sizeof(resources[0]) },
		.check = broker_check,
		.open = broker_open,
		.what = &room->vsock,
	};
}

const struct type type_vsock = {
	.name = "vsock",
	.keys = keys,
	.defaults = defaults,
	.check = check,
	.argv = argv,
	.json = json,
	.singles = singles,
	.resource = resource,
};
