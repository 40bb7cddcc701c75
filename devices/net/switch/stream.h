/*
 * A port whose other side is a stream of frames: a user-mode network stack (passt) on a Unix
 * socket, as QEMU's stream netdev has it: u32 length, big endian, then the frame, without offloads.
 *
 * Runs in: vmdev-switch. Trusts: nothing of what the stack sends.
 *
 * Whose state ends with what: where the stream is, in the middle of which frame, is known to this
 * process and to the stack. If either dies the stream ends with it: a new one is made for both, by
 * vmdevd, and begins with a frame. A device's worker has no part in that: its frames are in its
 * port's rings (lane.h), whole, whatever dies.
 *
 * passt expects what is left of a frame that it has the beginning of in one piece. So each frame is
 * a send of its own: the kernel takes a frame of up to 32 KiB whole or not at all (the document's
 * "mtu" ends there); what is left of a longer one goes out before anything else.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/net/lane.h"

enum {
	STREAM_PREFIX_LEN = 4,
	STREAM_IN_LEN = 4 * LANE_MAX_LEN,
	STREAM_OUT_LEN = LANE_MAX_LEN,
};

enum stream_verdict {
	STREAM_OK = 0,
	STREAM_AGAIN,	/* not now: the socket is full, or empty */
	STREAM_ENDED,	/* by the other side, or an error */
	STREAM_BAD_LEN, /* a length that no frame has: where the next one begins is not known */
};
const char *stream_verdict_to_string(enum stream_verdict v);

struct stream {
	int socket;		  /* owned */
	uint32_t in_at, in_end;	  /* what has been received and not gone past */
	uint32_t out_at, out_end; /* what is left of a frame that went out in part */
	/* in[0..HEADER) is for the header of a record, which the stream has not */
	uint8_t in[LANE_HEADER_LEN + STREAM_IN_LEN + LANE_ALIGN]; /* head_load reads blocks */
	uint8_t out[STREAM_PREFIX_LEN + STREAM_OUT_LEN];
};

/* Takes the socket. NULL: no memory. */
struct stream *stream_new(int socket);
struct stream *stream_free(struct stream *s);

/*
 * The next frame that is there whole, as a record: a header that asks for nothing, then the frame;
 * valid until the next call of a function of this file. STREAM_AGAIN: none; receive.
 */
enum stream_verdict stream_look(struct stream *s, const void **ret_record, uint32_t *ret_len);
void stream_next(struct stream *s);
/* Receive what is there and finds room. */
enum stream_verdict stream_receive(struct stream *s);

/*
 * Send a frame in two parts (the second may be empty), whole, or as far as it goes and the rest
 * with the next call, or not (STREAM_AGAIN, the frame is dropped).
 */
enum stream_verdict stream_send(struct stream *s, const void *head, uint32_t head_len,
				const void *rest, uint32_t rest_len);
/* What is left of the last frame. STREAM_OK: nothing. */
enum stream_verdict stream_flush(struct stream *s);
