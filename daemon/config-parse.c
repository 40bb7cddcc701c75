/*
 * From a document to a configuration: one table of keys per object.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing.
 *
 * syntax.c has passed the text before json-c sees it, so that here every key has a line, and
 * no key stands twice. Each row of a table says what a key is called, which form its value has, as
 * a person would write it, and which function takes the value. A document's key is rejected in
 * parse_members. All errors of a document are collected, not only the first.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/config-private.h"
#include "daemon/type.h"
#include "devices/base/scope.h"

static void tell(struct reader *r, uint32_t id, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void tell(struct reader *r, uint32_t id, const char *format, ...)
{
	char path[200], text[400];
	va_list args;

	syntax_path(&r->syntax, id, path, sizeof(path));
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	config_errors_add(r->errors, "%s:%u: %s%s%s", r->source->file, r->syntax.positions[id].line,
			  path, path[0] ? ": " : "", text);
}

/* The value as it stands in the document, cut to size, on one line. */
static void value_to_text(json_object *value, char *ret_text, size_t size)
{
	const char *text = json_object_to_json_string_ext(value, JSON_C_TO_STRING_NOSLASHESCAPE);

	if (json_object_is_type(value, json_type_object))
		text = "an object";
	else if (json_object_is_type(value, json_type_array))
		text = "an array";
	(void)snprintf(ret_text, size, "%s", text ? text : "this value");
	if (text && strlen(text) >= size)
		(void)snprintf(ret_text + size - 4, 4, "...");
	for (char *p = ret_text; *p; p++)
		if (*p == 0x7f)
			*p = '?';
}

/* ---- objects ---- */

static bool parse_members(struct reader *r, const struct key *keys, json_object *object,
			  uint32_t id, void *target);

bool take_object(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		 void *target)
{
	if (!json_object_is_type(value, json_type_object))
		return false;
	(void)parse_members(r, key->members, value, id, target_at(key, target));
	return true;
}

static bool take_devices(struct reader *r, const struct key *key, json_object *value, uint32_t id,
			 void *target);

#define NAME_FORM "1 to 63 letters, digits, '_', '.' or '-', the first one a letter or a digit"

static const struct key socket_keys[] = {
	{ "user", "the name of a user, or a uid as a string", take_user,
	  offsetof(struct socket_config, uid) },
	{ "group", "the name of a group, or a gid as a string", take_group,
	  offsetof(struct socket_config, gid) },
	{ "mode", "four octal digits as a string, such as \"0660\"", take_mode,
	  offsetof(struct socket_config, mode) },
	{ 0 },
};

static const struct key document_keys[] = {
	{ "$schema", "a string", take_nothing },
	{ "vm", NAME_FORM, take_name, offsetof(struct vm_config, name), .required = true },
	{ "socket", "an object with user, group and mode", NULL, .members = socket_keys },
	{ "devices", "an object of 1 to 64 devices, the key being the device's name", take_devices,
	  .required = true },
	{ 0 },
};

/*
 * At least the keeper, a worker with 16 I/O threads and a companion, a successor of the same size
 * while that one still ends, and the kernel's threads for their I/O.
 */
/* clang-format off */
#define CGROUP_LIMITS                                                                              \
	{ "cpu", "a percentage of one CPU as a string, such as \"50%\" or \"12.5%\"", take_cpu,    \
	  offsetof(struct limits_config, cpu) },                                                   \
	{ "memory",                                                                                \
	  "a size from 16M to 1T, such as \"256M\", a percentage or \"infinity\"", take_memory,    \
	  offsetof(struct limits_config, memory), .min = 16ULL << 20, .max = 1ULL << 40 },         \
	{ "pids", "a whole number from 64 to 32768, or \"infinity\"", take_pids,                   \
	  offsetof(struct limits_config, pids), .min = 64, .max = 32768 }
/* clang-format on */

const struct key cgroup_limits_keys[] = { CGROUP_LIMITS, { 0 } };

const struct key io_limits_keys[] = {
	CGROUP_LIMITS,
	{ "iops", "requests per second from 1 to 1000000000, such as 5000 or \"5K\"", take_rate,
	  offsetof(struct limits_config, iops), .min = 1, .max = CONTRACT_IOPS_MAX },
	{ "bandwidth", "bytes per second from 4K to 1T, such as \"100M\"", take_rate,
	  offsetof(struct limits_config, bandwidth), .min = CONTRACT_BANDWIDTH_MIN,
	  .max = CONTRACT_BANDWIDTH_MAX },
	{ 0 },
};

