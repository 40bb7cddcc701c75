/*
 * The broker of a vsock device, whose other end is hostile here: it asks without end, does not read, and takes another
 * guest's connections; and somebody moves names in the directory of its sockets.
 *
 * Runs in: the test, as any user.
 * Trusts:  nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker-private.h"
#include "daemon/broker.h"
#include "daemon/config.h"
#include "devices/base/fd.h"
#include "devices/base/wire.h"
#include "devices/process/contract.h"
#include "tests/unit/unit.h"

enum { N_FILES = 16384, PATIENCE_USEC = 300000 };

struct fixture {
	struct device_config *config; /* a page of its own */
	sd_event *event;
	struct broker *broker;
	int channel; /* the device's end */
	char dir[64];
	char uds[80];
};

static int nobody(void *arg, const struct broker_call *call, int fd)
{
	return -EHOSTUNREACH;
}

static void start(struct fixture *f)
{
	struct broker_resource resource = { .broker = f->broker };
	char *error = NULL;
	int fds[3];

	assert_int_equal(broker_prepare(f->broker, f->config, &error), 0);
	assert_int_equal(broker_open(&resource, 0, fds, &error), 0);
	assert_int_equal(broker_start(f->broker), 0);
	close(fds[0]);
	close(fds[1]);
	f->channel = fds[2];
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct broker_spec spec = { .offer = nobody, .patience_usec = PATIENCE_USEC };

	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/vmdev-test-broker-XXXXXX");
	if (!mkdtemp(f->dir) || sd_event_new(&f->event) < 0)
		return -1;
	(void)snprintf(f->uds, sizeof(f->uds), "%s/v", f->dir);
	f->config = mmap(NULL, sizeof(*f->config), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	f->config->uds = f->uds;
	f->config->socket = (struct socket_config){ geteuid(), getegid(), 0600 };
	spec.event = f->event;
	*state = f;
	if (broker_new(&spec, &f->broker) < 0)
		return -1;
	start(f);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	broker_free(f->broker);
	sd_event_unref(f->event);
	fd_close(f->channel);
	munmap(f->config, sizeof(*f->config));
	if (rmdir(f->dir) < 0) /* a socket was left */
		return -1;
	free(f);
	return 0;
}

static uint64_t now_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- the device's end ---- */

static bool ask(struct fixture *f, uint64_t serial, uint32_t port)
{
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	struct wire_writer w = wire_writer(buf, sizeof(buf));

	wire_put_u32(&w, CONTRACT_VSOCK_ASK);
	wire_put_u64(&w, serial);
	wire_put_u64(&w, 2);
	wire_put_u32(&w, port);
	wire_put_u32(&w, 1);
	wire_put_u32(&w, 1);
	return send(f->channel, buf, wire_len(&w), MSG_DONTWAIT) >= 0;
}

/* A letter in *buf, and its descriptor or -1. False: none is there. */
static bool letter(struct fixture *f, uint8_t *buf, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { buf, CONTRACT_VSOCK_MSG_LEN };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };

	if (recvmsg(f->channel, &m, MSG_DONTWAIT) <= 0)
		return false;
	*ret_fd = -1;
	if (CMSG_FIRSTHDR(&m))
		memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(*ret_fd));
	return true;
}

static unsigned read_answers(struct fixture *f)
{
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	unsigned n = 0;
	int fd;

	while (letter(f, buf, &fd)) {
		n++;
		fd_close(fd);
	}
	return n;
}

/* ---- claims ---- */

static void a_device_that_does_not_run_gets_no_calls(void **state)
{
	struct fixture *f = *state;
	struct broker_call call = { .cid = 3, .port = 1, .type = 1 };

	broker_stop(f->broker);
	assert_int_equal(mprotect(f->config, sizeof(*f->config), PROT_NONE), 0);
	assert_int_equal(broker_incoming(f->broker, 4, &call, 0), -ECONNREFUSED);
}

/* Connections as the device gets them; the ends of who connects are left open. */
static int come(struct fixture *f, uint64_t cid, int *ret_end, int *ret_fd)
{
	struct broker_call call = { .cid = 3, .port = 1, .type = 1 };
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	int pair[2], r;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	r = broker_incoming(f->broker, cid, &call, pair[1]);
	close(pair[1]);
	if (r < 0) {
		close(pair[0]);
		return r;
	}
	*ret_end = pair[0];
	assert_true(letter(f, buf, ret_fd));
	return 0;
}

