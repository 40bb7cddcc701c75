/*
 * frontend-bench-net: frames per second through network devices, and what their back-ends pay for each.
 *
 * Runs in: a program of its own, one for each engine that tests/bench/run compares. Trusts: its caller.
 *
 *	frontend-bench-net --row=tx|rx|ping|pair [--from=SOCKET] [--to=SOCKET] [--interface=NAME] [--bare] [--halt]
 *	                   [--pid=PID…] [--len=BYTES] [--rate=N]
 *
 *	tx	a guest sends; a unit of work is a frame that has come out of the tap
 *	rx	a packet socket sends; a frame that the guest has got whole
 *	ping	one frame to the host and one back, both sides asleep meanwhile
 *	pair	one guest sends, another one receives; a frame that has arrived whole
 *
 * --bare: no device but what has to be done at the least, by a child. It is the driver, or both drivers, in one
 * thread on one processor. Each line of standard input, a number of seconds, is answered by a slice of so much: one JSON
 * object on a line. Between slices it sleeps, and with --halt so do the back-end's processes, which would poll for ever.
 *
 * rx and pair have no more frames on the way than WINDOW: nobody is given more than he takes, and little is lost.
 */
#include "tests/bench/net.h"
#include "tests/bench/measure.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	WINDOW = 512,
	LONG_WINDOW = 8,   /* of frames to be cut up: five fill a receive queue */
	LATE_NS = 5000000, /* what has not come when nothing has for so long is not waited for */
	DRAIN_NS = 100000000,
	WARM_UP_NS = 20000000,
};

#define START_NS UINT64_C(20000000000)

struct bench {
	const struct row *row;
	const char *from_path, *to_path, *interface;
	bool bare, halt;
	uint32_t len;
	double rate; /* frames per second; 0: as many as go */
	struct net_driver drivers[2];
	struct net_driver *from, *to;
	struct net_host host;
	struct net_bare child;
	pid_t pids[MEASURE_MAX_PIDS];
	unsigned n_pids;
	uint64_t first_ns; /* of the slice */
	uint64_t n_sent, n_done, n_lost, n_late, n_at_once;
	uint64_t progress_ns; /* when a frame has come last */
	struct measure m;
};

struct row {
	const char *name;
	bool has_host, has_pair;
	bool windowed; /* no more than so many frames are on their way: what does not come is known */
	enum net_bare_work bare_work;
	void (*step)(struct bench *b, uint64_t now);
	uint64_t (*count)(const struct bench *b);
};

/* Frames that may be sent now. */
static uint64_t due(struct bench *b, uint64_t now, uint64_t window)
{
	uint64_t on_the_way = b->n_sent - b->n_done - b->n_lost, n;

	if (on_the_way > 0 && now - b->progress_ns > LATE_NS) {
		b->n_lost += on_the_way;
		on_the_way = 0;
		b->progress_ns = now;
	}
	n = on_the_way < window ? window - on_the_way : 0;
	if (b->rate > 0) {
		double so_far = (double)(now - b->first_ns) * b->rate / 1e9;
		uint64_t left = so_far > (double)b->n_at_once ? (uint64_t)so_far - b->n_at_once : 0;

		n = left < n ? left : n;
	}
	return n;
}

static void arrived(struct bench *b, uint64_t n, uint64_t now)
{
	uint64_t on_the_way = b->n_sent - b->n_done - b->n_lost;
	uint64_t late = n > on_the_way ? n - on_the_way : 0;

	/* Not lost after all, or else the kernel's own. */
	if (late > b->n_lost) {
		b->n_sent += late - b->n_lost;
		late = b->n_lost;
	}
	b->n_lost -= late;
	b->n_late += late;
	if (n > 0)
		b->progress_ns = now;
	b->n_done += n;
}

static void step_tx(struct bench *b, uint64_t now)
{
	if (b->bare)
		usleep(200);
	else
		net_driver_send(b->from, UINT64_MAX);
}

static uint64_t count_tx(const struct bench *b)
{
	return net_host_arrived(&b->host);
}

static void take(struct bench *b, uint64_t now)
{
	if (b->bare)
		arrived(b, __atomic_load_n(b->child.n_done, __ATOMIC_ACQUIRE) - b->n_done, now);
	else
		arrived(b, net_driver_receive(b->to), now);
}

