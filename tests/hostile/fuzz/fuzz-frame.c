/* A guest's header and frame: what passes the check is cut up into frames that are frames. */
#include <string.h>

#include "devices/net/control.h"
#include "devices/net/header.h"
#include "devices/net/host.h"
#include "devices/net/segment.h"
#include "tests/hostile/fuzz/fuzz.h"

static uint8_t piece[NET_MAX_FRAME_LEN];

static void segments(const struct net_header *h, const uint8_t *frame, uint32_t len)
{
	struct segment s;
	uint32_t n, total = 0;

	if (!segment_begin(&s, h, frame, len))
		return;
	while ((n = segment_next(&s, piece)) > 0) {
		CLAIM(n >= NET_ETH_LEN && n <= len);
		total += s.gso ? n - s.info.payload : n;
	}
	CLAIM(total == (s.gso ? len - s.info.payload : len));
}

static void passed(const struct net_header *h, uint32_t len)
{
	CLAIM((h->flags & ~NET_HDR_F_NEEDS_CSUM) == 0 && h->num_buffers == 0);
	CLAIM(h->hdr_len <= len);
	if (h->flags)
		CLAIM((uint32_t)h->csum_start + h->csum_offset + 2 <= len);
	if (h->gso_type != NET_HDR_GSO_NONE)
		CLAIM(h->flags && h->gso_size > 0 && h->hdr_len < len &&
		      h->csum_start < h->hdr_len);
}

static void command(const uint8_t *data, size_t len)
{
	static struct control_store store;
	const struct control_rules rules = { .features = ~UINT64_C(0), .max_pairs = 4 };
	struct iovec iov[2] = { { (uint8_t *)(uintptr_t)data, len / 2 },
				{ (uint8_t *)(uintptr_t)data + len / 2, len - len / 2 } };

	memset(&store, 0, sizeof(store));
	control_command(&store, &rules, iov, 2, (uint32_t)len);
	CLAIM(control_check(&store, rules.max_pairs));
}

/* The first byte: what was agreed on. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct header_rules rules;
	struct net_header h;
	uint32_t frame_len;

	if (len > 0)
		command(data, len);
	if (len < 1 + sizeof(h))
		return 0;
	rules = (struct header_rules){ data[0] & 1, data[0] & 2,  data[0] & 4,
				       data[0] & 8, data[0] & 16, data[0] & 32 };
	memcpy(&h, data + 1, sizeof(h));
	frame_len = (uint32_t)(len - 1 - sizeof(h));
	segments(&h, data + 1 + sizeof(h), frame_len);
	if (header_check(&h, data + 1 + sizeof(h), frame_len, &rules) == HEADER_OK)
		passed(&h, frame_len);
	return 0;
}