static void a_guest_has_its_share_of_anothers_connections(void **state)
{
	static int ends[4096], fds[4096];
	struct fixture *f = *state;
	unsigned n = 0, of_first, all;

	while (n < 4096 && come(f, 100, &ends[n], &fds[n]) == 0)
		n++;
	of_first = n;
	assert_in_range(of_first, 512, 1024);
	while (n < 4096 && come(f, 101, &ends[n], &fds[n]) == 0)
		n++;
	assert_int_equal(n, 2 * of_first);
	while (n < 4096 && come(f, 102, &ends[n], &fds[n]) == 0)
		n++;
	all = n;
	assert_in_range(all, 2 * of_first, 2048);

	/* The device lets go of some: there is room again, for as many. The other end does not matter. */
	for (unsigned i = 0; i < 10; i++)
		fds[i] = fd_close(fds[i]);
	usleep(200000); /* counted again by then */
	for (unsigned i = 0; i < 10; i++) {
		close(ends[i]);
		assert_int_equal(come(f, 100, &ends[i], &fds[i]), 0);
	}
	assert_int_equal(come(f, 100, &ends[all], &fds[all]), -ENOBUFS);
	for (unsigned i = 0; i < all; i++) {
		close(ends[i]);
		close(fds[i]);
	}
}

static void asks_are_rationed_and_none_is_lost(void **state)
{
	enum { N_ASKS = 4000, PER_MS = 20, AHEAD = 150 };
	struct fixture *f = *state;
	uint64_t start_usec = now_usec();
	unsigned n_asked = 0, n_answered = 0;

	while (n_answered < N_ASKS) {
		while (n_asked < N_ASKS && ask(f, n_asked, 1))
			n_asked++;
		assert_return_code(sd_event_run(f->event, 1000000), 0);
		n_answered += read_answers(f);
		assert_in_range(n_answered, 0,
				AHEAD + PER_MS * ((now_usec() - start_usec) / 1000 + 1));
	}
	assert_int_equal(n_answered, N_ASKS);
}

static void who_does_not_read_is_not_tried_for_ever(void **state)
{
	struct fixture *f = *state;
	unsigned n_asked = 0, n_runs = 0, n_answered;

	/* With the answers of all of these the channel is full. */
	while (n_asked < 600) {
		while (n_asked < 600 && ask(f, n_asked, 1))
			n_asked++;
		assert_return_code(sd_event_run(f->event, 0), 0);
	}
	while (n_runs < 2000 && sd_event_run(f->event, 4 * PATIENCE_USEC) > 0)
		n_runs++;
	assert_in_range(n_runs, 0, 1999);
	n_answered = read_answers(f);
	assert_in_range(n_answered, 1, 599);

	/* And who reads again is answered again. */
	assert_true(ask(f, 1000, 1));
	for (unsigned i = 0; i < 100 && (n_answered = read_answers(f)) == 0; i++)
		assert_return_code(sd_event_run(f->event, 100000), 0);
	assert_int_equal(n_answered, 1);
}

static void what_waits_for_room_gets_it_in_order(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	unsigned n_asked = 0, n_answered = 0;
	int fd;

	/* Slowly: a letter is read when there is nothing else to do for the broker. */
	while (n_answered < 600) {
		struct wire_reader r;

		while (n_asked < 600 && ask(f, n_asked, 1))
			n_asked++;
		if (sd_event_run(f->event, 0) > 0 && n_asked < 600)
			continue;
		if (!letter(f, buf, &fd))
			continue;
		r = wire_reader(buf, sizeof(buf));
		assert_int_equal(wire_get_u32(&r), CONTRACT_VSOCK_ANSWER);
		assert_int_equal(wire_get_u64(&r), n_answered);
		n_answered++;
	}
}

