/*
 * The beginning of a frame, copied out of a port's memory: what the switch decides by, and changes.
 *
 * Runs in: vmdev-switch. Trusts: nothing. The bytes in the port's memory may change while they are
 * read, so all that is looked at is in the copy, and the copy is what goes on; only what lies
 * behind it, payload that nobody here looks at, is copied from port to port.
 *
 * The copy begins with the header (struct virtio_net_hdr_v1), then the frame. In front is room for
 * a tag to be put in; which VLAN a frame is of is no part of the bytes once head_untag has been
 * there.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "devices/net/lane.h"

enum {
	HEAD_BLOCK = LANE_ALIGN,
	/* of a record: IPv6, extension headers and a neighbour discovery message; with the length
	   in front of it (lane.h) whole blocks */
	HEAD_LEN = 12 * HEAD_BLOCK - 4,
	HEAD_TAG_LEN = 4,
	HEAD_SLACK = HEAD_BLOCK + 4, /* so that what is at p - 4 is aligned */
	HEAD_MACS_LEN = 12,
	HEAD_TYPE_VLAN = 0x8100,
	HEAD_TYPE_VLAN_SERVICE = 0x88a8,
	HEAD_VLAN_MASK = 0x0fff,
	HEAD_NEEDS_CSUM = 1, /* VIRTIO_NET_HDR_F_NEEDS_CSUM */
};

struct head {
	uint32_t len;  /* bytes in the copy: header and what of the frame is in it */
	uint32_t rest; /* bytes of the record that follow it */
	uint8_t *p;    /* the header; the frame is behind it */
	uint16_t tag;  /* of the tag that was taken off; without one 0 */
	bool tagged;   /* the copy has a tag, right behind the addresses */
	_Alignas(HEAD_BLOCK) uint8_t bytes[HEAD_SLACK + HEAD_LEN + HEAD_BLOCK];
};

static inline uint16_t head_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline const uint8_t *head_frame(const struct head *h)
{
	return h->p + LANE_HEADER_LEN;
}

/* Of the frame, with the rest. */
static inline uint32_t head_frame_len(const struct head *h)
{
	return h->len + h->rest - LANE_HEADER_LEN;
}

static inline uint16_t head_type(const struct head *h)
{
	return head_be16(head_frame(h) + HEAD_MACS_LEN);
}

/* A MAC address as in table.h. */
static inline uint64_t head_mac(const uint8_t *p)
{
	return (uint64_t)head_be16(p) << 32 | (uint64_t)head_be16(p + 2) << 16 | head_be16(p + 4);
}

/*
 * Copy len bytes, rounded up to whole blocks: records are in whole blocks, so neither side ends
 * before that. For the few bytes of most frames this is a few instructions.
 */
static inline void head_copy_blocks(uint8_t *to, const uint8_t *from, uint32_t len)
{
	for (uint32_t at = 0; at < len; at += HEAD_BLOCK)
		memcpy(to + at, from + at, HEAD_BLOCK);
}

/* Copy the beginning of a record of len bytes, with the length in front of it (lane.h). */
static inline void head_load(struct head *h, const uint8_t *record, uint32_t len)
{
	h->len = len < HEAD_LEN ? len : HEAD_LEN;
	h->rest = len - h->len;
	h->p = h->bytes + HEAD_SLACK;
	h->tag = 0;
	head_copy_blocks(h->p - 4, record - 4, h->len + 4);
	h->tagged = h->len >= LANE_MIN_LEN + HEAD_TAG_LEN && head_type(h) == HEAD_TYPE_VLAN;
}

/*
 * Copy it to a record's place, which has its room in whole blocks, too. What is in front is lost.
 */
static inline void head_store(const struct head *h, uint8_t *record)
{
	head_copy_blocks(record - 4, h->p - 4, h->len + 4);
}

/*
 * The offloads that a sender may ask for (VIRTIO 1.3 §5.1.6.2), and that they fit its frame. What
 * is the receiving side's to say is taken out. False: malformed.
 */
bool head_check_asked(struct head *h);

static inline bool head_check_offloads(struct head *h)
{
	/* flags and gso_type */
	if ((h->p[0] & HEAD_NEEDS_CSUM) || h->p[1])
		return head_check_asked(h);
	memset(h->p, 0, LANE_HEADER_LEN);
	return true;
}

/*
 * Take the tag off, into h->tag; put one with this number back in. The offsets of the header
 * follow.
 */
void head_untag(struct head *h);
void head_tag(struct head *h, uint16_t tag);
