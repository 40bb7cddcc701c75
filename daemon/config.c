/*
 * The life of a configuration: copy, compare, free, and as arguments of a device program.
 *
 * Runs in: vmdevd.
 * Trusts:  what config-parse.c has checked.
 */
#include "daemon/config.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/text.h"
#include "daemon/type.h"
#include "devices/base/scope.h"

const char *device_type_to_string(enum device_type type)
{
	static const char *const names[] = {
		[DEVICE_TYPE_BLK] = "blk",
		[DEVICE_TYPE_NET] = "net",
		[DEVICE_TYPE_FS] = "fs",
		[DEVICE_TYPE_VSOCK] = "vsock",
	};

	static_assert(sizeof(names) / sizeof(names[0]) == N_DEVICE_TYPES, "a type has no name");
	return names[type];
}

bool port_list_allows(const struct port_list *list, uint32_t port)
{
	for (uint32_t i = 0; i < list->n; i++)
		if (port >= list->ranges[i].first && port <= list->ranges[i].last)
			return true;
	return !list->limited;
}

/*
 * The fields of a device, once: for comparing, copying and freeing. Strings are owned; everything
 * else is a value.
 */
struct field {
	const char *key; /* in the document */
	size_t offset;
	size_t size;
	bool is_string;
};

#define VALUE(name, member)                                                                        \
	{                                                                                          \
		name, offsetof(struct device_config, member),                                      \
			sizeof(((struct device_config *)0)->member), false                         \
	}
#define STRING(name, member)                                                                       \
	{                                                                                          \
		name, offsetof(struct device_config, member), sizeof(char *), true                 \
	}

static const struct field fields[] = {
	STRING("vm", vm),
	STRING("name", name),
	STRING("name", full_name),
	VALUE("type", type),
	VALUE("socket.user", socket.uid),
	VALUE("socket.group", socket.gid),
	VALUE("socket.mode", socket.mode),
	STRING("limits.cpu", limits.cpu),
	STRING("limits.memory", limits.memory),
	STRING("limits.pids", limits.pids),
	VALUE("limits.iops", limits.iops),
	VALUE("limits.bandwidth", limits.bandwidth),
	VALUE("restart.limit", restart.limit),
	VALUE("restart.interval", restart.interval_usec),
	VALUE("restart.backoff", restart.backoff_usec),
	VALUE("restart.hang-timeout", restart.hang_timeout_usec),
	STRING("policy", policy),
	VALUE("queues", queues),
	VALUE("queue-size", queue_size),
	STRING("path", path),
	STRING("cache", cache),
	VALUE("readonly", readonly),
	STRING("serial", serial),
	VALUE("discard", discard),
	STRING("tag", tag),
	VALUE("writeback", writeback),
	VALUE("direct-io", direct_io),
	STRING("locks", locks),
	VALUE("xattr", xattr),
	STRING("xattr-map", xattr_map),
	VALUE("acl", acl),
	VALUE("announce-submounts", announce_submounts),
	VALUE("device-nodes", device_nodes),
	STRING("ids", ids),
	VALUE("id-map", id_map),
	STRING("side", side),
	STRING("mac", mac),
	VALUE("mac-filter", mac_filter),
	VALUE("switch", lan),
	VALUE("user", user),
	VALUE("mtu", mtu),
	VALUE("speed", speed),
	VALUE("null.generate", generate),
	STRING("tap.name", tap_name),
	STRING("tap.bridge", tap_bridge),
	VALUE("cid", cid),
	STRING("uds", uds),
	STRING("group", group),
	VALUE("listen", listens),
	VALUE("ports", ports),
	VALUE("forward", forward),
};

#define N_FIELDS (sizeof(fields) / sizeof(fields[0]))
static_assert(N_FIELDS == (size_t)N_DEVICE_CONFIG_KEYS,
	      "device_config_compare's callers need the number");

static char **field_string(const struct device_config *config, const struct field *field)
{
	return (void *)((char *)(uintptr_t)config + field->offset);
}

static bool field_is_equal(const struct field *field, const struct device_config *a,
			   const struct device_config *b)
{
	const char *left, *right;

	if (!field->is_string)
		return memcmp((const char *)a + field->offset, (const char *)b + field->offset,
			      field->size) == 0;
	left = *field_string(a, field);
	right = *field_string(b, field);
	return left == right || (left && right && strcmp(left, right) == 0);
}

size_t device_config_compare(const struct device_config *a, const struct device_config *b,
			     const char **ret_keys)
{
	size_t n = 0;

	for (size_t i = 0; i < N_FIELDS; i++)
		if (!field_is_equal(&fields[i], a, b))
			ret_keys[n++] = fields[i].key;
	ret_keys[n] = NULL;
	return n;
}

