/* Sources of frames. See filter.h. */
#include "devices/net/filter.h"

#include <string.h>

#include "devices/net/frame.h"

enum {
	ARP_LEN = 28,
	ARP_SENDER_MAC = 8,
	ARP_SENDER_IP = 14,
	IPV4_LEN = 20,
	IPV4_SOURCE = 12,
	IPV6_LEN = 40,
	IPV6_PAYLOAD_LEN = 4,
	IPV6_NEXT = 6,
	IPV6_SOURCE = 8,
	NEXT_HOP_BY_HOP = 0,
	NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44,
	NEXT_ICMPV6 = 58,
	NEXT_OPTIONS = 60,
	MAX_EXTENSIONS = 3,
	ND_ROUTER_SOLICITATION = 133,
	ND_ROUTER_ADVERTISEMENT = 134,
	ND_NEIGHBOUR_SOLICITATION = 135,
	ND_NEIGHBOUR_ADVERTISEMENT = 136,
	ND_REDIRECT = 137,
	ND_TARGET = 8,
	OPTION_SOURCE_MAC = 1,
	OPTION_TARGET_MAC = 2,
};

/* What of a packet is in the copy. */
struct view {
	const uint8_t *p;
	uint32_t len;
};

static bool is_zero(const uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

static bool owns(const struct filter *f, const uint8_t *address)
{
	for (uint32_t i = 0; i < f->n_addresses; i++)
		if (memcmp(f->addresses[i], address, 16) == 0)
			return true;
	return false;
}

static bool owns_ipv4(const struct filter *f, const uint8_t *address)
{
	uint8_t mapped[16] = { [10] = 0xff, [11] = 0xff };

	memcpy(mapped + 12, address, 4);
	return f->n_addresses == 0 || is_zero(address, 4) || owns(f, mapped);
}

static bool is_own_link_local(const struct filter *f, const uint8_t *address)
{
	const uint8_t *m = f->mac;
	const uint8_t own[16] = { 0xfe,	    0x80, 0,	0,    0,    0,	  0,	0,
				  m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5] };

	return memcmp(address, own, sizeof(own)) == 0;
}

static bool owns_ipv6(const struct filter *f, const uint8_t *address)
{
	return f->n_addresses == 0 || is_zero(address, 16) || is_own_link_local(f, address) ||
	       owns(f, address);
}

static bool pass_arp(const struct filter *f, struct view v)
{
	return v.len >= ARP_LEN && memcmp(v.p + ARP_SENDER_MAC, f->mac, 6) == 0 &&
	       owns_ipv4(f, v.p + ARP_SENDER_IP);
}

static bool pass_ipv4(const struct filter *f, struct view v)
{
	return f->n_addresses == 0 || (v.len >= IPV4_LEN && owns_ipv4(f, v.p + IPV4_SOURCE));
}

/* Options of neighbour discovery: type, length in units of 8 bytes. */
static bool pass_options(const struct filter *f, struct view v)
{
	while (v.len > 0) {
		uint32_t len = v.len >= 8 ? v.p[1] * 8u : 0;

		if (len == 0 || len > v.len)
			return false;
		if ((v.p[0] == OPTION_SOURCE_MAC || v.p[0] == OPTION_TARGET_MAC) &&
		    memcmp(v.p + 2, f->mac, 6) != 0)
			return false;
		v = (struct view){ v.p + len, v.len - len };
	}
	return true;
}

static bool pass_discovery(const struct filter *f, struct view v)
{
	uint32_t options;

	switch (v.len > 0 ? v.p[0] : 0) {
	case ND_ROUTER_SOLICITATION:
		options = 8;
		break;
	case ND_NEIGHBOUR_SOLICITATION:
		options = 24;
		break;
	case ND_NEIGHBOUR_ADVERTISEMENT:
		options = 24;
		if (v.len < options || !owns_ipv6(f, v.p + ND_TARGET))
			return false;
		break;
	case ND_ROUTER_ADVERTISEMENT:
		options = 16;
		if (f->n_addresses > 0)
			return false;
		break;
	case ND_REDIRECT:
		options = 40;
		if (f->n_addresses > 0)
			return false;
		break;
	default:
		return true;
	}
	return v.len >= options && pass_options(f, (struct view){ v.p + options, v.len - options });
}

static bool is_extension(uint8_t next)
{
	return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_FRAGMENT ||
	       next == NEXT_OPTIONS;
}

static bool is_discovery(struct view v)
{
	return v.len == 0 || (v.p[0] >= ND_ROUTER_SOLICITATION && v.p[0] <= ND_REDIRECT);
}

/*
 * Neighbour discovery comes without extension headers (RFC 6980 forbids fragments, nothing
 * needs the others): behind some it is not looked for, but refused.
 */
static bool pass_extensions(struct view v, uint8_t next)
{
	for (uint32_t i = 0; i < MAX_EXTENSIONS && is_extension(next); i++) {
		uint32_t len = v.len < 8 ? 0 : next == NEXT_FRAGMENT ? 8 : (v.p[1] + 1u) * 8;

		if (len == 0 || len > v.len)
			return false;
		next = v.p[0];
		v = (struct view){ v.p + len, v.len - len };
	}
	return !is_extension(next) && !(next == NEXT_ICMPV6 && is_discovery(v));
}

static bool pass_ipv6(const struct filter *f, struct view v)
{
	struct view payload;
	uint32_t len;

	if (v.len < IPV6_LEN || !owns_ipv6(f, v.p + IPV6_SOURCE))
		return false;
	payload = (struct view){ v.p + IPV6_LEN, v.len - IPV6_LEN };
	if (v.p[IPV6_NEXT] != NEXT_ICMPV6)
		return pass_extensions(payload, v.p[IPV6_NEXT]);
	/* Without the padding of a short frame, which is no option. */
	len = frame_u16(v.p + IPV6_PAYLOAD_LEN);
	payload.len = payload.len < len ? payload.len : len;
	return pass_discovery(f, payload);
}

bool filter_pass(const struct filter *f, const struct filter_frame *frame)
{
	struct view v = { frame->packet, frame->len };

	if (!f->bound)
		return true;
	if (memcmp(frame->source, f->mac, 6) != 0)
		return false;
	switch (frame->type) {
	case FRAME_ARP:
	case FRAME_RARP:
		return pass_arp(f, v);
	case FRAME_IPV4:
		return pass_ipv4(f, v);
	case FRAME_IPV6:
		return pass_ipv6(f, v);
	case FRAME_VLAN:
	case FRAME_QINQ:
		return false;
	default:
		return f->n_addresses == 0;
	}
}
