/*
 * The tables of the file system device: inodes, handles and the journal. That a guest's look-ups, forgets, open files
 * and operations that cannot be repeated count exactly once wherever a worker is killed, that descriptors neither leak nor are
 * closed twice, and that a hostile table does no harm.
 *
 * The proof for "wherever" is that of test-inflight.c: a worker runs a script of requests in a child, one instruction at
 * a time. After each instruction that changed the store a successor starts on a copy of it, runs what was in flight
 * again, and is held against what the script's requests, each once, add up to. Then the same is done with workers that are
 * successors themselves.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/fs/attr.h"
#include "devices/fs/inode-private.h"
#include "tests/unit/unit.h"

enum {
	ROOT_FD = 20, /* below CONTRACT_FD_SESSION, as in a device */
	PROC_FD = 21,
	N_FILES = 4,
	N_WATCHED = 16, /* indices of each table that the script can use */
	N_WATCHED_ITEMS = 64,
	TAG = 1000, /* of the script's first request */
};

static char dir[] = "/tmp/vmdev-fs-tables-XXXXXX";
static const char *const names[N_FILES] = { "a", "b", "c", "made" };

/* A worker: the store it is attached to, and its private memory. */
struct worker {
	struct fs fs;
	struct thread thread;
	struct vring ring;
};

static struct store *store_new(void)
{
	struct store *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(s != MAP_FAILED);
	return s;
}

static void store_free(struct store *s)
{
	munmap(s, sizeof(*s));
}

/* Of inodes, in workers started from now on; 0: as many as they take. */
static uint32_t fds_at_most;

/* As fs_create() does. */
static int worker_start(struct worker *w, struct store *s)
{
	int r;

	/* Not all of it cleared: that is a hundred thousand instructions to be stepped through. */
	w->fs.inodes = NULL;
	w->fs.handles = NULL;
	w->fs.journals = NULL;
	w->fs.store = s;
	w->fs.proc_fd = PROC_FD;
	w->fs.n_threads = 1;
	w->thread.index = 0;
	w->thread.resumed = true;
	w->ring.index = 0;
	r = inode_prepare(&w->fs);
	if (r == 0)
		r = handle_prepare(&w->fs);
	if (r == 0)
		r = journal_prepare(&w->fs);
	if (r == 0)
		r = inode_init(&w->fs, ROOT_FD);
	if (r == 0 && fds_at_most > 0)
		w->fs.inodes->max_fds = fds_at_most;
	if (r == 0)
		r = handle_init(&w->fs);
	if (r == 0)
		r = journal_init(&w->fs);
	return r;
}

static void worker_free(struct worker *w)
{
	if (w->fs.inodes)
		munmap(w->fs.inodes, sizeof(*w->fs.inodes));
	free(w->fs.handles);
	free(w->fs.journals);
}

static struct request request_of(struct worker *w, uint64_t tag, bool again)
{
	return (struct request){
		.fs = &w->fs, .thread = &w->thread, .ring = &w->ring, .tag = tag, .again = again
	};
}

static void published(struct worker *w)
{
	journal_published(&w->fs, &w->thread, NULL);
}

static struct inode *root(struct worker *w)
{
	struct inode *i = inode_get(&w->fs, FUSE_ROOT_ID);

	assert_non_null(i);
	return i;
}

