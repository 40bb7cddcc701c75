/*
 * frontend-kill: SIGKILL for the worker, again and again, under a verified load.
 *
 * Runs in: a test program of its own, as root when the device is vmdevd's. Trusts: nothing that the
 * back-end says.
 *
 * Between two kills the load (load.h: two queues, 32 requests deep, reads, writes, flushes,
 * discards, zeroes) runs for a random while. A kill comes at a random moment after a submission.
 * The recovery time is taken from just before kill() to the first request that the *next* worker
 * completes:
 *
 *  - The dying worker may publish completions for some microseconds after kill() has returned, and
 *    those must not count: the used indices are read only once every thread of it is in do_exit()
 *    (dying.h); between two looks the front-end sleeps.
 *  - Then the front-end blocks on the call eventfds, as a guest's vCPU would sleep, with used_event
 *    at those indices. Spinning on the rings would save the wake-up (some 10 µs, which stay in the
 *    figure), but would take one of two CPUs from the keeper, the next worker and the teardown of
 *    the last one.
 *
 * With --touch every page of guest memory is read into before each kill, through the worker, so
 * that the worker has a populated map of all of it when it dies; a fresh worker has touched nothing
 * yet.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/dying.h"
#include "tests/frontend/load.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define RECOVERY_MS 15000

enum {
	DEPTH = 32,
	TOUCH_SEGS = 120,
};

struct options {
	const char *program, *socket, *device, *vmdevctl, *cache, *image;
	unsigned kills, queues;
	uint64_t seed, memory, area;
	bool touch, huge, json, in_flight;
};

struct run {
	struct options o;
	struct backend backend;
	pid_t keeper, killed;
	struct fe fe;
	struct load load;
	struct fill_random random;
	double *recovery_ms;
	double *dying_ms; /* of that, until the last thread had begun to exit */
	unsigned n_kills, n_forgotten, n_late;
	bool gone;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void spin_until(uint64_t ns)
{
	while (now_ns() < ns)
		;
}

/* Blocks until a ring's used index has left what it was. 0, or -ETIMEDOUT. */
static int await_progress(struct run *run, const uint16_t *was)
{
	struct pollfd p[FE_MAX_QUEUES];
	unsigned k, n = run->fe.n_queues;

	for (k = 0; k < n; k++) {
		struct fe_queue *q = &run->fe.queues[k];

		if (q->event_idx)
			__atomic_store_n(&q->avail->ring[q->size], was[k], __ATOMIC_SEQ_CST);
		else
			__atomic_store_n(&q->avail->flags, 0, __ATOMIC_SEQ_CST);
		p[k] = (struct pollfd){ .fd = q->call, .events = POLLIN };
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (;;) {
		for (k = 0; k < n; k++)
			if (__atomic_load_n(&run->fe.queues[k].used->idx, __ATOMIC_ACQUIRE) !=
			    was[k])
				return 0;
		if (poll(p, n, RECOVERY_MS) == 0)
			return -ETIMEDOUT;
		for (k = 0; k < n; k++)
			if (p[k].revents)
				fe_queue_drain_call(&run->fe.queues[k]);
	}
}

static unsigned snapshot(struct run *run, uint16_t *ret_used)
{
	unsigned k, in_flight = 0;

	for (k = 0; k < run->fe.n_queues; k++) {
		struct fe_queue *q = &run->fe.queues[k];

		ret_used[k] = __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE);
		in_flight += (uint16_t)(q->avail_idx - ret_used[k]);
	}
	return in_flight;
}

