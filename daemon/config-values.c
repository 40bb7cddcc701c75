/*
 * The forms of values: one taker for each, which checks a value and puts it into the configuration.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing in a document; the host's database of users and groups.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config-private.h"
#include "daemon/sandbox/cgroup.h"
#include "daemon/tap.h"
#include "devices/base/parse.h"

void *target_at(const struct key *key, void *target)
{
	return (char *)target + key->offset;
}

static bool string_set(struct reader *r, const struct key *key, const char *text, void *target)
{
	char **p = target_at(key, target);

	free(*p);
	*p = strdup(text);
	if (!*p)
		r->failure = -ENOMEM;
	return true;
}

const char *string_of(json_object *value)
{
	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

bool take_bool(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	if (!json_object_is_type(value, json_type_boolean))
		return false;
	*(bool *)target_at(key, target) = json_object_get_boolean(value);
	return true;
}

bool take_number(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		 void *target)
{
	int64_t v;

	if (!json_object_is_type(value, json_type_int))
		return false;
	v = json_object_get_int64(value);
	if (v < 0 || (uint64_t)v < key->min || (uint64_t)v > key->max)
		return false;
	*(uint64_t *)target_at(key, target) = (uint64_t)v;
	return true;
}

bool take_power_of_two(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		       void *target)
{
	uint64_t *v = target_at(key, target);

	return take_number(r, key, value, id, target) && (*v & (*v - 1)) == 0;
}

bool take_word(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	const char *text = string_of(value);

	for (size_t i = 0; text && key->words[i]; i++)
		if (strcmp(text, key->words[i]) == 0)
			return string_set(r, key, text, target);
	return false;
}

static bool is_path(const struct key *key, const char *text)
{
	if (!text || text[0] != '/' || strlen(text) > key->max)
		return false;
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

bool take_path(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	const char *text = string_of(value);

	if (!is_path(key, text))
		return false;
	if (text[strlen(text) - 1] == '/') {
		(void)snprintf(r->detail, sizeof(r->detail), "this is a directory's name");
		return false;
	}
	return string_set(r, key, text, target);
}

bool take_directory(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		    void *target)
{
	const char *text = string_of(value);

	return is_path(key, text) && string_set(r, key, text, target);
}

bool take_policy(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		 void *target)
{
	const char *text = string_of(value);

	if (text && text[0] == '/')
		return take_path(r, key, value, id, target);
	return text && config_name_is_valid(text) && string_set(r, key, text, target);
}

bool take_serial(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		 void *target)
{
	const char *text = string_of(value);

	if (!text || strlen(text) < 1 || strlen(text) > CONFIG_MAX_SERIAL_LEN)
		return false;
	for (const char *p = text; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			return false;
	return string_set(r, key, text, target);
}

bool take_name(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	/* What lies in the runtime directory beside the VMs' (bus.c, cids.c). */
	static const char *const own[] = { "bus", "cids", "cids.new" };
	const char *text = string_of(value);

	if (!text || !config_name_is_valid(text))
		return false;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (strcmp(text, own[i]) != 0)
			continue;
		(void)snprintf(r->detail, sizeof(r->detail), "this name is the daemon's own");
		return false;
	}
	return string_set(r, key, text, target);
}

bool take_nothing(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		  void *target)
{
	return string_of(value) != NULL;
}

/* Seconds as a number, or systemd's notation. */
bool take_time(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	uint64_t usec = 0;
	int64_t s;

	if (json_object_is_type(value, json_type_int)) {
		s = json_object_get_int64(value);
		if (s < 0 || __builtin_mul_overflow((uint64_t)s, USEC_PER_SEC, &usec))
			return false;
	} else if (!string_of(value) || parse_time_usec(string_of(value), &usec) < 0) {
		return false;
	}
	if (usec < key->min || usec > key->max)
		return false;
	*(uint64_t *)target_at(key, target) = usec;
	return true;
}

