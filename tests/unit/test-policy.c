/*
 * Policies: what the reader accepts and refuses, and a lint of those that are shipped.
 *
 * The policies under policies/ are read here as vmdevd reads them; the environment variable
 * VMDEV_POLICY_DIR says where they are.
 */
#include <errno.h>
#include <json-c/json.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/sandbox/policy.h"
#include "daemon/sandbox/seccomp.h"
#include "daemon/sandbox/wider.h"
#include "devices/base/scope.h"
#include "devices/process/contract.h"
#include "tests/unit/unit.h"

enum {
	WORKER_MAX_CALLS = 18,
	VSOCK_WORKER_MAX_CALLS = 24,
	FS_WORKER_MAX_CALLS = 60,
};

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

static struct policy *load_fs(void)
{
	struct policy *policy;
	char *error = NULL;

	if (policy_load("fs", policy_dir(), &policy, &error) < 0)
		fail_msg("%s", error);
	return policy;
}

static struct policy *load_vsock(void)
{
	struct policy *policy;
	char *error = NULL;

	if (policy_load("vsock", policy_dir(), &policy, &error) < 0)
		fail_msg("%s", error);
	return policy;
}

static void vsock_worker_has_at_most_24_calls(void **state)
{
	struct policy *policy = load_vsock();

	assert_in_range(policy_count_allowed(&policy->worker, 0), 1, VSOCK_WORKER_MAX_CALLS);
	policy_free(policy);
}

static void fs_worker_has_at_most_60_calls(void **state)
{
	struct policy *policy = load_fs();

	assert_in_range(policy_count_allowed(&policy->worker, 0), 1, FS_WORKER_MAX_CALLS);
	assert_in_range(policy_count_allowed(&policy->worker, POLICY_FEATURE_IO_URING), 1,
			FS_WORKER_MAX_CALLS);
	policy_free(policy);
}

static void fs_keeps_at_most_8_capabilities_and_none_that_reads_past_the_root(void **state)
{
	struct policy *policy = load_fs();
	uint64_t kept = policy_capabilities(policy, POLICY_FEATURE_DEVICE_NODES);

	assert_in_range(__builtin_popcountll(kept), 1, 8);
	assert_false(kept >> CAP_DAC_READ_SEARCH & 1);
	assert_false(kept >> CAP_SYS_ADMIN & 1);
	assert_false(kept >> CAP_SYS_PTRACE & 1);
	assert_false(policy_capabilities(policy, 0) >> CAP_MKNOD & 1);
	policy_free(policy);
}

static struct policy *load_net(void)
{
	struct policy *policy = NULL;
	char *error = NULL;

	if (policy_load("net", policy_dir(), &policy, &error) < 0)
		fail_msg("%s", error);
	return policy;
}

static void net_worker_has_at_most_18_calls(void **state)
{
	struct policy *policy = load_net();

	assert_in_range(policy_count_allowed(&policy->worker, 0), 1, WORKER_MAX_CALLS);
	assert_in_range(policy_count_allowed(&policy->worker, POLICY_FEATURE_IO_URING), 1,
			WORKER_MAX_CALLS);
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
	static const char *const names[] = {
		"ioctl",     "prctl",	"mmap",	      "mprotect",   "mremap",	 "clone",
		"fcntl",     "seccomp", "execveat",   "arch_prctl", "prlimit64", "futex",
		"fallocate", "statx",	"newfstatat", "unshare",    "openat",	 "name_to_handle_at"
	};

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
	policy = load_fs();
	check_widening(&policy->worker);
	check_widening(&policy->keeper);
	policy_free(policy);
}

static bool names_call(const struct policy_rule *rule, const char *name)
{
	for (size_t k = 0; k < rule->n_names; k++)
		if (strcmp(rule->names[k], name) == 0)
			return true;
	return false;
}

