/*
 * frontend-vsock-kill: the worker of a vsock device is killed from outside, again and again, under 64 streams both ways.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says.
 *
 *	frontend-vsock-kill --program=vmdev-vsock [--kills=N] [--streams=N] [--seed=S] [--json]
 *
 * Each stream moves bytes that are known in advance, in both directions at once; a quarter are messages; half were begun by the host. When
 * one has ended, as it has to, another begins. Measured is the time from a kill to the answer of a packet that was sent right after it. A
 * connection that is reset ends the test: "resets" in the result is what the back-end's log says it has reset.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/fill.h"
#include "tests/frontend/vsock-script.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MAX_KILLS = 100000,
	MAX_PAUSE_NS = 20000000, /* between a recovery and the next kill */
	STREAM_LEN = 3000000,
};

/* Shared with the child that runs the script, and may fail. */
static struct result {
	unsigned n_kills, n_wanted, n_streams;
	uint64_t n_bytes;
	uint32_t time_us[MAX_KILLS];
} * result;

static struct fill_random chance;
static pid_t keeper, last_worker;
static uint64_t next_kill_ns;

static void kill_now_and_then(struct vs_script *s)
{
	uint64_t ns;

	result->n_bytes = s->n_bytes;
	if (vs_now_ns() < next_kill_ns || result->n_kills >= result->n_wanted || s->n_bytes == 0)
		return;
	last_worker = backend_worker_await(keeper, last_worker, 5000);
	ns = last_worker > 0 ? vs_kill(s, last_worker) : 0;
	if (ns == 0)
		vd_fail("there is no worker to kill");
	result->time_us[result->n_kills++] = (uint32_t)(ns / 1000);
	next_kill_ns = vs_now_ns() + fill_below(&chance, MAX_PAUSE_NS);
}

static void run(struct vs_script *s, unsigned n_streams)
{
	unsigned n = 0;

	s->meanwhile = kill_now_and_then;
	vs_begin(s, 128);
	s->deadline_ns = vs_now_ns() + UINT64_C(40000000000);
	while (result->n_kills < result->n_wanted) {
		unsigned used = 0;

		for (unsigned i = 0; i < VS_STREAMS; i++)
			used += s->streams[i].used;
		for (; used < n_streams; used++, n++)
			vs_add(s, n & 1, n % 4 == 3,
			       STREAM_LEN / 2 + fill_below(&chance, STREAM_LEN));
		vs_turn(s);
	}
	vs_run(s);
	vs_end(s);
	result->n_streams = n;
}

static int run_in_child(const struct backend *b, unsigned n_streams)
{
	static struct vs_script s;
	int status;
	pid_t pid;

	s.socket = b->socket;
	s.uds = b->uds;
	keeper = b->pid;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(&s, n_streams);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(1, "fork");
	return status;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double percentile_ms(double p)
{
	unsigned n = result->n_kills;

	return n ? result->time_us[(unsigned)(p * (n - 1))] / 1000.0 : 0;
}

static void report(const struct backend *b, bool json, int status, uint64_t seed)
{
	int errors = status != 0;
	bool reset = backend_log_has(b, ": reset");

	qsort(result->time_us, result->n_kills, sizeof(result->time_us[0]), compare);
	if (!json)
		printf("%u kills, %u streams, %lu bytes, seed %lu: %s; %.2f ms median, %.2f p99, "
		       "%.2f at "
		       "most\n",
		       result->n_kills, result->n_streams, (unsigned long)result->n_bytes,
		       (unsigned long)seed, errors ? "FAILED" : "each byte once",
		       percentile_ms(0.5), percentile_ms(0.99), percentile_ms(1));
	else
		printf("{\"kills\": %u, \"errors\": %d, \"mismatches\": %d, \"connections\": 1, "
		       "\"streams\": %u, \"bytes\": %lu, \"resets\": %d, "
		       "\"recovery_ms\": {\"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}}\n",
		       result->n_kills, errors, errors, result->n_streams,
		       (unsigned long)result->n_bytes, reset, percentile_ms(0.5),
		       percentile_ms(0.99), percentile_ms(1));
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "program", required_argument, NULL, 'p' },
						 { "kills", required_argument, NULL, 'k' },
						 { "streams", required_argument, NULL, 'n' },
						 { "seed", required_argument, NULL, 's' },
						 { "json", no_argument, NULL, 'j' },
						 {} };
	static const char *const args[] = { "--restart-limit=1000000", "--restart-backoff=1",
					    NULL };
	struct backend_spec spec = { .cid = VD_CID, .args = args };
	unsigned n_kills = 300, n_streams = 64;
	uint64_t seed = 1;
	struct backend b;
	bool json = false;
	int c, r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		if (c == 'p')
			spec.program = optarg;
		else if (c == 'k')
			n_kills = (unsigned)atoi(optarg);
		else if (c == 'n')
			n_streams = (unsigned)atoi(optarg);
		else if (c == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (c == 'j')
			json = true;
		else
			return 2;
	if (!spec.program || n_kills > MAX_KILLS || n_streams < 1 || n_streams > VS_STREAMS)
		errx(2, "usage: frontend-vsock-kill --program=PATH [--kills=N] [--streams=N] "
			"[--seed=S] "
			"[--json]");
	result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (result == MAP_FAILED)
		err(1, "mmap");
	result->n_wanted = n_kills;
	chance.state = seed;
	r = backend_start(&b, &spec);
	if (r < 0)
		errx(1, "%s does not start: %s", spec.program, strerror(-r));
	r = run_in_child(&b, n_streams);
	if (r || !backend_alive(&b))
		backend_show_log(&b);
	report(&b, json, r, seed);
	backend_done(&b);
	return r != 0;
}
