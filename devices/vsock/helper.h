/*
 * Whoever makes connections for a device that was started by hand: as vmdevd does for its own
 * (process/contract.h), without its rules but for the ports.
 *
 * Runs in: a process of its own, forked before there is a keeper; ends when the device has.
 * Trusts:  the device.
 */
#pragma once

#include "devices/vsock/vsock.h"

/* Start it, its channel's other end at CONTRACT_FD_VSOCK_BROKER. 0 or a negative errno. */
int helper_start(const struct vsock_config *config);
