/*
 * frontend-vsock-crash: the worker of a vsock device dies at each named step, and nothing is to be seen of it.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says, but as trial.h does.
 *
 *	frontend-vsock-crash --program=vmdev-vsock-crash [--counts=1,2,7,40,90] [NAME…]
 *
 * As frontend-crash (crash.c), whose scripts try what all devices have in common; here are the points whose names begin with
 * "vsock.". The script (vsock-script.c) knows each byte of each stream, at both ends, and every packet that may come. Once more with
 * kills from outside again and again, for the steps of recovery itself.
 */
#include "tests/frontend/trial.h"
#include "tests/frontend/vsock-script.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static bool takes(const char *name)
{
	return strncmp(name, "vsock.", strlen("vsock.")) == 0;
}

enum way {
	PLAIN,
	AFTER_DEATHS,
	N_WAYS,
};

enum { N_KILLS = 12, BYTES_BETWEEN = 80000 };

static pid_t keeper;
static unsigned n_kills_wanted;
static unsigned *n_killed; /* shared with the child that runs the script */

/* With bytes on their way, so that some have just been received and are not published. */
static void kill_now_and_then(struct vs_script *s)
{
	static uint64_t last_bytes;
	static pid_t last;
	pid_t worker;

	if (*n_killed >= n_kills_wanted || s->n_bytes < last_bytes + BYTES_BETWEEN)
		return;
	last_bytes = s->n_bytes;
	worker = backend_worker_await(keeper, last, 5000);
	if (worker > 0 && vs_kill(s, worker) > 0)
		++*n_killed;
	last = worker;
}

static void script(void *arg)
{
	struct vs_script *s = arg;

	s->meanwhile = kill_now_and_then;
	vs_begin(s, 64);
	vs_script(s);
	vs_end(s);
}

static enum trial_verdict run(const struct trial *t)
{
	const char *env[] = { t->point, NULL };
	const char *args[] = { "--restart-limit=1000000", "--restart-backoff=1", NULL };
	struct backend_spec spec = {
		.program = t->program, .cid = VD_CID, .args = args, .env = env
	};
	struct vs_script *s = calloc(1, sizeof(*s));
	struct backend b;
	enum trial_verdict v;
	int status, r;

	r = backend_start(&b, &spec);
	if (r < 0 || !s)
		errx(1, "%s does not start: %s", t->program, strerror(-r));
	s->socket = b.socket;
	s->uds = b.uds;
	keeper = b.pid;
	n_kills_wanted = t->way == AFTER_DEATHS ? N_KILLS : 0;
	*n_killed = 0;
	status = trial_in_child(script, s);
	v = trial_judge(t, &b, status, status == 0 && backend_alive(&b), *n_killed);
	free(s);
	return v;
}

int main(int argc, char **argv)
{
	static const struct trial_suite suite = {
		.usage = "frontend-vsock-crash --program=PATH [--counts=N,N…] [NAME…]",
		.counts = { 1, 2, 7, 40, 90 },
		.n_counts = 5,
		.n_ways = N_WAYS,
		.takes = takes,
		.run = run,
	};

	n_killed = mmap(NULL, sizeof(*n_killed), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	if (n_killed == MAP_FAILED)
		err(1, "mmap");
	return trial_main(&suite, argc, argv);
}
