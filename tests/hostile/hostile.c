/*
 * frontend-hostile: sessions of nonsense against one back-end.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says.
 *
 *	frontend-hostile --program=PATH [--sessions=N] [--json] [ATTACK…]
 *	frontend-hostile --socket=PATH --keeper=PID [--sessions=N] [--json] [ATTACK…]
 *
 * The second form attacks a block device of vmdevd's, whose worker has its filter; the start of its
 * disk is overwritten.
 *
 * Every attack is a session of its own, in the order of the tables, round after round; each round
 *varies it. After each attack comes an honest session with a write and a read: the device has to be
 *there. Before and after all of it, with no session open, the back-end's processes are counted:
 *descriptors, memory and zombies have to be where they were.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/fill.h"
#include "tests/hostile/attack.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	WARM_UP = 100, /* sessions before the baseline is taken */
	MEMORY_SLACK_KIB = 1024,
};

static const struct fe_spec small = { .memory.len = 2 << 20 };

/* What the back-end's processes hold. */
struct footprint {
	unsigned keeper_fds, worker_fds, n_children, n_zombies;
	unsigned long keeper_kib, worker_kib;
};

static unsigned count_fds(pid_t pid)
{
	char path[64];
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* Anonymous and shared memory of its own; what a file-backed map has cached is not held. */
static unsigned long count_kib(pid_t pid)
{
	unsigned long kib = 0, v;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu", &v) == 1 || sscanf(line, "RssShmem: %lu", &v) == 1)
			kib += v;
	if (f)
		fclose(f);
	return kib;
}

static void count_children(pid_t keeper, struct footprint *ret)
{
	char path[64], line[256], *state;
	struct dirent *e;
	int parent;
	DIR *d;
	FILE *f;

	ret->n_children = ret->n_zombies = 0;
	d = opendir("/proc");
	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "/proc/%.16s/stat", e->d_name);
		f = e->d_name[0] >= '0' && e->d_name[0] <= '9' ? fopen(path, "re") : NULL;
		if (f && fgets(line, sizeof(line), f) && (state = strrchr(line, ')')) &&
		    sscanf(state + 3, " %d", &parent) == 1 && parent == keeper) {
			ret->n_children++;
			ret->n_zombies += state[2] == 'Z';
		}
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
}

/* Of an idle back-end: when the counts stand still for a while. */
static struct footprint footprint_take(pid_t keeper)
{
	struct footprint now, last = {};
	unsigned same = 0, i;

	for (i = 0; same < 5 && i < 500; i++) {
		pid_t worker = backend_worker(keeper);

		memset(&now, 0, sizeof(now));
		now.keeper_fds = count_fds(keeper);
		now.worker_fds = worker ? count_fds(worker) : 0;
		now.keeper_kib = count_kib(keeper);
		now.worker_kib = worker ? count_kib(worker) : 0;
		count_children(keeper, &now);
		same = memcmp(&now, &last, sizeof(now)) == 0 && worker ? same + 1 : 0;
		last = now;
		usleep(20000);
	}
	return now;
}

static void footprint_print(const char *when, const struct footprint *f)
{
	printf("%s: keeper %u fds %lu KiB, worker %u fds %lu KiB, children %u, zombies %u\n", when,
	       f->keeper_fds, f->keeper_kib, f->worker_fds, f->worker_kib, f->n_children,
	       f->n_zombies);
}

static bool footprint_same(const struct footprint *a, const struct footprint *b)
{
	return a->keeper_fds == b->keeper_fds && a->worker_fds == b->worker_fds &&
	       a->n_children == b->n_children && b->n_zombies == 0 &&
	       b->keeper_kib <= a->keeper_kib + MEMORY_SLACK_KIB &&
	       b->worker_kib <= a->worker_kib + MEMORY_SLACK_KIB;
}

