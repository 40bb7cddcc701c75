/* A thread without work: how long it looks for some, and how it sleeps. See thread-private.h. */
#include "devices/process/thread-private.h"

#include <sys/epoll.h>

#include "devices/base/clock.h"

enum {
	RETRY_MS = 1, /* when the kernel refused a submission for now, for rings without a kick, and
		      until an earlier companion is dead */
	NS_PER_MS = 1000000,
	EVENTS = 32,
	FORGET_MAX = 4, /* times so many: more than a thread has of a model that discards */
};

static bool pending(const struct thread *t, bool sleeps)
{
	struct model *m = t->model;

	return m->ops->pending && m->ops->pending(&m->device, t, sleeps);
}

/* Ask for notifications; true if there is something to do already. */
static bool arm(struct thread *t)
{
	bool work = thread_may_stand_still(t);

	if (t->fenced || !thread_is_wanted(t, DEVICE_RUNNING))
		return work;
	for (uint32_t i = 0; i < t->n_vrings; i++)
		if (thread_awaits(t, t->vrings[i]) && queue_enable_notify(&t->vrings[i]->queue))
			work = true;
	return pending(t, true) || work;
}

static int sleep_ms(const struct thread *t)
{
	if (t->uring.n_queued > 0 || t->n_polled > 0 || t->aside.mapped)
		return RETRY_MS;
	if (t->retry_ns > 0)
		return (int)(t->retry_ns / NS_PER_MS) + 1;
	return t->tick_ns > 0 ? (int)(t->tick_ns / NS_PER_MS) + 1 : -1;
}

static void see_event(struct thread *t, const struct epoll_event *e)
{
	struct model *m = t->model;
	struct vring *r = e->data.ptr;

	if (e->data.u64 & THREAD_EVENT_MODEL)
		m->ops->event(&m->device, t, e->data.u64 & ~THREAD_EVENT_MODEL, e->events);
	else if (r && !r->enabled)
		r->kicked = true;
}

/* A kick or a completion brings a turn, which looks at everything. EINTR is an event too. */
static uint32_t see_events(struct thread *t, int timeout_ms)
{
	struct model *m = t->model;
	struct epoll_event events[EVENTS];
	int n = epoll_wait(t->epoll, events, EVENTS, timeout_ms);

	for (int i = 0; i < n; i++)
		see_event(t, &events[i]);
	if (m->ops->event)
		t->looked_ns = clock_now_ns();
	return n > 0 ? (uint32_t)n : 0;
}

uint32_t thread_look(struct thread *t)
{
	return see_events(t, 0);
}

void thread_forget_kicks(struct thread *t)
{
	if (!t->model->ops->discard)
		return;
	for (uint32_t i = 0; i < FORGET_MAX && thread_look(t) == EVENTS; i++)
		;
	for (uint32_t i = 0; i < t->n_vrings; i++)
		t->vrings[i]->kicked = false;
}

/* How many events ended it. */
static uint32_t sleep_until_event(struct thread *t)
{
	int timeout = sleep_ms(t);
	uint32_t n;

	/* While a limit holds us back, there is work that must wait; a model may know which. */
	if ((t->retry_ns == 0 || t->model->ops->wants || !thread_is_wanted(t, DEVICE_RUNNING)) &&
	    arm(t))
		return 0;
	thread_signal_all_held(t);
	state_thread_blocks(t->shared);
	n = see_events(t, timeout);
	state_thread_goes_on(t->shared);
	return n;
}

/* Something that a turn would find, at the price of a few loads. */
static bool anything_new(struct thread *t)
{
	if (!thread_is_wanted(t, DEVICE_RUNNING))
		return true;
	if (t->n_soon > 0 && uring_has_completions(&t->aside))
		return true;
	for (uint32_t i = 0; i < t->n_vrings; i++)
		if (thread_awaits(t, t->vrings[i]) && queue_n_new(&t->vrings[i]->queue) > 0)
			return true;
	return pending(t, false);
}

static bool look_for(struct thread *t, uint64_t ns, bool events)
{
	bool found;

	if (!look_begin(&t->look, ns))
		return false;
	while (!(found = anything_new(t) || (events && thread_look(t) > 0)) && look_again(&t->look))
		;
	look_end(&t->look);
	return found;
}

/* A model's descriptors take a system call to be looked at. */
static bool look_at_events_too(struct thread *t)
{
	bool found;

	if (!bet_on(&t->look_bet))
		return false;
	found = look_for(t, LOOK_MAX_NS, true);
	if (found)
		bet_won(&t->look_bet);
	else
		bet_lost(&t->look_bet);
	return found;
}

/*
 * Look a little longer before sleeping, if that has paid off lately: a wake-up costs the driver's
 * side and ours several microseconds. Only for the driver's next request, or for what the companion
 * is copying: a disk is better waited for asleep.
 */
bool thread_look_longer(struct thread *t)
{
	if (t->n_inflight > t->n_soon || t->retry_ns > 0)
		return false;
	if (t->model->ops->event)
		return look_at_events_too(t);
	return look_for(t, t->n_soon > 0 ? LOOK_MAX_NS : t->look.ns, false);
}

void thread_sleep(struct thread *t)
{
	uint64_t asleep = clock_now_ns(), slept_ns;
	uint32_t n_events = sleep_until_event(t);

	slept_ns = clock_now_ns() - asleep;
	if (t->n_inflight > 0)
		return;
	/* What a look does not see, such as a tap, it only delays. */
	if (!t->model->ops->event)
		look_learn(&t->look, slept_ns < LOOK_MAX_NS && anything_new(t));
	else if (n_events > 0 && slept_ns < LOOK_MAX_NS)
		bet_missed(&t->look_bet);
}
