/*
 * The processes of a device, seen from outside: launching, listening to, stopping and reaping.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing that comes out of the sandbox. What can be provoked from in there is limited by
 *          rate, so that one device cannot keep vmdevd from the others.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/device-private.h"
#include "daemon/listener.h"
#include "daemon/priority.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"
#include "devices/base/wire.h"
#include "devices/process/contract.h"

static void on_line(void *arg, int level, const char *text)
{
	struct device *d = arg;

	device_journal(d, level, JOURNAL_PLAIN, "%s", text);
}

static int on_log(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct device *d = arg;

	if (lines_read(&d->lines, fd, on_line, d) < 0)
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

static int on_control(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	device_contract_read(arg, 1); /* the source's rate is that of messages */
	return 0;
}

/* What the keeper's end says: can a fresh sandbox help? The reason goes to ret_reason. */
static enum device_event judge(const struct device *d, const siginfo_t *info, char *ret_reason,
			       size_t size)
{
	static const struct {
		int status;
		enum device_event event;
		const char *text;
	} rows[] = {
		{ CONTRACT_EXIT_STOPPED, DEVICE_EVENT_ENDED,
		  "the device stopped without being asked" },
		{ CONTRACT_EXIT_USAGE, DEVICE_EVENT_GAVE_UP,
		  "the device program refused its arguments; is it of the same version as "
		  "vmdevd?" },
		{ CONTRACT_EXIT_STATE, DEVICE_EVENT_ENDED,
		  "the device's state did not pass its checks" },
		{ CONTRACT_EXIT_HOST, DEVICE_EVENT_ENDED, "the host failed the device" },
		{ CONTRACT_EXIT_LIMIT, DEVICE_EVENT_GAVE_UP,
		  "the worker died more often than restart.limit allows in restart.interval" },
		{ CONTRACT_EXIT_SANDBOX, DEVICE_EVENT_GAVE_UP, "the sandbox could not be set up" },
	};
	const char *last = lines_get(&d->lines, d->lines.n ? d->lines.n - 1 : 0);
	const char *more = d->failure[0] ? d->failure : last;

	if (info->si_code != CLD_EXITED) {
		const char *name = sigabbrev_np(info->si_status);

		(void)snprintf(ret_reason, size, "%s%sthe keeper was killed by SIG%s", d->failure,
			       d->failure[0] ? ": " : "", name ? name : "?");
		return DEVICE_EVENT_ENDED;
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].status != info->si_status)
			continue;
		(void)snprintf(ret_reason, size, "%s%s%s", rows[i].text, more ? ": " : "",
			       more ? more : "");
		return rows[i].event;
	}
	(void)snprintf(ret_reason, size, "the keeper exited with status %d%s%s", info->si_status,
		       more ? ": " : "", more ? more : "");
	return DEVICE_EVENT_ENDED;
}

static int on_exit_of_keeper(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct device *d = arg;
	siginfo_t info = { 0 };
	enum device_event event;

	if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return 0;
	/* Last words first: they say why. The keeper was PID 1, so nobody is left to add to them.
	 */
	device_contract_read(d, DEVICE_MAX_UNREAD);
	(void)lines_read(&d->lines, d->launched.log_fd, on_line, d);
	event = judge(d, &info, d->reason, sizeof(d->reason));
	text_clean(d->reason);
	device_forget(d);
	(void)device_handle(d, event);
	return 0;
}

static int watch(struct device *d, int fd, unsigned max_per_s, sd_event_io_handler_t handler,
		 sd_event_source **ret)
{
	int r = sd_event_add_io(d->host->event, ret, fd, EPOLLIN, handler, d);

	if (r >= 0)
		r = sd_event_source_set_priority(*ret, PRIORITY_DEVICES);
	if (r >= 0)
		r = sd_event_source_set_ratelimit(*ret, 1000000, max_per_s);
	return r < 0 ? r : 0;
}

static int watch_all(struct device *d)
{
	int r;

	r = watch(d, d->launched.control_fd, DEVICE_MAX_MESSAGES, on_control, &d->control);
	if (r == 0)
		r = watch(d, d->launched.log_fd, DEVICE_MAX_LOG_READS, on_log, &d->log);
	if (r == 0)
		r = sd_event_add_io(d->host->event, &d->exit, d->launched.pidfd, EPOLLIN,
				    on_exit_of_keeper, d);
	if (r >= 0 && d->broker)
		r = broker_start(d->broker);
	return r < 0 ? r : 0;
}

/* A policy's name means the administrator's file of that name, if there is one. */
static const char *policy_find(const struct device_host *host, const struct device_config *config,
			       char *ret_path, size_t size)
{
	const char *name = config->policy ? config->policy : device_type_to_string(config->type);

	if (name[0] == '/')
		return name;
	(void)snprintf(ret_path, size, "%s/%s.json", host->override_dir, name);
	return access(ret_path, F_OK) == 0 ? ret_path : name;
}

struct launch_spec device_launch_spec(const struct device_host *host,
				      const struct device_config *config, char *const *argv,
				      struct device_launch_texts *texts)
{
	const char *type = device_type_to_string(config->type);

	(void)snprintf(texts->program, sizeof(texts->program), "%s/%s%svmdev-%s", host->program_dir,
		       host->is_build_tree ? type : "", host->is_build_tree ? "/" : "", type);
	/* Names have no ':', so two devices never share a cgroup. */
	(void)snprintf(texts->cgroup, sizeof(texts->cgroup), "%s:%s", config->vm, config->name);
	texts->limits = (struct launch_limits){
		.cpu = config->limits.cpu,
		.memory = config->limits.memory,
		.pids = config->limits.pids,
	};
	return (struct launch_spec){
		.name = config->full_name,
		.program_path = texts->program,
		.argv = argv,
		.listen_fd = -1,
		.policy = policy_find(host, config, texts->policy, sizeof(texts->policy)),
		.policy_dir = host->policy_dir,
		.resource = type_get(config->type)->resource(host, config, &texts->resource),
		.limits = &texts->limits,
		.cgroup_name = texts->cgroup,
	};
}

