/*
 * A script for a network device: a driver with two pairs of queues and the control queue, and what is behind the device.
 * Each frame has a number, and it is known of each how often it has come.
 *
 * Runs in: test programs. Trusts: nothing that the back-end says. What is wrong is told, and ends the process.
 *
 *  1. A transmitted frame comes to the wire once, after a death at most twice; its buffers come back exactly once.
 *  2. A frame from the wire comes to the driver once, from a tap after a death at most twice; a death loses no more than the budget.
 *     Each of its bytes is right, in as many buffers as its header says.
 *  3. What the driver has asked for by the control queue, once acknowledged, holds until it asks for something else.
 */
#pragma once

#include <sys/types.h>

#include "tests/frontend/net-wire.h"
#include "tests/frontend/session.h"

enum {
	NS_RX0,
	NS_TX0,
	NS_RX1,
	NS_TX1,
	NS_CONTROL,
	NS_RINGS,
	NS_MTU = 9000,
	NS_BUFFERS = 128, /* of each receive queue */
	NS_BUFFER_LEN = 2048,
	NS_SLOTS = 64, /* frames on their way out */
	NS_MAX_FRAMES = 4096,
};

struct net_script {
	const char *socket;
	struct net_wire *wire;
	unsigned lost_each; /* frames for the driver that a death may lose */
	unsigned most_in;   /* how often a frame may come to the driver, whoever dies */
	/* Called before frames are sent to the driver, and when they are on their way: kills, perhaps. */
	void (*before)(struct net_script *s);
	void (*meanwhile)(struct net_script *s);
	/* And when frames are on their way to the wire. */
	void (*meanwhile_out)(struct net_script *s);
	unsigned n_deaths; /* that may have been; whoever kills counts */

	struct fe fe;
	uint8_t *in[2][NS_BUFFERS];
	uint8_t *out[NS_SLOTS];
	uint8_t *command, *ack;
	uint32_t n_in, n_out; /* frames so far, each way */
	uint8_t seen_in[NS_MAX_FRAMES], seen_out[NS_MAX_FRAMES];
	uint64_t n_sightings;		/* of frames on the wire */
	uint8_t pair_of[NS_MAX_FRAMES]; /* on which a frame has come, + 1 */
	/* Of a receive queue, a frame of which some buffers have come: */
	uint8_t whole[2][NW_MAX_FRAME];
	uint32_t whole_len[2], n_buffers[2], want_buffers[2];
	struct nw_header header[2];
	/* The last datagram that has come: its length is 0 before there is one. */
	struct nw_header datagram_header;
	uint8_t datagram[128];
	uint32_t datagram_len;
};

void ns_run(struct net_script *s);

/* Look at the wire: how many frames have come out so far, those that came twice twice. */
uint64_t ns_look(struct net_script *s);

/* Has the device begun to fill the driver's buffers with what it has not told yet? */
bool ns_filling(const struct net_script *s);
