/* Extensions behind the arguments. See extension.h. */
#include "devices/fs/extension.h"

#include <errno.h>
#include <string.h>

#include "devices/fs/proto.h"
#include "devices/fs/request.h"

/* The record at at: its length with padding, or 0 if it is not inside of s. */
static uint32_t read_context(struct span s, uint32_t at, struct extension_context *ret)
{
	struct fuse_secctx head;
	struct span rest;
	const uint8_t *end;
	uint32_t len;

	if (!span_sub(s, at, sizeof(head), &rest))
		return 0;
	memcpy(&head, rest.p, sizeof(head));
	span_sub(s, at + sizeof(head), s.len - at - sizeof(head), &rest);
	end = rest.len > 0 ? memchr(rest.p, '\0', rest.len) : NULL;
	if (!end)
		return 0;
	len = (uint32_t)(end - rest.p) + 1;
	if (!span_fits(rest.len, len, head.size))
		return 0;
	*ret = (struct extension_context){ .name = (const char *)rest.p,
					   .value = rest.p + len,
					   .len = head.size };
	len = FUSE_REC_ALIGN((uint32_t)sizeof(head) + len + head.size);
	return span_fits(s.len, at, len) ? len : 0;
}

static int parse_contexts(struct span body, uint32_t n, struct extension *ret)
{
	struct extension_context c;
	uint32_t at = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = read_context(body, at, &c);

		if (len == 0)
			return -EINVAL;
		at += len;
	}
	ret->contexts = span_of(body.p, at);
	ret->n_contexts = n;
	return 0;
}

static int parse_groups(struct span body, struct extension *ret)
{
	struct proto_supp_groups head;

	if (body.len < sizeof(head))
		return -EINVAL;
	memcpy(&head, body.p, sizeof(head));
	return span_sub(body, sizeof(head), (uint64_t)head.nr_groups * sizeof(uint32_t),
			&ret->groups)
		       ? 0
		       : -EINVAL;
}

int extension_parse(const struct request *rq, uint32_t offset, struct extension *ret)
{
	struct span all = { .p = (uint8_t *)(uintptr_t)rq->args, .len = rq->args_len }, body;
	struct fuse_ext_header head;
	int r = 0;

	*ret = (struct extension){};
	while (r == 0 && offset < all.len) {
		if (!span_sub(all, offset, sizeof(head), &body))
			return -EINVAL;
		memcpy(&head, body.p, sizeof(head));
		if (head.size < sizeof(head) ||
		    !span_sub(all, offset + sizeof(head), head.size - sizeof(head), &body))
			return -EINVAL;
		if (head.type <= PROTO_MAX_NR_SECCTX)
			r = parse_contexts(body, head.type, ret);
		else if (head.type == PROTO_EXT_GROUPS)
			r = parse_groups(body, ret);
		else
			r = -EINVAL; /* none that we have agreed to */
		offset += head.size;
	}
	return r;
}

bool extension_has_group(const struct extension *x, uint32_t gid)
{
	for (size_t at = 0; at < x->groups.len; at += sizeof(gid))
		if (memcmp(x->groups.p + at, &gid, sizeof(gid)) == 0)
			return true;
	return false;
}

bool extension_next_context(const struct extension *x, uint32_t *at, struct extension_context *ret)
{
	uint32_t len = *at < x->contexts.len ? read_context(x->contexts, *at, ret) : 0;

	*at += len;
	return len > 0;
}
