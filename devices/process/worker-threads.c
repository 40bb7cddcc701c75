/* The I/O threads and the companion, as the main thread sees them. See worker-private.h. */
#include "devices/process/worker-private.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/log.h"
#include "devices/process/aside.h"
#include "devices/process/tell.h"

void worker_thread_prepared(struct worker *w, int result)
{
	uint32_t zero = 0;

	if (result < 0)
		__atomic_compare_exchange_n(&w->prepare_result, &zero, (uint32_t)-result, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	__atomic_add_fetch(&w->n_prepared, 1, __ATOMIC_ACQ_REL);
	syscall(SYS_futex, &w->n_prepared, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	while (!__atomic_load_n(&w->go, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &w->go, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

void worker_start_threads(struct worker *w)
{
	for (uint32_t i = 0; i < w->n_threads; i++) {
		struct thread *t = &w->threads[i];
		int r;

		t->index = i;
		t->worker = w;
		t->state = w->state;
		t->shared = &w->shared[i + 1];
		t->begin = w->program->thread_begin;
		r = thread_start(t);
		if (r < 0)
			worker_fail(w, "cannot start an I/O thread", r);
	}
}

void worker_prepare_threads(struct worker *w)
{
	for (uint32_t i = 0; i < w->n_threads; i++) {
		int r;

		w->threads[i].model = w->model;
		r = thread_prepare(&w->threads[i]);
		if (r == -EBADMSG) {
			log_error("what the state says of an I/O ring does not pass its checks");
			worker_leave_early(w, STATE_END_STATE);
		}
		if (r < 0)
			worker_fail(w, "an I/O thread cannot be prepared", r);
	}
}

void worker_open_threads(struct worker *w)
{
	for (uint32_t i = 0; i < w->n_threads; i++) {
		int r = thread_open(&w->threads[i]);

		if (r < 0)
			worker_fail(w, "an I/O thread cannot be prepared", r);
	}
}

/* The same for every worker of a sandbox: where there is no companion, there was none. */
static bool has_companion(const struct worker *w)
{
	return w->program->uses_rings && !w->options->no_io_uring;
}

void worker_start_aside(struct worker *w)
{
	struct uring *urings[CONTRACT_MAX_THREADS];
	int r;

	if (!has_companion(w))
		return;
	for (uint32_t i = 0; i < w->n_threads; i++)
		urings[i] = &w->threads[i].aside;
	r = aside_start(w->state, urings, w->n_threads);
	if (r < 0)
		worker_fail(w, "cannot start the companion thread", r);
}

void worker_await_threads(struct worker *w)
{
	uint32_t n;
	int r;

	while ((n = __atomic_load_n(&w->n_prepared, __ATOMIC_ACQUIRE)) < w->n_threads)
		syscall(SYS_futex, &w->n_prepared, FUTEX_WAIT_PRIVATE, n, NULL, NULL, 0);
	if (w->prepare_result)
		worker_fail(w, "an I/O thread cannot be prepared", -(int)w->prepare_result);
	r = has_companion(w) ? aside_await() : 0;
	if (r < 0)
		worker_fail(w, "the companion thread cannot be prepared", r);
}

void worker_release_threads(struct worker *w)
{
	__atomic_store_n(&w->go, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &w->go, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void worker_tell_resumed(struct worker *w)
{
	uint64_t died = w->state->died_ns;

	/* The main thread may be leaving just now: then there is nothing that has recovered. */
	if (__atomic_add_fetch(&w->n_resumed, 1, __ATOMIC_ACQ_REL) < w->n_threads || died == 0 ||
	    __atomic_load_n(&w->state->session_over, __ATOMIC_RELAXED))
		return;
	tell_recovered(w->options->resume.generation, clock_now_ns() - died);
}

void worker_tell_poison(struct worker *w, uint32_t ring, uint16_t head)
{
	uint32_t fields[] = { ring, head };

	tell(CONTRACT_MSG_POISON, 2, fields);
}
