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

/* The userdata of the object: who calls, and what is called. */
struct bus_peer {
	struct manager *manager;
	bool is_known; /* uid is the client's; else it is asked of the system bus, per message */
	uid_t uid;
};

/* Adds the object to a connection. *peer has to outlive the connection. */
int bus_methods_add(sd_bus *connection, struct bus_peer *peer);