/* Make or truncate a file below dir. */
static void touch(const char *name)
{
	int fd = openat(ROOT_FD, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static void fill_dir(void)
{
	for (uint32_t i = 0; i < N_FILES; i++)
		touch(names[i]);
}

static int remove_tree(const char *path)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf '%s'", path);
	return system(command);
}

static int group_setup(void **state)
{
	struct rlimit limit;

	if (!mkdtemp(dir))
		return -1;
	/* Large memory comes from the kernel, cleared: clearing it here would be stepped through. */
	mallopt(M_MMAP_THRESHOLD, 64 << 10);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	/* Descriptors of the tables are the session's: nothing free is left below. */
	for (int fd = open("/dev/null", O_RDWR); fd >= 0 && fd < CONTRACT_FD_SESSION;)
		fd = dup(fd);
	return 0;
}

static int group_teardown(void **state)
{
	return remove_tree(dir);
}

static int setup(void **state)
{
	int fd;

	fds_at_most = 0;
	close_range(CONTRACT_FD_SESSION, ~0u, 0);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -1;
	fd = open(dir, O_PATH | O_DIRECTORY);
	if (fd < 0 || fd_move(fd, ROOT_FD, false) < 0)
		return -1;
	fd = open("/proc/self/fd", O_PATH | O_DIRECTORY);
	return fd < 0 || fd_move(fd, PROC_FD, false) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	close_range(CONTRACT_FD_SESSION, ~0u, 0);
	return remove_tree(dir);
}

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

static uint64_t count_of(struct worker *w, const char *name)
{
	struct inode *i;
	struct statx st;
	uint64_t count;

	assert_int_equal(statx(ROOT_FD, name, AT_SYMLINK_NOFOLLOW, ATTR_STATX_MASK, &st), 0);
	i = inode_find(&w->fs, &st);
	if (!i)
		return 0;
	count = word_count(inode_load(w->fs.inodes, inode_index(w->fs.inodes, i)));
	inode_put(&w->fs, i);
	return count;
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
static struct part {
	size_t offset, len;
} parts[16];
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

/* A worker in a store of its own, for what needs no death. */
static struct worker alone;

static void alone_start(void)
{
	static struct outside outside;

	memset(&outside, 0, sizeof(outside));
	out = &outside;
	fill_dir();
	assert_int_equal(worker_start(&alone, store_new()), 0);
}

static void alone_stop(void)
{
	store_free(alone.fs.store);
	worker_free(&alone);
}

/* Another life on the same store. */
static void alone_again(void)
{
	struct store *s = alone.fs.store;

	worker_free(&alone);
	assert_int_equal(worker_start(&alone, s), 0);
}

static uint64_t next_tag = 1;

static uint64_t look_up(struct inode *parent, const char *name, struct statx *ret)
{
	struct request rq = request_of(&alone, next_tag++, false);
	struct inode *i;
	uint64_t id;

	journal_begin(&rq);
	assert_int_equal(inode_look_up(&rq, parent, name, &i, ret), 0);
	id = inode_id(&alone.fs, i);
	inode_put(&alone.fs, i);
	published(&alone);
	return id;
}

static uint64_t look_up_in_root(const char *name)
{
	struct inode *r = root(&alone);
	struct statx st;
	uint64_t id = look_up(r, name, &st);

	inode_put(&alone.fs, r);
	return id;
}

static void forget(uint64_t nodeid, uint64_t n)
{
	struct request rq = request_of(&alone, next_tag++, false);

	journal_begin(&rq);
	inode_forget(&rq, nodeid, n);
	published(&alone);
}

static uint32_t n_open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	uint32_t n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += atoi(e->d_name) >= CONTRACT_FD_SESSION;
	closedir(d);
	return n - 1; /* d's own */
}

static void forgotten_node_ids_are_not_found_again(void **state)
{
	uint64_t first, second;
	struct inode *i;

	alone_start();
	first = look_up_in_root("a");
	i = inode_get(&alone.fs, first);
	assert_non_null(i);
	inode_put(&alone.fs, i);
	forget(first, 1);
	assert_null(inode_get(&alone.fs, first));
	second = look_up_in_root("a");
	assert_int_equal((uint32_t)second, (uint32_t)first);
	assert_int_not_equal(second, first);
	assert_null(inode_get(&alone.fs, first));
	assert_null(inode_get(&alone.fs, 0));
	assert_null(inode_get(&alone.fs, UINT64_MAX));
	assert_null(inode_get(&alone.fs, second + 1));
	/* The root is for ever. */
	forget(FUSE_ROOT_ID, 1000);
	inode_put(&alone.fs, root(&alone));
	alone_stop();
}

static void hard_links_are_one_inode_and_forgetting_all_leaves_no_descriptor(void **state)
{
	uint64_t a, link, b;

	alone_start();
	assert_int_equal(linkat(ROOT_FD, "a", ROOT_FD, "link", 0), 0);
	a = look_up_in_root("a");
	link = look_up_in_root("link");
	b = look_up_in_root("b");
	assert_int_equal(a, link);
	assert_int_not_equal(a, b);
	assert_int_equal(n_open_fds(), 2);
	forget(a, 1);
	assert_int_equal(n_open_fds(), 2);
	forget(a, 1);
	assert_int_equal(n_open_fds(), 1);
	inode_forget_all(&alone.fs);
	assert_int_equal(n_open_fds(), 0);
	assert_int_equal(alone.fs.inodes->n_known, 0);
	alone_stop();
}

/* Whatever is guessed about a name before, what it is comes out. */
static void guesses_change_nothing(void **state)
{
	uint64_t id[N_FILES];
	struct request rq;
	struct inode *r, *i;
	struct statx st;

	alone_start();
	for (uint32_t n = 0; n < N_FILES; n++)
		id[n] = look_up_in_root(names[n]); /* new, and so is the next, it seems */
	assert_int_equal(look_up_in_root("a"), id[0]);
	assert_int_equal(count_of(&alone, "a"), 2);
	assert_int_equal(n_open_fds(), N_FILES);
	r = root(&alone);
	assert_int_equal(statx(ROOT_FD, "b", 0, ATTR_STATX_MASK, &st), 0);
	for (uint32_t n = 0; n < 4; n++) {
		/* A number that is unknown, is another's, is the name's. */
		const uint64_t inos[] = { 1, st.stx_ino + 1, st.stx_ino, 0 };

		rq = request_of(&alone, next_tag++, false);
		assert_int_equal(inode_look_up_listed(&rq, r, "b", inos[n], &i, &st), 0);
		assert_int_equal(inode_id(&alone.fs, i), id[1]);
		inode_put(&alone.fs, i);
		rq = request_of(&alone, next_tag++, false);
		assert_int_equal(inode_look_up_listed(&rq, r, "nothing", inos[n], &i, &st),
				 -ENOENT);
		assert_int_equal(inode_look_up(&rq, r, "nothing", &i, &st), -ENOENT);
	}
	inode_put(&alone.fs, r);
	assert_int_equal(count_of(&alone, "b"), 5);
	assert_int_equal(n_open_fds(), N_FILES);
	alone_stop();
}

static void an_inode_in_use_outlives_its_forgetting(void **state)
{
	struct inode *i;
	struct statx st;
	uint64_t id;

	alone_start();
	id = look_up_in_root("a");
	i = inode_get(&alone.fs, id);
	forget(id, 1);
	assert_null(inode_get(&alone.fs, id));
	assert_int_equal(inode_stat(&alone.fs, i, &st), 0);
	assert_int_equal(n_open_fds(), 1);
	inode_put(&alone.fs, i);
	assert_int_equal(n_open_fds(), 0);

	/* And one that is looked up meanwhile is the same. */
	id = look_up_in_root("a");
	i = inode_get(&alone.fs, id);
	forget(id, 1);
	assert_int_equal(look_up_in_root("a"), id);
	inode_put(&alone.fs, i);
	assert_int_equal(count_of(&alone, "a"), 1);

	/* A worker that dies with it in use leaves nothing either. */
	i = inode_get(&alone.fs, id);
	forget(id, 1);
	alone_again();
	assert_int_equal(alone.fs.inodes->n_known, 0);
	alone_stop();
}

static void an_unlinked_inode_goes_on(void **state)
{
	struct inode *i;
	struct statx before, after;
	uint64_t id;

	alone_start();
	id = look_up_in_root("a");
	i = inode_get(&alone.fs, id);
	assert_int_equal(inode_stat(&alone.fs, i, &before), 0);
	inode_put(&alone.fs, i);
	assert_int_equal(unlinkat(ROOT_FD, "a", 0), 0);
	alone_again();
	i = inode_get(&alone.fs, id);
	assert_non_null(i);
	assert_int_equal(inode_stat(&alone.fs, i, &after), 0);
	assert_int_equal(after.stx_ino, before.stx_ino);
	assert_int_equal(after.stx_nlink, 0);
	inode_put(&alone.fs, i);
	touch("a");
	assert_int_not_equal(look_up_in_root("a"), id);
	alone_stop();
}

static void only_files_and_directories_are_opened(void **state)
{
	static const struct {
		const char *name;
		int error;
	} row[] = { { "a", 0 }, { "sub", 0 }, { "fifo", -ENXIO }, { "symlink", -ELOOP } };

	alone_start();
	assert_int_equal(mkdirat(ROOT_FD, "sub", 0700), 0);
	assert_int_equal(mkfifoat(ROOT_FD, "fifo", 0600), 0);
	assert_int_equal(symlinkat("/etc/passwd", ROOT_FD, "symlink"), 0);
	for (uint32_t n = 0; n < UNIT_N(row); n++) {
		struct inode *i = inode_get(&alone.fs, look_up_in_root(row[n].name));
		int fd = inode_reopen(&alone.fs, i, O_RDONLY);

		if (row[n].error < 0)
			assert_int_equal(fd, row[n].error);
		else
			assert_true(fd >= CONTRACT_FD_SESSION);
		fd_close(fd);
		inode_put(&alone.fs, i);
	}
	alone_stop();
}

static void open_files_are_looked_up_by_descriptor(void **state)
{
	struct request rq;
	struct inode *i;
	struct statx st;
	int fd;

	alone_start();
	rq = request_of(&alone, next_tag++, false);
	fd = openat(ROOT_FD, ".", O_TMPFILE | O_RDWR, 0600);
	assert_true(fd >= 0);
	assert_int_equal(inode_look_up_fd(&rq, fd, &i, &st), 0);
	assert_int_equal(st.stx_nlink, 0);
	close(fd);
	assert_int_equal(inode_stat(&alone.fs, i, &st), 0);
	inode_put(&alone.fs, i);
	alone_stop();
}

static uint64_t open_null(void)
{
	struct request rq = request_of(&alone, next_tag++, false);
	uint64_t fh;

	journal_begin(&rq);
	assert_int_equal(
		handle_open(&rq, open("/dev/null", O_RDONLY), HANDLE_FILE, O_RDONLY, 1, &fh), 0);
	published(&alone);
	return fh;
}

static void release(uint64_t fh, enum handle_kind kind)
{
	struct request rq = request_of(&alone, next_tag++, false);

	handle_release(&rq, fh, kind);
}

static void released_handles_are_not_found_and_used_ones_are_closed_last(void **state)
{
	const struct handle *h;
	uint64_t fh, next;

	alone_start();
	fh = open_null();
	assert_null(handle_get(&alone.fs, fh, HANDLE_DIRECTORY));
	assert_null(handle_get(&alone.fs, fh + (UINT64_C(1) << 32), HANDLE_FILE));
	assert_null(handle_get(&alone.fs, UINT64_MAX, HANDLE_FILE));
	h = handle_get(&alone.fs, fh, HANDLE_FILE);
	assert_non_null(h);
	release(fh, HANDLE_DIRECTORY);
	assert_int_equal(n_open_fds(), 1);
	release(fh, HANDLE_FILE);
	release(fh, HANDLE_FILE);
	assert_int_equal(n_open_fds(), 1);
	assert_null(handle_get(&alone.fs, fh, HANDLE_FILE));
	/* Its place is not given away while it is used. */
	next = open_null();
	assert_int_not_equal((uint32_t)next, (uint32_t)fh);
	assert_true(fcntl(h->fd, F_GETFD) >= 0);
	handle_put(&alone.fs, h);
	assert_int_equal(n_open_fds(), 1);
	assert_int_equal((uint32_t)open_null(), (uint32_t)fh);
	handle_release_all(&alone.fs);
	assert_int_equal(n_open_fds(), 0);
	alone_stop();
}

static void handles_are_bounded(void **state)
{
	struct request rq;
	uint64_t fh[HANDLE_MAX / 64], more;
	uint32_t n;

	alone_start();
	for (n = 0; n < UNIT_N(fh); n++)
		fh[n] = open_null();
	release(fh[7], HANDLE_FILE);
	fh[7] = open_null();
	rq = request_of(&alone, next_tag++, false);
	/* As if the table were full: the descriptor is taken all the same. */
	for (; n < HANDLE_MAX; n++)
		if (handle_open(&rq, open("/dev/null", O_RDONLY), HANDLE_FILE, 0, 1, &more) < 0)
			break;
	assert_int_equal(n_open_fds(), n);
	assert_true(n <= HANDLE_MAX);
	assert_int_equal(handle_open(&rq, open("/dev/null", O_RDONLY), HANDLE_FILE, 0, 1, &more),
			 -ENFILE);
	assert_int_equal(n_open_fds(), n);
	alone_stop();
}

/* Parking. */

enum { N_PARKED = 60, FD_LIMIT = 8 };

/* 60 files in 6 directories, eight descriptors. */
struct tree {
	uint64_t sub[6], file[N_PARKED];
	uint64_t ino[N_PARKED];
};

static struct inode *tree_get(uint64_t id)
{
	struct inode *i = inode_get(&alone.fs, id);

	assert_non_null(i);
	return i;
}

/* Every fourth has a longer name: around what a record holds by itself, and the longest there is. */
static void tree_name(char *buf, size_t len, uint32_t n)
{
	static const int longer[] = { INODE_HEAD_LEN - 1, INODE_HEAD_LEN, INODE_HEAD_LEN + 1, 255 };
	int used = snprintf(buf, len, "file%u", n);

	if (n % 4 == 2)
		snprintf(buf + used, len - (size_t)used, "%0*d",
			 longer[n / 4 % UNIT_N(longer)] - used, 0);
}

static void tree_make(struct tree *t)
{
	char name[INODE_NAME_LEN], path[INODE_NAME_LEN + 16];

	alone_start();
	alone.fs.inodes->max_fds = FD_LIMIT;
	for (uint32_t d = 0; d < UNIT_N(t->sub); d++) {
		snprintf(name, sizeof(name), "sub%u", d);
		assert_int_equal(mkdirat(ROOT_FD, name, 0700), 0);
		t->sub[d] = look_up_in_root(name);
	}
	for (uint32_t n = 0; n < N_PARKED; n++) {
		struct inode *d = tree_get(t->sub[n % UNIT_N(t->sub)]);
		struct statx st;

		tree_name(name, sizeof(name), n);
		snprintf(path, sizeof(path), "sub%u/%s", (uint32_t)(n % UNIT_N(t->sub)), name);
		touch(path);
		t->file[n] = look_up(d, name, &st);
		t->ino[n] = st.stx_ino;
		inode_put(&alone.fs, d);
		assert_true(alone.fs.inodes->n_fds <= FD_LIMIT);
	}
}

static int tree_stat(const struct tree *t, uint32_t n, struct statx *ret)
{
	struct inode *i = tree_get(t->file[n]);
	int r = inode_stat(&alone.fs, i, ret);

	inode_put(&alone.fs, i);
	return r;
}

static bool is_parked(uint64_t id)
{
	return word_fd(inode_load(alone.fs.inodes, (uint32_t)id)) == INODE_FD_PARKED;
}

/* All that are looked at meanwhile push it out. */
static void tree_park(const struct tree *t, uint32_t n)
{
	struct statx st;

	for (uint32_t round = 0; !is_parked(t->file[n]); round++) {
		assert_true(round < 10);
		for (uint32_t other = 0; other < N_PARKED; other++)
			if (other != n)
				assert_int_equal(tree_stat(t, other, &st), 0);
	}
}

static void inodes_beyond_the_limit_are_parked_and_come_back(void **state)
{
	struct tree t;
	struct statx st;

	tree_make(&t);
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t n = 0; n < N_PARKED; n++) {
			uint32_t which = n * 7 % N_PARKED;

			assert_int_equal(tree_stat(&t, which, &st), 0);
			assert_int_equal(st.stx_ino, t.ino[which]);
			assert_true(alone.fs.inodes->n_fds <= FD_LIMIT);
			assert_int_equal(n_open_fds(), alone.fs.inodes->n_fds);
		}
		alone_again();
		alone.fs.inodes->max_fds = FD_LIMIT;
	}
	assert_int_equal(alone.fs.inodes->n_parked + alone.fs.inodes->n_fds,
			 N_PARKED + UNIT_N(t.sub));
	inode_forget_all(&alone.fs);
	assert_int_equal(n_open_fds(), 0);
	assert_int_equal(alone.fs.inodes->n_parked, 0);
	alone_stop();
}