static int kill_once(struct run *run, double *ret_ms, double *ret_dying_ms)
{
	uint16_t used[FE_MAX_QUEUES];
	struct dying dying;
	uint64_t start;
	pid_t worker;
	int r;

	worker = backend_worker_await(run->keeper, run->killed, 2000);
	if (!worker)
		return -ECHILD;
	dying_open(&dying, worker);
	load_reap(&run->load);
	load_submit(&run->load);
	spin_until(now_ns() + fill_below(&run->random, 200000));
	run->killed = worker;
	start = now_ns();
	if (kill(worker, SIGKILL) < 0)
		return -errno;
	dying_await(&dying);
	*ret_dying_ms = (double)(now_ns() - start) / 1e6;
	if (snapshot(run, used) == 0) {
		/* It had answered everything before it died: there must be something to wait for.
		 */
		run->n_late++;
		load_reap(&run->load);
		load_submit(&run->load);
	}
	r = await_progress(run, used);
	*ret_ms = (double)(now_ns() - start) / 1e6;
	return r;
}

/* TOUCH_SEGS pages from *at on, one sector each. False: there are none left. */
static bool touch_some(struct run *run, unsigned k, uint64_t *at)
{
	struct fe_region *m = &run->fe.mem.regions[0];
	struct fe_queue *q = &run->fe.queues[k];
	struct fe_sg sg[TOUCH_SEGS];
	struct fe_blk_op op = { .type = VIRTIO_BLK_T_IN, .data = sg, .indirect = q->indirect };

	for (; op.n_data < TOUCH_SEGS && *at < m->len; *at += 4096)
		sg[op.n_data++] = (struct fe_sg){ m->map + *at, 512 };
	if (op.n_data > 0 && fe_blk_add(q, &run->load.slots[k * DEPTH].b, &op) < 0)
		errx(99, "test bug: no room in the ring");
	if (op.n_data > 0)
		fe_queue_kick(q);
	return op.n_data > 0;
}

/* A read into every page, of each queue at the same time. */
static void touch_all(struct run *run)
{
	struct fe_region *m = &run->fe.mem.regions[0];
	uint64_t at = (m->used + 4095) & ~UINT64_C(4095);
	unsigned k, n;

	do {
		for (n = 0; n < run->fe.n_queues && touch_some(run, n, &at); n++)
			;
		for (k = 0; k < n; k++)
			if (fe_blk_wait(&run->fe.queues[k], &run->load.slots[k * DEPTH].b, 10000) !=
			    VIRTIO_BLK_S_OK)
				errx(1, "touching guest memory failed");
	} while (n > 0);
}

