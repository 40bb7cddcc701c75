/* The keeper's loop: start a worker, await its death, judge it, renew. See keeper.h. */
#include "devices/process/keeper-private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/process/contract.h"
#include "devices/process/renew.h"
#include "devices/process/rings.h"
#include "devices/process/standby.h"
#include "devices/process/state.h"
#include "devices/process/tell.h"
#include "devices/process/worker.h"

enum {
	STOP_LIMIT_S = 15,	     /* to drain and leave; less than vmdevd gives the device */
	WATCH_PARTS = 4,	     /* the watchdog looks this often in a hang-timeout */
	RENEW_AFTER_NS = 2000000,    /* a start; a recovery is over by then */
	AGAIN_AFTER_NS = 1000000000, /* the loss of a stand-by: another */
	START_MIN_NS = 1000000000,   /* a worker has at least so long until it is ready */
};

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

/* The worker */

/*
 * fork with one descriptor table for both. The stack and all memory are copies (no CLONE_VM), so
 * the child returns here like the parent.
 */
static pid_t clone_sharing_files(void)
{
	return (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
}

static void reset_signals(void)
{
	signal(SIGCHLD, SIG_DFL);
	signal(SIGTERM, SIG_IGN); /* the keeper's to handle */
	signal(SIGINT, SIG_IGN);
}

/*
 * To grow a table that is shared costs a grace period of RCU, in the midst of a worker's request:
 * it gets its size before, while it is not. (Where the limit could not be raised, it stays small.)
 */
static void grow_table(const struct keeper *k)
{
	int last = (int)k->program->fd_limit - 1;

	if (k->program->fd_limit > CONTRACT_FD_LIMIT && fcntl(last, F_GETFD) < 0 &&
	    dup2(0, last) >= 0)
		close(last);
}

/*
 * A worker of this generation, whose turn it is, or to come. A negative errno on failure.
 */
static pid_t clone_worker(struct keeper *k, uint32_t generation, bool ahead)
{
	pid_t pid;

	state_clear_threads(k->state, generation);
	k->options->keeper = getpid();
	pid = clone_sharing_files();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		reset_signals();
		munmap(k->state, sizeof(*k->state));
		k->options->resume.generation = generation;
		worker_main(k->program, k->options, k->program->config, ahead);
	}
	return pid;
}

/* Earlier workers are reaped here too, when they are at last gone. */
static void reap(struct keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == k->worker)
			k->reaped = true;
		if (pid != k->standby)
			continue;
		log_notice("the stand-by has gone (%s %d)",
			   WIFSIGNALED(status) ? "signal" : "status",
			   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		k->standby = 0;
		standby_end();
		k->renew_ns = clock_now_ns() + AGAIN_AFTER_NS;
	}
}

/* The next worker, at work while this one is. Without it, recovery takes a little longer. */
static void start_standby(struct keeper *k)
{
	pid_t pid = standby_begin();

	if (pid == 0)
		pid = clone_worker(k, k->options->resume.generation + 1, true);
	if (pid > 0) {
		k->standby = pid;
		return;
	}
	log_warning("no stand-by can be started: %s", strerror(-pid));
	standby_end();
}

void keeper_end_standby(struct keeper *k)
{
	if (k->standby == 0)
		return;
	kill(k->standby, SIGKILL);
	while (waitpid(k->standby, NULL, 0) < 0 && errno == EINTR)
		;
	k->standby = 0;
	standby_end();
}

static pid_t next_worker(struct keeper *k, uint32_t generation)
{
	pid_t pid;

	reap(k);
	pid = k->standby;
	k->standby = 0;
	if (pid > 0) {
		standby_give_turn();
		return pid;
	}
	grow_table(k);
	return clone_worker(k, generation, false);
}

