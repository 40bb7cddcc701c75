/*
 * frontend-fs-many: a guest that looks up millions of names exhausts neither descriptors nor memory.
 *
 *	frontend-fs-many --program=vmdev-fs [--names=N] [--lookups=N] [--descriptors=N] [--dir=D] [--kill] [--json]
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says.
 *
 * All names are looked up, and then again in an order that has nothing to do with the first, until so many look-ups were made; nothing is
 * forgotten meanwhile. Each time the node id has to be the one of the first time, and the attributes those of the file: most
 * have lost their descriptor in between (devices/fs/inode-park.c). With --kill the worker dies half way. In the end all are forgotten, and
 * the descriptors have to be as many as in the beginning, and most of the memory has to be given back.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/fill.h"
#include "tests/frontend/fuse-client.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	PER_DIR = 4096, /* names */
	IN_HAND = 48,
	FD_STATE = 6,	  /* of the keeper: the state memfd */
	BYTES_EACH = 384, /* of memory, and that is plenty */
	BYTES_FIXED = 64 << 20,
	MANY = 20000, /* names: fewer are not worth it */
};

/* One file: what the first look-up said. */
struct known {
	uint64_t node, ino;
};

struct many {
	struct backend b;
	struct fc c;
	struct fc_call call[IN_HAND];
	uint32_t of[IN_HAND]; /* which name a call is about */
	uint64_t *dirs;
	struct known *known;
	uint32_t n_names, n_known;
	struct fill_random order;
};

static void name_of(uint32_t n, char *ret, size_t len)
{
	/* Some are longer than most. */
	snprintf(ret, len,
		 n % 256 ? "name-%07u" : "longer-than-what-a-record-has-room-for-without-a-tail-%u",
		 n);
}

static uint32_t n_dirs(const struct many *m)
{
	return (m->n_names + PER_DIR - 1) / PER_DIR;
}

static void make_names(const struct many *m)
{
	char path[400], name[100];

	for (uint32_t d = 0; d < n_dirs(m); d++) {
		snprintf(path, sizeof(path), "%s/d%u", m->b.share, d);
		if (mkdir(path, 0755) < 0)
			err(1, "%s", path);
		for (uint32_t n = d * PER_DIR; n < (d + 1) * PER_DIR && n < m->n_names; n++) {
			name_of(n, name, sizeof(name));
			snprintf(path, sizeof(path), "%s/d%u/%s", m->b.share, d, name);
			if (mknod(path, S_IFREG | 0644, 0) < 0)
				err(1, "%s", path);
		}
	}
}

static void find_dirs(struct many *m)
{
	for (uint32_t d = 0; d < n_dirs(m); d++) {
		struct fuse_entry_out e;
		char name[16];
		int r;

		snprintf(name, sizeof(name), "d%u", d);
		r = fc_lookup(&m->c, FC_ROOT, name, &e);
		if (r < 0)
			errx(1, "directory %u: %s", d, strerror(-r));
		m->dirs[d] = e.nodeid;
	}
}

/* What is open in the back-end: its keeper shares the table. */
static uint32_t n_fds(const struct many *m)
{
	char path[64];
	uint32_t n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)m->b.pid);
	dir = opendir(path);
	if (!dir)
		err(1, "%s", path);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static uint64_t state_bytes(const struct many *m)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)m->b.pid, FD_STATE);
	if (stat(path, &st) < 0)
		err(1, "%s", path);
	return (uint64_t)st.st_blocks * 512;
}

/* Private memory of the worker. */
static uint64_t worker_bytes(const struct many *m)
{
	unsigned long kib = 0;
	char line[128];
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/status",
		 (int)backend_worker_await(m->b.pid, 0, 5000));
	f = fopen(line, "re");
	if (!f)
		err(1, "%s", line);
	while (fgets(line, sizeof(line), f) && sscanf(line, "RssAnon: %lu kB", &kib) != 1)
		;
	fclose(f);
	return kib * UINT64_C(1024);
}

static void ask(struct many *m, unsigned slot, uint32_t n)
{
	struct fc_op op = { .opcode = FUSE_LOOKUP,
			    .nodeid = m->dirs[n / PER_DIR],
			    .n_parts = 1,
			    .room = sizeof(struct fuse_entry_out) };
	char name[100];

	name_of(n, name, sizeof(name));
	op.part[0].p = name;
	op.part[0].len = strlen(name) + 1;
	m->of[slot] = n;
	fc_add(&m->c, FC_REQUESTS, &m->call[slot], &op);
}

static void answer(struct many *m, unsigned slot)
{
	struct known *k = &m->known[m->of[slot]];
	struct fuse_entry_out e;
	int r = fc_wait(&m->c, FC_REQUESTS, &m->call[slot]);

	if (r < 0)
		errx(1, "name %u is not found, after %u that were: %s", m->of[slot], m->n_known,
		     strerror(-r));
	memcpy(&e, m->call[slot].reply, sizeof(e));
	if (k->node == 0) {
		*k = (struct known){ e.nodeid, e.attr.ino };
		m->n_known++;
	}
	if (e.nodeid != k->node || e.attr.ino != k->ino || e.attr.mode != (S_IFREG | 0644))
		errx(1, "name %u is node %lx, number %lu now, and was %lx, %lu", m->of[slot],
		     (unsigned long)e.nodeid, (unsigned long)e.attr.ino, (unsigned long)k->node,
		     (unsigned long)k->ino);
}

