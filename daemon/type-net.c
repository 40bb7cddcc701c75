/*
 * Network devices: frames between a guest and a host side, which one key of several chooses.
 *
 * Runs in: vmdevd. Trusts: see type.h.
 *
 * A host side is a row of sides[] below: its key, and what vmdevd opens for it.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config-private.h"
#include "daemon/device.h"
#include "daemon/type.h"
#include "devices/process/contract.h"

enum { MAC_TEXT_LEN = sizeof("00:00:00:00:00:00") };

static const struct key null_keys[] = {
	{ "generate", "a whole number from 14 to 65000", take_number,
	  offsetof(struct device_config, generate), .min = 14, .max = 65000 },
	{ 0 },
};

#define INTERFACE_FORM "1 to 15 letters, digits, '_', '.' or '-'"

static const struct key tap_keys[] = {
	{ "name", "the name of an interface: " INTERFACE_FORM, take_interface,
	  offsetof(struct device_config, tap_name), .required = true },
	{ "bridge", "the name of a bridge: " INTERFACE_FORM, take_interface,
	  offsetof(struct device_config, tap_bridge) },
	{ "addresses", "an array of 1 to 16 IP addresses", take_addresses,
	  offsetof(struct device_config, lan) },
	{ 0 },
};

static const struct key switch_keys[] = {
	{ "name", "1 to 63 letters, digits, '_', '.' or '-', the first one a letter or a digit",
	  take_switch_name, offsetof(struct device_config, lan.name), .required = true },
	{ "bind", "true or false", take_bool, offsetof(struct device_config, lan.bind) },
	{ "vlan", "a whole number from 1 to 4094", take_number,
	  offsetof(struct device_config, lan.access), .min = 1, .max = 4094 },
	{ "trunk", "an array of 1 to 64 numbers from 1 to 4094, and ranges such as \"10-19\"",
	  take_trunk, offsetof(struct device_config, lan) },
	{ "native", "a whole number from 1 to 4094", take_number,
	  offsetof(struct device_config, lan.native), .min = 1, .max = 4094 },
	{ "addresses", "an array of 1 to 16 IP addresses", take_addresses,
	  offsetof(struct device_config, lan) },
	{ 0 },
};

static const struct key user_keys[] = {
	{ "address", "an IPv4 address with a prefix, such as \"10.0.2.15/24\"", take_user_address,
	  offsetof(struct device_config, user) },
	{ "gateway", "an IPv4 address", take_ipv4, offsetof(struct device_config, user.gateway) },
	{ "address6", "an IPv6 address", take_ipv6, offsetof(struct device_config, user.address6) },
	{ "gateway6", "an IPv6 address", take_ipv6, offsetof(struct device_config, user.gateway6) },
	{ "interface", "the name of an interface, of 1 to 15 bytes", take_user_interface,
	  offsetof(struct device_config, user.interface) },
	{ "dns", "an array of up to 8 IP addresses", take_dns,
	  offsetof(struct device_config, user) },
	{ "host-loopback", "true or false", take_bool,
	  offsetof(struct device_config, user.host_loopback) },
	{ "forward",
	  "an array of up to 64 objects with host, a port, and guest, protocol (\"tcp\" or "
	  "\"udp\") and address, no port of the host's twice",
	  take_user_forward, offsetof(struct device_config, user) },
	{ 0 },
};

static const struct key keys[] = {
	{ "tap", "an object with name and, perhaps, bridge and addresses", take_side, 0,
	  .members = tap_keys },
	{ "switch", "an object with name, bind, vlan, trunk, native and addresses", take_side, 0,
	  .members = switch_keys },
	{ "user",
	  "an object with address, gateway, address6, gateway6, interface, dns, host-loopback and "
	  "forward",
	  take_side, 0, .members = user_keys },
	{ "null", "an object, empty or with generate", take_side, 0, .members = null_keys },
	{ "mac", "an address such as \"52:54:00:12:34:56\"", take_mac,
	  offsetof(struct device_config, mac) },
	{ "mac-filter", "true or false", take_bool, offsetof(struct device_config, mac_filter) },
	{ "mtu", "a whole number from 68 to 65535", take_number,
	  offsetof(struct device_config, mtu), .min = 68, .max = 65535 },
	{ "speed", "a whole number of Mbit/s, from 1 to 2147483647", take_number,
	  offsetof(struct device_config, speed), .min = 1, .max = INT32_MAX },
	{ "queues", "a whole number from 1 to 31", take_number,
	  offsetof(struct device_config, queues), .min = 1, .max = CONTRACT_NET_MAX_PAIRS },
	{ "limits", "an object with cpu, memory, pids, iops and bandwidth", take_object,
	  offsetof(struct device_config, limits), .members = io_limits_keys },
	{ 0 },
};

struct side {
	const char *name;
	void (*argv)(const struct device_config *config, struct argv *argv);
	void (*json)(const struct device_config *config, json_object *object);
	void (*resource)(const struct device_host *host, const struct device_config *config,
			 union type_resource *room, struct launch_resource *ret);
	void (*release)(const struct device_config *config);
};

/* null: nothing of the host's */

