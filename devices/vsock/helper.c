/* The helper of a program run by hand. See helper.h. */
#include "devices/vsock/helper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/scope.h"
#include "devices/base/wire.h"

enum { TRIES = 200, TRY_US = 5000 };

struct question {
	uint64_t serial, cid;
	uint32_t port, own_port, type;
};

/* A listening socket whose backlog is full says EAGAIN: it is tried for a second. */
static int connect_to(const char *uds, uint32_t port, int type)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	scope_fd int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u", uds, port);

	if (fd < 0 || n < 0 || (size_t)n >= sizeof(addr.sun_path))
		return fd < 0 ? -errno : -ENAMETOOLONG;
	for (unsigned i = 0; i < TRIES; i++) {
		if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
			return take_fd(&fd);
		if (errno != EAGAIN)
			return -errno;
		usleep(TRY_US);
	}
	return -ECONNREFUSED;
}

static int open_for(const struct vsock_config *config, const struct question *q)
{
	if (q->cid != VSOCK_CID_HOST || !config->uds || !port_allowed(&config->host_ports, q->port))
		return -ECONNREFUSED;
	return connect_to(config->uds, q->port,
			  q->type == VIRTIO_VSOCK_TYPE_SEQPACKET ? SOCK_SEQPACKET : SOCK_STREAM);
}

/* fd: -1 to send none. */
static void send_letter(int channel, const struct wire_writer *writer, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = writer->start, .iov_len = wire_len(writer) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
						  .cmsg_type = SCM_RIGHTS,
						  .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
	}
	if (sendmsg(channel, &m, MSG_NOSIGNAL) < 0)
		_exit(0);
}

static void answer(int channel, uint64_t serial, int fd, bool other_guest)
{
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	struct wire_writer w = wire_writer(buf, sizeof(buf));

	wire_put_u32(&w, CONTRACT_VSOCK_ANSWER);
	wire_put_u64(&w, serial);
	wire_put_u32(&w, fd < 0 ? (uint32_t)-fd : 0);
	wire_put_u32(&w, other_guest);
	send_letter(channel, &w, fd < 0 ? -1 : fd);
}

/* There is no other guest here, but this one will do to try how it is with two. */
static int call_guest(int channel, const struct question *q)
{
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	struct wire_writer w = wire_writer(buf, sizeof(buf));
	int type = q->type == VIRTIO_VSOCK_TYPE_SEQPACKET ? SOCK_SEQPACKET : SOCK_STREAM, pair[2];

	if (socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	wire_put_u32(&w, CONTRACT_VSOCK_INCOMING);
	wire_put_u64(&w, q->cid);
	wire_put_u32(&w, q->own_port);
	wire_put_u32(&w, q->port);
	wire_put_u32(&w, q->type);
	send_letter(channel, &w, pair[1]);
	fd_close(pair[1]);
	return pair[0];
}

static _Noreturn void serve(int channel, const struct vsock_config *config)
{
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];

	prctl(PR_SET_NAME, "vmdev-helper", 0, 0, 0);
	signal(SIGINT, SIG_IGN);
	for (;;) {
		ssize_t n = recv(channel, buf, sizeof(buf), 0);
		struct wire_reader r = wire_reader(buf, n > 0 ? (size_t)n : 0);
		bool ask = wire_get_u32(&r) == CONTRACT_VSOCK_ASK;
		struct question q = { .serial = wire_get_u64(&r), .cid = wire_get_u64(&r) };
		scope_fd int fd = -1;
		bool other_guest;

		q.port = wire_get_u32(&r);
		q.own_port = wire_get_u32(&r);
		q.type = wire_get_u32(&r);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || !ask || !wire_done(&r))
			_exit(0);
		other_guest = q.cid == config->cid;
		fd = other_guest ? call_guest(channel, &q) : open_for(config, &q);
		answer(channel, q.serial, fd, other_guest);
	}
}

int helper_start(const struct vsock_config *config)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		/* Its parent is not the keeper, which waits for its worker. */
		if (fork() != 0)
			_exit(0);
		close_range(3, (unsigned)pair[0] - 1, 0);
		close_range((unsigned)pair[0] + 1, ~0u, 0);
		serve(pair[0], config);
	}
	waitpid(pid, NULL, 0);
	fd_close(pair[0]);
	if (fd_move(pair[1], CONTRACT_FD_VSOCK_BROKER, false) < 0)
		return -errno;
	return fd_set_nonblock(CONTRACT_FD_VSOCK_BROKER);
}
