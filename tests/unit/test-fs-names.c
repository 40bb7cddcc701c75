/* The file system device's small parts that need no device: names of attributes, extensions, evidence of what was done. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/fs/extension.h"
#include "devices/fs/past.h"
#include "devices/fs/proto.h"
#include "devices/fs/request.h"
#include "devices/fs/xattr-map.h"
#include "tests/unit/unit.h"

static const struct xattr_map direct = { .prefix = NULL, .acl = true };
static const struct xattr_map mapped = { .prefix = "user.guest.", .acl = false };

static void to_host(const struct xattr_map *map, const char *guest, const char *host)
{
	char name[XATTR_MAP_NAME_MAX];

	assert_int_equal(xattr_map_to_host(map, guest, name), 0);
	assert_string_equal(name, host);
	assert_string_equal(xattr_map_to_guest(map, host), guest);
}

static void names_map_both_ways(void **state)
{
	to_host(&direct, "user.a", "user.a");
	to_host(&direct, "trusted.a", "trusted.a");
	to_host(&direct, "security.capability", "security.capability");
	to_host(&direct, "system.posix_acl_access", "system.posix_acl_access");
	to_host(&direct, "system.posix_acl_default", "system.posix_acl_default");
	to_host(&mapped, "user.a", "user.a");
	to_host(&mapped, "trusted.a", "user.guest.trusted.a");
	to_host(&mapped, "security.", "user.guest.security.");
}

static void names_of_no_kind_are_refused(void **state)
{
	static const char *const none[] = {
		"", "user", "usera.b", "system.a", "trusted", "os2.a", "system.posix_acl_accessx"
	};
	char name[XATTR_MAP_NAME_MAX], longest[XATTR_MAP_NAME_MAX + 8];

	for (unsigned i = 0; i < UNIT_N(none); i++) {
		assert_int_equal(xattr_map_to_host(&direct, none[i], name), -EOPNOTSUPP);
		assert_null(xattr_map_to_guest(&direct, none[i]));
	}
	assert_int_equal(xattr_map_to_host(&mapped, "system.posix_acl_access", name), -EOPNOTSUPP);
	assert_null(xattr_map_to_guest(&mapped, "system.posix_acl_access"));
	memset(longest, 'n', sizeof(longest));
	memcpy(longest, "trusted.", 8);
	longest[XATTR_MAP_NAME_MAX - 1] = '\0';
	assert_int_equal(xattr_map_to_host(&direct, longest, name), 0);
	assert_int_equal(xattr_map_to_host(&mapped, longest, name), -ERANGE);
	longest[XATTR_MAP_NAME_MAX - 1] = 'n';
	longest[XATTR_MAP_NAME_MAX] = '\0';
	assert_int_equal(xattr_map_to_host(&direct, longest, name), -ERANGE);
}

static void what_lies_under_the_prefix_is_hidden(void **state)
{
	char name[XATTR_MAP_NAME_MAX];

	assert_int_equal(xattr_map_to_host(&mapped, "user.guest.trusted.a", name), -EPERM);
	assert_int_equal(xattr_map_to_host(&mapped, "user.guest.", name), -EPERM);
	assert_int_equal(xattr_map_to_host(&mapped, "user.guest", name), 0);
	assert_null(xattr_map_to_guest(&mapped, "user.guest.user.a"));
	assert_null(xattr_map_to_guest(&mapped, "user.guest."));
	assert_null(xattr_map_to_guest(&mapped, "trusted.a"));
	assert_null(xattr_map_to_guest(&mapped, "security.selinux"));
}

static void lists_are_translated_in_place(void **state)
{
	char list[] = "user.a\0user.guest.trusted.b\0trusted.host\0user.guest.x\0system.nfs4_acl\0"
		      "user.guest.security.c\0user.z\0no-end";
	static const char wanted[] = "user.a\0trusted.b\0security.c\0user.z";
	size_t len = xattr_map_list(&mapped, list, sizeof(list) - 1);

	assert_int_equal(len, sizeof(wanted));
	assert_memory_equal(list, wanted, len);
	assert_int_equal(xattr_map_list(&mapped, list, 0), 0);
}

static void prefixes_are_checked(void **state)
{
	static const char *const bad[] = { "", "user.", "user", "user.a", "trusted.a.", "User.a." };
	char longest[XATTR_MAP_PREFIX_MAX + 2];

	for (unsigned i = 0; i < UNIT_N(bad); i++)
		assert_false(xattr_map_prefix_ok(bad[i]));
	assert_true(xattr_map_prefix_ok("user.a."));
	memset(longest, 'n', sizeof(longest));
	memcpy(longest, "user.", 5);
	longest[XATTR_MAP_PREFIX_MAX - 1] = '.';
	longest[XATTR_MAP_PREFIX_MAX] = '\0';
	assert_true(xattr_map_prefix_ok(longest));
	longest[XATTR_MAP_PREFIX_MAX - 1] = 'n';
	longest[XATTR_MAP_PREFIX_MAX] = '.';
	longest[XATTR_MAP_PREFIX_MAX + 1] = '\0';
	assert_false(xattr_map_prefix_ok(longest));
}

/* Extensions: words that are put one after the other. */
static uint8_t area[512];
static uint32_t area_len;

