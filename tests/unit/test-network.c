/*
 * Networks as vmdevd has them: ports, the vmdev-switch that it starts for them in its sandbox, the
 * user-mode stack. The test is both devices: it has their side of the ports.
 *
 * The switch's part needs root; the stack's part, passt besides. What is missing is said, and
 * skipped.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/config-private.h"
#include "daemon/helper.h"
#include "daemon/network.h"
#include "daemon/sandbox/plan.h"
#include "daemon/stack.h"
#include "devices/base/fd.h"
#include "devices/net/lane.h"
#include "tests/unit/unit.h"

enum { WAIT_MS = 20000 };

struct side {
	struct network_port port;
	int fds[2 + CONTRACT_PORT_MAX_QUEUES];
	struct lane_map map;
	struct lane in, out;
};

static sd_event *event;
static struct networks *networks;
static struct switch_config lan = { .name = "lan0" };
static struct side side[2];

static int setup(void **state)
{
	const char *dir = getenv("VMDEV_PROGRAM_DIR"), *policies = getenv("VMDEV_POLICY_DIR");
	struct networks_spec spec = { .program_dir = dir ? dir : "build/devices",
				      .is_build_tree = true,
				      .policy_dir = policies ? policies : "policies",
				      .override_dir = "/nonexistent" };

	assert_true(sd_event_new(&event) >= 0);
	spec.event = event;
	assert_int_equal(networks_new(&spec, &networks), 0);
	return 0;
}

static void unplug(struct side *s)
{
	if (!s->map.area)
		return;
	lane_unmap(&s->map);
	for (uint32_t i = 0; i < 2 + s->port.n_queues; i++)
		close(s->fds[i]);
	networks_unplug(networks, s->port.vm, s->port.device);
}

static int teardown(void **state)
{
	unplug(&side[0]);
	unplug(&side[1]);
	networks_free(networks);
	sd_event_unref(event);
	return 0;
}

static void plug(uint32_t i, const struct switch_config *c, const struct user_config *user)
{
	struct side *s = &side[i];
	char *error = NULL;
	int r;

	s->port = (struct network_port){ .vm = i ? "b" : "a",
					 .device = "net",
					 .mac = { 0x52, 0x54, 0, 0, 0, (uint8_t)(1 + i) },
					 .n_queues = 2,
					 .mtu = CONFIG_USER_MAX_MTU,
					 .lan = c,
					 .user = user };
	r = networks_plug(networks, &s->port, s->fds, &error);
	if (r < 0)
		fail_msg("%s", error);
	assert_int_equal(lane_map(&s->map, s->fds[0], 2), 0);
	lane_open_writer(&s->out, &s->map, 0, LANE_TO_SWITCH);
	lane_open_reader(&s->in, &s->map, 0, LANE_TO_DEVICE);
}

/* clang says it in its own way. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

static void need_sandbox(void)
{
	if (geteuid() == 0 && !SANITIZED)
		return;
	unit_skip("sandboxes need root%s",
		  SANITIZED
			  ? ", and a program without a sanitizer, whose own calls a filter refuses"
			  : "");
}

/* vmdevd's loop, for some milliseconds. */
static void run(int ms)
{
	for (int i = 0; i < ms; i += 5)
		while (sd_event_run(event, i + 5 >= ms ? 0 : 5000) > 0)
			;
}

static void transmit(struct side *s, const uint8_t *frame, uint32_t len)
{
	uint8_t *p = lane_reserve(&s->out, LANE_HEADER_LEN + len);
	uint64_t one = 1;

	assert_non_null(p);
	memset(p, 0, LANE_HEADER_LEN);
	memcpy(p + LANE_HEADER_LEN, frame, len);
	lane_commit(&s->out, LANE_HEADER_LEN + len);
	if (lane_publish(&s->out))
		assert_int_equal(write(s->fds[1], &one, sizeof(one)), sizeof(one));
}

/* The next frame that comes within some milliseconds; its length, 0: none. */
static uint32_t receive(struct side *s, uint8_t *ret_frame, int ms)
{
	for (int waited = 0; waited <= ms; waited += 5) {
		uint32_t len;
		const uint8_t *p = lane_look(&s->in, &len);

		if (p) {
			memcpy(ret_frame, p + LANE_HEADER_LEN, len - LANE_HEADER_LEN);
			lane_next(&s->in);
			lane_release(&s->in);
			return len - LANE_HEADER_LEN;
		}
		run(5);
		usleep(1000);
	}
	return 0;
}

