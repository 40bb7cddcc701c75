/*
 * The network device model (VIRTIO 1.3 §5.1): configuration space, features, queues and what feeds them.
 *
 * Runs in: worker. Trusts: its options; neither the guest nor what comes from the host side.
 */
#pragma once

#include "devices/net/host.h"
#include "devices/process/contract.h"
#include "devices/process/model.h"
#include "devices/process/options.h"

struct net_config {
	struct host_config host;
	uint8_t mac[NET_MAC_LEN];
	bool bound;	      /* the guest may use no other address than mac */
	uint32_t n_addresses; /* with bound: its IP addresses; 0: any */
	uint8_t addresses[CONTRACT_SWITCH_MAX_ADDRESSES][16];
	uint32_t mtu;	    /* 0: the guest is told nothing about it */
	uint32_t speed;	    /* Mbit/s; NET_SPEED_UNKNOWN */
	uint64_t iops;	    /* packets per second, each way; 0: no limit */
	uint64_t bandwidth; /* bytes per second, each way; 0: no limit */
};

enum {
	NET_EXTRA_QUEUES = 1, /* the control queue */
	NET_MTU_MIN = 68,     /* VIRTIO 1.3 §5.1.4.1 */
	NET_MTU_MAX = 65535,
};

/* Bytes of the device's part of the state. */
uint64_t net_state_len(void);

/* Queue pairs: all but the control queue come in pairs. */
static inline uint32_t net_n_pairs(const struct options *o)
{
	return (o->queues - NET_EXTRA_QUEUES) / 2;
}

/* struct program: thread_of. A pair's queues and the control queue. */
uint32_t net_thread_of(uint32_t ring, uint32_t n_rings, uint32_t n_threads);

/* The model, one a process; NULL after having said why. */
struct model *net_create(void *config, const struct options *o);
