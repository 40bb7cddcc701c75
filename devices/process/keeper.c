/* The keeper's life: set-up, and a worker after the other, from fresh addresses. See keeper.h. */
#include "devices/process/keeper-private.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/process/contract.h"
#include "devices/process/renew.h"
#include "devices/process/rings.h"
#include "devices/process/state.h"
#include "devices/process/tell.h"

struct keeper_signals keeper_signals;

static void on_signal(int signo)
{
	if (signo != SIGCHLD)
		keeper_signals.stop_asked = 1;
	__atomic_add_fetch(&keeper_signals.events, 1, __ATOMIC_RELEASE);
}

/*
 * The keeper's filter has refused a call: to the keeper, which will need it again, so another
 * sandbox has to do; or to a worker that starts, and has no handler of its own yet (fault.h). (Were
 * the telling refused too, the kernel would end it: the signal is blocked here.)
 */
static void on_refusal(int signo, siginfo_t *info, void *context)
{
	uint32_t number = (uint32_t)info->si_syscall;

	tell(CONTRACT_MSG_REFUSED, 1, &number);
	_exit(CONTRACT_EXIT_HOST);
}

/* Set-up */

static void set_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct sigaction refusal = { .sa_sigaction = on_refusal, .sa_flags = SA_SIGINFO };

	sigaction(SIGSYS, &refusal, NULL);

	sigaction(SIGCHLD, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* contract.h, invariant 2: every number below the session's is taken. */
static int fill_gaps(void)
{
	for (int fd = 3; fd < CONTRACT_FD_SESSION; fd++)
		if (fcntl(fd, F_GETFD) < 0 && dup2(0, fd) < 0)
			return -errno;
	return 0;
}

/* An extra queue is no reason for a thread of its own, nor are those that go together. */
static uint32_t count_threads(const struct keeper *k)
{
	uint32_t each = k->program->n_rings_each ? k->program->n_rings_each : 1;
	uint32_t n_queues = (k->options->queues - k->program->n_extra_queues) / each;
	cpu_set_t cpus;
	uint32_t n = 1;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		n = (uint32_t)CPU_COUNT(&cpus);
	if (n > n_queues)
		n = n_queues;
	return n < CONTRACT_MAX_THREADS ? n : CONTRACT_MAX_THREADS;
}

int keeper_fresh_state(struct keeper *k, uint32_t generation, uint32_t crash_hits)
{
	const struct options *o = k->options;
	int r = state_create(k->program->state_len, rings_memfd_len(o->queues, o->queue_size),
			     generation);

	if (r < 0)
		return r;
	k->state = state_map(k->program->state_len);
	if (!k->state)
		return -errno;
	k->state->crash_hits = crash_hits;
	return 0;
}

static int first_start(struct keeper *k)
{
	struct options_resume *resume = &k->options->resume;
	int fd = eventfd(0, EFD_NONBLOCK);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_move(fd, CONTRACT_FD_STOP, false);
	if (r >= 0)
		r = fill_gaps();
	if (r < 0)
		return r;
	*resume = (struct options_resume){ .set = true, .n_threads = count_threads(k) };
	return keeper_fresh_state(k, 0, 0);
}

/* A fresh address space */

/*
 * Handlers are not there at once in the new program: signals that come meanwhile wait. SIGSYS does
 * not wait: the kernel ends a process that has it blocked, instead of calling what the former
 * program had there.
 */
static void hold_signals(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(how, &set, NULL);
}

/*
 * Begin anew, with no worker or with the one that runs. Returns only if that fails. The exec is for
 * where it cannot be done in place, and only without a worker, whose descriptors it would lose.
 */
static void renew(struct keeper *k)
{
	extern char **environ;
	char *const *args;
	int r;

	k->options->resume.worker = k->worker;
	args = options_for_exec(k->argv, k->options);
	hold_signals(SIG_BLOCK);
	keeper_pass_stop_on();
	if (k->worker && keeper_signals.stop_passed_on) { /* it will leave */
		hold_signals(SIG_UNBLOCK);
		return;
	}
	r = renew_in_place(args, k->state, sizeof(*k->state));
	if (r != -ENOSYS)
		log_warning("the program cannot begin anew: %s", strerror(-r));
	if (k->worker == 0) {
		syscall(SYS_execveat, CONTRACT_FD_PROGRAM, "", args, environ, AT_EMPTY_PATH);
		log_warning("the program cannot be executed again: %s", strerror(errno));
	}
	hold_signals(SIG_UNBLOCK);
}

/* While the worker is at work, so that nobody waits for it after the next death. */
void keeper_renew_ahead(struct keeper *k)
{
	uint64_t now = clock_now_ns();

	if (k->renew_ns == 0 || now < k->renew_ns)
		return;
	/* Who begins anew knows nothing of a stop. */
	k->renew_ns = (k->state->ready && k->still_ns == 0) || k->stop_ns > 0
			      ? 0
			      : now + KEEPER_RENEW_AFTER_NS;
	if (k->renew_ns > 0 || k->stop_ns > 0)
		return;
	if (!k->fresh)
		renew(k);
	else
		keeper_start_standby(k);
}

int keeper_main(const struct program *program, struct options *o, char *const *argv)
{
	struct keeper k = { .program = program, .options = o, .argv = argv, .fresh = true };
	int r = 0;

	prctl(PR_SET_NAME, "vmdev-keeper", 0, 0, 0);
	/* No worker may trace the keeper or read its memory; an exec makes it dumpable again. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	/* Before the handler that tells, and before a signal that has waited for it. */
	tell_enable(o->mode == OPTIONS_CONTRACT);
	set_signals();
	hold_signals(SIG_UNBLOCK);
	if (!o->resume.set) {
		r = first_start(&k);
	} else {
		k.state = state_map(program->state_len);
		r = k.state ? 0 : -errno;
	}
	if (r == -EBADMSG)
		keeper_give_up("the state is not one of this version", CONTRACT_EXIT_STATE);
	if (r < 0)
		keeper_give_up("the keeper cannot prepare itself", CONTRACT_EXIT_HOST);
	k.n_words = o->resume.n_threads + 1;
	k.worker = o->resume.worker;
	if (k.worker) {
		k.threads = state_threads(k.state, o->resume.generation);
		k.turn_ns = clock_now_ns();
		keeper_start_standby(&k);
	}
	for (;;) {
		r = k.worker ? 0 : keeper_start_worker(&k);
		if (r < 0)
			keeper_give_up("no worker can be started", CONTRACT_EXIT_HOST);
		keeper_await_death(&k);
		if (!k.reaped)
			kill(k.worker, SIGKILL);
		keeper_judge(&k);
		k.worker = 0;
		if (!k.fresh)
			renew(&k);
	}
}