static int honest_session(const char *socket, unsigned round)
{
	static struct fe fe;
	struct fe_blk b;
	uint8_t *p;
	int r;

	r = fe_begin(&fe, socket, &small);
	if (r == 0) {
		fe_blk_init(&b, &fe.mem);
		p = fe_memory_alloc(&fe.mem, 4096, 4096);
		fill_pattern(p, 4096, round, 1);
		r = fe_blk_rw(&fe.queues[0], &b, VIRTIO_BLK_T_OUT, 64, (struct fe_sg){ p, 4096 });
		memset(p, 0, 4096);
		if (r == 0)
			r = fe_blk_rw(&fe.queues[0], &b, VIRTIO_BLK_T_IN, 64,
				      (struct fe_sg){ p, 4096 });
		if (r == 0 && !fill_matches(p, 4096, round, 1))
			r = -EILSEQ;
	}
	fe_close(&fe);
	return r > 0 ? -EIO : r;
}

static int attack_prepare(struct fe *fe, const char *socket, const struct attack *a)
{
	int r;

	if (a->stage == ATTACK_RUNNING)
		return fe_begin(fe, socket, &small);
	r = fe_open(fe, socket);
	if (r == 0 && a->stage == ATTACK_AGREED)
		r = fe_negotiate(fe, &small);
	return r;
}

/* The one request was answered, and not with OK; its status byte is what the row allocated last. */
static bool request_failed(const struct fe *fe)
{
	volatile struct vring_used *used = fe->queues[0].used;
	const struct fe_region *m = &fe->mem.regions[0];

	return used->idx == 1 && m->map[m->used - 1] != VIRTIO_BLK_S_OK;
}

/* Within 100 ms. */
static bool gone_or_erred(struct fe *fe, bool err_counts)
{
	struct pollfd p[2] = { { .fd = fe->fd, .events = POLLIN | POLLRDHUP },
			       { .fd = fe->n_queues ? fe->queues[0].err : -1, .events = POLLIN } };

	poll(p, err_counts ? 2 : 1, 100);
	return (p[0].revents && fe_await_gone(fe, 0) == 0) || (err_counts && p[1].revents);
}

static bool await_gone_or_erred(struct fe *fe, bool err_counts)
{
	for (unsigned i = 0; i < 50; i++)
		if (gone_or_erred(fe, err_counts))
			return true;
	return false;
}

/* The request is answered soon, but not always before anybody looks. */
static bool await_failed(struct fe *fe)
{
	usleep(5000);
	for (unsigned i = 0; i < 50; i++)
		if (request_failed(fe) || gone_or_erred(fe, true))
			return true;
	return false;
}

static bool outcome_right(struct fe *fe, const struct attack *a, int r)
{
	bool lost = r == -ECONNRESET || r == -EPIPE;
	bool heard = r == 0 || r == -EREMOTEIO; /* a back-end that hangs up may say so first */

	switch (a->outcome) {
	case ATTACK_NO_HARM:
		return r != -EPROTO && r != -ETIMEDOUT;
	case ATTACK_LOST:
		return lost || (heard && await_gone_or_erred(fe, false));
	case ATTACK_BROKEN:
		return lost || (heard && await_gone_or_erred(fe, true));
	case ATTACK_FAILED:
		return lost || await_failed(fe);
	case ATTACK_REFUSED:
		return lost || r == -EREMOTEIO || (r == 0 && await_gone_or_erred(fe, true));
	}
	return false;
}

static bool attack_run(const struct attack *a, struct backend *b, unsigned round)
{
	static struct fe fe;
	bool right;
	int r;

	r = attack_prepare(&fe, b->socket, a);
	if (r < 0) {
		fprintf(stderr, "%s, round %u: no session to attack: %s\n", a->name, round,
			strerror(-r));
		fe_close(&fe);
		return false;
	}
	r = a->run(&fe, round);
	right = outcome_right(&fe, a, r);
	if (!right)
		fprintf(stderr, "%s, round %u: was tolerated (last message: %d %s)\n", a->name,
			round, r, strerror(-r));
	fe_close(&fe);
	r = honest_session(b->socket, round);
	if (r < 0)
		fprintf(stderr, "%s, round %u: the next session fails: %s\n", a->name, round,
			strerror(-r));
	return right && r == 0;
}