static void null_argv(const struct device_config *c, struct argv *argv)
{
	if (c->generate)
		argv_add(argv, "--generate=%" PRIu64, c->generate);
}

static void null_json(const struct device_config *c, json_object *object)
{
	json_put_number(object, "generate", c->generate);
}

static int nothing_check(const void *what, char **ret_error)
{
	return 0;
}

static int nothing_open(const void *what, uint32_t uid_index, int *ret_fds, char **ret_error)
{
	return 0;
}

static void null_resource(const struct device_host *host, const struct device_config *config,
			  union type_resource *room, struct launch_resource *ret)
{
	ret->check = nothing_check;
	ret->open = nothing_open;
}

/* tap */

static const char *address_text(const uint8_t *address, char room[INET6_ADDRSTRLEN])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool is_v4 = memcmp(address, mapped, sizeof(mapped)) == 0;

	room[0] = '\0';
	(void)inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? address + sizeof(mapped) : address,
			room, INET6_ADDRSTRLEN);
	return room;
}

static json_object *addresses_to_json(const struct switch_config *c)
{
	json_object *addresses = json_object_new_array();
	char room[INET6_ADDRSTRLEN];

	for (uint32_t i = 0; i < c->n_addresses; i++)
		json_object_array_add(addresses,
				      json_object_new_string(address_text(c->addresses[i], room)));
	return addresses;
}

/* The device itself is the filter. */
static void tap_argv(const struct device_config *c, struct argv *argv)
{
	char room[INET6_ADDRSTRLEN];

	for (uint32_t i = 0; i < c->lan.n_addresses; i++)
		argv_add(argv, "--address=%s", address_text(c->lan.addresses[i], room));
}

static void tap_json(const struct device_config *c, json_object *object)
{
	json_put_text(object, "tap", c->tap_name);
	json_put_text(object, "bridge", c->tap_bridge);
	if (c->lan.n_addresses)
		json_object_object_add(object, "addresses", addresses_to_json(&c->lan));
}

#define QUEUE_REASON "one queue of its interface: the network, as far as frames go there"
#define QUEUE_ROW(i)                                                                               \
	{                                                                                          \
		"tap queue", CONTRACT_FD_NET_QUEUE + (i), QUEUE_REASON                             \
	}

static const struct plan_resource tap_queues[CONTRACT_NET_MAX_PAIRS] = {
	QUEUE_ROW(0),  QUEUE_ROW(1),  QUEUE_ROW(2),  QUEUE_ROW(3),  QUEUE_ROW(4),  QUEUE_ROW(5),
	QUEUE_ROW(6),  QUEUE_ROW(7),  QUEUE_ROW(8),  QUEUE_ROW(9),  QUEUE_ROW(10), QUEUE_ROW(11),
	QUEUE_ROW(12), QUEUE_ROW(13), QUEUE_ROW(14), QUEUE_ROW(15), QUEUE_ROW(16), QUEUE_ROW(17),
	QUEUE_ROW(18), QUEUE_ROW(19), QUEUE_ROW(20), QUEUE_ROW(21), QUEUE_ROW(22), QUEUE_ROW(23),
	QUEUE_ROW(24), QUEUE_ROW(25), QUEUE_ROW(26), QUEUE_ROW(27), QUEUE_ROW(28), QUEUE_ROW(29),
	QUEUE_ROW(30),
};

static void tap_resource(const struct device_host *host, const struct device_config *config,
			 union type_resource *room, struct launch_resource *ret)
{
	room->tap = (struct tap){ .name = config->tap_name,
				  .bridge = config->tap_bridge,
				  .mtu = (uint32_t)config->mtu,
				  .n_queues = (uint32_t)config->queues };
	ret->plan.resources = tap_queues;
	ret->plan.n_resources = (uint32_t)config->queues;
	ret->check = tap_check;
	ret->open = tap_open;
	ret->what = &room->tap;
}

static void release_tap(const struct device_config *config)
{
	tap_release(config->tap_name);
}

/* switch, user: a port of a network (network.h) */

static void port_argv(const struct device_config *c, struct argv *argv)
{
}