static int start_worker(struct keeper *k)
{
	uint32_t generation = ++k->options->resume.generation;
	pid_t pid;

	state_begin_generation(k->state, generation);
	pid = next_worker(k, generation);
	if (pid < 0)
		return pid;
	k->worker = pid;
	k->threads = state_threads(k->state, generation);
	memset(k->beats, 0, sizeof(k->beats));
	memset(k->beat_ns, 0, sizeof(k->beat_ns));
	k->reaped = false;
	k->overdue = false;
	k->turn_ns = clock_now_ns();
	k->stop_ns = 0;
	k->only_drains = k->state->session_over == STATE_END_STOPPED;
	k->fresh = false;
	k->renew_ns = k->turn_ns + RENEW_AFTER_NS;
	return 0;
}

static bool all_threads_dead(const struct keeper *k)
{
	for (uint32_t i = 0; i < k->n_words; i++)
		if (!state_thread_dead(&k->threads[i]))
			return false;
	return true;
}

static bool any_thread_dead(const struct keeper *k)
{
	for (uint32_t i = 0; i < k->n_words; i++)
		if (state_thread_dead(&k->threads[i]))
			return true;
	return false;
}

/* A thread that is at work and has made no turn for too long. */
static bool hangs(struct keeper *k, uint32_t i, uint64_t now)
{
	const struct state_thread *t = &k->threads[i];
	uint32_t beat = __atomic_load_n(&t->beat, __ATOMIC_RELAXED);

	if (beat != k->beats[i] || __atomic_load_n(&t->idle, __ATOMIC_RELAXED) ||
	    k->beat_ns[i] == 0) {
		k->beats[i] = beat;
		k->beat_ns[i] = now;
		return false;
	}
	return now - k->beat_ns[i] >= k->options->hang_timeout_ns;
}

/*
 * One that has its turn and does not get as far as serving. (One that only drains never does, and
 * takes as long as the I/O: enforce_stop.)
 */
static void watch_start(struct keeper *k, uint64_t now)
{
	uint64_t limit = k->options->hang_timeout_ns;

	if (limit < START_MIN_NS)
		limit = START_MIN_NS;
	if (k->state->session_over || now - k->turn_ns < limit)
		return;
	log_error("the worker is not ready %llu ms after its start: killed",
		  (unsigned long long)(limit / 1000000u));
	k->state->fault = (struct state_fault){ .signo = SIGKILL };
	kill(k->worker, SIGKILL);
	k->turn_ns = now; /* dying takes a while */
}

static void watchdog(struct keeper *k)
{
	uint64_t now = clock_now_ns();

	if (k->options->hang_timeout_ns == 0)
		return;
	if (!k->state->ready) {
		watch_start(k, now);
		return;
	}
	for (uint32_t i = 0; i < k->n_words; i++) {
		if (!hangs(k, i, now))
			continue;
		log_error("the worker hangs (thread %u): killed", i);
		k->state->fault = (struct state_fault){ .signo = SIGKILL,
							.thread = i,
							.suspect = k->threads[i].suspect };
		kill(k->worker, SIGKILL);
		return;
	}
}

static void pass_stop_on(void)
{
	uint64_t one = 1;

	if (!keeper_signals.stop_asked || write(CONTRACT_FD_STOP, &one, sizeof(one)) < 0)
		return;
	keeper_signals.stop_asked = 0;
	keeper_signals.stop_passed_on = true;
}

/*
 * A worker that is to stop has to leave in time, whoever told it. One that does not is replaced by
 * one that only drains; if that does not leave either, the I/O does not end, and nothing can be
 * done about that here.
 */
static void enforce_stop(struct keeper *k)
{
	uint64_t now = clock_now_ns();

	if (k->overdue ||
	    (!keeper_signals.stop_passed_on && k->state->session_over != STATE_END_STOPPED))
		return;
	if (k->stop_ns == 0)
		k->stop_ns = now;
	if (now - k->stop_ns < STOP_LIMIT_S * KEEPER_NS_PER_S)
		return;
	kill(k->worker, SIGKILL);
	if (k->only_drains)
		keeper_give_up("the device cannot stop: its I/O does not end", CONTRACT_EXIT_HOST);
	log_error("the worker has not left %u s after it was to stop: killed", STOP_LIMIT_S);
	k->state->session_over = STATE_END_STOPPED;
	k->overdue = true;
}

