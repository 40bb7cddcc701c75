/*
 * Inodes without a descriptor: the file system device keeps so many open, and finds the others again by their names when they
 * are asked for, by one thread or by many.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/fs-bench.h"
#include "tests/unit/unit.h"

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(inodes_beyond_the_limit_are_parked_and_come_back),
		TEST(a_parked_inode_is_found_by_a_look_up_and_keeps_its_node_id),
		TEST(what_the_guest_unlinks_or_renames_comes_back_though_it_was_parked),
		TEST(what_others_replace_while_it_is_parked_is_stale),
		TEST(a_deep_path_comes_back_step_by_step),
		TEST(when_all_are_in_use_there_is_no_room),
		TEST(threads_count_exactly_while_inodes_are_parked),
	};

	return cmocka_run_group_tests(tests, bench_group_setup, bench_group_teardown);
}
