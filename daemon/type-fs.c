/*
 * File systems: a directory of the host's, shared with the guest by virtio-fs.
 *
 * Runs in: vmdevd. Trusts: see type.h.
 */
#include <stddef.h>
#include <string.h>

#include "daemon/config-private.h"
#include "daemon/type.h"
#include "devices/process/contract.h"

static const char *const caches[] = { "none", "auto", "always", "metadata", NULL };
static const char *const locks[] = { "shared", "guest", NULL };
static const char *const ids[] = { "host", "own", NULL };

static const struct key keys[] = {
	{ "path", "the absolute path of the directory to share", take_directory,
	  offsetof(struct device_config, path), .max = 4095, .required = true },
	{ "tag", "1 to 36 bytes of UTF-8, the name by which the guest mounts it", take_tag,
	  offsetof(struct device_config, tag), .required = true },
	{ "queues", "a whole number from 1 to 63", take_number,
	  offsetof(struct device_config, queues), .min = 1,
	  .max = CONTRACT_MAX_QUEUES - CONTRACT_FS_EXTRA_QUEUES },
	{ "limits", "an object with cpu, memory and pids", take_object,
	  offsetof(struct device_config, limits), .members = cgroup_limits_keys },
	{ "readonly", "true or false", take_bool, offsetof(struct device_config, readonly) },
	{ "cache", "\"none\", \"auto\", \"always\" or \"metadata\"", take_word,
	  offsetof(struct device_config, cache), .words = caches },
	{ "writeback", "true or false", take_bool, offsetof(struct device_config, writeback) },
	{ "direct-io", "true or false", take_bool, offsetof(struct device_config, direct_io) },
	{ "locks", "\"shared\" or \"guest\"", take_word, offsetof(struct device_config, locks),
	  .words = locks },
	{ "xattr", "true or false", take_bool, offsetof(struct device_config, xattr) },
	{ "xattr-map", "the prefix of a user attribute, such as \"user.vmdev.\"", take_xattr_map,
	  offsetof(struct device_config, xattr_map) },
	{ "acl", "true or false", take_bool, offsetof(struct device_config, acl) },
	{ "announce-submounts", "true or false", take_bool,
	  offsetof(struct device_config, announce_submounts) },
	{ "device-nodes", "true or false", take_bool,
	  offsetof(struct device_config, device_nodes) },
	{ "ids", "\"host\" or \"own\"", take_word, offsetof(struct device_config, ids),
	  .words = ids },
	{ "id-map",
	  "an array of 1 to 8 objects with guest, host and count, whole numbers below 4294967295 "
	  "that make ranges which do not overlap",
	  take_id_map, offsetof(struct device_config, id_map) },
	{ 0 },
};

static bool defaults(struct device_config *config)
{
	config->cache = strdup("auto");
	config->ids = strdup("host");
	config->locks = strdup("shared");
	config->xattr = true;
	return config->cache && config->ids && config->locks;
}

static bool has_own_ids(const struct device_config *config)
{
	return strcmp(config->ids, "own") == 0;
}

static const char *check(const struct device_config *c)
{
	if (!c->xattr && c->acl)
		return "\"acl\" needs extended attributes; expected \"xattr\": true with it";
	if (!c->xattr && c->xattr_map)
		return "\"xattr-map\" needs extended attributes; expected \"xattr\": true with it";
	if (has_own_ids(c) && c->device_nodes)
		return "\"device-nodes\" cannot be made with ids of the device's own; expected "
		       "\"ids\": \"host\" with it";
	/* Which ids they are changes from start to start: nothing on disk may depend on it. */
	if (has_own_ids(c) && c->id_map.n == 0)
		return "\"ids\": \"own\" needs to know what the guest's ids are on disk; expected "
		       "\"id-map\" with it, such as [{\"guest\": 0, \"host\": 100000, \"count\": "
		       "65535}]";
	for (uint32_t i = 0; has_own_ids(c) && i < c->id_map.n; i++)
		if (c->id_map.ranges[i].guest + c->id_map.ranges[i].count > PLAN_RANGE_LEN - 1)
			return "with \"ids\": \"own\" the guest has the ids 0 to 65534; expected "
			       "ranges of \"id-map\" in these";
	return NULL;
}

static void argv(const struct device_config *c, struct argv *argv)
{
	argv_add(argv, "--tag=%s", c->tag);
	argv_add(argv, "--cache=%s", c->cache);
	if (c->readonly)
		argv_add(argv, "--read-only");
	if (c->writeback)
		argv_add(argv, "--writeback");
	if (c->direct_io)
		argv_add(argv, "--direct-io");
	if (strcmp(c->locks, "guest") == 0)
		argv_add(argv, "--no-locks");
	if (c->xattr)
		argv_add(argv, "--xattr");
	if (c->xattr_map)
		argv_add(argv, "--xattr-map=%s", c->xattr_map);
	if (c->acl)
		argv_add(argv, "--posix-acl");
	if (c->announce_submounts)
		argv_add(argv, "--announce-submounts");
	if (c->device_nodes)
		argv_add(argv, "--device-nodes");
}

static json_object *id_map_to_json(const struct id_map *map)
{
	json_object *array = json_object_new_array();

	for (uint32_t i = 0; i < map->n; i++) {
		json_object *range = json_object_new_object();

		json_put_number(range, "guest", map->ranges[i].guest);
		json_put_number(range, "host", map->ranges[i].host);
		json_put_number(range, "count", map->ranges[i].count);
		json_object_array_add(array, range);
	}
	return array;
}

static void json(const struct device_config *config, json_object *object)
{
	json_put_text(object, "path", config->path);
	json_put_text(object, "tag", config->tag);
	json_put_bool(object, "readonly", config->readonly);
	json_put_text(object, "cache", config->cache);
	json_put_bool(object, "writeback", config->writeback);
	json_put_bool(object, "direct_io", config->direct_io);
	json_put_text(object, "locks", config->locks);
	json_put_bool(object, "xattr", config->xattr);
	json_put_text(object, "xattr_map", config->xattr_map);
	json_put_bool(object, "acl", config->acl);
	json_put_bool(object, "announce_submounts", config->announce_submounts);
	json_put_bool(object, "device_nodes", config->device_nodes);
	json_put_text(object, "ids", config->ids);
	json_object_object_add(object, "id_map", id_map_to_json(&config->id_map));
}

static const struct plan_resource tree = { "tree", CONTRACT_FD_FS_ROOT,
					   "the shared directory: the one thing of the host's" };

static struct launch_resource resource(const struct device_host *host,
				       const struct device_config *config,
				       union type_resource *room)
{
	bool own = has_own_ids(config);

	room->tree = (struct tree){
		.path = config->path,
		.readonly = config->readonly,
		.own_ids = own,
		.ranges = config->id_map.ranges,
		.n_ranges = config->id_map.n,
	};
	return (struct launch_resource){
		.plan = { .type = "fs",
			  .ids = own ? PLAN_IDS_RANGE : PLAN_IDS_HOST,
			  .tree = true,
			  .resources = &tree,
			  .n_resources = 1,
			  .fd_limit = CONTRACT_FD_LIMIT_FS,
			  .features = config->device_nodes ? POLICY_FEATURE_DEVICE_NODES : 0 },
		.check = tree_check,
		.open = tree_open,
		.what = &room->tree,
	};
}

const struct type type_fs = {
	.name = "fs",
	.keys = keys,
	.defaults = defaults,
	.check = check,
	.argv = argv,
	.json = json,
	.resource = resource,
};
