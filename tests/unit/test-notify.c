/*
 * What the service manager is told: soon, once for many changes, and how things stand in the end.
 *
 * Runs in: the test, as any user, who is the service manager too.
 * Trusts:  nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/notify.h"
#include "tests/unit/unit.h"

static unsigned n_devices;
static bool is_stopping;

static bool look(void *arg, struct manager_counts *ret, unsigned *ret_n_refused)
{
	*ret = (struct manager_counts){ .n_devices = n_devices, .n_connected = 1 };
	*ret_n_refused = 0;
	return !is_stopping;
}

static int listen_as_service_manager(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char name[64];

	(void)snprintf(name, sizeof(name), "@vmdev-test-notify-%d", getpid());
	(void)snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s", name + 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
			 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	return fd;
}

static unsigned read_all(int fd, char *ret_last, size_t size)
{
	unsigned n = 0;
	ssize_t len;

	while ((len = recv(fd, ret_last, size - 1, 0)) >= 0) {
		ret_last[len] = '\0';
		n++;
	}
	return n;
}

static void many_changes_are_one_word(void **state)
{
	struct notify_spec spec = { .look = look };
	int fd = listen_as_service_manager();
	char last[200] = "";

	assert_true(sd_event_new(&spec.event) >= 0);
	assert_int_equal(notify_init(&spec), 0);
	for (n_devices = 0; n_devices < 1000; n_devices++) {
		notify_changed();
		(void)sd_event_run(spec.event, 0);
	}
	while (sd_event_run(spec.event, 500000) > 0)
		;
	assert_in_range(read_all(fd, last, sizeof(last)), 1, 4);
	assert_string_equal(last, "STATUS=1000 devices, 1 connected");
	notify_changed();
	is_stopping = true;
	while (sd_event_run(spec.event, 500000) > 0)
		;
	assert_int_equal(read_all(fd, last, sizeof(last)), 0);
	notify_done();
	sd_event_unref(spec.event);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_changes_are_one_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
