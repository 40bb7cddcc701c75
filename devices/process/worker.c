/* The worker's main thread, in the order of worker.h: start, end, loop, life. */
#include "devices/process/worker-private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/crash.h"
#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/base/touch.h"
#include "devices/base/wire.h"
#include "devices/process/aside.h"
#include "devices/process/confine.h"
#include "devices/process/fault.h"
#include "devices/process/rings.h"
#include "devices/process/standby.h"
#include "devices/process/state.h"
#include "devices/process/sweep.h"
#include "devices/process/tell.h"
#include "devices/process/thread.h"

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

static void watch(struct worker *w, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		worker_fail(w, "a descriptor cannot be watched", -errno);
}

static void watch_asked(struct worker *w)
{
	/* Edge-triggered: it needs no read. */
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };

	ev.data.fd = w->asked = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->asked < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->asked, &ev) < 0)
		worker_fail(w, "no event for I/O threads", -errno);
}

static void begin_loop(struct worker *w)
{
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll < 0)
		worker_fail(w, "no event loop", -errno);
	if (w->model->ops->settle)
		watch_asked(w);
	watch(w, CONTRACT_FD_STOP);
	if (w->options->mode == OPTIONS_CONTRACT)
		watch(w, CONTRACT_FD_CONTROL);
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