static const struct key restart_keys[] = {
	{ "limit", "a whole number from 0 to 100000", take_number,
	  offsetof(struct restart_config, limit), .min = 0, .max = 100000 },
	{ "interval", "a time from 1s to 1d, such as \"60s\"", take_time,
	  offsetof(struct restart_config, interval_usec), .min = USEC_PER_SEC,
	  .max = 86400 * USEC_PER_SEC },
	{ "backoff", "a time from 0 to 1min, such as \"100ms\"", take_time,
	  offsetof(struct restart_config, backoff_usec), .min = 0, .max = 60 * USEC_PER_SEC },
	{ "hang-timeout", "a time from 100ms to 1h, such as \"10s\"", take_time,
	  offsetof(struct restart_config, hang_timeout_usec), .min = USEC_PER_SEC / 10,
	  .max = 3600 * USEC_PER_SEC },
	{ 0 },
};

/* Of every device; the type's own are in type-NAME.c. */
static const struct key device_keys[] = {
	{ "type", "the type of the device", take_nothing, .required = true },
	{ "queue-size", "a power of two from 4 to 1024", take_power_of_two,
	  offsetof(struct device_config, queue_size), .min = CONFIG_MIN_QUEUE_SIZE,
	  .max = CONFIG_MAX_QUEUE_SIZE },
	{ "policy", "the name of a policy, or the absolute path of one", take_policy,
	  offsetof(struct device_config, policy), .max = 4095 },
	{ "restart", "an object with limit, interval, backoff and hang-timeout", take_object,
	  offsetof(struct device_config, restart), .members = restart_keys },
	{ 0 },
};

/* The keys that an object may have: one table, or everyone's and then a type's. */
struct key_set {
	const struct key *tables[2];
};

static const struct key *key_find(const struct key *keys, const char *name)
{
	for (; keys && keys->name; keys++)
		if (strcmp(keys->name, name) == 0)
			return keys;
	return NULL;
}

static const struct key *set_find(const struct key_set *set, const char *name)
{
	const struct key *key = key_find(set->tables[0], name);

	return key ? key : key_find(set->tables[1], name);
}

static void tell_unknown_key(struct reader *r, const struct key_set *set, uint32_t id)
{
	char names[300];
	size_t at = 0;

	names[0] = '\0';
	for (int i = 0; i < 2; i++)
		for (const struct key *key = set->tables[i]; key && key->name; key++)
			at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s",
					       at ? ", " : "", key->name);
	assert(at < sizeof(names));
	tell(r, id, "unknown key; expected one of %s", names);
}

static void tell_bad_value(struct reader *r, const struct key *key, json_object *value, uint32_t id)
{
	char text[64];

	value_to_text(value, text, sizeof(text));
	if (r->detail[0])
		tell(r, id, "%s: %s; expected %s", text, r->detail, key->form);
	else
		tell(r, id, "%s is not usable; expected %s", text, key->form);
}

static void tell_missing(struct reader *r, const struct key *keys, json_object *object, uint32_t id)
{
	for (; keys && keys->name; keys++)
		if (keys->required && !json_object_object_get_ex(object, keys->name, NULL))
			tell(r, id, "the key \"%s\" is missing; expected %s", keys->name,
			     keys->form);
}

/* True if every member is known and good, and none that is required is missing. */
static bool parse_set(struct reader *r, const struct key_set *set, json_object *object, uint32_t id,
		      void *target)
{
	size_t n_before = r->errors->n + r->errors->n_more;

	json_object_object_foreach (object, name, value) {
		uint32_t member = syntax_find(&r->syntax, id, name);
		const struct key *key = set_find(set, name);

		assert(member != UINT32_MAX);
		r->detail[0] = '\0';
		if (!key)
			tell_unknown_key(r, set, member);
		else if (key->take && !key->take(r, key, value, member, target))
			tell_bad_value(r, key, value, member);
	}
	tell_missing(r, set->tables[0], object, id);
	tell_missing(r, set->tables[1], object, id);
	return r->errors->n + r->errors->n_more == n_before;
}

static bool parse_members(struct reader *r, const struct key *keys, json_object *object,
			  uint32_t id, void *target)
{
	const struct key_set set = { { keys } };

	return parse_set(r, &set, object, id, target);
}

/* ---- devices ---- */

/* "blk" or "fs": the types that this version has. */
static void types_to_text(char *text, size_t size)
{
	size_t len = 0;

	for (int type = 0; type < N_DEVICE_TYPES; type++)
		if (type_get((enum device_type)type) && len < size)
			len += (size_t)snprintf(text + len, size - len, "%s\"%s\"",
						len ? " or " : "",
						device_type_to_string((enum device_type)type));
}

