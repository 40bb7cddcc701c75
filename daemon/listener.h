/*
 * Listening sockets that vmdevd owns: RUNTIME/VM/DEVICE.sock, RUNTIME/bus, and a vsock device's
 * "uds".
 *
 * Runs in: vmdevd.
 * Trusts:  the runtime directory, after having looked that it is vmdevd's own and that nobody else
 *          may write to it. Then no name below it can change under our hands. Elsewhere no name is
 *          trusted for longer than it takes to open it (struct listener).
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

/* Is there a socket at its place still? If not, the text says how to have one again. */
int listener_find(const char *path, char **ret_error);

/* Gives such a socket another owner and mode. */
int listener_set_owner(const char *path, const struct socket_config *owner, char **ret_error);

/*
 * A socket in a directory that may be anybody's. Whoever may write there can put anything in the
 * place of the socket at any time, and whoever may write further up another directory in the place
 * of that one. So the directory is opened once, and the socket's file too; all that follows is done
 * to these two, whatever their names lead to by now.
 */
struct listener {
	int fd;	  /* listens; -1: there is none */
	int dir;  /* O_PATH */
	int file; /* O_PATH: the socket in the file system */
};

#define LISTENER_NONE                                                                              \
	(struct listener)                                                                          \
	{                                                                                          \
		-1, -1, -1                                                                         \
	}

/* Could a socket be put there? Changes nothing, and does not ask who holds one that is there. */
int listener_check(const char *path, char **ret_error);

/* As listener_open, of this type of socket, where so many may wait to be accepted. */
int listener_open_as(const char *path, const struct socket_config *owner, int type, int backlog,
		     struct listener *ret, char **ret_error);
int listener_own(const struct listener *listener, const char *path,
		 const struct socket_config *owner, char **ret_error);

/* Closes it, and removes its name if that is still its own. LISTENER_NONE is accepted, and left. */
void listener_close(struct listener *listener, const char *path);
