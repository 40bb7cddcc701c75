/*
 * The methods of org.vmdev.Manager, apart from how clients come to be connected.
 *
 * Runs in: vmdevd. Trusts: see bus.h.
 */
#pragma once

#include <systemd/sd-bus.h>

#include "daemon/manager.h"

#define BUS_PATH      "/org/vmdev"
#define BUS_INTERFACE "org.vmdev.Manager"

enum { BUS_MAX_QUEUED = 512 }; /* messages that a client has not read */

/* The userdata of the object: who calls, and what is called. */
struct bus_peer {
	struct manager *manager;
	bool is_known; /* uid is the client's; else it is asked of the system bus, per message */
	bool is_asked; /* that has been done: it does not know either */
	uid_t uid;
	const char *version; /* of vmdevd */
	/* bytes of the messages that it was sent last; the next one goes to n_sent % the number */
	uint32_t lens[BUS_MAX_QUEUED];
	unsigned n_sent;
};

void bus_peer_is_sent(struct bus_peer *peer, const char *text);
/* Bytes of the last n messages. */
uint64_t bus_peer_len(const struct bus_peer *peer, uint64_t n);

/* Adds the object to a connection. *peer has to outlive the connection. */
int bus_methods_add(sd_bus *connection, struct bus_peer *peer);
