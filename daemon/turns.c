/* Turns. See turns.h. */
#include "daemon/turns.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/priority.h"

struct turns {
	struct list waiting; /* of struct turn */
	/*
	 * Of time, and at once: it waits from the next round of the loop on, as everybody does who
	 * is found ready there. A source that is deferred would have waited longer than all of
	 * them.
	 */
	sd_event_source *source;
};

static void arm(struct turns *t)
{
	if (sd_event_source_set_time_relative(t->source, 0) >= 0)
		(void)sd_event_source_set_enabled(t->source, SD_EVENT_ONESHOT);
}

static int on_turn(sd_event_source *source, uint64_t usec, void *arg)
{
	struct turns *t = arg;
	struct turn *turn = list_first(&t->waiting, struct turn, link);

	if (turn)
		list_remove(&turn->link);
	if (!list_empty(&t->waiting))
		arm(t);
	if (turn)
		turn->take(turn->arg);
	return 0;
}

int turns_new(sd_event *event, struct turns **ret)
{
	struct turns *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	list_init(&t->waiting);
	r = sd_event_add_time_relative(event, &t->source, CLOCK_MONOTONIC, 0, 1, on_turn, t);
	if (r >= 0)
		r = sd_event_source_set_priority(t->source, PRIORITY_ASKERS);
	if (r >= 0)
		r = sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
	if (r < 0) {
		turns_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

struct turns *turns_free(struct turns *t)
{
	if (!t)
		return NULL;
	assert(list_empty(&t->waiting));
	sd_event_source_disable_unref(t->source);
	free(t);
	return NULL;
}

void turn_init(struct turn *turn, void (*take)(void *arg), void *arg)
{
	list_init(&turn->link);
	turn->take = take;
	turn->arg = arg;
}

void turn_ask(struct turns *t, struct turn *turn)
{
	bool is_first = list_empty(&t->waiting);

	if (!list_empty(&turn->link))
		return;
	list_append(&t->waiting, &turn->link);
	if (is_first)
		arm(t);
}

void turn_give_up(struct turn *turn)
{
	list_remove(&turn->link);
}