/* Per second; the suffixes are those of systemd's IO limits: powers of 1000. */
bool take_rate(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	static const char suffixes[] = "KMGT";
	const char *text = string_of(value), *at;
	char digits[24];
	uint64_t v, unit = 1;
	size_t len;

	if (json_object_is_type(value, json_type_int))
		return take_number(r, key, value, id, target);
	len = text ? strlen(text) : 0;
	if (len < 1 || len >= sizeof(digits))
		return false;
	(void)snprintf(digits, sizeof(digits), "%s", text);
	at = strchr(suffixes, digits[len - 1]);
	if (at) {
		digits[len - 1] = '\0';
		for (const char *p = suffixes; p <= at; p++)
			unit *= 1000;
	}
	if (parse_u64(digits, 0, UINT64_MAX, &v) < 0 || __builtin_mul_overflow(v, unit, &v))
		return false;
	if (v < key->min || v > key->max)
		return false;
	*(uint64_t *)target_at(key, target) = v;
	return true;
}

bool take_cpu(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	      void *target)
{
	const char *text = string_of(value);
	char limit[CGROUP_MAX_LIMIT_LEN];

	return text && cgroup_format_cpu(text, limit, sizeof(limit)) == 0 &&
	       string_set(r, key, text, target);
}

/* "max", or within the key's bounds: what cgroup_format_… has made of the text. */
static bool is_within(const struct key *key, const char *limit)
{
	uint64_t v;

	return strcmp(limit, "max") == 0 || parse_u64(limit, key->min, key->max, &v) == 0;
}

/* A number is kept as its text, which is the notation that the cgroup code takes. */
bool take_memory(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		 void *target)
{
	const char *text = json_object_is_type(value, json_type_int) ? json_object_get_string(value)
								     : string_of(value);
	char limit[CGROUP_MAX_LIMIT_LEN];

	if (!text || cgroup_format_memory(text, limit, sizeof(limit)) < 0 || !is_within(key, limit))
		return false;
	return string_set(r, key, text, target);
}

bool take_pids(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	const char *text = json_object_is_type(value, json_type_int) ? json_object_get_string(value)
								     : string_of(value);
	char limit[CGROUP_MAX_LIMIT_LEN];

	if (!text || cgroup_format_pids(text, limit, sizeof(limit)) < 0 || !is_within(key, limit))
		return false;
	return string_set(r, key, text, target);
}

bool take_user(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	const char *text = string_of(value);
	struct passwd *user;
	uint64_t v;

	if (!text || text[0] == '\0' || strlen(text) > 255)
		return false;
	if (parse_u64(text, 0, (uint64_t)UINT32_MAX - 1, &v) == 0) {
		*(uid_t *)target_at(key, target) = (uid_t)v;
		return true;
	}
	user = getpwnam(text);
	if (!user) {
		(void)snprintf(r->detail, sizeof(r->detail), "there is no such user on this host");
		return false;
	}
	*(uid_t *)target_at(key, target) = user->pw_uid;
	return true;
}

bool take_group(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		void *target)
{
	const char *text = string_of(value);
	struct group *group;
	uint64_t v;

	if (!text || text[0] == '\0' || strlen(text) > 255)
		return false;
	if (parse_u64(text, 0, (uint64_t)UINT32_MAX - 1, &v) == 0) {
		*(gid_t *)target_at(key, target) = (gid_t)v;
		return true;
	}
	group = getgrnam(text);
	if (!group) {
		(void)snprintf(r->detail, sizeof(r->detail), "there is no such group on this host");
		return false;
	}
	*(gid_t *)target_at(key, target) = group->gr_gid;
	return true;
}

bool take_mode(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	const char *text = string_of(value);
	mode_t mode = 0;

	if (!text || strlen(text) != 4 || text[0] != '0' || strspn(text, "01234567") != 4)
		return false;
	for (const char *p = text; *p; p++)
		mode = mode << 3 | (mode_t)(*p - '0');
	*(mode_t *)target_at(key, target) = mode;
	return true;
}

