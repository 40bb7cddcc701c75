/*
 * Block devices: a raw image, a file or a block device of the host's.
 *
 * Runs in: vmdevd. Trusts: see type.h.
 */
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "daemon/config-private.h"
#include "daemon/type.h"
#include "devices/process/contract.h"

static const char *const caches[] = { "none", "writeback", "writethrough", NULL };

static const struct key keys[] = {
	{ "path", "the absolute path of an image file or a block device", take_path,
	  offsetof(struct device_config, path), .max = 4095, .required = true },
	{ "readonly", "true or false", take_bool, offsetof(struct device_config, readonly) },
	{ "cache", "\"none\", \"writeback\" or \"writethrough\"", take_word,
	  offsetof(struct device_config, cache), .words = caches },
	{ "serial", "1 to 20 printable ASCII characters", take_serial,
	  offsetof(struct device_config, serial) },
	{ "discard", "true or false", take_bool, offsetof(struct device_config, discard) },
	{ "queues", "a whole number from 1 to 64", take_number,
	  offsetof(struct device_config, queues), .min = 1, .max = CONTRACT_MAX_QUEUES },
	{ "limits", "an object with cpu, memory, pids, iops and bandwidth", take_object,
	  offsetof(struct device_config, limits), .members = io_limits_keys },
	{ 0 },
};

static bool defaults(struct device_config *config)
{
	config->cache = strdup("writeback");
	config->discard = true;
	return config->cache != NULL;
}

static void argv(const struct device_config *c, struct argv *argv)
{
	argv_add(argv, "--cache=%s", c->cache);
	if (c->readonly)
		argv_add(argv, "--read-only");
	if (c->serial)
		argv_add(argv, "--serial=%s", c->serial);
	argv_add(argv, "--discard=%s", c->discard ? "on" : "off");
	if (c->limits.iops)
		argv_add(argv, "--iops=%" PRIu64, c->limits.iops);
	if (c->limits.bandwidth)
		argv_add(argv, "--bandwidth=%" PRIu64, c->limits.bandwidth);
}

static void json(const struct device_config *config, json_object *object)
{
	json_put_text(object, "path", config->path);
	json_put_bool(object, "readonly", config->readonly);
	json_put_text(object, "cache", config->cache);
	json_put_text(object, "serial", config->serial);
	json_put_bool(object, "discard", config->discard);
}

/*
 * Two devices that write to one image would destroy it; the image's lock would refuse the second.
 */
static bool clash(const struct device_config *a, const struct device_config *b)
{
	return strcmp(a->path, b->path) == 0 && !(a->readonly && b->readonly);
}

static json_object *path_of(const struct device_config *config)
{
	return json_object_new_string(config->path);
}

static const struct type_single singles[] = {
	{ .clash = clash,
	  .key = "path",
	  .what = "the image",
	  .expected = "an image of its own, or \"readonly\": true in both",
	  .value = path_of },
	{ 0 },
};

static const struct plan_resource image = { "image", CONTRACT_FD_BLK_IMAGE,
					    "the disk: the one thing of the host's" };

static struct launch_resource resource(const struct device_host *host,
				       const struct device_config *config,
				       union type_resource *room)
{
	room->image = (struct resource_image){
		.name = config->full_name,
		.path = config->path,
		.cache = config->cache,
		.readonly = config->readonly,
	};
	return (struct launch_resource){
		.plan = { .type = "blk",
			  .ids = PLAN_IDS_ONE,
			  .fd_limit = CONTRACT_FD_LIMIT,
			  .resources = &image,
			  .n_resources = 1 },
		.check = resource_check,
		.open = resource_open,
		.what = &room->image,
	};
}

const struct type type_blk = {
	.name = "blk",
	.keys = keys,
	.defaults = defaults,
	.argv = argv,
	.json = json,
	.singles = singles,
	.resource = resource,
};
