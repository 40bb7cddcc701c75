/*
 * The tables of the file system device, in one worker and in the next: inodes, handles and the journal. What is counted counts
 * once, what is forgotten is not found again, and descriptors neither leak nor are closed twice. (Deaths: test-fs-deaths.c.)
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/fs-bench.h"
#include "tests/unit/unit.h"

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

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
		TEST(a_large_table_is_taken_over),
		TEST(items_of_a_dead_worker_stay_until_all_is_run_again),
		TEST(another_request_of_the_same_tag_inherits_nothing),
		TEST(a_request_in_hand_keeps_its_items_when_others_are_published),
		TEST(a_journal_that_dead_workers_have_filled_has_room),
	};

	return cmocka_run_group_tests(tests, bench_group_setup, bench_group_teardown);
}
