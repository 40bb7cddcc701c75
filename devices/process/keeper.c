/* The keeper's loop: start a worker, await its death, judge it, renew. See keeper.h. */
#include "devices/process/keeper.h"

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
#include "devices/process/rings.h"
#include "devices/process/state.h"
#include "devices/process/tell.h"
#include "devices/process/worker.h"

enum {
	FREE_FAULTS = 3, /* restarts without delay: what poison needs to be found out */
	STILLBORN_LIMIT = 3,
	MAX_BACKOFF_SHIFT = 7,
	WATCH_PARTS = 4, /* the watchdog looks this often in a hang-timeout */
};

struct keeper {
	const struct program *program;
	struct options *options;
	char *const *argv;
	struct state *state;
	pid_t worker;
	bool reaped;
	uint32_t n_words; /* threads of a worker, main thread included */
	uint32_t beats[STATE_THREADS];
	uint64_t beat_ns[STATE_THREADS];
};

/* Incremented by every signal: the futex that makes signals and deaths one wait without a race. */
static uint32_t events;
static volatile sig_atomic_t stop_asked;

static void on_signal(int signo)
{
	if (signo != SIGCHLD)
		stop_asked = 1;
	__atomic_add_fetch(&events, 1, __ATOMIC_RELEASE);
}

/* Set-up */

static void set_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

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

static uint32_t count_threads(const struct options *o)
{
	cpu_set_t cpus;
	uint32_t n = 1;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		n = (uint32_t)CPU_COUNT(&cpus);
	if (n > o->queues)
		n = o->queues;
	return n < CONTRACT_MAX_THREADS ? n : CONTRACT_MAX_THREADS;
}

static int fresh_state(struct keeper *k, uint32_t generation, uint32_t crash_hits)
{
	const struct options *o = k->options;
	int r = state_create(rings_memfd_len(o->queues, o->queue_size), generation);

	if (r < 0)
		return r;
	k->state = state_map();
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
	*resume = (struct options_resume){ .set = true, .n_threads = count_threads(k->options) };
	return fresh_state(k, 0, 0);
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

static int start_worker(struct keeper *k)
{
	state_next_generation(k->state);
	k->options->resume.generation = k->state->generation;
	memset(k->beats, 0, sizeof(k->beats));
	memset(k->beat_ns, 0, sizeof(k->beat_ns));
	k->reaped = false;
	k->options->keeper = getpid();
	k->worker = clone_sharing_files();
	if (k->worker < 0)
		return -errno;
	if (k->worker == 0) {
		reset_signals();
		munmap(k->state, sizeof(*k->state));
		worker_main(k->program, k->options, k->program->config);
	}
	return 0;
}

/* Earlier workers are reaped here too, when they are at last gone. */
static void reap(struct keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != k->worker)
			continue;
		k->reaped = true;
	}
}

static bool all_threads_dead(const struct keeper *k)
{
	for (uint32_t i = 0; i < k->n_words; i++)
		if (!state_thread_dead(k->state, i))
			return false;
	return true;
}

static bool any_thread_dead(const struct keeper *k)
{
	for (uint32_t i = 0; i < k->n_words; i++)
		if (state_thread_dead(k->state, i))
			return true;
	return false;
}

/* A thread that is at work and has made no turn for too long. */
static bool hangs(struct keeper *k, uint32_t i, uint64_t now)
{
	const struct state_thread *t = &k->state->thread[i];
	uint32_t beat = __atomic_load_n(&t->beat, __ATOMIC_RELAXED);

	if (beat != k->beats[i] || __atomic_load_n(&t->idle, __ATOMIC_RELAXED) ||
	    k->beat_ns[i] == 0) {
		k->beats[i] = beat;
		k->beat_ns[i] = now;
		return false;
	}
	return now - k->beat_ns[i] >= k->options->hang_timeout_ns;
}

static void watchdog(struct keeper *k)
{
	uint64_t now = clock_now_ns();

	if (k->options->hang_timeout_ns == 0 || !k->state->ready)
		return;
	for (uint32_t i = 0; i < k->n_words; i++) {
		if (!hangs(k, i, now))
			continue;
		log_error("the worker hangs (thread %u): killed", i);
		k->state->fault = (struct state_fault){ .signo = SIGKILL, .thread = i };
		kill(k->worker, SIGKILL);
		return;
	}
}