static void user_argv(const struct device_config *c, struct argv *argv)
{
	if (!c->mtu)
		argv_add(argv, "--mtu=%d", CONFIG_USER_MAX_MTU);
}

/* 10, or "10-19". */
static json_object *range_to_json(const struct vlan_range *range)
{
	char text[16];

	if (range->first == range->last)
		return json_object_new_int(range->first);
	(void)snprintf(text, sizeof(text), "%u-%u", range->first, range->last);
	return json_object_new_string(text);
}

static void switch_json(const struct device_config *c, json_object *object)
{
	json_object *lan = json_object_new_object(), *trunk = json_object_new_array();

	json_put_text(lan, "name", c->lan.name);
	json_put_bool(lan, "bind", c->lan.bind);
	json_put_number(lan, "vlan", c->lan.access);
	json_put_number(lan, "native", c->lan.native);
	for (uint32_t i = 0; i < c->lan.n_trunk; i++)
		json_object_array_add(trunk, range_to_json(&c->lan.trunk[i]));
	json_object_object_add(lan, "trunk", trunk);
	json_object_object_add(lan, "addresses", addresses_to_json(&c->lan));
	json_object_object_add(object, "switch", lan);
}

static json_object *forward_to_json(const struct user_forward *f)
{
	json_object *object = json_object_new_object();

	json_put_text(object, "protocol", f->udp ? "udp" : "tcp");
	json_put_text(object, "address", f->address);
	json_put_number(object, "host", f->host);
	json_put_number(object, "guest", f->guest);
	return object;
}

static void user_json(const struct device_config *c, json_object *object)
{
	json_object *user = json_object_new_object(), *forward = json_object_new_array();
	json_object *dns = c->user.has_dns ? json_object_new_array() : NULL; /* the host's */

	json_put_text(user, "address", c->user.address);
	json_put_text(user, "gateway", c->user.gateway);
	json_put_text(user, "address6", c->user.address6);
	json_put_text(user, "gateway6", c->user.gateway6);
	json_put_text(user, "interface", c->user.interface);
	for (uint32_t i = 0; i < c->user.n_dns; i++)
		json_object_array_add(dns, json_object_new_string(c->user.dns[i]));
	json_object_object_add(user, "dns", dns);
	json_put_bool(user, "host_loopback", c->user.host_loopback);
	for (uint32_t i = 0; i < c->user.n_forwards; i++)
		json_object_array_add(forward, forward_to_json(&c->user.forward[i]));
	json_object_object_add(user, "forward", forward);
	json_object_object_add(object, "user", user);
}

static int port_check(const void *what, char **ret_error)
{
	const struct type_port *p = what;

	return networks_check(p->networks, &p->port, ret_error);
}

static int port_open(const void *what, uint32_t uid_index, int *ret_fds, char **ret_error)
{
	const struct type_port *p = what;

	return networks_plug(p->networks, &p->port, ret_fds, ret_error);
}

static void fill_mac(const struct device_config *c, uint8_t *mac);

static void port_resource(const struct device_host *host, const struct device_config *c,
			  union type_resource *room, struct launch_resource *ret)
{
	struct type_port *p = &room->port;
	uint32_t n = (uint32_t)c->queues;

	*p = (struct type_port){
		.networks = host->networks,
		.port = { .vm = c->vm,
			  .device = c->name,
			  .n_queues = n,
			  .mtu = c->mtu ? (uint32_t)c->mtu : CONFIG_USER_MAX_MTU },
		.fds = { { "port", CONTRACT_FD_NET_MEMORY,
			   "frames, to and from the switch: the one thing that is shared with it" },
			 { "kick", CONTRACT_FD_NET_KICK, "wakes the switch" } },
	};
	if (strcmp(c->side, "switch") == 0)
		p->port.lan = &c->lan;
	else
		p->port.user = &c->user;
	fill_mac(c, p->port.mac);
	for (uint32_t q = 0; q < n; q++)
		p->fds[2 + q] = (struct plan_resource){ "queue", CONTRACT_FD_NET_QUEUE + (int)q,
							"the switch wakes this queue's thread" };
	ret->plan.resources = p->fds;
	ret->plan.n_resources = 2 + n;
	ret->check = port_check;
	ret->open = port_open;
	ret->what = p;
}

static const struct side sides[] = {
	{ "null", null_argv, null_json, null_resource, NULL },
	{ "tap", tap_argv, tap_json, tap_resource, release_tap },
	{ "switch", port_argv, switch_json, port_resource, NULL },
	{ "user", user_argv, user_json, port_resource, NULL },
};

static const struct side *side_of(const struct device_config *config)
{
	for (size_t i = 0; i < sizeof(sides) / sizeof(*sides); i++)
		if (strcmp(sides[i].name, config->side) == 0)
			return &sides[i];
	return NULL;
}

