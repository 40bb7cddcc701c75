/*
 * frontend-layout: no worker has anything mapped where one before it had.
 *
 * Runs in: a test program of its own. Trusts: the kernel's /proc/PID/maps.
 *
 * A guest that has found out addresses in one worker and made it crash is to be as ignorant of the
 * next one's. The worker is killed again and again, now at once, now after a while, for the keeper
 * makes its fresh address space either way; each time, what the worker has mapped is compared with
 * what all earlier ones had. Inaccessible memory, and what cannot move and is no secret, are left
 * out.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/proto.h"
#include "tests/frontend/session.h"

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	GENERATIONS = 40,
	MAX_RANGES = 64,
	AWAIT_MS = 2000,
	SETTLED_US = 20000, /* longer than the keeper waits before it begins anew */
};

struct range {
	uint64_t start, end;
	char what[80];
};

struct maps {
	struct range ranges[MAX_RANGES];
	unsigned n;
};

static struct maps seen[GENERATIONS];
static pid_t pids[GENERATIONS];

/*
 * The pages that /proc/PID/cmdline shows are read-only, of no file, and called a stack only if the
 * kernel's idea of where that began is among them. The vsyscall page is nobody's choice.
 */
static bool may_stay(const char *permissions, const char *what)
{
	return strncmp(permissions, "---", 3) == 0 || strcmp(what, "[vsyscall]") == 0 ||
	       ((!*what || strcmp(what, "[stack]") == 0) && strncmp(permissions, "r--", 3) == 0);
}

static void maps_read(struct maps *m, pid_t pid)
{
	char path[64], line[512], permissions[8];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	if (!f)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), f)) {
		struct range *r = &m->ranges[m->n];

		if (m->n == MAX_RANGES)
			errx(1, "%s: too long", path);
		r->what[0] = 0;
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %*s %79s", &r->start, &r->end,
			   permissions, r->what) < 3)
			errx(1, "unreadable: %s", line);
		if (!may_stay(permissions, r->what))
			m->n++;
	}
	fclose(f);
	if (m->n == 0)
		errx(1, "%s is empty", path);
}

static bool was_seen(pid_t pid)
{
	for (unsigned i = 0; i < GENERATIONS; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

/* One that is being killed may take a while to die, and be the eldest that lives so long. */
static pid_t next_worker(pid_t keeper, pid_t last)
{
	for (int ms = 0; ms < AWAIT_MS; ms++) {
		pid_t pid = backend_worker_await(keeper, last, 1);

		if (pid > 0 && !was_seen(pid))
			return pid;
	}
	return 0;
}

static unsigned overlaps(const struct maps *now, const struct maps *then)
{
	unsigned n = 0;

	for (unsigned i = 0; i < now->n; i++)
		for (unsigned k = 0; k < then->n; k++) {
			const struct range *a = &now->ranges[i], *b = &then->ranges[k];

			if (a->start >= b->end || b->start >= a->end)
				continue;
			if (n++ == 0)
				printf("%" PRIx64 "-%" PRIx64 " %s was %s\n", a->start, a->end,
				       a->what, b->what);
		}
	return n;
}

int main(int argc, char **argv)
{
	/* Half of these workers answer nothing before they are killed, which counts as a crash. */
	static const char *const args[] = { "--restart-limit=1000", "--restart-backoff=0", NULL };
	struct backend_spec spec = {
		.n_queues = 2, .queue_size = 256, .image_len = 1 << 20, .args = args
	};
	struct fe_spec session = { 0 };
	struct backend backend;
	static struct fe fe;
	unsigned n_overlaps = 0;
	uint64_t features;
	pid_t worker = 0;
	int r;

	if (argc != 2 || strncmp(argv[1], "--program=", 10) != 0)
		errx(2, "usage: frontend-layout --program=PATH");
	spec.program = argv[1] + 10;
	r = backend_start(&backend, &spec);
	if (r == 0)
		r = fe_begin(&fe, backend.socket, &session);
	if (r < 0)
		errx(1, "%s does not start: %s", spec.program, strerror(-r));
	for (unsigned g = 0; g < GENERATIONS; g++) {
		worker = next_worker(backend.pid, worker);
		if (!worker) {
			backend_show_log(&backend);
			errx(1, "no worker %u", g);
		}
		pids[g] = worker;
		/* Three in a row that die before they serve would be given up. */
		if (g % 2 && fe_ask(&fe, FE_GET_FEATURES, NULL, 0, &features) < 0)
			errx(1, "worker %u does not answer", g);
		usleep(g % 2 ? SETTLED_US : 1000);
		maps_read(&seen[g], worker);
		for (unsigned i = 0; i < g; i++)
			n_overlaps += overlaps(&seen[g], &seen[i]);
		if (kill(worker, SIGKILL) < 0)
			err(1, "kill");
	}
	worker = next_worker(backend.pid, worker);
	fe_close(&fe);
	backend_done(&backend);
	printf("%u workers, %u maps where an earlier one had one\n", GENERATIONS, n_overlaps);
	return n_overlaps > 0 || !worker;
}
