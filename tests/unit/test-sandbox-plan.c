/* The plan of a sandbox: the order of its steps, and that nothing is missing. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/sandbox/cgroup.h"
#include "daemon/sandbox/plan.h"
#include "devices/process/contract.h"
#include "tests/unit/unit.h"

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
	    plan_make(fixture.policy, 7, &fixture.plan, &error) < 0) {
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
		first(&fixture->plan, (enum plan_step_type)type);
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
	assert_int_equal(plan->steps[first(plan, PLAN_MAP_IDS)].id, 1900000007);
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
				       CONTRACT_FD_BLK_IMAGE };
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

	assert_int_equal(plan_make(fixture->policy, 7, &again, &error), 0);
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
	assert_true(plan_make(fixture->policy, 7, &plan, &error) < 0);
	assert_non_null(strstr(error, "RLIMIT_NOFILE"));
	free(error);
}

static void refuses_index_beyond_the_users(void **state)
{
	const struct fixture *fixture = *state;
	struct plan plan;
	char *error = NULL;

	assert_true(plan_make(fixture->policy, PLAN_UID_RANGE, &plan, &error) < 0);
	free(error);
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
		plan_test(vmdevd_is_done_before_the_child_begins),
		plan_test(filter_is_last_before_the_program),
		plan_test(privileges_go_after_the_last_step_that_needs_them),
		plan_test(all_namespaces_are_new),
		plan_test(user_is_the_device_s_own),
		plan_test(descriptors_are_the_contract_s),
		plan_test(same_input_gives_the_same_plan),
		plan_test(refuses_policy_with_another_descriptor_limit),
		plan_test(refuses_index_beyond_the_users),
		plan_test(plan_can_be_printed),
		cmocka_unit_test(limits_are_read_as_systemd_does),
		cmocka_unit_test(refuses_limits_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