/* May the worker close this number? All rules for close() are masked comparisons of it. */
static bool may_close(const struct policy *policy, uint64_t number)
{
	for (size_t i = 0; i < policy->worker.n_rules; i++) {
		const struct policy_rule *rule = &policy->worker.rules[i];

		if (!names_call(rule, "close"))
			continue;
		if (rule->n_args != 1 || rule->args[0].op != SCMP_CMP_MASKED_EQ)
			return true;
		if ((number & rule->args[0].value) == rule->args[0].value_two)
			return true;
	}
	return false;
}

/* A number that is free is given out again: the keeper would run what lies at its program's. */
static void worker_closes_only_the_session_s_descriptors(void **state)
{
	static const uint64_t limits[] = { CONTRACT_FD_LIMIT, CONTRACT_FD_LIMIT_FS,
					   CONTRACT_FD_LIMIT_VSOCK };
	struct policy *policies[] = { load_blk(), load_fs(), load_vsock() };

	for (size_t p = 0; p < sizeof(policies) / sizeof(*policies); p++) {
		for (uint64_t fd = 0; fd < limits[p]; fd++)
			assert_int_equal(may_close(policies[p], fd), fd >= CONTRACT_FD_SESSION);
		for (uint64_t fd = 0; fd < CONTRACT_FD_SESSION; fd++)
			assert_false(may_close(policies[p], fd | UINT64_C(1) << 32));
		policy_free(policies[p]);
	}
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

static void no_filter_allows_what_reaches_out(void **state)
{
	static const char *const names[] = {
		"open",
		"openat2",
		"open_by_handle_at",
		"socket",
		"connect",
		"bind",
		"ptrace",
		"mount",
		"umount2",
		"setns",
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
		"setresuid",
		"chroot",
		"pivot_root",
		"kexec_load",
		"init_module",
	};
	struct policy *policies[] = { load_blk(), load_fs(), load_net(), load_vsock() };

	for (size_t p = 0; p < sizeof(policies) / sizeof(*policies); p++) {
		for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
			assert_false(allows(&policies[p]->worker, names[i]));
			assert_false(allows(&policies[p]->keeper, names[i]));
		}
		assert_false(allows(&policies[p]->worker, "io_uring_setup"));
		assert_false(allows(&policies[p]->worker, "io_uring_register"));
		policy_free(policies[p]);
	}
}

/* Does a process under this filter survive the call? */
static bool passes(const struct sock_fprog *filter, long number, const uint64_t *args)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		(void)signal(SIGSYS, SIG_DFL); /* cmocka's would go on */
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || seccomp_install(filter) < 0)
			abort();
		syscall(number, args[0], args[1], args[2]);
		syscall(SYS_exit_group, 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	return false;
}

/*
 * 5 is what may be mapped to be executed, 7 the filter of the next worker: neither a file in their
 * place, nor the number free.
 */