static void step_rx(struct bench *b, uint64_t now)
{
	bool is_long = b->len > NET_MTU_FRAME;
	uint32_t batch = is_long ? LONG_WINDOW / 2 : NET_BATCH;
	uint64_t n = due(b, now, is_long ? LONG_WINDOW : WINDOW);

	if (n >= batch / 2)
		b->n_sent += net_host_send(&b->host, n > batch ? batch : (uint32_t)n);
	take(b, now);
}

static void step_pair(struct bench *b, uint64_t now)
{
	uint32_t n;

	if (b->bare) {
		take(b, now);
		usleep(50);
		return;
	}
	n = net_driver_send(b->from, due(b, now, WINDOW));
	b->n_sent += n;
	b->n_at_once += n;
	for (int i = 0; i < 4; i++)
		take(b, now);
}

/* False: what was sent was lost on its way. */
static bool ping_bare(struct bench *b)
{
	struct pollfd p = { .fd = b->child.call, .events = POLLIN };
	uint64_t one = 1;

	return write(b->child.kick, &one, sizeof(one)) > 0 && net_host_await(&b->host) &&
	       net_host_send(&b->host, 1) == 1 && poll(&p, 1, 1000) == 1 &&
	       read(b->child.call, &one, sizeof(one)) > 0;
}

static bool ping_device(struct bench *b)
{
	if (net_driver_send(b->from, 1) != 1 || !net_host_await(&b->host) ||
	    net_host_send(&b->host, 1) != 1)
		return false;
	while (net_driver_await(b->from))
		if (net_driver_receive(b->from) > 0)
			return true;
	return false;
}

static void step_ping(struct bench *b, uint64_t now)
{
	if (!(b->bare ? ping_bare(b) : ping_device(b))) {
		b->n_lost++;
		return;
	}
	b->n_done++;
	measure_count(&b->m, 1, now, measure_now_ns());
}

static uint64_t count_done(const struct bench *b)
{
	return b->n_done;
}

static const struct row rows[] = {
	{ "tx", true, false, false, NET_BARE_WRITE, step_tx, count_tx },
	{ "rx", true, false, true, NET_BARE_READ, step_rx, count_done },
	{ "ping", true, false, false, NET_BARE_ECHO, step_ping, count_done },
	{ "pair", false, true, true, NET_BARE_WRITE, step_pair, count_done },
	{ 0 },
};

static void signal_all(const struct bench *b, int signo)
{
	for (unsigned i = 0; i < b->n_pids; i++)
		kill(b->pids[i], signo);
}

static void run_for(struct bench *b, uint64_t ns)
{
	uint64_t begin = measure_now_ns(), now = begin;

	while (now - begin < ns) {
		b->row->step(b, now);
		now = measure_now_ns();
	}
}

/* What is on its way at the end: it comes now, or it is lost. */
static void drain(struct bench *b)
{
	uint64_t begin = measure_now_ns(), now = begin;

	for (; b->n_done < b->n_sent && now - begin < DRAIN_NS; now = measure_now_ns())
		take(b, now);
	b->n_lost = b->n_sent - b->n_done;
}

static void slice(struct bench *b, double seconds)
{
	uint64_t begin_ns, end_ns, cpu, n, lost = b->n_lost, late = b->n_late;

	if (b->halt)
		signal_all(b, SIGCONT);
	b->first_ns = b->progress_ns = measure_now_ns();
	b->n_at_once = 0;
	run_for(b, WARM_UP_NS);
	measure_reset(&b->m);
	n = b->row->count(b);
	cpu = measure_cpu_ns(&b->m);
	begin_ns = measure_now_ns();
	run_for(b, (uint64_t)(seconds * 1e9));
	n = b->row->count(b) - n;
	cpu = measure_cpu_ns(&b->m) - cpu;
	end_ns = measure_now_ns();
	if (b->row->windowed)
		drain(b);
	if (b->halt)
		signal_all(b, SIGSTOP);
	printf("{\"n\":%lu,\"per_second\":%.1f,\"cpu_us\":%.4f,\"lost\":%ld,\"late\":%lu,"
	       "\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
	       n, (double)n * 1e9 / (double)(end_ns - begin_ns),
	       n > 0 ? (double)cpu / (double)n / 1e3 : 0, (int64_t)(b->n_lost - lost),
	       b->n_late - late, measure_percentile_us(&b->m, 0.5),
	       measure_percentile_us(&b->m, 0.99));
}

