/*
 * frontend-bench-vsock: what a vsock device moves in a second, and what that costs it.
 *
 * Runs in: a program of its own, started by tests/bench/run. Trusts: its caller; packets are looked at only as far as needed.
 *
 *	frontend-bench-vsock --row=NAME --uds=PATH (--socket=PATH --pid=PID... | --bare) [--seconds=S]
 *
 * One thread is the guest: its driver posts receive buffers as large as Linux's, tells of its credit as often as Linux, and
 * sleeps on the call descriptors when there is nothing to do. Another is the host program, with blocking calls on the device's
 * Unix sockets. With --bare the two have a Unix socket between them, and the same sizes of messages. A unit of work is a
 * connection, a round trip of one byte, or a KiB that has arrived. The last line is one JSON object.
 */
#include "tests/bench/measure.h"
#include "tests/frontend/session.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	CID = 42,
	HOST_CID = 2,
	HOST_PORT = 5000,
	GUEST_PORT = 1024,
	N_QUEUES = 3,
	RX = 0,
	TX = 1,
	QUEUE_SIZE = 128,
	RX_LEN = 4096 - 320, /* what Linux leaves of a page */
	N_TX = 32,
	CHUNK = 64 << 10,
	ALLOC = 256 << 10,
	KIB = 1024,
	SLEEP_MS = 20,
	FIRST_PORT = 10000,
	MAX_AT_ONCE = 16,
	PORTS = 1 << 12, /* that follow each other */
};

struct bench;

struct row {
	const char *name;
	bool by_host; /* who connects */
	unsigned n;   /* connections at a time */
	void (*guest)(struct bench *b);
	void *(*host)(void *arg);
	void (*bare)(struct bench *b);
	void *(*bare_host)(void *arg);
};

/* A connection. */
struct peer {
	uint32_t port, own_port;
	bool open, over, asked;
	uint32_t sent, alloc, forwarded; /* by what the device has said */
	uint32_t received, told;
};

struct bench {
	struct measure m;
	const struct row *row;
	const char *socket, *uds;
	struct fe fe;
	uint8_t *tx[N_TX];
	bool tx_busy[N_TX];
	struct peer peers[MAX_AT_ONCE];
	uint32_t next_port;
	uint64_t started_ns;
	uint64_t n_host; /* units that the host program has counted, ever */
	uint64_t n_seen, n_guest;
	int listening, bare[2];
};

/* The guest */

static struct virtio_vsock_hdr header(struct peer *p, uint16_t op)
{
	p->told = p->received;
	return (struct virtio_vsock_hdr){ .src_cid = CID,
					  .dst_cid = HOST_CID,
					  .src_port = p->own_port,
					  .dst_port = p->port,
					  .type = VIRTIO_VSOCK_TYPE_STREAM,
					  .op = op,
					  .buf_alloc = ALLOC,
					  .fwd_cnt = p->received };
}

static void take_tx(struct bench *b)
{
	struct fe_used used;

	while (fe_queue_pop(&b->fe.queues[TX], &used))
		b->tx_busy[(uintptr_t)used.user - 1] = false;
}

static bool send_packet(struct bench *b, struct peer *p, uint16_t op, uint32_t len)
{
	struct virtio_vsock_hdr h = header(p, op);

	h.len = len;
	if (op == VIRTIO_VSOCK_OP_SHUTDOWN)
		h.flags = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;
	for (uintptr_t i = 0; i < N_TX; i++) {
		struct fe_sg sg[2] = { { b->tx[i], sizeof(h) }, { b->tx[i] + sizeof(h), len } };

		if (b->tx_busy[i])
			continue;
		memcpy(b->tx[i], &h, sizeof(h));
		if (fe_queue_add(&b->fe.queues[TX], sg, len > 0 ? 2 : 1, 0, (void *)(i + 1)) < 0)
			return false;
		b->tx_busy[i] = true;
		fe_queue_kick(&b->fe.queues[TX]);
		return true;
	}
	return false;
}

static void send_control(struct bench *b, struct peer *p, uint16_t op)
{
	while (!send_packet(b, p, op, 0))
		take_tx(b);
}

static struct peer *peer_of(struct bench *b, uint32_t port, uint32_t own_port)
{
	for (unsigned i = 0; i < b->row->n; i++)
		if (b->peers[i].port == port && b->peers[i].own_port == own_port)
			return &b->peers[i];
	return NULL;
}

