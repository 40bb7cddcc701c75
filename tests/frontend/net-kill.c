/*
 * frontend-net-kill: SIGKILL for the worker of a network device on a tap, again and again, with
 * frames on their way in both directions.
 *
 * Runs in: a test program of its own, in a network namespace of its own, as root. Trusts: nothing
 * that the back-end says.
 *
 *	frontend-net-kill --program=vmdev-net [--kills=N] [--seed=S] [--json]
 *
 * Each frame has a number, and is checked byte by byte wherever it comes out; it is known of each
 * how often it has come. Between two kills both directions are kept full for a random while. What
 * is asked of a death:
 *
 *  1. No frame of the driver's is lost; it may come twice. Its buffers come back once.
 *  2. Of the wire's one at most is lost, the one in hand; none comes twice but one.
 *  3. The connection stays, and both directions go on.
 *
 * Measured is the time from just before kill() to the first frame that the next worker passes on,
 * each way: to the wire, where a packet socket sees it, and to the driver, which sleeps on its
 * call. Frames that the dying worker passes on do not count: what it has done is counted once it
 * runs no more (dying.h), and a frame each way is added, so that there is something to wait for.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/dying.h"
#include "tests/frontend/fill.h"
#include "tests/frontend/net-wire.h"
#include "tests/frontend/session.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)

enum {
	RX,
	TX,
	HDR = sizeof(struct nw_header),
	ETH = 14,
	MTU = 9000,
	QUEUE_SIZE = 256,
	MAX_LEN = ETH + MTU,
	N_BUFFERS = 200,
	BUFFER_LEN = 2048,
	N_SLOTS = 33, /* frames on their way to the wire, and one for when they all may have gone */
	WINDOW = 64,  /* frames on their way to the driver */
	MAX_FRAMES = 1 << 23,
	RECOVERY_MS = 15000,
	QUIET_MS = 300,
	MAX_CHILDREN = 12, /* of the keeper: a worker, one that stands by, dead ones */
	LOAD_MAX_US = 3000,
	SPIN_MAX_US = 200,
};

enum way { OUT, IN, N_WAYS };

static const uint32_t lens[] = { 60, 200, 1514, 700, 2100, 60, MAX_LEN, 90 };
static const char *const way_names[] = { [OUT] = "to the wire", [IN] = "to the driver" };

/* Frames of one direction. */
struct flow {
	uint32_t n;    /* sent */
	uint32_t last; /* the highest number that has come, + 1 */
	uint64_t n_come;
	uint8_t *times; /* that each has come */
};

static struct {
	const char *program;
	unsigned n_wanted;
	uint64_t seed;
	bool json;
} o = { .n_wanted = 100, .seed = 1 };

static struct backend backend;
static struct net_wire wire;
static struct fe fe;
static struct fill_random chance;
static struct flow flows[N_WAYS];
static uint8_t *slots[N_SLOTS]; /* not in use; NULL: in use */
static unsigned n_kills, n_mismatches, n_errors;
static double *took_ms[N_WAYS], *both_ms;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void complain(unsigned *count, const char *what, enum way way, uint32_t number)
{
	if (++*count <= 20)
		fprintf(stderr, "%s %s: frame %u, after %u kills\n", what, way_names[way], number,
			n_kills);
}

/* Frames */

static uint32_t make(uint8_t *f, enum way way)
{
	uint32_t number = flows[way].n++, len = lens[number % (sizeof(lens) / sizeof(*lens))];

	if (number == MAX_FRAMES)
		errx(1, "more frames than there are numbers");
	memcpy(f, "\x52\x54\0\x12\x34\x56\x02\0\0\0\0\x09\x88\xb5", ETH);
	memcpy(f + ETH, &number, sizeof(number));
	for (uint32_t i = ETH + sizeof(number); i < len; i++)
		f[i] = (uint8_t)(number * 31 + i * 7 + way);
	return len;
}

static bool is_whole(const uint8_t *f, uint32_t len, uint32_t number, enum way way)
{
	if (number >= flows[way].n || len != lens[number % (sizeof(lens) / sizeof(*lens))])
		return false;
	for (uint32_t i = ETH + sizeof(number); i < len; i++)
		if (f[i] != (uint8_t)(number * 31 + i * 7 + way))
			return false;
	return true;
}

