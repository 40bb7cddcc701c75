/*
 * A device's states: each cell of the table is visited, and what must hold over all of them is
 * looked at: the socket's inode, the restart limit, what a hostile worker may say.
 *
 * Runs in: the test, as any user.
 * Trusts:  nothing.
 *
 * The device's host is the test: it "launches" a process without a sandbox that only waits to be
 * told with which status to end, and the test speaks the contract in its name.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/device.h"
#include "daemon/journal.h"
#include "daemon/resource.h"
#include "daemon/turns.h"
#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/base/wire.h"
#include "devices/process/contract.h"
#include "tests/unit/unit.h"

struct fixture {
	struct device_host host;
	struct device_config config;
	struct device *device;
	char dir[64];
	char socket_path[96];
	char image[96]; /* that there is not, unless a test makes it */
	/* of the process that was launched last */
	int contract_fd; /* the keeper's end */
	int end_fd;	 /* a byte written here is its exit status */
	int log_fd;	 /* its stderr */
	pid_t pid;
	unsigned n_launched, n_killed, n_forgotten;
	int launch_result; /* of the next launch */
	unsigned n_locked; /* launches that find the image locked */
	unsigned n_happened;
	char happened[64]; /* the last `what` that was no change of state */
};

static struct fixture *fixture;

/* ---- the host ---- */

static void keeper(int end_fd)
{
	uint8_t status;

	while (read(end_fd, &status, 1) < 0)
		;
	_exit(status);
}

