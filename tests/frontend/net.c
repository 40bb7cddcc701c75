/*
 * frontend-net: a network device on a tap, driven by hand: what arrives, what must not, and how fast.
 *
 *	frontend-net --program=vmdev-net [--rate]
 *
 * In a network namespace of its own, as root. A packet socket on the host's end of the tap sees every frame that the
 * device has passed on, and puts frames in. TAP on standard output; with --rate the rates of frames of 64 bytes
 * to the tap, beside those of bare writes to one.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/frontend/backend.h"
#include "tests/frontend/session.h"

enum { RX, TX, HDR = 12, BUFFER = 2048, N_BUFFERS = 64, RATE_FRAMES = 400000 };

struct header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

static struct fe fe;
static int packets, failed, number;
static pid_t keeper;
static char directory[] = "/tmp/vmdev-fe-net-XXXXXX", path[64];
static uint8_t *out_buf, *in_buf[N_BUFFERS];

static void claim(const char *what, bool good)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++number, what);
	failed += !good;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Of a process, all its threads; 0 is ourselves. */
static double cpu_of(pid_t pid)
{
	clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
	struct timespec ts;

	if (pid && clock_getcpuclockid(pid, &clock) != 0)
		return 0;
	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void print_rate(const char *what, double seconds, double cpu)
{
	printf("# %s: %.0f frames of 64 bytes a second, %.2f us of a processor each\n", what,
	       RATE_FRAMES / seconds, cpu * 1e6 / RATE_FRAMES);
}

/* Or the kernel sends frames of its own, which take the buffers that a test counts on. */
static void without_ipv6(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, "1", 1) < 0)
		warn("disable_ipv6");
	if (fd >= 0)
		close(fd);
}

static void start_program(const char *program)
{
	snprintf(path, sizeof(path), "%s/sock", mkdtemp(directory));
	keeper = fork();
	if (keeper == 0) {
		char socket[96];

		snprintf(socket, sizeof(socket), "--socket-path=%s", path);
		execl(program, program, socket, "--side=tap", "--tap=fe0", "--mtu=9000",
		      "--restart-limit=1000", NULL);
		_exit(127);
	}
	for (int i = 0; i < 200 && access(path, F_OK) < 0; i++)
		usleep(20000);
}

