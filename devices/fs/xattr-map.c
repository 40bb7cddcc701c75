/* Names of extended attributes. See xattr-map.h. */
#include "devices/fs/xattr-map.h"

#include <errno.h>
#include <string.h>

static bool begins(const char *name, const char *with)
{
	return strncmp(name, with, strlen(with)) == 0;
}

static bool is_acl(const char *name)
{
	return strcmp(name, "system.posix_acl_access") == 0 ||
	       strcmp(name, "system.posix_acl_default") == 0;
}

/* Of those that a prefix is for. */
static bool is_privileged(const char *name)
{
	return begins(name, "trusted.") || begins(name, "security.");
}

bool xattr_map_prefix_ok(const char *prefix)
{
	size_t len = strlen(prefix);

	return begins(prefix, "user.") && len > strlen("user.") && len <= XATTR_MAP_PREFIX_MAX &&
	       prefix[len - 1] == '.';
}

int xattr_map_to_host(const struct xattr_map *map, const char *name, char ret[XATTR_MAP_NAME_MAX])
{
	const char *prefix = "";

	if (is_privileged(name))
		prefix = map->prefix ? map->prefix : "";
	else if (is_acl(name) ? !map->acl : !begins(name, "user."))
		return -EOPNOTSUPP;
	else if (map->prefix && begins(name, map->prefix))
		return -EPERM;
	if (strlen(prefix) + strlen(name) >= XATTR_MAP_NAME_MAX)
		return -ERANGE;
	strcpy(ret, prefix);
	strcat(ret, name);
	return 0;
}

const char *xattr_map_to_guest(const struct xattr_map *map, const char *name)
{
	if (map->prefix && begins(name, map->prefix)) {
		name += strlen(map->prefix);
		return is_privileged(name) ? name : NULL;
	}
	if (is_privileged(name))
		return map->prefix ? NULL : name;
	if (is_acl(name))
		return map->acl ? name : NULL;
	return begins(name, "user.") ? name : NULL;
}

size_t xattr_map_list(const struct xattr_map *map, char *list, size_t len)
{
	size_t kept = 0, at = 0;

	while (at < len) {
		size_t name_len = strnlen(list + at, len - at) + 1;
		const char *guest;

		if (at + name_len > len)
			break; /* no NUL: not a name */
		guest = xattr_map_to_guest(map, list + at);
		at += name_len;
		if (!guest)
			continue;
		/* Guests' names are never longer than the host's: what is read lies ahead. */
		name_len = strlen(guest) + 1;
		memmove(list + kept, guest, name_len);
		kept += name_len;
	}
	return kept;
}
