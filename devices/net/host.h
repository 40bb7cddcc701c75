/*
 * A host side: where the frames of a net device go to and come from (a tap, nothing, a switch,
 * ...).
 *
 * Runs in: worker; the by-hand start (arrange). Trusts: its own descriptors' kernel objects; frames
 *          from other parties are hostile, and so is what shares memory with us.
 *
 * Each side is one small file that ends in a struct host_side, listed in host.c. The device model
 * (net.c, tx.c, rx.c) knows no side by name and no side knows the model: between them are frames,
 * each with the header of VIRTIO 1.3 §5.1.6 (struct virtio_net_hdr_v1) in front.
 *
 * What the model sees to, so that no side need:
 *  1. A frame that is sent has 14 to NET_MAX_FRAME_LEN bytes behind its header, and the header says
 *     nothing about it that is not so (header.h), nor asks for an offload that is not in the side's
 *     features.
 *  2. A frame that is received is checked against what the driver has agreed to, and made to fit in
 *     software where it does not (rx-frame.c). A side may hand over GSO frames and partial checksums
 *     as far as its features say, whatever the driver's are.
 *  3. Limits, filters, counters.
 *
 * What a side sees to: all its descriptors are opened by vmdevd (or by arrange) and lie at contract
 * numbers, so that they outlive the worker; what else must outlive it is in those. send() and
 * receive() neither block nor call anything that the worker's filter (policies/net.json) does not
 * allow. Each queue is used by one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/net/proto.h"

enum {
	NET_ETH_LEN = 14,
	/*
	 * A GSO frame's IP packet has at most 65,535 bytes (65,575 with an IPv6 header), and two
	 * VLAN tags.
	 */
	NET_MAX_FRAME_LEN = NET_ETH_LEN + 8 + 40 + 65535,
	NET_MAC_LEN = 6,
};

/* What the arguments say of the host side. */
struct host_config {
	const char *side;      /* a name in the table of host.c */
	const char *path;      /* by hand: what arrange opens (a tap's name) */
	uint32_t n_queues;     /* queue pairs */
	uint32_t generate_len; /* null: bytes of the frames that it makes; 0: none */
	const char *port;      /* switch, user; by hand: descriptors, "3,4,5" */
};

/* One frame to be sent. */
struct host_frame {
	const struct iovec *iov; /* the header lies in the first element, all of it */
	uint32_t n_iov;
	uint32_t len; /* bytes, with the header */
	bool gone;    /* batch_send() says: it went */
};

struct host {
	const struct host_side *side;
	uint32_t n_queues;
	/*
	 * Offloads that it can take (CSUM, HOST_*) and may give (GUEST_*): bits of VIRTIO 1.3
	 * §5.1.3.
	 */
	uint64_t features;
};

struct host_side {
	const char *name;

	/*
	 * By hand: open the resources at their contract numbers. 0, or negative after having said
	 * why.
	 */
	int (*arrange)(const struct host_config *c);

	/*
	 * In a worker, before confinement: look at the resources. The last worker may be at work still
	 * (process/standby.h). One a process. NULL after having said why.
	 */
	struct host *(*open)(const struct host_config *c);

	/* The last worker is dead: go on where it was. NULL: there is nothing to go on with. */
	void (*begin)(struct host *h);

	/*
	 * Send frames in order; how many went (a frame that the host refuses has gone). Fewer than
	 * n: it is full. more: others follow at once, whoever receives them need not be woken for
	 * these alone.
	 */
	uint32_t (*send)(struct host *h, uint32_t queue, const struct host_frame *frames,
			 uint32_t n, bool more);

	/* Before the thread sleeps: nothing follows. NULL: of no interest. */
	void (*flush)(struct host *h, uint32_t queue);

	/*
	 * To send a frame is to write it to event_fd(), which never waits: batch.h does it too. That
	 * there is room again is tried, whether events tell or not.
	 */
	bool writes;

	/*
	 * Receive one frame into iov, which has room for a header and NET_MAX_FRAME_LEN bytes: its
	 * length with the header; 0: there is none now.
	 */
	uint32_t (*receive)(struct host *h, uint32_t queue, const struct iovec *iov,
			    uint32_t n_iov);

	/*
	 * The same without a copy, for a side whose frames lie in memory: the next record, header and
	 * frame, of *ret_len bytes; NULL: there is none now. Its bytes may change at any time. The
	 * one behind it is next after next(). NULL, both: there is only receive(), which may follow,
	 * too.
	 */
	const uint8_t *(*look)(struct host *h, uint32_t queue, uint32_t *ret_len);
	void (*next)(struct host *h, uint32_t queue);

	/*
	 * Where a queue is: the number of the frame that comes next, as it were. What was given before
	 * a position has reached the driver: received(). It has, a predecessor had written down, which
	 * may have died before it said so, and may have written anything: go_on(). NULL, all three: a
	 * frame is given once.
	 */
	uint32_t (*position)(const struct host *h, uint32_t queue);
	void (*received)(struct host *h, uint32_t queue, uint32_t position);
	void (*go_on)(struct host *h, uint32_t queue, uint32_t position);

	/*
	 * Tells by events (edge-triggered) that there is something to receive, or room to send. A
	 * negative number: none, receive() is asked for ever.
	 */
	int (*event_fd)(const struct host *h, uint32_t queue);

	/*
	 * Is there something to receive? A look that costs nothing; NULL: only receive() can tell.
	 */
	bool (*has_frame)(const struct host *h, uint32_t queue);

	/*
	 * Before the thread sleeps: event_fd() has to tell of the next frame, of room. False: there
	 * is one already, there is some. NULL, both: it always does.
	 */
	bool (*await_frame)(struct host *h, uint32_t queue);
	bool (*await_room)(struct host *h, uint32_t queue);

	/*
	 * As in struct model_ops: descriptors from CONTRACT_FD_SESSION up that outlive the worker.
	 * NULL: none.
	 */
	void (*for_each_fd)(struct host *h, void (*found)(int fd, void *arg), void *arg);
};

/* The side of this name, or NULL. */
const struct host_side *host_side_find(const char *name);

/* Names of all, for help and errors: "null, tap". */
const char *host_side_names(void);

extern const struct host_side host_null, host_tap, host_switch, host_user;