static void set_up(void)
{
	struct ifreq ifr = { .ifr_mtu = 9000 };
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	strcpy(ifr.ifr_name, "fe0");
	if (ioctl(s, SIOCSIFMTU, &ifr) < 0)
		err(2, "MTU");
	ioctl(s, SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags |= IFF_UP;
	if (ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		err(2, "up");
	close(s);
	packets = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
	at.sll_ifindex = (int)if_nametoindex("fe0");
	if (bind(packets, (struct sockaddr *)&at, sizeof(at)) < 0)
		err(2, "packet socket");
}

static void offer_buffers(void)
{
	for (unsigned i = 0; i < N_BUFFERS; i++) {
		struct fe_sg sg = { in_buf[i], BUFFER };

		if (fe_queue_add(&fe.queues[RX], &sg, 0, 1, in_buf[i]) < 0)
			break;
	}
	fe_queue_publish(&fe.queues[RX]);
	fe_queue_kick_always(&fe.queues[RX]);
}

static void connect_device(void)
{
	const struct fe_spec spec = { .n_queues = 2, .queue_size = 256 };
	int r = fe_begin(&fe, path, &spec);

	if (r < 0)
		errx(2, "the session does not come up: %s", strerror(-r));
	out_buf = fe_memory_alloc(&fe.mem, 80000, 4096);
	for (unsigned i = 0; i < N_BUFFERS; i++)
		in_buf[i] = fe_memory_alloc(&fe.mem, BUFFER, 4096);
	offer_buffers();
}

static bool sent_back(void)
{
	struct fe_used used;

	for (int i = 0; i < 50; i++) {
		if (fe_queue_pop(&fe.queues[TX], &used))
			return true;
		fe_queue_wait(&fe.queues[TX], 100);
	}
	return false;
}

/* One frame in pieces of so many bytes; given back? */
static bool transmit(const struct header *h, uint32_t len, uint32_t piece)
{
	struct fe_sg sg[200];
	unsigned n = 0;

	memcpy(out_buf, h, HDR);
	for (uint32_t at = 0; at < HDR + len; at += piece, n++)
		sg[n] = (struct fe_sg){ out_buf + at,
					HDR + len - at < piece ? HDR + len - at : piece };
	if (fe_queue_add(&fe.queues[TX], sg, n, 0, out_buf) < 0)
		return false;
	fe_queue_publish(&fe.queues[TX]);
	fe_queue_kick_always(&fe.queues[TX]);
	return sent_back();
}

/* Frames of our protocol (the kernel sends some of its own) that the host has seen; bytes of the last one. */
static int seen(uint8_t *ret, size_t size, ssize_t *ret_len)
{
	uint8_t buf[70000];
	int n = 0;

	usleep(20000);
	for (;;) {
		struct sockaddr_ll from;
		socklen_t from_len = sizeof(from);
		ssize_t len =
			recvfrom(packets, buf, sizeof(buf), 0, (struct sockaddr *)&from, &from_len);

		if (len < 0)
			return n;
		if (from.sll_pkttype == PACKET_OUTGOING || len < 1 || buf[0] != 0x52)
			continue;
		n++;
		*ret_len = len;
		memcpy(ret, buf, (size_t)len < size ? (size_t)len : size);
	}
}

static void make_frame(uint32_t len)
{
	uint8_t *f = out_buf + HDR;

	for (uint32_t i = 0; i < len; i++)
		f[i] = (uint8_t)(i * 13 + 1);
	memcpy(f, "\x52\x54\0\0\0\1\x52\x54\0\0\0\2\x88\xb5", 14);
}

static void frames_arrive(void)
{
	static const struct header plain;
	uint8_t got[2000];
	ssize_t len = 0;

	make_frame(100);
	claim("a frame is given back", transmit(&plain, 100, 4096));
	claim("the host has it once, as it was", seen(got, sizeof(got), &len) == 1 && len == 100 &&
							 memcmp(got, out_buf + HDR, 100) == 0);
	claim("one in pieces of a byte is given back", transmit(&plain, 100, 1));
	claim("the host has it, too", seen(got, sizeof(got), &len) == 1 && len == 100 &&
					      memcmp(got, out_buf + HDR, 100) == 0);
}

static void nonsense_does_not(void)
{
	static const struct {
		const char *what;
		struct header h;
		uint32_t len;
	} rows[] = {
		{ "a runt", { 0 }, 13 },
		{ "a checksum behind the frame",
		  { .flags = 1, .csum_start = 90, .csum_offset = 16 },
		  100 },
		{ "a checksum far behind",
		  { .flags = 1, .csum_start = 65535, .csum_offset = 65535 },
		  100 },
		{ "segments of a frame that is none",
		  { .flags = 1,
		    .gso_type = 1,
		    .gso_size = 100,
		    .csum_start = 34,
		    .csum_offset = 16 },
		  1000 },
		{ "segments of no size",
		  { .flags = 1, .gso_type = 1, .csum_start = 34, .csum_offset = 16 },
		  1000 },
		{ "segments without a checksum", { .gso_type = 1, .gso_size = 100 }, 1000 },
		{ "an unknown type of segments",
		  { .flags = 1, .gso_type = 77, .gso_size = 9 },
		  1000 },
		{ "headers longer than the frame",
		  { .flags = 1,
		    .gso_type = 1,
		    .hdr_len = 2000,
		    .gso_size = 100,
		    .csum_start = 34,
		    .csum_offset = 16 },
		  1000 },
		{ "64 KiB and more", { 0 }, 70000 },
	};
	uint8_t got[64];
	ssize_t len;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char text[100];
		bool back;

		make_frame(rows[i].len);
		back = transmit(&rows[i].h, rows[i].len, 4096);
		snprintf(text, sizeof(text), "%s: given back, and not seen by the host",
			 rows[i].what);
		claim(text, back && seen(got, sizeof(got), &len) == 0);
	}
}

/* A frame from the host: its bytes behind the header, over as many buffers as it says. */
static bool received(const uint8_t *frame, uint32_t len)
{
	static uint8_t whole[16384];
	uint32_t at = 0, n = 0, want = 1;

	for (int i = 0; i < 40 && n < want; i++) {
		struct fe_used used;

		while (n < want && fe_queue_pop(&fe.queues[RX], &used)) {
			if (n == 0) {
				struct header h;

				memcpy(&h, used.user, HDR);
				want = h.num_buffers;
			}
			memcpy(whole + at, used.user, used.len);
			at += used.len;
			n++;
		}
		if (n < want)
			fe_queue_wait(&fe.queues[RX], 50);
	}
	offer_buffers();
	return at == HDR + len && memcmp(whole + HDR, frame, len) == 0;
}

/* Whatever the kernel has sent by itself is taken away first. */
static void take_all(void)
{
	struct fe_used used;

	usleep(50000);
	while (fe_queue_pop(&fe.queues[RX], &used))
		;
	offer_buffers();
}

static void frames_come(void)
{
	static uint8_t frame[9014];

	for (unsigned i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 11 + 5);
	memcpy(frame, "\x52\x54\0\0\0\1\x02\0\0\0\0\2\x88\xb5", 14);
	take_all();
	claim("a frame of the host's comes",
	      send(packets, frame, 60, 0) == 60 && received(frame, 60));
	claim("one of 9,000 bytes comes, over several buffers",
	      send(packets, frame, sizeof(frame), 0) == sizeof(frame) &&
		      received(frame, sizeof(frame)));
}

/* What is given back until no more comes: bytes, the kernel's own frames among them. */
static uint32_t drain(void)
{
	struct fe_used used;
	uint32_t len = 0;

	for (int i = 0; i < 4; i++) {
		for (; fe_queue_pop(&fe.queues[RX], &used); i = 0)
			len += used.len;
		fe_queue_wait(&fe.queues[RX], 50);
	}
	return len;
}

/* With some buffers, and too few of them, there is nothing to do for the worker. */
static void a_long_frame_waits_asleep(void)
{
	static uint8_t frame[9014] = "\x52\x54\0\0\0\1\x02\0\0\0\0\2\x88\xb5";
	pid_t worker = backend_worker(keeper);
	unsigned n;
	double cpu;

	take_all();
	n = fe_queue_outstanding(&fe.queues[RX]) - 2;
	for (unsigned i = 0; i < n; i++)
		if (send(packets, frame, 60, 0) != 60)
			break;
	drain();
	claim("short frames use up all buffers but two", fe_queue_outstanding(&fe.queues[RX]) <= 2);
	claim("a long one is sent", send(packets, frame, sizeof(frame), 0) == sizeof(frame));
	usleep(50000);
	cpu = cpu_of(worker);
	usleep(300000);
	claim("for which the driver has too few: it waits", drain() == 0);
	claim("asleep", cpu_of(worker) - cpu < 0.1);
	offer_buffers();
	claim("and comes with the next buffers", drain() >= HDR + sizeof(frame));
	take_all();
}

static void a_death_changes_nothing(void)
{
	pid_t worker = backend_worker(keeper);

	kill(worker, SIGKILL);
	claim("another worker comes", backend_worker_await(keeper, worker, 5000) > 0);
	frames_arrive();
	frames_come();
}

static void rate_of_device(void)
{
	static const struct header plain;
	struct fe_queue *q = &fe.queues[TX];
	struct fe_used used;
	pid_t worker = backend_worker(keeper);
	unsigned added = 0, done = 0;
	double begin, cpu = cpu_of(worker);

	make_frame(64);
	memcpy(out_buf, &plain, HDR);
	begin = now();
	while (done < RATE_FRAMES) {
		struct fe_sg sg = { out_buf, HDR + 64 };

		while (added < RATE_FRAMES && fe_queue_add(q, &sg, 1, 0, out_buf) >= 0)
			added++;
		fe_queue_kick(q);
		while (fe_queue_pop(q, &used))
			done++;
	}
	print_rate("device", now() - begin, cpu_of(worker) - cpu);
}

static void rate_of_writes(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR), len = HDR, s = socket(AF_INET, SOCK_DGRAM, 0);
	double begin, cpu;

	strcpy(ifr.ifr_name, "fe1");
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &len) < 0)
		err(2, "tap");
	ioctl(s, SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags |= IFF_UP;
	ioctl(s, SIOCSIFFLAGS, &ifr);
	begin = now();
	cpu = cpu_of(0);
	for (int i = 0; i < RATE_FRAMES; i++)
		if (write(fd, out_buf, HDR + 64) < 0)
			err(2, "write");
	print_rate("bare writes", now() - begin, cpu_of(0) - cpu);
	close(fd);
	close(s);
}

