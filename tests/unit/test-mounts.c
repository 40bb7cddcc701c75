/*
 * What is mounted below a directory: which of the kernel's file systems are found in a table, and where.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/mounts.h"
#include "tests/unit/unit.h"

static const char table[] = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
			    "22 21 0:20 / /proc rw,nosuid shared:5 - proc proc rw\n"
			    "23 21 8:2 / /srv rw shared:6 master:2 - xfs /dev/sda2 rw\n"
			    "24 23 0:30 / /srv/data/run rw - tmpfs tmpfs rw\n"
			    "25 23 0:20 / /srv/root\\040of\\040it/proc rw shared:7 - proc proc rw\n"
			    "26 23 0:31 /machine /srv/other/sys/fs/cgroup ro - cgroup2 cgroup2 rw\n"
			    "27 23 0:32 / /srv/dev rw,nodev - devtmpfs udev rw\n";

static int find(const char *text, const char *directory, uint64_t mount, struct mounts_found *ret)
{
	FILE *file = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	int r;

	assert_non_null(file);
	r = mounts_find_switches(file, directory, mount, ret);
	fclose(file);
	return r;
}

static void expect(const char *directory, uint64_t mount, const char *path, const char *type)
{
	struct mounts_found found = { 0 };

	assert_int_equal(find(table, directory, mount, &found), path ? 1 : 0);
	if (path) {
		assert_string_equal(found.path, path);
		assert_string_equal(found.type, type);
	}
	mounts_found_done(&found);
	assert_null(found.path);
}

static void finds_what_is_below_a_directory(void **state)
{
	expect("/srv/root of it", 23, "/srv/root of it/proc", "proc");
	expect("/srv/other", 23, "/srv/other/sys/fs/cgroup", "cgroup2");
	expect("/srv/dev", 27, "/srv/dev", "devtmpfs");
	expect("/", 21, "/proc", "proc");
}

static void finds_what_a_directory_is_in(void **state)
{
	expect("/proc/sys/net", 22, "/proc", "proc");
}

static void takes_a_name_that_begins_alike_for_another(void **state)
{
	expect("/srv/de", 23, NULL, NULL);
	expect("/srv/oth", 23, NULL, NULL);
}

static void leaves_file_systems_with_files_alone(void **state)
{
	expect("/srv/data", 23, NULL, NULL);
	expect("/home", 21, NULL, NULL);
}

static void refuses_a_table_that_it_does_not_understand(void **state)
{
	static const char *const bad[] = { "21 1 8:1 / / rw\n", "nonsense\n",
					   "21 1 8:1 / / rw -\n" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct mounts_found found = { 0 };

		assert_int_equal(find(bad[i], "/", 1, &found), -EBADMSG);
		mounts_found_done(&found);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_what_is_below_a_directory),
		cmocka_unit_test(finds_what_a_directory_is_in),
		cmocka_unit_test(takes_a_name_that_begins_alike_for_another),
		cmocka_unit_test(leaves_file_systems_with_files_alone),
		cmocka_unit_test(refuses_a_table_that_it_does_not_understand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
