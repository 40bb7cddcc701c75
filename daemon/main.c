/*
 * vmdevd: runs the devices of virtual machines, each in a sandbox of its own.
 *
 * Runs in: vmdevd, as root. One thread, one event loop (sd-event); nothing in it parses a byte that
 *          a guest wrote, and nothing in it blocks for longer than a launch takes.
 * Trusts:  its options, and the files below its configuration directory as far as their owner is
 *          concerned: what they say is checked.
 *
 * SIGTERM, SIGINT and SIGHUP stop all devices, then vmdevd; a second one, SIGHUP excepted, kills
 * the devices.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "daemon/bus.h"
#include "daemon/journal.h"
#include "daemon/listener.h"
#include "daemon/manager.h"
#include "daemon/notify.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/log.h"
#include "devices/base/scope.h"
#include "devices/process/contract.h"

/* So that RUNTIME/VM/DEVICE.sock leaves room for names; the documents' check has the exact limit.
 */
enum { MAX_RUNTIME_DIR_LEN = 80 };

struct options {
	char *runtime_dir, *config_dir, *policy_dir, *override_dir, *program_dir;
	bool is_build_tree; /* program_dir is devices/ of the build tree that vmdevd runs from */
	bool foreground;
	bool debug;
};

struct daemon {
	struct options options;
	sd_event *event;
	struct manager *manager;
	struct bus *bus;
	int runtime_fd; /* holds the lock that there is one vmdevd per runtime directory */
	unsigned n_refused;
	bool is_stopping;
};

static const char help[] =
	"vmdevd - run the devices of virtual machines, each in its own sandbox\n"
	"\n"
	"Usage: vmdevd [OPTIONS]\n"
	"\n"
	"  --runtime-dir=DIR   sockets, and the bus of vmdevctl (" VMDEV_RUNTIME_DIR ")\n"
	"  --config-dir=DIR    documents in DIR/vms/*.json are applied at start (" VMDEV_CONFIG_DIR
	")\n"
	"  --policy-dir=DIR    sandbox policies (" VMDEV_POLICY_DIR "); one of the same name in\n"
	"                      policies/ of the configuration directory goes before it\n"
	"  --program-dir=DIR   device programs (" VMDEV_PROGRAM_DIR ")\n"
	"  --foreground        log to stderr, even where there is a journal\n"
	"  --debug             log every change of state\n"
	"  --help, --version\n";

enum {
	OPTION_RUNTIME_DIR = 256,
	OPTION_CONFIG_DIR,
	OPTION_POLICY_DIR,
	OPTION_PROGRAM_DIR,
	OPTION_FOREGROUND,
	OPTION_DEBUG,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{ "runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR },
	{ "config-dir", required_argument, NULL, OPTION_CONFIG_DIR },
	{ "policy-dir", required_argument, NULL, OPTION_POLICY_DIR },
	{ "program-dir", required_argument, NULL, OPTION_PROGRAM_DIR },
	{ "foreground", no_argument, NULL, OPTION_FOREGROUND },
	{ "debug", no_argument, NULL, OPTION_DEBUG },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ 0 },
};

/* ---- options ---- */

/* An absolute path without a slash at its end; the directory need not exist. NULL: no memory. */
static char *absolute(const char *path)
{
	scope_free char *cwd = NULL;
	char *text;
	size_t len;

	if (path[0] == '/') {
		text = strdup(path);
	} else {
		cwd = getcwd(NULL, 0);
		text = cwd ? text_format("%s/%s", cwd, path) : NULL;
	}
	len = text ? strlen(text) : 0;
	while (len > 1 && text[len - 1] == '/')
		text[--len] = '\0';
	return text;
}

static void set_path(char **path, const char *value)
{
	free(*path);
	*path = absolute(value);
}

/* -1: go on; else the exit status. */
static int parse_options(struct options *o, int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case OPTION_RUNTIME_DIR:
			set_path(&o->runtime_dir, optarg);
			break;
		case OPTION_CONFIG_DIR:
			set_path(&o->config_dir, optarg);
			break;
		case OPTION_POLICY_DIR:
			set_path(&o->policy_dir, optarg);
			break;
		case OPTION_PROGRAM_DIR:
			set_path(&o->program_dir, optarg);
			break;
		case OPTION_FOREGROUND:
			o->foreground = true;
			break;
		case OPTION_DEBUG:
			o->debug = true;
			break;
		case OPTION_HELP:
			fputs(help, stdout);
			return 0;
		case OPTION_VERSION:
			puts("vmdevd " VMDEV_VERSION);
			return 0;
		default:
			fputs("Try `vmdevd --help`.\n", stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "vmdevd: %s: expected options only; try `vmdevd --help`\n",
			argv[optind]);
		return 2;
	}
	return -1;
}

