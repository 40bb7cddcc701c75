/*
 * What a device may send in its own name: the addresses in its frames are its own.
 *
 * Runs in: vmdev-switch, of a port; worker, of its guest. Trusts: nothing in the frame; it looks at a copy of its beginning.
 *
 * For one that is bound to a MAC address:
 *  - it is the source of every frame, the sender of ARP, and every link-layer address in neighbour
 *    discovery;
 *  - there are no tags but those that the caller has gone past, and no extension header of IPv6, behind which that could
 *    hide; nor more of neighbour discovery than is in the copy.
 * If it has IP addresses, too:
 *  - they are the sources of every packet, the sender of ARP, the target of neighbour
 *    advertisements. Besides, what a guest needs to get an address: 0.0.0.0 (DHCP, ARP probes),
 *    ::, and the link-local address made of its MAC address (RFC 4291, appendix A);
 *  - it is no router: no router advertisement, no redirect;
 *  - nothing but IPv4, IPv6 and ARP.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/process/contract.h"

struct filter {
	bool bound;
	uint8_t mac[6];
	uint32_t n_addresses;
	uint8_t addresses[CONTRACT_SWITCH_MAX_ADDRESSES][16]; /* IPv4 as ::ffff:a.b.c.d */
};

struct filter_frame {
	const uint8_t *source; /* its MAC address */
	uint16_t type;	       /* EtherType, behind tags */
	const uint8_t *packet; /* what follows that, */
	uint32_t len;	       /* as much as there is of it */
};

bool filter_pass(const struct filter *f, const struct filter_frame *frame);
