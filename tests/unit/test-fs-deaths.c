/*
 * Deaths of workers of a file system device: that a guest's look-ups, forgets, open files and operations that cannot be
 * repeated count exactly once wherever a worker is killed.
 *
 * The proof for "wherever" is that of test-inflight.c: a worker runs a script of requests in a child, one instruction at
 * a time. After each instruction that changed the store a successor starts on a copy of it, runs what was in flight
 * again, and is held against what the script's requests, each once, add up to. Then the same is done with workers that are
 * successors themselves.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/fs-bench.h"
#include "tests/unit/unit.h"

enum {
	N_WATCHED = 16, /* indices of each table that the script can use */
	N_WATCHED_ITEMS = 64,
};

/*
 * The script. Requests are in flight from when they are taken until they are published; what the guest knows is in
 * replies that were published.
 */
enum step_kind {
	LOOKUP,	 /* names[a]; reply: node id */
	FORGET,	 /* the node of reply a, b look-ups */
	BATCH,	 /* the nodes of replies a and b, one look-up each, then one of names[0]'s node */
	OPEN,	 /* the node of reply a; reply: handle */
	RELEASE, /* the handle of reply a */
	MAKE,	 /* cannot be repeated; names[3] is looked up for the answer */
	PLUS,	 /* three look-ups: names[0], names[1], names[2]; reply: the first's node id */
	PUBLISH, /* all before */
};

struct step {
	enum step_kind kind;
	uint32_t a, b;
};

static const struct step script[] = {
	{ LOOKUP, 0 },	   /* 0 */
	{ LOOKUP, 1 },	   /* 1 */
	{ PUBLISH },	   /* 2 */
	{ LOOKUP, 0 },	   /* 3 */
	{ OPEN, 0 },	   /* 4 */
	{ MAKE },	   /* 5 */
	{ FORGET, 1, 1 },  /* 6: b is gone */
	{ LOOKUP, 1 },	   /* 7: b is new */
	{ PUBLISH },	   /* 8 */
	{ PLUS },	   /* 9 */
	{ BATCH, 0, 7 },   /* 10 */
	{ RELEASE, 4 },	   /* 11 */
	{ OPEN, 5 },	   /* 12 */
	{ PUBLISH },	   /* 13 */
	{ FORGET, 9, 99 }, /* 14: more than there are; by then a may have a new node */
	{ MAKE },	   /* 15 */
	{ PUBLISH },	   /* 16 */
};

enum { N_STEPS = UNIT_N(script) };

/* What outlives a worker beside the store: the ring, the world, and what the guest has been told. */
struct outside {
	uint32_t n_taken;     /* steps [0, n_taken) have been taken from the ring */
	uint32_t n_published; /* of them, answered */
	uint32_t n_made;      /* how often MAKE was done */
	uint32_t n_recovered; /* lives in which what was in flight has been run again */
	uint64_t reply[N_STEPS];
};

static struct outside *out;

static uint64_t run_lookup(struct request *rq, const char *name)
{
	struct inode *parent = root((struct worker *)rq->fs), *i;
	struct statx st;
	uint64_t id;

	if (inode_look_up(rq, parent, name, &i, &st) != 0)
		abort();
	id = inode_id(rq->fs, i);
	inode_put(rq->fs, i);
	inode_put(rq->fs, parent);
	return id;
}

static uint64_t run_open(struct request *rq, uint64_t nodeid)
{
	uint64_t fh;
	int fd;

	if (handle_found(rq, &fh))
		return fh;
	fd = open("/dev/null", O_RDONLY);
	if (fd < 0 || handle_open(rq, fd, HANDLE_FILE, O_RDONLY, nodeid, &fh) != 0)
		abort();
	return fh;
}

/* An operation like MKDIR whose doing again would be seen, and can be asked for. */
static uint64_t run_make(struct request *rq)
{
	struct journal_intent intent;
	struct inode *i;
	int64_t result;
	uint64_t id;

	switch (journal_past(rq, &result, &intent)) {
	case JOURNAL_DONE:
		if (result != 7)
			abort();
		if (inode_found(rq, &i)) {
			id = inode_id(rq->fs, i);
			inode_put(rq->fs, i);
			return id;
		}
		break;
	case JOURNAL_BEGUN:
		if (strcmp(intent.name, "made") != 0 || intent.size > out->n_made)
			abort();
		if (intent.size == out->n_made)
			__atomic_store_n(&out->n_made, out->n_made + 1, __ATOMIC_RELEASE);
		journal_result(rq, 7);
		break;
	case JOURNAL_NEW:
		journal_intend(rq, &(struct journal_intent){ .size = out->n_made, .name = "made" });
		__atomic_store_n(&out->n_made, out->n_made + 1, __ATOMIC_RELEASE);
		journal_result(rq, 7);
		break;
	}
	return run_lookup(rq, "made");
}