static int listen_first(struct device *d, char **ret_error)
{
	char directory[sizeof(d->socket_path)];
	int r;

	if (d->listen_fd >= 0)
		return 0;
	(void)snprintf(directory, sizeof(directory), "%s/%s", d->host->runtime_dir, d->config->vm);
	r = listener_directory(directory, ret_error);
	if (r < 0)
		return r;
	return listener_open(d->socket_path, &d->config->socket, &d->listen_fd, ret_error);
}

/* A policy may be narrowed in silence, but not widened. */
static void remark_on_policy(struct device *d, const struct launch_spec *spec)
{
	scope_free char *wider = NULL;

	d->policy_wider[0] = '\0';
	if (launch_wider(spec, &wider) < 0 || !wider)
		return;
	(void)snprintf(d->policy_wider, sizeof(d->policy_wider), "%s", wider);
	device_journal(d, LOG_LEVEL_WARNING, JOURNAL_PLAIN,
		       "its policy %s allows more than the one that is shipped: %s", spec->policy,
		       wider);
}

/* From a network, if it was connected to one. */
static void unplug(struct device *d)
{
	if (d->host->networks)
		networks_unplug(d->host->networks, d->config->vm, d->config->name);
}

static int launch(struct device *d, char **ret_error)
{
	char **argv = device_config_argv(d->config);
	struct device_launch_texts texts;
	struct launch_spec spec;
	int r;

	if (!argv)
		return -ENOMEM;
	spec = device_launch_spec(d->host, d->config, argv, &texts);
	spec.listen_fd = d->listen_fd;
	spec.uid_index = d->uid_index;
	if (d->broker)
		texts.resource.vsock.broker = d->broker;
	r = d->host->launch(&spec, &d->launched, ret_error);
	if (r >= 0)
		remark_on_policy(d, &spec);
	if (r < 0)
		unplug(d);
	strv_free(argv);
	return r;
}

int device_why_locked(struct device *d, char **ret_error)
{
	char *const none[] = { NULL };
	struct device_launch_texts texts;
	struct launch_spec spec = device_launch_spec(d->host, d->config, none, &texts);
	int r;

	*ret_error = NULL;
	r = spec.resource.check(spec.resource.what, ret_error);
	if (r == 0 && asprintf(ret_error,
			       "it is locked by a process that is just ending and does not end, or "
			       "that cannot be found here: one on another host") < 0)
		*ret_error = NULL;
	return r < 0 ? r : RESOURCE_LOCKED;
}

void device_release(struct device *d)
{
	const struct type *type = d->config ? type_get(d->config->type) : NULL;

	if (type && type->release)
		type->release(d->config);
}

void device_take_config(struct device *d)
{
	if (!d->next_config)
		return;
	device_release(d);
	if (d->broker)
		broker_stop(d->broker); /* it may look at the old one no more */
	/* Somebody else may be waiting for it. */
	if (d->broker && d->config->uds &&
	    (!d->next_config->uds || strcmp(d->config->uds, d->next_config->uds) != 0))
		broker_close(d->broker);
	device_config_free(d->config);
	d->config = take_ptr(d->next_config);
}

int device_launch(struct device *d, char **ret_error)
{
	int r;

	*ret_error = NULL;
	d->failure[0] = '\0';
	r = listen_first(d, ret_error);
	if (r == 0 && d->broker)
		r = broker_prepare(d->broker, d->config, ret_error);
	if (r == 0)
		r = launch(d, ret_error);
	if (r != 0) { /* RESOURCE_LOCKED too: nothing runs */
		if (d->broker)
			broker_stop(d->broker);
		return r;
	}
	r = watch_all(d);
	if (r < 0) { /* without its events nothing would ever notice its end: take it back */
		siginfo_t info;

		device_kill(d);
		(void)waitid(P_PIDFD, (id_t)d->launched.pidfd, &info, WEXITED);
		device_forget(d);
	}
	return r;
}

int device_ask_to_stop(struct device *d)
{
	uint8_t buf[4];
	struct wire_writer w = wire_writer(buf, sizeof(buf));

	wire_put_u32(&w, CONTRACT_MSG_STOP);
	return errno_or(
		(int)send(d->launched.control_fd, buf, wire_len(&w), MSG_DONTWAIT | MSG_NOSIGNAL));
}

void device_kill(struct device *d)
{
	int r;

	if (d->launched.keeper_pid == 0)
		return;
	r = d->host->kill(&d->launched);
	if (r < 0)
		device_journal(d, LOG_LEVEL_ERROR, JOURNAL_PLAIN,
			       "cannot kill the sandbox (keeper %d): %s", d->launched.keeper_pid,
			       error_text(r));
}

void device_forget(struct device *d)
{
	if (d->launched.keeper_pid == 0)
		return;
	d->control = sd_event_source_disable_unref(d->control);
	d->log = sd_event_source_disable_unref(d->log);
	d->exit = sd_event_source_disable_unref(d->exit);
	if (d->broker)
		broker_stop(d->broker);
	d->host->forget(&d->launched);
	unplug(d);
	fd_close(d->launched.pidfd);
	fd_close(d->launched.control_fd);
	fd_close(d->launched.log_fd);
	fd_close(d->launched.cgroup_fd);
	d->launched =
		(struct launched){ .pidfd = -1, .control_fd = -1, .log_fd = -1, .cgroup_fd = -1 };
	d->worker_pid = 0;
	d->frontend = false;
}
