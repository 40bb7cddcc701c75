/*
 * The runner of claims.
 *
 * Runs in: test programs. Trusts: the claims.
 *
 * Every claim is a child process, so that one that dies or hangs takes no other with it; the
 * back-end is a child of the runner and serves one session after the other, which is a claim of its
 * own.
 */
#include "tests/frontend/claim.h"

#include <err.h>
#include <getopt.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLAIM_TIMEOUT_S 120
#define WHY_LEN		128

/* Shared with the claim's process: why it is left out. */
static char *skip_why;

void claim_skip(const char *why)
{
	(void)snprintf(skip_why, WHY_LEN, "%s", why);
	fflush(stdout);
	_exit(CLAIM_SKIPPED);
}

void claim_begin(struct claim_context *x, const struct fe_spec *spec)
{
	expect_ok(fe_begin(&x->fe, x->backend.socket, spec));
	fe_blk_init(&x->b, &x->fe.mem);
}

static void claim_child(const struct claim *claim, struct claim_context *x)
{
	unsigned i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(CLAIM_TIMEOUT_S);
	claim->run(x);
	for (i = 0; i < x->fe.n_queues; i++)
		expect(x->fe.queues[i].n_bogus == 0,
		       "queue %u: %lu answers to nothing, or a second answer", i,
		       x->fe.queues[i].n_bogus);
	fflush(stdout);
	_exit(0);
}

static int claim_run(const struct claim *claim, struct claim_context *x)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		claim_child(claim, x);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(1, "%s", claim->name);
	if (WIFSIGNALED(status))
		fprintf(stderr, "#   the claim ended by signal %d (%s)\n", WTERMSIG(status),
			WTERMSIG(status) == SIGALRM ? "timeout" : "crash");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void backend_for(const struct claim *claim, struct claim_context *x)
{
	static struct backend_spec spec;
	int r;

	if (x->spec == claim->spec && (!x->spec || backend_alive(&x->backend)))
		return;
	backend_done(&x->backend);
	x->spec = claim->spec;
	if (!x->spec)
		return;
	spec = *claim->spec;
	spec.program = x->program;
	r = backend_start(&x->backend, &spec);
	if (r < 0)
		fprintf(stderr, "#   %s does not start: %s\n", spec.program, strerror(-r));
}

static bool chosen(const struct claim *claim, int argc, char **argv)
{
	int i;

	for (i = optind; i < argc; i++)
		if (!strcmp(claim->name, argv[i]))
			return true;
	return optind == argc;
}

static void report(const struct claim *claim, struct claim_context *x, int status, unsigned number)
{
	const char *verdict = status == 0 || status == CLAIM_SKIPPED ? "ok" : "not ok";

	if (status != 0 && status != CLAIM_SKIPPED && x->spec)
		backend_show_log(&x->backend);
	printf("%s %u %s%s%s\n", verdict, number, claim->name,
	       status == CLAIM_SKIPPED ? " # SKIP " : "", status == CLAIM_SKIPPED ? skip_why : "");
	fflush(stdout);
}

int claims_run(const struct claim *claims, unsigned n, int argc, char **argv)
{
	static const struct option options[] = { { "program", required_argument, NULL, 'p' },
						 { "list", no_argument, NULL, 'l' },
						 {} };
	static struct claim_context x;
	unsigned i, n_failed = 0, n_run = 0;
	int c, status;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'p')
			x.program = optarg;
		else if (c == 'l')
			for (i = 0; i < n; i++)
				puts(claims[i].name);
		if (c != 'p')
			return c == 'l' ? 0 : 2;
	}
	if (!x.program)
		errx(2, "usage: %s --program=PATH [CLAIM…]", argv[0]);
	skip_why = mmap(NULL, WHY_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (skip_why == MAP_FAILED)
		err(1, "mmap");
	for (i = 0; i < n; i++) {
		if (!chosen(&claims[i], argc, argv))
			continue;
		backend_for(&claims[i], &x);
		status = claim_run(&claims[i], &x);
		report(&claims[i], &x, status, ++n_run);
		n_failed += status != 0 && status != CLAIM_SKIPPED;
	}
	backend_done(&x.backend);
	printf("1..%u\n", n_run);
	return n_failed > 0;
}
