/*
 * The host's end of a tap: a packet socket that puts frames in, and the interface's counters. See net.h.
 *
 * Runs in: frontend-bench-net. Trusts: the kernel.
 */
#include "tests/bench/net.h"

#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HOST_HEADER_LEN = 10 /* struct virtio_net_hdr: a packet socket's */, AWAIT_MS = 50 };

void net_host_begin(struct net_host *h, const char *interface, uint32_t len)
{
	struct sockaddr_ll at = { .sll_family =
					  AF_PACKET }; /* of no protocol: it receives nothing */
	int yes = 1, room = 256 << 20;
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/rx_packets", interface);
	h->counter = open(path, O_RDONLY | O_CLOEXEC);
	h->socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	at.sll_ifindex = h->index = (int)if_nametoindex(interface);
	if (h->counter < 0 || h->socket < 0 || at.sll_ifindex == 0)
		err(1, "%s", interface);
	setsockopt(h->socket, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	if (setsockopt(h->socket, SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof(yes)) < 0 ||
	    setsockopt(h->socket, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof(yes)) < 0 ||
	    setsockopt(h->socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)) < 0)
		err(1, "packet socket");
	if (bind(h->socket, (struct sockaddr *)&at, sizeof(at)) < 0)
		err(1, "packet socket");
	h->len = len;
	h->frame = malloc(NET_HEADER_LEN + len);
	net_make_frame(h->frame, len);
	/* Without the number of buffers, which a packet socket's header has not. */
	memmove(h->frame + NET_HEADER_LEN - HOST_HEADER_LEN, h->frame, HOST_HEADER_LEN);
	h->frame += NET_HEADER_LEN - HOST_HEADER_LEN;
}

uint32_t net_host_send(struct net_host *h, uint32_t n)
{
	struct iovec iov = { h->frame, HOST_HEADER_LEN + h->len };
	struct mmsghdr messages[NET_BATCH];
	int r;

	for (uint32_t i = 0; i < n; i++)
		messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
	r = sendmmsg(h->socket, messages, n, MSG_DONTWAIT);
	return r < 0 ? 0 : (uint32_t)r;
}

void net_host_listen(struct net_host *h)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_IP),
				  .sll_ifindex = h->index };

	if (bind(h->socket, (struct sockaddr *)&at, sizeof(at)) < 0)
		err(1, "packet socket");
}

bool net_host_await(struct net_host *h)
{
	struct pollfd p = { .fd = h->socket, .events = POLLIN };
	uint8_t bytes[2048];

	return poll(&p, 1, AWAIT_MS) == 1 && recv(h->socket, bytes, sizeof(bytes), 0) >= 0;
}

uint64_t net_host_arrived(const struct net_host *h)
{
	char text[32] = "";

	if (pread(h->counter, text, sizeof(text) - 1, 0) < 0)
		err(1, "interface counter");
	return strtoull(text, NULL, 10);
}
