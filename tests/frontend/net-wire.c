/* What is behind a network device. See net-wire.h. */
#include "tests/frontend/net-wire.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	SOCKET_LEN = 64 << 20,
	PACKET_HEADER_LEN = 10,
	/* A port's memory (devices/net/lane.h): words of 32 rings, then the rings that there are. */
	PORT_WORDS_AT = 64,
	PORT_RINGS_AT = 8192,
	PORT_RING_LEN = 1 << 20,
	PORT_LEN = PORT_RINGS_AT + 2 * NW_QUEUES * PORT_RING_LEN,
	RECORD_ALIGN = 16,
	HEADER_LEN = sizeof(struct nw_header),
};

struct nw_words {
	_Alignas(64) uint32_t tail;
	uint32_t writer_waits;
	_Alignas(64) uint32_t head;
	uint32_t reader_waits;
};

static const char tap_name[] = "fe0";

bool nw_isolate(void)
{
	int fd;
	bool good;

	if (unshare(CLONE_NEWNET) < 0 || access("/dev/net/tun", R_OK | W_OK) < 0)
		return false;
	/* The kernel's own frames (neighbours, groups) would be for the device, too. */
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	good = fd < 0 || write(fd, "1", 1) == 1;
	if (fd >= 0)
		close(fd);
	return good;
}

/* A port's rings, which the device is to use as lane.h says: positions count bytes, and a record never wraps. */

static struct nw_lane lane_of(const struct net_wire *w, unsigned queue, bool to_device)
{
	unsigned ring = queue * 2 + to_device;

	return (struct nw_lane){
		.words = (struct nw_words *)(void *)(w->map + PORT_WORDS_AT) + ring,
		.bytes = w->map + PORT_RINGS_AT + (size_t)ring * PORT_RING_LEN,
	};
}

static uint32_t record_len(uint32_t len)
{
	return (uint32_t)(sizeof(len) + len + RECORD_ALIGN - 1) & ~(uint32_t)(RECORD_ALIGN - 1);
}

/* True: the other one waits, and is to be woken. */
static bool take_wait(uint32_t *waits)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_exchange_n(waits, 0, __ATOMIC_RELAXED) != 0;
}

/* Where the next record goes; NULL: there is no room. */
static uint8_t *lane_put(struct nw_lane *l, uint32_t len)
{
	uint32_t left = PORT_RING_LEN - l->at % PORT_RING_LEN, step = record_len(len);
	uint32_t head = __atomic_load_n(&l->words->head, __ATOMIC_ACQUIRE);
	const uint32_t end = 0;

	if (l->at + step + (left < step ? left : 0) - head > PORT_RING_LEN)
		return NULL;
	if (left < step) {
		memcpy(l->bytes + l->at % PORT_RING_LEN, &end, sizeof(end));
		l->at += left;
	}
	memcpy(l->bytes + l->at % PORT_RING_LEN, &len, sizeof(len));
	l->at += step;
	return l->bytes + (l->at - step) % PORT_RING_LEN + sizeof(len);
}

/* The next record, NULL: there is none. It is given back by the next call. */
static const uint8_t *lane_get(struct nw_lane *l, uint32_t *ret_len, bool *ret_wake)
{
	uint32_t tail = __atomic_load_n(&l->words->tail, __ATOMIC_ACQUIRE), len = 0;

	__atomic_store_n(&l->words->head, l->at, __ATOMIC_RELEASE);
	*ret_wake = take_wait(&l->words->writer_waits);
	if (tail == l->at)
		return NULL;
	memcpy(&len, l->bytes + l->at % PORT_RING_LEN, sizeof(len));
	if (len == 0) {
		l->at += PORT_RING_LEN - l->at % PORT_RING_LEN;
		memcpy(&len, l->bytes, sizeof(len));
	}
	if (len < HEADER_LEN || len > HEADER_LEN + NW_MAX_FRAME || tail - l->at < record_len(len))
		errx(1, "the device has written a record of %u bytes", len);
	*ret_len = len;
	l->at += record_len(len);
	return l->bytes + (l->at - record_len(len)) % PORT_RING_LEN + sizeof(len);
}

static void wake(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		err(1, "eventfd");
}

static void prepare_port(struct net_wire *w)
{
	size_t size = sizeof(w->text[0]);
	int n;

	w->memory = memfd_create("port", 0);
	if (w->memory < 0 || ftruncate(w->memory, PORT_LEN) < 0)
		err(1, "a port's memory");
	w->map = mmap(NULL, PORT_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, w->memory, 0);
	if (w->map == MAP_FAILED)
		err(1, "a port's memory");
	w->kick = eventfd(0, EFD_NONBLOCK);
	n = snprintf(w->text[0], size, "--port=%d,%d", w->memory, w->kick);
	for (unsigned q = 0; q < NW_QUEUES; q++) {
		w->queue[q] = eventfd(0, EFD_NONBLOCK);
		n += snprintf(w->text[0] + n, size - (size_t)n, ",%d", w->queue[q]);
		w->to_device[q] = lane_of(w, q, true);
		w->to_switch[q] = lane_of(w, q, false);
	}
}

