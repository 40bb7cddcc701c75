/*
 * net-probe: is anybody there, all the time?
 *
 *	net-probe ADDRESS [MICROSECONDS]
 *
 * An ICMP echo request each so many microseconds (1000), until standard input ends; then one line
 * on standard output for each: when it was sent, and when its answer came (0: never), in
 * nanoseconds of CLOCK_MONOTONIC. The other one's kernel answers, no program. We come before others
 * here, where we may (SCHED_FIFO).
 *
 * Runs in: the host's end of a test's network, as root. Trusts: its arguments.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAGIC UINT32_C(0x9d3f1c57)

enum {
	DEFAULT_US = 1000,
	MAX_PROBES = 1 << 21,
	EXIT_CANNOT = 2,
	PRIORITY = 20,
};

struct request {
	struct icmphdr icmp;
	uint32_t magic, number;
};

struct probe {
	uint64_t sent_ns, came_ns;
};

static struct probe probes[MAX_PROBES];
static uint32_t n_probes;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* RFC 1071, of an even number of bytes. */
static uint16_t checksum(const void *p, size_t len)
{
	uint32_t sum = 0;
	uint16_t word;

	for (size_t i = 0; i + 1 < len; i += 2) {
		memcpy(&word, (const uint8_t *)p + i, sizeof(word));
		sum += word;
	}
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~(sum + (sum >> 16));
}

static void ask(int fd, const struct sockaddr_in *whom)
{
	struct request r = { .icmp.type = ICMP_ECHO, .magic = MAGIC, .number = n_probes };

	if (n_probes == MAX_PROBES)
		return;
	r.icmp.checksum = checksum(&r, sizeof(r));
	probes[n_probes++].sent_ns = now_ns();
	/* What the network does not take is lost, as elsewhere. */
	(void)sendto(fd, &r, sizeof(r), 0, (const struct sockaddr *)whom, sizeof(*whom));
}

/* Answers that are there. A raw socket gives the IP header, too; a repeated answer is none. */
static void take(int fd)
{
	uint8_t packet[128];
	ssize_t n;

	while ((n = recv(fd, packet, sizeof(packet), MSG_DONTWAIT)) > 0) {
		size_t head = (packet[0] & 15u) * 4;
		struct request r;

		if ((size_t)n < head + sizeof(r))
			continue;
		memcpy(&r, packet + head, sizeof(r));
		if (r.icmp.type == ICMP_ECHOREPLY && r.magic == MAGIC && r.number < n_probes &&
		    probes[r.number].came_ns == 0)
			probes[r.number].came_ns = now_ns();
	}
}

static void go_on(int fd, const struct sockaddr_in *whom, uint64_t each_ns)
{
	struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = 0, .events = POLLIN } };
	uint64_t next_ns = now_ns();
	char ignored[64];

	for (;;) {
		uint64_t now = now_ns(), left = next_ns > now ? next_ns - now : 0;
		const struct timespec wait = { .tv_sec = (time_t)(left / 1000000000),
					       .tv_nsec = (long)(left % 1000000000) };

		if (left == 0) {
			ask(fd, whom);
			next_ns = now + each_ns;
			continue;
		}
		if (ppoll(fds, 2, &wait, NULL) < 0 && errno != EINTR)
			err(EXIT_CANNOT, "poll");
		if (fds[0].revents)
			take(fd);
		if (fds[1].revents && read(0, ignored, sizeof(ignored)) <= 0)
			return;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in whom = { .sin_family = AF_INET };
	struct sched_param first = { .sched_priority = PRIORITY };
	uint64_t us = argc == 3 ? strtoull(argv[2], NULL, 10) : DEFAULT_US;
	int fd;

	if (argc < 2 || argc > 3 || us == 0 || inet_pton(AF_INET, argv[1], &whom.sin_addr) != 1) {
		fputs("net-probe: give ADDRESS [MICROSECONDS]\n", stderr);
		return EXIT_CANNOT;
	}
	fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	if (fd < 0)
		err(EXIT_CANNOT, "a raw socket");
	(void)sched_setscheduler(0, SCHED_FIFO, &first);
	go_on(fd, &whom, us * 1000);
	(void)sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ 0 });
	for (uint32_t i = 0; i < n_probes; i++)
		printf("%llu %llu\n", (unsigned long long)probes[i].sent_ns,
		       (unsigned long long)probes[i].came_ns);
	return 0;
}