static void a_full_backlog_is_tried_ever_more_rarely(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unsigned n_runs = 0, n_answered = 0;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s_7", f->uds);
	assert_int_equal(bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(server, 0), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_true(ask(f, 1, 7));
	while (n_answered == 0) {
		assert_return_code(sd_event_run(f->event, 10 * PATIENCE_USEC), 0);
		n_runs++;
		n_answered = read_answers(f);
	}
	assert_in_range(n_runs, 2, 20);
	close(client);
	close(server);
	(void)unlink(address.sun_path);
}

static void names_that_others_change_lead_nowhere(void **state)
{
	struct fixture *f = *state;
	struct socket_config owner = { geteuid(), getegid(), 0666 };
	char victim[96], away[96];
	char *error = NULL;
	struct stat st;
	int fd;

	(void)snprintf(victim, sizeof(victim), "%s/victim", f->dir);
	(void)snprintf(away, sizeof(away), "%s/away", f->dir);
	fd = open(victim, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_return_code(fd, 0);
	close(fd);
	assert_int_equal(rename(f->uds, away), 0);
	assert_int_equal(symlink(victim, f->uds), 0);

	assert_int_equal(broker_set_owner(f->broker, &owner, &error), 0);
	assert_int_equal(stat(victim, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(stat(away, &st), 0); /* the very socket */
	assert_int_equal(st.st_mode & 07777, 0666);

	broker_close(f->broker);
	assert_int_equal(lstat(f->uds, &st), 0); /* not its own, so it stays */
	assert_int_equal(unlink(f->uds), 0);
	assert_int_equal(unlink(away), 0);
	assert_int_equal(unlink(victim), 0);
}

static void a_directory_that_is_moved_keeps_its_socket(void **state)
{
	struct fixture *f = *state;
	char aside[96], decoy[96];
	struct stat st;

	(void)snprintf(aside, sizeof(aside), "%s.aside", f->dir);
	(void)snprintf(decoy, sizeof(decoy), "%s/v", f->dir);
	assert_int_equal(rename(f->dir, aside), 0);
	assert_int_equal(mkdir(f->dir, 0700), 0);
	assert_int_equal(symlink("nowhere", decoy), 0);
	broker_close(f->broker);
	assert_int_equal(lstat(decoy, &st), 0);
	assert_int_equal(unlink(decoy), 0);
	assert_int_equal(rmdir(f->dir), 0);
	assert_int_equal(rename(aside, f->dir), 0); /* empty: see teardown */
}

/* ---- descriptors do not travel ---- */

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

static int send_with_descriptor(int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .align = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { (char[]){ "x" }, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };

	return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* A worker that its guest owns would take them. */
static void nobody_can_send_a_device_descriptors_but_vmdevd(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), theirs, fd, on = 1;
	socklen_t len = sizeof(on);
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];

	if (getsockopt(client, SOL_SOCKET, SO_PASSRIGHTS, &on, &len) < 0) {
		close(server);
		close(client);
		unit_skip("no SO_PASSRIGHTS (Linux 6.16)");
	}
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->uds);
	assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(send_with_descriptor(client), -EPERM);
	assert_int_equal(send(client, "x", 1, 0), 1);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s_7", f->uds);
	assert_int_equal(bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(server, 1), 0);
	assert_true(ask(f, 1, 7));
	assert_return_code(sd_event_run(f->event, 10 * PATIENCE_USEC), 0);
	assert_true(letter(f, buf, &fd) && fd >= 0);
	theirs = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	assert_int_equal(send_with_descriptor(theirs), -EPERM);
	/* Nor vmdevd, by the device. */
	assert_int_equal(send_with_descriptor(f->channel), -EPERM);
	close(fd);
	close(theirs);
	close(client);
	close(server);
	(void)unlink(address.sun_path);
}

/* ---- what the document names has to be there ---- */

/* In a process of its own, since it changes what that is. 0: all claims of it hold. */
static int in_child(int (*claims)(struct fixture *f))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		void *f;
		int r = dup2(0, 3) == 3 && setup(&f) == 0 ? claims(f) : 2; /* 3: see hand_over() */

		_exit(r ? r : teardown(&f));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define HOLDS(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			print_error("%s:%d: %s\n", __FILE__, __LINE__, #condition);                \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

static bool refused_with(struct fixture *f, const char *words)
{
	char *error = NULL;
	bool right =
		broker_prepare(f->broker, f->config, &error) < 0 && error && strstr(error, words);

	if (!right)
		print_error("it says: %s\n", error ? error : "nothing");
	free(error);
	return right;
}

/* As on a host whose kernel has no AF_VSOCK; the real one is left alone. */
static int without_af_vsock(struct fixture *f)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_VSOCK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(*filter), filter };

	HOLDS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	HOLDS(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
	f->config->forward.n = 1;
	f->config->forward.cids[0] = 1;
	HOLDS(refused_with(f, "AF_VSOCK"));
	HOLDS(refused_with(f, "forward"));
	f->config->forward.n = 0;
	HOLDS(broker_prepare(f->broker, f->config, &(char *){ NULL }) == 0);
	return 0;
}

static void forwarding_without_af_vsock_is_refused_at_the_start(void **state)
{
	assert_int_equal(in_child(without_af_vsock), 0);
}

/* vmdevd has been given a socket as number 3 (sd_listen_fds(3)). */
static bool hand_over(int fd, const char *name)
{
	char pid[16];

	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	return dup2(fd, 3) == 3 && setenv("LISTEN_PID", pid, 1) == 0 &&
	       setenv("LISTEN_FDS", "1", 1) == 0 && setenv("LISTEN_FDNAMES", name, 1) == 0;
}

static int named_socket(struct fixture *f)
{
	struct vsock_listen entry = { .port = 22, .fd_name = "ssh" };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = -1, theirs;
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	char byte;

	f->config->listens.n = 1;
	f->config->listens.entries[0] = entry;
	HOLDS(refused_with(f, "\"ssh\""));
	HOLDS(hand_over(server, "other"));
	HOLDS(refused_with(f, "\"ssh\""));
	HOLDS(hand_over(server, "ssh"));
	HOLDS(refused_with(f, "does not listen"));
	/* A name of the kernel's choice: no path leads there. */
	HOLDS(bind(server, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
	HOLDS(listen(server, 1) == 0);
	HOLDS(broker_prepare(f->broker, f->config, &(char *){ NULL }) == 0);
	HOLDS(ask(f, 5, 22) && sd_event_run(f->event, PATIENCE_USEC) >= 0);
	HOLDS(letter(f, buf, &fd) && fd >= 0);
	theirs = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	HOLDS(theirs >= 0 && send(theirs, "x", 1, 0) == 1 && recv(fd, &byte, 1, 0) == 1);
	/* Of another family it is none for a guest. */
	close(server);
	server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	HOLDS(listen(server, 1) == 0 && hand_over(server, "ssh"));
	HOLDS(refused_with(f, "Unix"));
	return 0;
}

static void a_socket_that_vmdevd_was_started_with_leads_where_it_says(void **state)
{
	assert_int_equal(in_child(named_socket), 0);
}

static void a_guest_reaches_no_port_and_no_guest_but_those_of_the_document(void **state)
{
	static struct device_config c = {
		.ports.host = { .limited = true, .n = 1, .ranges = { { 1024, 1025 } } },
		.forward = { .n = 1, .cids = { 7 } },
	};
	struct broker_call call = { .cid = 2, .port = 1025, .type = 1 };
	int fd = -1;

	assert_int_equal(broker_connect(&c, &call, &fd), -ECONNREFUSED);
	call.port = 1026;
	assert_int_equal(broker_connect(&c, &call, &fd), -EACCES);
	call.cid = 7;
	assert_int_equal(broker_connect(&c, &call, &fd), -EACCES);
	call = (struct broker_call){ .cid = 8, .port = 1025, .type = 1 };
	assert_int_equal(broker_connect(&c, &call, &fd), -EHOSTUNREACH);
}

int main(void)
{
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CLAIM(a_device_that_does_not_run_gets_no_calls),
		CLAIM(a_guest_has_its_share_of_anothers_connections),
		CLAIM(asks_are_rationed_and_none_is_lost),
		CLAIM(who_does_not_read_is_not_tried_for_ever),
		CLAIM(what_waits_for_room_gets_it_in_order),
		CLAIM(a_full_backlog_is_tried_ever_more_rarely),
		CLAIM(names_that_others_change_lead_nowhere),
		CLAIM(a_directory_that_is_moved_keeps_its_socket),
		CLAIM(nobody_can_send_a_device_descriptors_but_vmdevd),
		cmocka_unit_test(forwarding_without_af_vsock_is_refused_at_the_start),
		cmocka_unit_test(a_socket_that_vmdevd_was_started_with_leads_where_it_says),
		cmocka_unit_test(a_guest_reaches_no_port_and_no_guest_but_those_of_the_document),
	};
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max >= N_FILES) {
		files.rlim_cur = N_FILES;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