void nw_prepare(struct net_wire *w, bool port)
{
	*w = (struct net_wire){ .port = port, .in = -1, .out = -1, .memory = -1, .kick = -1 };
	if (port)
		prepare_port(w);
	else
		snprintf(w->text[0], sizeof(w->text[0]), "--tap=%s", tap_name);
	w->args[0] = port ? "--side=switch" : "--side=tap";
	w->args[1] = w->text[0];
}

static int raise_interface(unsigned mtu)
{
	struct ifreq ifr = { .ifr_mtu = (int)mtu };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	strcpy(ifr.ifr_name, tap_name);
	r = ioctl(s, SIOCSIFMTU, &ifr);
	if (r == 0)
		r = ioctl(s, SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags |= IFF_UP;
	if (r == 0)
		r = ioctl(s, SIOCSIFFLAGS, &ifr);
	r = r < 0 ? -errno : 0;
	close(s);
	return r;
}

static int packet_socket(uint16_t protocol)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(protocol),
				  .sll_ifindex = (int)if_nametoindex(tap_name) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), len = SOCKET_LEN;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &len, sizeof(len)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &len, sizeof(len)) < 0 ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		return -1;
	return fd;
}

int nw_open_tap(struct net_wire *w, unsigned mtu)
{
	int on = 1, r = raise_interface(mtu);

	if (r < 0)
		return r;
	w->in = packet_socket(0);
	w->out = packet_socket(ETH_P_ALL);
	if (w->in < 0 || w->out < 0 ||
	    setsockopt(w->in, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
	    setsockopt(w->out, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0)
		return -errno;
	return 0;
}

void nw_close(struct net_wire *w)
{
	int fds[] = { w->in, w->out, w->memory, w->kick, w->queue[0], w->queue[1] };

	for (unsigned i = 0; i < (w->port ? 6 : 2); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (w->port)
		munmap(w->map, PORT_LEN);
}

static bool send_port(struct net_wire *w, unsigned queue, const struct nw_header *h,
		      const uint8_t *frame, uint32_t len)
{
	struct nw_lane *l = &w->to_device[queue];
	uint8_t *record = lane_put(l, HEADER_LEN + len);

	if (!record)
		return false;
	memcpy(record, h, HEADER_LEN);
	memcpy(record + HEADER_LEN, frame, len);
	__atomic_store_n(&l->words->tail, l->at, __ATOMIC_RELEASE);
	if (take_wait(&l->words->reader_waits))
		wake(w->queue[queue]);
	return true;
}

bool nw_send(struct net_wire *w, unsigned queue, const struct nw_header *h, const uint8_t *frame,
	     uint32_t len)
{
	struct nw_header copy = *h;
	struct iovec iov[] = { { &copy, PACKET_HEADER_LEN }, { (void *)(uintptr_t)frame, len } };

	if (w->port)
		return send_port(w, queue, h, frame, len);
	return writev(w->in, iov, 2) == (ssize_t)(PACKET_HEADER_LEN + len);
}

static uint32_t receive_port(struct net_wire *w, struct nw_header *ret_h, uint8_t *frame)
{
	for (unsigned q = 0; q < NW_QUEUES; q++) {
		uint32_t len;
		bool waits;
		const uint8_t *record = lane_get(&w->to_switch[q], &len, &waits);

		if (waits)
			wake(w->queue[q]);
		if (!record)
			continue;
		memcpy(ret_h, record, HEADER_LEN);
		memcpy(frame, record + HEADER_LEN, len - HEADER_LEN);
		return len - HEADER_LEN;
	}
	return 0;
}

uint32_t nw_receive(struct net_wire *w, struct nw_header *ret_h, uint8_t *frame)
{
	struct sockaddr_ll from;
	struct iovec iov[] = { { ret_h, PACKET_HEADER_LEN }, { frame, NW_MAX_FRAME } };
	struct msghdr m = { .msg_name = &from, .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (w->port)
		return receive_port(w, ret_h, frame);
	*ret_h = (struct nw_header){ 0 };
	do {
		m.msg_namelen = sizeof(from);
		n = recvmsg(w->out, &m, 0);
	} while (n >= 0 && from.sll_pkttype == PACKET_OUTGOING);
	return n < PACKET_HEADER_LEN ? 0 : (uint32_t)n - PACKET_HEADER_LEN;
}

void nw_resume(struct net_wire *w)
{
	static uint8_t frame[NW_MAX_FRAME];
	struct nw_header h;

	for (unsigned q = 0; q < NW_QUEUES && w->port; q++) {
		w->to_device[q].at = w->to_device[q].words->tail;
		w->to_switch[q].at = w->to_switch[q].words->head;
	}
	while (nw_receive(w, &h, frame) > 0)
		;
}

uint16_t nw_sum(const uint8_t *p, uint32_t len, uint32_t v)
{
	for (uint32_t i = 0; i < len; i += 2)
		v += (uint32_t)(p[i] << 8) + (i + 1 < len ? p[i + 1] : 0);
	while (v >> 16)
		v = (v & 0xffff) + (v >> 16);
	return (uint16_t)v;
}

void nw_put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