static uint64_t run_plus(struct request *rq)
{
	uint64_t id = run_lookup(rq, names[0]);

	run_lookup(rq, names[1]);
	run_lookup(rq, names[2]);
	return id;
}

static void run_step(struct worker *w, uint32_t n, bool again)
{
	struct request rq = request_of(w, TAG + n, again);
	const struct step *s = &script[n];
	uint64_t reply = 0;

	journal_begin(&rq);
	switch (s->kind) {
	case LOOKUP:
		reply = run_lookup(&rq, names[s->a]);
		break;
	case FORGET:
		inode_forget(&rq, out->reply[s->a], s->b);
		break;
	case BATCH:
		inode_forget(&rq, out->reply[s->a], 1);
		inode_forget(&rq, UINT64_C(12345) << 32 | 6, 1); /* unknown */
		inode_forget(&rq, out->reply[s->b], 1);
		inode_forget(&rq, out->reply[0], 1);
		break;
	case OPEN:
		reply = run_open(&rq, out->reply[s->a]);
		break;
	case RELEASE:
		handle_release(&rq, out->reply[s->a], HANDLE_FILE);
		break;
	case MAKE:
		reply = run_make(&rq);
		break;
	case PLUS:
		reply = run_plus(&rq);
		break;
	case PUBLISH:
		break;
	}
	out->reply[n] = reply;
}

static void publish(struct worker *w, uint32_t n)
{
	__atomic_store_n(&out->n_published, n, __ATOMIC_RELEASE);
	published(w);
}

/* What is in flight, in the order of taking; then all is published. */
static void run_in_flight(struct worker *w)
{
	w->thread.resumed = false;
	for (uint32_t n = out->n_published; n < out->n_taken; n++)
		run_step(w, n, true);
	w->thread.resumed = true;
	publish(w, out->n_taken);
}

static void run_rest(struct worker *w)
{
	for (uint32_t n = out->n_taken; n < N_STEPS; n++) {
		__atomic_store_n(&out->n_taken, n + 1, __ATOMIC_RELEASE);
		run_step(w, n, false);
		if (script[n].kind == PUBLISH)
			publish(w, n + 1);
	}
}

/* What the script's first n steps, each once, come to. */
struct sums {
	uint64_t count[N_FILES];
	uint32_t n_handles, n_made;
};

static void sums_forget(struct sums *s, uint32_t file, uint64_t n)
{
	s->count[file] -= n < s->count[file] ? n : s->count[file];
}

static struct sums sums_of(uint32_t n)
{
	struct sums s = { 0 };

	for (uint32_t i = 0; i < n; i++) {
		const struct step *p = &script[i];

		switch (p->kind) {
		case LOOKUP:
			s.count[p->a]++;
			break;
		case FORGET:
			sums_forget(&s, script[p->a].a, p->b);
			break;
		case BATCH:
			sums_forget(&s, script[p->a].a, 1);
			sums_forget(&s, script[p->b].a, 1);
			sums_forget(&s, 0, 1);
			break;
		case OPEN:
			s.n_handles++;
			break;
		case RELEASE:
			s.n_handles--;
			break;
		case MAKE:
			s.n_made++;
			s.count[3]++;
			break;
		case PLUS:
			s.count[0]++;
			s.count[1]++;
			s.count[2]++;
			break;
		case PUBLISH:
			break;
		}
	}
	return s;
}

static void count_fd(int fd, void *arg)
{
	assert_true(fd >= CONTRACT_FD_SESSION);
	++*(uint32_t *)arg;
}

static void sums_check(struct worker *w, const struct sums *s)
{
	uint32_t n_known = 0, n_fds = 0, n_handles = 0;

	for (uint32_t f = 0; f < N_FILES; f++) {
		assert_int_equal(count_of(w, names[f]), s->count[f]);
		n_known += s->count[f] > 0;
	}
	inode_for_each_fd(&w->fs, count_fd, &n_fds);
	handle_for_each_fd(&w->fs, count_fd, &n_handles);
	assert_int_equal(w->fs.inodes->n_known, n_known);
	assert_int_equal(n_fds, w->fs.inodes->n_fds);
	assert_int_equal(n_fds + w->fs.inodes->n_parked, n_known);
	assert_int_equal(n_handles, s->n_handles);
	assert_int_equal(out->n_made, s->n_made);
}

