/*
 * Locks on images, and who holds one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/base/lock.h"
#include "tests/unit/unit.h"

static char path[64];

static int set_up(void **unused)
{
	int fd;

	(void)strcpy(path, "/tmp/vmdev-test-lock-XXXXXX");
	fd = mkstemp(path);
	close(fd);
	return fd < 0 ? -1 : 0;
}

static int tear_down(void **unused)
{
	return unlink(path);
}

static int open_image(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* A process that holds the image's lock, or only has it open. */
static pid_t start_holder(bool readonly, bool locks)
{
	int ready[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		int fd = open(path, O_RDWR);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "a \"holder\"");
		if (fd >= 0 && (!locks || lock_image(fd, readonly) == 0) &&
		    write(ready[1], "r", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static void end_holder(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* stat() of a path, relative or not, is an error from here on; of an open descriptor it is not. */
static void forbid_stat(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_statx, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_newfstatat, 0, 2),
		/* glibc's fstat: the path is an empty text in its own memory, and so is the flag */
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, AT_EMPTY_PATH, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(*code), .filter = code };

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void two_writers_exclude_each_other_and_readers_do_not(void **unused)
{
	pid_t writer = start_holder(false, true);
	int fd = open_image(), other = open_image();

	assert_int_equal(lock_image(fd, false), -EAGAIN);
	assert_int_equal(lock_image_test(fd, false), -EAGAIN);
	assert_int_equal(lock_image_test(fd, true), -EAGAIN);
	end_holder(writer);
	close(fd); /* with the share that it got */
	fd = open_image();
	assert_int_equal(lock_image(fd, true), 0);
	assert_int_equal(lock_image(other, true), 0);
	close(fd);
	close(other);
}

static void the_holder_is_told_and_not_who_only_has_the_file_open(void **unused)
{
	pid_t opener = start_holder(false, false), holder = start_holder(false, true);
	struct lock_holder found = { 0 };
	int fd = open_image();

	assert_true(lock_find_holder(fd, &found));
	assert_int_equal(found.pid, holder);
	assert_string_equal(found.comm, "a \"holder\"");
	assert_string_equal(found.device, "");
	/* Also once our own descriptor has a share of the lock. */
	assert_int_equal(lock_image(fd, false), -EAGAIN);
	assert_true(lock_find_holder(fd, &found));
	assert_int_equal(found.pid, holder);
	end_holder(holder);
	assert_false(lock_find_holder(fd, &found));
	end_holder(opener);
	close(fd);
}

/* Whatever else that process has open: a file system that does not answer must not hold us up. */
static void nothing_but_the_kernels_own_record_is_asked(void **unused)
{
	pid_t holder = start_holder(false, true);
	struct lock_holder found = { 0 };
	int fd = open_image();

	forbid_stat();
	assert_true(lock_find_holder(fd, &found));
	assert_int_equal(found.pid, holder);
	end_holder(holder);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(two_writers_exclude_each_other_and_readers_do_not,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			the_holder_is_told_and_not_who_only_has_the_file_open, set_up, tear_down),
		/* Last: what it forbids stays forbidden. */
		cmocka_unit_test_setup_teardown(nothing_but_the_kernels_own_record_is_asked, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