static void nobody_puts_another_file_where_the_program_is(void **state)
{
	static const uint64_t high = UINT64_C(1) << 32;
	static const struct {
		long number;
		uint64_t args[3];
		bool may;
	} tries[] = {
		{ SYS_dup2, { 0, 5 }, false },
		{ SYS_dup2, { 0, 7 }, false },
		{ SYS_dup3, { 0, 5 }, false },
		{ SYS_dup3, { 0, 7 }, false },
		{ SYS_dup2, { 0, high | 5 }, false },
		{ SYS_dup3, { 0, high | 7 }, false },
		{ SYS_dup2, { 0, 3 }, false },
		{ SYS_dup2, { 0, 48 }, false },
		{ SYS_dup2, { 0, 6 }, true },
		{ SYS_dup3, { 0, 9 }, true },
		{ SYS_dup2, { 0, 15 }, true },
		{ SYS_dup3, { 0, 16 }, true },
		{ SYS_dup2, { 0, 47 }, true },
		{ SYS_close, { 5 }, false },
		{ SYS_close, { 7 }, false },
		{ SYS_close, { high | 5 }, false },
		{ SYS_close, { 6 }, true },
		{ SYS_close, { 48 }, true },
		{ SYS_close_range, { 5, 5 }, false },
		{ SYS_close_range, { high | 5, 5 }, false },
		{ SYS_close_range, { 0, ~0u }, false },
		{ SYS_close_range, { 48, ~0u, 2 }, false },
		{ SYS_close_range, { 48, ~0u }, true },
		{ SYS_close_range, { 2048, ~0u }, true },
	};
	struct policy *policies[] = { load_blk(), load_fs(), load_vsock(), load_net() };

	for (size_t p = 0; p < UNIT_N(policies); p++) {
		struct sock_fprog filter = { 0 };
		char *error = NULL;
		int fd = -1;

		assert_int_equal(seccomp_compile_keeper(policies[p], &fd, &error), 0);
		assert_int_equal(seccomp_read(fd, &filter), 0);
		close(fd);
		for (size_t i = 0; i < UNIT_N(tries); i++)
			if (passes(&filter, tries[i].number, tries[i].args) != tries[i].may)
				fail_msg("%s: call %ld (%#lx, %#lx, %#lx) %s", policies[p]->type,
					 tries[i].number, tries[i].args[0], tries[i].args[1],
					 tries[i].args[2], tries[i].may ? "is refused" : "passes");
		free(filter.filter);
		policy_free(policies[p]);
	}
}

/* vmdevd has one thread. */
static void a_policy_that_is_no_file_is_refused_at_once(void **state)
{
	char path[] = "/tmp/vmdev-test-policy-XXXXXX", *error = NULL;
	struct policy *policy = NULL;

	assert_true(mkstemp(path) >= 0);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	alarm(5);
	assert_int_equal(policy_load(path, "/nowhere", &policy, &error), -EINVAL);
	alarm(0);
	assert_non_null(strstr(error, "no regular file"));
	free(error);
	unlink(path);
}

static struct policy *load_switch(void)
{
	struct policy *policy;
	char *error = NULL;

	if (policy_load("switch", policy_dir(), &policy, &error) < 0)
		fail_msg("%s", error);
	return policy;
}

/* It maps its ports' memory and frees what it had; it has no threads and makes nothing anew. */
static void the_switch_has_at_most_18_calls_and_reaches_nothing(void **state)
{
	static const char *const names[] = {
		"openat", "socket", "connect",	      "bind",  "clone",
		"clone3", "execve", "ptrace",	      "mount", "unshare",
		"setns",  "ioctl",  "io_uring_setup", "kill",  "futex",
	};
	struct policy *policy = load_switch();

	assert_string_equal(policy->type, "switch");
	assert_int_equal(policy->n_namespaces, 7);
	assert_int_equal(policy->n_capabilities, 0);
	assert_int_equal(policy->n_opcodes, 0);
	assert_in_range(policy_count_allowed(&policy->worker, 0), 1, 18);
	assert_false(allows(&policy->worker, "execveat"));
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		assert_false(allows(&policy->worker, names[i]));
		assert_false(allows(&policy->keeper, names[i]));
	}
	policy_free(policy);
}

/* What only a file system needs. */
static void blk_opens_nothing(void **state)
{
	static const char *const names[] = { "openat", "unshare", "capset", "setfsuid", "linkat" };
	struct policy *policy = load_blk();

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		assert_false(allows(&policy->worker, names[i]));
		assert_false(allows(&policy->keeper, names[i]));
	}
	policy_free(policy);
}

/*
 * The initialiser of io_aside_opcodes (of both rings the one with all of them) in the device's
 * source, for the comparison with the policy.
 */
static char *opcodes_of(const char *source, const char *table)
{
	char path[4096], *text, *list, *end;
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), "%s/../devices/%s", policy_dir(), source);
	file = fopen(path, "re");
	assert_non_null(file);
	text = calloc(1, 1 << 20);
	assert_non_null(text);
	len = fread(text, 1, (1 << 20) - 1, file);
	assert_true(len > 0);
	fclose(file);
	list = strstr(text, table);
	assert_non_null(list);
	end = strchr(list, '}');
	assert_non_null(end);
	*end = '\0';
	memmove(text, list, (size_t)(end - list) + 1);
	return text;
}