/* The parts of a store that the script changes. */
static struct part parts[16];
static uint32_t n_parts;

static void part_add(const void *p, size_t len, const struct store *s)
{
	assert_true(n_parts < UNIT_N(parts));
	parts[n_parts++] = (struct part){ (size_t)((const char *)p - (const char *)s), len };
}

static void parts_find(struct store *s)
{
	struct inodes *inodes = calloc(1, sizeof(*inodes));

	assert_non_null(inodes);
	inodes->table = &s->inodes;
	n_parts = 0;
	part_add(&s->inodes, offsetof(struct inode_table, bucket), s);
	part_add(s->inodes.word, N_WATCHED * sizeof(s->inodes.word[0]), s);
	part_add(s->inodes.entry, N_WATCHED * sizeof(s->inodes.entry[0]), s);
	part_add(s->inodes.cold, N_WATCHED * sizeof(s->inodes.cold[0]), s);
	part_add(&s->handles.high, sizeof(s->handles.high), s);
	part_add(s->handles.entry, N_WATCHED * sizeof(s->handles.entry[0]), s);
	part_add(&s->journal[0].n, sizeof(s->journal[0].n), s);
	part_add(&s->journal[0].begun[0], sizeof(s->journal[0].begun[0]), s);
	part_add(s->journal[0].item, N_WATCHED_ITEMS * sizeof(s->journal[0].item[0]), s);
	for (uint32_t f = 0; f <= N_FILES; f++) {
		struct inode_key key;
		struct statx st;

		assert_int_equal(statx(ROOT_FD, f < N_FILES ? names[f] : "",
				       AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, ATTR_STATX_MASK, &st),
				 0);
		key = inode_key_of(&st);
		part_add(inode_bucket(inodes, &key), sizeof(uint32_t), s);
	}
	free(inodes);
}

static void parts_copy(struct store *to, const struct store *from)
{
	for (uint32_t i = 0; i < n_parts; i++)
		memcpy((char *)to + parts[i].offset, (const char *)from + parts[i].offset,
		       parts[i].len);
}

static bool parts_same(const struct store *a, const struct store *b)
{
	for (uint32_t i = 0; i < n_parts; i++)
		if (memcmp((const char *)a + parts[i].offset, (const char *)b + parts[i].offset,
			   parts[i].len) != 0)
			return false;
	return true;
}

/* The stepped worker's world and ours: the script's outside is in shared memory, and the check plays with a copy. */
static struct outside *shared_outside(void)
{
	struct outside *o =
		mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(o != MAP_FAILED);
	return o;
}

struct stepping {
	struct store *live, *seen, *copy;
	struct outside *outside, copy_outside, seen_outside;
	uint64_t n_instructions;
	uint32_t n_states, n_armed, n_begun, n_inherited, n_parked;
};

static void occupy_by(int number, int fd)
{
	if (number < CONTRACT_FD_SESSION || fd < 0 || fd == number)
		return;
	dup2(fd, number);
}

/* What is open in a worker is open in its successor: each number that the tables name is what they say. */
static void occupy(const struct store *s)
{
	for (uint32_t f = 0; f < N_FILES; f++) {
		int fd = openat(ROOT_FD, names[f], O_PATH);
		struct statx st;

		/* Out of the way of the numbers in the table. */
		if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, ATTR_STATX_MASK, &st) < 0 ||
		    fd_move(fd, 1000, false) < 0)
			abort();
		for (uint32_t i = INODE_ROOT + 1; i < N_WATCHED; i++)
			if (s->inodes.entry[i].ino == st.stx_ino)
				occupy_by(word_fd(s->inodes.word[i]), 1000);
		close(1000);
	}
	for (uint32_t i = 0; i < N_WATCHED; i++)
		occupy_by(s->handles.entry[i].fd, PROC_FD);
}

/* A successor on a copy: it must take over, and come to the sums. */
static void step_check(struct stepping *p)
{
	static struct worker w;
	struct sums s = sums_of(p->outside->n_taken);

	for (uint32_t i = INODE_ROOT + 1; i < N_WATCHED; i++)
		p->n_parked += word_fd(p->live->inodes.word[i]) == INODE_FD_PARKED;
	p->n_armed += p->live->inodes.hand.armed;
	p->n_begun += p->live->journal[0].begun[0].tag != 0;
	p->n_inherited += p->live->journal[0].n > 0;
	parts_copy(p->copy, p->live);
	p->copy_outside = *p->outside;
	out = &p->copy_outside;
	occupy(p->copy);
	assert_int_equal(worker_start(&w, p->copy), 0);
	run_in_flight(&w);
	sums_check(&w, &s);
	/* And on to the end. */
	run_rest(&w);
	s = sums_of(N_STEPS);
	sums_check(&w, &s);
	worker_free(&w);
	out = p->outside;
	close_range(CONTRACT_FD_SESSION, ~0u, 0);
	p->n_states++;
}

