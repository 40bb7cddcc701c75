/*
 * frontend-crash: the worker dies at each named step, and nothing is to be seen of it.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says, but its log for
 *whether the crash point was passed.
 *
 *	frontend-crash --program=vmdev-blk-crash [--counts=1,2,20] [NAME…]
 *
 * The program kills its own worker with SIGKILL when it passes CRASH_POINT("NAME") for the COUNTth
 *time (environment VMDEV_CRASH_AT=NAME:COUNT), and prints all names with --list-crash-points. For
 *each name and count the same script runs: two sessions, a load, every kind of control message
 *under that load, the rings stopped and started again. In all of it, every request is answered
 *exactly once, the data are what the model says, every message gets exactly its own reply, and no
 *connection is lost.
 *
 * Then once more with a kill from outside before it, for the steps of recovery itself: a worker
 *that dies while it takes over from a dead one.
 *
 * A name that is never passed at count 1 fails the test: it would be a step that nobody has tried.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/load.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MAX_NAMES = 128,
	MAX_COUNTS = 8,
	AREA_LEN = 8 << 20,
	TIMEOUT_S = 60,
};

/* What the script runs on. */
struct script {
	const char *socket;
	pid_t kill_too; /* a keeper whose worker the script kills once, or 0 */
	struct fe fe;
	struct load load;
};

static void must(struct script *s, const char *step, int r)
{
	if (r == 0)
		return;
	fprintf(stderr, "    %s: %d (%s)\n", step, r, r < 0 ? strerror(-r) : "?");
	_exit(1);
}

#define MUST(call) must(s, #call, call)

static void session_begin(struct script *s, bool with_options)
{
	struct fe_spec spec = { .n_queues = 2, .inflight = with_options, .slots = with_options };
	struct load_spec ls = { .depth = 16, .area_len = AREA_LEN, .seed = 5 };

	MUST(fe_begin(&s->fe, s->socket, &spec));
	MUST(load_init(&s->load, &s->fe, &ls));
}

static void session_end(struct script *s)
{
	unsigned k;

	MUST(load_drain(&s->load));
	MUST(load_verify(&s->load));
	usleep(2000);
	load_reap(&s->load);
	must(s, "requests with an error", -(int)(s->load.n_errors != 0));
	must(s, "blocks that are wrong", -(int)(s->load.n_mismatches != 0));
	for (k = 0; k < s->fe.n_queues; k++) {
		must(s, "answers to nothing", -(int)(s->fe.queues[k].n_bogus != 0));
		must(s, "requests forgotten", -(int)(fe_queue_outstanding(&s->fe.queues[k]) != 0));
	}
	must(s, "connection lost", -(int)fe_gone(&s->fe));
	fe_close(&s->fe);
	load_done(&s->load);
}

