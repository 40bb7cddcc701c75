/* Trials of a crash-point build. See trial.h. */
#include "tests/frontend/trial.h"

#include <err.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_NAMES = 256, TIMEOUT_S = 60 };

struct totals {
	unsigned n_trials, n_survived, n_failed, n_unreached;
};

int trial_in_child(void (*script)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(TIMEOUT_S);
		script(arg);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(1, "fork");
	return status;
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

enum trial_verdict trial_judge(const struct trial *t, struct backend *b, int status, bool right,
			       unsigned n_killed)
{
	enum trial_verdict v = count_deaths(b) > n_killed ? TRIAL_SURVIVED : TRIAL_NOT_REACHED;

	if (!right) {
		v = TRIAL_FAILED;
		fprintf(stderr, "  %s at %u, way %u: %s 0x%x\n", t->name, t->count, t->way,
			status ? "a script failed" : "the keeper is gone, or did not keep its word",
			status);
		backend_show_log(b);
	}
	backend_done(b);
	return v;
}

static void name_run(const struct trial_suite *s, struct trial t, const unsigned *counts,
		     unsigned n_counts, struct totals *sum)
{
	bool reached = false;
	unsigned failed = sum->n_failed;

	for (t.way = 0; t.way < s->n_ways; t.way++)
		for (t.count_idx = 0; t.count_idx < n_counts; t.count_idx++) {
			enum trial_verdict v;

			t.count = counts[t.count_idx];
			snprintf(t.point, sizeof(t.point), "VMDEV_CRASH_AT=%s:%u", t.name, t.count);
			v = s->run(&t);
			sum->n_trials++;
			sum->n_survived += v == TRIAL_SURVIVED;
			sum->n_failed += v == TRIAL_FAILED;
			reached |= v != TRIAL_NOT_REACHED;
			/* Nor will it be passed at a higher count. */
			if (v == TRIAL_NOT_REACHED || (s->first_only && s->first_only(t.way)))
				break;
		}
	sum->n_unreached += !reached;
	printf("%-32s %s\n", t.name,
	       !reached			? "NOT REACHED"
	       : sum->n_failed > failed ? "FAILED"
					: "ok");
}

static unsigned names_list(const struct trial_suite *s, const char *program, char *text, size_t len,
			   const char **names)
{
	unsigned n = 0;
	char *line, *save;

	if (backend_run(program, (const char *const[]){ "--list-crash-points", NULL }, text, len) !=
	    0)
		errx(1, "%s does not list its crash points", program);
	for (line = strtok_r(text, "\n", &save); line && n < MAX_NAMES;
	     line = strtok_r(NULL, "\n", &save))
		if (!s->takes || s->takes(line))
			names[n++] = line;
	if (n == 0 || n == MAX_NAMES)
		errx(1, "%s has %s crash points", program, n ? "too many" : "no");
	return n;
}

static unsigned counts_parse(char *text, unsigned *counts)
{
	unsigned n = 0;
	char *at, *save;

	for (at = strtok_r(text, ",", &save); at && n < TRIAL_MAX_COUNTS;
	     at = strtok_r(NULL, ",", &save))
		counts[n++] = (unsigned)atoi(at);
	return n;
}

int trial_main(const struct trial_suite *suite, int argc, char **argv)
{
	static const struct option options[] = { { "program", required_argument, NULL, 'p' },
						 { "counts", required_argument, NULL, 'c' },
						 {} };
	static char text[16384];
	const char *names[MAX_NAMES];
	unsigned counts[TRIAL_MAX_COUNTS], n_counts = suite->n_counts, n;
	struct trial trial = {};
	struct totals sum = {};
	int c;

	memcpy(counts, suite->counts, sizeof(counts));
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		if (c == 'p')
			trial.program = optarg;
		else if (c == 'c')
			n_counts = counts_parse(optarg, counts);
		else
			return 2;
	if (!trial.program || n_counts == 0)
		errx(2, "usage: %s", suite->usage);
	setvbuf(stdout, NULL, _IOLBF, 0);
	n = optind < argc ? 0 : names_list(suite, trial.program, text, sizeof(text), names);
	for (; optind < argc && n < MAX_NAMES; optind++)
		names[n++] = argv[optind];
	for (unsigned i = 0; i < n; i++) {
		trial.name = names[i];
		name_run(suite, trial, counts, n_counts, &sum);
	}
	printf("%u crash points, %u runs, %u crashes survived, %u failed, %u points never passed\n",
	       n, sum.n_trials, sum.n_survived, sum.n_failed, sum.n_unreached);
	return sum.n_failed || sum.n_unreached;
}
