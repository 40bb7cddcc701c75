/* Taps. See tap.h. */
#include "daemon/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/sandbox/fail.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"

enum { HEADER_LEN = 12, DRIVER_LEN = 32 };

/* An interface that was made here, and the queue by which it is held. */
struct held {
	struct held *next;
	int fd;
	char name[IFNAMSIZ];
};

static struct held *all_held;

static struct held **held_find(const char *name)
{
	struct held **at = &all_held;

	while (*at && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	return at;
}

bool tap_name_is_valid(const char *name)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t len = strlen(name);

	return len >= 1 && len <= TAP_MAX_NAME_LEN && strspn(name, letters) == len &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, "all") != 0 &&
	       strcmp(name, "default") != 0;
}

static struct ifreq request_for(const char *name)
{
	struct ifreq ifr = { .ifr_flags = 0 };

	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return ifr;
}

static int open_socket(void)
{
	return errno_or(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

/* The kernel's name for what drives an interface: "tun", "macvlan" (a macvtap too), "bridge". */
static int driver_of(int sock, const char *name, char ret_driver[DRIVER_LEN])
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq ifr = request_for(name);

	ifr.ifr_data = (void *)&info;
	if (ioctl(sock, SIOCETHTOOL, &ifr) < 0)
		return -errno;
	(void)snprintf(ret_driver, DRIVER_LEN, "%s", info.driver);
	return 0;
}

/* What is there under the tap's name: "tun", "macvlan", "" for nothing. */
static int find(const struct tap *tap, int sock, char ret_driver[DRIVER_LEN], char **ret_error)
{
	int r = driver_of(sock, tap->name, ret_driver);

	if (r == -ENODEV) {
		ret_driver[0] = '\0';
		return 0;
	}
	if (r < 0 || (strcmp(ret_driver, "tun") != 0 && strcmp(ret_driver, "macvlan") != 0))
		return fail(ret_error, -EINVAL,
			    "interface %s is neither a tap nor a macvtap; give another \"name\"",
			    tap->name);
	return 0;
}

static int check_bridge(const struct tap *tap, int sock, char **ret_error)
{
	char driver[DRIVER_LEN];
	int r = tap->bridge ? driver_of(sock, tap->bridge, driver) : 0;

	if (r == -ENODEV)
		return fail(ret_error, r, "there is no bridge %s (ip link add %s type bridge)",
			    tap->bridge, tap->bridge);
	if (tap->bridge && (r < 0 || strcmp(driver, "bridge") != 0))
		return fail(ret_error, -EINVAL, "interface %s is not a bridge", tap->bridge);
	return 0;
}

/* What IFLA_RTA and RTA_NEXT are, without their casts: netlink aligns attributes. */
static const struct rtattr *attribute_at(const void *begin, size_t len)
{
	return (const struct rtattr *)(const void *)((const char *)begin + RTA_ALIGN(len));
}

/* The interface's bridge, by netlink: no ioctl tells. 0 and its index, 0 for none. */
static int master_of(const char *name, unsigned *ret_index)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} request = { .header = { .nlmsg_len = sizeof(request),
				  .nlmsg_type = RTM_GETLINK,
				  .nlmsg_flags = NLM_F_REQUEST },
		      .info = { .ifi_index = (int)if_nametoindex(name) } };
	_Alignas(NLMSG_ALIGNTO) char reply[16384];
	const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)reply;
	scope_fd int sock = errno_or(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	const struct rtattr *a;
	int len;

	if (sock < 0)
		return sock;
	if (send(sock, &request, sizeof(request), 0) < 0)
		return -errno;
	len = errno_or((int)recv(sock, reply, sizeof(reply), 0));
	if (len < 0)
		return len;
	if (!NLMSG_OK(h, (unsigned)len) || h->nlmsg_type != RTM_NEWLINK ||
	    h->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
		return -ENODEV;
	*ret_index = 0;
	len = (int)IFLA_PAYLOAD(h);
	for (a = attribute_at(NLMSG_DATA(h), sizeof(struct ifinfomsg)); RTA_OK(a, len);
	     len -= (int)RTA_ALIGN(a->rta_len), a = attribute_at(a, a->rta_len))
		if (a->rta_type == IFLA_MASTER && RTA_PAYLOAD(a) == sizeof(*ret_index))
			memcpy(ret_index, RTA_DATA(a), sizeof(*ret_index));
	return 0;
}

/* A guest belongs to the bridge that its document names, and to no other. */
static int refuse_other_bridge(const struct tap *tap, char **ret_error)
{
	unsigned master = 0;
	char name[IF_NAMESIZE] = "";
	int r = master_of(tap->name, &master);

	if (r < 0)
		return fail(ret_error, r, "tap %s: it cannot be seen in which bridge it is: %s",
			    tap->name, error_text(r));
	if (master == 0 || master == if_nametoindex(tap->bridge))
		return 0;
	return fail(ret_error, -EBUSY,
		    "tap %s is in bridge %s and not in %s (ip link set %s nomaster)", tap->name,
		    if_indextoname(master, name) ? name : "?", tap->bridge, tap->name);
}

int tap_check(const void *what, char **ret_error)
{
	const struct tap *tap = what;
	scope_fd int sock = open_socket();
	char driver[DRIVER_LEN];
	int r = sock < 0 ? sock : find(tap, sock, driver, ret_error);

	if (r < 0)
		return r;
	if (driver[0] == '\0' && access("/dev/net/tun", F_OK) < 0)
		return fail(ret_error, -errno, "there is no /dev/net/tun (modprobe tun)");
	r = check_bridge(tap, sock, ret_error);
	/* One that is held is made anew. */
	if (r == 0 && tap->bridge && driver[0] && !*held_find(tap->name))
		r = refuse_other_bridge(tap, ret_error);
	return r;
}

/* Queues */

static int open_tun_queue(const struct tap *tap, int *ret_fd, char **ret_error)
{
	scope_fd int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	struct ifreq ifr = request_for(tap->name);
	int len = HEADER_LEN;

	if (fd < 0)
		return fail(ret_error, -errno, "/dev/net/tun cannot be opened: %s",
			    error_text(-errno));
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return fail(ret_error, -errno,
			    errno == EINVAL ? "tap %s was not made for this: it needs vnet_hdr and "
					      "multi_queue (ip tuntap add %s mode tap vnet_hdr "
					      "multi_queue): %s"
					    : "tap %s cannot be used (by whom is %s?): %s",
			    tap->name, tap->name, error_text(-errno));
	if (ioctl(fd, TUNSETVNETHDRSZ, &len) < 0)
		return fail(ret_error, -errno, "tap %s: %s", tap->name, error_text(-errno));
	*ret_fd = take_fd(&fd);
	return 0;
}

/* A macvtap's character device is named after the interface's index. */
static int open_macvtap_queue(const struct tap *tap, int *ret_fd, char **ret_error)
{
	struct ifreq ifr = request_for(tap->name);
	int len = HEADER_LEN;
	scope_fd int fd = -1;
	char path[32];

	(void)snprintf(path, sizeof(path), "/dev/tap%u", if_nametoindex(tap->name));
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fail(ret_error, -errno, "macvtap %s: %s cannot be opened: %s", tap->name,
			    path, error_text(-errno));
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &len) < 0)
		return fail(ret_error, -errno, "macvtap %s: %s", tap->name, error_text(-errno));
	*ret_fd = take_fd(&fd);
	return 0;
}