static bool defaults(struct device_config *config)
{
	config->lan.bind = true;
	return true;
}

static const char *check(const struct device_config *c)
{
	if (c->mac_filter && !c->mac)
		return "\"mac-filter\" needs to know the guest's address; expected \"mac\" with it";
	if (!c->side)
		return "the device is connected to nothing; expected one of the keys \"tap\", "
		       "\"switch\", \"user\" and \"null\"";
	if (c->lan.access && (c->lan.n_trunk || c->lan.native))
		return "\"vlan\" is for a port that has one VLAN; expected \"trunk\" and "
		       "\"native\" without it";
	if (c->lan.native && !c->lan.n_trunk)
		return "\"native\" is for a trunk; expected \"trunk\" with it, or \"vlan\"";
	if (c->lan.n_addresses && strcmp(c->side, "tap") == 0 && !c->mac_filter)
		return "\"addresses\" needs a device that is bound to its MAC address; expected "
		       "\"mac-filter\": true with it";
	if (c->lan.n_addresses && !c->lan.bind)
		return "\"addresses\" needs a port that is bound to its MAC address; expected "
		       "\"bind\": true with it";
	if (strcmp(c->side, "user") == 0 && c->mtu > CONFIG_USER_MAX_MTU)
		return "with \"user\" an MTU has at most 32768 bytes";
	return NULL;
}

/*
 * Without an address in the document, one that stays the same as long as the names do: QEMU's
 * prefix and a hash (FNV-1a) of VM/DEVICE.
 */
static const char *mac_of(const struct device_config *c, char *room)
{
	uint32_t hash = 2166136261u;

	if (c->mac)
		return c->mac;
	for (const char *p = c->full_name; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	hash ^= hash >> 24;
	(void)snprintf(room, MAC_TEXT_LEN, "52:54:00:%02x:%02x:%02x", hash >> 16 & 0xff,
		       hash >> 8 & 0xff, hash & 0xff);
	return room;
}

static void fill_mac(const struct device_config *c, uint8_t *mac)
{
	char room[MAC_TEXT_LEN];

	(void)sscanf(mac_of(c, room), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &mac[0], &mac[1],
		     &mac[2], &mac[3], &mac[4], &mac[5]);
}

static void argv(const struct device_config *c, struct argv *argv)
{
	char room[MAC_TEXT_LEN];

	argv_add(argv, "--side=%s", c->side);
	argv_add(argv, "--mac=%s", mac_of(c, room));
	if (c->mac_filter)
		argv_add(argv, "--mac-filter");
	if (c->mtu)
		argv_add(argv, "--mtu=%" PRIu64, c->mtu);
	if (c->speed)
		argv_add(argv, "--speed=%" PRIu64, c->speed);
	if (c->limits.iops)
		argv_add(argv, "--iops=%" PRIu64, c->limits.iops);
	if (c->limits.bandwidth)
		argv_add(argv, "--bandwidth=%" PRIu64, c->limits.bandwidth);
	side_of(c)->argv(c, argv);
}

static void json(const struct device_config *config, json_object *object)
{
	char room[MAC_TEXT_LEN];

	json_put_text(object, "side", config->side);
	json_put_text(object, "mac", mac_of(config, room));
	json_put_bool(object, "mac_filter", config->mac_filter);
	json_put_number(object, "mtu", config->mtu);
	json_put_number(object, "speed", config->speed);
	side_of(config)->json(config, object);
}

static struct launch_resource resource(const struct device_host *host,
				       const struct device_config *config,
				       union type_resource *room)
{
	struct launch_resource r = {
		.plan = { .type = "net", .ids = PLAN_IDS_ONE, .fd_limit = CONTRACT_FD_LIMIT },
	};

	side_of(config)->resource(host, config, room, &r);
	return r;
}

static void release(const struct device_config *config)
{
	if (side_of(config)->release)
		side_of(config)->release(config);
}

static bool clash(const struct device_config *a, const struct device_config *b)
{
	return a->tap_name && b->tap_name && strcmp(a->tap_name, b->tap_name) == 0;
}

static json_object *tap_of(const struct device_config *config)
{
	return json_object_new_string(config->tap_name);
}

static const struct type_single singles[] = {
	{ .clash = clash,
	  .key = "tap",
	  .what = "the interface",
	  .expected = "one of its own",
	  .value = tap_of },
	{ 0 },
};

const struct type type_net = {
	.name = "net",
	.keys = keys,
	.defaults = defaults,
	.check = check,
	.argv = argv,
	.json = json,
	.singles = singles,
	.resource = resource,
	.release = release,
};