/* Of two times, 0 being never. */
static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a == 0 || (b > 0 && b < a) ? b : a;
}

/* When the watchdog looks again, a fresh address space is due, or patience ends; 0: never. */
static uint64_t next_look_ns(const struct keeper *k)
{
	uint64_t watch = k->options->hang_timeout_ns / WATCH_PARTS;

	if (watch > 0)
		watch += clock_now_ns();
	watch = sooner(watch, k->renew_ns);
	if (k->stop_ns > 0 && !k->overdue)
		watch = sooner(watch, k->stop_ns + STOP_LIMIT_S * KEEPER_NS_PER_S);
	return watch;
}

/*
 * Wait for a death, a signal, or the next look. seen: events, as before looking. Once the worker is
 * dying, only for one more of its threads: being woken for each takes processor time from the
 * others.
 */
static void wait_for_event(struct keeper *k, uint32_t seen, bool dying)
{
	struct futex_waitv words[STATE_THREADS + 1] = { 0 };
	struct timespec until, *timeout = NULL;
	uint64_t until_ns = dying ? 0 : next_look_ns(k);
	uint32_t n = 0, max = dying ? 2 : k->n_words + 1;

	words[n++] = (struct futex_waitv){ .val = seen,
					   .uaddr = (uintptr_t)&keeper_signals.events,
					   .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG };
	for (uint32_t i = 0; i < k->n_words && n < max; i++) {
		uint32_t word = __atomic_load_n(&k->threads[i].word, __ATOMIC_ACQUIRE);

		if (!(word & FUTEX_OWNER_DIED))
			words[n++] = (struct futex_waitv){ .val = word,
							   .uaddr = (uintptr_t)&k->threads[i].word,
							   .flags = FUTEX_32 };
	}
	if (until_ns > 0) {
		until = (struct timespec){ .tv_sec = (time_t)(until_ns / 1000000000u),
					   .tv_nsec = (long)(until_ns % 1000000000u) };
		timeout = &until;
	}
	syscall(SYS_futex_waitv, words, n, 0, timeout, CLOCK_MONOTONIC);
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
	pass_stop_on();
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
static void renew_ahead(struct keeper *k)
{
	uint64_t now = clock_now_ns();

	if (k->renew_ns == 0 || now < k->renew_ns)
		return;
	k->renew_ns = k->state->ready || k->stop_ns > 0 ? 0 : now + RENEW_AFTER_NS;
	if (k->renew_ns > 0 || k->stop_ns > 0)
		return;
	if (!k->fresh)
		renew(k);
	else
		start_standby(k);
}

/* Returns when the worker has died: its threads' words say so, or it has been reaped. */
static void await_death(struct keeper *k)
{
	for (;;) {
		uint32_t seen = __atomic_load_n(&keeper_signals.events, __ATOMIC_ACQUIRE);
		bool dying;

		reap(k);
		pass_stop_on();
		if (k->reaped || all_threads_dead(k))
			return;
		dying = any_thread_dead(k);
		if (dying) {
			kill(k->worker, SIGKILL);
		} else {
			watchdog(k);
			enforce_stop(k);
			renew_ahead(k);
		}
		wait_for_event(k, seen, dying);
	}
}

void keeper_await_exit(struct keeper *k)
{
	while (!k->reaped) {
		uint32_t seen = __atomic_load_n(&keeper_signals.events, __ATOMIC_ACQUIRE);

		reap(k);
		if (!k->reaped)
			syscall(SYS_futex, &keeper_signals.events, FUTEX_WAIT_PRIVATE, seen, NULL,
				NULL, 0);
	}
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
		start_standby(&k);
	}
	for (;;) {
		r = k.worker ? 0 : start_worker(&k);
		if (r < 0)
			keeper_give_up("no worker can be started", CONTRACT_EXIT_HOST);
		await_death(&k);
		if (!k.reaped)
			kill(k.worker, SIGKILL);
		keeper_judge(&k);
		k.worker = 0;
		if (!k.fresh)
			renew(&k);
	}
}
