/* The header in front of each frame. See header.h. */
#include "devices/net/header.h"

#include "devices/net/host.h"

enum {
	/* Linux sends no smaller segments (TCP_MIN_SND_MSS), and no more of them in UDP. */
	MIN_TCP_SEGMENT = 48,
	MAX_UDP_SEGMENTS = 128,
	TCP_CSUM_OFFSET = 16,
	UDP_CSUM_OFFSET = 6,
};

const char *header_verdict_to_string(enum header_verdict v)
{
	static const char *const names[] = {
		[HEADER_OK] = "ok",
		[HEADER_RUNT] = "shorter than an Ethernet header",
		[HEADER_TOO_LONG] = "longer than a frame can be",
		[HEADER_CSUM] = "a partial checksum that cannot be",
		[HEADER_GSO_TYPE] = "segmentation that was not agreed on",
		[HEADER_GSO_SIZE] = "segments that are too small, or too many",
		[HEADER_GSO_FRAME] = "a frame that is not what its segmentation type says",
		[HEADER_HDR_LEN] = "headers that end beyond the frame",
	};

	_Static_assert(sizeof(names) / sizeof(*names) == _HEADER_VERDICT_N, "a text for each");
	return names[v];
}

static bool csum_good(const struct net_header *h, uint32_t len, const struct header_rules *rules)
{
	uint32_t field = (uint32_t)h->csum_start + h->csum_offset;

	return rules->csum && h->csum_start >= NET_ETH_LEN && h->csum_start < len &&
	       field + sizeof(uint16_t) <= len;
}

static bool type_allowed(uint8_t type, bool ecn, const struct header_rules *rules)
{
	switch (type) {
	case NET_HDR_GSO_TCPV4:
		return rules->tso4 && (!ecn || rules->ecn);
	case NET_HDR_GSO_TCPV6:
		return rules->tso6 && (!ecn || rules->ecn);
	case NET_HDR_GSO_UDP_L4:
		return (rules->uso4 || rules->uso6) && !ecn;
	default:
		return false;
	}
}

/* Is it the frame that its type says, with its checksum where that has it? */
static bool frame_fits(const struct net_header *h, const struct frame_info *f, uint8_t type,
		       const struct header_rules *rules)
{
	bool udp = type == NET_HDR_GSO_UDP_L4;

	if (f->payload == 0 || f->fragment || f->protocol != (udp ? FRAME_UDP : FRAME_TCP) ||
	    h->csum_start != f->l4 || h->csum_offset != (udp ? UDP_CSUM_OFFSET : TCP_CSUM_OFFSET))
		return false;
	if (udp)
		return f->type == FRAME_IPV4 ? rules->uso4 : rules->uso6;
	return f->type == (type == NET_HDR_GSO_TCPV4 ? FRAME_IPV4 : FRAME_IPV6);
}

static bool size_good(const struct net_header *h, uint8_t type, uint32_t payload_len)
{
	if (h->gso_size == 0)
		return false;
	if (type != NET_HDR_GSO_UDP_L4)
		return h->gso_size >= MIN_TCP_SEGMENT;
	return (payload_len + h->gso_size - 1) / h->gso_size <= MAX_UDP_SEGMENTS;
}

static enum header_verdict gso_check(struct net_header *h, const uint8_t *head, uint32_t len,
				     const struct header_rules *rules)
{
	uint8_t type = h->gso_type & ~NET_HDR_GSO_ECN;
	struct frame_info f;

	if (!(h->flags & NET_HDR_F_NEEDS_CSUM) ||
	    !type_allowed(type, h->gso_type & NET_HDR_GSO_ECN, rules))
		return HEADER_GSO_TYPE;
	if (h->hdr_len > len)
		return HEADER_HDR_LEN;
	f = frame_parse(head, len < FRAME_HEAD_LEN ? len : FRAME_HEAD_LEN);
	if (!frame_fits(h, &f, type, rules))
		return HEADER_GSO_FRAME;
	if (!size_good(h, type, len - f.payload))
		return HEADER_GSO_SIZE;
	h->hdr_len = f.payload;
	/* One segment: there is nothing to be cut. */
	if (len - f.payload <= h->gso_size) {
		h->gso_type = NET_HDR_GSO_NONE;
		h->gso_size = 0;
	}
	return HEADER_OK;
}

enum header_verdict header_check(struct net_header *h, const uint8_t *head, uint32_t len,
				 const struct header_rules *rules)
{
	if (len < NET_ETH_LEN)
		return HEADER_RUNT;
	if (len > NET_MAX_FRAME_LEN)
		return HEADER_TOO_LONG;
	h->flags &= NET_HDR_F_NEEDS_CSUM;
	h->num_buffers = 0;
	if (!h->flags)
		h->csum_start = h->csum_offset = 0;
	else if (!csum_good(h, len, rules))
		return HEADER_CSUM;
	if (h->gso_type != NET_HDR_GSO_NONE)
		return gso_check(h, head, len, rules);
	/* A hint that says nothing without segmentation; the kernel would believe it. */
	h->hdr_len = h->gso_size = 0;
	return HEADER_OK;
}
