/*
 * What an Ethernet frame is: where its headers begin and end.
 *
 * Runs in: worker. Trusts: nothing of the bytes; they are a copy that nobody changes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	FRAME_HEAD_LEN = 256, /* bytes of a frame that are copied and looked at, at most */
	FRAME_MAX_TAGS = 2,
	FRAME_IPV4 = 0x0800,
	FRAME_ARP = 0x0806,
	FRAME_IPV6 = 0x86dd,
	FRAME_RARP = 0x8035,
	FRAME_VLAN = 0x8100,
	FRAME_QINQ = 0x88a8,
	FRAME_TCP = 6,
	FRAME_UDP = 17,
	FRAME_ICMPV6 = 58,
};

struct frame_info {
	uint16_t type;	  /* EtherType behind the tags */
	uint16_t l3;	  /* offset of what follows it */
	uint16_t l4;	  /* offset of the transport header; 0: there is none, or it is not seen */
	uint16_t payload; /* offset behind a TCP or UDP header; 0: likewise */
	uint8_t protocol; /* with l4: of it */
	bool tagged;	  /* the outermost tag is a VLAN's */
	uint16_t vlan;	  /* its id */
	bool fragment;	  /* an IP fragment: a later one has no transport header */
};

static inline uint16_t frame_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t frame_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void frame_put_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void frame_put_u32(uint8_t *p, uint32_t v)
{
	frame_put_u16(p, (uint16_t)(v >> 16));
	frame_put_u16(p + 2, (uint16_t)v);
}

/*
 * Look at head[0..len), the first bytes of a frame, at least 14. What is not seen there is as if it were not
 * there.
 */
struct frame_info frame_parse(const uint8_t *head, uint32_t len);