static void device_config_done(struct device_config *config)
{
	for (size_t i = 0; i < N_FIELDS; i++)
		if (fields[i].is_string)
			free(*field_string(config, &fields[i]));
}

struct device_config *device_config_copy(const struct device_config *config)
{
	struct device_config *copy = malloc(sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = *config;
	for (size_t i = 0; i < N_FIELDS; i++)
		if (fields[i].is_string)
			*field_string(copy, &fields[i]) = NULL;
	for (size_t i = 0; i < N_FIELDS; i++) {
		const char *text = fields[i].is_string ? *field_string(config, &fields[i]) : NULL;

		if (!text)
			continue;
		*field_string(copy, &fields[i]) = strdup(text);
		if (!*field_string(copy, &fields[i]))
			return device_config_free(copy);
	}
	return copy;
}

struct device_config *device_config_free(struct device_config *config)
{
	if (config)
		device_config_done(config);
	free(config);
	return NULL;
}

struct vm_config *vm_config_free(struct vm_config *config)
{
	if (!config)
		return NULL;
	for (size_t i = 0; i < config->n_devices; i++)
		device_config_done(&config->devices[i]);
	free(config->devices);
	free(config->name);
	free(config->file);
	free(config);
	return NULL;
}

void config_errors_add(struct config_errors *errors, const char *format, ...)
{
	char *line = NULL;
	va_list args;

	if (errors->n == CONFIG_MAX_ERRORS) {
		errors->n_more++;
		return;
	}
	va_start(args, format);
	if (vasprintf(&line, format, args) < 0)
		line = NULL;
	va_end(args);
	if (line)
		text_clean(line);
	if (line)
		errors->lines[errors->n++] = line;
	else
		errors->n_more++;
}

char *config_errors_to_text(const struct config_errors *errors)
{
	scope_file FILE *f = NULL;
	char *text = NULL;
	size_t len;

	f = open_memstream(&text, &len);
	if (!f)
		return NULL;
	for (size_t i = 0; i < errors->n; i++)
		fprintf(f, "%s%s", i ? "\n" : "", errors->lines[i]);
	if (errors->n_more)
		fprintf(f, "\nand %zu more", errors->n_more);
	if (fflush(f) != 0) {
		fclose(take_ptr(f));
		free(text);
		return NULL;
	}
	fclose(take_ptr(f));
	return text;
}

void config_errors_done(struct config_errors *errors)
{
	for (size_t i = 0; i < errors->n; i++)
		free(errors->lines[i]);
	*errors = (struct config_errors){ 0 };
}

bool config_name_is_valid(const char *name)
{
	static const char first[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	static const char rest[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t len = strlen(name);

	return len >= 1 && len <= CONFIG_MAX_NAME_LEN && strspn(name, first) >= 1 &&
	       strspn(name, rest) == len;
}

char **strv_free(char **strv)
{
	for (size_t i = 0; strv && strv[i]; i++)
		free(strv[i]);
	free(strv);
	return NULL;
}

enum { MAX_ARGV = 32 };

struct argv {
	char **v;
	size_t n;
	bool failed; /* no memory */
};

void argv_add(struct argv *argv, const char *format, ...)
{
	char *arg = NULL;
	va_list args;

	assert(argv->n < MAX_ARGV);
	va_start(args, format);
	if (vasprintf(&arg, format, args) < 0) {
		arg = NULL;
		argv->failed = true;
	}
	va_end(args);
	if (arg)
		argv->v[argv->n++] = arg;
}

/* Virtqueues that it accepts: a network card of QEMU's has none smaller, whatever is asked for. */
static uint64_t queue_size_of(const struct device_config *c)
{
	if (c->type == DEVICE_TYPE_NET && c->queue_size < CONFIG_NET_MIN_QUEUE_SIZE)
		return CONFIG_NET_MIN_QUEUE_SIZE;
	return c->queue_size;
}

char **device_config_argv(const struct device_config *c)
{
	struct argv argv = { .v = calloc(MAX_ARGV + 1, sizeof(char *)) };

	if (!argv.v)
		return NULL;
	argv_add(&argv, "vmdev-%s", device_type_to_string(c->type));
	argv_add(&argv, "--contract");
	argv_add(&argv, "--name=%s", c->full_name);
	argv_add(&argv, "--queues=%" PRIu64, c->queues);
	argv_add(&argv, "--queue-size=%" PRIu64, queue_size_of(c));
	type_get(c->type)->argv(c, &argv);
	argv_add(&argv, "--restart-limit=%" PRIu64, c->restart.limit);
	argv_add(&argv, "--restart-interval=%" PRIu64, c->restart.interval_usec);
	argv_add(&argv, "--restart-backoff=%" PRIu64, c->restart.backoff_usec);
	argv_add(&argv, "--hang-timeout=%" PRIu64, c->restart.hang_timeout_usec);
	return argv.failed ? strv_free(argv.v) : argv.v;
}
