/*
 * The table of CIDs: who keeps an address, what is written down, and what a damaged file does.
 *
 * Runs in: the test, as any user.
 * Trusts:  nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/cids.h"
#include "daemon/text.h"
#include "devices/base/scope.h"
#include "tests/unit/unit.h"

struct fixture {
	char dir[64];
	char path[80];
	struct cids *cids;
};

static void load(struct fixture *f)
{
	char *error = NULL;

	f->cids = cids_free(f->cids);
	assert_int_equal(cids_load(f->dir, &f->cids, &error), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/vmdev-test-cids-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	(void)snprintf(f->path, sizeof(f->path), "%s/cids", f->dir);
	load(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	cids_free(f->cids);
	(void)unlink(f->path);
	if (rmdir(f->dir) < 0)
		return -1;
	free(f);
	return 0;
}

static bool free_for_all(void *arg, uint64_t cid)
{
	return false;
}

static bool taken(void *arg, uint64_t cid)
{
	return cid == *(uint64_t *)arg;
}

/* Names that begin with this are in use. */
static bool begins_with(void *arg, const char *name)
{
	return strncmp(name, arg, strlen(arg)) == 0;
}

static uint64_t give(struct fixture *f, const char *name)
{
	uint64_t cid = cids_find(f->cids, name, free_for_all, NULL);

	assert_int_equal(cids_set(f->cids, name, cid), 0);
	return cid;
}

static void save(struct fixture *f)
{
	assert_int_equal(cids_save(f->cids, begins_with, (char *)"used"), 0);
}

static void a_device_keeps_its_address_over_a_restart(void **state)
{
	struct fixture *f = *state;
	uint64_t a = give(f, "used/a"), b = give(f, "gone/b");

	assert_int_equal(a, CIDS_FIRST);
	assert_int_not_equal(a, b);
	save(f);
	load(f);
	assert_int_equal(give(f, "gone/b"), b);
	assert_int_equal(give(f, "used/a"), a);
	assert_int_not_equal(cids_find(f->cids, "used/a", taken, &a), a);
}

static void who_only_asks_leaves_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(cids_find(f->cids, "used/a", free_for_all, NULL), CIDS_FIRST);
	assert_int_equal(cids_find(f->cids, "used/b", free_for_all, NULL), CIDS_FIRST);
	save(f);
	assert_int_not_equal(access(f->path, F_OK), 0);
}

static void beyond_its_bound_the_oldest_of_no_document_go(void **state)
{
	struct fixture *f = *state;
	uint64_t used = give(f, "used/first"), gone = give(f, "gone/first"), last = 0;
	char name[160];

	for (unsigned i = 0; i < CIDS_MAX; i++) {
		(void)snprintf(name, sizeof(name), "%063u/%063u", i, i);
		last = CIDS_FIRST + 2 + i;
		assert_int_equal(cids_set(f->cids, name, last), 0);
	}
	save(f);
	load(f);
	assert_int_equal(give(f, "used/first"), used);
	assert_int_equal(give(f, name), last);
	/* Its address is free again, and so the first one that is found. */
	assert_int_equal(cids_find(f->cids, "new/one", free_for_all, NULL), gone);
}

static void what_is_in_use_is_never_dropped(void **state)
{
	struct fixture *f = *state;
	char name[160];

	for (unsigned i = 0; i < 9000; i++) {
		(void)snprintf(name, sizeof(name), "used%059u/%063u", i, i);
		assert_int_equal(cids_set(f->cids, name, CIDS_FIRST + i), 0);
	}
	save(f);
	load(f); /* more than a MiB */
	assert_int_equal(cids_find(f->cids, name, free_for_all, NULL), CIDS_FIRST + 8999);
}

static void a_damaged_table_is_told_and_left(void **state)
{
	static const char *const texts[] = { "", "{\"a/b\": 4096,", "[]", "null" };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		FILE *file = fopen(f->path, "we");
		struct cids *cids = NULL;
		scope_free char *error = NULL;

		assert_true(fputs(texts[i], file) >= 0);
		fclose(file);
		assert_true(cids_load(f->dir, &cids, &error) < 0);
		assert_non_null(strstr(error, f->path));
		assert_null(cids);
	}
}

int main(void)
{
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CLAIM(a_device_keeps_its_address_over_a_restart),
		CLAIM(who_only_asks_leaves_nothing),
		CLAIM(beyond_its_bound_the_oldest_of_no_document_go),
		CLAIM(what_is_in_use_is_never_dropped),
		CLAIM(a_damaged_table_is_told_and_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
