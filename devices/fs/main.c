/*
 * vmdev-fs: a vhost-user file system device for one shared directory.
 *
 * Runs in: every process of the device. Trusts: its arguments.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <linux/virtio_fs.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>

#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/fs/fs.h"
#include "devices/fs/store.h"
#include "devices/fs/xattr-map.h"
#include "devices/process/contract.h"
#include "devices/process/program.h"

static struct fs_config *config_of(void *config)
{
	return config;
}

static int set_shared_dir(void *config, const char *value)
{
	config_of(config)->path = value;
	return *value ? 0 : -EINVAL;
}

static int set_tag(void *config, const char *value)
{
	config_of(config)->tag = value;
	return *value && strlen(value) <= sizeof(((struct virtio_fs_config *)0)->tag) ? 0 : -EINVAL;
}

static int set_cache(void *config, const char *value)
{
	static const char *const names[] = {
		[FS_CACHE_NONE] = "none",
		[FS_CACHE_METADATA] = "metadata",
		[FS_CACHE_AUTO] = "auto",
		[FS_CACHE_ALWAYS] = "always",
	};

	for (uint32_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(value, names[i]) == 0) {
			config_of(config)->cache = (enum fs_cache)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_readonly(void *config, const char *value)
{
	config_of(config)->readonly = true;
	return 0;
}

static int set_writeback(void *config, const char *value)
{
	config_of(config)->writeback = true;
	return 0;
}

static int set_direct_io(void *config, const char *value)
{
	config_of(config)->direct_io = true;
	return 0;
}

static int set_no_locks(void *config, const char *value)
{
	config_of(config)->no_locks = true;
	return 0;
}

static int set_xattr(void *config, const char *value)
{
	config_of(config)->xattr = true;
	return 0;
}

/* To store attributes elsewhere is to have them. */
static int set_xattr_map(void *config, const char *value)
{
	config_of(config)->xattr = true;
	config_of(config)->xattr_map = value;
	return xattr_map_prefix_ok(value) ? 0 : -EINVAL;
}

/* ACLs travel as extended attributes. */
static int set_acl(void *config, const char *value)
{
	config_of(config)->xattr = true;
	config_of(config)->acl = true;
	return 0;
}

static int set_announce_submounts(void *config, const char *value)
{
	config_of(config)->announce_submounts = true;
	return 0;
}

static int set_device_nodes(void *config, const char *value)
{
	config_of(config)->device_nodes = true;
	return 0;
}

static const struct options_row rows[] = {
	{ "shared-dir", "PATH", "the directory that the guest sees", set_shared_dir },
	{ "tag", "TEXT", "what the guest mounts it by, at most 36 bytes", set_tag },
	{ "cache", "MODE",
	  "what the guest may believe: none, metadata, auto or always (default auto)", set_cache },
	{ "read-only", NULL, "the guest cannot write", set_readonly },
	{ "writeback", NULL, "the guest may keep writes in its page cache", set_writeback },
	{ "direct-io", NULL, "pass the guest's O_DIRECT on", set_direct_io },
	{ "no-locks", NULL, "the guest keeps locks by itself", set_no_locks },
	{ "xattr", NULL, "extended attributes", set_xattr },
	{ "xattr-map", "PREFIX",
	  "keep the guest's trusted. and security. attributes under names with this prefix "
	  "(user.NAME.)",
	  set_xattr_map },
	{ "posix-acl", NULL, "access control lists", set_acl },
	{ "announce-submounts", NULL, "tell the guest where other file systems begin",
	  set_announce_submounts },
	{ "device-nodes", NULL, "the guest may make device nodes", set_device_nodes },
	{ NULL, NULL, NULL, NULL },
};

static int place(const char *path, int number)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : fd_move(fd, number, false);

	if (r < 0)
		log_error("cannot open %s: %s", path, strerror(-r));
	return r < 0 ? r : 0;
}

/* As vmdevd does it: capabilities stay when a thread acts with the guest's ids (creds.h). */
static void keep_capabilities(void)
{
	int bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);

	if (bits >= 0)
		prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP, 0, 0, 0);
}

static int arrange(void *config, const struct options *o)
{
	const struct fs_config *c = config;
	int r;

	if (!c->path || !c->tag) {
		log_error("give --shared-dir=PATH and --tag=TEXT (see --help)");
		return -EINVAL;
	}
	keep_capabilities();
	r = place(c->path, CONTRACT_FD_FS_ROOT);
	return r < 0 ? r : place("/proc", CONTRACT_FD_FS_PROC);
}

int main(int argc, char **argv)
{
	static struct fs_config config = { .cache = FS_CACHE_AUTO };
	static const struct program program = {
		.type = "fs",
		.capabilities = "{\"type\": \"fs\", \"features\": [\"read-only\"]}",
		.options = rows,
		.config = &config,
		.fd_limit = CONTRACT_FD_LIMIT_FS,
		.n_extra_queues = FS_EXTRA_QUEUES,
		.uses_rings = true,
		.state_len = sizeof(struct store),
		.arrange = arrange,
		.begin = fs_begin,
		.thread_begin = fs_thread_begin,
		.create = fs_create,
	};

	return argc > 0 ? program_main(&program, argv) : 2;
}