static bool device_type_of(struct reader *r, json_object *object, uint32_t id,
			   enum device_type *ret_type)
{
	json_object *value;
	const char *text;
	char shown[64], expected[64];

	types_to_text(expected, sizeof(expected));
	if (!json_object_object_get_ex(object, "type", &value)) {
		tell(r, id, "the key \"type\" is missing; expected %s", expected);
		return false;
	}
	id = syntax_find(&r->syntax, id, "type");
	text = string_of(value);
	value_to_text(value, shown, sizeof(shown));
	for (int type = 0; text && type < N_DEVICE_TYPES; type++) {
		if (strcmp(text, device_type_to_string((enum device_type)type)) != 0)
			continue;
		*ret_type = (enum device_type)type;
		if (type_get(*ret_type))
			return true;
		tell(r, id, "%s: this type is not built in this version; expected %s", shown,
		     expected);
		return false;
	}
	tell(r, id, "%s is not usable; expected %s", shown, expected);
	return false;
}

/* RUNTIME/VM/DEVICE.sock has to fit, or else no front-end could connect to it. */
static void socket_path_check(struct reader *r, uint32_t id, const char *name)
{
	size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1, len;

	if (!r->vm->name)
		return;
	len = strlen(r->source->runtime_dir) + strlen(r->vm->name) + strlen(name) +
	      strlen("//.sock");
	if (len > max)
		tell(r, id,
		     "the socket's path %s/%s/%s.sock has %zu bytes; expected names that make at "
		     "most %zu",
		     r->source->runtime_dir, r->vm->name, name, len, max);
}

static bool device_defaults(struct device_config *device, const char *name)
{
	*device = (struct device_config){
		.name = strdup(name),
		.queues = 1,
		.queue_size = CONFIG_DEFAULT_QUEUE_SIZE,
		.restart = {
			.limit = 10,
			.interval_usec = 60 * USEC_PER_SEC,
			.backoff_usec = USEC_PER_SEC / 10,
			.hang_timeout_usec = 10 * USEC_PER_SEC,
		},
	};
	return device->name != NULL;
}

static void parse_type(struct reader *r, struct device_config *device, json_object *object,
		       uint32_t id)
{
	const struct type *type = type_get(device->type);
	const struct key_set set = { { device_keys, type->keys } };
	const char *wrong;

	if (!type->defaults(device))
		r->failure = -ENOMEM;
	if (r->failure < 0 || !parse_set(r, &set, object, id, device) || !type->check)
		return;
	wrong = type->check(device);
	if (wrong)
		tell(r, id, "%s", wrong);
}

static void parse_device(struct reader *r, const char *name, json_object *object, uint32_t id)
{
	struct device_config *device = &r->vm->devices[r->vm->n_devices];

	if (!config_name_is_valid(name)) {
		tell(r, id, "not usable as a device's name; expected " NAME_FORM);
		return;
	}
	socket_path_check(r, id, name);
	if (!json_object_is_type(object, json_type_object)) {
		tell(r, id, "expected an object that describes the device, with at least a type");
		return;
	}
	r->vm->n_devices++; /* from here on it is freed with the VM */
	if (!device_defaults(device, name))
		r->failure = -ENOMEM;
	if (r->failure == 0 && device_type_of(r, object, id, &device->type))
		parse_type(r, device, object, id);
}

static bool take_devices(struct reader *r, const struct key *key, json_object *value, uint32_t id,
			 void *target)
{
	struct vm_config *vm = target;
	int n;

	if (!json_object_is_type(value, json_type_object))
		return false;
	n = json_object_object_length(value);
	if (n < 1 || n > CONFIG_MAX_DEVICES)
		return false;
	vm->devices = calloc((size_t)n, sizeof(*vm->devices));
	if (!vm->devices) {
		r->failure = -ENOMEM;
		return true;
	}
	json_object_object_foreach (value, name, object)
		parse_device(r, name, object, syntax_find(&r->syntax, id, name));
	return true;
}

/* ---- the document ---- */

static void tell_clash(struct reader *r, uint32_t id, const struct device_config *a,
		       const struct device_config *b, const struct type_single *single)
{
	json_object *value = single->value(b);

	tell(r, syntax_find(&r->syntax, id, single->key),
	     "%s is %s of device \"%s\" already; expected %s",
	     json_object_to_json_string_ext(value, JSON_C_TO_STRING_NOSLASHESCAPE), single->what,
	     a->name, single->expected);
	json_object_put(value);
}