static void make(uint8_t *f, uint32_t from, uint32_t number)
{
	memset(f, 0, 64);
	memset(f, 0xff, 6);
	memcpy(f + 6, side[from].port.mac, 6);
	f[12] = 0x88;
	f[13] = 0xb5;
	memcpy(f + 14, &number, 4);
}

/* A port that has just come is not known to a switch that runs: again, until a frame gets there. */
static void reaches(uint32_t from, uint32_t number)
{
	uint8_t f[64], got[LANE_MAX_LEN];

	make(f, from, number);
	for (int waited = 0; waited < WAIT_MS; waited += 100) {
		transmit(&side[from], f, sizeof(f));
		if (receive(&side[1 - from], got, 100) > 0)
			return;
	}
	fail_msg("nothing gets there");
}

/*
 * From one to the other. A switch that is just starting, with both of them, comes late and loses
 * none.
 */
static void passes(uint32_t from, uint32_t number)
{
	uint8_t f[64], got[LANE_MAX_LEN];

	make(f, from, number);
	transmit(&side[from], f, sizeof(f));
	assert_int_equal(receive(&side[1 - from], got, WAIT_MS), sizeof(f));
	assert_memory_equal(got, f, sizeof(f));
}

/* The program's pid, found as the kernel has it: our only child of that name. */
static pid_t child_of_name(const char *name)
{
	char command[128];
	int pid = 0;
	FILE *p;

	(void)snprintf(command, sizeof(command), "pgrep -P %d -x %s", getpid(), name);
	p = popen(command, "r");
	assert_non_null(p);
	if (fscanf(p, "%d", &pid) != 1)
		pid = 0;
	pclose(p);
	return pid;
}

static pid_t await_child(const char *name, pid_t other_than)
{
	for (int waited = 0; waited < WAIT_MS; waited += 20) {
		pid_t pid = child_of_name(name);

		if (pid > 0 && pid != other_than)
			return pid;
		run(20);
	}
	fail_msg("no %s", name);
	return 0;
}

static void frames_go_from_device_to_device(void **state)
{
	need_sandbox();
	plug(0, &lan, NULL);
	plug(1, &lan, NULL);
	for (uint32_t i = 0; i < 100; i++)
		passes(i % 2, i);
}

static void a_killed_switch_is_replaced_with_the_same_ports(void **state)
{
	pid_t pid;

	need_sandbox();
	plug(0, &lan, NULL);
	plug(1, &lan, NULL);
	passes(0, 1);
	for (uint32_t i = 0; i < 3; i++) {
		pid = await_child("vmdev-switch", 0);
		assert_int_equal(kill(pid, SIGKILL), 0);
		passes(0, 2 + i);
		passes(1, 3 + i);
		assert_int_not_equal(await_child("vmdev-switch", 0), pid);
	}
}

static void a_switch_goes_with_its_last_device(void **state)
{
	need_sandbox();
	plug(0, &lan, NULL);
	plug(1, &lan, NULL);
	passes(0, 1);
	unplug(&side[0]);
	run(50);
	assert_int_not_equal(child_of_name("vmdev-switch"), 0);
	plug(0, &lan, NULL);
	reaches(1, 2);
	unplug(&side[0]);
	unplug(&side[1]);
	assert_int_equal(child_of_name("vmdev-switch"), 0);
}

static void two_switches_are_two(void **state)
{
	struct switch_config other = { .name = "lan1" };
	uint8_t f[64], got[LANE_MAX_LEN];

	need_sandbox();
	plug(0, &lan, NULL);
	plug(1, &other, NULL);
	make(f, 0, 1);
	run(500);
	transmit(&side[0], f, sizeof(f));
	assert_int_equal(receive(&side[1], got, 200), 0);
}

static void the_document_s_filters_reach_the_switch(void **state)
{
	struct switch_config bound = { .name = "lan0", .bind = true, .access = 7 };
	struct switch_config trunk = { .name = "lan0", .n_trunk = 1, .trunk = { { 5, 9 } } };
	uint8_t f[64], got[LANE_MAX_LEN];

	need_sandbox();
	plug(0, &bound, NULL);
	plug(1, &trunk, NULL);
	make(f, 0, 1);
	transmit(&side[0], f, sizeof(f));
	assert_int_equal(receive(&side[1], got, WAIT_MS), sizeof(f) + 4);
	assert_int_equal(got[12] << 8 | got[13], 0x8100);
	assert_int_equal(got[14] << 8 | got[15], 7);
	f[11] = 0x77; /* another's address */
	transmit(&side[0], f, sizeof(f));
	assert_int_equal(receive(&side[1], got, 200), 0);
}