static void come(const uint8_t *f, uint32_t len, enum way way)
{
	struct flow *flow = &flows[way];
	uint32_t number = UINT32_MAX;

	if (len >= ETH + sizeof(number))
		memcpy(&number, f + ETH, sizeof(number));
	if (!is_whole(f, len, number, way)) {
		complain(&n_mismatches, "not as it was", way, number);
		return;
	}
	if (number >= flow->last)
		flow->last = number + 1;
	flow->n_come++;
	if (++flow->times[number] > 2)
		complain(&n_errors, "a third time", way, number);
}

/* The driver */

static void post(uint8_t *buffer)
{
	const struct fe_sg sg = { buffer, BUFFER_LEN };

	if (fe_queue_add(&fe.queues[RX], &sg, 0, 1, buffer) < 0)
		errx(1, "a bug of the test: no room for a buffer");
}

/* One more buffer of a frame: its length when it is the last one, else 0. */
static uint32_t assemble(const struct fe_used *used, uint8_t *whole)
{
	static uint32_t len, n_left;
	uint32_t skip = n_left == 0 ? HDR : 0, done;

	if (n_left == 0) {
		const struct nw_header *h = used->user;

		n_left = h->num_buffers;
		len = 0;
	}
	if (used->len < skip || used->len > BUFFER_LEN || n_left == 0 || n_left > 8) {
		complain(&n_mismatches, "a buffer that cannot be", IN, flows[IN].last);
		n_left = 0;
		return 0;
	}
	memcpy(whole + len, (uint8_t *)used->user + skip, used->len - skip);
	len += used->len - skip;
	done = len;
	return --n_left == 0 ? done : 0;
}

static void reap(void)
{
	static uint8_t whole[8 * BUFFER_LEN];
	struct fe_used used;
	uint32_t len;
	bool any = false;

	while (fe_queue_pop(&fe.queues[RX], &used)) {
		len = assemble(&used, whole);
		if (len > 0)
			come(whole, len, IN);
		post(used.user);
		any = true;
	}
	if (any)
		fe_queue_kick(&fe.queues[RX]);
	while (fe_queue_pop(&fe.queues[TX], &used))
		for (unsigned i = 0; i < N_SLOTS; i++)
			if (!slots[i]) {
				slots[i] = used.user;
				break;
			}
}

/* In two pieces. False: no more slots than that are free. */
static bool send_out(unsigned spare)
{
	struct fe_sg sg[2];
	unsigned i = 0, n_free = 0;
	uint32_t len;

	for (unsigned k = 0; k < N_SLOTS; k++)
		if (slots[k]) {
			n_free++;
			i = k;
		}
	if (n_free <= spare)
		return false;
	memset(slots[i], 0, HDR);
	len = make(slots[i] + HDR, OUT);
	sg[0] = (struct fe_sg){ slots[i], HDR + 40 };
	sg[1] = (struct fe_sg){ slots[i] + HDR + 40, len - 40 };
	if (fe_queue_add(&fe.queues[TX], sg, 2, 0, slots[i]) < 0)
		errx(1, "a bug of the test: no room for a frame");
	slots[i] = NULL;
	return true;
}

/* The wire */

static void look(void)
{
	static uint8_t frame[NW_MAX_FRAME];
	struct nw_header h;
	uint32_t len;

	while ((len = nw_receive(&wire, &h, frame)) > 0)
		come(frame, len, OUT);
}

static void send_in(void)
{
	static const struct nw_header plain;
	static uint8_t frame[MAX_LEN];
	uint32_t len = make(frame, IN);

	if (!nw_send(&wire, 0, &plain, frame, len))
		errx(1, "the wire takes no frame");
}

/* The load */

static void fill_up(void)
{
	bool any = false;

	while (send_out(1))
		any = true;
	if (any)
		fe_queue_kick(&fe.queues[TX]);
	while (flows[IN].n - flows[IN].last < WINDOW)
		send_in();
}

static void load_for(uint64_t us)
{
	uint64_t end = now_ns() + us * 1000;

	do {
		fill_up();
		reap();
		look();
	} while (now_ns() < end);
}

/*
 * Everything that was sent has come, or nothing does any more. 0, or -ETIMEDOUT: buffers are
 * missing.
 */
static int drain(void)
{
	uint64_t n = 0, end = now_ns() + QUIET_MS * NS_PER_MS;

	while (now_ns() < end) {
		reap();
		look();
		if (n != flows[IN].n_come + flows[OUT].n_come)
			end = now_ns() + QUIET_MS * NS_PER_MS;
		n = flows[IN].n_come + flows[OUT].n_come;
		usleep(100);
	}
	return fe_queue_outstanding(&fe.queues[TX]) ? -ETIMEDOUT : 0;
}

