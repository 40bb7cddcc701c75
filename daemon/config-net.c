/*
 * The forms of values that say what a net device is connected to (config-net.h).
 *
 * Runs in: vmdevd.
 * Trusts:  nothing in a document.
 */
#include "daemon/config-net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config-private.h"
#include "devices/base/parse.h"

enum { VLAN_MAX = 4094 };

static bool text_set(char *room, size_t size, const char *text)
{
	if (strlen(text) >= size)
		return false;
	(void)snprintf(room, size, "%s", text);
	return true;
}

/* Each element of an array of 1 (or min) to max by a function of its own. */
static bool take_each(json_object *value, size_t min, size_t max,
		      bool (*one)(json_object *element, void *arg), void *arg)
{
	if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) < min ||
	    json_object_array_length(value) > max)
		return false;
	for (size_t i = 0; i < json_object_array_length(value); i++)
		if (!one(json_object_array_get_idx(value, i), arg))
			return false;
	return true;
}

/* ---- switch ---- */

bool take_switch_name(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		      void *target)
{
	const char *text = string_of(value);

	return text && config_name_is_valid(text) &&
	       text_set(target_at(key, target), sizeof(((struct switch_config *)0)->name), text);
}

/* 10, or "10-19". */
static bool take_range(json_object *element, void *arg)
{
	struct switch_config *c = arg;
	struct vlan_range *range = &c->trunk[c->n_trunk++];
	const char *text = json_object_is_type(element, json_type_int)
				   ? json_object_get_string(element)
				   : string_of(element);
	const char *dash = text ? strchr(text, '-') : NULL;
	char first[8];
	uint64_t a, b;

	if (!text)
		return false;
	(void)snprintf(first, sizeof(first), "%.*s", dash ? (int)(dash - text) : 7, text);
	if ((dash && dash - text > 6) || parse_u64(first, 1, VLAN_MAX, &a) < 0 ||
	    parse_u64(dash ? dash + 1 : text, a, VLAN_MAX, &b) < 0)
		return false;
	*range = (struct vlan_range){ (uint16_t)a, (uint16_t)b };
	return true;
}

bool take_trunk(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		void *target)
{
	struct switch_config *c = target_at(key, target);

	c->n_trunk = 0;
	return take_each(value, 1, CONTRACT_SWITCH_MAX_VLANS, take_range, c);
}

static bool take_address(json_object *element, void *arg)
{
	struct switch_config *c = arg;
	uint8_t *address = c->addresses[c->n_addresses++];
	const char *text = string_of(element);

	if (text && inet_pton(AF_INET, text, address + 12) == 1) {
		address[10] = address[11] = 0xff;
		return true;
	}
	return text && inet_pton(AF_INET6, text, address) == 1;
}

bool take_addresses(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		    void *target)
{
	struct switch_config *c = target_at(key, target);

	c->n_addresses = 0;
	return take_each(value, 1, CONTRACT_SWITCH_MAX_ADDRESSES, take_address, c);
}

/* ---- user ---- */

static bool is_ip(int family, const char *text)
{
	uint8_t address[16];

	return text && inet_pton(family, text, address) == 1;
}

static bool take_ip(int family, const struct key *key, json_object *value, void *target)
{
	const char *text = string_of(value);

	return is_ip(family, text) && text_set(target_at(key, target), CONFIG_ADDRESS_LEN, text);
}

bool take_ipv4(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	return take_ip(AF_INET, key, value, target);
}

bool take_ipv6(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	return take_ip(AF_INET6, key, value, target);
}

/* An IPv4 address with the length of its network: "10.0.2.15/24". */
bool take_user_address(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		       void *target)
{
	struct user_config *c = target_at(key, target);
	const char *text = string_of(value), *slash = text ? strchr(text, '/') : NULL;

	if (!slash || slash - text >= CONFIG_ADDRESS_LEN)
		return false;
	(void)snprintf(c->address, sizeof(c->address), "%.*s", (int)(slash - text), text);
	return is_ip(AF_INET, c->address) && parse_u64(slash + 1, 1, 32, &c->prefix) == 0;
}

/* As the kernel has names of interfaces. */
bool take_user_interface(struct reader *r, const struct key *key, json_object *value, uint32_t id,
			 void *target)
{
	const char *text = string_of(value);

	if (!text || text[0] == '\0' || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
		return false;
	for (const char *p = text; *p; p++)
		if (*p <= 0x20 || *p > 0x7e || *p == '/' || *p == ':' || *p == '%')
			return false;
	return text_set(target_at(key, target), CONFIG_INTERFACE_LEN, text);
}

static bool take_dns_one(json_object *element, void *arg)
{
	struct user_config *c = arg;
	const char *text = string_of(element);

	return (is_ip(AF_INET, text) || is_ip(AF_INET6, text)) &&
	       text_set(c->dns[c->n_dns++], CONFIG_ADDRESS_LEN, text);
}

bool take_dns(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	      void *target)
{
	struct user_config *c = target_at(key, target);

	c->n_dns = 0;
	c->has_dns = true;
	return take_each(value, 0, CONFIG_MAX_DNS, take_dns_one, c);
}

static bool port_of(json_object *value, uint16_t *ret)
{
	int64_t v = json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : 0;

	*ret = (uint16_t)v;
	return v >= 1 && v <= UINT16_MAX;
}

static bool protocol_of(json_object *value, bool *ret_udp)
{
	const char *text = string_of(value);

	*ret_udp = text && strcmp(text, "udp") == 0;
	return text && (*ret_udp || strcmp(text, "tcp") == 0);
}

static bool forward_member(struct user_forward *f, const char *name, json_object *value)
{
	const char *text = string_of(value);

	if (strcmp(name, "host") == 0)
		return port_of(value, &f->host);
	if (strcmp(name, "guest") == 0)
		return port_of(value, &f->guest);
	if (strcmp(name, "protocol") == 0)
		return protocol_of(value, &f->udp);
	return strcmp(name, "address") == 0 && (is_ip(AF_INET, text) || is_ip(AF_INET6, text)) &&
	       text_set(f->address, sizeof(f->address), text);
}

/* The same port of the host's twice is for one of the two to fail. */
static bool clashes(const struct user_config *c, const struct user_forward *f)
{
	for (uint32_t i = 0; i < c->n_forwards; i++) {
		const struct user_forward *o = &c->forward[i];

		if (o->udp == f->udp && o->host == f->host &&
		    (!o->address[0] || !f->address[0] || strcmp(o->address, f->address) == 0))
			return true;
	}
	return false;
}

static bool take_forward_one(json_object *element, void *arg)
{
	struct user_config *c = arg;
	struct user_forward f = { 0 };

	if (!json_object_is_type(element, json_type_object))
		return false;
	json_object_object_foreach (element, name, value)
		if (!forward_member(&f, name, value))
			return false;
	if (f.guest == 0)
		f.guest = f.host;
	if (f.host == 0 || clashes(c, &f))
		return false;
	c->forward[c->n_forwards++] = f;
	return true;
}

bool take_user_forward(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		       void *target)
{
	struct user_config *c = target_at(key, target);

	c->n_forwards = 0;
	return take_each(value, 0, CONFIG_USER_MAX_FORWARDS, take_forward_one, c);
}
