/* The plan of a sandbox: the order of its steps, and that nothing is missing. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/sandbox/cgroup.h"
#include "daemon/sandbox/plan.h"
#include "devices/process/contract.h"
#include "tests/unit/unit.h"

static const struct plan_resource resources[] = {
	{ "image", CONTRACT_FD_BLK_IMAGE, "the disk: the one thing of the host's" },
	{ "another", CONTRACT_FD_RESOURCE_MAX, "a second one of its own" },
};

static const struct plan_spec blk_spec = { .type = "blk",
					   .uid_index = 7,
					   .ids = PLAN_IDS_ONE,
					   .fd_limit = CONTRACT_FD_LIMIT,
					   .resources = resources,
					   .n_resources = 2 };

struct fixture {
	struct policy *policy;
	struct plan plan;
};

static int set_up(void **state)
{
	static struct fixture fixture;
	const char *dir = getenv("VMDEV_POLICY_DIR");
	char *error = NULL;

	if (!dir || policy_load("blk", dir, &fixture.policy, &error) < 0 ||
	    plan_make(fixture.policy, &blk_spec, &fixture.plan, &error) < 0) {
		print_error("%s\n", error ? error : "VMDEV_POLICY_DIR is not set");
		free(error);
		return -1;
	}
	*state = &fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	fixture->policy = policy_free(fixture->policy);
	return 0;
}

/* The index of the first step of this type. */
static size_t first(const struct plan *plan, enum plan_step_type type)
{
	for (size_t i = 0; i < plan->n_steps; i++)
		if (plan->steps[i].type == type)
			return i;
	fail_msg("no step \"%s\"", plan_step_to_string(type));
	return 0;
}

static void every_kind_of_step_is_there(void **state)
{
	const struct fixture *fixture = *state;

	for (int type = 0; type < _PLAN_STEP_TYPE_N; type++)
		/* only where a directory is shared; only of what is not ours */
		if (type != PLAN_PROC && type != PLAN_FILES && type != PLAN_EXECUTE)
			first(&fixture->plan, (enum plan_step_type)type);
}

static void refuses_the_policy_of_another_type(void **state)
{
	struct plan_spec spec = blk_spec;
	const struct fixture *fixture = *state;
	struct plan plan = { 0 };
	char *error = NULL;

	spec.type = "net";
	assert_int_equal(plan_make(fixture->policy, &spec, &plan, &error), -EINVAL);
	assert_non_null(strstr(error, "\"blk\""));
	assert_non_null(strstr(error, "\"net\""));
	free(error);
	assert_int_equal(plan.n_steps, 0);
}

