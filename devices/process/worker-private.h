/*
 * What the parts of the worker's main thread share: worker.c has its life, and uses the others.
 *
 *	worker-threads.c	the I/O threads and the companion: started, prepared, released
 *	worker-device.c		what the session asks of us
 *	worker-serve.c		its loop: front-end and vmdevd; the end of a session
 *
 * Runs in: worker's main thread. Trusts: as in worker.h.
 */
#pragma once

#include "devices/process/rings.h"
#include "devices/process/state.h"
#include "devices/process/thread.h"
#include "devices/process/worker.h"
#include "devices/vhost/session.h"

struct worker {
	const struct program *program;
	const struct options *options;
	bool ahead; /* another worker is at work, it is not our turn yet */
	struct model *model;
	struct state *state;
	struct state_thread *shared; /* its threads' words; the main thread's is the first */
	void *part;		     /* the device type's part of it; NULL: none */
	struct memory memory;
	struct session session;
	struct rings rings;
	int epoll;
	int asked;    /* eventfd: an I/O thread wants the model to settle something */
	bool blocked; /* waiting for room to send a reply */
	uint32_t n_threads;
	uint32_t n_prepared; /* threads that are; futex */
	uint32_t prepare_result;
	uint32_t go; /* futex: threads may serve */
	uint32_t n_resumed;
	struct thread threads[CONTRACT_MAX_THREADS];
};

/* One worker a process. Static: nothing in a worker is allocated after its start. */
extern struct worker the_worker;

/* worker.c */

/* Ahead of its turn a worker leaves no word: the next one will try the same, and say so. */
_Noreturn void worker_leave_early(struct worker *w, enum state_end end);

/* The host failed: say at what, and leave. */
_Noreturn void worker_fail(struct worker *w, const char *what, int error);

/* worker-threads.c: in the order of worker.h. What fails ends the worker. */
void worker_start_threads(struct worker *w);
void worker_start_aside(struct worker *w);
void worker_prepare_threads(struct worker *w);
void worker_await_threads(struct worker *w);
void worker_open_threads(struct worker *w);
void worker_release_threads(struct worker *w);

/* worker-device.c */
extern const struct device_ops worker_device_ops;

/* worker-serve.c */

/* Has a front-end connected? */
bool worker_connected(const struct worker *w);

/* What it waits with; what would make it leave is watched from here on. */
void worker_begin_loop(struct worker *w);

/* The front-end, or the next one, is watched too. */
void worker_watch_peer(struct worker *w);

/*
 * The last worker may have received a message, or committed a reply, that no event of the socket
 * will tell of.
 */
void worker_resume_session(struct worker *w);

/* Serve until the session ends; then leave. */
_Noreturn void worker_serve(struct worker *w);

/* No ring runs any more, only the fence is kept; the keeper closes what the session had open. */
_Noreturn void worker_finish_session(struct worker *w);
