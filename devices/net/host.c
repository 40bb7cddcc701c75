/* The host sides that there are. See host.h. */
#include "devices/net/host.h"

#include <stddef.h>
#include <string.h>

const struct host_side *host_side_find(const char *name)
{
	static const struct host_side *const sides[] = { &host_null, &host_tap, &host_switch,
							 &host_user };

	for (size_t i = 0; i < sizeof(sides) / sizeof(*sides); i++)
		if (strcmp(sides[i]->name, name) == 0)
			return sides[i];
	return NULL;
}

const char *host_side_names(void)
{
	return "null, tap, switch, user";
}