static void a_parked_inode_is_found_by_a_look_up_and_keeps_its_node_id(void **state)
{
	struct inode *d;
	struct tree t;
	struct statx st;

	tree_make(&t);
	tree_park(&t, 3);
	d = tree_get(t.sub[3]);
	assert_int_equal(look_up(d, "file3", &st), t.file[3]);
	assert_false(is_parked(t.file[3]));
	inode_put(&alone.fs, d);
	alone_stop();
}

static void what_the_guest_unlinks_or_renames_comes_back_though_it_was_parked(void **state)
{
	struct inode *d, *to, *i;
	struct statx st;
	struct tree t;

	tree_make(&t);
	d = tree_get(t.sub[3]);
	to = tree_get(t.sub[4]);
	tree_park(&t, 3);
	tree_park(&t, 9);

	inode_name_gone(&alone.fs, d, "file3");
	assert_int_equal(unlinkat(ROOT_FD, "sub3/file3", 0), 0);
	assert_int_equal(statx(ROOT_FD, "sub3/file9", 0, ATTR_STATX_MASK, &st), 0);
	i = inode_find(&alone.fs, &st);
	inode_name_gone(&alone.fs, d, "file9");
	assert_int_equal(renameat(ROOT_FD, "sub3/file9", ROOT_FD, "sub4/other"), 0);
	inode_name_set(&alone.fs, i, to, "other");
	inode_put(&alone.fs, i);

	/* One has no name to come back by, so it stays; the other does come back. */
	for (uint32_t n = 0; n < N_PARKED; n++)
		assert_int_equal(tree_stat(&t, n, &st), 0);
	tree_park(&t, 9);
	assert_int_equal(tree_stat(&t, 9, &st), 0);
	assert_int_equal(st.stx_ino, t.ino[9]);
	assert_int_equal(tree_stat(&t, 3, &st), 0);
	assert_int_equal(st.stx_ino, t.ino[3]);
	assert_int_equal(st.stx_nlink, 0);
	inode_put(&alone.fs, d);
	inode_put(&alone.fs, to);
	alone_stop();
}