static void put(const void *p, uint32_t len)
{
	memcpy(area + area_len, p, len);
	area_len += len;
}

static void put_header(uint32_t size, uint32_t type)
{
	put(&(struct fuse_ext_header){ .size = size, .type = type }, 8);
}

static int parse(uint32_t offset, struct extension *ret)
{
	struct request rq = { .args = area, .args_len = area_len };

	return extension_parse(&rq, offset, ret);
}

static void put_context(const char *name, const char *value)
{
	struct fuse_secctx head = { .size = (uint32_t)strlen(value) };
	uint32_t len = sizeof(head) + (uint32_t)strlen(name) + 1 + head.size;

	put(&head, sizeof(head));
	put(name, (uint32_t)strlen(name) + 1);
	put(value, head.size);
	put("\0\0\0\0\0\0\0", FUSE_REC_ALIGN(len) - len);
}

static void contexts_and_groups_are_found(void **state)
{
	const uint32_t groups[] = { 3, 7, 9, 11 };
	struct extension_context c;
	struct extension x;
	uint32_t at = 0, start;

	area_len = 0;
	put("odd!", 5); /* names end anywhere */
	start = area_len;
	put_header(8 + 40 + 32, 2);
	put_context("security.selinux", "a label"); /* 8 + 17 + 7 = 32 */
	put_context("security.other", "1");	    /* 8 + 15 + 1 = 24 */
	memcpy(area + start, &(uint32_t){ area_len - start }, 4);
	put_header(8 + sizeof(groups), PROTO_EXT_GROUPS);
	put(groups, sizeof(groups));
	assert_int_equal(parse(start, &x), 0);
	assert_true(extension_next_context(&x, &at, &c));
	assert_string_equal(c.name, "security.selinux");
	assert_int_equal(c.len, 7);
	assert_memory_equal(c.value, "a label", 7);
	assert_true(extension_next_context(&x, &at, &c));
	assert_string_equal(c.name, "security.other");
	assert_int_equal(c.len, 1);
	assert_false(extension_next_context(&x, &at, &c));
	assert_true(extension_has_group(&x, 7) && extension_has_group(&x, 11));
	assert_false(extension_has_group(&x, 3) || extension_has_group(&x, 0));
}

static void nothing_is_no_extension(void **state)
{
	struct extension x;
	uint32_t at = 0;

	area_len = 5;
	assert_int_equal(parse(5, &x), 0);
	assert_false(extension_has_group(&x, 0));
	assert_false(extension_next_context(&x, &at, &(struct extension_context){}));
	/* A guest without a security module sends a header that says so. */
	area_len = 0;
	put_header(8, 0);
	assert_int_equal(parse(0, &x), 0);
	assert_int_equal(x.n_contexts, 0);
}

static void extensions_that_do_not_fit_are_refused(void **state)
{
	struct extension x;

	for (uint32_t len = 1; len < 8; len++) {
		area_len = len;
		assert_int_equal(parse(0, &x), -EINVAL);
	}
	area_len = 0;
	put_header(16, 1);
	put_context("", "");
	assert_int_equal(area_len, 24); /* said to be 16 */
	assert_int_equal(parse(0, &x), -EINVAL);
	area_len = 0;
	put_header(UINT32_MAX, 0);
	assert_int_equal(parse(0, &x), -EINVAL);
	area_len = 0;
	put_header(0, 0); /* would not end */
	assert_int_equal(parse(0, &x), -EINVAL);
	area_len = 0;
	put_header(24, 1);
	put(&(struct fuse_secctx){ .size = UINT32_MAX - 8 }, 8);
	put("name\0\0\0", 8);
	assert_int_equal(parse(0, &x), -EINVAL);
	area_len = 0;
	put_header(12, PROTO_EXT_GROUPS);
	put(&(uint32_t){ 1 }, 4);
	assert_int_equal(parse(0, &x), -EINVAL);
}

