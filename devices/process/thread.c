/* The I/O thread: one turn, standing still, its start. See thread.h. */
#include "devices/process/thread-private.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/log.h"
#include "devices/base/touch.h"
#include "devices/process/aside.h"
#include "devices/process/fault.h"
#include "devices/process/worker.h"

enum {
	STACK_LEN = 256 << 10,
	LOOK_NS = 20000, /* between looks at the model's descriptors while there is other work */
};

static void futex_wait(uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* Take completions; results become visible before they are taken off the CQ. */
uint32_t thread_reap_ring(struct thread *t, struct uring *u)
{
	bool fenced = u == &t->aside ? t->aside_fenced : t->fenced;
	struct device *d = &t->model->device;
	uint32_t n = uring_peek(u, t->completions, THREAD_MAX_COMPLETIONS);

	for (uint32_t i = 0; i < n; i++) {
		const struct uring_completion *c = &t->completions[i];

		if (fenced)
			t->model->ops->recover(d, t, c->tag, c->res);
		else
			t->model->ops->complete(d, t, c->tag, c->res);
	}
	thread_publish(t);
	if (n > 0)
		uring_advance(u, n);
	return n;
}

uint32_t thread_reap(struct thread *t)
{
	return thread_reap_ring(t, &t->uring) + thread_reap_ring(t, &t->aside);
}

/* Its notifications are on from when it was disabled, or are by what discards. */
static uint32_t discard(struct thread *t, struct vring *r)
{
	struct model *m = t->model;
	uint32_t n;

	if (!r->kicked || r->enabled || !m->ops->discard || !thread_may_take(r))
		return 0;
	n = m->ops->discard(&m->device, t, r);
	if (n == 0)
		r->kicked = queue_enable_notify(&r->queue);
	return n > 0 || r->kicked;
}

static uint32_t take(struct thread *t)
{
	uint32_t n = 0;

	t->retry_ns = t->tick_ns = 0;
	for (uint32_t i = 0; i < t->n_vrings; i++) {
		struct vring *r = t->vrings[i];

		if (thread_serves(r))
			n += t->model->ops->take(&t->model->device, t, r);
		else
			n += discard(t, r);
		thread_tell_broken(r);
	}
	return n;
}

bool thread_has_room(const struct thread *t)
{
	return !t->uring.open || (uring_room(&t->uring) > 0 && uring_room(&t->aside) > 0);
}

bool thread_is_wanted(struct thread *t, enum device_stillness s)
{
	return __atomic_load_n(&t->want, __ATOMIC_ACQUIRE) == (uint32_t)s;
}

/* The main thread wants us still, and nothing keeps us from it. */
bool thread_may_stand_still(struct thread *t)
{
	if (thread_is_wanted(t, DEVICE_RUNNING))
		return false;
	return thread_is_wanted(t, DEVICE_PAUSED) ||
	       (!t->fenced && !t->aside_fenced && t->resumed && t->n_inflight == t->n_waiting);
}

static void stand_still(struct thread *t)
{
	uint32_t want = __atomic_load_n(&t->want, __ATOMIC_ACQUIRE);

	state_thread_blocks(t->shared);
	__atomic_store_n(&t->is, want, __ATOMIC_RELEASE);
	futex_wake(&t->is);
	while (__atomic_load_n(&t->want, __ATOMIC_ACQUIRE) == want)
		futex_wait(&t->want, want);
	state_thread_goes_on(t->shared);
	thread_forget_kicks(t);
	__atomic_store_n(&t->is, DEVICE_RUNNING, __ATOMIC_RELEASE);
	futex_wake(&t->is);
}

static void submit(struct thread *t)
{
	/* In this order: the companion works while this thread does. */
	if (t->aside.n_queued > 0 && !t->aside_fenced)
		aside_hand_over(&t->aside);
	if (t->uring.n_queued > 0)
		uring_submit(&t->uring);
}

/* And learn what a request costs: page cache is copied while it is submitted. */
static uint32_t take_and_submit(struct thread *t)
{
	uint64_t begin = clock_now_ns();
	uint32_t n = take(t);

	submit(t);
	if (n > 0)
		t->request_ns = (7 * t->request_ns + (clock_now_ns() - begin) / n) / 8;
	return n;
}

static bool turn(struct thread *t)
{
	uint32_t n;

	__atomic_store_n(&t->shared->beat, t->shared->beat + 1, __ATOMIC_RELAXED);
	if (thread_may_stand_still(t)) {
		thread_signal_all_held(t);
		stand_still(t);
		return true;
	}
	if (!thread_pass_fence(t))
		return false;
	if (!t->resumed)
		thread_resume(t);
	if (t->model->ops->event && clock_now_ns() - t->looked_ns > LOOK_NS)
		thread_look(t);
	n = thread_reap(t);
	n += thread_resubmit(t);
	if (thread_is_wanted(t, DEVICE_RUNNING))
		n += take_and_submit(t);
	else if (thread_is_wanted(t, DEVICE_DRAINED) && t->model->ops->give_up)
		t->model->ops->give_up(&t->model->device, t);
	submit(t);
	thread_publish(t);
	n += thread_reap(t);
	if (n == 0 && t->n_inflight > 0) {
		uring_flush(&t->uring);
		uring_flush_overflow(&t->aside);
	}
	return n > 0;
}

static void serve(struct thread *t)
{
	thread_forget_kicks(t);
	for (;;) {
		bool busy = turn(t);

		thread_signal_held(t, busy);
		if (!busy && !thread_look_longer(t))
			thread_sleep(t);
	}
}

/* Ring which (0: transfers, 1: aside) of this thread. */
struct ring_place {
	struct uring *uring;
	struct state_ring *saved;
	const struct uring_spec *spec; /* NULL: it has none */
	int fd;
};

static struct ring_place ring_place(struct thread *t, uint32_t which)
{
	return (struct ring_place){
		.uring = which == 0 ? &t->uring : &t->aside,
		.saved = &t->state->ring[t->index][which],
		.spec = t->model->ops->uring_spec(&t->model->device, which == 1),
		.fd = CONTRACT_FD_RING + (int)(which * CONTRACT_MAX_THREADS + t->index),
	};
}

/* The last worker's, if it has made one. */
static int map_uring(const struct ring_place *p)
{
	if (!p->spec || !__atomic_load_n(&p->saved->present, __ATOMIC_ACQUIRE))
		return 0;
	return uring_map(p->uring, p->fd, p->spec, &p->saved->params);
}

/* A new one, or the last worker's, of which the kernel may still have what it has taken. */
static int open_uring(struct thread *t, const struct ring_place *p)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int r = 0;

	if (!p->spec)
		return 0;
	if (p->uring->mapped && p->uring == &t->aside) {
		t->aside_fenced = true; /* whoever submits to it may not be dead: thread-resume.c */
	} else if (p->uring->mapped) {
		uring_go_on(p->uring);
		t->fenced = true;
	} else {
		r = uring_create(p->uring, p->fd, p->spec, &p->saved->params);
		if (r == 0)
			__atomic_store_n(&p->saved->present, 1, __ATOMIC_RELEASE);
	}
	if (r < 0)
		return r;
	return epoll_ctl(t->epoll, EPOLL_CTL_ADD, p->fd, &ev) < 0 ? -errno : 0;
}