static void what_others_replace_while_it_is_parked_is_stale(void **state)
{
	struct inode *d;
	struct tree t;
	struct statx st;
	uint64_t id;

	tree_make(&t);
	tree_park(&t, 3);
	tree_park(&t, 9);
	tree_park(&t, 15);
	/* Gone; another file of that name (perhaps of that number); something that leads elsewhere. */
	assert_int_equal(unlinkat(ROOT_FD, "sub3/file3", 0), 0);
	assert_int_equal(tree_stat(&t, 3, &st), -ESTALE);
	assert_int_equal(unlinkat(ROOT_FD, "sub3/file9", 0), 0);
	touch("sub3/file9");
	assert_int_equal(tree_stat(&t, 9, &st), -ESTALE);
	assert_int_equal(unlinkat(ROOT_FD, "sub3/file15", 0), 0);
	assert_int_equal(symlinkat("../a", ROOT_FD, "sub3/file15"), 0);
	assert_int_equal(tree_stat(&t, 15, &st), -ESTALE);

	d = tree_get(t.sub[3]);
	id = look_up(d, "file9", &st);
	assert_int_not_equal(id, t.file[9]);
	assert_int_equal(tree_stat(&t, 9, &st), -ESTALE);
	inode_put(&alone.fs, d);
	forget(t.file[9], 1);
	forget(id, 1);
	alone_stop();
}

