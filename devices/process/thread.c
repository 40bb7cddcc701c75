/* The I/O thread: one turn, the fence, standing still, sleeping. See thread.h. */
#include "devices/process/thread.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/crash.h"
#include "devices/base/log.h"
#include "devices/process/aside.h"
#include "devices/process/fault.h"
#include "devices/process/worker.h"

enum {
	STACK_LEN = 256 << 10,
	RETRY_MS =
		1, /* when the kernel refused a submission for now, and for rings without a kick */
	RESUBMIT_BATCH =
		8, /* of a ring in a turn, so that the first are answered while the others wait */
	POLL_MAX_NS = 50000, /* the longest look for work before sleeping */
	POLL_MIN_NS = 1000,
	NS_PER_MS = 1000000,
};

static void futex_wait(uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void thread_push(struct thread *t, struct vring *r, uint16_t head, uint32_t written_len)
{
	assert(t->n_inflight > 0);
	t->n_inflight--;
	r->suspicion[head] = 0;
	queue_push(&r->queue, head, written_len);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	/* A full pipe or counter holds a signal already; other errors are the front-end's affair. */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		return;
}

/* The guest broke the ring: tell its err descriptor, once. */
static void tell_broken(struct vring *r)
{
	if (!r->queue.broken || r->broken_told)
		return;
	r->broken_told = true;
	log_warning("ring %u: the guest broke it: %s%s%s; it is served no more", r->index,
		    queue_verdict_to_string(r->queue.broken_why),
		    r->queue.broken_why == QUEUE_BAD_CHAIN ? ": " : "",
		    r->queue.broken_why == QUEUE_BAD_CHAIN
			    ? chain_verdict_to_string(r->queue.broken_chain)
			    : "");
	signal_fd(r->err);
}

static void publish(struct thread *t)
{
	for (uint32_t i = 0; i < t->n_vrings; i++) {
		struct vring *r = t->vrings[i];

		if (!r->attached || r->queue.n_pushed == 0)
			continue;
		t->shared->completed += r->queue.n_pushed;
		queue_publish(&r->queue);
		if (queue_should_signal(&r->queue))
			signal_fd(r->call);
		CRASH_POINT("thread.signalled");
	}
}

/* Take completions; results become visible before they are taken off the CQ. */
static uint32_t reap_ring(struct thread *t, struct uring *u)
{
	struct device *d = &t->model->device;
	uint32_t n = uring_peek(u, t->completions, THREAD_MAX_COMPLETIONS);

	for (uint32_t i = 0; i < n; i++) {
		const struct uring_completion *c = &t->completions[i];

		if (t->fenced)
			t->model->ops->recover(d, t, c->tag, c->res);
		else
			t->model->ops->complete(d, t, c->tag, c->res);
	}
	publish(t);
	if (n > 0)
		uring_advance(u, n);
	return n;
}

static uint32_t reap(struct thread *t)
{
	return reap_ring(t, &t->uring) + reap_ring(t, &t->aside);
}

static bool served(const struct vring *r)
{
	return r->attached && r->enabled && !r->queue.broken && r->n_resubmitted == r->n_resubmit;
}

static uint32_t take(struct thread *t)
{
	uint32_t n = 0;

	t->retry_ns = 0;
	for (uint32_t i = 0; i < t->n_vrings; i++) {
		struct vring *r = t->vrings[i];

		if (served(r))
			n += t->model->ops->take(&t->model->device, t, r);
		tell_broken(r);
	}
	return n;
}

static void resubmit_one(struct thread *t, struct vring *r, uint16_t head)
{
	struct device *d = &t->model->device;

	if (r->suspicion[head] < WORKER_POISON_LIMIT) {
		t->model->ops->resubmit(d, t, r, head);
		return;
	}
	log_error("ring %u: request %u has crashed the worker %u times: failed to the guest",
		  r->index, head, r->suspicion[head]);
	worker_tell_poison(t->worker, r->index, head);
	t->model->ops->poison(d, t, r, head);
}

bool thread_has_room(const struct thread *t)
{
	return !t->uring.open || (uring_room(&t->uring) > 0 && uring_room(&t->aside) > 0);
}

/* What a dead worker, or a ring attached with requests on record, left in flight. In order. */
static uint32_t resubmit_ring(struct thread *t, struct vring *r)
{
	uint32_t n = 0;

	while (r->n_resubmitted < r->n_resubmit && n < RESUBMIT_BATCH && thread_has_room(t)) {
		uint16_t head = r->resubmit[r->n_resubmitted++].head;

		n++;
		if (queue_is_taken(&r->queue, head))
			resubmit_one(t, r, head);
	}
	tell_broken(r);
	return n;
}

static uint32_t resubmit(struct thread *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->n_vrings; i++)
		if (t->vrings[i]->attached &&
		    t->vrings[i]->n_resubmitted < t->vrings[i]->n_resubmit)
			n += resubmit_ring(t, t->vrings[i]);
	return n;
}