/* In the place of one that is over; of the oldest, if the end of none has been seen yet. */
static void take_request(struct bench *b, const struct virtio_vsock_hdr *h)
{
	static unsigned oldest;
	struct peer *p = NULL;

	for (unsigned i = 0; i < b->row->n && !p; i++)
		if (b->peers[i].over || b->peers[i].port == 0)
			p = &b->peers[i];
	if (!p)
		p = &b->peers[oldest++ % b->row->n];
	*p = (struct peer){ .port = h->src_port,
			    .own_port = h->dst_port,
			    .open = true,
			    .alloc = h->buf_alloc,
			    .forwarded = h->fwd_cnt };
	send_control(b, p, VIRTIO_VSOCK_OP_RESPONSE);
}

/* The end of a connection that has another after it already. */
static void take_stray(struct bench *b, const struct virtio_vsock_hdr *h)
{
	struct peer p = { .port = h->src_port, .own_port = h->dst_port };

	if (h->op == VIRTIO_VSOCK_OP_SHUTDOWN)
		send_control(b, &p, VIRTIO_VSOCK_OP_RST);
}

static void take_packet(struct bench *b, const struct virtio_vsock_hdr *h)
{
	struct peer *p = peer_of(b, h->src_port, h->dst_port);

	if (h->op == VIRTIO_VSOCK_OP_REQUEST) {
		take_request(b, h);
		return;
	}
	if (!p) {
		take_stray(b, h);
		return;
	}
	p->alloc = h->buf_alloc;
	p->forwarded = h->fwd_cnt;
	p->open |= h->op == VIRTIO_VSOCK_OP_RESPONSE;
	p->over |= h->op == VIRTIO_VSOCK_OP_RST;
	if (h->op == VIRTIO_VSOCK_OP_RW)
		p->received += h->len;
	if (h->op == VIRTIO_VSOCK_OP_CREDIT_REQUEST || p->received - p->told > ALLOC - CHUNK)
		send_control(b, p, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	if (h->op == VIRTIO_VSOCK_OP_SHUTDOWN) {
		send_control(b, p, VIRTIO_VSOCK_OP_RST);
		p->over = true;
	}
}

static void post(struct bench *b, void *buffer)
{
	const struct fe_sg sg = { buffer, RX_LEN };

	if (fe_queue_add(&b->fe.queues[RX], &sg, 0, 1, buffer) < 0)
		errx(1, "the receive ring is full");
}

static unsigned take_rx(struct bench *b)
{
	struct fe_used used;
	unsigned n = 0;

	while (fe_queue_pop(&b->fe.queues[RX], &used)) {
		struct virtio_vsock_hdr h;

		memcpy(&h, used.user, sizeof(h));
		if (used.len != sizeof(h) + h.len)
			errx(1, "a packet of %u bytes that says %u", used.len, h.len);
		post(b, used.user);
		take_packet(b, &h);
		n++;
	}
	if (n > 0)
		fe_queue_kick(&b->fe.queues[RX]);
	take_tx(b);
	return n;
}

/* Only what has been signalled is read: an interrupt costs a guest no look at the others. */
static void doze(struct bench *b)
{
	struct fe_queue *q[2] = { &b->fe.queues[RX], &b->fe.queues[TX] };
	struct pollfd fds[2] = { { .fd = q[0]->call, .events = POLLIN },
				 { .fd = q[1]->call, .events = POLLIN } };
	bool any = fe_queue_arm(q[0]);

	if (fe_queue_arm(q[1]) || any)
		return;
	poll(fds, 2, SLEEP_MS);
	for (unsigned i = 0; i < 2; i++)
		if (fds[i].revents)
			fe_queue_drain_call(q[i]);
}

static void begin_session(struct bench *b)
{
	const struct fe_spec spec = { .n_queues = N_QUEUES, .queue_size = QUEUE_SIZE };
	int r = fe_begin(&b->fe, b->socket, &spec);

	if (r < 0)
		errx(1, "%s: no session: %s", b->socket, strerror(-r));
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		post(b, fe_memory_alloc(&b->fe.mem, RX_LEN, 64));
	for (unsigned i = 0; i < N_TX; i++)
		b->tx[i] = fe_memory_alloc(&b->fe.mem, sizeof(struct virtio_vsock_hdr) + CHUNK, 64);
	fe_queue_kick(&b->fe.queues[RX]);
}

static void ask(struct bench *b, struct peer *p)
{
	*p = (struct peer){ .port = HOST_PORT,
			    .own_port = FIRST_PORT + b->next_port++ % PORTS,
			    .asked = true };
	send_control(b, p, VIRTIO_VSOCK_OP_REQUEST);
}

/* What a guest does in a turn */

static void guest_waits(struct bench *b)
{
	(void)b;
}

static void guest_connects(struct bench *b)
{
	for (unsigned i = 0; i < b->row->n; i++) {
		struct peer *p = &b->peers[i];

		if (p->over) {
			b->n_guest++;
			ask(b, p);
		} else if (p->open && p->asked) {
			p->asked = false;
			send_control(b, p, VIRTIO_VSOCK_OP_SHUTDOWN);
		}
	}
}

static void guest_sends(struct bench *b)
{
	struct peer *p = b->peers;

	while (p->open) {
		uint32_t used = p->sent - p->forwarded;
		uint32_t credit = used < p->alloc ? p->alloc - used : 0;
		uint32_t len = credit < CHUNK ? credit : CHUNK;

		if (len == 0 || !send_packet(b, p, VIRTIO_VSOCK_OP_RW, len))
			return;
		p->sent += len;
	}
}

static void guest_receives(struct bench *b)
{
	static uint32_t seen;

	b->n_guest += b->peers[0].received / KIB - seen;
	seen = b->peers[0].received / KIB;
}

static void guest_echoes(struct bench *b)
{
	struct peer *p = b->peers;

	if (!p->open || p->received < p->sent)
		return;
	if (p->sent > 0)
		measure_count(&b->m, 1, b->started_ns, measure_now_ns());
	b->started_ns = measure_now_ns();
	p->sent += send_packet(b, p, VIRTIO_VSOCK_OP_RW, 1);
}

/* The host program */

static struct sockaddr_un address(const struct bench *b, const char *suffix)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if ((size_t)snprintf(a.sun_path, sizeof(a.sun_path), "%s%s", b->uds, suffix) >=
	    sizeof(a.sun_path))
		errx(1, "%s: too long", b->uds);
	return a;
}