static void a_deep_path_comes_back_step_by_step(void **state)
{
	enum { DEPTH = 40 }; /* more than there are descriptors */
	struct inode *parent;
	uint64_t id[DEPTH];
	char path[DEPTH * 2 + 1] = "";
	struct tree t;
	struct statx st;

	tree_make(&t);
	parent = root(&alone);
	for (uint32_t n = 0; n < DEPTH; n++) {
		strcat(path, n > 0 ? "/d" : "d");
		assert_int_equal(mkdirat(ROOT_FD, path, 0700), 0);
		id[n] = look_up(parent, "d", &st);
		inode_put(&alone.fs, parent);
		parent = tree_get(id[n]);
	}
	inode_put(&alone.fs, parent);
	for (uint32_t round = 0; round < 6; round++)
		for (uint32_t n = 0; n < N_PARKED; n++)
			assert_int_equal(tree_stat(&t, n, &st), 0);
	assert_true(is_parked(id[DEPTH - 1]));
	parent = tree_get(id[DEPTH - 1]);
	assert_int_equal(inode_stat(&alone.fs, parent, &st), 0);
	inode_put(&alone.fs, parent);
	assert_true(alone.fs.inodes->n_fds <= FD_LIMIT);
	alone_stop();
}

static void when_all_are_in_use_there_is_no_room(void **state)
{
	struct inode *used[FD_LIMIT] = { 0 }, *r, *i;
	struct request rq;
	struct statx st;
	char name[16];

	alone_start();
	alone.fs.inodes->max_fds = FD_LIMIT;
	for (uint32_t n = 0; n < FD_LIMIT; n++) {
		tree_name(name, sizeof(name), n);
		touch(name);
		used[n] = tree_get(look_up_in_root(name));
	}
	rq = request_of(&alone, next_tag++, false);
	r = root(&alone);
	assert_int_equal(inode_look_up(&rq, r, "a", &i, &st), -ENFILE);
	inode_put(&alone.fs, r);
	assert_int_equal(n_open_fds(), FD_LIMIT);
	for (uint32_t n = 0; n < FD_LIMIT; n++)
		inode_put(&alone.fs, used[n]);
	look_up_in_root("a");
	alone_stop();
}

/* Hostile tables. */

/* A table with something of everything: known, parked and dead inodes, handles, items, an intent, a count in hand. */
static void hostile_make(struct tree *t)
{
	struct request rq;
	struct inode *r;
	struct statx st;
	struct inode *i;

	tree_make(t);
	for (uint32_t n = 0; n < 12; n++)
		open_null();
	r = root(&alone);
	for (uint32_t n = 0; n < N_FILES; n++) {
		rq = request_of(&alone, TAG + n, false);
		journal_begin(&rq);
		assert_int_equal(inode_look_up(&rq, r, names[n], &i, &st), 0);
		inode_put(&alone.fs, i);
	}
	inode_put(&alone.fs, r);
	journal_result(&rq, 3);
	rq = request_of(&alone, TAG + N_FILES, false);
	journal_begin(&rq);
	journal_intend(&rq, &(struct journal_intent){ .name = "a", .name2 = "b" });
	alone.fs.store->inodes.hand.armed = 1;
}

enum { N_HOSTILE = 128, N_ROUNDS = 600 };

/* Where what hostile_make() has written lies. */
static struct part hostile_parts[N_HOSTILE + 16];
static uint32_t n_hostile_parts;

static void hostile_part(const void *p, size_t len)
{
	const char *from = (const char *)alone.fs.store;

	assert_true(n_hostile_parts < UNIT_N(hostile_parts));
	hostile_parts[n_hostile_parts++] = (struct part){ (size_t)((const char *)p - from), len };
}

static void hostile_find_parts(void)
{
	struct store *s = alone.fs.store;

	n_hostile_parts = 0;
	hostile_part(&s->inodes, offsetof(struct inode_table, bucket));
	hostile_part(s->inodes.word, N_HOSTILE * sizeof(s->inodes.word[0]));
	hostile_part(s->inodes.entry, N_HOSTILE * sizeof(s->inodes.entry[0]));
	hostile_part(s->inodes.cold, N_HOSTILE * sizeof(s->inodes.cold[0]));
	hostile_part(&s->handles, offsetof(struct handle_table, entry[16]));
	hostile_part(&s->journal[0], sizeof(s->journal[0].n) + sizeof(s->journal[0].begun[0]));
	hostile_part(s->journal[0].item, 16 * sizeof(s->journal[0].item[0]));
	for (uint32_t n = 0; n < INODE_BUCKETS; n++)
		if (s->inodes.bucket[n])
			hostile_part(&s->inodes.bucket[n], sizeof(s->inodes.bucket[n]));
}

static void hostile_restore(struct store *to, const struct store *from)
{
	for (uint32_t i = 0; i < n_hostile_parts; i++)
		memcpy((char *)to + hostile_parts[i].offset,
		       (const char *)from + hostile_parts[i].offset, hostile_parts[i].len);
}

/* One byte of one part: any value, or one that leads somewhere. */
static void hostile_flip(struct store *s, unsigned *seed)
{
	static const uint8_t likely[] = { 0, 1, 2, 3, 48, 49, 70, 0x7f, 0x80, 0xff };
	uint32_t which = (uint32_t)rand_r(seed) % n_hostile_parts;
	const struct part *p = &hostile_parts[which];
	uint8_t value = (uint8_t)rand_r(seed);

	if (rand_r(seed) % 2)
		value = likely[(uint32_t)rand_r(seed) % UNIT_N(likely)];
	((uint8_t *)s)[p->offset + (uint32_t)rand_r(seed) % p->len] = value;
}

