/*
 * What net devices are connected to by memory: switches, and user-mode stacks, which have a switch
 * of two ports each for themselves.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing that a helper says.
 *
 *	device ── port's memory ── vmdev-switch ── port's memory ── device        a switch
 *	device ── port's memory ── vmdev-switch ── stream ── passt                a user-mode stack
 *
 * A port's memory and eventfds are made when its device is launched, and are kept here until its
 * sandbox has ended: a vmdev-switch that died is replaced, the new one gets the same ports, and the
 * devices notice nothing but frames that were lost. The stream ends with either of its two ends,
 * and then both are made anew: connections through it are lost.
 *
 * A switch is there as long as a device that names it runs.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/config-net.h"

struct networks;

struct networks_spec {
	sd_event *event;
	/* has vmdev-switch; if it is a build tree's, net/switch/vmdev-switch */
	const char *program_dir;
	bool is_build_tree;
	const char *policy_dir;
	const char *override_dir;
};

/* The texts in spec have to outlive it. 0 or -ENOMEM. */
int networks_new(const struct networks_spec *spec, struct networks **ret);
/* Kills what runs. Accepts NULL, returns NULL. */
struct networks *networks_free(struct networks *n);

/* A device's port. One of the two is not NULL. */
struct network_port {
	const char *vm, *device; /* its name */
	uint8_t mac[6];
	uint32_t n_queues;
	uint32_t mtu; /* of a user-mode stack */
	const struct switch_config *lan;
	const struct user_config *user;
};

/* Could it be had? Negative errno and a text. */
int networks_check(const struct networks *n, const struct network_port *port, char **ret_error);

/*
 * Make the port, and what it is connected to if that is not there. ret_fds: its memory, the
 * switch's eventfd, an eventfd of the device's for each queue; the caller's. An earlier port of the
 * device is taken away.
 */
int networks_plug(struct networks *n, const struct network_port *port, int *ret_fds,
		  char **ret_error);

/* The device's sandbox has ended. One that has no port is fine. */
void networks_unplug(struct networks *n, const char *vm, const char *device);
