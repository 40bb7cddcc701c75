/*
 * The user-mode network stack: passt, of Debian's package, as a document wants it.
 *
 * Runs in: vmdevd. Trusts: what config-net.c has checked.
 *
 * passt makes of a guest's frames what an unprivileged process can do on the host's network:
 * connections, datagrams, pings. It answers the guest's ARP, DHCP and neighbour discovery itself.
 */
#pragma once

#include "daemon/config-net.h"
#include "daemon/launch.h"

/* Could it be started? Negative errno and a text. */
int stack_check(char **ret_error);

/* Its arguments, to be freed with strv_free; NULL: no memory. */
char **stack_argv(const struct user_config *config, uint32_t mtu);

struct stack_spec {
	const char *name; /* VM/DEVICE */
	const char *cgroup_name;
	const struct user_config *config;
	uint32_t mtu;
	int socket; /* its end of the stream; the caller's stays open */
	uint32_t uid_index;
};

/* As launch_device. */
int stack_launch(const struct stack_spec *spec, struct launched *ret, char **ret_error);
