/*
 * frontend-fs-kill: the worker of a file system device is killed from outside, again and again, at any moment.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says.
 *
 *	frontend-fs-kill --program=vmdev-fs [--kills=N] [--known=N] [--seed=S] [--json]
 *
 * The scripts (fs-script-*.c), which know what every answer has to be, run over and over. Into most of their batches comes a kill, a
 * random time after the batch was sent; into some of those a second one, before the successor can have done much. Where
 * frontend-fs-crash tries each named step once, this one tries whatever lies between them.
 *
 * Measured is the time from the (last) kill to the answer of a request sent right after it, which comes after those of the batch. Known:
 * that many more inodes are looked up at the beginning of each session, and still known at its end.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/fill.h"
#include "tests/frontend/fs-script.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_KILLS = 100000,
	MAX_DELAY_NS = 300000, /* of a kill: about as long as a batch takes */
	TWICE_NS = 1500000,    /* of a second kill: about as long as a recovery takes */
	PEACE_IN = 4,	       /* one of so many batches is left alone */
	TWICE_IN = 8,	       /* one of so many kills is followed by another */
};

/* Shared with the child that runs the scripts, and may fail. */
static struct result {
	unsigned n_kills, n_wanted, n_times;
	uint32_t time_us[MAX_KILLS];
} * result;

static struct fill_random chance;
static struct fc_call probe;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Awake: a sleep would last longer than what is waited for. */
static void wait_ns(uint64_t ns)
{
	uint64_t end = now_ns() + ns;

	while (now_ns() < end)
		;
}

static void kill_worker(struct fs_script *s)
{
	pid_t worker;

	/* One that is dead, and not yet replaced, may still be there to see. */
	do {
		worker = backend_worker_await(s->keeper, 0, 5000);
		CLAIM(worker > 0);
	} while (kill(worker, SIGKILL) < 0);
	result->n_kills++;
}

/* A batch has been sent. */
static void in_full_flight(struct fs_script *s)
{
	struct fuse_getattr_in in = {};
	struct fc_op op = { .opcode = FUSE_GETATTR,
			    .nodeid = FC_ROOT,
			    .part = { { &in, sizeof(in) } },
			    .n_parts = 1,
			    .room = sizeof(struct fuse_attr_out) };
	uint64_t began;

	if (result->n_kills >= result->n_wanted || fill_below(&chance, PEACE_IN) == 0)
		return;
	wait_ns(fill_below(&chance, MAX_DELAY_NS));
	kill_worker(s);
	if (fill_below(&chance, TWICE_IN) == 0) {
		wait_ns(fill_below(&chance, TWICE_NS));
		kill_worker(s);
	}
	began = now_ns();
	fc_add(&s->c, s->c.queue, &probe, &op);
	fc_kick(&s->c, s->c.queue);
	MUST(fc_wait(&s->c, s->c.queue, &probe));
	if (result->n_times < MAX_KILLS)
		result->time_us[result->n_times++] = (uint32_t)((now_ns() - began) / 1000);
}

static void session_begun(struct fs_script *s)
{
	fc_call_init(&probe, &s->c.fe.mem);
}

static void run(const struct backend *b, unsigned n_known)
{
	static struct fs_script s;

	while (result->n_kills < result->n_wanted) {
		s = (struct fs_script){ .socket = b->socket,
					.share = b->share,
					.keeper = b->pid,
					.n_known = n_known,
					.round = s.round + 1,
					.begun = session_begun,
					.sent = in_full_flight };
		fs_script_names(&s);
		fs_script_files(&s);
	}
}

static int run_in_child(const struct backend *b, unsigned n_known)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(b, n_known);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(1, "fork");
	return status;
}

/* Empty files in a directory of the share, for the guest to know. */
static void make_known(const struct backend *b, unsigned n)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/known", b->share);
	if (mkdir(path, 0755) < 0)
		err(1, "%s", path);
	for (unsigned i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/known/%u", b->share, i);
		if (mknod(path, S_IFREG | 0644, 0) < 0)
			err(1, "%s", path);
	}
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double percentile_ms(double p)
{
	unsigned n = result->n_times;

	return n ? result->time_us[(unsigned)(p * (n - 1))] / 1000.0 : 0;
}

static void report(bool json, int status, uint64_t seed)
{
	int errors = status != 0;

	qsort(result->time_us, result->n_times, sizeof(result->time_us[0]), compare);
	if (!json)
		printf("%u kills, seed %lu: %s; %.2f ms median, %.2f p99, %.2f at most\n",
		       result->n_kills, (unsigned long)seed,
		       errors ? "FAILED" : "nothing was to be seen of them", percentile_ms(0.5),
		       percentile_ms(0.99), percentile_ms(1));
	else
		printf("{\"kills\": %u, \"errors\": %d, \"mismatches\": %d, \"connections\": 1, "
		       "\"recovery_ms\": {\"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}}\n",
		       result->n_kills, errors, errors, percentile_ms(0.5), percentile_ms(0.99),
		       percentile_ms(1));
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "program", required_argument, NULL, 'p' },
						 { "kills", required_argument, NULL, 'k' },
						 { "known", required_argument, NULL, 'n' },
						 { "seed", required_argument, NULL, 's' },
						 { "json", no_argument, NULL, 'j' },
						 {} };
	static const char *const args[] = { "--xattr", "--restart-limit=1000000",
					    "--restart-backoff=1", NULL };
	struct backend_spec spec = { .share = "", .n_queues = 1, .args = args };
	unsigned n_kills = 300, n_known = 0;
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
			n_known = (unsigned)atoi(optarg);
		else if (c == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (c == 'j')
			json = true;
		else
			return 2;
	if (!spec.program || n_kills > MAX_KILLS)
		errx(2, "usage: frontend-fs-kill --program=PATH [--kills=N] [--known=N] "
			"[--seed=S] [--json]");
	result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (result == MAP_FAILED)
		err(1, "mmap");
	result->n_wanted = n_kills;
	chance.state = seed;
	r = backend_start(&b, &spec);
	if (r < 0)
		errx(1, "%s does not start: %s", spec.program, strerror(-r));
	make_known(&b, n_known);
	r = run_in_child(&b, n_known);
	if (r || !backend_alive(&b))
		backend_show_log(&b);
	report(json, r, seed);
	backend_done(&b);
	return r != 0;
}
