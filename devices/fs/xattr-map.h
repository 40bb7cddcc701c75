/*
 * Names of extended attributes: what the guest calls them, and what the host does.
 *
 * Runs in: worker. Trusts: nothing; names come from the guest, and from the host's files.
 *
 * A device without capabilities may set only user.* attributes. With a prefix, the guest's
 * trusted.* and security.* are therefore stored under the prefix, which begins with "user.",
 * followed by the guest's name:
 *
 *	guest			host
 *	user.NAME		user.NAME, unless it begins with the prefix: that is not there for
 *				the guest
 *	trusted.NAME		PREFIXtrusted.NAME, without a prefix: itself
 *	security.NAME		PREFIXsecurity.NAME, without a prefix: itself
 *	system.posix_acl_*	itself, if the device has ACLs
 *	anything else		not supported
 *
 * With a prefix the host's own trusted.* and security.* are hidden from the guest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum {
	XATTR_MAP_NAME_MAX = 512,  /* room for a host's name, with its NUL */
	XATTR_MAP_PREFIX_MAX = 64, /* longest prefix */
};

struct xattr_map {
	const char *prefix; /* NULL: none */
	bool acl;
};

/* Can this be a prefix? "user.…", ending with a dot. */
bool xattr_map_prefix_ok(const char *prefix);

/*
 * The host's name of name. 0; -EOPNOTSUPP: there are none such; -EPERM: under the prefix, where the
 * guest has nothing to look for; -ERANGE: too long.
 */
int xattr_map_to_host(const struct xattr_map *map, const char *name, char ret[XATTR_MAP_NAME_MAX]);

/* The guest's name of the host's name, in place of it or in it; NULL: hidden. */
const char *xattr_map_to_guest(const struct xattr_map *map, const char *name);

/* A host's list of names, each with its NUL, as the guest is to see it; in place. The length. */
size_t xattr_map_list(const struct xattr_map *map, char *list, size_t len);