/* ---- the user-mode stack ---- */

static const struct user_config user = { .address = "10.77.0.2",
					 .prefix = 24,
					 .gateway = "10.77.0.1" };

/*
 * In a network namespace of our own, with an address that passt can take its defaults from. The
 * whole test process moves there.
 */
static void need_stack(void)
{
	char *error = NULL;

	need_sandbox();
	if (stack_check(&error) < 0) {
		char why[128];

		(void)snprintf(why, sizeof(why), "%s", error);
		free(error);
		unit_skip("%s", why);
	}
	if (unshare(CLONE_NEWNET) < 0 ||
	    system("ip link set lo up && ip link add vt0 type veth peer name vt1 && "
		   "ip addr add 10.88.0.1/24 dev vt0 && ip link set vt0 up && ip link set vt1 up "
		   "&& "
		   "ip route add default via 10.88.0.2") != 0)
		unit_skip("no network namespace");
}

/* Who has the gateway's address? The stack answers. */
static bool gateway_answers(int ms)
{
	static const uint8_t ask[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0, 0,
				       1,    0x08, 0x06, 0,    1,    8,	   0,	 6,    4, 0, 1,
				       0x52, 0x54, 0,	 0,    0,    1,	   10,	 77,   0, 2, 0,
				       0,    0,	   0,	 0,    0,    10,   77,	 0,    1 };
	uint8_t f[60] = { 0 }, got[LANE_MAX_LEN];

	memcpy(f, ask, sizeof(ask));
	for (int waited = 0; waited < ms; waited += 200) {
		uint32_t len;

		transmit(&side[0], f, sizeof(f));
		while ((len = receive(&side[0], got, 200)) > 0)
			if (len >= 42 && got[12] == 8 && got[13] == 6 && got[21] == 2)
				return true;
	}
	return false;
}

static void the_stack_answers_and_is_replaced_when_it_dies(void **state)
{
	pid_t pid;

	need_stack();
	plug(0, NULL, &user);
	assert_true(gateway_answers(WAIT_MS));
	pid = child_of_name("passt.avx2") ? child_of_name("passt.avx2") : await_child("passt", 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	run(100);
	assert_true(gateway_answers(WAIT_MS));
	/* and its switch, with which the stream ends */
	pid = await_child("vmdev-switch", 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_true(gateway_answers(WAIT_MS));
	unplug(&side[0]);
	assert_int_equal(child_of_name("vmdev-switch"), 0);
	assert_int_equal(child_of_name("passt"), 0);
	assert_int_equal(child_of_name("passt.avx2"), 0);
}

static void the_stack_s_arguments_are_the_document_s(void **state)
{
	const struct user_config c = {
		.address = "10.0.2.15",
		.prefix = 24,
		.n_forwards = 2,
		.forward = { { .host = 8080, .guest = 80 },
			     { .udp = true, .address = "127.0.0.1", .host = 53, .guest = 53 } },
	};
	static const char *const expected[] = {
		"passt",
		"-f",
		"-q",
		"-e",
		"-F",
		"3",
		"-m",
		"32768",
		"-a",
		"10.0.2.15",
		"-n",
		"24",
		"--no-map-gw",
		"-t",
		"8080:80",
		"-u",
		"127.0.0.1/53:53",
	};
	const struct user_config none = { .host_loopback = true, .has_dns = true };
	char **v = stack_argv(&c, CONFIG_USER_MAX_MTU);

	for (size_t i = 0; i < UNIT_N(expected); i++)
		assert_string_equal(v[i], expected[i]);
	assert_null(v[UNIT_N(expected)]);
	strv_free(v);
	v = stack_argv(&none, 1500);
	assert_string_equal(v[8], "-D");
	assert_string_equal(v[9], "none");
	assert_string_equal(v[10], "-t");
	assert_string_equal(v[11], "none");
	strv_free(v);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_stack_s_arguments_are_the_document_s),
		CASE(frames_go_from_device_to_device),
		CASE(a_killed_switch_is_replaced_with_the_same_ports),
		CASE(a_switch_goes_with_its_last_device),
		CASE(two_switches_are_two),
		CASE(the_document_s_filters_reach_the_switch),
		CASE(the_stack_answers_and_is_replaced_when_it_dies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