static void hostile_requests(const struct tree *t, unsigned *seed)
{
	struct journal_intent intent;
	const struct handle *h;
	struct request rq;
	struct inode *r, *i;
	struct statx st;
	int64_t result;
	uint64_t fh;

	alone.thread.resumed = false;
	for (uint32_t n = 0; n < N_FILES + 2; n++) {
		rq = request_of(&alone, TAG + n, true);
		journal_begin(&rq);
		journal_past(&rq, &result, &intent);
		if (inode_found(&rq, &i))
			inode_put(&alone.fs, i);
		handle_found(&rq, &fh);
		r = inode_get(&alone.fs, FUSE_ROOT_ID);
		if (r && inode_look_up(&rq, r, names[n % N_FILES], &i, &st) == 0) {
			inode_name_set(&alone.fs, i, r, names[n % N_FILES]);
			inode_put(&alone.fs, i);
		}
		if (r) {
			inode_name_gone(&alone.fs, r, names[n % N_FILES]);
			inode_put(&alone.fs, r);
		}
	}
	alone.thread.resumed = true;
	published(&alone);
	for (uint32_t n = 0; n < 3 * N_HOSTILE; n++) {
		uint64_t id = n < N_PARKED ? t->file[n] : (uint64_t)(n % 5) << 32 | n % N_HOSTILE;

		rq = request_of(&alone, next_tag++, false);
		journal_begin(&rq);
		i = inode_get(&alone.fs, id);
		if (i) {
			inode_stat(&alone.fs, i, &st);
			fd_close(inode_reopen(&alone.fs, i, O_RDONLY));
			inode_put(&alone.fs, i);
		}
		inode_forget(&rq, id, (uint64_t)rand_r(seed) % 3);
		h = handle_get(&alone.fs, id, HANDLE_FILE);
		if (h)
			handle_put(&alone.fs, h);
		handle_release(&rq, id, HANDLE_FILE);
		if (n % 50 == 0)
			published(&alone);
	}
}

/* 0: it was refused, 1: it was taken, and nothing came of it. A signal: a bug. */
static int hostile_life(const struct tree *t, unsigned seed)
{
	struct worker dead = alone;
	int r;

	alarm(60);
	r = worker_start(&alone, dead.fs.store);
	if (r < 0)
		return r == -EBADMSG ? 0 : 2;
	alone.fs.inodes->max_fds = FD_LIMIT;
	hostile_requests(t, &seed);
	inode_forget_all(&alone.fs);
	handle_release_all(&alone.fs);
	return 1;
}

static void hostile_tables_are_refused_or_do_no_harm(void **state)
{
	uint32_t n[2] = { 0 };
	struct store *pristine;
	struct tree t;

	hostile_make(&t);
	hostile_find_parts();
	pristine = store_new();
	hostile_restore(pristine, alone.fs.store);
	for (unsigned seed = 1; seed <= N_ROUNDS; seed++) {
		unsigned s = seed;
		int status;
		pid_t pid;

		hostile_restore(alone.fs.store, pristine);
		for (uint32_t flips = 1 + seed % 12; flips > 0; flips--)
			hostile_flip(alone.fs.store, &s);
		pid = fork();
		if (pid == 0)
			_exit(hostile_life(&t, seed));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
			fail_msg("seed %u: status %#x", seed, (unsigned)status);
		n[WEXITSTATUS(status)]++;
	}
	print_message("%u refused, %u taken\n", n[0], n[1]);
	assert_true(n[0] > 0 && n[1] > 0);
	store_free(pristine);
	alone_stop();
}

static int attach_again(void)
{
	struct worker w = alone;
	int r = worker_start(&w, alone.fs.store);

	worker_free(&w);
	return r;
}

static void descriptors_that_are_no_session_s_or_another_s_are_refused(void **state)
{
	static const int numbers[] = { -1, INT32_MIN, 1, 2, 3, CONTRACT_FD_SESSION - 1, INODE_FDS };
	struct store *s;
	uint64_t a, fh, word;
	int fd;

	alone_start();
	s = alone.fs.store;
	a = look_up_in_root("a");
	look_up_in_root("b");
	fh = open_null();
	fd = s->handles.entry[(uint32_t)fh].fd;
	assert_int_equal(attach_again(), 0);
	for (uint32_t n = 0; n < UNIT_N(numbers); n++) {
		s->handles.entry[(uint32_t)fh].fd = numbers[n];
		assert_int_equal(attach_again(), -EBADMSG);
	}
	s->handles.entry[(uint32_t)fh].fd = fd;
	word = s->inodes.word[(uint32_t)a];
	for (uint32_t n = 0; n < UNIT_N(numbers); n++) {
		if (numbers[n] < 2 || numbers[n] >= INODE_FDS)
			continue; /* parked, or not to be written */
		s->inodes.word[(uint32_t)a] = inode_word(numbers[n], 1);
		assert_int_equal(attach_again(), -EBADMSG);
	}
	s->inodes.word[(uint32_t)a] = inode_word(fd, 1); /* the handle's */
	assert_int_equal(attach_again(), -EBADMSG);
	s->inodes.word[(uint32_t)a] = s->inodes.word[(uint32_t)a + 1];
	assert_int_equal(attach_again(), -EBADMSG);
	s->inodes.word[(uint32_t)a] = word;
	assert_int_equal(attach_again(), 0);
	s->inodes.high = INODE_MAX + 1;
	assert_int_equal(attach_again(), -EBADMSG);
	s->inodes.high = 1;
	assert_int_equal(attach_again(), -EBADMSG);
	alone_stop();
}

/* Deaths with one descriptor table, as keeper and workers have it. */

struct named {
	struct worker *w;
	uint64_t bits[64];
};

static void named_add(int fd, void *arg)
{
	struct named *named = arg;

	assert_true(fd >= CONTRACT_FD_SESSION && fd < 64 * 64);
	assert_int_equal(named->bits[fd / 64] >> (fd % 64) & 1, 0);
	named->bits[fd / 64] |= UINT64_C(1) << (fd % 64);
	assert_true(fcntl(fd, F_GETFD) >= 0);
}

/* As process/sweep.c. */
static void sweep(struct worker *w)
{
	struct named named = { .w = w };

	inode_for_each_fd(&w->fs, named_add, &named);
	handle_for_each_fd(&w->fs, named_add, &named);
	for (int fd = CONTRACT_FD_SESSION; fd < 64 * 64; fd++)
		if (!(named.bits[fd / 64] >> (fd % 64) & 1))
			close(fd);
}

