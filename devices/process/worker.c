/* The worker's life, as its main thread lives it, in the order of worker.h. */
#include "devices/process/worker-private.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/log.h"
#include "devices/base/touch.h"
#include "devices/process/aside.h"
#include "devices/process/confine.h"
#include "devices/process/fault.h"
#include "devices/process/standby.h"
#include "devices/process/sweep.h"
#include "devices/process/tell.h"

struct worker the_worker;

/* Ahead of its turn a worker leaves no word: the next one will try the same, and say so. */
_Noreturn void worker_leave_early(struct worker *w, enum state_end end)
{
	if (w->ahead)
		syscall(SYS_exit_group, CONTRACT_EXIT_HOST);
	fault_leave(w->state, end);
}

_Noreturn void worker_fail(struct worker *w, const char *what, int error)
{
	log_error("%s%s: %s", w->ahead ? "stand-by: " : "", what, strerror(-error));
	if (!w->ahead)
		tell_text(CONTRACT_MSG_FAILED, "%s: %s", what, strerror(-error));
	worker_leave_early(w, STATE_END_HOST);
}

/* Start */

static void open_state(struct worker *w)
{
	uint64_t part_len = w->program->state_len;

	w->state = state_map(part_len);
	if (w->state && part_len > 0)
		w->part = state_map_device(part_len);
	if (!w->state || (part_len > 0 && !w->part)) {
		log_error("state cannot be mapped: %s", strerror(errno));
		syscall(SYS_exit_group,
			errno == EBADMSG ? CONTRACT_EXIT_STATE : CONTRACT_EXIT_HOST);
	}
	w->shared = state_threads(w->state, w->options->resume.generation);
}

