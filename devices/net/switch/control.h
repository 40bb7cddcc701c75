/*
 * What vmdevd tells the switch: which ports there are (process/contract.h).
 *
 * Runs in: vmdev-switch. Trusts: vmdevd, whose socket it is. Messages are read as strictly as any:
 * what is of another version is refused, not guessed at.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/net/switch/port.h"

struct control_message {
	uint32_t type;	       /* enum contract_switch_msg */
	struct port_spec port; /* REMOVE: its id only */
	int fds[CONTRACT_SWITCH_MAX_FDS];
	uint32_t n_fds;
};

/* Read a datagram; m->fds and m->n_fds are those that came with it. False: it is none of ours. */
bool control_parse(struct control_message *m, const void *bytes, size_t len);

/*
 * Receive one. 1: *m is it, and its descriptors are the caller's; 0: there is none now; a negative
 * errno: -EBADMSG of one that could not be read (its descriptors are closed), -EPIPE: vmdevd has
 * gone.
 */
int control_receive(int socket, struct control_message *m);

/* One of CONTRACT_MSG_READY, CONTRACT_SWITCH_MSG_GONE, with a number; or a text. */
void control_tell(int socket, uint32_t type, uint32_t value);
void control_tell_failed(int socket, const char *text);