/* Every inode's descriptor is the inode's. */
static void descriptors_check(struct worker *w)
{
	const struct inodes *s = w->fs.inodes;

	for (uint32_t n = INODE_ROOT + 1; n < s->table->high; n++) {
		uint64_t word = inode_load(s, n);
		struct inode_key key;
		struct statx st;

		if (!word_open(word))
			continue;
		assert_int_equal(statx(word_fd(word), "", AT_EMPTY_PATH, ATTR_STATX_MASK, &st), 0);
		key = inode_key_of(&st);
		assert_int_equal(key.ino, s->table->entry[n].ino);
		assert_true(word_count(word) > 0);
	}
}

static void random_request(const struct tree *t, unsigned *seed)
{
	uint32_t n = (uint32_t)rand_r(seed) % N_PARKED;
	struct inode *d = inode_get(&alone.fs, t->sub[n % UNIT_N(t->sub)]), *i;
	struct request rq = request_of(&alone, next_tag++, false);
	struct statx st;
	char name[INODE_NAME_LEN];
	uint64_t fh;

	tree_name(name, sizeof(name), n);
	journal_begin(&rq);
	if (!d || inode_look_up(&rq, d, name, &i, &st) != 0)
		abort();
	inode_put(&alone.fs, d);
	fh = inode_id(&alone.fs, i);
	if (rand_r(seed) % 2)
		inode_forget(&rq, fh, 1 + (uint64_t)rand_r(seed) % 3);
	inode_put(&alone.fs, i);
	if (handle_open(&rq, open("/dev/null", O_RDONLY), HANDLE_FILE, 0, 1, &fh) == 0 &&
	    rand_r(seed) % 16)
		handle_release(&rq, fh, HANDLE_FILE);
	if (rand_r(seed) % 4 == 0)
		published(&alone);
}

static void random_life(const struct tree *t, unsigned seed)
{
	for (;;)
		random_request(t, &seed);
}

static void killed_workers_leave_neither_stray_nor_lost_descriptors(void **state)
{
	uint32_t n_items = 0;
	struct tree t;

	tree_make(&t);
	for (unsigned n = 0; n < 150; n++) {
		struct timespec ts = { .tv_nsec = 20000 + n * 37 % 50 * 20000 };
		int status;
		pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);

		assert_true(pid >= 0);
		if (pid == 0)
			random_life(&t, n);
		nanosleep(&ts, NULL);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		n_items += alone.fs.store->journal[0].n;
		alone_again();
		alone.fs.inodes->max_fds = FD_LIMIT;
		sweep(&alone);
		descriptors_check(&alone);
		published(&alone);
		handle_release_all(&alone.fs);
		assert_int_equal(n_open_fds(), alone.fs.inodes->n_fds);
	}
	assert_true(n_items > 0);
	inode_forget_all(&alone.fs);
	assert_int_equal(n_open_fds(), 0);
	alone_stop();
}

/* Several threads. */

enum { N_THREADS = 8, N_TURNS = 4000 };

struct hand {
	pthread_t thread;
	const struct tree *tree;
	struct worker *w;
	struct thread t;
	uint32_t index;
	uint64_t counted[N_PARKED];
};

static void *hand_main(void *arg)
{
	struct hand *h = arg;
	unsigned seed = h->index + 1;
	struct statx st;
	char name[INODE_NAME_LEN];

	for (uint32_t turn = 0; turn < N_TURNS; turn++) {
		uint32_t n = (uint32_t)rand_r(&seed) % N_PARKED;
		struct request rq = request_of(h->w, 1 + turn, false);
		struct inode *d = inode_get(&h->w->fs, h->tree->sub[n % UNIT_N(h->tree->sub)]), *i;

		rq.thread = &h->t;
		tree_name(name, sizeof(name), n);
		journal_begin(&rq);
		if (!d || inode_look_up(&rq, d, name, &i, &st) != 0 ||
		    st.stx_ino != h->tree->ino[n])
			abort();
		if (inode_stat(&h->w->fs, i, &st) != 0 || st.stx_ino != h->tree->ino[n])
			abort();
		h->counted[n]++;
		if (rand_r(&seed) % 2) {
			inode_forget(&rq, inode_id(&h->w->fs, i), h->counted[n]);
			h->counted[n] = 0;
		}
		inode_put(&h->w->fs, i);
		inode_put(&h->w->fs, d);
		journal_published(&h->w->fs, &h->t, NULL);
	}
	return NULL;
}

static void threads_count_exactly_while_inodes_are_parked(void **state)
{
	static struct hand hands[N_THREADS];
	uint64_t sum = 0, counted = 0;
	struct tree t;

	tree_make(&t);
	alone.fs.inodes->max_fds = 5 * FD_LIMIT; /* more than the threads can have in use */
	for (uint32_t n = 0; n < N_PARKED; n++)
		forget(t.file[n], 1);
	for (uint32_t n = 0; n < N_THREADS; n++) {
		hands[n] = (struct hand){ .tree = &t, .w = &alone, .index = n };
		hands[n].t.index = n;
		hands[n].t.resumed = true;
		assert_int_equal(pthread_create(&hands[n].thread, NULL, hand_main, &hands[n]), 0);
	}
	for (uint32_t n = 0; n < N_THREADS; n++) {
		pthread_join(hands[n].thread, NULL);
		for (uint32_t f = 0; f < N_PARKED; f++)
			counted += hands[n].counted[f];
	}
	for (uint32_t n = INODE_ROOT + 1; n < alone.fs.inodes->table->high; n++)
		sum += word_count(inode_load(alone.fs.inodes, n));
	assert_int_equal(sum, counted + UNIT_N(t.sub));
	assert_int_equal(n_open_fds(), alone.fs.inodes->n_fds);
	inode_forget_all(&alone.fs);
	assert_int_equal(n_open_fds(), 0);
	alone_stop();
}

