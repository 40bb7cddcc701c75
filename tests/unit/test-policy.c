/*
 * Policies: what the reader accepts and refuses, and a lint of those that are shipped.
 *
 * The policies under policies/ are read here as vmdevd reads them; the environment variable
 * VMDEV_POLICY_DIR says where they are.
 */
#include <errno.h>
#include <json-c/json.h>
#include <linux/filter.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/sandbox/policy.h"
#include "daemon/sandbox/seccomp.h"
#include "devices/base/scope.h"
#include "tests/unit/unit.h"

enum { WORKER_MAX_CALLS = 18 };

static const char *policy_dir(void)
{
	const char *dir = getenv("VMDEV_POLICY_DIR");

	assert_non_null(dir);
	return dir;
}

static struct policy *load_blk(void)
{
	struct policy *policy = NULL;
	char *error = NULL;

	if (policy_load("blk", policy_dir(), &policy, &error) < 0)
		fail_msg("%s", error);
	return policy;
}

/* The shipped document, to be spoilt. */
static struct json_object *read_blk(void)
{
	char path[4096];
	struct json_object *root;

	snprintf(path, sizeof(path), "%s/blk.json", policy_dir());
	root = json_object_from_file(path);
	assert_non_null(root);
	return root;
}

static struct json_object *at(struct json_object *object, const char *key)
{
	struct json_object *value = NULL;

	assert_true(json_object_object_get_ex(object, key, &value));
	return value;
}

static struct json_object *first_rule(struct json_object *root)
{
	return json_object_array_get_idx(at(at(root, "seccomp"), "syscalls"), 0);
}

/* The document is refused, and the error names the key. Takes root. */
static void expect_refusal(struct json_object *root, const char *key)
{
	struct policy *policy = NULL;
	char *error = NULL;
	int r = policy_parse(json_object_to_json_string(root), "spoilt.json", &policy, &error);

	assert_null(policy);
	assert_true(r < 0);
	assert_non_null(error);
	if (strncmp(error, "spoilt.json: ", 13) != 0 || !strstr(error, key))
		fail_msg("\"%s\" does not name the file and \"%s\"", error, key);
	free(error);
	json_object_put(root);
}

static void shipped_policy_is_read(void **state)
{
	struct policy *policy = load_blk();

	assert_string_equal(policy->type, "blk");
	assert_int_equal(policy->n_namespaces, 7);
	assert_true(policy->n_opcodes > 0);
	policy_free(policy);
}

static void worker_has_at_most_18_calls_with_io_uring(void **state)
{
	struct policy *policy = load_blk();
	size_t n = policy_count_allowed(&policy->worker, POLICY_FEATURE_IO_URING);

	assert_in_range(n, 1, WORKER_MAX_CALLS);
	policy_free(policy);
}

static void worker_has_at_most_18_calls_without_io_uring(void **state)
{
	struct policy *policy = load_blk();
	size_t n = policy_count_allowed(&policy->worker, 0);

	assert_in_range(n, 1, WORKER_MAX_CALLS);
	policy_free(policy);
}