static bool stepped(struct stepping *p)
{
	if (parts_same(p->seen, p->live) &&
	    memcmp(&p->seen_outside, p->outside, sizeof(p->seen_outside)) == 0)
		return false;
	parts_copy(p->seen, p->live);
	p->seen_outside = *p->outside;
	return true;
}

static void life(struct store *s)
{
	static struct worker w;

	if (worker_start(&w, s) != 0)
		_exit(2);
	if (out->n_taken > 0) {
		run_in_flight(&w);
		out->n_recovered++;
	}
	run_rest(&w);
	_exit(0);
}

/* Step through a life that begins on p->live, a successor's until it has recovered; seen() is called with each state. */
static void step_through(struct stepping *p, void (*seen)(struct stepping *))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
			_exit(errno == EPERM ? 77 : 1);
		occupy(p->live);
		raise(SIGSTOP);
		life(p->live);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		unit_skip("ptrace is not permitted here");
	while (WIFSTOPPED(status)) {
		int sig = WSTOPSIG(status), how = PTRACE_SINGLESTEP;

		p->n_instructions++;
		if (stepped(p))
			seen(p);
		sig = sig == SIGSTOP || sig == SIGTRAP ? 0 : sig;
		if (p->outside->n_recovered > 0)
			how = PTRACE_CONT;
		assert_int_equal(ptrace(how, pid, 0, sig), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void stepping_init(struct stepping *p)
{
	*p = (struct stepping){
		.live = store_new(),
		.seen = store_new(),
		.copy = store_new(),
		.outside = shared_outside(),
	};
	out = p->outside;
	fill_dir();
	parts_find(p->live);
}

static void stepping_done(struct stepping *p)
{
	store_free(p->live);
	store_free(p->seen);
	store_free(p->copy);
	munmap(p->outside, sizeof(*p->outside));
}

static void counts_are_exact_wherever_a_worker_is_killed(void **state)
{
	struct stepping p;

	stepping_init(&p);
	step_through(&p, step_check);
	assert_true(p.n_states >= 200);
	assert_true(p.n_armed >= 3 * 14);
	assert_true(p.n_begun >= 2 * 2);
	print_message("%llu instructions, %u states checked, %u with a count in hand, %u with an "
		      "intent, %u with items\n",
		      (unsigned long long)p.n_instructions, p.n_states, p.n_armed, p.n_begun,
		      p.n_inherited);
	stepping_done(&p);
}

static void parking_can_be_killed_anywhere_too(void **state)
{
	struct stepping p;

	fds_at_most = 2;
	stepping_init(&p);
	step_through(&p, step_check);
	assert_true(p.n_states >= 200);
	assert_true(p.n_parked >= 50);
	print_message("%u states checked, %u parked inodes in them\n", p.n_states, p.n_parked);
	stepping_done(&p);
}

/* Some of the states, to begin a life from. */
enum { N_SAMPLES = 40 };
static struct sample {
	struct store *store;
	struct outside outside;
} samples[N_SAMPLES];
static uint32_t n_samples, sample_every;

static void sample_collect(struct stepping *p)
{
	if (p->n_states++ % sample_every != 0 || n_samples == N_SAMPLES)
		return;
	samples[n_samples].store = store_new();
	samples[n_samples].outside = *p->outside;
	parts_copy(samples[n_samples].store, p->live);
	n_samples++;
}

static void successors_can_be_killed_anywhere_too(void **state)
{
	struct stepping p;
	uint32_t n = 0;

	stepping_init(&p);
	sample_every = 19;
	step_through(&p, sample_collect);
	assert_true(n_samples >= 10);
	for (uint32_t i = 0; i < n_samples; i++) {
		parts_copy(p.live, samples[i].store);
		*p.outside = samples[i].outside;
		p.n_states = 0;
		step_through(&p, step_check);
		n += p.n_states;
		store_free(samples[i].store);
	}
	print_message("%u lives of successors, %u states checked\n", n_samples, n);
	stepping_done(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(counts_are_exact_wherever_a_worker_is_killed),
		TEST(parking_can_be_killed_anywhere_too),
		TEST(successors_can_be_killed_anywhere_too),
	};

	return cmocka_run_group_tests(tests, bench_group_setup, bench_group_teardown);
}
