/*
 * Connecting for a guest to what the host has for it. See broker.h.
 *
 * Runs in: vmdevd.
 * Trusts:  the document. The last part of UDS_PORT may be made by whoever may write to that directory: a link there is
 *          not followed. Both names are looked up as the owner, who has to be allowed to reach them.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/broker-private.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"

enum { CID_HOST = 2 };

bool broker_become(const struct socket_config *owner, struct broker_self *ret)
{
	*ret = (struct broker_self){ .uid = geteuid(), .gid = getegid() };
	if (owner->uid == ret->uid && owner->gid == ret->gid)
		return true;
	ret->n_groups = getgroups(BROKER_MAX_GROUPS, ret->groups);
	if (ret->n_groups < 0 || setgroups(0, NULL) < 0)
		return false;
	if (setegid(owner->gid) == 0) {
		if (seteuid(owner->uid) == 0)
			return true;
		(void)!setegid(ret->gid);
	}
	(void)setgroups((size_t)ret->n_groups, ret->groups);
	return false;
}

void broker_become_oneself(const struct broker_self *self)
{
	if (geteuid() == self->uid && getegid() == self->gid)
		return;
	/* What cannot be undone must not go on. */
	if (seteuid(self->uid) < 0 || setegid(self->gid) < 0 ||
	    setgroups((size_t)self->n_groups, self->groups) < 0)
		abort();
}

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

void broker_no_rights(int fd)
{
	int off = 0;

	(void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off));
}

static int new_socket(int family, uint32_t type)
{
	int fd = socket(family,
			(type == 2 ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC,
			0);

	if (fd < 0)
		return -errno;
	broker_no_rights(fd);
	return fd;
}

static int connect_unix(const struct sockaddr_un *address, socklen_t len, uint32_t type,
			int *ret_fd)
{
	scope_fd int fd = new_socket(AF_UNIX, type);

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)address, len) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int connect_path(const char *path, uint32_t type, int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	return connect_unix(&address, sizeof(address), type, ret_fd);
}

/* Through a descriptor of the very file, so that it is no link. */
static int connect_no_link(const char *path, uint32_t type, int *ret_fd)
{
	scope_fd int file = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char name[32];

	if (file < 0)
		return -errno;
	(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", file);
	return connect_path(name, type, ret_fd);
}

/* The socket of this name that vmdevd was started with (sd_listen_fds(3)), or -ENOENT. */
static int find_named(const char *name)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(0, &names), fd = -ENOENT;

	for (int i = 0; i < n && fd < 0; i++)
		if (strcmp(names[i], name) == 0)
			fd = SD_LISTEN_FDS_START + i;
	for (int i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
	return fd;
}

/* Where it can be reached. */
static int connect_named(const char *name, uint32_t type, int *ret_fd)
{
	struct sockaddr_un address = { 0 };
	socklen_t len = sizeof(address);
	int fd = find_named(name);

	if (fd < 0)
		return fd;
	if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		return -errno;
	return address.sun_family == AF_UNIX ? connect_unix(&address, len, type, ret_fd)
					     : -EAFNOSUPPORT;
}

static int connect_host(const struct device_config *c, const struct broker_call *call, int *ret_fd)
{
	char path[CONFIG_MAX_SOCKET_PATH + 16];

	if (!port_list_allows(&c->ports.host, call->port))
		return -EACCES;
	for (uint32_t i = 0; i < c->listens.n; i++) {
		const struct vsock_listen *entry = &c->listens.entries[i];

		if (entry->port != call->port)
			continue;
		return entry->path[0] ? connect_path(entry->path, call->type, ret_fd)
				      : connect_named(entry->fd_name, call->type, ret_fd);
	}
	if (!c->uds)
		return -ECONNREFUSED;
	(void)snprintf(path, sizeof(path), "%s_%u", c->uds, call->port);
	return connect_no_link(path, call->type, ret_fd);
}

/* Is it there? -EAGAIN: it takes a while. */
static int forward_done(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int error = 0;
	socklen_t len = sizeof(error);

	if (poll(&p, 1, 0) == 0)
		return -EAGAIN;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return -error;
}

static int connect_forward(const struct broker_call *call, int *fd)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK,
				       .svm_cid = (unsigned)call->cid,
				       .svm_port = call->port };

	if (*fd < 0) {
		*fd = new_socket(AF_VSOCK, call->type);
		if (*fd < 0)
			return *fd;
		if (connect(*fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return 0;
		if (errno != EINPROGRESS)
			return -errno;
	}
	return forward_done(*fd);
}

static bool is_forwarded(const struct device_config *c, uint64_t cid)
{
	for (uint32_t i = 0; i < c->forward.n; i++)
		if (c->forward.cids[i] == cid)
			return true;
	return false;
}

static int refuse(int error, char **ret_error, char *text)
{
	*ret_error = text;
	return error;
}

static int check_named(const struct vsock_listen *entry, char **ret_error)
{
	int fd = find_named(entry->fd_name), family = 0, listening = 0;
	socklen_t len = sizeof(int);

	if (fd < 0)
		return refuse(-ENOENT, ret_error,
			      text_format("\"listen\" of port %u: vmdevd was started without a "
					  "socket named \"%s\"; give one by FileDescriptorName= of "
					  "its socket unit",
					  entry->port, entry->fd_name));
	(void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len);
	(void)getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len);
	if (family == AF_UNIX && listening)
		return 0;
	return refuse(-EINVAL, ret_error,
		      text_format("\"listen\" of port %u: the socket named \"%s\" that vmdevd was "
				  "started with %s",
				  entry->port, entry->fd_name,
				  family == AF_UNIX ? "does not listen" : "is no Unix socket"));
}

int broker_check_ways(const struct device_config *c, char **ret_error)
{
	int r = 0;

	for (uint32_t i = 0; i < c->listens.n && r == 0; i++)
		if (!c->listens.entries[i].path[0])
			r = check_named(&c->listens.entries[i], ret_error);
	if (r == 0 && c->forward.n > 0) {
		scope_fd int fd = new_socket(AF_VSOCK, 1);

		if (fd < 0)
			r = refuse(
				fd, ret_error,
				text_format("\"forward\": the host's AF_VSOCK cannot be had: %s; "
					    "its kernel needs the module vsock",
					    error_text(fd)));
	}
	return r;
}

int broker_connect(const struct device_config *c, const struct broker_call *call, int *fd)
{
	if (call->cid == CID_HOST)
		return connect_host(c, call, fd);
	if (!is_forwarded(c, call->cid))
		return -EHOSTUNREACH;
	return port_list_allows(&c->ports.host, call->port) ? connect_forward(call, fd) : -EACCES;
}