/* The fence (uring.h). True once it has been passed. */
static bool pass_fence(struct thread *t)
{
	if (!t->fenced)
		return true;
	uring_flush(&t->uring);
	reap(t);
#ifndef VMDEV_NO_FENCE
	if (uring_owed(&t->uring) > 0 || uring_owed(&t->aside) > 0)
		return false;
#endif
	/* All are posted; none may be left for later, when its tag would name the repeated request. */
	while (reap(t) > 0)
		;
	CRASH_POINT("thread.fence_passed");
	t->fenced = false;
	return true;
}

/*
 * One interrupt a ring after a takeover: the dead worker may have published and not signalled
 * (vhost-user.rst, in-flight tracking).
 */
static void resume(struct thread *t)
{
	resubmit(t);
	for (uint32_t i = 0; i < t->n_vrings; i++)
		if (t->vrings[i]->attached)
			signal_fd(t->vrings[i]->call);
	t->resumed = true;
	worker_tell_resumed(t->worker);
}

static bool wanted(struct thread *t, enum device_stillness s)
{
	return __atomic_load_n(&t->want, __ATOMIC_ACQUIRE) == (uint32_t)s;
}

/* The main thread wants us still, and nothing keeps us from it. */
static bool may_stand_still(struct thread *t)
{
	if (wanted(t, DEVICE_RUNNING))
		return false;
	return wanted(t, DEVICE_PAUSED) || (!t->fenced && t->resumed && t->n_inflight == 0);
}

static void stand_still(struct thread *t)
{
	uint32_t want = __atomic_load_n(&t->want, __ATOMIC_ACQUIRE);

	__atomic_store_n(&t->shared->idle, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&t->is, want, __ATOMIC_RELEASE);
	futex_wake(&t->is);
	while (__atomic_load_n(&t->want, __ATOMIC_ACQUIRE) == want)
		futex_wait(&t->want, want);
	__atomic_store_n(&t->shared->idle, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&t->is, DEVICE_RUNNING, __ATOMIC_RELEASE);
	futex_wake(&t->is);
}

/* Ask for notifications; true if there is something to do already. */
static bool arm(struct thread *t)
{
	bool work = may_stand_still(t);

	if (t->fenced || !wanted(t, DEVICE_RUNNING))
		return work;
	for (uint32_t i = 0; i < t->n_vrings; i++)
		if (served(t->vrings[i]) && queue_enable_notify(&t->vrings[i]->queue))
			work = true;
	return work;
}

static int sleep_ms(const struct thread *t)
{
	if (t->uring.n_queued > 0 || t->n_polled > 0)
		return RETRY_MS;
	return t->retry_ns > 0 ? (int)(t->retry_ns / NS_PER_MS) + 1 : -1;
}

static void sleep_until_event(struct thread *t)
{
	struct epoll_event events[8];
	int timeout = sleep_ms(t);

	/* While a limit holds us back, there is work that must wait. */
	if ((t->retry_ns == 0 || !wanted(t, DEVICE_RUNNING)) && arm(t))
		return;
	__atomic_store_n(&t->shared->idle, 1, __ATOMIC_RELAXED);
	/* Which one fired does not matter: a turn looks at everything. EINTR is an event too. */
	epoll_wait(t->epoll, events, 8, timeout);
	__atomic_store_n(&t->shared->idle, 0, __ATOMIC_RELAXED);
}

