/*
 * The host side that is a network interface of the host's: a tap or macvtap, one descriptor for each queue.
 *
 * Runs in: see host.h. Trusts: the kernel.
 *
 * The interface outlives worker and sandbox (daemon/tap.h), so nothing here does. It is always ready to give
 * whatever offloads there are: what the driver has not agreed to is cut up by rx-frame.c. So no ioctl is needed once
 * the worker runs, and what is in the tap's queue from before a negotiation is right after it too. Each
 * worker asks for the same offloads again, which changes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/net/host.h"
#include "devices/process/contract.h"

/* From Linux 6.2 on. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

static struct host the_tap;

static int say(const char *what, const char *name, int error)
{
	log_error("%s %s: %s", what, name, strerror(-error));
	return error;
}

static int arrange_queue(const struct host_config *c, uint32_t queue)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), len = NET_HDR_LEN, r;

	if (fd < 0)
		return say("cannot open", "/dev/net/tun", -errno);
	if (c->n_queues > 1)
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
	strncpy(ifr.ifr_name, c->path, sizeof(ifr.ifr_name) - 1);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &len) < 0) {
		r = say("cannot use the tap", c->path, -errno);
		close(fd);
		return r;
	}
	r = fd_move(fd, CONTRACT_FD_NET_QUEUE + (int)queue, false);
	return r < 0 ? say("cannot place the tap", c->path, r) : 0;
}

static int arrange(const struct host_config *c)
{
	int r = 0;

	if (!c->path || strlen(c->path) >= IFNAMSIZ) {
		log_error("give --tap=NAME, the interface (see --help)");
		return -EINVAL;
	}
	for (uint32_t i = 0; i < c->n_queues && r == 0; i++)
		r = arrange_queue(c, i);
	return r;
}

static struct host *open_side(const struct host_config *c)
{
	unsigned long offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	bool uso = ioctl(CONTRACT_FD_NET_QUEUE, TUNSETOFFLOAD,
			 offloads | TUN_F_USO4 | TUN_F_USO6) == 0;

	if (!uso && ioctl(CONTRACT_FD_NET_QUEUE, TUNSETOFFLOAD, offloads) < 0) {
		say("the tap", "has no offloads", -errno);
		return NULL;
	}
	the_tap = (struct host){ .side = &host_tap,
				 .n_queues = c->n_queues,
				 .features = NET_F_HOST_OFFLOADS | NET_F_GUEST_OFFLOADS };
	if (!uso)
		the_tap.features &= ~(NET_F_HOST_USO | NET_F_GUEST_USO4 | NET_F_GUEST_USO6);
	return &the_tap;
}

/* A short frame is in one piece, and that is cheaper to hand over. */
static ssize_t send_frame(int fd, const struct host_frame *f)
{
	if (f->n_iov == 1)
		return write(fd, f->iov[0].iov_base, f->iov[0].iov_len);
	return writev(fd, f->iov, (int)f->n_iov);
}

/* A frame that the kernel does not take (the interface is down, no memory) is lost, as on any wire. */
static uint32_t send_frames(struct host *h, uint32_t queue, const struct host_frame *frames,
			    uint32_t n, bool more)
{
	int fd = CONTRACT_FD_NET_QUEUE + (int)queue;

	for (uint32_t i = 0; i < n; i++)
		if (send_frame(fd, &frames[i]) < 0 && errno == EAGAIN)
			return i;
	return n;
}

static uint32_t receive(struct host *h, uint32_t queue, const struct iovec *iov, uint32_t n_iov)
{
	ssize_t n = readv(CONTRACT_FD_NET_QUEUE + (int)queue, iov, (int)n_iov);

	return n < 0 ? 0 : (uint32_t)n;
}

static int event_fd(const struct host *h, uint32_t queue)
{
	return CONTRACT_FD_NET_QUEUE + (int)queue;
}

const struct host_side host_tap = {
	.name = "tap",
	.arrange = arrange,
	.open = open_side,
	.send = send_frames,
	.writes = true,
	.receive = receive,
	.event_fd = event_fd,
};
