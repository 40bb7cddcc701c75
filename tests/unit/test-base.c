/* Descriptors, scopes, lists, spans and log records of devices/base. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/base/copy.h"
#include "devices/base/error.h"
#include "devices/base/list.h"
#include "devices/base/log.h"
#include "devices/base/scope.h"
#include "devices/base/span.h"
#include "tests/unit/unit.h"

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void close_keeps_errno(void **state)
{
	errno = ENOENT;
	assert_int_equal(fd_close(-1), -1);
	assert_int_equal(fd_close(9999), -1);
	assert_int_equal(errno, ENOENT);
}

static void scope_closes_unless_taken(void **state)
{
	int kept, closed;

	{
		scope_fd int a = fd_open_memfd("a", 0, 0);
		scope_fd int b = fd_open_memfd("b", 0, 0);

		assert_true(a >= 0 && b >= 0);
		closed = a;
		kept = take_fd(&b);
		assert_int_equal(b, -1);
	}
	assert_false(is_open(closed));
	assert_true(is_open(kept));
	fd_close(kept);
}

static void scope_frees_unless_taken(void **state)
{
	char *kept;

	{
		scope_free char *a = strdup("freed: the sanitizer would say if not");
		scope_free char *b = strdup("kept");
		scope_free char *none = NULL;

		assert_non_null(a);
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it does not know scope_free */
		assert_null(none);
		kept = take_ptr(b);
		assert_null(b);
	}
	assert_string_equal(kept, "kept");
	free(kept);
}

static void move_replaces_and_closes_the_old_number(void **state)
{
	int fd = fd_open_memfd("moved", 77, 0), other = fd_open_memfd("other", 1, 0);
	uint64_t size = 0;

	assert_int_equal(fd_move(fd, other, false), other);
	assert_false(is_open(fd));
	assert_int_equal(fd_size(other, &size), 0);
	assert_int_equal(size, 77);
	assert_int_equal(fcntl(other, F_GETFD), 0);
	assert_int_equal(fd_move(other, other, true), other);
	assert_int_equal(fcntl(other, F_GETFD), FD_CLOEXEC);
	fd_close(other);
	assert_int_equal(fd_move(other, 200, true), -EBADF);
}

static void nonblock_and_cloexec_are_set(void **state)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(fd_set_nonblock(fds[0]), 0);
	assert_true(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
	assert_int_equal(fd_set_cloexec(fds[0], true), 0);
	assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(fd_set_cloexec(fds[0], false), 0);
	assert_int_equal(fcntl(fds[0], F_GETFD), 0);
	fd_close(fds[0]);
	fd_close(fds[1]);
	assert_int_equal(fd_set_nonblock(fds[0]), -EBADF);
}

static void memfd_has_size_seals_and_cloexec(void **state)
{
	scope_fd int fd = fd_open_memfd("sealed", 4096, F_SEAL_SHRINK | F_SEAL_GROW);
	uint64_t size = 0;

	assert_true(fd > 2);
	assert_int_equal(fd_size(fd, &size), 0);
	assert_int_equal(size, 4096);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fd_add_seals(fd, F_SEAL_SEAL), 0);
	assert_int_equal(fd_add_seals(fd, F_SEAL_WRITE), -EPERM);
}

static void errors_have_texts(void **state)
{
	errno = EACCES;
	assert_int_equal(errno_or(-1), -EACCES);
	assert_int_equal(errno_or(5), 5);
	assert_string_equal(error_text(-ENOENT), "No such file or directory");
	assert_string_equal(error_text(ENOENT), "No such file or directory");
	assert_string_equal(error_text(-99999), "Unknown error");
}

struct item {
	int v;
	struct list link;
};

