/*
 * What the parts of the keeper share: keeper.c has its life, and uses the others.
 *
 *	keeper-start.c	workers and stand-bys are cloned, given their turn, reaped
 *	keeper-watch.c	the worker at work: hangs, stopping, its death
 *	keeper-judge.c	what follows a death: limits, pauses, the end of a session
 *
 * Runs in: keeper. Trusts: as in keeper.h.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "devices/process/keeper.h"
#include "devices/process/state.h"

#define KEEPER_NS_PER_S UINT64_C(1000000000)

enum {
	KEEPER_RENEW_AFTER_NS = 2000000,  /* a start; a recovery is over by then */
	KEEPER_REAP_AFTER_NS = 200000000, /* a start; who died before it is reaped (keeper_reap) */
};

struct keeper {
	const struct program *program;
	struct options *options;
	char *const *argv;
	struct state *state;
	struct state_thread *threads; /* the worker's, in state */
	pid_t worker;		      /* 0: none */
	bool reaped;
	pid_t standby;	   /* cloned ahead for its turn (standby.h); 0: none */
	bool fresh;	   /* no worker that had its turn was cloned from this address space */
	uint64_t renew_ns; /* when to make a fresh one, or a stand-by; 0: never */
	uint32_t n_words;  /* threads of a worker, main thread included */
	uint64_t turn_ns;  /* when the worker had its turn */
	uint64_t stop_ns;  /* since when the worker is to leave; 0: it is not */
	bool overdue;	   /* it has not left, and was killed */
	bool only_drains;  /* it was started to do nothing but that */
	uint64_t still_ns; /* since when a signal has it stand still (SIGSTOP); 0: it does not */
	uint32_t beats[STATE_THREADS];
	uint64_t beat_ns[STATE_THREADS];
};

/* What signals have told. */
struct keeper_signals {
	uint32_t events; /* counts them: the futex that makes signals and deaths one wait */
	volatile sig_atomic_t stop_asked;
	bool stop_passed_on; /* to the worker */
};
extern struct keeper_signals keeper_signals;

/* keeper.c */

/* A fresh state for the next session. 0 or a negative errno. */
int keeper_fresh_state(struct keeper *k, uint32_t generation, uint32_t crash_hits);

/* While the worker is at work, so that nobody waits for it after the next death. */
void keeper_renew_ahead(struct keeper *k);

/* keeper-start.c */

/* The next worker: the stand-by, if there is one, or a new one. 0 or a negative errno. */
int keeper_start_worker(struct keeper *k);

/* The next worker, at work while this one is. Without it, recovery takes a little longer. */
void keeper_start_standby(struct keeper *k);

/* The stand-by, if there is one, is ended and gone. */
void keeper_end_standby(struct keeper *k);

/*
 * Whoever is gone is reaped. That may take long: where somebody has looked at /proc/PID/task (ps,
 * top), it takes the entries away, and spins in the kernel while a thread of the dead one's that
 * was doing the same waits for this very processor, 20 to 200 ms. So a worker whose words say that
 * it is dead is not reaped before the next one has been at work for a while.
 */
void keeper_reap(struct keeper *k);

/* keeper-watch.c */

/* The worker is told to stop, if the keeper has been. */
void keeper_pass_stop_on(void);

/* Returns when the worker has died: its threads' words say so, or it has been reaped. */
void keeper_await_death(struct keeper *k);

/* Returns when the worker is gone, with all its memory. */
void keeper_await_exit(struct keeper *k);

/* keeper-judge.c */

/* Say why, and end the keeper. */
_Noreturn void keeper_give_up(const char *why, int status);

/* Decide by the worker's last word. Returns if another worker is to be started. */
void keeper_judge(struct keeper *k);