static int open_queue(const struct tap *tap, const char *driver, int *ret_fd, char **ret_error)
{
	if (strcmp(driver, "macvlan") == 0)
		return open_macvtap_queue(tap, ret_fd, ret_error);
	return open_tun_queue(tap, ret_fd, ret_error);
}

/* Holding what was made */

static int hold(const struct tap *tap, char **ret_error)
{
	struct ifreq ifr = { .ifr_flags = IFF_DETACH_QUEUE };
	scope_fd int fd = -1;
	struct held *h;
	int r = open_tun_queue(tap, &fd, ret_error);

	if (r < 0)
		return r;
	if (ioctl(fd, TUNSETQUEUE, &ifr) < 0)
		return fail(ret_error, -errno, "tap %s: %s", tap->name, error_text(-errno));
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	(void)snprintf(h->name, sizeof(h->name), "%s", tap->name);
	h->fd = take_fd(&fd);
	h->next = all_held;
	all_held = h;
	return 0;
}

void tap_release(const char *name)
{
	struct held **at = held_find(name), *h = *at;

	if (!h)
		return;
	*at = h->next;
	fd_close(h->fd);
	free(h);
}

/* The interface as the document wants it */

static int set_mtu(const struct tap *tap, int sock, char **ret_error)
{
	struct ifreq ifr = request_for(tap->name);

	ifr.ifr_mtu = (int)tap->mtu;
	if (tap->mtu == 0 || ioctl(sock, SIOCSIFMTU, &ifr) == 0)
		return 0;
	return fail(ret_error, -errno, "tap %s: the MTU cannot be %u: %s", tap->name, tap->mtu,
		    error_text(-errno));
}

