/*
 * vmdev-vsock: a vhost-user vsock device.
 *
 * Runs in: every process of the device. Trusts: its arguments.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/base/parse.h"
#include "devices/base/scope.h"
#include "devices/process/contract.h"
#include "devices/process/program.h"
#include "devices/vsock/helper.h"
#include "devices/vsock/vsock.h"

enum { BACKLOG = 128 };

static struct vsock_config *config_of(void *config)
{
	return config;
}

/* VIRTIO 1.3 §5.10.4: 0, 1 and 2 are others', as is all ones; the upper half is reserved. */
static int set_cid(void *config, const char *value)
{
	return parse_u64(value, VSOCK_CID_FIRST, UINT32_MAX - 1, &config_of(config)->cid);
}

static int set_guest_ports(void *config, const char *value)
{
	return port_list_parse(&config_of(config)->guest_ports, value);
}

static int set_host_ports(void *config, const char *value)
{
	return port_list_parse(&config_of(config)->host_ports, value);
}

static int set_uds(void *config, const char *value)
{
	config_of(config)->uds = value;
	return *value ? 0 : -EINVAL;
}

static const struct options_row rows[] = {
	{ "guest-cid", "N", "the guest's address, from 3", set_cid },
	{ "guest-ports", "LIST",
	  "what others may connect to in the guest: all (default), none, or 1024,5000-5999",
	  set_guest_ports },
	{ "uds-path", "PATH",
	  "by hand: listen here for host programs; the guest's connections to host port N go to "
	  "PATH_N",
	  set_uds },
	{ "host-ports", "LIST", "by hand: which host ports the guest may connect to (default all)",
	  set_host_ports },
	{ NULL, NULL, NULL, NULL },
};

static int say(const char *what, int error)
{
	log_error("%s: %s", what, strerror(-error));
	return error;
}

/* A stale file is replaced; one that somebody listens on is not. */
static int listen_at(const char *path, const char *suffix, int type, int number)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	scope_fd int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s%s", path, suffix);

	if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
		return say(path, -ENAMETOOLONG);
	if (fd < 0)
		return say(addr.sun_path, -errno);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return say(addr.sun_path, -EADDRINUSE);
	if (errno == ECONNREFUSED)
		unlink(addr.sun_path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0)
		return say(addr.sun_path, -errno);
	return fd_move(take_fd(&fd), number, false);
}

static int no_listening(int number)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	return fd < 0 ? say("/dev/null", -errno) : fd_move(fd, number, false);
}

static int arrange(void *config, const struct options *o)
{
	const struct vsock_config *c = config;
	int r;

	if (!c->cid) {
		log_error("give --guest-cid=N (see --help)");
		return -EINVAL;
	}
	r = c->uds ? listen_at(c->uds, "", SOCK_STREAM, CONTRACT_FD_VSOCK_STREAM)
		   : no_listening(CONTRACT_FD_VSOCK_STREAM);
	if (r >= 0)
		r = c->uds ? listen_at(c->uds, CONTRACT_VSOCK_SEQPACKET_SUFFIX, SOCK_SEQPACKET,
				       CONTRACT_FD_VSOCK_SEQPACKET)
			   : no_listening(CONTRACT_FD_VSOCK_SEQPACKET);
	if (r < 0)
		return r;
	r = helper_start(c);
	return r < 0 ? say("no helper process", r) : 0;
}

int main(int argc, char **argv)
{
	static struct vsock_config config = { .guest_ports = { .all = true },
					      .host_ports = { .all = true } };
	static const struct program program = {
		.type = "vsock",
		.capabilities = "{\"type\": \"vsock\", \"features\": []}",
		.options = rows,
		.config = &config,
		.fd_limit = CONTRACT_FD_LIMIT_VSOCK,
		.n_extra_queues = CONTRACT_VSOCK_QUEUES - 1,
		.state_len = sizeof(struct store),
		.arrange = arrange,
		.create = vsock_create,
	};

	return argc > 0 ? program_main(&program, argv) : 2;
}