static void host_counts(struct bench *b, uint64_t n)
{
	__atomic_fetch_add(&b->n_host, n, __ATOMIC_RELAXED);
}

static void listen_for_guest(struct bench *b)
{
	struct sockaddr_un a = address(b, b->socket ? "_5000" : "");

	unlink(a.sun_path);
	b->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (b->listening < 0 || bind(b->listening, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(b->listening, QUEUE_SIZE) < 0)
		err(1, "%s", a.sun_path);
}

static int host_connect(struct bench *b)
{
	static const char line[] = "CONNECT 1024\n";
	struct sockaddr_un a = address(b, "");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char answer[64];
	size_t n = 0;

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		err(1, "%s", a.sun_path);
	if (write(fd, line, sizeof(line) - 1) != sizeof(line) - 1)
		err(1, "CONNECT");
	while (n < sizeof(answer) && read(fd, answer + n, 1) == 1)
		if (answer[n++] == '\n')
			break;
	if (n < 3 || memcmp(answer, "OK ", 3) != 0)
		errx(1, "no connection to the guest");
	return fd;
}

static int host_accept(struct bench *b)
{
	int fd = accept4(b->listening, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		err(1, "accept");
	return fd;
}

static _Noreturn void *host_connects(void *arg)
{
	for (;;) {
		close(host_connect(arg));
		host_counts(arg, 1);
	}
}

static _Noreturn void *host_accepts(void *arg)
{
	char byte;

	for (;;) {
		int fd = host_accept(arg);

		if (read(fd, &byte, 1) > 0)
			errx(1, "a byte that nobody sent");
		close(fd);
	}
}

static void read_all(struct bench *b, int fd)
{
	static char bytes[CHUNK];
	uint64_t rest = 0;
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) > 0) {
		rest += (uint64_t)n;
		host_counts(b, rest / KIB);
		rest %= KIB;
	}
}

static void *host_reads(void *arg)
{
	read_all(arg, host_accept(arg));
	return NULL;
}

static void write_always(int fd)
{
	static char bytes[CHUNK];

	while (write(fd, bytes, sizeof(bytes)) > 0)
		;
}

static void *host_writes(void *arg)
{
	write_always(host_connect(arg));
	return NULL;
}

static void echo(int fd)
{
	char byte;

	while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
		;
}

static void *host_echoes(void *arg)
{
	echo(host_accept(arg));
	return NULL;
}

/* Without a device */

static void *bare_reads(void *arg)
{
	read_all(arg, ((struct bench *)arg)->bare[1]);
	return NULL;
}

static void *bare_writes(void *arg)
{
	write_always(((struct bench *)arg)->bare[1]);
	return NULL;
}

static void *bare_echoes(void *arg)
{
	echo(((struct bench *)arg)->bare[1]);
	return NULL;
}

static void bare_connect(struct bench *b)
{
	struct sockaddr_un a = address(b, "");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char byte;

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		err(1, "connect");
	shutdown(fd, SHUT_WR);
	if (read(fd, &byte, 1) != 0)
		errx(1, "a byte that nobody sent");
	close(fd);
	b->n_guest++;
}

static void bare_send(struct bench *b)
{
	static char bytes[CHUNK];

	if (write(b->bare[0], bytes, sizeof(bytes)) < 0)
		err(1, "write");
}

