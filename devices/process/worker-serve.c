/* The main thread at work: its loop, and how a session ends. See worker-private.h. */
#include "devices/process/worker-private.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/base/wire.h"
#include "devices/process/fault.h"
#include "devices/process/tell.h"

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

void worker_begin_loop(struct worker *w)
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

bool worker_connected(const struct worker *w)
{
	return session_image(&w->session)->connection != IMAGE_NO_FD;
}

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

void worker_watch_peer(struct worker *w)
{
	if (worker_connected(w))
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
	worker_watch_peer(w);
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

_Noreturn void worker_serve(struct worker *w)
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
_Noreturn void worker_finish_session(struct worker *w)
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
void worker_resume_session(struct worker *w)
{
	if (worker_connected(w))
		serve_peer(w);
}
