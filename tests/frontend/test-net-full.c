/*
 * frontend-net-full: a tap that has no room: what it has taken waits in a queue of the host's.
 *
 *	frontend-net-full --program=vmdev-net [NAME…]
 *
 * The tap may have so many bytes on their way (TUNSETSNDBUF), and is bridged to a slow interface. As root, with ip(8) and tc(8).
 */
#include "tests/frontend/claim.h"
#include "tests/frontend/net-wire.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	TX = 1,
	HDR = sizeof(struct nw_header),
	ETH = 14,
	QUEUE_SIZE = 256,
	N_FRAMES = 200, /* take half a second */
	FRAME_LEN = 1000,
	ROOM = 20000, /* bytes, with what the kernel adds */
	AWAIT_MS = 5000,
	TAP_FD = 16, /* devices/process/contract.h */
};

static struct net_wire wire;
static int far_end = -1;

/* A bridge's port forwards some time after its interface is up. */
#define SURROUNDINGS                                                                               \
	"ip link add br0 type bridge && ip link add slow0 type veth peer name slow1 && "           \
	"ip link set %s master br0 && ip link set slow0 master br0 && "                            \
	"for i in br0 slow0 slow1; do ip link set $i up; done && "                                 \
	"tc qdisc add dev slow0 root tbf rate 3mbit burst 2000 limit 1000000 && "                  \
	"for n in $(seq 100); do sleep 0.05; "                                                     \
	"[ $(bridge link show | grep -c 'state forwarding') = 2 ] && exit; done; exit 1"

static bool surround(const char *tap)
{
	char command[512];

	snprintf(command, sizeof(command),
		 "exec 2>/dev/null; ip link del br0; ip link del slow0; " SURROUNDINGS, tap);
	return system(command) == 0;
}

static void listen_far(void)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex("slow1") };

	far_end = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	expect(far_end >= 0 && bind(far_end, (struct sockaddr *)&at, sizeof(at)) == 0, "no socket");
}

/* What a tap may have on its way is set by whoever has a descriptor of it. */
static void narrow(pid_t pid)
{
	int process = (int)syscall(SYS_pidfd_open, pid, 0), room = ROOM;
	int tap = (int)syscall(SYS_pidfd_getfd, process, TAP_FD, 0);

	expect(tap >= 0 && ioctl(tap, TUNSETSNDBUF, &room) == 0, "the tap is out of reach");
	close(tap);
	close(process);
}

static void begin(struct claim_context *x)
{
	const struct fe_spec spec = { .n_queues = 2, .queue_size = QUEUE_SIZE };

	expect_ok(nw_open_tap(&wire, 1500));
	if (!surround(wire.args[1] + strlen("--tap=")))
		claim_skip("no bridge, veth or tbf, or no ip and tc");
	listen_far();
	narrow(x->backend.pid);
	expect_ok(fe_begin(&x->fe, x->backend.socket, &spec));
}

static void send_all(struct fe_queue *q, uint8_t *bytes)
{
	static const uint8_t addresses[ETH] = "\2\0\0\0\0\2\2\0\0\0\0\1\x88\xb5";

	for (uint32_t i = 0; i < N_FRAMES; i++, bytes += HDR + FRAME_LEN) {
		const struct fe_sg sg = { bytes, HDR + FRAME_LEN };

		memset(bytes, 0, HDR + FRAME_LEN);
		memcpy(bytes + HDR, addresses, ETH);
		memcpy(bytes + HDR + ETH, &i, sizeof(i));
		expect(fe_queue_add(q, &sg, 1, 0, bytes) >= 0, "a bug of the test");
	}
	fe_queue_kick(q);
}

/* The number of a frame of ours that has come through. */
static bool next_far(uint32_t *ret_number)
{
	uint8_t frame[2048];

	while (recv(far_end, frame, sizeof(frame), 0) > 0)
		if (memcmp(frame + 12, "\x88\xb5", 2) == 0) {
			memcpy(ret_number, frame + ETH, sizeof(*ret_number));
			return true;
		}
	return false;
}

static void what_a_full_tap_does_not_take_waits(struct claim_context *x)
{
	struct fe_queue *q = &x->fe.queues[TX];
	struct fe_used used;
	uint32_t n_back = 0, n_overtaken = 0, next = 0, number;
	bool come[N_FRAMES] = { false };

	begin(x);
	send_all(q, fe_memory_alloc(&x->fe.mem, (HDR + FRAME_LEN) * N_FRAMES, 64));
	for (uint32_t i = 0; i < N_FRAMES; i++) {
		for (int ms = 0; !next_far(&number); ms++) {
			expect(ms < AWAIT_MS, "after %u frames no more come, %u were given back", i,
			       n_back);
			usleep(1000);
		}
		expect(number < N_FRAMES && !come[number], "frame %u twice", number);
		come[number] = true;
		n_overtaken += number < next;
		next = number + 1;
		while (fe_queue_pop(q, &used))
			n_back++;
		/* They have not all been dropped, nor taken at once. */
		expect(n_back < i + 2 * ROOM / FRAME_LEN, "%u of %u frames were taken", n_back, i);
	}
	/* A batch by one call goes on when a frame found no room; the next frames go one by one. */
	expect(n_overtaken <= 1, "%u frames were overtaken", n_overtaken);
}

int main(int argc, char **argv)
{
	static const char *args[NW_ARGS + 1], *plain_args[NW_ARGS + 2];
	static const struct backend_spec tap = { .net = true,
						 .queue_size = QUEUE_SIZE,
						 .args = args },
					 plain = { .net = true,
						   .queue_size = QUEUE_SIZE,
						   .args = plain_args };
	static const struct claim claims[] = {
		{ "what_a_full_tap_does_not_take_waits", what_a_full_tap_does_not_take_waits,
		  &tap },
		{ "what_a_full_tap_does_not_take_waits_without_io_uring",
		  what_a_full_tap_does_not_take_waits, &plain },
	};

	if (!nw_isolate()) {
		puts("1..0 # SKIP no network namespace, or no /dev/net/tun");
		return 0;
	}
	nw_prepare(&wire, false);
	memcpy(args, wire.args, sizeof(wire.args));
	memcpy(plain_args, wire.args, sizeof(wire.args));
	plain_args[2] = "--no-io-uring";
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
