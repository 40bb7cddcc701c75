/*
 * What is counted of each queue pair, over deaths: in the state memfd, each word written by the pair's
 * thread alone.
 */
#pragma once

#include <stdint.h>

enum net_drop {
	NET_DROP_MALFORMED, /* from the driver: header or frame (header.h) */
	NET_DROP_SOURCE,    /* from the driver: an address that is not its own (filter.h) */
	/* from the driver: the host side was full when the device had to stop; its queue is disabled */
	NET_DROP_STOPPED,
	NET_DROP_DEATHS, /* from the driver: two workers have died over it, it is not sent thrice */
	NET_DROP_HOST,	 /* from the host: not a frame, or larger than the MTU */
	NET_DROP_NO_ROOM, /* from the host: larger than the driver's buffers */
	_NET_DROP_N,
};

struct net_counters {
	_Alignas(64) uint64_t sent;
	uint64_t sent_bytes;
	uint64_t received;
	uint64_t received_bytes;
	uint64_t segmented; /* GSO frames that were cut up for a driver that cannot take them */
	uint64_t filtered;  /* from the host: not for this driver's addresses; no loss */
	uint64_t dropped[_NET_DROP_N];
};
