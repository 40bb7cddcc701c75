/*
 * frontend-net-crash: the worker of a network device dies at each named step, and what comes of it is no more than a frame
 * lost or repeated.
 *
 * Runs in: a test program of its own, in a network namespace of its own. Trusts: nothing that the back-end says, but as
 * trial.h does.
 *
 *	frontend-net-crash --program=vmdev-net-crash [--counts=1,2,20,90] [NAME…]
 *
 * As frontend-crash (crash.c), whose scripts try what all devices have in common; here are the points of frames and rings, on
 * a tap and on a switch's port. The script (net-script.h) knows each frame. Once more with kills from outside, while received
 * frames are in the driver's buffers and not published: for the steps of recovery itself.
 */
#include "tests/frontend/net-script.h"
#include "tests/frontend/trial.h"

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum way {
	TAP,
	TAP_AFTER_DEATHS,
	PORT,
	PORT_AFTER_DEATHS,
	N_WAYS,
};

enum {
	N_KILLS = 10, /* each way */
	IN_A_ROW = 3,
	SENDING_LOOKS = 5000,  /* for a frame on the wire */
	FILLING_LOOKS = 20000, /* for a buffer that is being filled */
	LOST_ON_TAP = 1,       /* the frame in hand, which a tap does not keep */
};

static pid_t keeper, worker;
static unsigned left_in, left_out; /* kills, each way */
static unsigned *n_killed;	   /* shared with the child that runs the script */

/* A batch that is published and half cleared, and then another death, no kill from here hits: frontend-crash does. */
static bool takes(const char *name)
{
	static const char *const heads[] = { "net.", "lane.", "queue.", "inflight.", "rings." };

	if (strcmp(name, "inflight.finish.one") == 0)
		return false;
	for (unsigned i = 0; i < sizeof(heads) / sizeof(*heads); i++)
		if (strncmp(name, heads[i], strlen(heads[i])) == 0)
			return true;
	return false;
}

/* Until there is more than one frame to be received. */
static void hold_up(struct net_script *s)
{
	static pid_t last;

	worker = left_in > 0 ? backend_worker_await(keeper, last, 5000) : 0;
	if (worker > 0)
		kill(worker, SIGSTOP);
	last = worker;
}

static void kill_while_filling(struct net_script *s)
{
	if (worker <= 0)
		return;
	left_in--;
	kill(worker, SIGCONT);
	for (unsigned i = 0; i < FILLING_LOOKS && !ns_filling(s); i++)
		;
	if (kill(worker, SIGKILL) == 0)
		s->n_deaths = ++*n_killed;
}

/* Each when it has just sent something, so that some die over what others have died over. */
static void kill_in_a_row(struct net_script *s)
{
	for (unsigned i = 0; i < IN_A_ROW && left_out > 0; i++, left_out--) {
		uint64_t before = ns_look(s);

		for (unsigned k = 0; k < SENDING_LOOKS && ns_look(s) == before; k++)
			usleep(10);
		worker = backend_worker(keeper);
		if (worker > 0 && kill(worker, SIGKILL) == 0)
			s->n_deaths = ++*n_killed;
	}
}

static void script(void *arg)
{
	ns_run(arg);
}

/* forerunner: the pass of queue.pop.recorded at which another one dies before; 0: none does. */
static enum trial_verdict run_once(const struct trial *t, unsigned forerunner)
{
	char both[sizeof(t->point) + 64];
	const char *env[] = { forerunner ? both : t->point, NULL };
	const char *args[NW_ARGS + 4] = { "--mtu=9000", "--restart-limit=1000000",
					  "--restart-backoff=1" };
	bool port = t->way >= PORT,
	     deaths = t->way == TAP_AFTER_DEATHS || t->way == PORT_AFTER_DEATHS;
	struct backend_spec spec = {
		.program = t->program, .net = true, .n_queues = 2, .args = args, .env = env
	};
	static struct net_script s;
	struct net_wire wire;
	struct backend b;
	enum trial_verdict v;
	int status, r;

	snprintf(both, sizeof(both), "VMDEV_CRASH_AT=queue.pop.recorded:%u,%s:%u", forerunner,
		 t->name, t->count);
	nw_prepare(&wire, port);
	memcpy(args + 3, wire.args, sizeof(wire.args));
	r = backend_start(&b, &spec);
	if (r == 0 && !port)
		r = nw_open_tap(&wire, NS_MTU);
	if (r < 0)
		errx(1, "%s does not start: %s", t->program, strerror(-r));
	s = (struct net_script){ .socket = b.socket,
				 .wire = &wire,
				 .before = hold_up,
				 .meanwhile = kill_while_filling,
				 .meanwhile_out = kill_in_a_row,
				 .lost_each = port ? 0 : LOST_ON_TAP,
				 .most_in = port ? 1 : 2 };
	keeper = b.pid;
	left_in = left_out = deaths ? N_KILLS : 0;
	*n_killed = s.n_deaths = forerunner > 0;
	status = trial_in_child(script, &s);
	v = trial_judge(t, &b, status, status == 0 && backend_alive(&b), *n_killed);
	nw_close(&wire);
	return v;
}

/*
 * Buffers are given back untouched by the successor of one that died while it took them: at one of
 * these passes, for the driver's frames are taken by the same step.
 */
static enum trial_verdict run(const struct trial *t)
{
	static const unsigned passes[] = { 1, 2, 3, 5, 8, 13, 21, 34, 55, 89 };
	enum trial_verdict v = TRIAL_NOT_REACHED;

	if (t->way != PORT || strcmp(t->name, "queue.untake.one") != 0)
		return run_once(t, 0);
	for (unsigned i = 0; i < sizeof(passes) / sizeof(*passes) && v == TRIAL_NOT_REACHED; i++)
		v = run_once(t, passes[i]);
	return v;
}

/* Among others' deaths it comes at another moment anyway. */
static bool first_only(unsigned way)
{
	return way == TAP_AFTER_DEATHS || way == PORT_AFTER_DEATHS;
}

int main(int argc, char **argv)
{
	static const struct trial_suite suite = {
		.usage = "frontend-net-crash --program=PATH [--counts=N,N…] [NAME…]",
		.counts = { 1, 2, 20, 90 },
		.n_counts = 4,
		.n_ways = N_WAYS,
		.takes = takes,
		.first_only = first_only,
		.run = run,
	};

	if (!nw_isolate()) {
		puts("SKIP: no network namespace, or no /dev/net/tun");
		return 77;
	}
	n_killed = mmap(NULL, sizeof(*n_killed), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	if (n_killed == MAP_FAILED)
		err(1, "mmap");
	return trial_main(&suite, argc, argv);
}
