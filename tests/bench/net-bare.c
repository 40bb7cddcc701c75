/*
 * The limit: a tap that is written to and read from, by a process that does nothing else. See net.h.
 *
 * Runs in: a child of frontend-bench-net. Trusts: its caller.
 */
#include "tests/bench/net.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

int net_bare_open(const char *interface)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), len = NET_HEADER_LEN;
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strncpy(ifr.ifr_name, interface, sizeof(ifr.ifr_name) - 1);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &len) < 0 ||
	    ioctl(fd, TUNSETOFFLOAD, (unsigned long)(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)) < 0)
		err(1, "%s", interface);
	if (ioctl(s, SIOCGIFFLAGS, &ifr) < 0)
		err(1, "%s", interface);
	ifr.ifr_flags |= IFF_UP;
	if (ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		err(1, "%s", interface);
	close(s);
	return fd;
}

static void await(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	poll(&p, 1, -1);
}

static void count(struct net_bare *b)
{
	__atomic_store_n(b->n_done, *b->n_done + 1, __ATOMIC_RELEASE);
}

static void write_for_ever(struct net_bare *b, int tap, uint32_t len)
{
	uint8_t *frame = malloc(NET_HEADER_LEN + len);

	for (net_make_frame(frame, len);; count(b))
		if (write(tap, frame, NET_HEADER_LEN + len) < 0)
			err(1, "tap");
}

static void read_for_ever(struct net_bare *b, int tap)
{
	static uint8_t frame[NET_HEADER_LEN + NET_LONG_LEN];

	for (;;) {
		if (read(tap, frame, sizeof(frame)) >= 0)
			count(b);
		else if (errno == EAGAIN)
			await(tap);
		else
			err(1, "tap");
	}
}

/* As a device does with one frame in each direction. */
static void echo_for_ever(struct net_bare *b, int tap, uint32_t len)
{
	uint8_t *frame = malloc(NET_HEADER_LEN + NET_LONG_LEN);
	uint64_t one = 1, kicks;

	for (net_make_frame(frame, len);;) {
		await(b->kick);
		if (read(b->kick, &kicks, sizeof(kicks)) < 0 ||
		    write(tap, frame, NET_HEADER_LEN + len) < 0)
			err(1, "echo");
		await(tap);
		if (read(tap, frame, NET_HEADER_LEN + NET_LONG_LEN) < 0 ||
		    write(b->call, &one, sizeof(one)) < 0)
			err(1, "echo");
		count(b);
	}
}

void net_bare_begin(struct net_bare *b, int tap, enum net_bare_work work, uint32_t len)
{
	b->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	b->call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	b->n_done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (b->kick < 0 || b->call < 0 || b->n_done == MAP_FAILED)
		err(1, "bare");
	b->pid = fork();
	if (b->pid < 0)
		err(1, "fork");
	if (b->pid > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (work == NET_BARE_WRITE)
		write_for_ever(b, tap, len);
	else if (work == NET_BARE_READ)
		read_for_ever(b, tap);
	else
		echo_for_ever(b, tap, len);
}
