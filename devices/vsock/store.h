/*
 * What of a vsock session outlives the worker: the device's part of the state memfd.
 *
 * Runs in: worker. Trusts: nothing; a dead worker wrote it, and a guest may have owned that. It is
 *          checked by store_check() before it is used.
 *
 * Host sockets outlive the worker in the shared descriptor table; here is whose they are, and how far
 * each stream has come. One I/O thread writes all of it. The rule for every byte that moves between
 * a socket and guest memory (docs/recovery.md has the argument):
 *
 *	1. what is going to be moved goes on record: connection, position, buffers (struct hand, struct slot)
 *	2. one sendmmsg or recvmmsg, whose struct mmsghdr lies here: the kernel itself stores the
 *	   number of bytes in msg_len before the system call returns
 *	3. positions are computed from the record, never incremented: doing it again gives the same
 *	4. the record is dropped
 *
 * So at each instruction: a record with msg_len 0 has moved nothing (or the kernel said that it
 * would not), one with msg_len n has moved exactly n bytes, and without a record nothing is on its way.
 *
 * The file is sparse: buffers take memory as they are used.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "devices/process/contract.h"
#include "devices/virtio/queue.h"

enum {
	STORE_CONNS = 4096,
	STORE_BUFFER_LEN = 256 << 10, /* of what a host program has not read yet; a power of 2 */
	STORE_WIDE = 256, /* connections that are granted all of it; later ones a quarter */
	STORE_RUN = 64,	  /* packets that are sent with one call */
	STORE_SLOTS = 64, /* receives and control packets in one publication */
	STORE_SLOT_HEADS = 128,
	STORE_STRAYS = 256,
	STORE_TEXT = 64,
};

/* What of it the driver is to be told by an event (store.reset_due). */
enum {
	STORE_RESET_NONE = 0,
	STORE_RESET_DUE,
	STORE_RESET_IN, /* and the head of the buffer: it is on its way */
};

enum conn_state {
	CONN_FREE = 0,
	CONN_LINE,	/* a host program has connected; its CONNECT line is awaited */
	CONN_REQUESTED, /* the guest has been asked for a connection */
	CONN_GREETING,	/* it has accepted; the other end is to be told */
	CONN_ASKED,	/* the guest asked; vmdevd is to connect for us */
	CONN_PEER,	/* another guest has been asked; its answer is awaited */
	CONN_OPEN,
	CONN_CLOSING, /* the guest is to get an RST, then it is over */
	CONN_ORPHAN,  /* the guest has gone; the host program reads what is left */
	CONN_N_STATES,
};

/* Control packets that are due to the guest (conn.pending), in this order. */
enum conn_due {
	DUE_REQUEST = 1 << 0,
	DUE_RESPONSE = 1 << 1,
	DUE_CREDIT = 1 << 2,	     /* tell it how much we have room for */
	DUE_CREDIT_REQUEST = 1 << 3, /* ask it the same */
	DUE_SHUTDOWN = 1 << 4,	     /* with the flags of conn.host_done */
	DUE_RST = 1 << 5,
};

/* Who began. */
enum conn_origin {
	ORIGIN_GUEST,
	ORIGIN_HOST, /* by CONNECT: the answer is "OK PORT\n" */
	ORIGIN_PEER, /* another guest: the answer is one byte */
	ORIGIN_GUEST_TO_PEER,
};

struct conn {
	uint32_t state;
	int32_t fd;	 /* IMAGE_NO_FD: none */
	uint64_t serial; /* never used twice in a session */
	uint64_t peer_cid;
	uint32_t peer_port, guest_port;
	uint16_t type; /* enum virtio_vsock_type */
	uint8_t origin;
	uint8_t guest_done; /* VIRTIO_VSOCK_SHUTDOWN_* of the guest */
	uint8_t host_done;  /* the same of the host's end */
	uint8_t told;	    /* ASKED: vmdevd has the question */
	uint8_t end_told;   /* guest_done & SEND was passed on to the socket */
	uint8_t buffered;   /* its buffer has been used */
	uint32_t pending;   /* enum conn_due */
	/* guest → host, bytes: accepted from the guest; of these, given to the socket */
	uint64_t taken, forwarded;
	/* host → guest, bytes put into the guest's buffers */
	uint64_t given;
	uint32_t guest_alloc, guest_fwd; /* as the guest's last packet says */
	uint32_t told_fwd;		 /* what ours said last */
	/* packets that may still be in the guest's queue: since "given" was mark, and before that */
	uint32_t mark, packets_since, packets_before;
	uint32_t padding;
	uint64_t deadline_ns; /* 0: none */
};