/* vmdevd in BUILD/daemon runs the programs in BUILD/devices/TYPE, not those that are installed. */
static void find_programs(struct options *o)
{
	scope_free char *self = realpath("/proc/self/exe", NULL), *path = NULL;
	char *slash = self ? strrchr(self, '/') : NULL;

	if (slash)
		*slash = '\0';
	path = slash ? text_format("%s/../devices/blk/vmdev-blk", self) : NULL;
	if (path && access(path, X_OK) == 0) {
		o->program_dir = text_format("%s/../devices", self);
		o->is_build_tree = true;
	} else {
		set_path(&o->program_dir, VMDEV_PROGRAM_DIR);
	}
}

static int options_complete(struct options *o)
{
	if (!o->runtime_dir)
		set_path(&o->runtime_dir, VMDEV_RUNTIME_DIR);
	if (!o->config_dir)
		set_path(&o->config_dir, VMDEV_CONFIG_DIR);
	if (!o->policy_dir)
		set_path(&o->policy_dir, VMDEV_POLICY_DIR);
	if (!o->program_dir)
		find_programs(o);
	o->override_dir = o->config_dir ? text_format("%s/policies", o->config_dir) : NULL;
	if (!o->runtime_dir || !o->config_dir || !o->policy_dir || !o->override_dir ||
	    !o->program_dir)
		return -ENOMEM;
	if (strlen(o->runtime_dir) > MAX_RUNTIME_DIR_LEN) {
		journal_error(
			"--runtime-dir=%s has %zu bytes; expected at most %u, as the paths of "
			"Unix sockets are short",
			o->runtime_dir, strlen(o->runtime_dir), MAX_RUNTIME_DIR_LEN);
		return -ENAMETOOLONG;
	}
	return 0;
}

/* ---- stopping ---- */

static void on_all_stopped(void *arg)
{
	struct daemon *d = arg;

	(void)sd_event_exit(d->event, 0);
}

static void stop_all(struct daemon *d)
{
	json_object *names = manager_select(d->manager, "");

	journal_info("stopping");
	d->is_stopping = true;
	notify_stopping();
	manager_refuse_changes(d->manager);
	(void)manager_command(d->manager, MANAGER_STOP, names);
	if (manager_wait(d->manager, names, on_all_stopped, d) < 0)
		on_all_stopped(d);
	json_object_put(names);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *arg)
{
	struct daemon *d = arg;

	if (d->is_stopping) {
		journal_warning("asked to stop again: killing what still runs");
		manager_kill_all(d->manager);
		return 0;
	}
	stop_all(d);
	return 0;
}

/*
 * The terminal has gone. That may be told twice, by the kernel and by the shell: no second one
 * kills.
 */
static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *arg)
{
	struct daemon *d = arg;

	if (!d->is_stopping)
		stop_all(d);
	return 0;
}

/* ---- starting ---- */

static void on_happened(void *arg, const char *json)
{
	struct daemon *d = arg;

	bus_emit(d->bus, json);
	notify_changed();
}

static bool look(void *arg, struct manager_counts *ret, unsigned *ret_n_refused)
{
	struct daemon *d = arg;

	if (d->is_stopping || !d->manager)
		return false;
	*ret = manager_count(d->manager);
	*ret_n_refused = d->n_refused;
	return true;
}

static void on_all_started(void *arg)
{
	struct daemon *d = arg;

	if (d->is_stopping)
		return;
	notify_ready();
	notify_changed();
}

/* The lock goes with the process, however that ends. */
static int runtime_lock(struct daemon *d, char **ret_error)
{
	const char *path = d->options.runtime_dir;
	int r;

	r = listener_directory(path, ret_error);
	if (r < 0)
		return r;
	d->runtime_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->runtime_fd < 0)
		return -errno;
	if (flock(d->runtime_fd, LOCK_EX | LOCK_NB) < 0) {
		*ret_error = text_format("another vmdevd runs with --runtime-dir=%s", path);
		return -EBUSY;
	}
	return 0;
}