/* The document is good so far: every device has what its type requires. */
static void clashes_check(struct reader *r, uint32_t devices_id)
{
	struct vm_config *vm = r->vm;

	for (size_t i = 0; i < vm->n_devices; i++) {
		for (size_t k = 0; k < i; k++) {
			struct device_config *a = &vm->devices[k], *b = &vm->devices[i];
			const struct type_single *single = type_clash(a, b);
			uint32_t id;

			if (!single)
				continue;
			id = syntax_find(&r->syntax, devices_id, b->name);
			tell_clash(r, id, a, b, single);
		}
	}
}

static void socket_parse(struct reader *r, json_object *document)
{
	const struct key *key = key_find(document_keys, "socket");
	json_object *value;
	uint32_t id;

	r->socket = (struct socket_config){ .uid = geteuid(), .gid = getegid(), .mode = 0660 };
	if (!json_object_object_get_ex(document, "socket", &value))
		return;
	id = syntax_find(&r->syntax, 0, "socket");
	if (!json_object_is_type(value, json_type_object))
		tell_bad_value(r, key, value, id);
	else
		(void)parse_members(r, key->members, value, id, &r->socket);
}

static void devices_complete(struct reader *r)
{
	for (size_t i = 0; i < r->vm->n_devices && r->failure == 0; i++) {
		struct device_config *device = &r->vm->devices[i];

		device->socket = r->socket;
		device->vm = strdup(r->vm->name);
		if (!device->vm ||
		    asprintf(&device->full_name, "%s/%s", device->vm, device->name) < 0) {
			device->full_name = NULL;
			r->failure = -ENOMEM;
		}
	}
}

static void document_parse(struct reader *r, json_object *document)
{
	json_object *vm;

	if (!json_object_is_type(document, json_type_object)) {
		config_errors_add(r->errors, "%s:%u: expected an object with vm and devices",
				  r->source->file, 1u);
		return;
	}
	/* The VM's name first, wherever it stands: the length of socket paths depends on it. */
	if (json_object_object_get_ex(document, "vm", &vm) && string_of(vm) &&
	    config_name_is_valid(string_of(vm)))
		r->vm->name = strdup(string_of(vm));
	socket_parse(r, document);
	if (parse_members(r, document_keys, document, 0, r->vm) && r->failure == 0)
		clashes_check(r, syntax_find(&r->syntax, 0, "devices"));
	if (r->errors->n + r->errors->n_more == 0)
		devices_complete(r);
}

/* The scanner has passed the text, so json-c fails only if it is stricter: that is a bad document.
 */
static json_object *document_read(struct reader *r)
{
	json_tokener *tokener = json_tokener_new_ex(SYNTAX_MAX_DEPTH + 1);
	json_object *document = NULL;

	if (!tokener) {
		r->failure = -ENOMEM;
		return NULL;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	document = json_tokener_parse_ex(tokener, r->source->text, (int)r->source->len);
	if (!document && json_tokener_get_error(tokener) == json_tokener_continue)
		document = json_tokener_parse_ex(tokener, "\n", 1); /* a number ends only here */
	if (!document && json_tokener_get_error(tokener) == json_tokener_success)
		config_errors_add(r->errors, "%s:1: null; expected an object with vm and devices",
				  r->source->file);
	else if (!document)
		config_errors_add(r->errors, "%s:1: %s; expected an object with vm and devices",
				  r->source->file,
				  json_tokener_error_desc(json_tokener_get_error(tokener)));
	json_tokener_free(tokener);
	return document;
}

int config_parse(const struct config_source *source, struct vm_config **ret,
		 struct config_errors *errors)
{
	struct reader reader = { .source = source, .errors = errors };
	struct syntax_error error;
	json_object *document;
	int r;

	r = syntax_scan(source->text, source->len, &reader.syntax, &error);
	if (r == -EINVAL)
		config_errors_add(errors, "%s:%u: %s", source->file, error.line, error.text);
	if (r < 0)
		return r;
	reader.vm = calloc(1, sizeof(*reader.vm));
	if (reader.vm)
		reader.vm->file = strdup(source->file);
	if (!reader.vm || !reader.vm->file)
		reader.failure = -ENOMEM;
	document = reader.failure ? NULL : document_read(&reader);
	if (document)
		document_parse(&reader, document);
	json_object_put(document);
	syntax_done(&reader.syntax);
	r = reader.failure ? reader.failure : errors->n + errors->n_more ? -EINVAL : 0;
	if (r < 0)
		vm_config_free(reader.vm);
	else
		*ret = reader.vm;
	return r;
}