static bool widens(const char *name)
{
	static const char *const names[] = { "ioctl",	   "prctl",	"mmap",	   "mprotect",
					     "clone",	   "fcntl",	"seccomp", "execveat",
					     "arch_prctl", "prlimit64", "futex",   "fallocate",
					     "statx",	   "newfstatat" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static void check_widening(const struct policy_seccomp *seccomp)
{
	for (size_t i = 0; i < seccomp->n_rules; i++) {
		const struct policy_rule *rule = &seccomp->rules[i];

		for (size_t k = 0; k < rule->n_names; k++)
			if (rule->action == SCMP_ACT_ALLOW && widens(rule->names[k]) &&
			    rule->n_args == 0)
				fail_msg("%s is allowed with any argument", rule->names[k]);
	}
}

static void calls_that_arguments_widen_are_checked(void **state)
{
	struct policy *policy = load_blk();

	check_widening(&policy->worker);
	check_widening(&policy->keeper);
	policy_free(policy);
}

static bool allows(const struct policy_seccomp *seccomp, const char *name)
{
	for (size_t i = 0; i < seccomp->n_rules; i++)
		for (size_t k = 0; k < seccomp->rules[i].n_names; k++)
			if (seccomp->rules[i].action == SCMP_ACT_ALLOW &&
			    strcmp(seccomp->rules[i].names[k], name) == 0)
				return true;
	return false;
}

static void neither_filter_allows_what_opens_or_reaches_out(void **state)
{
	static const char *const names[] = {
		"open",
		"openat",
		"openat2",
		"socket",
		"connect",
		"bind",
		"ptrace",
		"mount",
		"umount2",
		"setns",
		"unshare",
		"bpf",
		"execve",
		"process_vm_readv",
		"pidfd_getfd",
		"pidfd_open",
		"perf_event_open",
		"userfaultfd",
		"clone3",
		"keyctl",
		"setuid",
		"capset",
		"chroot",
		"pivot_root",
		"kexec_load",
		"init_module",
	};
	struct policy *policy = load_blk();

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		assert_false(allows(&policy->worker, names[i]));
		assert_false(allows(&policy->keeper, names[i]));
	}
	assert_false(allows(&policy->worker, "io_uring_setup"));
	assert_false(allows(&policy->worker, "io_uring_register"));
	policy_free(policy);
}

/* The initialiser of io_aside_opcodes (of both rings the one with all of them) in the device's source, for the comparison with the policy. */
static char *opcodes_of_blk(void)
{
	char path[4096], *text, *list, *end;
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), "%s/../devices/blk/io.c", policy_dir());
	file = fopen(path, "re");
	assert_non_null(file);
	text = calloc(1, 1 << 20);
	assert_non_null(text);
	len = fread(text, 1, (1 << 20) - 1, file);
	assert_true(len > 0);
	fclose(file);
	list = strstr(text, "io_aside_opcodes[] = {");
	assert_non_null(list);
	end = strchr(list, '}');
	assert_non_null(end);
	*end = '\0';
	memmove(text, list, (size_t)(end - list) + 1);
	return text;
}

static void ring_opcodes_are_those_of_the_program(void **state)
{
	struct policy *policy = load_blk();
	char *list = opcodes_of_blk();
	size_t n = 0;

	for (const char *p = list; (p = strstr(p, "IORING_OP_")); p += strlen("IORING_OP_"))
		n++;
	assert_int_equal(n, policy->n_opcodes);
	for (size_t i = 0; i < policy->n_opcodes; i++) {
		const char *name = policy->opcodes[i].name;
		const char *hit = strstr(list, name);

		while (hit && strchr(", \t\n", hit[strlen(name)]) == NULL)
			hit = strstr(hit + 1, name);
		if (!hit)
			fail_msg("%s is in the policy and not in the program", name);
	}
	free(list);
	policy_free(policy);
}

static void refused_calls_of_the_worker_are_reported(void **state)
{
	struct policy *policy = load_blk();

	assert_int_equal(policy->worker.default_action, SCMP_ACT_TRAP);
	for (size_t i = 0; i < policy->worker.n_rules; i++)
		assert_true(policy->worker.rules[i].action == SCMP_ACT_ALLOW ||
			    policy->worker.rules[i].action == SCMP_ACT_ERRNO(EOPNOTSUPP));
	policy_free(policy);
}

static void check_filter(int r, int fd, char *error)
{
	struct sock_fprog program = { 0 };

	if (r < 0)
		fail_msg("%s", error);
	assert_int_equal(seccomp_read(fd, &program), 0);
	assert_true(program.len > 10);
	/* Sealed, and the descriptor could not write anyway. */
	assert_true(write(fd, "x", 1) < 0);
	free(program.filter);
	close(fd);
}

static void filters_compile_and_are_sealed(void **state)
{
	struct policy *policy = load_blk();
	char *error = NULL;
	int fd = -1;
	int r = seccomp_compile_worker(policy, POLICY_FEATURE_IO_URING, &fd, &error);

	check_filter(r, fd, error);
	r = seccomp_compile_worker(policy, 0, &fd, &error);
	check_filter(r, fd, error);
	r = seccomp_compile_keeper(policy, &fd, &error);
	check_filter(r, fd, error);
	policy_free(policy);
}

