/*
 * The fabric: from which port to which a frame goes.
 *
 * Runs in: vmdev-switch, its only thread. Trusts: nothing of a frame; ports as port.h says.
 *
 * A turn looks at each queue of each port once, takes up to FABRIC_BATCH frames from it, or as many
 * as make FABRIC_BATCH_LEN bytes where they go (what goes to all counts for each), and copies
 * each to where it is for, from one device's memory to another's. Only then are they published, one
 * store and at most one wake-up a queue. A frame for which there is no room is dropped: no
 * port waits for another.
 *
 * Where a frame goes:
 *  - Nowhere, if it is malformed, of a VLAN that its port is not in, or forged (filter.h; a source
 *    address that another port is bound to; a group's as source), or for the bridges of
 *    IEEE 802.1D (01-80-C2-00-00-0X).
 *  - A group's, broadcast among them: to all other ports in its VLAN.
 *  - One known address's: to the port where that is, unless it came from there.
 *  - One unknown address's: to all other ports in its VLAN which are not bound to an address. A
 *    bound port's one address is known, so nothing that is for others is ever shown to it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/net/switch/port.h"
#include "devices/net/switch/table.h"

enum { FABRIC_BATCH = 64, FABRIC_BATCH_LEN = 1 << 20, FABRIC_AGE_EVERY_S = 10 };

struct fabric {
	struct port *ports[CONTRACT_SWITCH_MAX_PORTS]; /* by index; NULL: free */
	uint32_t n_ports;			       /* all are below */
	uint32_t now_s;
	uint32_t aged_s;
	bool more; /* in this turn a queue had more than it may pass on in one */
	struct table table;
};

void fabric_init(struct fabric *f, uint64_t secret);

/* Takes the port. 0, or a negative errno with the port freed: -EEXIST of an address or an id. */
int fabric_add(struct fabric *f, struct port *p);
/* False: there is no such port. */
bool fabric_remove(struct fabric *f, uint32_t id);

/* One turn; the number of frames that were looked at. */
uint32_t fabric_turn(struct fabric *f, uint32_t now_s);

/* For each port, in no order. */
#define fabric_for_each(f, p)                                                                      \
	for (uint32_t i_ = 0; i_ < (f)->n_ports; i_++)                                             \
		if (((p) = (f)->ports[i_]) != NULL)
