/* Allow lists of ports. See vsock.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/base/parse.h"
#include "devices/vsock/vsock.h"

bool port_allowed(const struct port_list *list, uint32_t port)
{
	for (uint32_t i = 0; i < list->n && !list->all; i++)
		if (port >= list->ranges[i].first && port <= list->ranges[i].last)
			return true;
	return list->all;
}

static int parse_range(struct port_range *range, char *text)
{
	char *dash = strchr(text, '-');
	uint64_t first, last;
	int r;

	if (dash)
		*dash++ = '\0';
	r = parse_u64(text, 0, UINT32_MAX, &first);
	last = first;
	if (r == 0 && dash)
		r = parse_u64(dash, first, UINT32_MAX, &last);
	if (r < 0)
		return -EINVAL;
	*range = (struct port_range){ (uint32_t)first, (uint32_t)last };
	return 0;
}

int port_list_parse(struct port_list *list, const char *text)
{
	char copy[VSOCK_RANGES_MAX * 24], *at = copy, *comma;

	*list = (struct port_list){ .all = strcmp(text, "all") == 0 };
	if (list->all || strcmp(text, "none") == 0)
		return 0;
	if (strlen(text) >= sizeof(copy))
		return -EINVAL;
	strcpy(copy, text);
	for (;;) {
		comma = strchr(at, ',');
		if (comma)
			*comma = '\0';
		if (list->n == VSOCK_RANGES_MAX || parse_range(&list->ranges[list->n++], at) < 0)
			return -EINVAL;
		if (!comma)
			return 0;
		at = comma + 1;
	}
}