/* vmdevd dies where it would end the process that a namespace needs while it is made. */
static void a_namespace_in_the_making_leaves_nobody_behind(void **state)
{
	static const int calls[] = { SCMP_SYS(kill), SCMP_SYS(pidfd_send_signal), SCMP_SYS(wait4),
				     SCMP_SYS(waitid) };
	const struct namespaces_map map = { 0, 100000, 1000 };
	struct pollfd end;
	int fds[2], status;
	char byte;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
		int fd = -1;

		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		for (size_t i = 0; i < UNIT_N(calls); i++)
			seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, calls[i], 0);
		if (seccomp_load(filter) == 0)
			(void)namespaces_make_user(&map, 1, &fd);
		_exit(0);
	}
	close(fds[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	end = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	assert_int_equal(poll(&end, 1, 5000), 1); /* nobody has the other end any more */
	assert_int_equal(read(fds[0], &byte, 1), 0);
	close(fds[0]);
}

static void a_helper_has_its_own_range_of_users_and_no_front_end(void **state)
{
	const struct fixture *fixture = *state;
	const struct plan_spec spec = {
		.type = "blk",
		.uid_index = 7,
		.ids = PLAN_IDS_ONE,
		.helper = true,
		.fd_limit = CONTRACT_FD_LIMIT,
	};
	struct plan plan = { 0 };
	char *error = NULL;

	assert_int_equal(plan_make(fixture->policy, &spec, &plan, &error), 0);
	assert_int_equal(plan.steps[first(&plan, PLAN_IDS)].id, PLAN_UID_HELPERS + 7);
	assert_int_equal(plan.steps[first(&plan, PLAN_MAP_IDS)].map.outside, PLAN_UID_HELPERS + 7);
	for (size_t i = 0; i < plan.n_steps; i++)
		if (plan.steps[i].type == PLAN_DESCRIPTOR)
			assert_int_not_equal(plan.steps[i].fd.role, PLAN_FD_LISTEN);
}

/* The one thing of the host's that a program which is not ours keeps is the network. */
static void a_foreign_program_has_no_namespace_of_the_host_s_but_one(void **state)
{
	static const struct plan_resource resource = { "socket", 3, "what it is for" };
	struct plan plan = { 0 };
	char *error = NULL;
	size_t execute;

	assert_int_equal(plan_make_foreign(7, &resource, &plan, &error), 0);
	assert_int_equal(plan.steps[first(&plan, PLAN_CLONE)].clone_flags,
			 CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS);
	assert_int_equal(plan.steps[first(&plan, PLAN_IDS)].id, PLAN_UID_HELPERS + 7);
	assert_int_equal(plan.steps[first(&plan, PLAN_CAPABILITIES)].kept, 0);
	execute = first(&plan, PLAN_EXECUTE);
	assert_int_equal(execute, plan.n_steps - 1);
	assert_true(first(&plan, PLAN_CLOSE_OTHERS) < first(&plan, PLAN_FILES));
	assert_true(first(&plan, PLAN_FILES) < first(&plan, PLAN_CAPABILITIES));
	assert_true(first(&plan, PLAN_CAPABILITIES) < first(&plan, PLAN_NO_NEW_PRIVS));
	for (size_t i = 0; i < plan.n_steps; i++)
		assert_non_null(plan.steps[i].reason);
	assert_int_equal(plan_make_foreign(PLAN_UID_RANGE, &resource, &plan, &error), -ERANGE);
	free(error);
}

static void every_step_has_a_reason(void **state)
{
	const struct fixture *fixture = *state;

	for (size_t i = 0; i < fixture->plan.n_steps; i++) {
		assert_non_null(fixture->plan.steps[i].reason);
		assert_true(strlen(fixture->plan.steps[i].reason) > 10);
	}
}

static void vmdevd_is_done_before_the_child_begins(void **state)
{
	const struct plan *plan = &((struct fixture *)*state)->plan;
	size_t i = 0;

	while (plan_step_in_parent(plan->steps[i].type))
		i++;
	assert_true(i > 0);
	for (; i < plan->n_steps; i++)
		assert_false(plan_step_in_parent(plan->steps[i].type));
}

static void filter_is_last_before_the_program(void **state)
{
	const struct plan *plan = &((struct fixture *)*state)->plan;

	assert_int_equal(plan->steps[plan->n_steps - 1].type, PLAN_PROGRAM);
	assert_int_equal(plan->steps[plan->n_steps - 2].type, PLAN_FILTER);
}

static void privileges_go_after_the_last_step_that_needs_them(void **state)
{
	static const enum plan_step_type privileged[] = { PLAN_CGROUP_NAMESPACE, PLAN_HOSTNAME,
							  PLAN_SECUREBITS, PLAN_IDS, PLAN_ROOT };
	const struct plan *plan = &((struct fixture *)*state)->plan;

	for (size_t i = 0; i < sizeof(privileged) / sizeof(*privileged); i++)
		assert_true(first(plan, privileged[i]) < first(plan, PLAN_CAPABILITIES));
	/* Otherwise the change of the user would take what the root still needs. */
	assert_true(first(plan, PLAN_SECUREBITS) < first(plan, PLAN_IDS));
	/* The tmpfs belongs to the user that mounts it. */
	assert_true(first(plan, PLAN_IDS) < first(plan, PLAN_ROOT));
	/* Both demand it of a process without capabilities. */
	assert_true(first(plan, PLAN_NO_NEW_PRIVS) < first(plan, PLAN_LANDLOCK));
	assert_true(first(plan, PLAN_NO_NEW_PRIVS) < first(plan, PLAN_FILTER));
}

static void all_namespaces_are_new(void **state)
{
	const struct plan *plan = &((struct fixture *)*state)->plan;
	uint64_t flags = plan->steps[first(plan, PLAN_CLONE)].clone_flags;

	assert_int_equal(flags, CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET |
					CLONE_NEWIPC | CLONE_NEWUTS);
	assert_true(first(plan, PLAN_CGROUP_NAMESPACE) > first(plan, PLAN_CLONE));
}

static void user_is_the_device_s_own(void **state)
{
	const struct plan *plan = &((struct fixture *)*state)->plan;

	assert_int_equal(plan->steps[first(plan, PLAN_IDS)].id, 1900000007);
	assert_int_equal(plan->steps[first(plan, PLAN_MAP_IDS)].map.inside, 1900000007);
	assert_int_equal(plan->steps[first(plan, PLAN_MAP_IDS)].map.outside, 1900000007);
	assert_int_equal(plan->steps[first(plan, PLAN_MAP_IDS)].map.count, 1);
}

static void descriptors_are_the_contract_s(void **state)
{
	static const int numbers[] = { 0,
				       1,
				       CONTRACT_FD_LOG,
				       CONTRACT_FD_CONTROL,
				       CONTRACT_FD_LISTEN,
				       CONTRACT_FD_PROGRAM,
				       CONTRACT_FD_FILTER,
				       CONTRACT_FD_BLK_IMAGE,
				       CONTRACT_FD_RESOURCE_MAX };
	const struct plan *plan = &((struct fixture *)*state)->plan;
	size_t n = 0;

	for (size_t i = 0; i < plan->n_steps; i++) {
		if (plan->steps[i].type != PLAN_DESCRIPTOR)
			continue;
		assert_true(n < sizeof(numbers) / sizeof(*numbers));
		assert_int_equal(plan->steps[i].fd.number, numbers[n++]);
		assert_true(i < first(plan, PLAN_CLOSE_OTHERS));
	}
	assert_int_equal(n, sizeof(numbers) / sizeof(*numbers));
}

static void same_input_gives_the_same_plan(void **state)
{
	const struct fixture *fixture = *state;
	struct plan again;
	char *error = NULL;
	char a[128], b[128];

	assert_int_equal(plan_make(fixture->policy, &blk_spec, &again, &error), 0);
	assert_int_equal(again.n_steps, fixture->plan.n_steps);
	for (size_t i = 0; i < again.n_steps; i++) {
		plan_step_describe(&again.steps[i], a, sizeof(a));
		plan_step_describe(&fixture->plan.steps[i], b, sizeof(b));
		assert_string_equal(a, b);
	}
}

static void refuses_policy_with_another_descriptor_limit(void **state)
{
	const struct fixture *fixture = *state;
	struct plan plan;
	char *error = NULL;

	for (size_t i = 0; i < fixture->policy->n_rlimits; i++) {
		struct policy_rlimit *rlimit = &fixture->policy->rlimits[i];

		if (rlimit->resource == RLIMIT_NOFILE)
			rlimit->value.rlim_cur = 64;
	}
	assert_true(plan_make(fixture->policy, &blk_spec, &plan, &error) < 0);
	assert_non_null(strstr(error, "RLIMIT_NOFILE"));
	free(error);
}

static void refuses_index_beyond_the_users(void **state)
{
	const struct fixture *fixture = *state;
	struct plan plan;
	struct plan_spec spec = blk_spec;
	char *error = NULL;

	spec.uid_index = PLAN_UID_RANGE;
	assert_true(plan_make(fixture->policy, &spec, &plan, &error) < 0);
	free(error);
}

/* The plan of a file system device. */
static struct plan fs_plan(struct policy **ret_policy, enum plan_ids ids, unsigned features)
{
	struct plan_spec spec = { .type = "fs",
				  .uid_index = 7,
				  .ids = ids,
				  .tree = true,
				  .fd_limit = CONTRACT_FD_LIMIT_FS,
				  .resources = resources,
				  .n_resources = 1,
				  .features = features };
	struct plan plan = { 0 };
	char *error = NULL;

	if (policy_load("fs", getenv("VMDEV_POLICY_DIR"), ret_policy, &error) < 0 ||
	    plan_make(*ret_policy, &spec, &plan, &error) < 0)
		fail_msg("%s", error);
	return plan;
}

static bool has(const struct plan *plan, enum plan_step_type type)
{
	for (size_t i = 0; i < plan->n_steps; i++)
		if (plan->steps[i].type == type)
			return true;
	return false;
}

static void host_ids_need_no_user_namespace(void **state)
{
	struct policy *policy;
	struct plan plan = fs_plan(&policy, PLAN_IDS_HOST, 0);

	assert_false(has(&plan, PLAN_MAP_IDS));
	assert_int_equal(plan.steps[first(&plan, PLAN_CLONE)].clone_flags,
			 CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
	assert_int_equal(plan.steps[first(&plan, PLAN_IDS)].id, 1900000007);
	assert_true(plan.steps[first(&plan, PLAN_ROOT)].tree);
	assert_true(first(&plan, PLAN_PROC) < first(&plan, PLAN_ROOT));
	policy_free(policy);
}

static void own_ids_are_a_range_that_no_other_device_has(void **state)
{
	struct policy *policy;
	struct plan plan = fs_plan(&policy, PLAN_IDS_RANGE, 0);
	const struct plan_step *map = &plan.steps[first(&plan, PLAN_MAP_IDS)];

	assert_true(plan.steps[first(&plan, PLAN_CLONE)].clone_flags & CLONE_NEWUSER);
	assert_int_equal(map->map.inside, 0);
	assert_int_equal(map->map.outside, 2000000000 + 7 * 65536);
	assert_int_equal(map->map.count, 65536);
	assert_int_equal(plan.steps[first(&plan, PLAN_IDS)].id, 65535);
	policy_free(policy);
}

static void only_a_shared_directory_keeps_capabilities(void **state)
{
	const struct plan *blk = &((struct fixture *)*state)->plan;
	struct policy *policy;
	struct plan fs = fs_plan(&policy, PLAN_IDS_HOST, 0);
	struct plan nodes;
	struct plan_spec spec = blk_spec;
	char *error = NULL;

	assert_int_equal(blk->steps[first(blk, PLAN_CAPABILITIES)].kept, 0);
	assert_int_equal(__builtin_popcountll(fs.steps[first(&fs, PLAN_CAPABILITIES)].kept), 7);
	spec.type = "fs";
	spec.fd_limit = CONTRACT_FD_LIMIT_FS;
	assert_true(plan_make(policy, &spec, &nodes, &error) < 0);
	assert_non_null(strstr(error, "capabilities"));
	free(error);
	policy_free(policy);
	nodes = fs_plan(&policy, PLAN_IDS_HOST, POLICY_FEATURE_DEVICE_NODES);
	assert_int_equal(__builtin_popcountll(nodes.steps[first(&nodes, PLAN_CAPABILITIES)].kept),
			 8);
	policy_free(policy);
}

static void plan_can_be_printed(void **state)
{
	const struct fixture *fixture = *state;
	char *text = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&text, &size);

	plan_print(&fixture->plan, file);
	fclose(file);
	assert_non_null(strstr(text, "RLIMIT_NOFILE 2048"));
	assert_non_null(strstr(text, "user pid mount network ipc uts"));
	assert_non_null(strstr(text, "ids 1900000007"));
	free(text);
}

static void limits_are_read_as_systemd_does(void **state)
{
	char value[64];

	assert_int_equal(cgroup_format_cpu("150%", value, sizeof(value)), 0);
	assert_string_equal(value, "150000 100000");
	assert_int_equal(cgroup_format_cpu("12.5%", value, sizeof(value)), 0);
	assert_string_equal(value, "12500 100000");
	assert_int_equal(cgroup_format_memory("512M", value, sizeof(value)), 0);
	assert_string_equal(value, "536870912");
	assert_int_equal(cgroup_format_memory("infinity", value, sizeof(value)), 0);
	assert_string_equal(value, "max");
	assert_int_equal(cgroup_format_pids("64", value, sizeof(value)), 0);
	assert_string_equal(value, "64");
}

static void refuses_limits_that_are_none(void **state)
{
	static const char *const cpu[] = { "",	   "%",	  "150",    "-5%", "0%",
					   "1e3%", "5.%", "5.123%", "5%%" };
	static const char *const memory[] = { "", "0", "5X", "-1", "101%", "1 G" };
	static const char *const pids[] = { "", "0", "-1", "5%", "1K", "max" };
	char value[64];

	for (size_t i = 0; i < sizeof(cpu) / sizeof(*cpu); i++)
		if (cgroup_format_cpu(cpu[i], value, sizeof(value)) == 0)
			fail_msg("cpu \"%s\" became \"%s\"", cpu[i], value);
	for (size_t i = 0; i < sizeof(memory) / sizeof(*memory); i++)
		if (cgroup_format_memory(memory[i], value, sizeof(value)) == 0)
			fail_msg("memory \"%s\" became \"%s\"", memory[i], value);
	for (size_t i = 0; i < sizeof(pids) / sizeof(*pids); i++)
		if (cgroup_format_pids(pids[i], value, sizeof(value)) == 0)
			fail_msg("pids \"%s\" became \"%s\"", pids[i], value);
}

#define plan_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		plan_test(every_kind_of_step_is_there),
		plan_test(every_step_has_a_reason),
		plan_test(a_helper_has_its_own_range_of_users_and_no_front_end),
		plan_test(a_foreign_program_has_no_namespace_of_the_host_s_but_one),
		plan_test(vmdevd_is_done_before_the_child_begins),
		plan_test(filter_is_last_before_the_program),
		plan_test(privileges_go_after_the_last_step_that_needs_them),
		plan_test(all_namespaces_are_new),
		plan_test(user_is_the_device_s_own),
		plan_test(descriptors_are_the_contract_s),
		plan_test(same_input_gives_the_same_plan),
		plan_test(refuses_policy_with_another_descriptor_limit),
		plan_test(refuses_index_beyond_the_users),
		plan_test(host_ids_need_no_user_namespace),
		plan_test(own_ids_are_a_range_that_no_other_device_has),
		plan_test(only_a_shared_directory_keeps_capabilities),
		plan_test(plan_can_be_printed),
		plan_test(refuses_the_policy_of_another_type),
		cmocka_unit_test(a_namespace_in_the_making_leaves_nobody_behind),
		cmocka_unit_test(limits_are_read_as_systemd_does),
		cmocka_unit_test(refuses_limits_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