/* Kills */

static bool driver_has(void)
{
	struct fe_queue *q = &fe.queues[RX];

	fe_queue_drain_call(q);
	return fe_queue_arm(q);
}

/* Sleeps until frames have come both ways; when each has. 0 or -ETIMEDOUT. */
static int await_both(uint64_t *ret_ns)
{
	uint64_t n_out = flows[OUT].n_come;
	struct pollfd p[N_WAYS] = { { .fd = wire.out, .events = POLLIN },
				    { .fd = fe.queues[RX].call, .events = POLLIN } };

	ret_ns[OUT] = ret_ns[IN] = 0;
	for (;;) {
		if (!ret_ns[IN] && driver_has()) {
			ret_ns[IN] = now_ns();
			p[IN].fd = -1;
		}
		look();
		if (!ret_ns[OUT] && flows[OUT].n_come > n_out) {
			ret_ns[OUT] = now_ns();
			p[OUT].fd = -1;
		}
		if (ret_ns[IN] && ret_ns[OUT])
			return 0;
		if (poll(p, N_WAYS, RECOVERY_MS) == 0) {
			fprintf(stderr, "nothing more comes %s\n",
				way_names[ret_ns[OUT] ? IN : OUT]);
			return -ETIMEDOUT;
		}
	}
}

/* Frames that nobody but the next worker can pass on. */
static void add_one_each(void)
{
	reap();
	look();
	if (send_out(0)) {
		fe_queue_publish(&fe.queues[TX]);
		fe_queue_kick_always(&fe.queues[TX]);
	}
	send_in();
}

static int kill_once(void)
{
	static pid_t last;
	struct dying dying;
	uint64_t begin, spin, ns[N_WAYS];
	int r;

	last = backend_worker_await(backend.pid, last, 2000);
	if (last <= 0)
		return -ECHILD;
	dying_open(&dying, last);
	fill_up();
	spin = now_ns() + fill_below(&chance, SPIN_MAX_US * 1000);
	while (now_ns() < spin)
		;
	begin = now_ns();
	if (kill(last, SIGKILL) < 0)
		return -errno;
	dying_await(&dying);
	add_one_each();
	r = await_both(ns);
	if (r < 0)
		return r;
	for (enum way w = OUT; w < N_WAYS; w++)
		took_ms[w][n_kills] = (double)(ns[w] - begin) / 1e6;
	both_ms[n_kills] = took_ms[OUT][n_kills] > took_ms[IN][n_kills] ? took_ms[OUT][n_kills]
									: took_ms[IN][n_kills];
	n_kills++;
	return 0;
}

/*
 * What was in flight at the death has been given back: a second death over the same frames may lose
 * them.
 */
static int settle(void)
{
	uint16_t told = fe.queues[TX].avail_idx;
	uint64_t end = now_ns() + RECOVERY_MS * NS_PER_MS;

	while ((int16_t)(uint16_t)(fe.queues[TX].last_used - told) < 0) {
		if (now_ns() > end)
			return -ETIMEDOUT;
		load_for(0);
	}
	return 0;
}

static int kills(void)
{
	int r = 0;

	while (n_kills < o.n_wanted && r == 0) {
		load_for(fill_below(&chance, LOAD_MAX_US));
		r = kill_once();
		if (r == 0)
			r = settle();
		if (backend_n_children(backend.pid) > MAX_CHILDREN)
			complain(&n_errors, "dead workers are not reaped", OUT, flows[OUT].n);
	}
	return r ? r : drain();
}

/* The verdict */

struct count {
	unsigned lost, repeated;
};

static struct count count(enum way way)
{
	struct count c = { 0 };