static void parse(struct bench *b, int argc, char **argv)
{
	static const struct option options[] = {
		{ "row", 1, NULL, 'w' },  { "from", 1, NULL, 'f' }, { "to", 1, NULL, 't' },
		{ "pid", 1, NULL, 'p' },  { "len", 1, NULL, 'l' },  { "interface", 1, NULL, 'i' },
		{ "bare", 0, NULL, 'b' }, { "halt", 0, NULL, 'h' }, { "rate", 1, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'w')
			for (b->row = rows; b->row->name && strcmp(b->row->name, optarg) != 0;)
				b->row++;
		else if (c == 'f')
			b->from_path = optarg;
		else if (c == 't')
			b->to_path = optarg;
		else if (c == 'i')
			b->interface = optarg;
		else if (c == 'p' && b->n_pids < MEASURE_MAX_PIDS - 1)
			b->pids[b->n_pids++] = atoi(optarg);
		else if (c == 'l')
			b->len = (uint32_t)atoi(optarg);
		else if (c == 'r')
			b->rate = atof(optarg);
		else if (c == 'b' || c == 'h')
			*(c == 'b' ? &b->bare : &b->halt) = true;
		else
			errx(2, "usage: see the head of net.c");
	}
	if (!b->row || !b->row->name || b->len < 60 || b->len > NET_LONG_LEN)
		errx(2, "usage: see the head of net.c");
}

/* Some back-ends take seconds until they begin. */
static void await_work(struct bench *b)
{
	uint64_t n = b->row->count(b), end = measure_now_ns() + START_NS;

	b->first_ns = b->progress_ns = measure_now_ns();
	while (b->row->count(b) == n && measure_now_ns() < end)
		run_for(b, WARM_UP_NS);
	if (b->row->count(b) == n)
		errx(1, "no frame arrives");
}

static void begin_pass(struct bench *b)
{
	struct net_pass pass;

	net_pass_begin(&pass, b->len);
	b->child.n_done = pass.n_done;
	for (unsigned i = 0; i < 3; i++)
		b->pids[b->n_pids++] = pass.pids[i];
	b->halt = true;
}

static void begin_bare(struct bench *b)
{
	int tap;

	if (b->row->has_pair) {
		begin_pass(b);
		return;
	}
	tap = net_bare_open(b->interface);
	net_bare_begin(&b->child, tap, b->row->bare_work, b->len);
	b->pids[b->n_pids++] = b->child.pid;
	b->halt = true;
}

static void begin(struct bench *b)
{
	cpu_set_t first;

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	if (b->bare)
		begin_bare(b);
	/* After the child: it may be on any, as back-ends are. */
	sched_setaffinity(0, sizeof(first), &first);
	b->from = b->to = &b->drivers[0];
	if (b->row->has_pair && !b->bare) {
		b->to = &b->drivers[1];
		net_driver_begin(b->to, b->to_path, b->len);
	}
	if (!b->bare)
		net_driver_begin(b->from, b->from_path, b->len);
	if (b->row->has_host)
		net_host_begin(&b->host, b->interface, b->len);
	if (b->row->step == step_ping)
		net_host_listen(&b->host);
	memcpy(b->m.pids, b->pids, sizeof(b->m.pids));
	await_work(b);
	if (b->halt)
		signal_all(b, SIGSTOP);
}

int main(int argc, char **argv)
{
	static struct bench b = { .len = 64 };
	char line[64];

	parse(&b, argc, argv);
	setlinebuf(stdout);
	begin(&b);
	puts("ready");
	while (fgets(line, sizeof(line), stdin))
		slice(&b, atof(line));
	signal_all(&b, SIGCONT);
	for (unsigned i = 0; i < 2; i++)
		if (b.drivers[i].len)
			fe_close(&b.drivers[i].fe);
	if (b.child.pid)
		kill(b.child.pid, SIGKILL);
	return 0;
}