enum hand_kind {
	HAND_NONE = 0,
	HAND_RUN, /* packets of the guest's go to the socket, and what it does not take, to the buffer */
	HAND_CREATE, /* heads[0] is a REQUEST that makes conn */
	HAND_FLUSH,  /* from the buffer to the socket */
	HAND_GREET,  /* the answer to who connected */
	HAND_LINE,   /* len bytes that ask or answer are taken off the socket */
	HAND_ACCEPT, /* a connection is accepted, to become conn */
	HAND_ASK,    /* vmdevd is asked to connect */
	HAND_N_KINDS,
};

/* The one thing that the thread is about. */
struct hand {
	uint32_t kind; /* written last (release) */
	uint32_t conn;
	uint64_t start; /* conn.taken (RUN), conn.forwarded (FLUSH) before it */
	uint32_t len;
	uint32_t n_heads;
	uint8_t direct; /* RUN: the buffer was empty, so the socket was offered the bytes */
	uint8_t padding[7];
	uint16_t heads[STORE_RUN];
	uint32_t lens[STORE_RUN];
	struct mmsghdr part;
	uint8_t text[STORE_TEXT];
};

enum slot_kind {
	SLOT_NONE = 0,
	SLOT_DATA,
	SLOT_CONTROL,
	SLOT_STRAY,
	SLOT_N_KINDS,
};

/* Whom a packet to the guest is from, and for which port of its. */
struct address {
	uint64_t peer_cid;
	uint32_t peer_port, guest_port;
	uint32_t type;
	/* A stray, until its packet is marked as dealt with: 1 + head. Only the last can have it. */
	uint32_t by;
};

/* What is on its way into the guest's receive buffers; dropped when the driver can see it. */
struct slot {
	uint32_t kind; /* written last (release) */
	uint32_t conn;
	uint64_t
		serial; /* of that connection: it may have ended meanwhile, and another be in its place */
	uint64_t start; /* DATA: conn.given before it; STRAY: its number */
	struct address address;
	uint32_t due; /* CONTROL: one bit */
	uint32_t n_heads;
	uint16_t heads[STORE_SLOT_HEADS];
	struct mmsghdr part;
};

/* A datagram of vmdevd's: there is one if part.msg_len is not 0. */
struct letter {
	struct mmsghdr part;
	struct iovec iov;
	_Alignas(8) uint8_t control[CMSG_SPACE(sizeof(int))];
	uint8_t data[CONTRACT_VSOCK_MSG_LEN];
};

struct store {
	uint32_t begun;
	uint32_t n_conns; /* those from here on have never been used */
	uint32_t next_port;
	uint32_t padding;
	uint64_t next_serial;
	uint32_t
		reset_due; /* the driver is to be told that all connections are gone: STORE_RESET_* */
	uint16_t ring_idx[CONTRACT_VSOCK_QUEUES]; /* used.idx when last published */
	/* RSTs for packets that no connection is for; head and tail run freely */
	uint32_t stray_head, stray_tail;
	struct address strays[STORE_STRAYS];
	struct hand hand;
	struct letter letter;
	struct slot slots[STORE_SLOTS];
	uint8_t tx_done[QUEUE_MAX_SIZE]; /* packets dealt with, not yet given back */
	struct conn conns[STORE_CONNS];
	/* SEQPACKET: bit n: byte n of the buffer is a message's last. */
	_Alignas(4096) uint64_t ends[STORE_CONNS][STORE_BUFFER_LEN / 64];
	_Alignas(4096) uint8_t buffers[STORE_CONNS][STORE_BUFFER_LEN];
};

/* Can this be what a worker left? Positions and indices are in range. */
bool store_check(const struct store *s);

/* The buffer of a connection, as far as a guest may fill it. */
uint32_t store_grant(uint32_t conn, uint16_t type);
