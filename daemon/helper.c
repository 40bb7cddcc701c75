/* Helpers. See helper.h. */
#include "daemon/helper.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "daemon/clock.h"
#include "daemon/journal.h"
#include "daemon/lines.h"
#include "daemon/priority.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"
#include "devices/process/contract.h"

enum {
	BACKOFF_MIN_USEC = 100000,
	BACKOFF_MAX_USEC = 5000000,
	LIVED_USEC = 10000000, /* long enough for its end to be a new one */
	MAX_DISPATCHES = 500,  /* a second of what it can make vmdevd read */
	MAX_FDS = CONTRACT_SWITCH_MAX_FDS,
};

struct helper {
	struct helper_spec spec;
	char name[200];
	char vm[64], device[64];
	struct launched launched; /* keeper_pid 0: none runs */
	sd_event_source *control, *log, *exit, *timer;
	uint64_t started_usec, backoff_usec;
	uint64_t n_restarts;
	struct lines lines;
};

#define helper_journal(h, level_, ...)                                                             \
	journal_write(&(struct journal_about){ .level = (level_),                                  \
					       .vm = (h)->vm[0] ? (h)->vm : NULL,                  \
					       .device = (h)->device[0] ? (h)->device : NULL },    \
		      __VA_ARGS__)

static const struct launched nothing = {
	.pidfd = -1, .control_fd = -1, .log_fd = -1, .cgroup_fd = -1
};

static void on_line(void *arg, int level, const char *text)
{
	struct helper *h = arg;

	helper_journal(h, level, "%s: %s", h->name, text);
}

static void forget(struct helper *h)
{
	h->control = sd_event_source_disable_unref(h->control);
	h->log = sd_event_source_disable_unref(h->log);
	h->exit = sd_event_source_disable_unref(h->exit);
	launch_forget(&h->launched);
	fd_close(h->launched.pidfd);
	fd_close(h->launched.control_fd);
	fd_close(h->launched.log_fd);
	fd_close(h->launched.cgroup_fd);
	h->launched = nothing;
}

static void start_later(struct helper *h)
{
	bool lived = now_usec() - h->started_usec > LIVED_USEC;

	if (lived || h->backoff_usec == 0)
		h->backoff_usec = BACKOFF_MIN_USEC;
	else if (h->backoff_usec < BACKOFF_MAX_USEC)
		h->backoff_usec *= 2;
	(void)sd_event_source_set_time_relative(h->timer, h->backoff_usec);
	(void)sd_event_source_set_enabled(h->timer, SD_EVENT_ONESHOT);
	if (h->spec.ended)
		h->spec.ended(h->spec.arg);
}

static void describe_end(const siginfo_t *info, char *text, size_t size)
{
	const char *name = info->si_code == CLD_EXITED ? NULL : sigabbrev_np(info->si_status);

	if (info->si_code == CLD_EXITED)
		(void)snprintf(text, size, "exited with status %d", info->si_status);
	else
		(void)snprintf(text, size, "was killed by SIG%s", name ? name : "?");
}

static int on_exit_of_helper(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct helper *h = arg;
	siginfo_t info = { 0 };
	char how[64];

	if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return 0;
	(void)lines_read(&h->lines, h->launched.log_fd, on_line, h);
	describe_end(&info, how, sizeof(how));
	helper_journal(h, LOG_LEVEL_WARNING, "%s %s; a fresh one follows", h->name, how);
	forget(h);
	start_later(h);
	return 0;
}

static int on_log(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct helper *h = arg;

	if (lines_read(&h->lines, fd, on_line, h) < 0)
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

static int on_control(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct helper *h = arg;
	uint8_t bytes[CONTRACT_MSG_MAX_LEN];
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0)
		h->spec.said(h->spec.arg, bytes, (size_t)n);
	else if (n == 0 || errno != EAGAIN)
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

static int watch(struct helper *h, int fd, sd_event_io_handler_t handler, sd_event_source **ret)
{
	int r = sd_event_add_io(h->spec.event, ret, fd, EPOLLIN, handler, h);

	if (r >= 0)
		r = sd_event_source_set_priority(*ret, PRIORITY_DEVICES);
	return r < 0 ? r : sd_event_source_set_ratelimit(*ret, 1000000, MAX_DISPATCHES);
}

static int watch_all(struct helper *h)
{
	int r = watch(h, h->launched.log_fd, on_log, &h->log);

	if (r >= 0 && h->launched.control_fd >= 0)
		r = watch(h, h->launched.control_fd, on_control, &h->control);
	if (r >= 0)
		r = sd_event_add_io(h->spec.event, &h->exit, h->launched.pidfd, EPOLLIN,
				    on_exit_of_helper, h);
	return r;
}

static void kill_and_reap(struct helper *h)
{
	siginfo_t info;

	if (h->launched.keeper_pid == 0)
		return;
	(void)launch_kill(&h->launched);
	(void)waitid(P_PIDFD, (id_t)h->launched.pidfd, &info, WEXITED);
	forget(h);
}

static void start(struct helper *h)
{
	scope_free char *error = NULL;
	int r = h->spec.launch(h->spec.arg, &h->launched, &error);

	h->started_usec = now_usec();
	if (r >= 0) {
		r = watch_all(h);
		if (r < 0)
			kill_and_reap(h);
	}
	if (r >= 0)
		return;
	helper_journal(h, LOG_LEVEL_ERROR, "%s cannot be started: %s", h->name,
		       error ? error : error_text(r));
	start_later(h);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	struct helper *h = arg;

	h->n_restarts++;
	start(h);
	return 0;
}

int helper_new(const struct helper_spec *spec, struct helper **ret)
{
	struct helper *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->spec = *spec;
	h->launched = nothing;
	(void)snprintf(h->name, sizeof(h->name), "%s", spec->name);
	(void)snprintf(h->vm, sizeof(h->vm), "%s", spec->vm ? spec->vm : "");
	(void)snprintf(h->device, sizeof(h->device), "%s", spec->device ? spec->device : "");
	lines_init(&h->lines);
	/* At once, but from the event loop: its callbacks then find it where it belongs. */
	r = sd_event_add_time_relative(spec->event, &h->timer, CLOCK_MONOTONIC, 0, 1000, on_timer,
				       h);
	if (r < 0) {
		free(h);
		return r;
	}
	h->n_restarts = UINT64_MAX; /* the first start is none */
	*ret = h;
	return 0;
}

struct helper *helper_free(struct helper *h)
{
	if (!h)
		return NULL;
	kill_and_reap(h);
	sd_event_source_disable_unref(h->timer);
	free(h);
	return NULL;
}

void helper_restart(struct helper *h)
{
	if (h->launched.keeper_pid)
		(void)launch_kill(&h->launched);
}

int helper_send(struct helper *h, const void *bytes, size_t len, const int *fds, size_t n_fds)
{
	_Alignas(8) uint8_t control[CMSG_SPACE(sizeof(int) * MAX_FDS)] = { 0 };
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (h->launched.keeper_pid == 0 || h->launched.control_fd < 0)
		return -ENOTCONN;
	if (n_fds > 0) {
		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	return sendmsg(h->launched.control_fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int helper_pid(const struct helper *h)
{
	return h->launched.keeper_pid;
}

uint64_t helper_restarts(const struct helper *h)
{
	return h->n_restarts == UINT64_MAX ? 0 : h->n_restarts;
}