static void bare_receive(struct bench *b)
{
	static char bytes[RX_LEN - sizeof(struct virtio_vsock_hdr)];
	static uint64_t rest;
	ssize_t n = read(b->bare[0], bytes, sizeof(bytes));

	if (n < 0)
		err(1, "read");
	rest += (uint64_t)n;
	b->n_guest += rest / KIB;
	rest %= KIB;
}

static void bare_round_trip(struct bench *b)
{
	uint64_t started = measure_now_ns();
	char byte = 0;

	if (write(b->bare[0], &byte, 1) != 1 || read(b->bare[0], &byte, 1) != 1)
		err(1, "round trip");
	measure_count(&b->m, 1, started, measure_now_ns());
}

/* Rows */

static const struct row rows[] = {
	{ "connect-host", true, 1, guest_waits, host_connects, bare_connect, host_accepts },
	{ "connect-guest", false, 1, guest_connects, host_accepts, bare_connect, host_accepts },
	{ "connect-host-8", true, 8, guest_waits, host_connects, bare_connect, host_accepts },
	{ "connect-guest-8", false, 8, guest_connects, host_accepts, bare_connect, host_accepts },
	{ "stream-out-64k", false, 1, guest_sends, host_reads, bare_send, bare_reads },
	{ "stream-in-4k", true, 1, guest_receives, host_writes, bare_receive, bare_writes },
	{ "round-trip-1", false, 1, guest_echoes, host_echoes, bare_round_trip, bare_echoes },
};

/* What was counted since the last time, by whichever end counts. */
static void count(struct bench *b, uint64_t now)
{
	uint64_t n = __atomic_load_n(&b->n_host, __ATOMIC_RELAXED) + b->n_guest;

	if (n != b->n_seen)
		measure_count(&b->m, n - b->n_seen, now, now);
	b->n_seen = n;
}

static void start_host(struct bench *b, void *(*run)(void *arg))
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, run, b);

	if (r != 0)
		errx(1, "no thread: %s", strerror(r));
}

static void run_bare(struct bench *b)
{
	uint64_t now;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b->bare) < 0)
		err(1, "socketpair");
	listen_for_guest(b);
	start_host(b, b->row->bare_host);
	do {
		b->row->bare(b);
		now = measure_now_ns();
		count(b, now);
	} while (measure_goes_on(&b->m, now));
}

static void run_device(struct bench *b)
{
	uint64_t now;

	begin_session(b);
	listen_for_guest(b);
	for (unsigned i = 0; i < b->row->n; i++) {
		start_host(b, b->row->host);
		if (!b->row->by_host)
			ask(b, &b->peers[i]);
	}
	do {
		unsigned n = take_rx(b);

		b->row->guest(b);
		if (n == 0)
			doze(b);
		now = measure_now_ns();
		count(b, now);
		if ((b->peers[0].over || !b->peers[0].open) && b->m.measuring && b->m.n_done == 0 &&
		    now - b->m.begin_ns > UINT64_C(400000000))
			errx(1, "%s: the connection has ended", b->row->name);
	} while (measure_goes_on(&b->m, now));
}

static const struct row *row_by_name(const char *name)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	errx(2, "no row %s", name);
}

static void take_pid(struct measure *m, const char *text)
{
	for (unsigned i = 0; i < MEASURE_MAX_PIDS; i++)
		if (!m->pids[i]) {
			m->pids[i] = atoi(text);
			return;
		}
	errx(2, "too many --pid");
}

int main(int argc, char **argv)
{
	static struct bench b = { .m.seconds = 1 };
	static const struct option options[] = {
		{ "row", required_argument, NULL, 'r' },
		{ "uds", required_argument, NULL, 'u' },
		{ "pid", required_argument, NULL, 'p' },
		{ "socket", required_argument, NULL, 's' },
		{ "bare", no_argument, NULL, 'b' },
		{ "seconds", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		switch (c) {
		case 'r':
			b.row = row_by_name(optarg);
			break;
		case 'u':
			b.uds = optarg;
			break;
		case 'p':
			take_pid(&b.m, optarg);
			break;
		case 's':
			b.socket = optarg;
			break;
		case 'b':
			b.socket = NULL;
			break;
		case 't':
			b.m.seconds = atof(optarg);
			break;
		default:
			return 2;
		}
	if (!b.row || !b.uds || !b.socket != !b.m.pids[0])
		errx(2, "usage: frontend-bench-vsock --row=NAME --uds=PATH "
			"(--socket=PATH --pid=PID...|--bare) [--seconds=S]");
	if (b.socket)
		run_device(&b);
	else
		run_bare(&b);
	measure_report(&b.m);
	fflush(stdout);
	_exit(0); /* the host program's thread is in a system call */
}
