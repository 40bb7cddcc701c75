/*
 * guest-traffic: what a test guest does with its network.
 *
 *	guest-traffic --serve=PORT				an echo, TCP and UDP; runs until it is killed
 *	guest-traffic --connect=ADDRESS:PORT [--streams=N] [--short=N] [--pause=MS] [--iperf=RATE] [--seconds=N] [--seed=N]
 *
 * --streams connections go on for as long as it runs; --short threads make one short connection
 * after the other (64 KiB), with pauses between its four pieces; all send bytes that follow from
 * seed, connection and place, and want the same back. One more thread sends a datagram every
 * millisecond and counts the echoes. --iperf: an iperf3 at the server's, both ways, that has to go
 * on to the end.
 *
 * Runs in: the test guest, static; or on either end of a test's network. Trusts: its arguments.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/guest/report.h"

enum {
	CHUNK_LEN = 16384,
	SHORT_CHUNKS = 4,
	TIMEOUT_S = 20, /* without a byte for so long, a connection is broken */
	MAX_REST_US = 200000,
	PULSE_US = 1000,
	MAX_PULSES = 1 << 22,
	PRIORITY = 20, /* SCHED_FIFO */
	EXIT_CANNOT = 2,
};

static struct report report;
static struct sockaddr_in server;
static uint64_t seed, pause_ms;
static atomic_uint_fast64_t n_mismatches, n_connections, n_broken, n_next;
static uint64_t n_pulses, n_pulses_lost, n_pulses_repeated;
static uint8_t pulse_seen[MAX_PULSES / 8];

static void fill(uint8_t *p, uint64_t stream, uint64_t chunk)
{
	uint64_t x = seed ^ stream * 0x9e3779b97f4a7c15u ^ chunk * 0xc2b2ae3d27d4eb4fu;

	for (unsigned i = 0; i < CHUNK_LEN; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(p + i, &x, 8);
	}
}

static int send_all(int fd, const uint8_t *p, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int receive_all(int fd, uint8_t *p, size_t len)
{
	while (len > 0) {
		ssize_t n = recv(fd, p, len, 0);

		if (n <= 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The server */

static void *echo(void *arg)
{
	int fd = (int)(intptr_t)arg;
	uint8_t *buf = malloc(CHUNK_LEN * 4);
	ssize_t n;

	while (buf && (n = recv(fd, buf, CHUNK_LEN * 4, 0)) > 0)
		if (send_all(fd, buf, (size_t)n) < 0)
			break;
	free(buf);
	close(fd);
	return NULL;
}

static void *echo_pulses(void *arg)
{
	int fd = (int)(intptr_t)arg;

	for (;;) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		uint64_t pulse;

		if (recvfrom(fd, &pulse, sizeof(pulse), 0, (struct sockaddr *)&from, &len) ==
		    sizeof(pulse))
			(void)sendto(fd, &pulse, sizeof(pulse), 0, (struct sockaddr *)&from, len);
	}
	return NULL;
}

static int start(void *(*f)(void *), int fd)
{
	pthread_t t;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 128 << 10);
	return pthread_create(&t, &attr, f, (void *)(intptr_t)fd);
}

static int serve(uint16_t port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(tcp, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(tcp, 512) < 0 ||
	    bind(udp, (struct sockaddr *)&any, sizeof(any)) < 0 || start(echo_pulses, udp) != 0) {
		perror("guest-traffic");
		return EXIT_CANNOT;
	}
	for (;;) {
		int fd = accept4(tcp, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0 && start(echo, fd) != 0)
			close(fd);
	}
}

/* The client */

static int open_connection(void)
{
	struct timeval timeout = { .tv_sec = TIMEOUT_S };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fd, (struct sockaddr *)&server, sizeof(server)) < 0) {
		close(fd);
		return -1;
	}
	atomic_fetch_add(&n_connections, 1);
	return fd;
}

static void complain(const char *what)
{
	atomic_fetch_add(&n_broken, 1);
	atomic_fetch_add(&report.n_errors, 1);
	report_complain(&report, "%s: %s", what, strerror(errno));
}

