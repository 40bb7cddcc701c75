/*
 * vmdev-blk: a vhost-user block device for one raw image.
 *
 * Runs in: every process of the device. Trusts: its arguments.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "devices/base/log.h"
#include "devices/base/parse.h"
#include "devices/blk/blk.h"
#include "devices/blk/request.h"
#include "devices/process/contract.h"
#include "devices/process/program.h"

static int set_file(void *config, const char *value)
{
	((struct blk_config *)config)->path = value;
	return *value ? 0 : -EINVAL;
}

static int set_readonly(void *config, const char *value)
{
	((struct blk_config *)config)->readonly = true;
	return 0;
}

static int set_cache(void *config, const char *value)
{
	static const char *const names[] = {
		[IMAGE_CACHE_NONE] = "none",
		[IMAGE_CACHE_WRITEBACK] = "writeback",
		[IMAGE_CACHE_WRITETHROUGH] = "writethrough",
	};

	for (uint32_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(value, names[i]) == 0) {
			((struct blk_config *)config)->cache = (enum image_cache)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_serial(void *config, const char *value)
{
	((struct blk_config *)config)->serial = value;
	return strlen(value) <= REQUEST_ID_LEN ? 0 : -EINVAL;
}

static int set_discard(void *config, const char *value)
{
	if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
		return -EINVAL;
	((struct blk_config *)config)->discard = strcmp(value, "on") == 0;
	return 0;
}

static int set_iops(void *config, const char *value)
{
	return parse_u64(value, 1, CONTRACT_IOPS_MAX, &((struct blk_config *)config)->iops);
}

/* At least what makes the arithmetic of the longest request fit. */
static int set_bandwidth(void *config, const char *value)
{
	return parse_u64(value, CONTRACT_BANDWIDTH_MIN, CONTRACT_BANDWIDTH_MAX,
			 &((struct blk_config *)config)->bandwidth);
}

static const struct options_row rows[] = {
	{ "blk-file", "PATH", "the raw image: a file or a block device", set_file },
	{ "read-only", NULL, "the guest cannot write", set_readonly },
	{ "cache", "MODE", "none, writeback or writethrough (default none)", set_cache },
	{ "serial", "TEXT", "what the guest sees as serial number, at most 20 bytes", set_serial },
	{ "discard", "on|off", "offer discard and write zeroes (default on)", set_discard },
	{ "iops", "N", "requests per second, at most", set_iops },
	{ "bandwidth", "BYTES", "bytes per second, at most (4000 or more)", set_bandwidth },
	{ NULL, NULL, NULL, NULL },
};

static int arrange(void *config, const struct options *o)
{
	const struct blk_config *c = config;

	if (!c->path) {
		log_error("give --blk-file=PATH (see --help)");
		return -EINVAL;
	}
	return disk_image_arrange(c->path, c->cache, c->readonly);
}

int main(int argc, char **argv)
{
	static struct blk_config config = { .discard = true, .serial = "" };
	static const struct program program = {
		.type = "blk",
		.fd_limit = CONTRACT_FD_LIMIT,
		.uses_rings = true,
		.capabilities =
			"{\"type\": \"block\", \"features\": [\"read-only\", \"blk-file\"]}",
		.options = rows,
		.config = &config,
		.arrange = arrange,
		.create = blk_create,
	};

	return argc > 0 ? program_main(&program, argv) : 2;
}