/* Taken over in a process that has not touched the store yet, as a fresh worker. */
static void take_over_and_tell(void)
{
	struct store *s = alone.fs.store;
	struct timespec a, b;

	clock_gettime(CLOCK_MONOTONIC, &a);
	if (worker_start(&alone, s) != 0)
		_exit(1);
	clock_gettime(CLOCK_MONOTONIC, &b);
	print_message("%u inodes taken over in %lld us\n", alone.fs.inodes->n_known,
		      (long long)(b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000);
	_exit(alone.fs.inodes->n_known == 10000 ? 0 : 2);
}

static void a_large_table_is_taken_over(void **state)
{
	enum { N_LARGE = 10000 };
	struct rlimit limit;
	char name[INODE_NAME_LEN];
	int status;
	pid_t pid;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < N_LARGE * 3 / 2 + CONTRACT_FD_LIMIT)
		unit_skip("RLIMIT_NOFILE is %llu", (unsigned long long)limit.rlim_cur);
	alone_start();
	for (uint32_t n = 0; n < N_LARGE; n++) {
		tree_name(name, sizeof(name), n);
		touch(name);
		look_up_in_root(name);
	}
	assert_int_equal(alone.fs.inodes->n_fds, N_LARGE);
	for (uint32_t n = 0; n < 3; n++) {
		pid = fork();
		if (pid == 0)
			take_over_and_tell();
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	alone_stop();
}

/* The journal. */

static void items_of_a_dead_worker_stay_until_all_is_run_again(void **state)
{
	struct journal_intent intent = { 0 };
	struct request first, second;
	int64_t result;

	alone_start();
	first = request_of(&alone, 100, false);
	second = request_of(&alone, 101, false);
	journal_begin(&first);
	journal_intend(&first, &intent);
	journal_result(&first, -EEXIST);
	journal_begin(&second);
	journal_intend(&second, &intent);
	journal_result(&second, 5);

	alone_again();
	alone.thread.resumed = false;
	first = request_of(&alone, 100, true);
	second = request_of(&alone, 101, true);
	journal_begin(&first);
	assert_int_equal(journal_past(&first, &result, &intent), JOURNAL_DONE);
	assert_int_equal(result, -EEXIST);
	published(&alone);
	/* And once more. */
	alone_again();
	alone.thread.resumed = false;
	journal_begin(&second);
	assert_int_equal(journal_past(&second, &result, &intent), JOURNAL_DONE);
	assert_int_equal(result, 5);
	alone.thread.resumed = true;
	published(&alone);
	assert_int_equal(alone.fs.store->journal[0].n, 0);
	alone_stop();
}

static void another_request_of_the_same_tag_inherits_nothing(void **state)
{
	struct journal_intent intent = { .size = 3 };
	struct request rq;
	int64_t result;

	alone_start();
	rq = request_of(&alone, 100, false);
	journal_begin(&rq);
	journal_append(&rq, JOURNAL_RESULT, 1);
	journal_intend(&rq, &intent);
	alone_again();
	alone.thread.resumed = false;
	journal_begin(&rq);
	alone_again();
	rq.again = true;
	journal_begin(&rq);
	assert_int_equal(journal_past(&rq, &result, &intent), JOURNAL_NEW);
	alone_stop();
}

static void a_request_in_hand_keeps_its_items_when_others_are_published(void **state)
{
	struct journal_intent intent = { 0 };
	struct request rq, other;
	int64_t result;

	alone_start();
	other = request_of(&alone, 99, false);
	journal_begin(&other);
	journal_append(&other, JOURNAL_RESULT, 1);
	rq = request_of(&alone, 100, false);
	journal_begin(&rq);
	journal_append(&rq, JOURNAL_RESULT, 2);
	journal_published(&alone.fs, &alone.thread, &rq);
	alone_again();
	rq.again = true;
	assert_int_equal(journal_past(&rq, &result, &intent), JOURNAL_DONE);
	assert_int_equal(result, 2);
	alone_stop();
}

static void a_journal_that_dead_workers_have_filled_has_room(void **state)
{
	struct request rq;

	alone_start();
	for (uint32_t worker = 0; worker < 6; worker++) {
		alone.thread.resumed = false;
		rq = request_of(&alone, 1000 + worker, false);
		assert_true(journal_has_room(&alone.fs, &alone.thread, JOURNAL_BATCH));
		for (uint32_t n = 0; n < JOURNAL_BATCH; n++)
			journal_append(&rq, JOURNAL_RESULT, n);
		assert_false(journal_has_room(&alone.fs, &alone.thread, 1));
		alone_again();
	}
	assert_true(alone.fs.store->journal[0].n <= JOURNAL_MAX_ITEMS);
	alone_stop();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(forgotten_node_ids_are_not_found_again),
		TEST(hard_links_are_one_inode_and_forgetting_all_leaves_no_descriptor),
		TEST(guesses_change_nothing),
		TEST(an_inode_in_use_outlives_its_forgetting),
		TEST(an_unlinked_inode_goes_on),
		TEST(only_files_and_directories_are_opened),
		TEST(open_files_are_looked_up_by_descriptor),
		TEST(released_handles_are_not_found_and_used_ones_are_closed_last),
		TEST(handles_are_bounded),
		TEST(inodes_beyond_the_limit_are_parked_and_come_back),
		TEST(a_parked_inode_is_found_by_a_look_up_and_keeps_its_node_id),
		TEST(what_the_guest_unlinks_or_renames_comes_back_though_it_was_parked),
		TEST(what_others_replace_while_it_is_parked_is_stale),
		TEST(a_deep_path_comes_back_step_by_step),
		TEST(when_all_are_in_use_there_is_no_room),
		TEST(hostile_tables_are_refused_or_do_no_harm),
		TEST(descriptors_that_are_no_session_s_or_another_s_are_refused),
		TEST(killed_workers_leave_neither_stray_nor_lost_descriptors),
		TEST(threads_count_exactly_while_inodes_are_parked),
		TEST(a_large_table_is_taken_over),
		TEST(items_of_a_dead_worker_stay_until_all_is_run_again),
		TEST(another_request_of_the_same_tag_inherits_nothing),
		TEST(a_request_in_hand_keeps_its_items_when_others_are_published),
		TEST(a_journal_that_dead_workers_have_filled_has_room),
		TEST(counts_are_exact_wherever_a_worker_is_killed),
		TEST(parking_can_be_killed_anywhere_too),
		TEST(successors_can_be_killed_anywhere_too),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
