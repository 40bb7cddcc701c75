/*
 * The forms of a vsock device's values.
 *
 * Runs in: vmdevd. Trusts: nothing in a document.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config-private.h"
#include "devices/base/parse.h"

/* VIRTIO 1.3 §5.10.4: 0, 1, 2 and all ones are taken, the upper half is reserved. */
enum { FIRST_CID = 3 };

static bool whole_number(json_object *value, uint64_t min, uint64_t max, uint64_t *ret)
{
	int64_t v;

	if (!json_object_is_type(value, json_type_int))
		return false;
	v = json_object_get_int64(value);
	if (v < 0 || (uint64_t)v < min || (uint64_t)v > max)
		return false;
	*ret = (uint64_t)v;
	return true;
}

bool take_cid(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	      void *target)
{
	const char *text = string_of(value);
	struct device_config *config = target;

	if (text && strcmp(text, "auto") == 0) {
		config->cid = 0;
		return true;
	}
	config->cid_auto = false;
	return whole_number(value, FIRST_CID, UINT32_MAX - 1, &config->cid);
}

static bool is_socket_path(const char *text, size_t max)
{
	if (!text || text[0] != '/' || strlen(text) > max || text[strlen(text) - 1] == '/')
		return false;
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

static bool set_text(struct reader *r, const struct key *key, const char *text, void *target)
{
	char **p = target_at(key, target);

	free(*p);
	*p = strdup(text);
	if (!*p)
		r->failure = -ENOMEM;
	return true;
}

/* Names are made of it: UDS_4294967295, and UDS.seqpacket is no longer. */
bool take_uds(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	      void *target)
{
	const char *text = string_of(value);

	return is_socket_path(text, CONFIG_MAX_SOCKET_PATH - strlen("_4294967295")) &&
	       set_text(r, key, text, target);
}

bool take_label(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		void *target)
{
	const char *text = string_of(value);

	return text && config_name_is_valid(text) && set_text(r, key, text, target);
}

static bool listen_read(json_object *object, struct vsock_listen *ret)
{
	json_object *port, *path = NULL, *fd = NULL;
	uint64_t number;

	if (!json_object_is_type(object, json_type_object) ||
	    json_object_object_length(object) != 2 ||
	    !json_object_object_get_ex(object, "port", &port) ||
	    !whole_number(port, 0, UINT32_MAX - 1, &number))
		return false;
	ret->port = (uint32_t)number;
	if (json_object_object_get_ex(object, "path", &path)) {
		if (!is_socket_path(string_of(path), CONFIG_MAX_SOCKET_PATH))
			return false;
		(void)snprintf(ret->path, sizeof(ret->path), "%s", string_of(path));
		return true;
	}
	if (!json_object_object_get_ex(object, "fd", &fd) || !string_of(fd) ||
	    !config_name_is_valid(string_of(fd)))
		return false;
	(void)snprintf(ret->fd_name, sizeof(ret->fd_name), "%s", string_of(fd));
	return true;
}

bool take_listens(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		  void *target)
{
	struct vsock_listens listens = { 0 };

	if (!json_object_is_type(value, json_type_array) ||
	    json_object_array_length(value) > CONFIG_MAX_LISTENS)
		return false;
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		struct vsock_listen *entry = &listens.entries[listens.n++];

		if (!listen_read(json_object_array_get_idx(value, i), entry))
			return false;
		for (size_t k = 0; k < i; k++) {
			if (listens.entries[k].port != entry->port)
				continue;
			(void)snprintf(r->detail, sizeof(r->detail), "port %u is there twice",
				       entry->port);
			return false;
		}
	}
	*(struct vsock_listens *)target_at(key, target) = listens;
	return true;
}

/* 1024, or "1024-2047". */
static bool range_read(json_object *value, struct port_range *ret)
{
	const char *text = string_of(value), *dash = text ? strchr(text, '-') : NULL;
	char first_text[16];
	uint64_t first, last;

	if (whole_number(value, 0, UINT32_MAX - 1, &first)) {
		last = first;
	} else {
		if (!dash || (size_t)(dash - text) >= sizeof(first_text))
			return false;
		(void)snprintf(first_text, sizeof(first_text), "%.*s", (int)(dash - text), text);
		if (parse_u64(first_text, 0, UINT32_MAX - 1, &first) < 0 ||
		    parse_u64(dash + 1, first, UINT32_MAX - 1, &last) < 0)
			return false;
	}
	*ret = (struct port_range){ (uint32_t)first, (uint32_t)last };
	return true;
}

bool take_port_list(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		    void *target)
{
	struct port_list list = { .limited = true };

	if (!json_object_is_type(value, json_type_array) ||
	    json_object_array_length(value) > CONFIG_MAX_PORT_RANGES)
		return false;
	for (size_t i = 0; i < json_object_array_length(value); i++)
		if (!range_read(json_object_array_get_idx(value, i), &list.ranges[list.n++]))
			return false;
	*(struct port_list *)target_at(key, target) = list;
	return true;
}

bool take_forward(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		  void *target)
{
	struct vsock_forward forward = { 0 };

	if (!json_object_is_type(value, json_type_array) ||
	    json_object_array_length(value) > CONFIG_MAX_FORWARDS)
		return false;
	/* 1 is the host itself, as its own programs call it. */
	for (size_t i = 0; i < json_object_array_length(value); i++)
		if (!whole_number(json_object_array_get_idx(value, i), 1, UINT32_MAX - 1,
				  &forward.cids[forward.n++]) ||
		    forward.cids[forward.n - 1] == 2)
			return false;
	*(struct vsock_forward *)target_at(key, target) = forward;
	return true;
}
