/*
 * What a worker that a guest has taken over can leave in the tables of a file system device: its successor refuses them, or
 * they do no harm.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/fs-bench.h"
#include "tests/unit/unit.h"

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(hostile_tables_are_refused_or_do_no_harm),
		TEST(descriptors_that_are_no_session_s_or_another_s_are_refused),
	};

	return cmocka_run_group_tests(tests, bench_group_setup, bench_group_teardown);
}