static int compare_ms(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double percentile_of(const struct run *run, const double *sorted, double p)
{
	unsigned i = (unsigned)(p * (run->n_kills - 1) + 0.5);

	return run->n_kills ? sorted[i] : 0;
}

static double percentile(const struct run *run, double p)
{
	return percentile_of(run, run->recovery_ms, p);
}

static int kills(struct run *run)
{
	int r;

	for (; run->n_kills < run->o.kills; run->n_kills++) {
		if (run->o.touch) {
			r = load_drain(&run->load);
			if (r < 0)
				return r;
			touch_all(run);
		}
		r = load_run(&run->load, 50 + fill_below(&run->random, run->o.touch ? 200 : 2000));
		if (r == 0)
			r = kill_once(run, &run->recovery_ms[run->n_kills],
				      &run->dying_ms[run->n_kills]);
		if (r < 0) {
			fprintf(stderr, "kill %u: %s\n", run->n_kills, strerror(-r));
			return r;
		}
		if (run->n_kills % 100 == 99)
			fprintf(stderr, "%u kills, %lu requests, %lu errors, %lu mismatches\n",
				run->n_kills + 1, run->load.n_completed, run->load.n_errors,
				run->load.n_mismatches);
	}
	return 0;
}

/* Everything is answered, nothing twice, the data are right and it is still the same connection. */
static int conclude(struct run *run)
{
	uint64_t features;
	unsigned k;
	int r;

	r = load_drain(&run->load);
	if (r == 0)
		r = load_verify(&run->load);
	usleep(200000);
	load_reap(&run->load);
	for (k = 0; k < run->fe.n_queues; k++) {
		run->n_forgotten += fe_queue_outstanding(&run->fe.queues[k]);
		run->load.n_errors += run->fe.queues[k].n_bogus;
	}
	run->gone = fe_gone(&run->fe) || fe_ask(&run->fe, FE_GET_FEATURES, NULL, 0, &features) < 0;
	return r;
}

static void report(struct run *run)
{
	uint64_t doubles = 0;
	unsigned k;

	qsort(run->recovery_ms, run->n_kills, sizeof(double), compare_ms);
	qsort(run->dying_ms, run->n_kills, sizeof(double), compare_ms);
	for (k = 0; k < run->fe.n_queues; k++)
		doubles += run->fe.queues[k].n_bogus;
	printf("%u kills under %lu requests; recovery p50 %.3f ms, p99 %.3f ms, max %.3f ms\n",
	       run->n_kills, run->load.n_completed, percentile(run, 0.5), percentile(run, 0.99),
	       percentile(run, 1));
	printf("of that, until the worker had begun to die: p50 %.3f ms, p99 %.3f ms\n",
	       percentile_of(run, run->dying_ms, 0.5), percentile_of(run, run->dying_ms, 0.99));
	printf("answered with an error or twice %lu (twice %lu), forgotten %u, wrong blocks %lu, "
	       "idle at "
	       "the kill %u\n",
	       run->load.n_errors, doubles, run->n_forgotten, run->load.n_mismatches, run->n_late);
	if (!run->o.json)
		return;
	printf("{\"kills\":%u,\"errors\":%lu,\"mismatches\":%lu,\"connections\":%u,"
	       "\"ios\":%lu,\"recovery_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f}}\n",
	       run->n_kills, run->load.n_errors + run->n_forgotten, run->load.n_mismatches,
	       run->gone ? 0 : 1, run->load.n_completed, percentile(run, 0.5),
	       percentile(run, 0.99), percentile(run, 1));
}

/* The keeper's pid out of `vmdevctl status DEVICE --json`. */
static pid_t keeper_of_device(const struct options *o)
{
	char command[512], text[8192], *at;
	size_t n;
	FILE *f;

	snprintf(command, sizeof(command), "%s status %s --json", o->vmdevctl, o->device);
	f = popen(command, "re");
	if (!f)
		return 0;
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	if (pclose(f) != 0)
		return 0;
	at = strstr(text, "\"keeper_pid\"");
	at = at ? strchr(at, ':') : NULL;
	return at ? (pid_t)strtol(at + 1, NULL, 10) : 0;
}

static void find_back_end(struct run *run)
{
	struct backend_spec spec = { .program = run->o.program,
				     .image_len = run->o.area,
				     .image = run->o.image,
				     .n_queues = run->o.queues,
				     .queue_size = 256,
				     .cache = run->o.cache };
	int r;

	if (run->o.socket) {
		run->keeper = keeper_of_device(&run->o);
		if (run->keeper <= 0)
			errx(1, "%s does not tell the keeper of %s", run->o.vmdevctl,
			     run->o.device);
		return;
	}
	r = backend_start(&run->backend, &spec);
	if (r < 0)
		errx(1, "%s does not start: %s", run->o.program, strerror(-r));
	run->keeper = run->backend.pid;
	run->o.socket = run->backend.socket;
}

static int run_all(struct run *run)
{
	struct fe_spec spec = { .n_queues = run->o.queues,
				.queue_size = 256,
				.memory.len = run->o.memory,
				.memory.huge = run->o.huge,
				.inflight = run->o.in_flight };
	struct load_spec ls = { .depth = DEPTH, .area_len = run->o.area, .seed = run->o.seed };
	int r;

	find_back_end(run);
	r = fe_begin(&run->fe, run->o.socket, &spec);
	if (r < 0)
		errx(1, "no session: %s", strerror(-r));
	r = load_init(&run->load, &run->fe, &ls);
	if (r == 0)
		r = kills(run);
	if (r == 0)
		r = conclude(run);
	if (r < 0) {
		fprintf(stderr, "the load stands still or fails: %s\n", strerror(-r));
		run->n_forgotten += (unsigned)(run->load.n_submitted - run->load.n_completed);
		run->gone = fe_gone(&run->fe);
		if (run->backend.pid)
			backend_show_log(&run->backend);
	}
	report(run);
	fe_close(&run->fe);
	backend_done(&run->backend);
	return r < 0 || run->load.n_errors || run->load.n_mismatches || run->n_forgotten ||
	       run->gone;
}

static uint64_t size_of(const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 10);

	v <<= *end == 'G' ? 30 : *end == 'M' ? 20 : *end == 'K' ? 10 : 0;
	return v;
}

