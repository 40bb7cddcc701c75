/*
 * frontend-crash: the worker dies at each named step, and nothing is to be seen of it.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says, but as trial.h does.
 *
 *	frontend-crash --program=vmdev-blk-crash [--counts=1,2,20] [NAME…]
 *
 * For each name and count (trial.h) the same script runs: two sessions, a load, every kind of control message under that
 * load, the rings stopped and started again. In all of it, every request is answered exactly once, the data are what the model
 * says, every message gets exactly its own reply, and no connection is lost.
 *
 * Then once more with a kill from outside before it, for the steps of recovery itself: a worker that dies while it takes over
 * from a dead one. And once more started as vmdevd does: every session is told, and asked to stop the program ends in order,
 * whatever dies.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/contract.h"
#include "tests/frontend/load.h"
#include "tests/frontend/trial.h"

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	AREA_LEN = 8 << 20,
	SESSIONS = 3, /* in the script */
	TOLD_MS = 5000,
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

static void script_main(void *script)
{
	script_run(script);
}

/*
 * As vmdevd sees it: each session was told once, and the device stops when it is asked to, though a worker dies
 * over it.
 */
static bool contract_kept(struct backend *b)
{
	struct contract_news news = { 0 };
	int status = -1, r;

	/* Stopped before it has seen that the front-end has gone, it need not tell that. */
	for (int i = 0; i < TOLD_MS && (i == 0 || news.connected); i++) {
		contract_read(b, &news);
		usleep(1000);
	}
	r = contract_stop(b, &status);
	contract_read(b, &news);
	if (r == 0 && status == 0 && news.n_sessions == SESSIONS && !news.connected)
		return true;
	fprintf(stderr, "    %u sessions were told%s, %u deaths; stop: %d, wait status 0x%x %s\n",
		news.n_sessions, news.connected ? ", the last one's end was not" : "", news.n_died,
		r, status, news.failure);
	return false;
}

/* Each way has steps of its own. */
enum way {
	WITH_IO_URING,
	WITHOUT_IO_URING,
	AFTER_A_DEATH, /* a successor's recovery */
	FOR_VMDEVD,    /* vmdevd's messages */
	N_WAYS,
};

static enum trial_verdict run(const struct trial *t)
{
	static struct script script;
	const char *args[] = { t->way == WITHOUT_IO_URING ? "--no-io-uring" : NULL, NULL };
	const char *env[] = { t->point, NULL };
	struct backend_spec spec = { .program = t->program,
				     .image_len = AREA_LEN,
				     .n_queues = 2,
				     .cache = t->count_idx % 2 ? "none" : "writeback",
				     .args = args,
				     .env = env,
				     .contract = t->way == FOR_VMDEVD };
	bool kill_too = t->way == AFTER_A_DEATH, right;
	struct backend b;
	int status, r;

	r = backend_start(&b, &spec);
	if (r < 0)
		errx(1, "%s does not start: %s", t->program, strerror(-r));
	script = (struct script){ .socket = b.socket, .kill_too = kill_too ? b.pid : 0 };
	status = trial_in_child(script_main, &script);
	right = status == 0 && backend_alive(&b);
	if (right && t->way == FOR_VMDEVD)
		right = contract_kept(&b);
	return trial_judge(t, &b, status, right, kill_too);
}

/* A block device gives no chain back unused. */
static bool takes(const char *name)
{
	return strcmp(name, "queue.untake.one") != 0;
}

/* There is no more to be told at a higher count. */
static bool first_only(unsigned way)
{
	return way == FOR_VMDEVD;
}

int main(int argc, char **argv)
{
	static const struct trial_suite suite = {
		.usage = "frontend-crash --program=PATH [--counts=N,N…] [NAME…]",
		.counts = { 1, 2, 20 },
		.n_counts = 3,
		.n_ways = N_WAYS,
		.takes = takes,
		.first_only = first_only,
		.run = run,
	};

	return trial_main(&suite, argc, argv);
}