static void begin_process(struct worker *w)
{
	int r;

	prctl(PR_SET_NAME, w->ahead ? "vmdev-standby" : "vmdev-worker", 0, 0, 0);
	/* Should the keeper of a program run by hand die, nobody would start the next worker. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (w->options->mode == OPTIONS_ARRANGED && getppid() != w->options->keeper)
		syscall(SYS_exit_group, CONTRACT_EXIT_HOST);
	r = fault_thread_init(0);
	if (r == 0)
		r = state_register(w->shared);
	if (r == 0 && w->program->begin)
		r = w->program->begin();
	if (r < 0)
		worker_fail(w, "the worker cannot be prepared", r);
}

/*
 * The session as the last worker left it. A socket that it had accepted and not yet committed is
 * still in the table: without a session, no other socket can be.
 */
static void load_session(struct worker *w)
{
	struct image_store *store = &w->state->session;
	bool fresh = w->state->session_begun == 0;
	enum session_loaded loaded;
	int stray;

	if (fresh) {
		session_store_init(store, &w->model->device);
		__atomic_store_n(&w->state->session_begun, 1, __ATOMIC_RELEASE);
	}
	loaded = session_load(&w->session, store, &w->model->device, &w->memory,
			      CONTRACT_FD_SESSION, (int)w->program->fd_limit);
	if (loaded == SESSION_UNUSABLE) {
		log_error("state does not pass its checks");
		fault_leave(w->state, STATE_END_STATE);
	}
	if (loaded == SESSION_MEMORY_GONE) {
		log_warning("guest memory cannot be mapped any more; the session is closed");
		w->state->session_over = STATE_END_SESSION;
		return;
	}
	w->session.inflight_fd = CONTRACT_FD_INFLIGHT;
	w->session.inflight_offset = rings_region_len(w->options->queues, w->options->queue_size);
	stray = sweep_session(&w->session, w->model, fresh && w->options->connected);
	if (stray >= 0)
		session_connect(&w->session, stray);
}

/* The device type's part of the state. Not if the session is over: it is not looked at any more. */
static void attach_model(struct worker *w)
{
	int r;

	if (!w->model->ops->attach || w->state->session_over)
		return;
	r = w->model->ops->attach(&w->model->device, w->part);
	if (r == -EBADMSG) {
		log_error("the device's part of the state does not pass its checks");
		fault_leave(w->state, STATE_END_STATE);
	}
	if (r < 0)
		worker_fail(w, "the device's part of the state cannot be used", r);
}

static void open_rings(struct worker *w)
{
	const struct rings_spec spec = { .n_threads = w->n_threads,
					 .n_queues = w->options->queues,
					 .queue_size = w->options->queue_size,
					 .thread_of = w->program->thread_of };
	int r = rings_init(&w->rings, w->state, &w->memory, w->threads, w->model, &spec);

	if (r < 0)
		worker_fail(w, "the in-flight region cannot be mapped", r);
}

static void create_model(struct worker *w, void *config)
{
	w->model = w->program->create(config, w->options);
	if (!w->model) {
		if (!w->ahead)
			tell_text(CONTRACT_MSG_FAILED, "the device cannot be set up: see its log");
		worker_leave_early(w, STATE_END_HOST);
	}
	w->model->device.ops = &worker_device_ops;
}

static void begin_faults(struct worker *w)
{
	int r = fault_init();

	if (r < 0)
		worker_fail(w, "the worker cannot be prepared", r);
}

/* The worker of this generation is at work from here on. */
static void begin_turn(struct worker *w)
{
	w->ahead = false;
	crash_arm(&w->state->crash_hits);
	fault_begin(w->state, w->shared, &w->memory);
}

/* What the turn will write first. */
static void touch_all(struct worker *w)
{
	touch(&w->session, sizeof(w->session));
	touch(&w->memory, sizeof(w->memory));
	sweep_prepare(w->program->fd_limit);
	rings_touch(&w->rings);
}

static void stand_by(struct worker *w)
{
	touch_all(w);
	worker_await_threads(w);
	begin_faults(w);
	standby_await_turn();
	prctl(PR_SET_NAME, "vmdev-worker", 0, 0, 0);
	begin_turn(w);
}

/* What the last worker's end has no part in: worker.h, 1 to 4. */
static void prepare(struct worker *w, void *config)
{
	open_state(w);
	if (!w->ahead) {
		begin_faults(w);
		begin_turn(w);
	}
	begin_process(w);
	/* Threads take a while to appear; what they will serve is opened meanwhile. */
	worker_start_threads(w);
	worker_start_aside(w);
	create_model(w, config);
	open_rings(w);
	worker_prepare_threads(w);
}

/* What it left: worker.h, 5 to 7. */
static void take_over(struct worker *w)
{
	state_raise_suspicion(w->state, w->options->queues);
	attach_model(w);
	if (w->state->session_faults >= WORKER_POISON_LIMIT)
		w->state->session_over = STATE_END_SESSION;
	if (!w->state->session_over)
		load_session(w);
	worker_begin_loop(w);
	aside_close_gate(w->state);
	worker_open_threads(w);
}

_Noreturn void worker_main(const struct program *program, const struct options *o, void *config,
			   bool ahead)
{
	struct worker *w = &the_worker;
	uint32_t generation = o->resume.generation;
	int r;

	w->program = program;
	w->options = o;
	w->n_threads = o->resume.n_threads;
	uring_narrow(o->uring_opcodes);
	w->ahead = ahead;
	prepare(w, config);
	if (ahead)
		stand_by(w);
	take_over(w);
	if (!ahead)
		worker_await_threads(w);
	r = confine_worker(o->mode == OPTIONS_CONTRACT);
	if (r < 0)
		worker_fail(w, "the worker's system call filter cannot be installed", r);
	/* The threads wait to be released: rings can be attached though none stands still. */
	if (w->state->session_over)
		worker_finish_session(w);
	worker_device_ops.apply(&w->model->device, session_image(&w->session));
	__atomic_store_n(&w->state->ready, 1, __ATOMIC_RELEASE);
	worker_release_threads(w);
	tell(CONTRACT_MSG_READY, 1, &generation);
	/* The last worker may have died before it told. */
	if (worker_connected(w))
		tell(CONTRACT_MSG_CONNECTED, 0, NULL);
	worker_watch_peer(w);
	worker_resume_session(w);
	worker_serve(w);
}