static bool connected(const struct worker *w)
{
	return session_image(&w->session)->connection != IMAGE_NO_FD;
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

/* End */

static _Noreturn void leave(struct worker *w, enum state_end end)
{
	const struct image *im = session_image(&w->session);

	__atomic_store_n(&w->state->session_over, end, __ATOMIC_RELEASE);
	CRASH_POINT("worker.session_over");
	worker_device_ops.still(&w->model->device, DEVICE_DRAINED);
	CRASH_POINT("worker.drained");
	if (im->connection != IMAGE_NO_FD)
		fd_close(im->connection);
	fault_leave(w->state, end);
}

static _Noreturn void end_session(struct worker *w, enum session_verdict v)
{
	if (v == SESSION_CLOSED) {
		log_info("the front-end has gone");
		tell(CONTRACT_MSG_DISCONNECTED, 0, NULL);
	} else {
		const char *detail = w->session.detail;

		log_warning("request %u of the front-end: %s%s%s; its session is closed",
			    w->session.last_request, session_verdict_to_string(v),
			    detail ? ": " : "", detail ? detail : "");
		tell_text(CONTRACT_MSG_PROTOCOL, "request %u: %s%s%s", w->session.last_request,
			  session_verdict_to_string(v), detail ? ": " : "", detail ? detail : "");
		tell(CONTRACT_MSG_DISCONNECTED, 0, NULL);
	}
	leave(w, w->options->connected ? STATE_END_STOPPED : STATE_END_SESSION);
}

/* Loop */

static void watch_peer(struct worker *w)
{
	if (connected(w))
		watch(w, session_image(&w->session)->connection);
	else if (!w->options->connected)
		watch(w, CONTRACT_FD_LISTEN);
}

static void accept_peer(struct worker *w)
{
	int fd = accept4(CONTRACT_FD_LISTEN, NULL, NULL, SOCK_NONBLOCK);

	if (fd < 0)
		return;
	CRASH_POINT("worker.accepted");
	epoll_ctl(w->epoll, EPOLL_CTL_DEL, CONTRACT_FD_LISTEN, NULL);
	session_connect(&w->session, fd);
	log_info("a front-end has connected");
	tell(CONTRACT_MSG_CONNECTED, 0, NULL);
	watch_peer(w);
}

static void watch_for_room(struct worker *w, bool blocked)
{
	int fd = session_image(&w->session)->connection;
	struct epoll_event ev = { .events = blocked ? EPOLLOUT : EPOLLIN, .data.fd = fd };

	epoll_ctl(w->epoll, EPOLL_CTL_MOD, fd, &ev);
}

static void serve_peer(struct worker *w)
{
	enum session_verdict v;
	bool blocked = false;

	w->state->message_in_hand = 1;
	v = session_step(&w->session, &blocked);
	w->state->message_in_hand = 0;
	w->state->session_faults = 0;
	if (v != SESSION_OK)
		end_session(w, v);
	if (blocked || w->blocked)
		watch_for_room(w, blocked);
	w->blocked = blocked;
}

static void serve_control(struct worker *w)
{
	uint8_t buf[CONTRACT_MSG_MAX_LEN];
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
	struct wire_reader r;

	/*
	 * recvmmsg: the one receiving call of the worker's filter. The message is only looked at:
	 * should this worker be killed before it has stopped, the next one finds it too.
	 */
	if (syscall(SYS_recvmmsg, CONTRACT_FD_CONTROL, &m, 1, MSG_DONTWAIT | MSG_PEEK, NULL) < 0)
		return;
	r = wire_reader(buf, m.msg_len);
	if (m.msg_len == 0) { /* vmdevd has gone; the device goes on */
		epoll_ctl(w->epoll, EPOLL_CTL_DEL, CONTRACT_FD_CONTROL, NULL);
		return;
	}
	if (wire_get_u32(&r) == CONTRACT_MSG_STOP && wire_done(&r)) {
		CRASH_POINT("worker.stop_seen");
		leave(w, STATE_END_STOPPED);
	}
	syscall(SYS_recvmmsg, CONTRACT_FD_CONTROL, &m, 1, MSG_DONTWAIT, NULL);
	log_warning("a message of vmdevd that this version does not know");
}

void worker_ask_settle(struct worker *w)
{
	uint64_t one = 1;

	/* A full counter has been asked already. */
	if (write(w->asked, &one, sizeof(one)) < 0)
		return;
}

static void settle(struct worker *w)
{
	worker_device_ops.still(&w->model->device, DEVICE_PAUSED);
	w->model->ops->settle(&w->model->device);
	thread_run(w->threads, w->n_threads);
}

static void serve_event(struct worker *w, int fd)
{
	if (fd == CONTRACT_FD_STOP)
		leave(w, STATE_END_STOPPED);
	if (w->model->ops->settle && fd == w->asked) {
		settle(w);
		return;
	}
	if (fd == CONTRACT_FD_CONTROL)
		serve_control(w);
	else if (fd == CONTRACT_FD_LISTEN)
		accept_peer(w);
	else
		serve_peer(w);
}

static _Noreturn void serve(struct worker *w)
{
	struct state_thread *me = &w->shared[0];

	for (;;) {
		struct epoll_event ev;
		int n;

		state_thread_blocks(me);
		n = epoll_wait(w->epoll, &ev, 1, -1);
		state_thread_goes_on(me);
		__atomic_store_n(&me->beat, me->beat + 1, __ATOMIC_RELAXED);
		if (n == 1)
			serve_event(w, ev.data.fd);
	}
}

/* No ring runs any more, only the fence is kept; the keeper closes what the session had open. */
static _Noreturn void finish_session(struct worker *w)
{
	worker_release_threads(w);
	worker_device_ops.still(&w->model->device, DEVICE_DRAINED);
	tell(CONTRACT_MSG_DISCONNECTED, 0, NULL);
	if (w->state->session_over == STATE_END_STOPPED || w->options->connected)
		fault_leave(w->state, STATE_END_STOPPED);
	fault_leave(w->state, STATE_END_SESSION);
}

/*
 * The last worker may have received a message, or committed a reply, that no event of the socket
 * will tell of.
 */
static void resume_session(struct worker *w)
{
	if (connected(w))
		serve_peer(w);
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
	begin_loop(w);
	if (!aside_shut_out(w->state))
		fault_leave(w->state, STATE_END_STATE);
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
		finish_session(w);
	worker_device_ops.apply(&w->model->device, session_image(&w->session));
	__atomic_store_n(&w->state->ready, 1, __ATOMIC_RELEASE);
	worker_release_threads(w);
	tell(CONTRACT_MSG_READY, 1, &generation);
	/* The last worker may have died before it told. */
	if (connected(w))
		tell(CONTRACT_MSG_CONNECTED, 0, NULL);
	watch_peer(w);
	resume_session(w);
	serve(w);
}