	for (uint32_t i = 0; i < flows[way].n; i++) {
		c.lost += flows[way].times[i] == 0;
		c.repeated += flows[way].times[i] > 1;
	}
	return c;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void show_times(const char *what, double *ms)
{
	qsort(ms, n_kills, sizeof(*ms), by_size);
	if (n_kills > 0)
		printf("%s p50 %.3f ms, p99 %.3f ms, max %.3f ms\n", what,
		       ms[(unsigned)(0.5 * (n_kills - 1) + 0.5)],
		       ms[(unsigned)(0.99 * (n_kills - 1) + 0.5)], ms[n_kills - 1]);
}

static double of(const double *sorted, double p)
{
	return n_kills ? sorted[(unsigned)(p * (n_kills - 1) + 0.5)] : 0;
}

static bool judge(int r)
{
	struct count out = count(OUT), in = count(IN);
	bool gone = fe_gone(&fe);
	unsigned bogus = (unsigned)(fe.queues[RX].n_bogus + fe.queues[TX].n_bogus);

	if (r < 0)
		fprintf(stderr, "after %u kills: %s\n", n_kills, strerror(-r));
	n_errors += out.lost + (in.lost > n_kills ? in.lost - n_kills : 0) + bogus +
		    (in.repeated > n_kills ? in.repeated - n_kills : 0) + (r < 0);
	show_times("first frame to the wire:  ", took_ms[OUT]);
	show_times("first frame to the driver:", took_ms[IN]);
	show_times("both:                     ", both_ms);
	printf("%u kills; to the wire %u frames, %u lost, %u repeated; to the driver %u frames, %u "
	       "lost, %u repeated\n",
	       n_kills, flows[OUT].n, out.lost, out.repeated, flows[IN].n, in.lost, in.repeated);
	if (o.json)
		printf("{\"kills\":%u,\"errors\":%u,\"mismatches\":%u,\"connections\":%u,"
		       "\"recovery_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f},\"frames\":%u,"
		       "\"lost_out\":%u,\"repeated_out\":%u,\"lost_in\":%u,\"repeated_in\":%u}\n",
		       n_kills, n_errors, n_mismatches, gone ? 0 : 1, of(both_ms, 0.5),
		       of(both_ms, 0.99), of(both_ms, 1), flows[OUT].n + flows[IN].n, out.lost,
		       out.repeated, in.lost, in.repeated);
	return n_errors == 0 && n_mismatches == 0 && !gone;
}

static void start(void)
{
	const char *args[NW_ARGS + 4] = { "--mtu=9000", "--restart-limit=1000000",
					  "--restart-backoff=1" };
	const struct backend_spec spec = { .program = o.program, .net = true, .args = args };
	const struct fe_spec session = { .n_queues = 2, .queue_size = QUEUE_SIZE };
	int r;

	nw_prepare(&wire, false);
	memcpy(args + 3, wire.args, sizeof(wire.args));
	r = backend_start(&backend, &spec);
	if (r == 0)
		r = nw_open_tap(&wire, MTU);
	if (r == 0)
		r = fe_begin(&fe, backend.socket, &session);
	if (r < 0)
		errx(1, "%s does not start: %s", o.program, strerror(-r));
	for (unsigned i = 0; i < N_BUFFERS; i++)
		post(fe_memory_alloc(&fe.mem, BUFFER_LEN, 64));
	fe_queue_publish(&fe.queues[RX]);
	fe_queue_kick_always(&fe.queues[RX]);
	for (unsigned i = 0; i < N_SLOTS; i++)
		slots[i] = fe_memory_alloc(&fe.mem, HDR + MAX_LEN, 64);
}

static void *room(size_t n, size_t size)
{
	void *p = calloc(n + 1, size);

	return p ? p : (err(1, "memory"), NULL);
}

static void parse(int argc, char **argv)
{
	static const struct option table[] = {
		{ "program", required_argument, NULL, 'p' },
		{ "kills", required_argument, NULL, 'k' },
		{ "seed", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 },
	};

	for (int c; (c = getopt_long(argc, argv, "", table, NULL)) >= 0;) {
		if (c == 'p')
			o.program = optarg;
		else if (c == 'k')
			o.n_wanted = (unsigned)atoi(optarg);
		else if (c == 's')
			o.seed = strtoull(optarg, NULL, 0);
		else if (c == 'j')
			o.json = true;
		else
			o.program = NULL, optind = argc + 1;
	}
	if (!o.program || optind != argc)
		errx(2, "usage: frontend-net-kill --program=PATH [--kills=N] [--seed=S] [--json]");
}

int main(int argc, char **argv)
{
	bool good;

	parse(argc, argv);
	if (!nw_isolate()) {
		puts("SKIP: no network namespace, or no /dev/net/tun");
		return 77;
	}
	chance.state = o.seed;
	for (enum way w = OUT; w < N_WAYS; w++) {
		took_ms[w] = room(o.n_wanted, sizeof(double));
		flows[w].times = room(MAX_FRAMES, 1);
	}
	both_ms = room(o.n_wanted, sizeof(double));
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_TIMERSLACK, 1ul);
	start();
	good = judge(kills());
	if (!good)
		backend_show_log(&backend);
	fe_close(&fe);
	nw_close(&wire);
	backend_done(&backend);
	return good ? 0 : 1;
}
