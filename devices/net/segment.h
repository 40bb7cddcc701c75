/*
 * A GSO frame cut into plain ones, a partial checksum made: for who has not agreed to take it as it is.
 *
 * Runs in: worker. Trusts: nothing of the frame; it is a copy that nobody changes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/net/frame.h"
#include "devices/net/proto.h"

struct segment {
	const uint8_t *frame;
	uint32_t len;
	struct frame_info info;
	bool gso;
	uint32_t size; /* payload of a segment */
	uint32_t done; /* payload bytes cut off so far */
	uint32_t n;    /* segments so far */
	bool over;
	uint16_t csum_start, csum_offset; /* where there is nothing to be cut */
	bool needs_csum;
};

/* False: the header says what the frame is not. */
bool segment_begin(struct segment *s, const struct net_header *h, const uint8_t *frame,
		   uint32_t len);

/* The next frame into out, which has room for the whole: its length; 0: that was all. */
uint32_t segment_next(struct segment *s, uint8_t *out);

/* RFC 1071: the sum of len bytes, to be continued at even offsets; folded, not inverted. */
uint32_t segment_sum(const uint8_t *p, uint32_t len, uint32_t sum);