/* A reply too many would be taken for the answer to the next question. */
static void no_reply_left(struct script *s)
{
	char c;

	usleep(1000);
	if (recv(s->fe.fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
		must(s, "a reply that nobody asked for", -EBADMSG);
}

static void config_messages(struct script *s)
{
	const uint32_t at = offsetof(struct virtio_blk_config, wce);
	uint8_t bytes[FE_BLK_CONFIG_LEN], off = 0, on = 1, v = 9;
	uint64_t n;

	MUST(fe_get_config(&s->fe, 0, sizeof(bytes), bytes));
	MUST(fe_set_config(&s->fe, at, 1, &off));
	MUST(fe_get_config(&s->fe, at, 1, &v));
	must(s, "wce is off", v != 0);
	MUST(fe_set_config(&s->fe, at, 1, &on));
	MUST(fe_get_config(&s->fe, at, 1, &v));
	must(s, "wce is on", v != 1);
	MUST(fe_ask(&s->fe, FE_GET_QUEUE_NUM, NULL, 0, &n));
	must(s, "queue number", n != 2);
	MUST(fe_do_u64(&s->fe, FE_SET_STATUS, 0xf, -1));
	MUST(fe_ask(&s->fe, FE_GET_STATUS, NULL, 0, &n));
	must(s, "status", n != 0xf);
}

static void memory_messages(struct script *s)
{
	struct fe_region like = { .guest.v = UINT64_C(1) << 40,
				  .user.v = UINT64_C(1) << 41,
				  .len = 1 << 20 };
	int i;

	i = fe_memory_add(&s->fe.mem, &like, false);
	must(s, "memory", i < 0);
	MUST(fe_slot_add(&s->fe, &s->fe.mem.regions[i]));
	MUST(load_run(&s->load, 30));
	MUST(fe_slot_remove(&s->fe, &s->fe.mem.regions[i]));
	fe_memory_remove(&s->fe.mem, (unsigned)i);
}

static void ring_messages(struct script *s)
{
	struct fe_queue *q = &s->fe.queues[1];

	MUST(fe_do_u64(&s->fe, FE_SET_VRING_CALL, 1, q->call));
	MUST(fe_do_u64(&s->fe, FE_SET_VRING_ERR, 1, q->err));
	MUST(fe_queue_enable(&s->fe, q, false));
	MUST(fe_queue_enable(&s->fe, q, true));
	fe_queue_kick_always(q);
	MUST(load_run(&s->load, 30));
}

static void log_messages(struct script *s)
{
	MUST(fe_log_start(&s->fe, 1 << 17));
	MUST(fe_log_vring(&s->fe, &s->fe.queues[0], true));
	MUST(load_run(&s->load, 60));
	MUST(fe_log_vring(&s->fe, &s->fe.queues[0], false));
	MUST(fe_do_u64(&s->fe, FE_SET_FEATURES, s->fe.features & ~FE_F_LOG_ALL, -1));
}

/* With requests in flight: what was taken is answered when the base comes back. */
static void stop_and_start(struct script *s)
{
	uint16_t base;
	unsigned k;

	load_submit(&s->load);
	for (k = 0; k < 2; k++) {
		struct fe_queue *q = &s->fe.queues[k];

		MUST(fe_queue_stop(&s->fe, q, &base));
		must(s, "base is not used.idx", base != q->used->idx);
		MUST(fe_queue_start(&s->fe, q, base));
		MUST(fe_queue_enable(&s->fe, q, true));
		fe_queue_kick_always(q);
	}
}

static void reset(struct script *s)
{
	unsigned k;

	MUST(load_drain(&s->load));
	MUST(fe_do(&s->fe, &(struct fe_out){ .request = FE_RESET_DEVICE }));
	MUST(fe_do_u64(&s->fe, FE_SET_FEATURES, s->fe.features & ~FE_F_LOG_ALL, -1));
	for (k = 0; k < 2; k++) {
		fe_queue_rewind(&s->fe.queues[k]);
		MUST(fe_queue_start(&s->fe, &s->fe.queues[k], 0));
		MUST(fe_queue_enable(&s->fe, &s->fe.queues[k], true));
	}
}

/* For the steps that only a successor takes: somebody has to die before they are reached. */
static void kill_in_full_flight(struct script *s)
{
	pid_t worker = s->kill_too ? backend_worker_await(s->kill_too, 0, 2000) : 0;

	if (!s->kill_too)
		return;
	must(s, "no worker", !worker);
	load_submit(&s->load);
	kill(worker, SIGKILL);
}

static void script_run(struct script *s)
{
	/* A session that says little, as UML does, and ends in full flight. */
	session_begin(s, false);
	MUST(load_run(&s->load, 100));
	fe_close(&s->fe);
	load_done(&s->load);

	session_begin(s, true);
	MUST(load_run(&s->load, 150));
	load_submit(&s->load);
	config_messages(s);
	kill_in_full_flight(s);
	MUST(load_run(&s->load, 50));
	memory_messages(s);
	ring_messages(s);
	log_messages(s);
	stop_and_start(s);
	MUST(load_run(&s->load, 50));
	no_reply_left(s);
	reset(s);
	MUST(load_run(&s->load, 100));
	no_reply_left(s);
	session_end(s);

	session_begin(s, false);
	MUST(load_run(&s->load, 50));
	session_end(s);
}

static unsigned count_deaths(const struct backend *b)
{
	char line[512];
	unsigned n = 0;
	FILE *f = fopen(b->log, "re");

	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "was killed from outside") != NULL;
	if (f)
		fclose(f);
	return n;
}

struct trial {
	const char *program, *name;
	unsigned count;
	const char *cache;
	bool no_io_uring, kill_too;
};

enum verdict {
	NOT_REACHED,
	SURVIVED,
	FAILED,
};

static int script_in_child(const struct backend *b, const struct trial *t)
{
	static struct script script;
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(TIMEOUT_S);
		script.socket = b->socket;
		script.kill_too = t->kill_too ? b->pid : 0;
		script_run(&script);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(1, "fork");
	return status;
}

static enum verdict trial_run(const struct trial *t)
{
	const char *args[] = { t->no_io_uring ? "--no-io-uring" : NULL, NULL };
	char point[128];
	const char *env[] = { point, NULL };
	struct backend_spec spec = { .program = t->program,
				     .image_len = AREA_LEN,
				     .n_queues = 2,
				     .cache = t->cache,
				     .args = args,
				     .env = env };
	enum verdict verdict;
	struct backend b;
	int status, r;

	snprintf(point, sizeof(point), "VMDEV_CRASH_AT=%s:%u", t->name, t->count);
	r = backend_start(&b, &spec);
	if (r < 0)
		errx(1, "%s does not start: %s", t->program, strerror(-r));
	status = script_in_child(&b, t);
	verdict = count_deaths(&b) > t->kill_too ? SURVIVED : NOT_REACHED;
	if (status != 0 || !backend_alive(&b)) {
		verdict = FAILED;
		fprintf(stderr, "  %s at %u: %s 0x%x\n", t->name, t->count,
			backend_alive(&b) ? "the script failed" : "the keeper is gone", status);
		backend_show_log(&b);
	}
	backend_done(&b);
	return verdict;
}

struct totals {
	unsigned n_trials, n_survived, n_failed, n_unreached;
};

/* Once per count; each way has steps of its own: io_uring, no io_uring, a successor's recovery. */
static void name_run(struct trial t, const unsigned *counts, unsigned n_counts, struct totals *sum)
{
	enum verdict v;
	bool reached = false;
	unsigned i, way, failed = sum->n_failed;

	for (way = 0; way < 3; way++)
		for (i = 0; i < n_counts; i++) {
			t.count = counts[i];
			t.no_io_uring = way == 1;
			t.kill_too = way == 2;
			t.cache = i % 2 ? "none" : "writeback";
			v = trial_run(&t);
			sum->n_trials++;
			sum->n_survived += v == SURVIVED;
			sum->n_failed += v == FAILED;
			reached |= v != NOT_REACHED;
			if (v == NOT_REACHED)
				break; /* nor will it be at a higher count */
		}
	if (!reached) {
		fprintf(stderr, "  %s is never passed\n", t.name);
		sum->n_unreached++;
	}
	printf("%-32s %s\n", t.name,
	       !reached			? "NOT REACHED"
	       : sum->n_failed > failed ? "FAILED"
					: "ok");
}

static unsigned names_list(const char *program, char *text, size_t len, char **names)
{
	unsigned n = 0;
	char *line, *save;

	if (backend_run(program, (const char *const[]){ "--list-crash-points", NULL }, text, len) !=
	    0)
		errx(1, "%s does not list its crash points", program);
	for (line = strtok_r(text, "\n", &save); line && n < MAX_NAMES;
	     line = strtok_r(NULL, "\n", &save))
		names[n++] = line;
	if (n == 0)
		errx(1, "%s has no crash points", program);
	return n;
}

static unsigned counts_parse(char *text, unsigned *counts)
{
	unsigned n = 0;
	char *at, *save;

	for (at = strtok_r(text, ",", &save); at && n < MAX_COUNTS; at = strtok_r(NULL, ",", &save))
		counts[n++] = (unsigned)atoi(at);
	return n;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "program", required_argument, NULL, 'p' },
						 { "counts", required_argument, NULL, 'c' },
						 {} };
	unsigned counts[MAX_COUNTS] = { 1, 2, 20 }, n_counts = 3, n, i;
	static char text[16384];
	char *names[MAX_NAMES];
	struct trial trial = {};
	struct totals sum = {};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		if (c == 'p')
			trial.program = optarg;
		else if (c == 'c')
			n_counts = counts_parse(optarg, counts);
		else
			return 2;
	if (!trial.program || n_counts == 0)
		errx(2, "usage: frontend-crash --program=PATH [--counts=N,N…] [NAME…]");
	setvbuf(stdout, NULL, _IOLBF, 0);
	n = optind < argc ? 0 : names_list(trial.program, text, sizeof(text), names);
	for (; optind < argc && n < MAX_NAMES; optind++)
		names[n++] = argv[optind];
	for (i = 0; i < n; i++) {
		trial.name = names[i];
		name_run(trial, counts, n_counts, &sum);
	}
	printf("%u crash points, %u runs, %u crashes survived, %u failed, %u points never passed\n",
	       n, sum.n_trials, sum.n_survived, sum.n_failed, sum.n_unreached);
	return sum.n_failed || sum.n_unreached;
}