int thread_prepare(struct thread *t)
{
	int r = t->model->ops->thread_init(&t->model->device, t);

	for (uint32_t i = 0; i < STATE_RINGS && r == 0; i++) {
		struct ring_place p = ring_place(t, i);

		r = map_uring(&p);
	}
	return r;
}

int thread_open(struct thread *t)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int r = 0;

	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->epoll < 0 || t->wake < 0 || epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->wake, &ev) < 0)
		return -errno;
	for (uint32_t i = 0; i < STATE_RINGS && r == 0; i++) {
		struct ring_place p = ring_place(t, i);

		r = open_uring(t, &p);
	}
	if (r == 0 && t->model->ops->thread_open)
		r = t->model->ops->thread_open(&t->model->device, t);
	return r;
}

/* What only the thread itself can do before it is confined. */
static int enrol(struct thread *t)
{
	int r = fault_thread_init(t->index + 1);

	touch(t, sizeof(*t));
	if (r == 0 && t->begin)
		r = t->begin();
	return r < 0 ? r : state_register(t->shared);
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;

	prctl(PR_SET_NAME, "vmdev-io", 0, 0, 0);
	worker_thread_prepared(t->worker, enrol(t));
	serve(t);
	return NULL;
}

int thread_start(struct thread *t)
{
	pthread_attr_t attr;
	int r;

	t->want = DEVICE_RUNNING;
	t->is = DEVICE_RUNNING;
	t->look = (struct look){ 0 };
	t->look_bet = (struct bet){ 0 };
	t->request_ns = 0;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_LEN);
	r = pthread_create(&t->pthread, &attr, thread_main, t);
	pthread_attr_destroy(&attr);
	return -r;
}

void thread_still(struct thread *t, uint32_t n, enum device_stillness s)
{
	for (uint32_t i = 0; i < n; i++) {
		__atomic_store_n(&t[i].want, s, __ATOMIC_RELEASE);
		futex_wake(&t[i].want);
		thread_signal_fd(t[i].wake);
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t is;

		while ((is = __atomic_load_n(&t[i].is, __ATOMIC_ACQUIRE)) != (uint32_t)s)
			futex_wait(&t[i].is, is);
	}
}

void thread_run(struct thread *t, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t is = __atomic_load_n(&t[i].is, __ATOMIC_ACQUIRE);

		if (is == DEVICE_RUNNING)
			continue;
		__atomic_store_n(&t[i].want, DEVICE_RUNNING, __ATOMIC_RELEASE);
		futex_wake(&t[i].want);
		while (__atomic_load_n(&t[i].is, __ATOMIC_ACQUIRE) == is)
			futex_wait(&t[i].is, is);
	}
}

void thread_watch(struct thread *t, struct vring *r, int kick)
{
	/* Edge-triggered: each kick is one event, and the counter needs no read. */
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.ptr = r };

	if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, kick, &ev) < 0)
		log_warning("ring %u: its kick descriptor cannot be watched", r->index);
}

void thread_unwatch(struct thread *t, int kick)
{
	epoll_ctl(t->epoll, EPOLL_CTL_DEL, kick, NULL);
}

int thread_watch_host(struct thread *t, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLET };

	return epoll_ctl(t->epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

void thread_unwatch_host(struct thread *t, int fd)
{
	epoll_ctl(t->epoll, EPOLL_CTL_DEL, fd, NULL);
}