/* Refusals: each is the shipped document with one thing wrong. */

static void refuses_unknown_key(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_add(root, "privileged", json_object_new_boolean(true));
	expect_refusal(root, "privileged");
}

static void refuses_unknown_key_in_rule(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_add(first_rule(root), "arg", json_object_new_array());
	expect_refusal(root, "seccomp.syscalls[0].arg");
}

static void refuses_missing_key(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_del(root, "keeper");
	expect_refusal(root, "keeper");
}

static void refuses_rule_without_reason(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_del(first_rule(root), "comment");
	expect_refusal(root, "seccomp.syscalls[0].comment");
}

static void refuses_empty_reason(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_add(first_rule(root), "comment", json_object_new_string(""));
	expect_refusal(root, "seccomp.syscalls[0].comment");
}

static void refuses_unknown_system_call(void **state)
{
	struct json_object *root = read_blk();

	json_object_array_add(at(first_rule(root), "names"), json_object_new_string("opne"));
	expect_refusal(root, "seccomp.syscalls[0].names[2]");
}

static void refuses_unknown_action(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_add(first_rule(root), "action", json_object_new_string("SCMP_ACT_LET"));
	expect_refusal(root, "SCMP_ACT_LET");
}

static void refuses_errno_without_number(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_add(first_rule(root), "action",
			       json_object_new_string("SCMP_ACT_ERRNO"));
	expect_refusal(root, "errnoRet");
}

static void refuses_rule_with_the_default_action(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_add(first_rule(root), "action", json_object_new_string("SCMP_ACT_TRAP"));
	expect_refusal(root, "default action");
}

static void refuses_permissive_default(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_add(at(root, "seccomp"), "defaultAction",
			       json_object_new_string("SCMP_ACT_ALLOW"));
	expect_refusal(root, "seccomp.defaultAction");
}

static void refuses_other_architecture(void **state)
{
	struct json_object *root = read_blk();
	struct json_object *list = json_object_new_array();

	json_object_array_add(list, json_object_new_string("SCMP_ARCH_AARCH64"));
	json_object_object_add(at(root, "seccomp"), "architectures", list);
	expect_refusal(root, "seccomp.architectures");
}

static void refuses_argument_index_beyond_five(void **state)
{
	struct json_object *root = read_blk();
	struct json_object *args =
		json_tokener_parse("[{\"index\": 6, \"value\": 0, \"op\": \"SCMP_CMP_EQ\"}]");

	json_object_object_add(first_rule(root), "args", args);
	expect_refusal(root, "seccomp.syscalls[0].args[0].index");
}

static void refuses_one_argument_compared_twice(void **state)
{
	struct json_object *root = read_blk();
	struct json_object *args =
		json_tokener_parse("[{\"index\": 1, \"value\": 0, \"op\": \"SCMP_CMP_NE\"},"
				   " {\"index\": 1, \"value\": 9, \"op\": \"SCMP_CMP_NE\"}]");

	json_object_object_add(first_rule(root), "args", args);
	expect_refusal(root, "seccomp.syscalls[0].args[1]");
}

static void refuses_negative_value(void **state)
{
	struct json_object *root = read_blk();
	struct json_object *args =
		json_tokener_parse("[{\"index\": 1, \"value\": -1, \"op\": \"SCMP_CMP_EQ\"}]");

	json_object_object_add(first_rule(root), "args", args);
	expect_refusal(root, "seccomp.syscalls[0].args[0].value");
}

static void refuses_unknown_feature(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_add(first_rule(root), "includes",
			       json_tokener_parse("{\"features\": [\"kvm\"]}"));
	expect_refusal(root, "kvm");
}

static void refuses_missing_namespace(void **state)
{
	struct json_object *root = read_blk();

	json_object_array_del_idx(at(root, "namespaces"), 3, 1);
	expect_refusal(root, "network");
}

