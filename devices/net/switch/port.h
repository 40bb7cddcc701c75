/*
 * A port of the switch: a device's rings, or a stream; and what may pass there.
 *
 * Runs in: vmdev-switch. Trusts: vmdevd, which describes the port; nothing that is in its memory or
 * comes from its stream.
 *
 * VLANs. The switch knows of each frame which VLAN it is of, from its tag or, without one, from the
 * port; 0 is "none", of ports that know no VLANs. A frame leaves with a tag, unless its VLAN is the
 * port's native one. So
 *
 *	a port without VLANs	native 0, tags of any VLAN pass as they are
 *	an access port		native N, nothing with a tag comes in
 *	a trunk			the VLANs of its list with their tags, perhaps a native one without
 *
 * Nothing leaves by a port that is not in the frame's VLAN.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/net/filter.h"
#include "devices/net/lane.h"
#include "devices/net/switch/stream.h"

enum {
	PORT_VLANS = 4096,
	PORT_NAME_LEN = 160, /* VM/DEVICE */
};

/* What becomes of frames, at the port where it is decided. */
struct port_counters {
	uint64_t n_in, n_out;
	uint64_t n_full;      /* out: the device, or the stack, does not keep up */
	uint64_t n_malformed; /* in: offloads that do not fit, or a ring that made no sense */
	uint64_t n_forged;    /* in: another's address, or a group's, as source */
	uint64_t
		n_vlan; /* in: of a VLAN that the port is not in; out: with more tags than it may have */
	uint64_t n_offload; /* out: the stack takes no offloads */
};

/* The last destination that was looked up; good while the table and the second are the same. */
struct port_cache {
	uint64_t key;
	uint64_t n_changes;
	uint32_t now_s;
	uint16_t port;
};

struct port_spec {
	uint32_t id;
	uint32_t flags; /* CONTRACT_PORT_* */
	uint8_t mac[6];
	uint16_t native;
	uint32_t n_vlans;
	struct {
		uint16_t first, last;
	} vlans[CONTRACT_SWITCH_MAX_VLANS];
	uint32_t n_addresses;
	uint8_t addresses[CONTRACT_SWITCH_MAX_ADDRESSES][16];
	uint32_t n_queues; /* 0: a stream */
	char name[PORT_NAME_LEN];
};

struct port {
	uint32_t id;
	uint16_t index;
	uint32_t flags;
	uint16_t native;
	uint8_t vlans[PORT_VLANS / 8];
	struct filter filter;
	struct port_counters counters;
	char name[PORT_NAME_LEN];

	/* a device's */
	struct lane_map map;
	uint32_t n_queues;	    /* 0: it is a stream */
	uint32_t unseen;	    /* bit q: out[q] has records that were not published */
	uint32_t uncalled;	    /* bit q: who sleeps there may have to be woken yet */
	int kick;		    /* owned: the device wakes us; -1 of a stream */
	int calls[LANE_MAX_QUEUES]; /* owned: we wake the device's thread */
	struct lane in[LANE_MAX_QUEUES], out[LANE_MAX_QUEUES];
	uint32_t released[LANE_MAX_QUEUES]; /* what was told of in[q] */
	struct port_cache cache[LANE_MAX_QUEUES];

	struct stream *stream;
	bool stream_readable; /* as far as is known */
	bool stream_ended;
	bool stream_told; /* vmdevd knows */
};

/*
 * Takes the descriptors, whatever comes of it: memory, kick and n_queues calls, or a stream socket.
 * NULL and a negative errno in *ret_error.
 */
struct port *port_new(const struct port_spec *spec, const int *fds, int *ret_error);
struct port *port_free(struct port *p);

static inline bool port_is_stream(const struct port *p)
{
	return p->n_queues == 0;
}

static inline bool port_has_vlan(const struct port *p, uint16_t vlan)
{
	return p->vlans[vlan / 8] >> vlan % 8 & 1;
}

/* The queue of the device's that frames of the other's queue go to. */
uint32_t port_queue(const struct port *p, uint32_t queue);

/* All that was written becomes visible, and who sleeps is woken; more: or when that follows. */
void port_publish(struct port *p, bool more);
/* The frames of a queue that were gone past are given back. */
void port_release(struct port *p, uint32_t queue);
/* Wake the device, on every queue: what the last switch had to tell it may not have been told. */
void port_wake(struct port *p);

/* Before sleeping: is there nothing to be done here? */
bool port_await(struct port *p);
/* Is there something? At the price of a load for each queue. */
bool port_any(const struct port *p);