struct run {
	struct backend backend;
	const struct attack *rows[128];
	unsigned n_rows, n_sessions, n_failed;
	struct footprint before, after;
	bool is_vmdevds; /* not started here: backend has its socket and its keeper's number */
};

static bool is_alive(struct run *run)
{
	return run->is_vmdevds ? backend_process_lives(run->backend.pid)
			       : backend_alive(&run->backend);
}

static void rows_choose(struct run *run, const struct attack *table, unsigned n, char **names)
{
	unsigned i;
	char **name;

	for (i = 0; i < n; i++) {
		for (name = names; *name; name++)
			if (!strcmp(*name, table[i].name))
				break;
		if (*name || !*names)
			run->rows[run->n_rows++] = &table[i];
	}
}

static void run_sessions(struct run *run, unsigned n)
{
	bool failed[128] = {};
	unsigned i, row;

	for (i = 0; i < n; i++) {
		row = i % run->n_rows;
		if (!attack_run(run->rows[row], &run->backend, i / run->n_rows)) {
			run->n_failed++;
			if (!failed[row] && !run->is_vmdevds)
				backend_show_log(&run->backend);
			failed[row] = true;
			if (!is_alive(run))
				errx(1, "the back-end is dead");
		}
		run->n_sessions += 2;
		if (i % 1000 == 999)
			fprintf(stderr, "%u attacks, %u failed\n", i + 1, run->n_failed);
	}
}

static void start(struct run *run, const char *program)
{
	struct backend_spec spec = {
		.program = program, .image_len = 16 << 20, .n_queues = 2, .queue_size = 256
	};
	int r = backend_start(&run->backend, &spec);

	if (r < 0)
		errx(1, "%s does not start: %s", program, strerror(-r));
}

static int run_all(struct run *run, unsigned n)
{
	bool same;

	run_sessions(run, n < WARM_UP ? run->n_rows : WARM_UP);
	run->before = footprint_take(run->backend.pid);
	run_sessions(run, n);
	run->after = footprint_take(run->backend.pid);
	same = footprint_same(&run->before, &run->after);
	footprint_print("before", &run->before);
	footprint_print("after ", &run->after);
	if (!same)
		fprintf(stderr, "the back-end is not back at its baseline\n");
	if (!run->is_vmdevds)
		backend_done(&run->backend);
	return run->n_failed > 0 || !same;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "program", required_argument, NULL, 'p' },
						 { "socket", required_argument, NULL, 'S' },
						 { "keeper", required_argument, NULL, 'k' },
						 { "sessions", required_argument, NULL, 's' },
						 { "json", no_argument, NULL, 'j' },
						 {} };
	static struct run run;
	const char *program = NULL;
	unsigned n = 0;
	bool json = false;
	int c, status;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		if (c == 'p')
			program = optarg;
		else if (c == 'S')
			snprintf(run.backend.socket, sizeof(run.backend.socket), "%s", optarg);
		else if (c == 'k')
			run.backend.pid = atoi(optarg);
		else if (c == 's')
			n = (unsigned)atoi(optarg);
		else if (c == 'j')
			json = true;
		else
			return 2;
	run.is_vmdevds = run.backend.socket[0] && run.backend.pid > 0;
	if (!program == !run.is_vmdevds)
		errx(2, "usage: frontend-hostile {--program=PATH | --socket=PATH --keeper=PID} "
			"[--sessions=N] [--json] [ATTACK…]");
	setvbuf(stdout, NULL, _IOLBF, 0);
	rows_choose(&run, attacks_message, n_attacks_message, argv + optind);
	rows_choose(&run, attacks_memory, n_attacks_memory, argv + optind);
	rows_choose(&run, attacks_ring, n_attacks_ring, argv + optind);
	if (run.n_rows == 0)
		errx(2, "no such attack");
	if (program)
		start(&run, program);
	status = run_all(&run, n ? n : 6 * run.n_rows);
	if (json)
		printf("{\"attacks\":%u,\"sessions\":%u,\"failed\":%u,\"baseline\":%s}\n",
		       run.n_rows, run.n_sessions, run.n_failed,
		       footprint_same(&run.before, &run.after) ? "true" : "false");
	return status;
}