#define F_MQ (UINT64_C(1) << 22) /* VIRTIO 1.3 §5.1.3 */

enum { CONFIG_MTU_AT = 10 }; /* VIRTIO 1.3 §5.1.4: behind mac, status and max_pairs */

static uint16_t told_mtu(void)
{
	uint16_t mtu = 0;

	return fe_get_config(&fe, CONFIG_MTU_AT, sizeof(mtu), &mtu) == 0 ? mtu : 0;
}

static void the_front_end_says_the_mtu(void)
{
	pid_t worker = backend_worker(keeper);

	claim("the guest is told the device's MTU", told_mtu() == 9000);
	claim("the front-end may have it told a smaller one",
	      fe_do_u64(&fe, FE_NET_SET_MTU, 1400, -1) == 0 && told_mtu() == 1400);
	claim("but none that cannot be",
	      fe_do_u64(&fe, FE_NET_SET_MTU, 67, -1) != 0 &&
		      fe_do_u64(&fe, FE_NET_SET_MTU, 9001, -1) != 0 &&
		      fe_do_u64(&fe, FE_NET_SET_MTU, 65536 + 1400, -1) != 0 && told_mtu() == 1400);
	kill(worker, SIGKILL);
	claim("it outlives the worker",
	      backend_worker_await(keeper, worker, 5000) > 0 && told_mtu() == 1400);
	claim("and can be taken back",
	      fe_do_u64(&fe, FE_NET_SET_MTU, 9000, -1) == 0 && told_mtu() == 9000);
}

