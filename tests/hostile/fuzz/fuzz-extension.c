/*
 * What a guest writes behind the names of a request, and a host's list of attributes: the first byte says where the
 * extensions begin.
 */
#include <string.h>

#include "devices/fs/extension.h"
#include "devices/fs/request.h"
#include "devices/fs/xattr-map.h"
#include "tests/hostile/fuzz/fuzz.h"

static void contexts(const struct request *rq, const struct extension *x)
{
	struct span all = { .p = (uint8_t *)(uintptr_t)rq->args, .len = rq->args_len };
	struct extension_context c;
	uint32_t at = 0, n = 0;

	while (extension_next_context(x, &at, &c)) {
		CLAIM(span_has(all, c.name, strlen(c.name) + 1));
		CLAIM(span_has(all, c.value, c.len));
		n++;
	}
	CLAIM(n == x->n_contexts);
}

static void list(const uint8_t *data, size_t len)
{
	const struct xattr_map map = { .prefix = "user.g.", .acl = true };
	char names[512], host[XATTR_MAP_NAME_MAX];
	size_t n = len < sizeof(names) ? len : sizeof(names);

	memcpy(names, data, n);
	n = xattr_map_list(&map, names, n);
	CLAIM(n <= len);
	/* What the guest is shown, it can ask for. */
	for (size_t at = 0; at < n; at += strlen(names + at) + 1)
		CLAIM(xattr_map_to_host(&map, names + at, host) == 0 &&
		      strcmp(xattr_map_to_guest(&map, host), names + at) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct request rq = { .args = data + 1, .args_len = (uint32_t)(len ? len - 1 : 0) };
	struct extension x;

	if (len == 0)
		return 0;
	if (extension_parse(&rq, data[0] % 8, &x) == 0) {
		contexts(&rq, &x);
		extension_has_group(&x, 7);
	}
	list(data + 1, len - 1);
	return 0;
}