static void list_keeps_order_and_lets_the_body_remove(void **state)
{
	struct list head = LIST_INIT(head);
	struct item items[5] = { 0 }, *item;
	int sum = 0;

	assert_true(list_empty(&head));
	assert_null(list_first(&head, struct item, link));
	for (int i = 1; i < 5; i++) {
		items[i].v = i;
		list_append(&head, &items[i].link);
	}
	list_prepend(&head, &items[0].link);
	assert_ptr_equal(list_first(&head, struct item, link), &items[0]);
	list_for_each (item, &head, link) {
		sum = sum * 10 + item->v;
		if (item->v % 2)
			list_remove(&item->link);
	}
	assert_int_equal(sum, 1234);
	sum = 0;
	list_for_each (item, &head, link)
		sum = sum * 10 + item->v;
	assert_int_equal(sum, 24);
	list_remove(&items[1].link);
	assert_true(list_empty(&items[1].link));
}

static void spans_do_not_wrap(void **state)
{
	uint8_t around[10], *bytes = around + 1;
	struct span s = span_of(bytes, 8), part = { 0 };

	assert_true(span_fits(8, 8, 0));
	assert_false(span_fits(8, 9, 0));
	assert_false(span_fits(8, 1, UINT64_MAX));
	assert_false(span_fits(8, UINT64_MAX, 1));
	assert_true(span_sub(s, 2, 6, &part));
	assert_ptr_equal(part.p, bytes + 2);
	assert_int_equal(part.len, 6);
	assert_false(span_sub(s, 2, 7, &part));
	assert_int_equal(part.len, 6);
	assert_true(span_has(s, bytes + 8, 0));
	assert_false(span_has(s, bytes + 8, 1));
	assert_false(span_has(s, bytes - 1, 1));
	assert_true(span_overlaps(0, 10, 9, 1));
	assert_false(span_overlaps(0, 10, 10, 1));
	assert_false(span_overlaps(5, 0, 0, 10));
	assert_true(span_overlaps(UINT64_MAX - 1, 1, 0, UINT64_MAX));
}

/* What is written to descriptor 2 between log_begin() and log_end(). */
static int log_saved_fd;
static int log_pipe[2];

static void log_begin(void)
{
	assert_int_equal(pipe(log_pipe), 0);
	log_saved_fd = dup(2);
	dup2(log_pipe[1], 2);
}

static void log_end(char *text, size_t text_len)
{
	ssize_t n;

	dup2(log_saved_fd, 2);
	close(log_saved_fd);
	close(log_pipe[1]);
	n = read(log_pipe[0], text, text_len - 1);
	assert_true(n >= 0);
	text[n] = '\0';
	close(log_pipe[0]);
}

static void a_record_is_one_line_with_its_priority(void **state)
{
	char text[4096];

	log_begin();
	errno = ENOENT;
	log_warning("%s: %d of them", "web1/root", 3);
	assert_int_equal(errno, ENOENT);
	log_debug("below the level");
	log_end(text, sizeof(text));
	assert_string_equal(text, "<4>web1/root: 3 of them\n");
}

static void a_person_at_a_terminal_sees_no_priority(void **state)
{
	int terminal = posix_openpt(O_RDWR | O_NOCTTY), saved = dup(2), fd;
	char text[256];
	ssize_t n;

	assert_true(terminal >= 0);
	assert_int_equal(grantpt(terminal) | unlockpt(terminal), 0);
	fd = open(ptsname(terminal), O_RDWR | O_NOCTTY);
	assert_true(fd >= 0);
	dup2(fd, 2);
	log_look();
	log_error("unknown argument");
	dup2(saved, 2);
	log_look();
	n = read(terminal, text, sizeof(text) - 1);
	assert_true(n >= 0);
	text[n] = '\0';
	assert_string_equal(text, "unknown argument\r\n");
	close(fd);
	close(saved);
	close(terminal);
}

static void a_record_cannot_be_forged(void **state)
{
	char text[4096];

	log_begin();
	log_error("serial is \"%s\"", "x\n<0>panic\x1b[0m");
	log_end(text, sizeof(text));
	assert_string_equal(text, "<3>serial is \"x?<0>panic?[0m\"\n");
}

