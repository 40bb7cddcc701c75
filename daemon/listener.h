/*
 * Listening sockets that vmdevd owns: RUNTIME/VM/DEVICE.sock and RUNTIME/bus.
 *
 * Runs in: vmdevd.
 * Trusts:  the runtime directory, after having looked that it is vmdevd's own and that nobody else
 *          may write to it. Then no name below it can change under our hands.
 *
 * A socket is bound to a name that no front-end knows, gets its owner and mode and begins to
 * listen, and is then renamed to its place: whoever sees it sees it complete. A socket that was
 * left by a dead daemon is replaced by that; one that a process still holds is refused.
 *
 * All functions return 0 or a negative errno, with a text in *ret_error that the caller frees.
 */
#pragma once

#include "daemon/config.h"

/* Makes the directory if it is missing (0755), and checks whose it is. */
int listener_directory(const char *path, char **ret_error);

/* A listening socket at `path`, whose directory listener_directory has passed. */
int listener_open(const char *path, const struct socket_config *owner, int *ret_fd,
		  char **ret_error);

/* Gives a socket another owner and mode. */
int listener_set_owner(const char *path, const struct socket_config *owner, char **ret_error);
