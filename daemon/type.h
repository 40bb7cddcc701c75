/*
 * What a device type brings to the supervisor: its keys, its arguments, its resource. One row each.
 *
 * Runs in: vmdevd.
 * Trusts:  what config-parse.c has checked.
 *
 * A new type is a file type-NAME.c, its fields in config.h (struct device_config, and their names
 * in config.c for comparing), a policy, and a way to open its resource.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

#include "daemon/broker.h"
#include "daemon/config.h"
#include "daemon/launch.h"
#include "daemon/network.h"
#include "daemon/resource.h"
#include "daemon/tap.h"
#include "daemon/tree.h"

struct key; /* config-private.h */
struct argv;
struct device_host; /* device.h */

/* A port of a network. */
struct type_port {
	struct networks *networks;
	struct network_port port;
	struct plan_resource fds[2 + CONTRACT_NET_MAX_PAIRS];
};

/* Room for what a launch_resource points to. */
union type_resource {
	struct resource_image image;
	struct tree tree;
	struct broker_resource vsock;
	struct tap tap;
	struct type_port port;
};

/* What one device at the most may have while it runs, and how a document is told so. */
struct type_single {
	/* The two may not both run: two writers of one image. */
	bool (*clash)(const struct device_config *a, const struct device_config *b);
	const char *key;      /* where the document says it */
	const char *what;     /* "the image" */
	const char *expected; /* the accepted form */
	/* What the document says there; the caller puts it. */
	json_object *(*value)(const struct device_config *config);
};

struct type {
	const char *name;
	const struct key *keys; /* of its own, beside those that all share; ends without a name */
	/* What holds unless the document says otherwise. False: no memory. */
	bool (*defaults)(struct device_config *config);
	/* NULL, or what is wrong with the keys as they stand together, and the accepted form. */
	const char *(*check)(const struct device_config *config);
	void (*argv)(const struct device_config *config, struct argv *argv);
	void (*json)(const struct device_config *config, json_object *object);
	const struct type_single *singles; /* ends without a key; NULL: any two may run */
	struct launch_resource (*resource)(const struct device_host *host,
					   const struct device_config *config,
					   union type_resource *room);
	/* The device is stopped, or not to be so configured any more: what is kept of its
	 * resource from one sandbox to the next is given up. NULL: nothing is. */
	void (*release)(const struct device_config *config);
};

/* NULL: this version has no such type. */
const struct type *type_get(enum device_type type);

/* They may not both run; what it is that both want. NULL: they may. */
const struct type_single *type_clash(const struct device_config *a, const struct device_config *b);

extern const struct type type_blk, type_fs, type_net, type_vsock;

/* Arguments of a device program in the making. */
void argv_add(struct argv *argv, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Keys of the JSON object; an empty text is null. */
void json_put_text(json_object *object, const char *key, const char *text);
void json_put_number(json_object *object, const char *key, uint64_t v);
void json_put_bool(json_object *object, const char *key, bool v);
