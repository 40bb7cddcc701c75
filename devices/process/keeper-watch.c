/* The worker at work is watched, and its death noticed. See keeper-private.h and keeper.h. */
#include "devices/process/keeper-private.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/crash.h"
#include "devices/base/log.h"
#include "devices/process/contract.h"

enum {
	STOP_LIMIT_S = 15,	   /* to drain and leave; less than vmdevd gives the device */
	WATCH_PARTS = 4,	   /* the watchdog looks this often in a hang-timeout */
	START_MIN_NS = 1000000000, /* a worker has at least so long until it is ready */
};

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

/*
 * A worker that somebody has stopped (SIGSTOP) makes no progress either, but a thread of it that
 * waits for work looks as if it went on waiting.
 */
static void see_stop(struct keeper *k, uint64_t now)
{
	int status;

	if (waitpid(k->worker, &status, WNOHANG | WUNTRACED | WCONTINUED) != k->worker)
		return;
	k->still_ns = WIFSTOPPED(status) ? now : 0;
	k->reaped = !WIFSTOPPED(status) && !WIFCONTINUED(status);
}

static bool stands_still(const struct keeper *k, uint64_t now)
{
	return k->still_ns > 0 && now - k->still_ns >= k->options->hang_timeout_ns;
}

static void watchdog(struct keeper *k)
{
	uint64_t now = clock_now_ns();

	if (k->options->hang_timeout_ns == 0)
		return;
	see_stop(k, now);
	if (k->reaped)
		return;
	if (stands_still(k, now)) {
		log_error("the worker stands still: killed");
		k->state->fault = (struct state_fault){ .signo = SIGKILL };
		kill(k->worker, SIGKILL);
		k->still_ns = 0;
		return;
	}
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

void keeper_pass_stop_on(void)
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
	if (clock_now_ns() < k->turn_ns + KEEPER_REAP_AFTER_NS)
		watch = sooner(watch, k->turn_ns + KEEPER_REAP_AFTER_NS);
	if (k->stop_ns > 0 && !k->overdue)
		watch = sooner(watch, k->stop_ns + STOP_LIMIT_S * KEEPER_NS_PER_S);
	return watch;
}

/*
 * Wait for a death, a signal, or the next look. seen: events, as before looking. Once the worker is
 * dying, only for one more of its threads: being woken for each takes processor time from the
 * others. Not at all if the last of them has died since they were looked at: no word would tell.
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
	if (n == 1)
		return;
	if (until_ns > 0) {
		until = (struct timespec){ .tv_sec = (time_t)(until_ns / 1000000000u),
					   .tv_nsec = (long)(until_ns % 1000000000u) };
		timeout = &until;
	}
	syscall(SYS_futex_waitv, words, n, 0, timeout, CLOCK_MONOTONIC);
}

/* Earlier ones are, too, when it is time. */
static bool is_reaped(struct keeper *k)
{
	if (clock_now_ns() >= k->turn_ns + KEEPER_REAP_AFTER_NS)
		keeper_reap(k);
	else if (!k->reaped)
		k->reaped = waitpid(k->worker, NULL, WNOHANG) == k->worker;
	return k->reaped;
}

/* Returns when the worker has died: its threads' words say so, or it has been reaped. */
void keeper_await_death(struct keeper *k)
{
	for (;;) {
		uint32_t seen = __atomic_load_n(&keeper_signals.events, __ATOMIC_ACQUIRE);
		bool dying;

		keeper_pass_stop_on();
		if (all_threads_dead(k) || is_reaped(k))
			return;
		STALL_POINT("keeper.looked");
		dying = any_thread_dead(k);
		if (dying) {
			kill(k->worker, SIGKILL);
		} else {
			watchdog(k);
			enforce_stop(k);
			keeper_renew_ahead(k);
		}
		wait_for_event(k, seen, dying);
	}
}

void keeper_await_exit(struct keeper *k)
{
	while (!k->reaped) {
		uint32_t seen = __atomic_load_n(&keeper_signals.events, __ATOMIC_ACQUIRE);

		keeper_reap(k);
		if (!k->reaped)
			syscall(SYS_futex, &keeper_signals.events, FUTEX_WAIT_PRIVATE, seen, NULL,
				NULL, 0);
	}
}
