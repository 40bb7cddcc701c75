/*
 * What the driver has asked for by the control queue (VIRTIO 1.3 §5.1.6.5): receive filters, offloads,
 * queue pairs, address. It outlives the worker.
 *
 * Runs in: worker; commands in the control queue's thread, read by all. Trusts: neither the commands nor,
 *          when it is attached, what an earlier worker left.
 *
 * Two slots in the state memfd: a change is made in the one that is not current, and one store of `current`
 * (release) makes it valid, before the command is acknowledged. Killed before that store, the command
 * is still in flight and run again; killed after it, it is run twice, which is the same as once. Where front-ends keep
 * the control queue to themselves (QEMU) nothing is ever written here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/net/frame.h"
#include "devices/net/proto.h"

enum {
	CONTROL_MAX_MACS = 64, /* of each kind; a driver with more gets all there is */
	CONTROL_VLAN_WORDS = 4096 / 64,
	CONTROL_OK = 0, /* the acknowledgement */
	CONTROL_ERR = 1,
};

struct control_macs {
	uint32_t n;
	uint32_t overflow; /* there were more than fit */
	uint8_t mac[CONTROL_MAX_MACS][6];
};

struct control_state {
	uint64_t offloads; /* with offloads_set: which of those agreed on are on */
	uint32_t offloads_set;
	uint32_t pairs;	  /* queue pairs in use; 0: as many as there are */
	uint32_t filters; /* any of these has been said */
	uint8_t promisc, allmulti, alluni, nomulti, nouni, nobcast;
	uint8_t mac_set; /* mac is the driver's */
	uint8_t mac[6];
	struct control_macs unicast, multicast;
	uint64_t vlans[CONTROL_VLAN_WORDS];
};

struct control_store {
	uint32_t current; /* 0 or 1 */
	struct control_state slot[2];
};

/* What commands are held against. */
struct control_rules {
	uint64_t features; /* acknowledged */
	uint32_t max_pairs;
	const uint8_t *bound_mac; /* the driver may not have another; NULL: it may */
};

/* May what is there be used? */
bool control_check(const struct control_store *s, uint32_t max_pairs);

static inline const struct control_state *control_current(const struct control_store *s)
{
	return &s->slot[__atomic_load_n(&s->current, __ATOMIC_ACQUIRE) & 1];
}

/* As after a reset of the device. pairs: see above. */
void control_reset(struct control_store *s, uint32_t pairs);

/* Carry out the command in iov[0..n), which has len bytes: the acknowledgement. */
uint8_t control_command(struct control_store *s, const struct control_rules *rules,
			const struct iovec *iov, uint32_t n, uint32_t len);

/* Is a frame that begins with head[0..len) for this driver? mac: its address unless it has set one. */
bool control_accepts(const struct control_state *c, uint64_t features, const uint8_t *mac,
		     const uint8_t *head, uint32_t len);