static int fake_launch(const struct launch_spec *spec, struct launched *ret, char **ret_error)
{
	struct fixture *f = fixture;
	int control[2], log[2], end[2];
	const int on = 1;

	if (f->n_locked > 0) {
		f->n_locked--;
		return RESOURCE_LOCKED;
	}
	if (f->launch_result < 0) {
		*ret_error = strdup("the test does not want it");
		return f->launch_result;
	}
	f->contract_fd = fd_close(f->contract_fd);
	f->end_fd = fd_close(f->end_fd);
	f->log_fd = fd_close(f->log_fd);
	assert_true(spec->listen_fd >= 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
	assert_int_equal(setsockopt(control[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	assert_int_equal(pipe2(log, O_CLOEXEC), 0);
	assert_int_equal(pipe2(end, O_CLOEXEC), 0);
	fd_set_nonblock(control[0]);
	fd_set_nonblock(log[0]);
	f->pid = fork();
	if (f->pid == 0)
		keeper(end[0]);
	close(end[0]);
	f->contract_fd = control[1];
	f->end_fd = end[1];
	f->log_fd = log[1];
	f->n_launched++;
	*ret = (struct launched){
		.keeper_pid = f->pid,
		.pidfd = (int)syscall(SYS_pidfd_open, f->pid, 0),
		.control_fd = control[0],
		.log_fd = log[0],
		.cgroup_fd = -1,
	};
	return 0;
}

static int fake_kill(const struct launched *launched)
{
	fixture->n_killed++;
	return kill(launched->keeper_pid, SIGKILL);
}

static void fake_forget(const struct launched *launched)
{
	fixture->n_forgotten++;
}

static void on_happened(void *arg, struct device *device, const char *what, json_object *details)
{
	fixture->n_happened++;
	if (strcmp(what, "state") != 0)
		(void)snprintf(fixture->happened, sizeof(fixture->happened), "%s", what);
}

/* ---- the fixture ---- */

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	fixture = f;
	f->contract_fd = f->end_fd = f->log_fd = -1;
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/vmdev-test-device-XXXXXX");
	if (!mkdtemp(f->dir) || sd_event_new(&f->host.event) < 0 ||
	    turns_new(f->host.event, &f->host.turns) < 0)
		return -1;
	(void)snprintf(f->socket_path, sizeof(f->socket_path), "%s/web1/root.sock", f->dir);
	(void)snprintf(f->image, sizeof(f->image), "%s/image", f->dir);
	f->config = (struct device_config){
		.vm = (char *)"web1",
		.name = (char *)"root",
		.full_name = (char *)"web1/root",
		.type = DEVICE_TYPE_BLK,
		.socket = { geteuid(), getegid(), 0600 },
		.restart = { .limit = 2, .interval_usec = 60000000, .backoff_usec = 0 },
		.queues = 1,
		.queue_size = 256,
		.path = f->image,
		.cache = (char *)"writeback",
	};
	f->host.runtime_dir = f->dir;
	f->host.program_dir = f->host.policy_dir = f->host.override_dir = "/nowhere";
	f->host.start_timeout_usec = f->host.stop_timeout_usec = 60000000;
	f->host.launch = fake_launch;
	f->host.kill = fake_kill;
	f->host.forget = fake_forget;
	f->host.happened = on_happened;
	*state = f;
	return device_new(&f->host, &f->config, 7, &f->device);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char path[96];
	int status;

	device_free(f->device);
	turns_free(f->host.turns);
	sd_event_unref(f->host.event);
	fd_close(f->contract_fd);
	fd_close(f->end_fd);
	fd_close(f->log_fd);
	(void)snprintf(path, sizeof(path), "%s/web1", f->dir);
	(void)rmdir(path);
	if (rmdir(f->dir) < 0) /* a socket was left */
		return -1;
	free(f);
	fixture = NULL;
	return waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD ? 0 : -1; /* no zombie */
}

static void run_events(struct fixture *f)
{
	while (sd_event_run(f->host.event, 0) > 0)
		;
}

/* Runs events until the device is in this state; fails after two seconds. */
static void run_until(struct fixture *f, enum device_state state)
{
	for (unsigned i = 0; i < 2000 && device_state(f->device) != state; i++)
		(void)sd_event_run(f->host.event, 1000);
	assert_string_equal(device_state_to_string(device_state(f->device)),
			    device_state_to_string(state));
}

static void say(struct fixture *f, uint32_t type, const uint32_t *words, size_t n)
{
	uint8_t buf[64];
	struct wire_writer w = wire_writer(buf, sizeof(buf));

	wire_put_u32(&w, type);
	for (size_t i = 0; i < n; i++)
		wire_put_u32(&w, words[i]);
	assert_int_equal(send(f->contract_fd, buf, wire_len(&w), 0), wire_len(&w));
	run_events(f);
}

static void end_keeper(struct fixture *f, uint8_t status)
{
	unsigned n = f->n_forgotten;

	assert_int_equal(write(f->end_fd, &status, 1), 1);
	for (unsigned i = 0; i < 2000 && f->n_forgotten == n; i++)
		(void)sd_event_run(f->host.event, 1000);
	run_events(f);
	assert_int_equal(f->n_forgotten, n + 1);
}

/* Makes the event happen as it happens in life. */
static bool bring(struct fixture *f, enum device_event event)
{
	static const uint32_t ready[] = { 1 }, died[] = { 1, SIGKILL, 0, 0 },
			      recovered[] = { 2, 5, 0 };
	bool accepted;

	switch (event) {
	case DEVICE_EVENT_READY:
		say(f, CONTRACT_MSG_READY, ready, UNIT_N(ready));
		return true;
	case DEVICE_EVENT_FRONTEND_CAME:
		say(f, CONTRACT_MSG_CONNECTED, NULL, 0);
		return true;
	case DEVICE_EVENT_FRONTEND_WENT:
		say(f, CONTRACT_MSG_DISCONNECTED, NULL, 0);
		return true;
	case DEVICE_EVENT_DIED:
		say(f, CONTRACT_MSG_DIED, died, UNIT_N(died));
		return true;
	case DEVICE_EVENT_RECOVERED:
		say(f, CONTRACT_MSG_RECOVERED, recovered, UNIT_N(recovered));
		return true;
	case DEVICE_EVENT_ENDED:
		end_keeper(f, CONTRACT_EXIT_STATE);
		return true;
	case DEVICE_EVENT_GAVE_UP:
		end_keeper(f, CONTRACT_EXIT_LIMIT);
		return true;
	case DEVICE_EVENT_START:
	case DEVICE_EVENT_STOP:
	case DEVICE_EVENT_RESTART:
	case DEVICE_EVENT_TIMEOUT:
	case N_DEVICE_EVENTS:
		break;
	}
	accepted = device_handle(f->device, event);
	/* Its turn to be launched. (A process that is killed for a time-out may end as soon as that.) */
	if (event != DEVICE_EVENT_TIMEOUT)
		run_events(f);
	return accepted;
}

static void bring_to(struct fixture *f, enum device_state state)
{
	static const enum device_event ways[N_DEVICE_STATES][4] = {
		[DEVICE_STOPPED] = { N_DEVICE_EVENTS },
		[DEVICE_STARTING] = { DEVICE_EVENT_START, N_DEVICE_EVENTS },
		[DEVICE_READY] = { DEVICE_EVENT_START, DEVICE_EVENT_READY, N_DEVICE_EVENTS },
		[DEVICE_CONNECTED] = { DEVICE_EVENT_START, DEVICE_EVENT_READY,
				       DEVICE_EVENT_FRONTEND_CAME, N_DEVICE_EVENTS },
		[DEVICE_RECOVERING] = { DEVICE_EVENT_START, DEVICE_EVENT_READY, DEVICE_EVENT_DIED,
					N_DEVICE_EVENTS },
		[DEVICE_STOPPING] = { DEVICE_EVENT_START, DEVICE_EVENT_READY, DEVICE_EVENT_STOP,
				      N_DEVICE_EVENTS },
		[DEVICE_FAILED] = { DEVICE_EVENT_START, DEVICE_EVENT_GAVE_UP, N_DEVICE_EVENTS },
	};

	for (unsigned i = 0; ways[state][i] != N_DEVICE_EVENTS; i++)
		assert_true(bring(f, ways[state][i]));
	assert_string_equal(device_state_to_string(device_state(f->device)),
			    device_state_to_string(state));
}

/* ---- the table ---- */

/* In which state the device is after the event; NO: the event is refused and nothing moves. */
enum { NO = N_DEVICE_STATES, NO_PROCESS };

#define ALL(start, stop, restart, ready, came, went, died, recovered, ended, gave_up, timeout)     \
	{                                                                                          \
		[DEVICE_EVENT_START] = start, [DEVICE_EVENT_STOP] = stop,                          \
		[DEVICE_EVENT_RESTART] = restart, [DEVICE_EVENT_READY] = ready,                    \
		[DEVICE_EVENT_FRONTEND_CAME] = came, [DEVICE_EVENT_FRONTEND_WENT] = went,          \
		[DEVICE_EVENT_DIED] = died, [DEVICE_EVENT_RECOVERED] = recovered,                  \
		[DEVICE_EVENT_ENDED] = ended, [DEVICE_EVENT_GAVE_UP] = gave_up,                    \
		[DEVICE_EVENT_TIMEOUT] = timeout,                                                  \
	}

#define P DEVICE_STOPPED
#define S DEVICE_STARTING
#define Y DEVICE_READY
#define C DEVICE_CONNECTED
#define R DEVICE_RECOVERING
#define G DEVICE_STOPPING
#define F DEVICE_FAILED

/* Without a process nothing can come from it: such cells are tried with device_handle. */
static const unsigned char expected[N_DEVICE_STATES][N_DEVICE_EVENTS] = {
	[DEVICE_STOPPED] = ALL(S, P, S, NO, NO, NO, NO, NO, NO, NO, NO),
	[DEVICE_STARTING] = ALL(S, G, G, Y, NO, NO, S, NO, F, F, S),
	[DEVICE_READY] = ALL(Y, G, G, Y, C, NO, R, Y, R, F, NO),
	[DEVICE_CONNECTED] = ALL(C, G, G, C, C, Y, R, C, R, F, NO),
	[DEVICE_RECOVERING] = ALL(R, G, G, Y, R, R, R, Y, R, F, R),
	[DEVICE_STOPPING] = ALL(G, G, G, G, G, G, G, G, P, P, G),
	[DEVICE_FAILED] = ALL(S, P, S, NO, NO, NO, NO, NO, NO, NO, NO),
};

#undef P
#undef S
#undef Y
#undef C
#undef R
#undef G
#undef F

static int64_t number_of(struct fixture *f, const char *key)
{
	json_object *object = device_to_json(f->device), *value = NULL;
	int64_t v;

	assert_true(json_object_object_get_ex(object, key, &value));
	v = json_object_get_int64(value);
	json_object_put(object);
	return v;
}

static char *text_of(struct fixture *f, const char *key)
{
	json_object *object = device_to_json(f->device), *value = NULL;
	char *text;

	assert_true(json_object_object_get_ex(object, key, &value));
	text = strdup(value ? json_object_get_string(value) : "");
	json_object_put(object);
	return text;
}

static void visit(struct fixture *f, enum device_state state, enum device_event event)
{
	bool has_process = state != DEVICE_STOPPED && state != DEVICE_FAILED;
	unsigned want = expected[state][event];
	int64_t n_refused;
	bool accepted;

	bring_to(f, state);
	n_refused = number_of(f, "refused_messages");
	accepted = has_process && !(want == NO && event == DEVICE_EVENT_TIMEOUT)
			   ? bring(f, event)
			   : device_handle(f->device, event);
	if (want == NO && has_process && event != DEVICE_EVENT_TIMEOUT)
		assert_int_equal(number_of(f, "refused_messages"), n_refused + 1);
	else
		assert_int_equal(accepted, want != NO);
	if (want == NO)
		want = state;
	assert_string_equal(device_state_to_string(device_state(f->device)),
			    device_state_to_string((enum device_state)want));
}

static void each_state_takes_or_refuses_each_event(void **state)
{
	for (int s = 0; s < N_DEVICE_STATES; s++) {
		for (int e = 0; e < N_DEVICE_EVENTS; e++) {
			void *one;

			assert_int_equal(setup(&one), 0);
			print_message("%s, %s\n", device_state_to_string((enum device_state)s),
				      device_event_to_string((enum device_event)e));
			visit(one, (enum device_state)s, (enum device_event)e);
			assert_int_equal(teardown(&one), 0);
		}
	}
}

/* ---- claims ---- */

static ino_t inode_of(struct fixture *f)
{
	struct stat st;

	assert_int_equal(lstat(f->socket_path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	return st.st_ino;
}

static void the_socket_is_one_inode_over_recoveries_and_restarts(void **state)
{
	struct fixture *f = *state;
	ino_t inode;

	bring_to(f, DEVICE_READY);
	inode = inode_of(f);
	end_keeper(f, CONTRACT_EXIT_HOST);
	run_until(f, DEVICE_RECOVERING);
	assert_int_equal(inode_of(f), inode);
	while (f->n_launched < 2)
		(void)sd_event_run(f->host.event, 1000);
	assert_true(bring(f, DEVICE_EVENT_READY));
	run_until(f, DEVICE_READY);
	assert_true(bring(f, DEVICE_EVENT_RESTART));
	end_keeper(f, CONTRACT_EXIT_STOPPED);
	run_until(f, DEVICE_STARTING);
	assert_int_equal(inode_of(f), inode);
	assert_int_equal(f->n_launched, 3);
}

static void the_socket_goes_when_the_device_stops_or_fails(void **state)
{
	struct fixture *f = *state;

	bring_to(f, DEVICE_READY);
	assert_true(bring(f, DEVICE_EVENT_STOP));
	assert_int_equal(access(f->socket_path, F_OK), 0);
	end_keeper(f, CONTRACT_EXIT_STOPPED);
	run_until(f, DEVICE_STOPPED);
	assert_int_equal(access(f->socket_path, F_OK), -1);
	bring_to(f, DEVICE_READY);
	end_keeper(f, CONTRACT_EXIT_USAGE);
	run_until(f, DEVICE_FAILED);
	assert_int_equal(access(f->socket_path, F_OK), -1);
}

static void a_stop_tells_the_device_and_then_kills_it(void **state)
{
	struct fixture *f = *state;
	uint32_t message = 0;

	f->host.stop_timeout_usec = 20000;
	bring_to(f, DEVICE_READY);
	assert_true(bring(f, DEVICE_EVENT_STOP));
	assert_int_equal(recv(f->contract_fd, &message, sizeof(message), MSG_DONTWAIT), 4);
	assert_int_equal(message, CONTRACT_MSG_STOP);
	assert_int_equal(f->n_killed, 0);
	run_until(f, DEVICE_STOPPED);
	assert_int_equal(f->n_killed, 1);
}

static void a_device_that_does_not_get_ready_fails_in_time(void **state)
{
	struct fixture *f = *state;
	char *reason;

	f->host.start_timeout_usec = 20000;
	bring_to(f, DEVICE_STARTING);
	run_until(f, DEVICE_FAILED);
	reason = text_of(f, "reason");
	assert_non_null(strstr(reason, "was not ready"));
	free(reason);
}

/* It was said in time; vmdevd has not got round to reading it. */
static void what_is_unread_counts_before_the_time_out(void **state)
{
	struct fixture *f = *state;
	const uint32_t ready[] = { CONTRACT_MSG_READY, 1 };
	const uint32_t recovered[] = { CONTRACT_MSG_RECOVERED, 2, 5, 0 };

	f->host.start_timeout_usec = 20000;
	assert_true(bring(f, DEVICE_EVENT_START));
	while (f->n_launched == 0)
		(void)sd_event_run(f->host.event, 0);
	assert_int_equal(send(f->contract_fd, ready, sizeof(ready), 0), sizeof(ready));
	usleep(40000);
	run_events(f);
	assert_int_equal(device_state(f->device), DEVICE_READY);
	assert_true(bring(f, DEVICE_EVENT_FRONTEND_CAME));
	assert_true(bring(f, DEVICE_EVENT_DIED));
	/* Ready, and only the fence may take as long as it takes: no time-out any more. */
	assert_int_equal(send(f->contract_fd, ready, sizeof(ready), 0), sizeof(ready));
	usleep(40000);
	run_events(f);
	assert_int_equal(device_state(f->device), DEVICE_RECOVERING);
	assert_int_equal(send(f->contract_fd, recovered, sizeof(recovered), 0), sizeof(recovered));
	run_events(f);
	assert_int_equal(device_state(f->device), DEVICE_CONNECTED);
	assert_int_equal(f->n_killed, 0);
}

static void a_recovery_that_hangs_becomes_a_fresh_sandbox(void **state)
{
	struct fixture *f = *state;

	f->host.start_timeout_usec = 20000;
	bring_to(f, DEVICE_RECOVERING);
	while (f->n_launched < 2)
		(void)sd_event_run(f->host.event, 1000);
	assert_int_equal(f->n_killed, 1);
	assert_int_equal(number_of(f, "relaunches"), 1);
}

static void fresh_sandboxes_end_at_the_restart_limit(void **state)
{
	struct fixture *f = *state;
	char *reason;

	bring_to(f, DEVICE_READY);
	for (unsigned i = 1; i <= f->config.restart.limit; i++) {
		end_keeper(f, CONTRACT_EXIT_STATE);
		while (f->n_launched < i + 1)
			(void)sd_event_run(f->host.event, 1000);
		assert_true(bring(f, DEVICE_EVENT_READY));
		run_until(f, DEVICE_READY);
	}
	end_keeper(f, CONTRACT_EXIT_STATE);
	run_until(f, DEVICE_FAILED);
	assert_int_equal(f->n_launched, 3);
	reason = text_of(f, "reason");
	assert_non_null(strstr(reason, "restart limit reached"));
	free(reason);
}

static void launches_that_fail_in_a_recovery_count_towards_the_limit(void **state)
{
	struct fixture *f = *state;

	bring_to(f, DEVICE_READY);
	f->launch_result = -EBUSY;
	end_keeper(f, CONTRACT_EXIT_STATE);
	run_until(f, DEVICE_FAILED);
	assert_string_not_equal(device_reason(f->device), "");
}

static void a_launch_that_fails_says_why(void **state)
{
	struct fixture *f = *state;

	f->launch_result = -ENOENT;
	assert_true(bring(f, DEVICE_EVENT_START));
	assert_int_equal(device_state(f->device), DEVICE_FAILED);
	assert_string_equal(device_reason(f->device), "the test does not want it");
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void a_lock_that_goes_is_waited_for_without_holding_up_anybody(void **state)
{
	struct fixture *f = *state;
	uint64_t begun = now_ms();

	f->n_locked = 5;
	assert_true(bring(f, DEVICE_EVENT_START));
	assert_true(now_ms() - begun < 50);
	assert_int_equal(device_state(f->device), DEVICE_STARTING);
	while (f->n_launched < 1) {
		(void)sd_event_run(f->host.event, 1000000);
		assert_true(now_ms() - begun < 2000);
	}
	assert_int_equal(device_state(f->device), DEVICE_STARTING);
	assert_true(bring(f, DEVICE_EVENT_READY));
	run_until(f, DEVICE_READY);
	/* The same for a fresh sandbox. */
	f->n_locked = 5;
	end_keeper(f, CONTRACT_EXIT_STATE);
	while (f->n_launched < 2)
		(void)sd_event_run(f->host.event, 1000000);
	assert_true(bring(f, DEVICE_EVENT_READY));
	run_until(f, DEVICE_READY);
	assert_int_equal(number_of(f, "relaunches"), 1);
}

static void a_lock_that_stays_fails_the_start_in_time(void **state)
{
	struct fixture *f = *state;
	uint64_t begun = now_ms();

	f->n_locked = UINT32_MAX;
	assert_true(bring(f, DEVICE_EVENT_START));
	assert_int_equal(device_state(f->device), DEVICE_STARTING);
	while (device_state(f->device) == DEVICE_STARTING) {
		(void)sd_event_run(f->host.event, 1000000);
		assert_true(now_ms() - begun < 5000);
	}
	assert_int_equal(device_state(f->device), DEVICE_FAILED);
	assert_true(now_ms() - begun >= 900);
	assert_string_not_equal(device_reason(f->device), "");
}

/* As the kernel has it while the I/O of a process that is gone is still on its way. */
static void a_lock_of_nobody_who_can_be_found_is_waited_for(void **state)
{
	struct fixture *f = *state;
	int fd = open(f->image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	fd_close(fd);
	f->n_locked = UINT32_MAX;
	assert_true(bring(f, DEVICE_EVENT_START));
	for (uint64_t begun = now_ms(); now_ms() - begun < 1500;)
		(void)sd_event_run(f->host.event, 100000);
	assert_int_equal(device_state(f->device), DEVICE_STARTING);
	f->n_locked = 0;
	while (f->n_launched < 1)
		(void)sd_event_run(f->host.event, 1000000);
	assert_true(bring(f, DEVICE_EVENT_READY));
	run_until(f, DEVICE_READY);
	assert_int_equal(unlink(f->image), 0);
}

static void a_device_that_waits_for_a_lock_can_be_stopped(void **state)
{
	struct fixture *f = *state;

	f->n_locked = UINT32_MAX;
	assert_true(bring(f, DEVICE_EVENT_START));
	assert_int_equal(device_state(f->device), DEVICE_STARTING);
	assert_true(device_handle(f->device, DEVICE_EVENT_STOP));
	assert_int_equal(device_state(f->device), DEVICE_STOPPED);
	f->n_locked = 0;
	assert_true(bring(f, DEVICE_EVENT_START));
	assert_int_equal(f->n_launched, 1);
}

static struct device *other;

static struct device *find_other(void *arg, const struct device *device)
{
	return device != other && device_state(other) != DEVICE_STOPPED ? other : NULL;
}

/* It is not given to two, and not waited for where it is kept. */
static void a_launch_waits_until_the_holder_has_stopped(void **state)
{
	struct fixture *f = *state;
	struct device_config config = f->config;

	config.name = (char *)"data";
	config.full_name = (char *)"web1/data";
	f->host.find_holder = find_other;
	assert_int_equal(device_new(&f->host, &config, 8, &other), 0);
	assert_true(device_handle(other, DEVICE_EVENT_START));
	run_events(f);
	assert_int_equal(f->n_launched, 1);
	assert_true(bring(f, DEVICE_EVENT_START));
	assert_int_equal(device_state(f->device), DEVICE_FAILED);
	assert_string_equal(device_reason(f->device), "the image is used by web1/data");
	assert_true(device_handle(other, DEVICE_EVENT_STOP));
	assert_true(bring(f, DEVICE_EVENT_START));
	usleep(50000);
	run_events(f);
	assert_int_equal(device_state(f->device), DEVICE_STARTING);
	assert_int_equal(f->n_launched, 1);
	end_keeper(f, CONTRACT_EXIT_STOPPED);
	for (unsigned i = 0; i < 200 && f->n_launched < 2; i++)
		(void)sd_event_run(f->host.event, 10000);
	assert_int_equal(f->n_launched, 2);
	other = device_free(other);
	f->host.find_holder = NULL;
}

static void a_launch_in_turn_is_given_up_by_a_stop(void **state)
{
	struct fixture *f = *state;

	assert_true(device_handle(f->device, DEVICE_EVENT_START));
	assert_int_equal(f->n_launched, 0);
	assert_true(device_handle(f->device, DEVICE_EVENT_RESTART));
	assert_true(device_handle(f->device, DEVICE_EVENT_STOP));
	assert_int_equal(device_state(f->device), DEVICE_STOPPED);
	run_events(f);
	assert_int_equal(f->n_launched, 0);
}

static void the_last_words_are_the_reason(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[64];
	struct wire_writer w = wire_writer(buf, sizeof(buf));

	bring_to(f, DEVICE_STARTING);
	wire_put_u32(&w, CONTRACT_MSG_FAILED);
	wire_put_text(&w, "no ring for us");
	assert_true(send(f->contract_fd, buf, wire_len(&w), 0) > 0);
	end_keeper(f, CONTRACT_EXIT_HOST);
	run_until(f, DEVICE_FAILED);
	assert_string_equal(device_reason(f->device), "the host failed the device: no ring for us");
}

static void the_workers_pid_is_its_senders(void **state)
{
	struct fixture *f = *state;

	bring_to(f, DEVICE_READY);
	assert_int_equal(number_of(f, "pid"), getpid());
	assert_int_equal(number_of(f, "keeper_pid"), f->pid);
}

static void a_refused_system_call_is_named(void **state)
{
	struct fixture *f = *state;
	const uint32_t died[] = { 1, 0, CONTRACT_EXIT_FAULT, SYS_ptrace + 1 };
	char *name;

	bring_to(f, DEVICE_CONNECTED);
	say(f, CONTRACT_MSG_DIED, died, UNIT_N(died));
	assert_int_equal(number_of(f, "violations"), 1);
	name = text_of(f, "last_violation");
	assert_string_equal(name, "ptrace");
	free(name);
	assert_int_equal(device_state(f->device), DEVICE_RECOVERING);
}

static void a_system_call_that_the_keeper_is_refused_is_named(void **state)
{
	struct fixture *f = *state;
	const uint32_t refused[] = { SYS_ptrace }, malformed[] = { SYS_ptrace, 0 };
	char *name;

	bring_to(f, DEVICE_CONNECTED);
	say(f, CONTRACT_MSG_REFUSED, malformed, UNIT_N(malformed));
	assert_int_equal(number_of(f, "violations"), 0);
	say(f, CONTRACT_MSG_REFUSED, refused, UNIT_N(refused));
	assert_int_equal(number_of(f, "violations"), 1);
	name = text_of(f, "last_violation");
	assert_string_equal(name, "ptrace");
	free(name);
	/* What becomes of the device is decided when the keeper has ended. */
	assert_int_equal(device_state(f->device), DEVICE_CONNECTED);
}

static void a_connection_survives_a_recovery(void **state)
{
	struct fixture *f = *state;
	const uint32_t recovered[] = { 2, 610000, 0 };

	bring_to(f, DEVICE_CONNECTED);
	assert_true(bring(f, DEVICE_EVENT_DIED));
	assert_true(bring(f, DEVICE_EVENT_READY));
	assert_int_equal(device_state(f->device), DEVICE_RECOVERING);
	/* The next worker tells of the connection again, as the last one may not have. */
	assert_true(bring(f, DEVICE_EVENT_FRONTEND_CAME));
	say(f, CONTRACT_MSG_RECOVERED, recovered, UNIT_N(recovered));
	assert_int_equal(device_state(f->device), DEVICE_CONNECTED);
	assert_int_equal(number_of(f, "connections"), 1);
	assert_int_equal(number_of(f, "restarts"), 1);
	assert_string_equal(f->happened, "recovered");
}

/* Sizes and types that are wrong in each way; none of them may move anything. */
static void malformed_messages_are_counted_and_ignored(void **state)
{
	struct fixture *f = *state;
	static const uint8_t bad[][24] = {
		{ 64 },	 /* READY without its generation: 4 bytes are sent */
		{ 1 },	 /* vmdevd's own STOP */
		{ 200 }, /* of no type */
		{ 0xff, 0xff, 0xff, 0xff },
		{ 70 }, /* FAILED without text */
	};
	int64_t n = 0;
	uint8_t big[CONTRACT_MSG_MAX_LEN + 100] = { 70, 0, 0, 0, 'a' };

	bring_to(f, DEVICE_READY);
	for (size_t i = 0; i < UNIT_N(bad); i++, n++)
		assert_int_equal(send(f->contract_fd, bad[i], 4, 0), 4);
	assert_int_equal(send(f->contract_fd, bad[0], 3, 0), 3);
	assert_int_equal(send(f->contract_fd, bad[0], 9, 0), 9); /* READY and one byte more */
	memset(big + 4, 'a', sizeof(big) - 4);
	assert_int_equal(send(f->contract_fd, big, sizeof(big), 0), sizeof(big));
	assert_int_equal(send(f->contract_fd, "F\0\0\0a\nb", 7, 0), 7); /* a newline in a text */
	n += 4;
	run_events(f);
	assert_int_equal(number_of(f, "refused_messages"), n);
	assert_int_equal(device_state(f->device), DEVICE_READY);
}

static void descriptors_that_a_worker_sends_are_not_kept(void **state)
{
	struct fixture *f = *state;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} control = { 0 };
	uint32_t type = CONTRACT_MSG_CONNECTED;
	struct iovec iov = { &type, sizeof(type) };
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control) };
	int fds[4] = { 0, 1, 2, 2 }, before, after;

	bring_to(f, DEVICE_READY);
	CMSG_FIRSTHDR(&header)->cmsg_level = SOL_SOCKET;
	CMSG_FIRSTHDR(&header)->cmsg_type = SCM_RIGHTS;
	CMSG_FIRSTHDR(&header)->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&header)), fds, sizeof(fds));
	before = dup(0);
	close(before);
	assert_int_equal(sendmsg(f->contract_fd, &header, 0), sizeof(type));
	run_events(f);
	after = dup(0);
	close(after);
	assert_int_equal(after, before);
	assert_int_equal(device_state(f->device), DEVICE_CONNECTED);
}

/* 20,000 messages at once: vmdevd reads a bounded number of them and stays free for others. */
static void a_flood_does_not_hold_up_the_loop(void **state)
{
	struct fixture *f = *state;
	const uint32_t type = CONTRACT_MSG_CONNECTED;
	struct timespec start, now;
	unsigned n_sent = 0;

	bring_to(f, DEVICE_READY);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		while (n_sent < 20000 && send(f->contract_fd, &type, 4, MSG_DONTWAIT) == 4)
			n_sent++;
		(void)sd_event_run(f->host.event, 0);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (n_sent < 20000 && now.tv_sec - start.tv_sec < 2);
	assert_int_equal(device_state(f->device), DEVICE_CONNECTED);
	assert_true(bring(f, DEVICE_EVENT_STOP));
	end_keeper(f, CONTRACT_EXIT_STOPPED);
	run_until(f, DEVICE_STOPPED);
}

/* Each message may be an event for every client, and a line of vmdevd's status. */
static void what_a_flood_makes_happen_is_bounded(void **state)
{
	struct fixture *f = *state;
	const uint32_t types[] = { CONTRACT_MSG_CONNECTED, CONTRACT_MSG_DISCONNECTED };
	unsigned n_sent = 0, n_happened;
	uint64_t begun;

	bring_to(f, DEVICE_READY);
	n_happened = f->n_happened;
	begun = now_ms();
	while (now_ms() - begun < 900) {
		while (send(f->contract_fd, &types[n_sent % 2], 4, MSG_DONTWAIT) == 4)
			n_sent++;
		(void)sd_event_run(f->host.event, 1000);
	}
	assert_in_range(f->n_happened - n_happened, 100, 1000);
}

/* vmdevd goes deaf to that one device, and neither spins nor loses it. */
static void a_worker_may_hang_up(void **state)
{
	struct fixture *f = *state;
	int64_t n;

	bring_to(f, DEVICE_READY);
	assert_int_equal(send(f->contract_fd, "", 0, 0), 0); /* a datagram without a byte */
	run_events(f);
	n = number_of(f, "refused_messages");
	assert_int_equal(n, 1);
	assert_int_equal(shutdown(f->contract_fd, SHUT_RDWR), 0);
	assert_true(sd_event_run(f->host.event, 1000) > 0);
	assert_int_equal(sd_event_run(f->host.event, 1000), 0); /* not ready again */
	assert_int_equal(device_state(f->device), DEVICE_READY);
	assert_true(bring(f, DEVICE_EVENT_STOP)); /* which cannot be told: it is killed */
	run_until(f, DEVICE_STOPPED);
	assert_int_equal(f->n_killed, 1);
}

static void log_lines_are_cleaned_and_the_last_ten_kept(void **state)
{
	struct fixture *f = *state;
	json_object *object, *log;

	bring_to(f, DEVICE_READY);
	for (unsigned i = 0; i < 12; i++)
		assert_true(dprintf(f->log_fd, "<6>line %u\n", i) > 0);
	assert_true(dprintf(f->log_fd, "<3>a\033[31mb\xff\n") > 0);
	run_events(f);
	object = device_to_json(f->device);
	assert_true(json_object_object_get_ex(object, "log", &log));
	assert_int_equal(json_object_array_length(log), 10);
	assert_string_equal(json_object_get_string(json_object_array_get_idx(log, 0)), "line 3");
	assert_string_equal(json_object_get_string(json_object_array_get_idx(log, 9)), "a?[31mb?");
	json_object_put(object);
}

static void another_owner_of_the_socket_needs_no_restart(void **state)
{
	struct fixture *f = *state;
	struct device_config config = f->config;
	char *error = NULL;
	struct stat st;

	bring_to(f, DEVICE_READY);
	config.socket.mode = 0640;
	assert_int_equal(device_check_reconfigure(f->device, &error), 0);
	assert_int_equal(device_reconfigure(f->device, &config, &error), 0);
	assert_int_equal(lstat(f->socket_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(f->n_launched, 1);
}

static void a_socket_that_is_gone_is_told_before_anything_changes(void **state)
{
	struct fixture *f = *state;
	char *error = NULL;

	bring_to(f, DEVICE_READY);
	assert_int_equal(unlink(f->socket_path), 0);
	assert_int_equal(device_check_reconfigure(f->device, &error), -ENOENT);
	assert_non_null(strstr(error, "stop and start the device"));
	free(error);
}

static void a_stale_socket_is_replaced_and_a_held_one_refused(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un_ {
		sa_family_t family;
		char path[108];
	} address = { .family = AF_UNIX };
	char dir[96];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)snprintf(dir, sizeof(dir), "%s/web1", f->dir);
	assert_int_equal(mkdir(dir, 0755), 0);
	(void)snprintf(address.path, sizeof(address.path), "%s", f->socket_path);
	assert_int_equal(bind(fd, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_true(bring(f, DEVICE_EVENT_START));
	assert_int_equal(device_state(f->device), DEVICE_FAILED);
	assert_non_null(strstr(device_reason(f->device), "in use by another process"));
	close(fd);
	assert_true(bring(f, DEVICE_EVENT_START));
	assert_int_equal(device_state(f->device), DEVICE_STARTING);
}

int main(void)
{
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_state_takes_or_refuses_each_event),
		CLAIM(the_socket_is_one_inode_over_recoveries_and_restarts),
		CLAIM(the_socket_goes_when_the_device_stops_or_fails),
		CLAIM(a_stop_tells_the_device_and_then_kills_it),
		CLAIM(a_device_that_does_not_get_ready_fails_in_time),
		CLAIM(what_is_unread_counts_before_the_time_out),
		CLAIM(a_recovery_that_hangs_becomes_a_fresh_sandbox),
		CLAIM(fresh_sandboxes_end_at_the_restart_limit),
		CLAIM(launches_that_fail_in_a_recovery_count_towards_the_limit),
		CLAIM(a_launch_that_fails_says_why),
		CLAIM(a_lock_that_goes_is_waited_for_without_holding_up_anybody),
		CLAIM(a_lock_that_stays_fails_the_start_in_time),
		CLAIM(a_lock_of_nobody_who_can_be_found_is_waited_for),
		CLAIM(a_device_that_waits_for_a_lock_can_be_stopped),
		CLAIM(the_last_words_are_the_reason),
		CLAIM(the_workers_pid_is_its_senders),
		CLAIM(a_refused_system_call_is_named),
		CLAIM(a_system_call_that_the_keeper_is_refused_is_named),
		CLAIM(a_connection_survives_a_recovery),
		CLAIM(malformed_messages_are_counted_and_ignored),
		CLAIM(descriptors_that_a_worker_sends_are_not_kept),
		CLAIM(a_flood_does_not_hold_up_the_loop),
		CLAIM(what_a_flood_makes_happen_is_bounded),
		CLAIM(a_worker_may_hang_up),
		CLAIM(log_lines_are_cleaned_and_the_last_ten_kept),
		CLAIM(another_owner_of_the_socket_needs_no_restart),
		CLAIM(a_socket_that_is_gone_is_told_before_anything_changes),
		CLAIM(a_launch_waits_until_the_holder_has_stopped),
		CLAIM(a_launch_in_turn_is_given_up_by_a_stop),
		CLAIM(a_stale_socket_is_replaced_and_a_held_one_refused),
	};

	journal_init(true);
	log_set_level(LOG_LEVEL_ERROR - 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
