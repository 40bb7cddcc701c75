/* A GSO frame cut into plain ones. See segment.h. */
#include "devices/net/segment.h"

#include <string.h>

#include "devices/net/header.h"
#include "devices/net/host.h"

enum {
	TCP_FIN_PSH = 0x09,
	TCP_CWR = 0x80,
	TCP_FLAGS = 13,
	TCP_SEQ = 4,
	TCP_CSUM = 16,
	UDP_LEN = 4,
	UDP_CSUM = 6,
	IPV4_TOTAL = 2,
	IPV4_ID = 4,
	IPV4_CSUM = 10,
	IPV4_ADDRESSES = 12,
	IPV6_PAYLOAD = 4,
	IPV6_LEN = 40,
	IPV6_ADDRESSES = 8,
};

uint32_t segment_sum(const uint8_t *p, uint32_t len, uint32_t sum)
{
	uint64_t wide = sum;

	for (; len > 1; p += 2, len -= 2)
		wide += frame_u16(p);
	if (len > 0)
		wide += (uint32_t)(p[0] << 8);
	while (wide >> 16)
		wide = (wide & 0xffff) + (wide >> 16);
	return (uint32_t)wide;
}

bool segment_begin(struct segment *s, const struct net_header *h, const uint8_t *frame,
		   uint32_t len)
{
	static const struct header_rules all = { true, true, true, true, true, true };
	struct net_header checked = *h;

	if (header_check(&checked, frame, len, &all) != HEADER_OK)
		return false;
	*s = (struct segment){ .frame = frame,
			       .len = len,
			       .gso = checked.gso_type != NET_HDR_GSO_NONE,
			       .size = checked.gso_size,
			       .needs_csum = checked.flags & NET_HDR_F_NEEDS_CSUM,
			       .csum_start = checked.csum_start,
			       .csum_offset = checked.csum_offset };
	s->info = frame_parse(frame, len < FRAME_HEAD_LEN ? len : FRAME_HEAD_LEN);
	return true;
}

/* Lengths, identification and header checksum of the IP header for l3 and what follows, in all len bytes. */
static void fix_ip(const struct segment *s, uint8_t *out, uint32_t len)
{
	uint8_t *ip = out + s->info.l3;

	if (s->info.type == FRAME_IPV6) {
		frame_put_u16(ip + IPV6_PAYLOAD, (uint16_t)(len - s->info.l3 - IPV6_LEN));
		return;
	}
	frame_put_u16(ip + IPV4_TOTAL, (uint16_t)(len - s->info.l3));
	frame_put_u16(ip + IPV4_ID, (uint16_t)(frame_u16(ip + IPV4_ID) + s->n));
	frame_put_u16(ip + IPV4_CSUM, 0);
	frame_put_u16(ip + IPV4_CSUM,
		      (uint16_t)~segment_sum(ip, (uint32_t)(s->info.l4 - s->info.l3), 0));
}

/* The transport header of segment n, whose payload begins at `done`; last: nothing follows. */
static void fix_transport(const struct segment *s, uint8_t *out, uint32_t len, bool last)
{
	uint8_t *l4 = out + s->info.l4;

	if (s->info.protocol == FRAME_UDP) {
		frame_put_u16(l4 + UDP_LEN, (uint16_t)(len - s->info.l4));
		return;
	}
	frame_put_u32(l4 + TCP_SEQ, frame_u32(l4 + TCP_SEQ) + s->done);
	/* FIN and PSH are the last one's, CWR the first one's (as the kernel cuts them). */
	if (!last)
		l4[TCP_FLAGS] &= (uint8_t)~TCP_FIN_PSH;
	if (s->n > 0)
		l4[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
}

/* The checksum with its pseudo header (RFC 9293 §3.1, RFC 8200 §8.1). */
static void fix_checksum(const struct segment *s, uint8_t *out, uint32_t len)
{
	bool v6 = s->info.type == FRAME_IPV6;
	uint8_t *l4 = out + s->info.l4;
	uint8_t *field = l4 + (s->info.protocol == FRAME_UDP ? UDP_CSUM : TCP_CSUM);
	uint32_t l4_len = len - s->info.l4, sum = l4_len + s->info.protocol;
	uint16_t csum;

	frame_put_u16(field, 0);
	sum = segment_sum(out + s->info.l3 + (v6 ? IPV6_ADDRESSES : IPV4_ADDRESSES), v6 ? 32 : 8,
			  sum);
	csum = (uint16_t)~segment_sum(l4, l4_len, sum);
	/* In UDP 0 means that there is none. */
	frame_put_u16(field, csum == 0 && s->info.protocol == FRAME_UDP ? 0xffff : csum);
}

static uint32_t next_plain(struct segment *s, uint8_t *out)
{
	uint8_t *field = out + s->csum_start + s->csum_offset;
	uint16_t csum;

	memcpy(out, s->frame, s->len);
	s->over = true;
	if (!s->needs_csum)
		return s->len;
	/* The field holds the pseudo header's sum; it is part of what is summed up. */
	csum = (uint16_t)~segment_sum(out + s->csum_start, s->len - s->csum_start, 0);
	frame_put_u16(field, csum == 0 && s->csum_offset == UDP_CSUM ? 0xffff : csum);
	return s->len;
}

uint32_t segment_next(struct segment *s, uint8_t *out)
{
	uint32_t headers = s->info.payload, left, part, len;

	if (s->over)
		return 0;
	if (!s->gso)
		return next_plain(s, out);
	left = s->len - headers - s->done;
	part = left < s->size ? left : s->size;
	len = headers + part;
	memcpy(out, s->frame, headers);
	memcpy(out + headers, s->frame + headers + s->done, part);
	fix_ip(s, out, len);
	fix_transport(s, out, len, part == left);
	fix_checksum(s, out, len);
	s->done += part;
	s->n++;
	s->over = part == left;
	return len;
}
