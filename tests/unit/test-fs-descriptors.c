/*
 * Deaths of workers of a file system device with one descriptor table, as keeper and workers have it: at any moment, what is
 * swept is what nobody names, and each inode's descriptor is the inode's.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/fs-bench.h"
#include "tests/unit/unit.h"

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(killed_workers_leave_neither_stray_nor_lost_descriptors),
	};

	return cmocka_run_group_tests(tests, bench_group_setup, bench_group_teardown);
}