static bool turn(struct thread *t)
{
	uint32_t n;

	__atomic_store_n(&t->shared->beat, t->shared->beat + 1, __ATOMIC_RELAXED);
	if (may_stand_still(t)) {
		stand_still(t);
		return true;
	}
	if (!pass_fence(t))
		return false;
	if (!t->resumed)
		resume(t);
	n = reap(t);
	n += resubmit(t);
	if (wanted(t, DEVICE_RUNNING))
		n += take(t);
	if (t->uring.n_queued > 0)
		uring_submit(&t->uring);
	if (t->aside.n_queued > 0)
		aside_hand_over(&t->aside);
	publish(t);
	n += reap(t);
	if (n == 0 && t->n_inflight > 0)
		uring_flush(&t->uring);
	return n > 0;
}

/* Something that a turn would find, at the price of a few loads. */
static bool anything_new(struct thread *t)
{
	if (!wanted(t, DEVICE_RUNNING))
		return true;
	for (uint32_t i = 0; i < t->n_vrings; i++)
		if (served(t->vrings[i]) && queue_has_available(&t->vrings[i]->queue))
			return true;
	return false;
}

/*
 * Look a little longer before sleeping, if that has paid off lately: a wake-up costs the driver's
 * side and ours several microseconds. Only for the driver's next request: a disk is better waited
 * for asleep.
 */
static bool look_longer(struct thread *t)
{
	uint64_t end;

	if (t->poll_ns == 0 || t->n_inflight > 0 || t->retry_ns > 0)
		return false;
	end = clock_now_ns() + t->poll_ns;
	do {
		if (anything_new(t))
			return true;
		__builtin_ia32_pause();
	} while (clock_now_ns() < end);
	return false;
}

/* A sleep that a longer look would have saved makes the next look longer, one in vain shorter. */
static void learn(struct thread *t, uint64_t slept_ns)
{
	if (slept_ns < POLL_MAX_NS)
		t->poll_ns = t->poll_ns < POLL_MIN_NS ? POLL_MIN_NS : t->poll_ns * 2;
	else
		t->poll_ns /= 2;
	if (t->poll_ns > POLL_MAX_NS)
		t->poll_ns = POLL_MAX_NS;
	if (t->poll_ns < POLL_MIN_NS)
		t->poll_ns = 0;
}

static void serve(struct thread *t)
{
	for (;;) {
		uint64_t asleep;

		if (turn(t) || look_longer(t))
			continue;
		asleep = clock_now_ns();
		sleep_until_event(t);
		if (t->n_inflight == 0)
			learn(t, clock_now_ns() - asleep);
	}
}

/* Ring which (0: transfers, 1: aside) of this thread: a new one, or the last worker's. */
static int open_uring(struct thread *t, struct uring *u, uint32_t which)
{
	struct state_ring *saved = &t->state->ring[t->index][which];
	const struct uring_spec *spec = t->model->ops->uring_spec(&t->model->device, which == 1);
	int fd = CONTRACT_FD_RING + (int)(which * CONTRACT_MAX_THREADS + t->index);
	struct epoll_event ev = { .events = EPOLLIN };
	int r;

	if (!spec)
		return 0;
	if (__atomic_load_n(&saved->present, __ATOMIC_ACQUIRE)) {
		r = uring_take_over(u, fd, spec, &saved->params);
		t->fenced = true;
	} else {
		r = uring_create(u, fd, spec, &saved->params);
		if (r == 0)
			__atomic_store_n(&saved->present, 1, __ATOMIC_RELEASE);
	}
	if (r < 0)
		return r;
	return epoll_ctl(t->epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int thread_open(struct thread *t)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int r;

	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->epoll < 0 || t->wake < 0 || epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->wake, &ev) < 0)
		return -errno;
	r = open_uring(t, &t->uring, 0);
	if (r == 0)
		r = open_uring(t, &t->aside, 1);
	if (r < 0)
		return r;
	return t->model->ops->thread_init(&t->model->device, t);
}

/* What only the thread itself can do before it is confined. */
static int enrol(struct thread *t)
{
	int r = fault_thread_init(t->index + 1);

	return r < 0 ? r : state_thread_register(t->state, t->index + 1);
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;

	worker_thread_prepared(t->worker, enrol(t));
	serve(t);
	return NULL;
}

int thread_start(struct thread *t)
{
	pthread_attr_t attr;
	int r;

	t->shared = &t->state->thread[t->index + 1];
	t->want = DEVICE_RUNNING;
	t->is = DEVICE_RUNNING;
	t->poll_ns = 0;
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
		signal_fd(t[i].wake);
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