/* As after a migration: bridges are to learn where the guest is (RFC 903, a reverse ARP request). */
static void the_network_is_told_where_the_guest_is(void)
{
	static const uint8_t mac[8] = { 0x52, 0x54, 0, 0xaa, 0xbb, 0xcc };
	uint8_t got[100];
	ssize_t len = 0;
	uint64_t v;
	bool asked;

	take_all();
	while (recv(packets, got, sizeof(got), 0) >= 0)
		;
	memcpy(&v, mac, sizeof(v));
	asked = fe_do_u64(&fe, FE_SEND_RARP, v, -1) == 0;
	usleep(20000);
	while (asked && (len = recv(packets, got, sizeof(got), 0)) >= 0)
		if (len == 60 && memcmp(got + 6, mac, 6) == 0)
			break;
	claim("SEND_RARP makes a reverse ARP request of the guest's",
	      len == 60 && got[0] == 0xff &&
		      memcmp(got + 12, "\x80\x35\0\1\x08\0\6\4\0\3", 10) == 0 &&
		      memcmp(got + 22, mac, 6) == 0 && memcmp(got + 32, mac, 6) == 0);
}

/*
 * Two pairs and the control queue, and a driver that has not agreed on MQ: the control queue is ring 2, and the last ring is for
 * nothing. A worker that serves it all the same dies of that each time, until the keeper has had enough.
 */
