/*
 * The header in front of each frame (VIRTIO 1.3 §5.1.6): is what it says of the frame so?
 *
 * Runs in: worker. Trusts: nothing; header and head are copies that nobody changes.
 *
 * The host's kernel checks such headers too; but what is wrong is to end here, where it is counted as
 * the guest's fault, and a header that passes says only what was looked at:
 *  1. A partial checksum lies within the frame, behind the Ethernet header.
 *  2. A GSO frame is TCP or UDP over IP of the version that it says, its headers lie within its
 *     first FRAME_HEAD_LEN bytes, its checksum is the transport header's, and it has a bounded number of segments.
 *  3. hdr_len is what the headers have. Flags and types that were not agreed on are not there.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/net/frame.h"
#include "devices/net/proto.h"

enum header_verdict {
	HEADER_OK = 0,
	HEADER_RUNT,	  /* shorter than an Ethernet header */
	HEADER_TOO_LONG,  /* longer than any frame can be */
	HEADER_CSUM,	  /* a partial checksum outside of the frame, or not agreed on */
	HEADER_GSO_TYPE,  /* no such type, or not agreed on, or without a partial checksum */
	HEADER_GSO_SIZE,  /* segments of no size, or too many */
	HEADER_GSO_FRAME, /* the frame is not what the type says */
	HEADER_HDR_LEN,	  /* headers that end beyond the frame */
	_HEADER_VERDICT_N,
};
const char *header_verdict_to_string(enum header_verdict v);

/* What one side may send. */
struct header_rules {
	bool csum;	 /* partial checksums */
	bool tso4, tso6; /* TCP segmentation */
	bool ecn;	 /* with ECN */
	bool uso4, uso6; /* UDP segmentation */
};

/*
 * Check *h against a frame of len bytes that begins with head (the smaller of len and
 * FRAME_HEAD_LEN bytes), and make it exact. After HEADER_OK its num_buffers is 0.
 */
enum header_verdict header_check(struct net_header *h, const uint8_t *head, uint32_t len,
				 const struct header_rules *rules);