static void pass_stop_on(void)
{
	uint64_t one = 1;

	if (stop_asked && write(CONTRACT_FD_STOP, &one, sizeof(one)) > 0)
		stop_asked = 0;
}

/* Wait for a death, a signal, or the watchdog's next look. seen: events, as before looking. */
static void wait_for_event(struct keeper *k, uint32_t seen)
{
	struct futex_waitv words[STATE_THREADS + 1] = { 0 };
	struct timespec until, *timeout = NULL;
	uint32_t n = 0;

	words[n++] = (struct futex_waitv){ .val = seen,
					   .uaddr = (uintptr_t)&events,
					   .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG };
	for (uint32_t i = 0; i < k->n_words; i++) {
		uint32_t word = __atomic_load_n(&k->state->thread[i].word, __ATOMIC_ACQUIRE);

		if (!(word & FUTEX_OWNER_DIED))
			words[n++] =
				(struct futex_waitv){ .val = word,
						      .uaddr = (uintptr_t)&k->state->thread[i].word,
						      .flags = FUTEX_32 };
	}
	if (k->options->hang_timeout_ns) {
		uint64_t t = clock_now_ns() + k->options->hang_timeout_ns / WATCH_PARTS;

		until = (struct timespec){ .tv_sec = (time_t)(t / 1000000000u),
					   .tv_nsec = (long)(t % 1000000000u) };
		timeout = &until;
	}
	syscall(SYS_futex_waitv, words, n, 0, timeout, CLOCK_MONOTONIC);
}

/* Returns when the worker has died: its threads' words say so, or it has been reaped. */
static void await_death(struct keeper *k)
{
	for (;;) {
		uint32_t seen = __atomic_load_n(&events, __ATOMIC_ACQUIRE);

		reap(k);
		pass_stop_on();
		if (k->reaped || all_threads_dead(k))
			return;
		if (any_thread_dead(k))
			kill(k->worker, SIGKILL);
		else
			watchdog(k);
		wait_for_event(k, seen);
	}
}

static void await_exit(struct keeper *k)
{
	while (!k->reaped) {
		uint32_t seen = __atomic_load_n(&events, __ATOMIC_ACQUIRE);

		reap(k);
		if (!k->reaped)
			syscall(SYS_futex, &events, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	}
}

/* What follows a death */

static uint64_t answered(const struct keeper *k)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < k->n_words; i++)
		n += k->state->thread[i].completed;
	return n;
}

/* Count a death that is to be counted; false: the limit is reached. */
static bool within_limit(struct keeper *k, bool fault)
{
	struct options_resume *r = &k->options->resume;
	uint64_t now = clock_now_ns();

	if (!fault && answered(k) > 0)
		return true;
	if (now - r->interval_start_ns >= k->options->restart_interval_ns) {
		r->interval_start_ns = now;
		r->n_faults = 0;
	}
	return ++r->n_faults <= k->options->restart_limit;
}