static const struct option option_table[] = {
	{ "program", required_argument, NULL, 'p' }, { "kills", required_argument, NULL, 'k' },
	{ "seed", required_argument, NULL, 's' },    { "memory", required_argument, NULL, 'm' },
	{ "touch", no_argument, NULL, 't' },	     { "huge", no_argument, NULL, 'h' },
	{ "json", no_argument, NULL, 'j' },	     { "socket", required_argument, NULL, 'S' },
	{ "device", required_argument, NULL, 'd' },  { "vmdevctl", required_argument, NULL, 'v' },
	{ "cache", required_argument, NULL, 'c' },   { "image", required_argument, NULL, 'i' },
	{ "queues", required_argument, NULL, 'q' },  { "area", required_argument, NULL, 'a' },
	{ "inflight", no_argument, NULL, 'f' },	     {},
};

static const char usage[] =
	"usage: frontend-kill [--program=PATH [--image=FILE] [--cache=MODE] |\n"
	"                      --socket=S --device=VM/DEVICE [--vmdevctl=COMMAND]]\n"
	"                     [--kills=N] [--seed=S] [--queues=N] [--memory=SIZE] [--area=SIZE]\n"
	"                     [--touch] [--huge] [--inflight] [--json]";

static bool option_take(struct options *o, int c)
{
	switch (c) {
	case 'p':
		o->program = optarg;
		break;
	case 'k':
		o->kills = (unsigned)atoi(optarg);
		break;
	case 's':
		o->seed = strtoull(optarg, NULL, 0);
		break;
	case 'm':
		o->memory = size_of(optarg);
		break;
	case 'a':
		o->area = size_of(optarg);
		break;
	case 't':
		o->touch = true;
		break;
	case 'h':
		o->huge = true;
		break;
	case 'f':
		o->in_flight = true;
		break;
	case 'j':
		o->json = true;
		break;
	case 'S':
		o->socket = optarg;
		break;
	case 'd':
		o->device = optarg;
		break;
	case 'v':
		o->vmdevctl = optarg;
		break;
	case 'c':
		o->cache = optarg;
		break;
	case 'i':
		o->image = optarg;
		break;
	case 'q':
		o->queues = (unsigned)atoi(optarg);
		break;
	default:
		return false;
	}
	return true;
}

/* The vmdev-blk of the build directory that this program is in. */
static const char *built_program(void)
{
	static char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 64);
	int i;

	if (n <= 0)
		return NULL;
	path[n] = 0;
	for (i = 0; i < 3; i++)
		*strrchr(path, '/') = 0;
	strcat(path, "/devices/blk/vmdev-blk");
	return path;
}

int main(int argc, char **argv)
{
	static struct run run = { .o = { .kills = 100,
					 .queues = 2,
					 .seed = 1,
					 .memory = 64 << 20,
					 .area = 64 << 20,
					 .vmdevctl = "vmdevctl" } };
	int c;

	while ((c = getopt_long(argc, argv, "", option_table, NULL)) >= 0)
		if (!option_take(&run.o, c))
			errx(2, "%s", usage);
	if (!run.o.program && !run.o.socket)
		run.o.program = built_program();
	if (!run.o.program == !run.o.socket || (run.o.socket && !run.o.device) || optind != argc)
		errx(2, "%s", usage);
	run.random.state = run.o.seed;
	run.recovery_ms = calloc(run.o.kills + 1, sizeof(double));
	run.dying_ms = calloc(run.o.kills + 1, sizeof(double));
	if (!run.recovery_ms || !run.dying_ms)
		err(1, "memory");
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_TIMERSLACK, 1ul);
	return run_all(&run);
}