static void a_ring_without_a_role_is_not_served(const char *program)
{
	const struct fe_spec spec = { .n_queues = 5, .queue_size = 64, .features_not = F_MQ };
	char socket[128], at[96];
	struct fe other = { 0 };
	struct fe_sg sg;
	pid_t pid;
	int r;

	snprintf(at, sizeof(at), "%s/roles", directory);
	snprintf(socket, sizeof(socket), "--socket-path=%s", at);
	pid = fork();
	if (pid == 0) {
		execl(program, program, socket, "--side=null", "--queues=2", "--restart-limit=1",
		      "--restart-backoff=0", NULL);
		_exit(127);
	}
	for (int i = 0; i < 200 && access(at, F_OK) < 0; i++)
		usleep(20000);
	r = fe_begin(&other, at, &spec);
	if (r == 0) {
		sg = (struct fe_sg){ fe_memory_alloc(&other.mem, 4096, 4096), 4096 };
		fe_queue_add(&other.queues[4], &sg, 0, 1, NULL);
		fe_queue_publish(&other.queues[4]);
		fe_queue_kick_always(&other.queues[4]);
	}
	claim("a ring without a role is not served, and harms nobody",
	      r == 0 && fe_await_gone(&other, 500) != 0 && waitpid(pid, NULL, WNOHANG) == 0);
	fe_close(&other);
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	unlink(at);
}

/*
 * QEMU up to 9 has a vhost device of its own for each pair of queues, and each tells of all memory: one region after the other, when
 * it comes and when it goes.
 */
static void regions_may_be_told_for_each_pair(const char *program)
{
	const struct fe_spec spec = {
		.n_queues = 4, .queue_size = 64, .slots = true, .memory = { .n_regions = 12 }
	};
	const struct backend_spec backend = {
		.program = program,
		.net = true,
		.n_queues = 2,
		.args = (const char *const[]){ "--side=null", NULL },
	};
	struct fe_region like = { .guest.v = UINT64_C(1) << 40,
				  .user.v = UINT64_C(1) << 41,
				  .len = 1 << 20 };
	struct fe other = { .fd = -1 };
	struct backend b;
	int i, r = backend_start(&b, &backend);

	if (r == 0)
		r = fe_begin(&other, b.socket, &spec);
	for (unsigned n = 0; r == 0 && n < other.mem.n_regions; n++)
		r = fe_slot_add(&other, &other.mem.regions[n]);
	claim("twelve regions of memory, each told for both pairs", r == 0);
	i = r == 0 ? fe_memory_add(&other.mem, &like, false) : -1;
	for (unsigned n = 0; i >= 0 && r == 0 && n < 2; n++)
		r = fe_slot_add(&other, &other.mem.regions[i]);
	for (unsigned n = 0; i >= 0 && r == 0 && n < 2; n++)
		r = fe_slot_remove(&other, &other.mem.regions[i]);
	claim("one more comes and goes, likewise", i >= 0 && r == 0 && !fe_gone(&other));
	other.mem.regions[0].user.v += 4096;
	claim("but no other one in the place of one that is there",
	      fe_slot_add(&other, &other.mem.regions[0]) != 0);
	fe_close(&other);
	backend_done(&b);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "program", required_argument, NULL, 'p' },
						 { "rate", no_argument, NULL, 'r' },
						 { 0 } };
	const char *program = NULL;
	bool rate = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'p')
			program = optarg;
		rate = rate || c == 'r';
	}
	if (!program)
		errx(2, "usage: frontend-net --program=PATH [--rate]");
	if (unshare(CLONE_NEWNET) < 0 || access("/dev/net/tun", R_OK | W_OK) < 0) {
		puts("1..0 # SKIP no network namespace, or no /dev/net/tun");
		return 0;
	}
	setlinebuf(stdout);
	without_ipv6();
	start_program(program);
	set_up();
	connect_device();
	frames_arrive();
	nonsense_does_not();
	frames_come();
	a_long_frame_waits_asleep();
	for (int i = 0; i < 3; i++)
		a_death_changes_nothing();
	the_front_end_says_the_mtu();
	the_network_is_told_where_the_guest_is();
	a_ring_without_a_role_is_not_served(program);
	regions_may_be_told_for_each_pair(program);
	close(packets);
	for (int i = 0; rate && i < 3; i++) {
		rate_of_device();
		rate_of_writes();
	}
	printf("1..%d\n", number);
	fe_close(&fe);
	kill(keeper, SIGTERM);
	waitpid(keeper, NULL, 0);
	unlink(path);
	rmdir(directory);
	return failed ? 1 : 0;
}
