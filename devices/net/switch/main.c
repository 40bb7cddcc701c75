/*
 * vmdev-switch: an Ethernet switch between net devices of this host.
 *
 * Runs in: vmdev-switch, one process per switch, one thread.
 * Trusts:  vmdevd, which starts it and gives it its ports; nothing that comes from them.
 *
 * It begins with its filter (CONTRACT_FD_FILTER), before it has a port. Then:
 *
 *	turn       frames from every port to where they are for    (fabric.c)
 *	look on    while frames come, for some microseconds after the last one
 *	sleep      until a device, a stream or vmdevd wakes it
 *
 * What it knows is lost when it dies: which address is where, and the frames that it had in hand,
 * at most a batch a queue. Ports and their memory are vmdevd's: the next process gets the same
 * ones, goes on at the positions that are in the memory, and wakes every device once.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/base/look.h"
#include "devices/net/switch/control.h"
#include "devices/net/switch/fabric.h"
#include "devices/process/confine.h"

enum {
	NS_PER_S = 1000000000,
	LOOKS_A_CLOCK = 8, /* between two glances at the clock */
};

struct switcher {
	const char *name;
	int epoll;
	bool begun; /* the ports are there: none loses frames because another comes later */
	struct look look;
	struct fabric fabric;
};

static struct switcher the_switch;

#define OPTION_NAME "--name="

struct options {
	const char *name;
	bool filtered;
};

/* --contract: started by vmdevd; --arranged: the same without a filter, by a test. */
static int parse_options(struct options *o, char *const *argv)
{
	for (; *argv; argv++) {
		if (strcmp(*argv, "--contract") == 0)
			o->filtered = true;
		else if (strncmp(*argv, OPTION_NAME, strlen(OPTION_NAME)) == 0)
			o->name = *argv + strlen(OPTION_NAME);
		else if (strcmp(*argv, "--arranged") != 0)
			return -EINVAL;
	}
	return 0;
}

/* ---- ports ---- */

static int watch(struct switcher *s, int fd, uint32_t events, void *what)
{
	/* Edge-triggered: counters are never read, a turn looks at everything. */
	struct epoll_event ev = { .events = events | EPOLLET, .data.ptr = what };

	return errno_or(epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev));
}

static int watch_port(struct switcher *s, struct port *p)
{
	if (port_is_stream(p))
		return watch(s, p->stream->socket, EPOLLIN | EPOLLOUT | EPOLLRDHUP, p);
	return watch(s, p->kick, EPOLLIN, p);
}

static void add_port(struct switcher *s, const struct control_message *m)
{
	int r = 0;
	struct port *p = port_new(&m->port, m->fds, &r);

	if (p)
		r = fabric_add(&s->fabric, p);
	if (r == 0)
		r = watch_port(s, p);
	if (r == 0) {
		log_info("%s: port of %s", s->name, m->port.name);
		port_wake(p);
		return;
	}
	log_error("%s: no port of %s: %s", s->name, m->port.name,
		  r == -EADDRINUSE ? "another port has its MAC address" : error_text(r));
	control_tell(CONTRACT_FD_CONTROL, CONTRACT_SWITCH_MSG_GONE, m->port.id);
}

static void tell_counters(const struct switcher *s, const struct port *p)
{
	const struct port_counters *c = &p->counters;

	log_info("%s: port of %s is taken away: %llu frames in, %llu out; dropped: %llu no room, "
		 "%llu "
		 "malformed, %llu forged, %llu VLAN, %llu offload",
		 s->name, p->name, (unsigned long long)c->n_in, (unsigned long long)c->n_out,
		 (unsigned long long)c->n_full, (unsigned long long)c->n_malformed,
		 (unsigned long long)c->n_forged, (unsigned long long)c->n_vlan,
		 (unsigned long long)c->n_offload);
}

static void remove_port(struct switcher *s, uint32_t id)
{
	struct port *p;

	fabric_for_each(&s->fabric, p) if (p->id == id) tell_counters(s, p);
	if (!fabric_remove(&s->fabric, id))
		log_warning("%s: there is no port %u to be taken away", s->name, id);
}

static void obey(struct switcher *s)
{
	struct control_message m;
	int r;

	while ((r = control_receive(CONTRACT_FD_CONTROL, &m)) != 0) {
		if (r == -EBADMSG) {
			log_error("%s: a message of vmdevd that cannot be read", s->name);
			continue;
		}
		if (r < 0) {
			/* vmdevd has gone: the ports go on. */
			epoll_ctl(s->epoll, EPOLL_CTL_DEL, CONTRACT_FD_CONTROL, NULL);
			return;
		}
		if (m.type == CONTRACT_SWITCH_MSG_BEGIN)
			s->begun = true;
		else if (m.type == CONTRACT_SWITCH_MSG_REMOVE)
			remove_port(s, m.port.id);
		else
			add_port(s, &m);
	}
}

