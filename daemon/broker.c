/* The broker: its sockets, and its life with the device. See broker.h. */
#include "daemon/broker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/broker-private.h"
#include "daemon/lend.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"
#include "devices/base/wire.h"
#include "devices/process/contract.h"

enum { BACKLOG = 1024 };

static const struct {
	int type;
	const char *suffix;
} sockets[BROKER_N_SOCKETS] = {
	{ SOCK_STREAM, "" },
	{ SOCK_SEQPACKET, CONTRACT_VSOCK_SEQPACKET_SUFFIX },
};

int broker_new(const struct broker_spec *spec, struct broker **ret)
{
	struct broker *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->spec = *spec;
	b->channel = -1;
	for (unsigned i = 0; i < BROKER_N_SOCKETS; i++)
		b->listening[i] = LISTENER_NONE;
	list_init(&b->asks);
	share_init(&b->share);
	*ret = b;
	return 0;
}

struct broker *broker_free(struct broker *b)
{
	if (!b)
		return NULL;
	broker_stop(b);
	broker_close(b);
	free(b);
	return NULL;
}

/* ---- sockets that host programs connect to ---- */

static void socket_path(const struct broker *b, unsigned i, char *ret_path, size_t size)
{
	(void)snprintf(ret_path, size, "%s%s", b->uds, sockets[i].suffix);
}

void broker_close(struct broker *b)
{
	char path[CONFIG_MAX_SOCKET_PATH + 16];

	for (unsigned i = 0; i < BROKER_N_SOCKETS; i++) {
		if (b->listening[i].fd < 0)
			continue;
		socket_path(b, i, path, sizeof(path));
		listener_close(&b->listening[i], path);
	}
	free(b->uds);
	b->uds = NULL;
}

static int listen_all(struct broker *b, char **ret_error)
{
	char path[CONFIG_MAX_SOCKET_PATH + 16];
	int r = 0;

	for (unsigned i = 0; i < BROKER_N_SOCKETS && r == 0; i++) {
		socket_path(b, i, path, sizeof(path));
		r = listener_open_as(path, &b->owner, sockets[i].type, BACKLOG, &b->listening[i],
				     ret_error);
		if (r == 0) /* those that are accepted have it from there */
			broker_no_rights(b->listening[i].fd);
	}
	return r;
}

int broker_prepare(struct broker *b, const struct device_config *config, char **ret_error)
{
	bool same = b->uds && config->uds && strcmp(b->uds, config->uds) == 0;
	int r;

	b->config = config;
	b->owner = config->socket;
	r = broker_check_ways(config, ret_error);
	if (r < 0 || same)
		return r;
	broker_close(b);
	if (!config->uds)
		return 0;
	b->uds = strdup(config->uds);
	if (!b->uds)
		return -ENOMEM;
	r = listen_all(b, ret_error);
	if (r < 0)
		broker_close(b);
	return r;
}

int broker_set_owner(struct broker *b, const struct socket_config *owner, char **ret_error)
{
	char path[CONFIG_MAX_SOCKET_PATH + 16];
	int r = 0;

	for (unsigned i = 0; i < BROKER_N_SOCKETS && r == 0; i++) {
		if (b->listening[i].fd < 0)
			continue;
		socket_path(b, i, path, sizeof(path));
		r = listener_own(&b->listening[i], path, owner, ret_error);
	}
	if (r == 0)
		b->owner = *owner;
	return r;
}

/* ---- the launch ---- */

/* RUNTIME/VM/NAME: that directory is made for the device's own socket, before a launch. */
static bool is_in_own_directory(const struct broker_resource *w)
{
	char directory[CONFIG_MAX_SOCKET_PATH];
	size_t len = (size_t)snprintf(directory, sizeof(directory), "%s/%s/", w->runtime_dir,
				      w->config->vm);

	return len < sizeof(directory) && strncmp(w->config->uds, directory, len) == 0 &&
	       !strchr(w->config->uds + len, '/');
}

int broker_check(const void *what, char **ret_error)
{
	const struct broker_resource *w = what;
	int r = broker_check_ways(w->config, ret_error);

	if (r == 0 && w->config->uds && !is_in_own_directory(w))
		r = listener_check(w->config->uds, ret_error);
	return r;
}

static int listening_copy(const struct broker *b, unsigned i, int *ret_fd)
{
	int fd;

	if (b->listening[i].fd < 0)
		return lend_file("/dev/null", O_RDWR, ret_fd);
	fd = fcntl(b->listening[i].fd, F_DUPFD_CLOEXEC, 0);
	*ret_fd = fd;
	return fd < 0 ? -errno : 0;
}

static int channel_make(struct broker *b)
{
	int pair[2];

	assert(b->channel < 0 && b->config);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	b->channel = pair[0];
	broker_no_rights(b->channel);
	b->hung_up = false;
	return pair[1];
}

int broker_open(const void *what, uint32_t uid_index, int *ret_fds, char **ret_error)
{
	struct broker *b = ((const struct broker_resource *)what)->broker;
	scope_fd int stream = -1, seqpacket = -1;
	int r = listening_copy(b, 0, &stream);

	if (r >= 0)
		r = listening_copy(b, 1, &seqpacket);
	if (r >= 0)
		r = channel_make(b);
	if (r < 0) {
		*ret_error = text_format("the device's sockets cannot be had: %s", error_text(r));
		return r;
	}
	ret_fds[0] = take_fd(&stream);
	ret_fds[1] = take_fd(&seqpacket);
	ret_fds[2] = r;
	return 0;
}

/* ---- life ---- */

void broker_stop(struct broker *b)
{
	broker_asks_clear(b);
	share_clear(&b->share);
	b->channel = fd_close(b->channel);
	b->config = NULL;
}

/* ---- a connection from another guest ---- */

int broker_incoming(struct broker *b, uint64_t cid, const struct broker_call *call, int fd)
{
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	struct wire_writer w = wire_writer(buf, sizeof(buf));
	int r;

	if (b->channel < 0 || !port_list_allows(&b->config->ports.guest, call->port))
		return -ECONNREFUSED;
	r = share_take(&b->share, cid, fd);
	if (r < 0)
		return r;
	wire_put_u32(&w, CONTRACT_VSOCK_INCOMING);
	wire_put_u64(&w, cid);
	wire_put_u32(&w, call->own_port);
	wire_put_u32(&w, call->port);
	wire_put_u32(&w, call->type);
	return broker_send(b, &w, fd);
}