bool take_tag(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	      void *target)
{
	const char *text = string_of(value);

	if (!text || strlen(text) < 1 || strlen(text) > CONFIG_MAX_TAG_LEN)
		return false;
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return string_set(r, key, text, target);
}

/* What an unprivileged process may set: an attribute of the namespace "user". */
bool take_xattr_map(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		    void *target)
{
	const char *text = string_of(value);

	if (!text || strlen(text) > CONFIG_MAX_XATTR_PREFIX_LEN ||
	    strncmp(text, "user.", strlen("user.")) != 0 || strlen(text) < strlen("user.x.") ||
	    text[strlen(text) - 1] != '.')
		return false;
	for (const char *p = text; *p; p++)
		if (*p <= 0x20 || *p > 0x7e)
			return false;
	return string_set(r, key, text, target);
}

static bool range_member(json_object *object, const char *name, uint64_t min, uint64_t *ret)
{
	json_object *value;
	int64_t v;

	if (!json_object_object_get_ex(object, name, &value) ||
	    !json_object_is_type(value, json_type_int))
		return false;
	v = json_object_get_int64(value);
	if (v < 0 || (uint64_t)v < min || v >= (int64_t)UINT32_MAX)
		return false;
	*ret = (uint64_t)v;
	return true;
}

static bool range_read(json_object *object, struct id_range *ret)
{
	return json_object_is_type(object, json_type_object) &&
	       json_object_object_length(object) == 3 &&
	       range_member(object, "guest", 0, &ret->guest) &&
	       range_member(object, "host", 0, &ret->host) &&
	       range_member(object, "count", 1, &ret->count) &&
	       ret->guest + ret->count <= UINT32_MAX && ret->host + ret->count <= UINT32_MAX;
}

static bool overlap(uint64_t a, uint64_t a_count, uint64_t b, uint64_t b_count)
{
	return a < b + b_count && b < a + a_count;
}

bool take_id_map(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		 void *target)
{
	struct id_map map = { 0 };

	if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) < 1 ||
	    json_object_array_length(value) > TREE_MAX_RANGES)
		return false;
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		struct id_range *range = &map.ranges[i];

		if (!range_read(json_object_array_get_idx(value, i), range))
			return false;
		for (size_t k = 0; k < i; k++)
			if (overlap(range->guest, range->count, map.ranges[k].guest,
				    map.ranges[k].count) ||
			    overlap(range->host, range->count, map.ranges[k].host,
				    map.ranges[k].count))
				return false;
		map.n++;
	}
	*(struct id_map *)target_at(key, target) = map;
	return true;
}

bool take_side(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	       void *target)
{
	struct device_config *config = target;

	if (config->side) {
		(void)snprintf(r->detail, sizeof(r->detail), "the device has \"%s\" already",
			       config->side);
		return false;
	}
	config->side = strdup(key->name);
	if (!config->side)
		r->failure = -ENOMEM;
	return take_object(r, key, value, id, target);
}

/* Of one station: not a group's, not zero. */
bool take_mac(struct reader *r, const struct key *key, json_object *value, uint32_t id,
	      void *target)
{
	const char *text = string_of(value);
	unsigned sum = 0;

	if (!text || strlen(text) != strlen("00:00:00:00:00:00"))
		return false;
	for (size_t i = 0; text[i]; i++) {
		bool good = i % 3 == 2 ? text[i] == ':'
				       : strchr("0123456789abcdefABCDEF", text[i]) != NULL;

		if (!good)
			return false;
		sum |= text[i] != ':' && text[i] != '0';
	}
	if (!sum || strchr("13579bdfBDF", text[1])) {
		(void)snprintf(r->detail, sizeof(r->detail), "not the address of one station");
		return false;
	}
	return string_set(r, key, text, target);
}

bool take_interface(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		    void *target)
{
	const char *text = string_of(value);

	return text && tap_name_is_valid(text) && string_set(r, key, text, target);
}