static int signals_init(struct daemon *d)
{
	struct sigaction hangup;
	sigset_t set;
	int r;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	r = sd_event_add_signal(d->event, NULL, SIGTERM, on_signal, d);
	if (r >= 0)
		r = sd_event_add_signal(d->event, NULL, SIGINT, on_signal, d);
	/* nohup(1): it is not to be heard of */
	if (r >= 0 && sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
		r = sd_event_add_signal(d->event, NULL, SIGHUP, on_hangup, d);
	return r < 0 ? r : 0;
}

static int parts_init(struct daemon *d, char **ret_error)
{
	struct manager_spec manager = {
		.runtime_dir = d->options.runtime_dir,
		.program_dir = d->options.program_dir,
		.is_build_tree = d->options.is_build_tree,
		.policy_dir = d->options.policy_dir,
		.override_dir = d->options.override_dir,
		.happened = on_happened,
		.arg = d,
	};
	struct bus_spec bus = { .runtime_dir = d->options.runtime_dir, .version = VMDEV_VERSION };
	struct notify_spec notify = { .look = look, .arg = d };
	int r;

	r = sd_event_default(&d->event);
	notify.event = d->event;
	if (r >= 0)
		r = signals_init(d);
	if (r >= 0)
		r = notify_init(&notify);
	if (r < 0)
		return r;
	manager.event = bus.event = d->event;
	r = manager_new(&manager, &d->manager);
	if (r < 0)
		return r;
	bus.manager = d->manager;
	return bus_new(&bus, &d->bus, ret_error);
}

/* READY=1 is said when the devices of the configuration directory serve or have failed. */
static int apply_at_start(struct daemon *d)
{
	scope_free char *path = text_format("%s/vms", d->options.config_dir);
	json_object *names;
	int r;

	if (!path)
		return -ENOMEM;
	d->n_refused = manager_apply_directory(d->manager, path);
	names = manager_select(d->manager, "");
	r = manager_wait(d->manager, names, on_all_started, d);
	json_object_put(names);
	return r;
}

/*
 * Devices inherit the hard limit, and in a user namespace they could not raise it. We need some for
 * each of them.
 */
static void raise_descriptor_limit(void)
{
	struct rlimit limit, have;

	if (getrlimit(RLIMIT_NOFILE, &have) < 0)
		return;
	limit = have;
	if (limit.rlim_max < CONTRACT_FD_LIMIT_MAX)
		limit.rlim_max = CONTRACT_FD_LIMIT_MAX;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return;
	have.rlim_cur = have.rlim_max; /* who may not raise the hard one */
	(void)setrlimit(RLIMIT_NOFILE, &have);
}

static int run(struct daemon *d, char **ret_error)
{
	int r;

	raise_descriptor_limit();
	r = runtime_lock(d, ret_error);
	if (r == 0)
		r = parts_init(d, ret_error);
	if (r == 0)
		r = apply_at_start(d);
	if (r < 0)
		return r;
	journal_info("vmdevd " VMDEV_VERSION " runs, sockets are below %s", d->options.runtime_dir);
	return sd_event_loop(d->event);
}

static void daemon_done(struct daemon *d)
{
	notify_done();
	d->bus = bus_free(d->bus);
	d->manager = manager_free(d->manager);
	sd_event_unref(d->event);
	fd_close(d->runtime_fd);
	free(d->options.runtime_dir);
	free(d->options.config_dir);
	free(d->options.policy_dir);
	free(d->options.override_dir);
	free(d->options.program_dir);
}

int main(int argc, char **argv)
{
	struct daemon d = { .runtime_fd = -1 };
	scope_free char *error = NULL;
	int r;

	r = parse_options(&d.options, argc, argv);
	if (r >= 0) {
		daemon_done(&d);
		return r;
	}
	journal_init(d.options.foreground);
	if (d.options.debug)
		log_set_level(LOG_LEVEL_DEBUG);
	(void)umask(0022);
	r = options_complete(&d.options);
	if (r == 0)
		r = run(&d, &error);
	if (r < 0)
		journal_error("cannot run: %s", error ? error : error_text(r));
	daemon_done(&d);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