enum { S = 1000000000 };

static struct statx stamped(uint64_t birth_ns, uint64_t change_ns, uint32_t mask)
{
	return (struct statx){
		.stx_mask = mask,
		.stx_btime = { .tv_sec = (int64_t)(birth_ns / S), .tv_nsec = birth_ns % S },
		.stx_ctime = { .tv_sec = (int64_t)(change_ns / S), .tv_nsec = change_ns % S },
	};
}

static const uint64_t tick = UINT64_C(1700000001) * S + 123456789;

static void what_is_older_than_the_tick_is_not_ours(void **state)
{
	struct statx st = stamped(tick, 0, STATX_BTIME);

	assert_true(past_may_be_new(&st, tick));
	st = stamped(tick - 1, tick + 5, STATX_BTIME);
	assert_false(past_may_be_new(&st, tick));
	st = stamped(tick + 1, 0, STATX_BTIME);
	assert_true(past_may_be_new(&st, tick));
	/* Without a birth time the change time stands in for it. */
	st = stamped(0, tick, 0);
	assert_true(past_may_be_new(&st, tick));
	st = stamped(tick, tick - 1, 0);
	assert_false(past_may_be_new(&st, tick));
}

static void coarse_stamps_are_held_against_a_coarse_tick(void **state)
{
	struct statx st = stamped(tick - tick % S, 0, STATX_BTIME); /* ext3: whole seconds */

	assert_true(past_may_be_new(&st, tick));
	st = stamped(tick - tick % S - S, 0, STATX_BTIME); /* an even second: FAT */
	assert_true(past_may_be_new(&st, tick));
	st = stamped(tick - tick % S - 2 * (uint64_t)S, 0, STATX_BTIME);
	assert_false(past_may_be_new(&st, tick));
	st = stamped(tick - tick % 10000000, 0, STATX_BTIME); /* FAT's birth times */
	assert_true(past_may_be_new(&st, tick));
	st = stamped(tick - tick % 100, 0, STATX_BTIME); /* NTFS */
	assert_true(past_may_be_new(&st, tick));
	st = stamped(tick - tick % 100 - 100, 0, STATX_BTIME);
	assert_false(past_may_be_new(&st, tick));
}

static void only_what_is_surely_younger_is_not_what_was_to_go(void **state)
{
	struct statx st = stamped(tick, tick + S, STATX_BTIME);

	assert_false(past_is_new(&st, tick));
	st = stamped(tick + 1, 0, STATX_BTIME);
	assert_true(past_is_new(&st, tick));
	st = stamped(tick + S, tick + S, 0);
	assert_false(past_is_new(&st, tick));
	st = stamped(0, 0, STATX_BTIME);
	st.stx_btime.tv_sec = -1;
	assert_false(past_is_new(&st, tick));
}

/* What the two clocks are for, on this kernel: neither may ever be wrong about our own file. */
static void the_kernels_stamps_keep_to_the_clocks(void **state)
{
	char path[] = "/tmp/vmdev-unit-XXXXXX";
	int dir;

	assert_non_null(mkdtemp(path));
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t before = past_tick(), after;
		struct statx st;

		assert_int_equal(mkdirat(dir, "name", 0755), 0);
		after = past_now();
		assert_int_equal(past_look(dir, "name", &st), 0);
		assert_true(past_may_be_new(&st, before) && past_may_be_changed(&st, before));
		assert_false(past_is_new(&st, after));
		assert_int_equal(unlinkat(dir, "name", AT_REMOVEDIR), 0);
		assert_int_equal(past_look(dir, "name", &st), -ENOENT);
	}
	close(dir);
	rmdir(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_map_both_ways),
		cmocka_unit_test(names_of_no_kind_are_refused),
		cmocka_unit_test(what_lies_under_the_prefix_is_hidden),
		cmocka_unit_test(lists_are_translated_in_place),
		cmocka_unit_test(prefixes_are_checked),
		cmocka_unit_test(contexts_and_groups_are_found),
		cmocka_unit_test(nothing_is_no_extension),
		cmocka_unit_test(extensions_that_do_not_fit_are_refused),
		cmocka_unit_test(what_is_older_than_the_tick_is_not_ours),
		cmocka_unit_test(coarse_stamps_are_held_against_a_coarse_tick),
		cmocka_unit_test(only_what_is_surely_younger_is_not_what_was_to_go),
		cmocka_unit_test(the_kernels_stamps_keep_to_the_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