/* One chunk there and back. False: the connection is broken. */
static bool exchange(int fd, uint64_t stream, uint64_t chunk, uint8_t *buf)
{
	uint64_t sent_ns = now_ns();
	uint8_t *sent = buf, *got = buf + CHUNK_LEN;

	fill(sent, stream, chunk);
	if (send_all(fd, sent, CHUNK_LEN) < 0 || receive_all(fd, got, CHUNK_LEN) < 0)
		return false;
	if (memcmp(sent, got, CHUNK_LEN) != 0) {
		atomic_fetch_add(&n_mismatches, 1);
		report_complain(&report, "stream %llu, chunk %llu came back changed",
				(unsigned long long)stream, (unsigned long long)chunk);
	}
	atomic_fetch_add(&report.n_writes, 1);
	report_done(&report, sent_ns);
	return true;
}

/* Up to twice as long as told on average, unless the end has come. */
static void rest(uint64_t number)
{
	uint64_t x = seed ^ number * 0x9e3779b97f4a7c15u;
	uint64_t end_ns = now_ns() + (x ^ x >> 29) % (2 * pause_ms * 1000000 + 1);

	while (!atomic_load(&report.stop)) {
		uint64_t now = now_ns(), left_us = now < end_ns ? (end_ns - now) / 1000 : 0;

		if (left_us == 0)
			return;
		usleep(left_us < MAX_REST_US ? (unsigned)left_us : MAX_REST_US);
	}
}

/* chunks: 0 until told to stop. */
static void converse(uint64_t chunks, uint8_t *buf)
{
	uint64_t stream = atomic_fetch_add(&n_next, 1);
	int fd = open_connection();

	if (fd < 0) {
		complain("no connection");
		return;
	}
	for (uint64_t i = 0; chunks == 0 ? !atomic_load(&report.stop) : i < chunks; i++) {
		if (chunks > 0)
			rest(stream + i);
		if (!exchange(fd, stream, i, buf)) {
			complain("a connection broke");
			break;
		}
	}
	close(fd);
}

static void *stream_thread(void *arg)
{
	uint8_t *buf = malloc(2 * CHUNK_LEN);

	converse(0, buf);
	free(buf);
	atomic_fetch_sub(&report.n_running, 1);
	return NULL;
}

static void *short_thread(void *arg)
{
	uint8_t *buf = malloc(2 * CHUNK_LEN);

	while (!atomic_load(&report.stop))
		converse(SHORT_CHUNKS, buf);
	free(buf);
	atomic_fetch_sub(&report.n_running, 1);
	return NULL;
}

/* Is it the first echo of this one? A death of the device may repeat a frame. */
static bool first_echo(uint64_t pulse)
{
	uint8_t bit = (uint8_t)(1 << pulse % 8);

	if (pulse >= MAX_PULSES || pulse_seen[pulse / 8] & bit)
		return false;
	pulse_seen[pulse / 8] |= bit;
	return true;
}

static void come_first(pid_t tid)
{
	const struct sched_param first = { .sched_priority = PRIORITY };

	(void)sched_setscheduler(tid, SCHED_FIFO, &first);
}

/*
 * The kernel's threads that handle frames come before ours: the network, not the processor, is to
 * be waited for.
 */
static void network_comes_first(void)
{
	DIR *dir = opendir("/proc");

	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[300], name[32] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		f = atoi(e->d_name) > 0 ? fopen(path, "re") : NULL;
		if (!f)
			continue;
		if (fgets(name, sizeof(name), f) && strncmp(name, "ksoftirqd/", 10) == 0)
			come_first(atoi(e->d_name));
		fclose(f);
	}
	if (dir)
		closedir(dir);
}

/* A pulse each millisecond. */
static void *pulse_thread(void *arg)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t sent = 0, got = 0, repeated = 0, next_ns = now_ns();

	come_first(0);
	if (connect(fd, (struct sockaddr *)&server, sizeof(server)) < 0)
		complain("no pulses");
	while (!atomic_load(&report.stop) && sent < MAX_PULSES) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t pulse, now = now_ns();

		if (now >= next_ns) {
			if (send(fd, &sent, sizeof(sent), 0) == sizeof(sent))
				sent++;
			next_ns = now + PULSE_US * 1000u;
		}
		if (poll(&p, 1, 1) <= 0 ||
		    recv(fd, &pulse, sizeof(pulse), MSG_DONTWAIT) != sizeof(pulse))
			continue;
		if (first_echo(pulse))
			got++;
		else
			repeated++;
	}
	n_pulses = sent;
	n_pulses_lost = sent - got;
	n_pulses_repeated = repeated;
	close(fd);
	atomic_fetch_sub(&report.n_running, 1);
	return NULL;
}

static uint64_t get_mismatches(void *arg)
{
	return atomic_load(&n_mismatches);
}

