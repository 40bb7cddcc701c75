/* The start of a device program, and what it arranges when run by hand. See program.h. */
#include "devices/process/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/base/scope.h"
#include "devices/process/contract.h"
#include "devices/process/keeper.h"
#include "devices/process/renew.h"

static int say(const char *what, const char *which, int error)
{
	log_error("%s%s%s: %s", what, which ? " " : "", which ? which : "", strerror(-error));
	return error;
}

/* A stale socket file is replaced; one that somebody listens on is not. */
static int clear_path(const struct sockaddr_un *addr)
{
	scope_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0)
		return -EADDRINUSE;
	return unlink(addr->sun_path) < 0 ? -errno : 0;
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	scope_fd int fd = -1;
	int r;

	if (strlen(path) >= sizeof(addr.sun_path))
		return say("socket path is too long:", path, -ENAMETOOLONG);
	strcpy(addr.sun_path, path);
	r = clear_path(&addr);
	if (r < 0)
		return say("cannot listen on", path, r);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0)
		return say("cannot listen on", path, -errno);
	return fd_move(take_fd(&fd), CONTRACT_FD_LISTEN, false);
}

/* --fd names a listening socket, or a connected one that is the only session there will be. */
static int use_fd(struct options *o)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(o->fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
		return say("--fd is no socket", NULL, -errno);
	o->connected = !listening;
	return fd_move(o->fd, listening ? CONTRACT_FD_LISTEN : CONTRACT_FD_SESSION, false);
}

static void raise_fd_limit(uint32_t limit)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return;
	if (l.rlim_max < limit) {
		struct rlimit more = { .rlim_cur = limit, .rlim_max = limit };

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return;
	}
	l.rlim_cur = l.rlim_max < limit ? l.rlim_max : limit;
	setrlimit(RLIMIT_NOFILE, &l);
}

static int arrange_program(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return say("cannot open this program", NULL, -errno);
	return fd_move(fd, CONTRACT_FD_PROGRAM, false);
}

/* Descriptor 0 is what fills unused numbers (keeper.c): never a terminal or somebody's pipe. */
static int take_null(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return say("cannot open", "/dev/null", -errno);
	return fd_move(fd, 0, false);
}

/*
 * From here on there is something to take back: being asked to end waits for the keeper, which
 * unblocks it.
 */
static void hold_ends(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* By hand: put everything where vmdevd would have put it. */
static int arrange(const struct program *p, struct options *o)
{
	int r;

	if ((o->socket_path != NULL) == (o->fd >= 0)) {
		log_error("give either --socket-path=PATH or --fd=N (see --help)");
		return -EINVAL;
	}
	raise_fd_limit(p->fd_limit);
	/* Where it cannot be (a terminal of another user's), a reader that stops stops us too. */
	(void)log_never_wait();
	/* --fd first: its number may be one that something else is about to get. */
	if (o->fd >= 0) {
		r = use_fd(o);
		if (r < 0)
			return r;
	}
	r = take_null();
	if (r < 0)
		return r;
	r = p->arrange(p->config, o);
	if (r == 0)
		r = arrange_program();
	hold_ends();
	if (r >= 0 && o->socket_path)
		r = listen_at(o->socket_path);
	return r;
}

/* What --queues counts becomes a number of virtqueues. */
static bool count_rings(const struct program *p, struct options *o)
{
	uint32_t each = p->n_rings_each ? p->n_rings_each : 1;
	uint32_t max = (CONTRACT_MAX_QUEUES - p->n_extra_queues) / each;

	if (o->queues > max) {
		log_error("--queues=%u is more than the %u that this device has", o->queues, max);
		return false;
	}
	o->queues = o->queues * each + p->n_extra_queues;
	return true;
}

int program_main(const struct program *p, char *const *argv)
{
	struct options o;
	int r = renew_settle();

	log_look();
	if (r < 0) {
		say("the program cannot begin anew", NULL, r);
		return CONTRACT_EXIT_HOST;
	}
	if (options_parse(&o, p->options, p->config, argv) < 0)
		return CONTRACT_EXIT_USAGE;
	if (!count_rings(p, &o))
		return CONTRACT_EXIT_USAGE;
	if (o.help) {
		options_help(argv[0], p->options);
		return 0;
	}
	if (o.print_capabilities) {
		puts(p->capabilities);
		return 0;
	}
	if (o.list_crash_points) {
		crash_list(STDOUT_FILENO);
		return 0;
	}
	if (o.mode == OPTIONS_BY_HAND) {
		r = arrange(p, &o);
		if (r < 0)
			return r == -EINVAL ? CONTRACT_EXIT_USAGE : CONTRACT_EXIT_HOST;
		o.mode = OPTIONS_ARRANGED;
	}
	return keeper_main(p, &o, argv);
}