static void a_long_record_is_cut_but_ends_its_line(void **state)
{
	char text[4096], big[2000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_begin();
	log_error("%s", big);
	log_end(text, sizeof(text));
	assert_int_equal(strlen(text), LOG_MAX_LEN);
	assert_int_equal(text[strlen(text) - 1], '\n');
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void a_reader_that_reads_nothing_does_not_stop_the_writer(void **state)
{
	static char text[128 << 10];
	size_t n = 0, lines = 0;
	ssize_t r;

	alarm(10);
	log_begin();
	assert_int_equal(log_never_wait(), 0);
	assert_int_equal(fcntl(log_pipe[1], F_GETFL) & O_NONBLOCK, 0);
	for (int i = 0; i < 20000; i++)
		log_error("%07d", i); /* 11 bytes, of 64 KiB */
	assert_int_equal(fcntl(log_pipe[0], F_SETFL, O_NONBLOCK), 0);
	while ((r = read(log_pipe[0], text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)r;
	log_error("read again");
	log_error("and again");
	for (size_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	assert_true(lines > 1000 && lines < 20000);
	log_end(text, sizeof(text));
	snprintf(text + sizeof(text) / 2, 200,
		 "<4>%zu records were lost here: nobody had read those before\n<3>read again\n"
		 "<3>and again\n",
		 20000 - lines);
	assert_string_equal(text, text + sizeof(text) / 2);
	alarm(0);
}

static void level_decides_what_is_written(void **state)
{
	char text[4096];

	log_begin();
	log_set_level(LOG_LEVEL_ERROR);
	log_warning("no");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("yes");
	log_set_level(LOG_LEVEL_INFO);
	log_end(text, sizeof(text));
	assert_string_equal(text, "<7>yes\n");
}

static void rate_lets_a_burst_through_and_counts_the_rest(void **state)
{
	struct log_rate rate = { .interval_ns = 20000000, .burst = 2 };
	uint32_t n_dropped = 99;

	assert_true(log_rate_pass(&rate, &n_dropped));
	assert_int_equal(n_dropped, 0);
	assert_true(log_rate_pass(&rate, NULL));
	assert_false(log_rate_pass(&rate, NULL));
	assert_false(log_rate_pass(&rate, NULL));
	usleep(25000);
	assert_true(log_rate_pass(&rate, &n_dropped));
	assert_int_equal(n_dropped, 2);
}

/* ---- copy ---- */

static void a_copy_has_all_bytes_and_no_more(void **state)
{
	uint8_t from[512], to[512 + 2];

	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 7 + 1);
	for (size_t len = 0; len <= sizeof(from); len++) {
		memset(to, 0xee, sizeof(to));
		copy_bytes(to + 1, from, len);
		assert_memory_equal(to + 1, from, len);
		assert_int_equal(to[0], 0xee);
		assert_int_equal(to[1 + len], 0xee);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(close_keeps_errno),
		cmocka_unit_test(scope_closes_unless_taken),
		cmocka_unit_test(scope_frees_unless_taken),
		cmocka_unit_test(move_replaces_and_closes_the_old_number),
		cmocka_unit_test(nonblock_and_cloexec_are_set),
		cmocka_unit_test(memfd_has_size_seals_and_cloexec),
		cmocka_unit_test(errors_have_texts),
		cmocka_unit_test(list_keeps_order_and_lets_the_body_remove),
		cmocka_unit_test(spans_do_not_wrap),
		cmocka_unit_test(a_record_is_one_line_with_its_priority),
		cmocka_unit_test(a_person_at_a_terminal_sees_no_priority),
		cmocka_unit_test(a_record_cannot_be_forged),
		cmocka_unit_test(a_long_record_is_cut_but_ends_its_line),
		cmocka_unit_test(a_reader_that_reads_nothing_does_not_stop_the_writer),
		cmocka_unit_test(level_decides_what_is_written),
		cmocka_unit_test(rate_lets_a_burst_through_and_counts_the_rest),
		cmocka_unit_test(a_copy_has_all_bytes_and_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