static void refuses_any_capability(void **state)
{
	struct json_object *root = read_blk();

	json_object_array_add(at(root, "capabilities"), json_object_new_string("CAP_SYS_ADMIN"));
	expect_refusal(root, "capabilities");
}

static void refuses_any_mount(void **state)
{
	struct json_object *root = read_blk();

	json_object_array_add(at(root, "mounts"), json_object_new_object());
	expect_refusal(root, "mounts");
}

static void refuses_soft_limit_above_hard(void **state)
{
	struct json_object *root = read_blk();
	struct json_object *limit = json_object_array_get_idx(at(root, "rlimits"), 0);

	json_object_object_add(limit, "hard", json_object_new_int(1));
	expect_refusal(root, "rlimits[0]");
}

static void refuses_unknown_limit(void **state)
{
	struct json_object *root = read_blk();
	struct json_object *limit = json_object_array_get_idx(at(root, "rlimits"), 0);

	json_object_object_add(limit, "type", json_object_new_string("RLIMIT_FILES"));
	expect_refusal(root, "rlimits[0].type");
}

static void refuses_wrong_type(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_add(at(root, "landlock"), "required", json_object_new_string("no"));
	expect_refusal(root, "landlock.required");
}

static void names_the_line_of_broken_json(void **state)
{
	struct policy *policy = NULL;
	char *error = NULL;

	assert_true(policy_parse("{\n\t\"type\": \"blk\",\n\t,\n}\n", "p.json", &policy, &error) <
		    0);
	assert_non_null(strstr(error, "p.json:3:"));
	free(error);
}

static void refuses_what_follows_the_document(void **state)
{
	struct policy *policy = NULL;
	char *error = NULL;

	assert_true(policy_parse("{} {}", "p.json", &policy, &error) < 0);
	assert_non_null(strstr(error, "p.json:1:"));
	free(error);
}

static void refuses_name_that_is_a_relative_path(void **state)
{
	struct policy *policy = NULL;
	char *error = NULL;

	assert_true(policy_load("../policies/blk", policy_dir(), &policy, &error) < 0);
	assert_non_null(strstr(error, "absolute path"));
	free(error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shipped_policy_is_read),
		cmocka_unit_test(worker_has_at_most_18_calls_with_io_uring),
		cmocka_unit_test(worker_has_at_most_18_calls_without_io_uring),
		cmocka_unit_test(calls_that_arguments_widen_are_checked),
		cmocka_unit_test(neither_filter_allows_what_opens_or_reaches_out),
		cmocka_unit_test(ring_opcodes_are_those_of_the_program),
		cmocka_unit_test(refused_calls_of_the_worker_are_reported),
		cmocka_unit_test(filters_compile_and_are_sealed),
		cmocka_unit_test(refuses_unknown_key),
		cmocka_unit_test(refuses_unknown_key_in_rule),
		cmocka_unit_test(refuses_missing_key),
		cmocka_unit_test(refuses_rule_without_reason),
		cmocka_unit_test(refuses_empty_reason),
		cmocka_unit_test(refuses_unknown_system_call),
		cmocka_unit_test(refuses_unknown_action),
		cmocka_unit_test(refuses_errno_without_number),
		cmocka_unit_test(refuses_rule_with_the_default_action),
		cmocka_unit_test(refuses_permissive_default),
		cmocka_unit_test(refuses_other_architecture),
		cmocka_unit_test(refuses_argument_index_beyond_five),
		cmocka_unit_test(refuses_one_argument_compared_twice),
		cmocka_unit_test(refuses_negative_value),
		cmocka_unit_test(refuses_unknown_feature),
		cmocka_unit_test(refuses_missing_namespace),
		cmocka_unit_test(refuses_any_capability),
		cmocka_unit_test(refuses_any_mount),
		cmocka_unit_test(refuses_soft_limit_above_hard),
		cmocka_unit_test(refuses_unknown_limit),
		cmocka_unit_test(refuses_wrong_type),
		cmocka_unit_test(names_the_line_of_broken_json),
		cmocka_unit_test(refuses_what_follows_the_document),
		cmocka_unit_test(refuses_name_that_is_a_relative_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