/* The first time in order, then at random. */
static void look_up(struct many *m, uint64_t n_lookups, bool kill_half_way)
{
	uint64_t asked = 0;

	while (asked < n_lookups) {
		unsigned n = 0;

		for (; n < IN_HAND && asked < n_lookups; n++, asked++)
			ask(m, n,
			    asked < m->n_names ? (uint32_t)asked
					       : (uint32_t)fill_below(&m->order, m->n_names));
		fc_kick(&m->c, FC_REQUESTS);
		if (kill_half_way && asked >= n_lookups / 2) {
			kill(backend_worker_await(m->b.pid, 0, 5000), SIGKILL);
			kill_half_way = false;
		}
		for (unsigned i = 0; i < n; i++)
			answer(m, i);
	}
}

static void forget_all(struct many *m)
{
	for (uint32_t n = 0; n < m->n_names; n++)
		fc_forget(&m->c, m->known[n].node, UINT32_MAX);
	for (uint32_t d = 0; d < n_dirs(m); d++)
		fc_forget(&m->c, m->dirs[d], UINT32_MAX);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Returns what is wrong with it, or NULL. */
static const char *run(struct many *m, uint64_t n_lookups, bool kills, bool json)
{
	uint32_t before = n_fds(m), during, after;
	double began = seconds(), took;
	uint64_t state_before = state_bytes(m), state, state_after, private;

	find_dirs(m);
	look_up(m, n_lookups, kills);
	took = seconds() - began;
	during = n_fds(m);
	state = state_bytes(m);
	private = worker_bytes(m);
	forget_all(m);
	after = n_fds(m);
	state_after = state_bytes(m);
	printf(json ? "{\"lookups\": %lu, \"names\": %u, \"seconds\": %.1f, \"fds\": %u, "
		      "\"fds_before\": %u, "
		      "\"fds_after\": %u, \"state_bytes\": %lu, \"state_bytes_after\": %lu, "
		      "\"private_bytes\": %lu}\n"
		    : "%lu look-ups of %u names in %.1f s; descriptors %u, before %u, afterwards "
		      "%u; state %lu "
		      "bytes, afterwards %lu, private memory %lu bytes\n",
	       (unsigned long)n_lookups, m->n_names, took, during, before, after,
	       (unsigned long)state, (unsigned long)state_after, (unsigned long)private);
	if (during > before + (2u << 16) ||
	    (m->n_names > during && during > before + m->n_names / 2))
		return "descriptors are not bounded";
	if (after > before)
		return "descriptors of what was forgotten are still there";
	if (state + private > BYTES_FIXED + (uint64_t)m->n_names * BYTES_EACH)
		return "too much memory";
	if (m->n_names >= MANY && state_after - state_before > (state - state_before) / 2)
		return "memory of what was forgotten is not given back";
	return NULL;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "program", required_argument, NULL, 'p' },
						 { "names", required_argument, NULL, 'n' },
						 { "lookups", required_argument, NULL, 'l' },
						 { "descriptors", required_argument, NULL, 'd' },
						 { "dir", required_argument, NULL, 'D' },
						 { "kill", no_argument, NULL, 'k' },
						 { "json", no_argument, NULL, 'j' },
						 {} };
	static struct many m = { .n_names = 10000, .order = { .state = 1 } };
	struct backend_spec spec = { .share = "", .n_queues = 1 };
	struct fc_spec session = { .session = { .queue_size = 256,
						.memory.len = UINT64_C(192) << 20 } };
	uint64_t n_lookups = 30000;
	bool kills = false, json = false;
	struct rlimit limit = { 0, 0 };
	const char *wrong;
	int c, r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		if (c == 'p')
			spec.program = optarg;
		else if (c == 'n')
			m.n_names = (uint32_t)atoi(optarg);
		else if (c == 'l')
			n_lookups = strtoull(optarg, NULL, 0);
		else if (c == 'd')
			limit.rlim_cur = limit.rlim_max = (rlim_t)atoi(optarg);
		else if (c == 'D')
			spec.dir = optarg;
		else if (c == 'k')
			kills = true;
		else if (c == 'j')
			json = true;
		else
			return 2;
	if (!spec.program || m.n_names == 0)
		errx(2, "usage: frontend-fs-many --program=PATH [--names=N] [--lookups=N] "
			"[--descriptors=N] [--dir=D] [--kill] [--json]");
	if (limit.rlim_cur && setrlimit(RLIMIT_NOFILE, &limit) < 0)
		err(1, "RLIMIT_NOFILE");
	m.dirs = calloc(n_dirs(&m), sizeof(*m.dirs));
	m.known = calloc(m.n_names, sizeof(*m.known));
	r = backend_start(&m.b, &spec);
	if (r < 0 || !m.dirs || !m.known)
		errx(1, "%s does not start: %s", spec.program, strerror(-r));
	make_names(&m);
	r = fc_begin(&m.c, m.b.socket, &session);
	if (r < 0)
		errx(1, "no session: %s", strerror(-r));
	for (unsigned i = 0; i < IN_HAND; i++)
		fc_call_init(&m.call[i], &m.c.fe.mem);
	wrong = run(&m, n_lookups, kills, json);
	if (wrong)
		warnx("%s", wrong);
	fc_end(&m.c);
	backend_done(&m.b);
	return wrong != NULL;
}
