/*
 * Receiving and sending vhost-user messages so that a kill between any two instructions loses no
 * byte, no descriptor, and repeats none.
 *
 * Runs in: worker. Trusts: neither the peer nor what an earlier worker left in the slot.
 *
 * A stream socket gives each byte once, and the number of bytes that recvmsg() returns is lost with
 * the process that was told it. recvmmsg() and sendmmsg() also store that number in the caller's
 * memory, inside the system call: with the mmsghdr, the data and the control buffer all in the
 * state memfd, what the kernel has done is on record before the first instruction that could be the
 * last.
 *
 * struct message_part is a struct mmsghdr whose four bytes of padding after msg_len count what
 * was accounted for earlier. The kernel stores msg_len; we fold it into the counters, and set it
 * back to 0, with one 64-bit store.
 *
 *   words, in order of writing      who     what a successor does if the writer died just after
 *   ------------------------------  ------  ------------------------------------------------------
 *   progress = {0, done, n_fds}     worker  receives again, from done
 *   data, control, msg_len > 0      kernel  folds: descriptors from control to fds[], then progress
 *   fds[n_fds...]                   worker  writes the same descriptors there once more
 *   progress = {0, done', n_fds'}   worker  as in line 1
 *
 * Invariants:
 *  1. done <= sizeof data and n_fds <= PROTO_FDS_MAX, or the slot is unusable (message_rx_recover).
 *  2. A message is complete when done == header + its size; then the slot does not change any more.
 *  3. A reply has been sent if and only if its msg_len is not 0. (Replies are small enough for
 *     one segment: the kernel takes all or nothing.)
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "devices/vhost/proto.h"

struct message_part {
	struct msghdr hdr;
	union {
		uint64_t progress;
		struct {
			uint32_t msg_len; /* written by the kernel */
			uint16_t done;	  /* bytes of the message received before that */
			uint16_t n_fds;	  /* descriptors received before that */
		};
	};
};

enum { MESSAGE_CONTROL_LEN = CMSG_SPACE(sizeof(int) * PROTO_FDS_MAX) };

struct message_rx {
	struct message_part part;
	struct iovec iov;
	int32_t fds[PROTO_FDS_MAX];
	_Alignas(8) uint8_t control[MESSAGE_CONTROL_LEN];
	_Alignas(8) uint8_t data[PROTO_HEADER_LEN + PROTO_PAYLOAD_MAX_LEN];
};

struct message_tx {
	struct message_part part;
	struct iovec iov;
	uint32_t len; /* of the reply with its header; 0: there is none */
	int32_t fd;   /* to pass with it, borrowed; -1: none */
	_Alignas(8) uint8_t control[CMSG_SPACE(sizeof(int))];
	_Alignas(8) uint8_t data[PROTO_HEADER_LEN + PROTO_PAYLOAD_MAX_LEN];
};

/* A received message, copied out of the slot. */
struct message {
	struct proto_header header;
	union proto_payload payload;
	int fds[PROTO_FDS_MAX];
	uint32_t n_fds;
};

enum message_verdict {
	MESSAGE_OK = 0,
	MESSAGE_AGAIN,	 /* not complete; wait for the socket */
	MESSAGE_CLOSED,	 /* end of file, or the connection was reset */
	MESSAGE_VERSION, /* header flags: not version 1, or a reply */
	MESSAGE_SIZE,	 /* payload larger than any request has */
	MESSAGE_FDS,	 /* more descriptors than any request has, or other control data */
};
const char *message_verdict_to_string(enum message_verdict v);

/* Make a slot empty. */
void message_rx_reset(struct message_rx *rx);
void message_tx_reset(struct message_tx *tx);

/* Finish what a dead worker left half done in the slot; false if the slot cannot be used. */
bool message_rx_recover(struct message_rx *rx);
bool message_tx_recover(const struct message_tx *tx);

/*
 * Receive what is there. On MESSAGE_OK *m is a copy of the whole message; its descriptors still
 * belong to the slot.
 */
enum message_verdict message_receive(struct message_rx *rx, int socket, struct message *m);

/* Put a reply into the slot, not yet sent. The header's size is len. */
void message_reply(struct message_tx *tx, const struct message *m, const void *payload,
		   uint32_t len, int fd);

/* Send the reply in the slot unless it has been sent or there is none. */
enum message_verdict message_send(struct message_tx *tx, int socket);