static void start_threads(unsigned n, void *(*f)(void *))
{
	for (unsigned i = 0; i < n; i++)
		if (start(f, 0) == 0)
			atomic_fetch_add(&report.n_running, 1);
}

/* Its end before ours is a broken connection. */
static void *iperf_thread(void *arg)
{
	pid_t pid = (pid_t)(intptr_t)arg;
	int status;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!atomic_load(&report.stop)) {
		atomic_fetch_add(&n_broken, 1);
		atomic_fetch_add(&report.n_errors, 1);
		report_complain(&report, "iperf3 has ended, wait status %d", status);
	}
	atomic_fetch_sub(&report.n_running, 1);
	return NULL;
}

/* Until it is interrupted. What it says is the server's to say, too. */
static pid_t start_iperf(const char *rate)
{
	char address[INET_ADDRSTRLEN];
	pid_t pid;

	inet_ntop(AF_INET, &server.sin_addr, address, sizeof(address));
	pid = fork();
	if (pid == 0) {
		int fd = open("/dev/null", O_RDWR);

		if (fd >= 0 && dup2(fd, 0) >= 0)
			(void)dup2(fd, 1);
		execlp("iperf3", "iperf3", "-c", address, "-t", "0", "--bidir", "-b", rate, NULL);
		_exit(127);
	}
	if (pid < 0 || start(iperf_thread, pid) != 0)
		complain("no iperf3");
	else
		atomic_fetch_add(&report.n_running, 1);
	return pid;
}

static int run(unsigned streams, unsigned shorts, unsigned seconds, const char *rate)
{
	static char verdicts[512];
	struct report_result result = { .kind = "traffic", .verdicts = verdicts };
	pid_t pid = 0;

	network_comes_first();
	report_init(&report, seconds, 30);
	if (rate)
		pid = start_iperf(rate);
	start_threads(streams, stream_thread);
	start_threads(shorts, short_thread);
	start_threads(1, pulse_thread);
	result.stalled = !report_wait(&report, get_mismatches, NULL);
	if (pid > 0)
		kill(pid, SIGINT);
	result.stalled = result.stalled || !report_drain(&report);
	result.n_mismatches = atomic_load(&n_mismatches);
	(void)snprintf(verdicts, sizeof(verdicts),
		       "\"connections\":%llu,\"broken\":%llu,\"pulses\":%llu,\"pulses_lost\":%llu,"
		       "\"pulses_repeated\":%llu,",
		       (unsigned long long)n_connections, (unsigned long long)n_broken,
		       (unsigned long long)n_pulses, (unsigned long long)n_pulses_lost,
		       (unsigned long long)n_pulses_repeated);
	return report_result(&report, &result);
}

static bool parse_address(char *text)
{
	char *colon = strchr(text, ':');

	if (!colon)
		return false;
	*colon = '\0';
	server = (struct sockaddr_in){ .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)atoi(colon + 1)) };
	return inet_pton(AF_INET, text, &server.sin_addr) == 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "serve", required_argument, NULL, 's' },
		{ "connect", required_argument, NULL, 'c' },
		{ "streams", required_argument, NULL, 'n' },
		{ "short", required_argument, NULL, 'k' },
		{ "seconds", required_argument, NULL, 't' },
		{ "seed", required_argument, NULL, 'x' },
		{ "pause", required_argument, NULL, 'p' },
		{ "iperf", required_argument, NULL, 'i' },
		{ 0 },
	};
	unsigned streams = 1, shorts = 4, seconds = 0;
	const char *rate = NULL;
	bool client = false;
	int c;

	signal(SIGPIPE, SIG_IGN);
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 's')
			return serve((uint16_t)atoi(optarg));
		if (c == 'c')
			client = parse_address(optarg);
		else if (c == 'n')
			streams = (unsigned)atoi(optarg);
		else if (c == 'k')
			shorts = (unsigned)atoi(optarg);
		else if (c == 't')
			seconds = (unsigned)atoi(optarg);
		else if (c == 'x')
			seed = strtoull(optarg, NULL, 0);
		else if (c == 'p')
			pause_ms = strtoull(optarg, NULL, 0);
		else if (c == 'i')
			rate = optarg;
		else
			return EXIT_CANNOT;
	}
	if (!client) {
		fputs("guest-traffic: give --serve=PORT or --connect=ADDRESS:PORT\n", stderr);
		return EXIT_CANNOT;
	}
	return run(streams, shorts, seconds, rate);
}