/* ---- the loop ---- */

static void take_events(struct switcher *s, const struct epoll_event *events, int n)
{
	bool asked = false;

	for (int i = 0; i < n; i++) {
		struct port *p = events[i].data.ptr;

		if (!p) {
			asked = true;
		} else if (port_is_stream(p)) {
			p->stream_readable = true;
			if (stream_flush(p->stream) == STREAM_ENDED)
				p->stream_ended = true;
		}
	}
	/* Last: it may free ports. */
	if (asked)
		obey(s);
}

static void tell_ended(struct switcher *s)
{
	struct port *p;

	fabric_for_each(&s->fabric, p)
	{
		if (!p->stream_ended || p->stream_told)
			continue;
		p->stream_told = true;
		log_warning("%s: the stream of %s has ended", s->name, p->name);
		control_tell(CONTRACT_FD_CONTROL, CONTRACT_SWITCH_MSG_GONE, p->id);
	}
}

static bool anything_new(const struct switcher *s)
{
	const struct port *p;

	fabric_for_each(&s->fabric, p) if (port_any(p)) return true;
	return false;
}

static bool look_some_times(const struct switcher *s)
{
	for (int i = 0; i < LOOKS_A_CLOCK; i++) {
		if (anything_new(s))
			return true;
		__builtin_ia32_pause();
	}
	return false;
}

static bool look_longer(struct switcher *s)
{
	bool found;

	if (!look_begin(&s->look, s->look.ns))
		return false;
	while (!(found = look_some_times(s)) && look_again(&s->look))
		;
	look_end(&s->look);
	return found;
}

static bool may_sleep(struct switcher *s)
{
	struct port *p;
	bool nothing = true;

	fabric_for_each(&s->fabric, p) if (!port_await(p)) nothing = false;
	return nothing;
}

static void wait_for_events(struct switcher *s, int timeout_ms)
{
	struct epoll_event events[32];
	int n = epoll_wait(s->epoll, events, 32, timeout_ms);

	take_events(s, events, n);
}

/* vmdevd and streams are looked at by the kernel only, so now and then while frames come, too. */
static void serve(struct switcher *s)
{
	uint64_t looked_ns = 0;

	while (!s->begun)
		wait_for_events(s, -1);
	for (;;) {
		uint64_t now = clock_now_ns();
		uint32_t n = fabric_turn(&s->fabric, (uint32_t)(now / NS_PER_S));

		tell_ended(s);
		if (n > 0 || look_longer(s)) {
			if (now - looked_ns > LOOK_MAX_NS) {
				wait_for_events(s, 0);
				looked_ns = now;
			}
			continue;
		}
		if (!may_sleep(s))
			continue;
		now = clock_now_ns();
		wait_for_events(s, -1);
		look_learn(&s->look, clock_now_ns() - now < LOOK_MAX_NS);
	}
}

/* Which system call the filter refused, for who has to mend the policy. */
static void on_refusal(int signo, siginfo_t *info, void *context)
{
	log_error("%s: its filter refused system call %d", the_switch.name, info->si_syscall);
	_exit(CONTRACT_EXIT_FAULT);
}

static void catch_refusals(void)
{
	struct sigaction action = { .sa_sigaction = on_refusal, .sa_flags = SA_SIGINFO };

	sigaction(SIGSYS, &action, NULL);
}

static int begin(struct switcher *s, bool filtered)
{
	uint64_t secret;
	int r;

	catch_refusals();
	/* exec has set it */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll < 0 || getrandom(&secret, sizeof(secret), 0) != sizeof(secret))
		return -errno;
	fabric_init(&s->fabric, secret);
	r = watch(s, CONTRACT_FD_CONTROL, EPOLLIN, NULL);
	return r < 0 ? r : confine_worker(filtered);
}

int main(int argc, char **argv)
{
	struct switcher *s = &the_switch;
	struct options o = { .name = "switch" };
	int r;

	if (argc < 1 || parse_options(&o, argv + 1) < 0) {
		log_error("vmdev-switch is started by vmdevd, with --contract --name=NAME");
		return CONTRACT_EXIT_USAGE;
	}
	s->name = o.name;
	r = begin(s, o.filtered);
	if (r < 0) {
		log_error("%s: it cannot begin: %s", s->name, error_text(r));
		control_tell_failed(CONTRACT_FD_CONTROL, error_text(r));
		return CONTRACT_EXIT_HOST;
	}
	control_tell(CONTRACT_FD_CONTROL, CONTRACT_MSG_READY, 0);
	serve(s);
}