static int join_bridge(const struct tap *tap, int sock, char **ret_error)
{
	struct ifreq ifr = request_for(tap->bridge ? tap->bridge : "");

	ifr.ifr_ifindex = (int)if_nametoindex(tap->name);
	if (!tap->bridge || ioctl(sock, SIOCBRADDIF, &ifr) == 0)
		return 0;
	if (errno == EBUSY) /* it is in one already */
		return refuse_other_bridge(tap, ret_error);
	return fail(ret_error, -errno, "tap %s cannot be put into bridge %s: %s", tap->name,
		    tap->bridge, error_text(-errno));
}

static int set_up(const struct tap *tap, int sock, char **ret_error)
{
	struct ifreq ifr = request_for(tap->name);

	if (ioctl(sock, SIOCGIFFLAGS, &ifr) == 0) {
		ifr.ifr_flags |= IFF_UP;
		if (ioctl(sock, SIOCSIFFLAGS, &ifr) == 0)
			return 0;
	}
	return fail(ret_error, -errno, "tap %s cannot be set up: %s", tap->name,
		    error_text(-errno));
}

static int arrange(const struct tap *tap, int sock, char **ret_error)
{
	int r = set_mtu(tap, sock, ret_error);

	if (r == 0)
		r = join_bridge(tap, sock, ret_error);
	return r == 0 ? set_up(tap, sock, ret_error) : r;
}

static int open_queues(const struct tap *tap, const char *driver, int *ret_fds, char **ret_error)
{
	for (uint32_t i = 0; i < tap->n_queues; i++) {
		int r = open_queue(tap, driver, &ret_fds[i], ret_error);

		if (r < 0) {
			while (i-- > 0)
				fd_close(ret_fds[i]);
			return r;
		}
	}
	return 0;
}

int tap_open(const void *what, uint32_t uid_index, int *ret_fds, char **ret_error)
{
	const struct tap *tap = what;
	scope_fd int sock = open_socket();
	char driver[DRIVER_LEN];
	bool made;
	int r = sock < 0 ? sock : find(tap, sock, driver, ret_error);

	if (r < 0)
		return r;
	made = driver[0] == '\0';
	if (made)
		r = hold(tap, ret_error);
	if (r == 0)
		r = arrange(tap, sock, ret_error);
	if (r == 0)
		r = open_queues(tap, driver, ret_fds, ret_error);
	if (r < 0 && made)
		tap_release(tap->name);
	return r;
}
