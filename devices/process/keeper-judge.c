/* What follows a death: is it counted, is there another worker, when. See keeper-private.h. */
#include "devices/process/keeper-private.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/lock.h"
#include "devices/base/log.h"
#include "devices/process/contract.h"
#include "devices/process/tell.h"

enum {
	FREE_FAULTS = 3, /* restarts without delay: what poison needs to be found out */
	STILLBORN_LIMIT = 3,
	MAX_BACKOFF_SHIFT = 7,
	SESSION_NS = 10000000, /* that each takes up; it costs some of processor time */
	SESSIONS_AHEAD_NS = 64 * SESSION_NS,
};

_Noreturn void keeper_give_up(const char *why, int status)
{
	log_error("%s", why);
	tell_text(CONTRACT_MSG_FAILED, "%s", why);
	_exit(status);
}

static uint64_t answered(const struct keeper *k)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < k->n_words; i++)
		n += k->threads[i].completed;
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

/* Or until the device is to stop. */
static void pause_ns(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / KEEPER_NS_PER_S),
			       .tv_nsec = (long)(ns % KEEPER_NS_PER_S) };

	while (!keeper_signals.stop_asked && nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

static void back_off(const struct keeper *k)
{
	uint32_t n = k->options->resume.n_faults;
	uint32_t shift;
	uint64_t ns;

	if (n <= FREE_FAULTS || k->options->restart_backoff_ns == 0)
		return;
	shift = n - FREE_FAULTS - 1 < MAX_BACKOFF_SHIFT ? n - FREE_FAULTS - 1 : MAX_BACKOFF_SHIFT;
	ns = k->options->restart_backoff_ns << shift;
	log_warning("%u crashes: waiting %llu ms before the next start", n,
		    (unsigned long long)(ns / 1000000u));
	pause_ns(ns);
}

/*
 * A session ends when the front-end wants it to, and costs a worker and a fresh state: sessions
 * without end would cost a processor. A worker that a guest owns can end them, too.
 */
static void pay_for_session(struct keeper *k)
{
	uint64_t *paid = &k->options->resume.sessions_paid_ns, now = clock_now_ns();

	*paid = (*paid > now ? *paid : now) + SESSION_NS;
	if (*paid > now + SESSIONS_AHEAD_NS)
		pause_ns(*paid - now - SESSIONS_AHEAD_NS);
}

static void tell_death(struct keeper *k, bool fault)
{
	const struct state_fault *f = &k->state->fault;
	uint32_t fields[] = { k->options->resume.generation, fault ? f->signo : SIGKILL, 0,
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
		keeper_give_up("workers die before they serve: the state is given up",
			       CONTRACT_EXIT_STATE);
	if (!within_limit(k, fault))
		keeper_give_up("too many crashes: the device is given up", CONTRACT_EXIT_LIMIT);
	back_off(k);
}

/* Between sessions: nothing of the last one is left, not even its descriptors. */
static void begin_new_session(struct keeper *k)
{
	uint32_t hits = k->state->crash_hits;
	int r;

	keeper_end_standby(k); /* it has the old state mapped */
	keeper_await_exit(k);
	pay_for_session(k);
	for (int fd = CONTRACT_FD_RING; k->program->uses_rings && fd <= CONTRACT_FD_RING_MAX; fd++)
		dup2(0, fd);
	close_range(CONTRACT_FD_SESSION, ~0u, 0);
	munmap(k->state, sizeof(*k->state));
	r = keeper_fresh_state(k, k->options->resume.generation, hits);
	if (r < 0)
		keeper_give_up("no state for the next session", CONTRACT_EXIT_HOST);
}

/*
 * All I/O has drained. By hand, who starts the device again at once shall find it free: its I/O
 * rings hold what they have used for a while after the last process has gone, and the locks on it.
 */
static void give_back(const struct options *o)
{
	if (o->mode != OPTIONS_ARRANGED)
		return;
	for (int fd = CONTRACT_FD_RESOURCE; fd <= CONTRACT_FD_RESOURCE_MAX; fd++)
		lock_release(fd);
	if (o->socket_path)
		unlink(o->socket_path);
}

/* Decide by the worker's last word. Returns if another worker is to be started. */
void keeper_judge(struct keeper *k)
{
	switch ((enum state_end)k->state->end) {
	case STATE_END_STOPPED:
		keeper_end_standby(k);
		keeper_await_exit(k);
		give_back(k->options);
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
	if (k->overdue)
		return;
	k->state->died_ns = clock_now_ns();
	judge_crash(k);
}
