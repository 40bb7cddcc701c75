/*
 * What a document says of a net device's host side, where that is another program of this host's:
 * the switch, or a user-mode network stack. Parts of struct device_config; plain values.
 *
 * Runs in: vmdevd. Trusts: what config-net.c has checked.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/process/contract.h"

enum {
	CONFIG_USER_MAX_FORWARDS = 64,
	CONFIG_MAX_DNS = 8,
	CONFIG_ADDRESS_LEN = 46, /* INET6_ADDRSTRLEN */
	CONFIG_INTERFACE_LEN = 16,
	/*
	 * The largest MTU with a user-mode stack: a frame of it goes through the stream's socket
	 * whole (devices/net/switch/stream.h).
	 */
	CONFIG_USER_MAX_MTU = 32768,
};

struct vlan_range {
	uint16_t first, last;
};

struct switch_config {
	char name[64];		 /* of the switch */
	bool bind;		 /* the device's MAC address is its only source */
	uint64_t access, native; /* VLANs; 0: none */
	uint32_t n_trunk;
	struct vlan_range trunk[CONTRACT_SWITCH_MAX_VLANS];
	uint32_t n_addresses;				      /* of a tap's device too */
	uint8_t addresses[CONTRACT_SWITCH_MAX_ADDRESSES][16]; /* IPv4 as ::ffff:a.b.c.d */
};

struct user_forward {
	bool udp;
	char address[CONFIG_ADDRESS_LEN]; /* of the host's; "": any */
	uint16_t host, guest;		  /* ports */
};

/* Texts are "" where the document has none. */
struct user_config {
	char address[CONFIG_ADDRESS_LEN], gateway[CONFIG_ADDRESS_LEN];
	uint64_t prefix; /* of the address; 0: as passt finds it */
	char address6[CONFIG_ADDRESS_LEN], gateway6[CONFIG_ADDRESS_LEN];
	char interface[CONFIG_INTERFACE_LEN];
	char dns[CONFIG_MAX_DNS][CONFIG_ADDRESS_LEN];
	uint32_t n_dns;
	bool has_dns;	    /* the document says; it may say none */
	bool host_loopback; /* the guest reaches the host's loopback by the gateway's address */
	struct user_forward forward[CONFIG_USER_MAX_FORWARDS];
	uint32_t n_forwards;
};
