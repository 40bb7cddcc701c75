/* What an Ethernet frame is. See frame.h. */
#include "devices/net/frame.h"

#include <string.h>

enum {
	ETH_LEN = 14,
	TAG_LEN = 4,
	IPV4_LEN = 20,
	IPV6_LEN = 40,
	TCP_LEN = 20,
	UDP_LEN = 8,
	MAX_EXTENSIONS = 8, /* IPv6 extension headers that are followed */
};

/* IPv6 extension headers (RFC 8200 §4) that have a length in units of eight bytes. */
static bool is_extension(uint8_t protocol)
{
	return protocol == 0 || protocol == 43 || protocol == 60 || protocol == 44;
}

static void parse_l4(struct frame_info *f, const uint8_t *head, uint32_t len, uint32_t at,
		     uint8_t protocol)
{
	uint32_t header;

	if (at >= len)
		return;
	f->l4 = (uint16_t)at;
	f->protocol = protocol;
	if (protocol == FRAME_UDP && at + UDP_LEN <= len)
		f->payload = (uint16_t)(at + UDP_LEN);
	if (protocol != FRAME_TCP || at + TCP_LEN > len)
		return;
	header = (uint32_t)(head[at + 12] >> 4) * 4;
	if (header >= TCP_LEN && at + header <= len)
		f->payload = (uint16_t)(at + header);
}

static void parse_ipv4(struct frame_info *f, const uint8_t *head, uint32_t len)
{
	const uint8_t *ip = head + f->l3;
	uint32_t header;

	if ((uint32_t)f->l3 + IPV4_LEN > len || ip[0] >> 4 != 4)
		return;
	header = (uint32_t)(ip[0] & 0xf) * 4;
	f->fragment = (frame_u16(ip + 6) & 0x3fff) != 0;
	/* Of a later fragment what follows is no header. */
	if (header < IPV4_LEN || (frame_u16(ip + 6) & 0x1fff) != 0)
		return;
	parse_l4(f, head, len, f->l3 + header, ip[9]);
}

static void parse_ipv6(struct frame_info *f, const uint8_t *head, uint32_t len)
{
	const uint8_t *ip = head + f->l3;
	uint32_t at = f->l3 + IPV6_LEN;
	uint8_t protocol;

	if (at > len || ip[0] >> 4 != 6)
		return;
	protocol = ip[6];
	for (int i = 0; is_extension(protocol); i++) {
		bool is_fragment = protocol == 44;

		if (i == MAX_EXTENSIONS || at + 8 > len)
			return;
		f->fragment = f->fragment || is_fragment;
		if (is_fragment && (frame_u16(head + at + 2) & 0xfff8) != 0)
			return;
		protocol = head[at];
		at += is_fragment ? 8 : 8 + (uint32_t)head[at + 1] * 8;
	}
	parse_l4(f, head, len, at, protocol);
}

struct frame_info frame_parse(const uint8_t *head, uint32_t len)
{
	struct frame_info f = { .l3 = ETH_LEN };
	int tags = 0;

	f.type = frame_u16(head + ETH_LEN - 2);
	while ((f.type == FRAME_VLAN || f.type == FRAME_QINQ) && tags < FRAME_MAX_TAGS &&
	       (uint32_t)f.l3 + TAG_LEN <= len) {
		if (tags++ == 0) {
			f.tagged = true;
			f.vlan = frame_u16(head + f.l3) & 0xfff;
		}
		f.type = frame_u16(head + f.l3 + 2);
		f.l3 = (uint16_t)(f.l3 + TAG_LEN);
	}
	if (f.type == FRAME_IPV4)
		parse_ipv4(&f, head, len);
	else if (f.type == FRAME_IPV6)
		parse_ipv6(&f, head, len);
	return f;
}