/* Frees both. */
static void opcodes_are(struct policy *policy, char *list)
{
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

static void ring_opcodes_are_those_of_the_program(void **state)
{
	/* Of blk's two rings the one with all of them. */
	opcodes_are(load_blk(), opcodes_of("blk/io.c", "io_aside_opcodes[] = {"));
	opcodes_are(load_fs(), opcodes_of("fs/errand.c", "uint8_t opcodes[] = {"));
	opcodes_are(load_net(), opcodes_of("net/batch.c", "uint8_t opcodes[] = {"));
}

/* Opcodes have numbers that the program is told. */
static void opcodes_have_the_kernel_s_numbers(void **state)
{
	struct policy *policy = load_blk();

	assert_int_equal(policy_opcodes(policy),
			 1u << IORING_OP_READ | 1u << IORING_OP_WRITE | 1u << IORING_OP_READV |
				 1u << IORING_OP_WRITEV | 1u << IORING_OP_FSYNC |
				 1u << IORING_OP_FALLOCATE | 1u << IORING_OP_SYNC_FILE_RANGE |
				 1u << IORING_OP_FADVISE);
	policy_free(policy);
}

/* wider.h. Takes root; expected is NULL where it is no wider. */
static void expect_wider(struct json_object *root, const char *expected)
{
	struct policy *shipped = load_blk(), *policy = NULL;
	char *error = NULL, *found = NULL;

	if (policy_parse(json_object_to_json_string(root), "other.json", &policy, &error) < 0)
		fail_msg("%s", error);
	assert_int_equal(policy_wider(policy, shipped, &found), 0);
	if (expected)
		assert_string_equal(found ? found : "", expected);
	else
		assert_null(found);
	free(found);
	policy_free(policy);
	policy_free(shipped);
	json_object_put(root);
}

static struct json_object *worker_rules(struct json_object *root)
{
	return at(at(root, "seccomp"), "syscalls");
}

static struct json_object *keeper_rules(struct json_object *root)
{
	return at(at(at(root, "keeper"), "seccomp"), "syscalls");
}

static struct json_object *rule_of(struct json_object *rules, const char *call)
{
	for (size_t i = 0; i < json_object_array_length(rules); i++) {
		struct json_object *rule = json_object_array_get_idx(rules, i);
		struct json_object *first = json_object_array_get_idx(at(rule, "names"), 0);

		if (strcmp(json_object_get_string(first), call) == 0)
			return rule;
	}
	fail_msg("no rule of %s", call);
	return NULL;
}

static void add(struct json_object *array, const char *text)
{
	json_object_array_add(array, json_tokener_parse(text));
}

static void what_is_shipped_or_narrower_is_not_wider(void **state)
{
	struct json_object *root = read_blk();

	expect_wider(root, NULL);
	root = read_blk();
	json_object_array_del_idx(worker_rules(root), 0, 1);
	json_object_array_del_idx(at(root, "io_uring"), 0, 1);
	json_object_object_add(json_object_array_get_idx(at(root, "rlimits"), 0), "soft",
			       json_object_new_int(100));
	json_object_object_add(rule_of(worker_rules(root), "munmap"), "args",
			       json_tokener_parse("[{\"index\": 1, \"value\": 1, "
						  "\"op\": \"SCMP_CMP_GE\"}]"));
	expect_wider(root, NULL);
}

static void what_is_wider_is_named(void **state)
{
	struct json_object *root = read_blk();

	add(worker_rules(root), "{\"names\": [\"socket\", \"munmap\", \"connect\"], "
				"\"action\": \"SCMP_ACT_ALLOW\", \"comment\": \"why not\"}");
	add(keeper_rules(root), "{\"names\": [\"mount\", \"munmap\"], "
				"\"action\": \"SCMP_ACT_ALLOW\", \"comment\": \"why not\"}");
	add(at(root, "capabilities"), "{\"capability\": \"CAP_SYS_ADMIN\", \"comment\": \"all\"}");
	add(at(root, "io_uring"), "{\"opcode\": \"IORING_OP_SENDMSG\", \"comment\": \"out\"}");
	json_object_array_del_idx(at(root, "rlimits"), 0, 1);
	json_object_object_add(at(root, "landlock"), "files", json_object_new_boolean(true));
	expect_wider(root, "seccomp: socket, connect; keeper.seccomp: mount; "
			   "capabilities: CAP_SYS_ADMIN; rlimits: RLIMIT_NOFILE; landlock: files; "
			   "io_uring: IORING_OP_SENDMSG");
}

static void an_argument_that_is_looked_at_no_more_is_wider(void **state)
{
	struct json_object *root = read_blk();

	json_object_object_del(rule_of(worker_rules(root), "mmap"), "args");
	expect_wider(root, "seccomp: mmap");
	root = read_blk();
	json_object_object_del(rule_of(keeper_rules(root), "clone"), "args");
	expect_wider(root, "keeper.seccomp: clone");
	root = read_blk();
	json_object_object_add(
		json_object_array_get_idx(at(rule_of(worker_rules(root), "fcntl"), "args"), 0),
		"value", json_object_new_int(2));
	expect_wider(root, "seccomp: fcntl");
}

static void a_rule_that_holds_more_often_or_does_more_is_wider(void **state)
{
	struct json_object *root = read_blk(), *rule;

	json_object_object_del(rule_of(worker_rules(root), "io_uring_enter"), "includes");
	json_object_object_del(rule_of(worker_rules(root), "fdatasync"), "excludes");
	rule = rule_of(worker_rules(root), "fallocate");
	json_object_object_del(rule, "errnoRet");
	json_object_object_add(rule, "action", json_object_new_string("SCMP_ACT_ALLOW"));
	expect_wider(root, "seccomp: io_uring_enter, fdatasync, fallocate");
}

static void a_hard_limit_that_is_raised_is_wider(void **state)
{
	struct json_object *root = read_blk(), *limit;

	limit = json_object_array_get_idx(at(root, "rlimits"), 0);
	json_object_object_add(limit, "hard", json_object_new_int64(INT64_C(1) << 40));
	expect_wider(root, "rlimits: RLIMIT_NOFILE");
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
		cmocka_unit_test(fs_worker_has_at_most_60_calls),
		cmocka_unit_test(vsock_worker_has_at_most_24_calls),
		cmocka_unit_test(fs_keeps_at_most_8_capabilities_and_none_that_reads_past_the_root),
		cmocka_unit_test(net_worker_has_at_most_18_calls),
		cmocka_unit_test(worker_has_at_most_18_calls_with_io_uring),
		cmocka_unit_test(worker_has_at_most_18_calls_without_io_uring),
		cmocka_unit_test(calls_that_arguments_widen_are_checked),
		cmocka_unit_test(no_filter_allows_what_reaches_out),
		cmocka_unit_test(blk_opens_nothing),
		cmocka_unit_test(the_switch_has_at_most_18_calls_and_reaches_nothing),
		cmocka_unit_test(worker_closes_only_the_session_s_descriptors),
		cmocka_unit_test(ring_opcodes_are_those_of_the_program),
		cmocka_unit_test(opcodes_have_the_kernel_s_numbers),
		cmocka_unit_test(what_is_shipped_or_narrower_is_not_wider),
		cmocka_unit_test(what_is_wider_is_named),
		cmocka_unit_test(an_argument_that_is_looked_at_no_more_is_wider),
		cmocka_unit_test(a_rule_that_holds_more_often_or_does_more_is_wider),
		cmocka_unit_test(a_hard_limit_that_is_raised_is_wider),
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
		cmocka_unit_test(a_policy_that_is_no_file_is_refused_at_once),
		cmocka_unit_test(nobody_puts_another_file_where_the_program_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
