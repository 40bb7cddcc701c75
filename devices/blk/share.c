/* Large reads of the page cache are copied by two. See share.h. */
#include "devices/blk/share.h"

#include "devices/base/clock.h"

enum {
	SHARE_LEN = 64 << 10,	/* shorter ones are not worth it */
	SHARE_OUT = 2,		/* one that is being copied, and the next */
	SHARE_LATE_NS = 250000, /* a copy takes 10 us and more, depending on length and memory */
	SHARE_PENALTY = 64,
	SHARE_PENALTY_MAX = 1 << 16,
};

bool share_begin(struct share *s, struct thread *t, struct blk_request *rq)
{
	rq->share = false;
	if (rq->kind != REQUEST_READ || rq->len < SHARE_LEN)
		return false;
	if (s->skip > 0) {
		s->skip--;
		return false;
	}
	/* With nothing else to do meanwhile, it is done sooner here. */
	if (s->n_out >= SHARE_OUT || t->aside_fenced || queue_n_available(&rq->ring->queue) == 0)
		return false;
	s->n_out++;
	t->n_soon++;
	rq->share = true;
	rq->shared_ns = clock_now_ns();
	return true;
}

void share_end(struct share *s, struct thread *t, struct blk_request *rq)
{
	uint64_t took = clock_now_ns() - rq->shared_ns;

	s->n_out--;
	t->n_soon--;
	rq->share = false;
	if (took <= SHARE_LATE_NS) {
		s->penalty = s->penalty > SHARE_PENALTY ? s->penalty - 1 : SHARE_PENALTY;
		return;
	}
	s->skip = s->penalty;
	s->penalty = s->penalty == 0 ? SHARE_PENALTY : s->penalty;
	s->penalty = s->penalty < SHARE_PENALTY_MAX ? s->penalty * 2 : SHARE_PENALTY_MAX;
}