static void back_off(const struct keeper *k)
{
	uint32_t n = k->options->resume.n_faults;
	uint32_t shift;
	uint64_t ns;
	struct timespec ts;

	if (n <= FREE_FAULTS || k->options->restart_backoff_ns == 0)
		return;
	shift = n - FREE_FAULTS - 1 < MAX_BACKOFF_SHIFT ? n - FREE_FAULTS - 1 : MAX_BACKOFF_SHIFT;
	ns = k->options->restart_backoff_ns << shift;
	ts = (struct timespec){ .tv_sec = (time_t)(ns / 1000000000u),
				.tv_nsec = (long)(ns % 1000000000u) };
	log_warning("%u crashes: waiting %llu ms before the next start", n,
		    (unsigned long long)(ns / 1000000u));
	while (!stop_asked && nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

static void tell_death(struct keeper *k, bool fault)
{
	const struct state_fault *f = &k->state->fault;
	uint32_t fields[] = { k->state->generation, fault ? f->signo : SIGKILL, 0,
			      fault ? f->syscall : 0 };

	if (fault && f->syscall)
		log_error("worker %u: system call %u is not allowed by its filter", fields[0],
			  f->syscall - 1);
	else if (fault)
		log_error("worker %u died of signal %u (code %d, address %#llx, thread %u)",
			  fields[0], f->signo, f->code, (unsigned long long)f->address, f->thread);
	else
		log_notice("worker %u was killed from outside", fields[0]);
	tell(CONTRACT_MSG_DIED, 4, fields);
}

static _Noreturn void give_up(const char *why, int status)
{
	log_error("%s", why);
	tell_text(CONTRACT_MSG_FAILED, "%s", why);
	_exit(status);
}

static bool is_fault(const struct keeper *k)
{
	return k->state->end == STATE_END_FAULT ||
	       (k->state->end == STATE_END_NONE && k->state->fault.signo &&
		!k->state->fault.counted);
}

/* A worker that died without having meant to. */
static void judge_crash(struct keeper *k)
{
	struct options_resume *r = &k->options->resume;
	bool fault = is_fault(k);

	tell_death(k, fault);
	r->n_stillborn = k->state->ready ? 0 : r->n_stillborn + 1;
	if (r->n_stillborn >= STILLBORN_LIMIT)
		give_up("workers die before they serve: the state is given up",
			CONTRACT_EXIT_STATE);
	if (!within_limit(k, fault))
		give_up("too many crashes: the device is given up", CONTRACT_EXIT_LIMIT);
	back_off(k);
}

/* Between sessions: nothing of the last one is left, not even its descriptors. */
static void begin_new_session(struct keeper *k)
{
	uint32_t generation = k->state->generation;
	uint32_t hits = k->state->crash_hits;
	int r;

	await_exit(k);
	for (int fd = CONTRACT_FD_RING; fd <= CONTRACT_FD_RING_MAX; fd++)
		dup2(0, fd);
	close_range(CONTRACT_FD_SESSION, ~0u, 0);
	munmap(k->state, sizeof(*k->state));
	r = fresh_state(k, generation, hits);
	if (r < 0)
		give_up("no state for the next session", CONTRACT_EXIT_HOST);
}

/* Decide by the worker's last word. Returns if another worker is to be started. */
static void judge(struct keeper *k)
{
	switch ((enum state_end)k->state->end) {
	case STATE_END_STOPPED:
		await_exit(k);
		if (k->options->mode == OPTIONS_ARRANGED && k->options->socket_path)
			unlink(k->options->socket_path);
		_exit(CONTRACT_EXIT_STOPPED);
	case STATE_END_SESSION:
		begin_new_session(k);
		return;
	case STATE_END_MEMORY:
		log_warning(
			"guest memory vanished (its file was truncated): the session is closed");
		k->state->session_over = STATE_END_SESSION;
		k->state->died_ns = 0;
		return;
	case STATE_END_STATE:
		_exit(CONTRACT_EXIT_STATE);
	case STATE_END_HOST:
		_exit(CONTRACT_EXIT_HOST);
	case STATE_END_NONE:
	case STATE_END_FAULT:
		break;
	}
	k->state->died_ns = clock_now_ns();
	judge_crash(k);
}

/* Handlers do not outlive an exec: signals that come meanwhile wait until they are there again. */
static void hold_signals(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(how, &set, NULL);
}

/* A fresh address space for the next worker. Returns only if that fails; then this one must do. */
static void renew(struct keeper *k)
{
	extern char **environ;
	char *const *args = options_for_exec(k->argv, k->options);

	hold_signals(SIG_BLOCK);
	pass_stop_on();
	syscall(SYS_execveat, CONTRACT_FD_PROGRAM, "", args, environ, AT_EMPTY_PATH);
	log_warning("the program cannot be executed again: %s", strerror(errno));
	hold_signals(SIG_UNBLOCK);
}

int keeper_main(const struct program *program, struct options *o, char *const *argv)
{
	struct keeper k = { .program = program, .options = o, .argv = argv };
	int r = 0;

	prctl(PR_SET_NAME, "vmdev-keeper", 0, 0, 0);
	/* No worker may trace the keeper or read its memory; an exec makes it dumpable again. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	set_signals();
	hold_signals(SIG_UNBLOCK);
	tell_enable(o->mode == OPTIONS_CONTRACT);
	if (!o->resume.set) {
		r = first_start(&k);
	} else {
		k.state = state_map();
		r = k.state ? 0 : -errno;
	}
	if (r < 0)
		give_up("the keeper cannot prepare itself", CONTRACT_EXIT_HOST);
	k.n_words = o->resume.n_threads + 1;
	for (;;) {
		r = start_worker(&k);
		if (r < 0)
			give_up("no worker can be started", CONTRACT_EXIT_HOST);
		await_death(&k);
		if (!k.reaped)
			kill(k.worker, SIGKILL);
		judge(&k);
		renew(&k);
	}
}
