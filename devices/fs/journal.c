/* What has been done for requests not published. See journal.h. */
#include "devices/fs/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/base/crash.h"
#include "devices/base/log.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/inode-private.h"

enum { NO_POSITION = UINT32_MAX };

/* Of one thread, in private memory. */
struct journal_own {
	uint32_t n_inherited;	  /* items [0, n_inherited) are a dead worker's */
	uint32_t forget_position; /* item of the request in hand that counts its forgets */
	uint64_t n_forgets;	  /* of the request in hand, seen so far in this run */
};

struct journals {
	struct journal_own own[CONTRACT_MAX_THREADS];
};

static struct journal_thread *journal_of(const struct request *rq)
{
	return &rq->fs->store->journal[rq->thread->index];
}

static struct journal_own *own_of(const struct request *rq)
{
	return &rq->fs->journals->own[rq->thread->index];
}

static struct journal_begun *begun_of(const struct request *rq)
{
	return &journal_of(rq)->begun[rq->ring->index];
}

static void set_n(struct journal_thread *j, uint32_t n)
{
	/* Release: the items before n are complete. */
	__atomic_store_n(&j->n, n, __ATOMIC_RELEASE);
}

int journal_prepare(struct fs *fs)
{
	fs->journals = calloc(1, sizeof(*fs->journals));
	return fs->journals ? 0 : -ENOMEM;
}

int journal_init(struct fs *fs)
{
	for (uint32_t i = 0; i < fs->n_threads; i++) {
		uint32_t n = __atomic_load_n(&fs->store->journal[i].n, __ATOMIC_ACQUIRE);

		if (n > JOURNAL_MAX_ITEMS)
			return -EBADMSG;
		fs->journals->own[i].n_inherited = n;
		fs->journals->own[i].forget_position = NO_POSITION;
	}
	return 0;
}

/* The last item of this kind among those of rq in [0, n); NO_POSITION: none. */
static uint32_t find(const struct request *rq, enum journal_kind kind, uint32_t n)
{
	const struct journal_thread *j = journal_of(rq);

	while (n-- > 0)
		if (j->item[n].tag == rq->tag && j->item[n].kind == (uint32_t)kind)
			return n;
	return NO_POSITION;
}

bool journal_find(struct request *rq, enum journal_kind kind, uint64_t *ret_value)
{
	const struct journal_thread *j = journal_of(rq);
	uint32_t position = rq->again ? find(rq, kind, j->n) : NO_POSITION;

	if (position == NO_POSITION)
		return false;
	*ret_value = j->item[position].value;
	return true;
}

/* Void what another request of this name has left (5 in journal.h). */
static void disown(struct request *rq)
{
	struct journal_thread *j = journal_of(rq);
	uint32_t n = own_of(rq)->n_inherited;

	for (uint32_t i = 0; i < n; i++)
		if (j->item[i].tag == rq->tag)
			__atomic_store_n(&j->item[i].tag, 0, __ATOMIC_RELEASE);
	if (begun_of(rq)->tag == rq->tag)
		__atomic_store_n(&begun_of(rq)->tag, 0, __ATOMIC_RELEASE);
}

void journal_take_back(struct request *rq)
{
	const struct journal_thread *j = journal_of(rq);

	for (uint32_t i = 0; i < j->n; i++)
		if (j->item[i].tag == rq->tag && j->item[i].kind == JOURNAL_LOOKUP)
			inode_uncount(rq, i, j->item[i].value);
}

void journal_begin(struct request *rq)
{
	struct journal_own *own = own_of(rq);

	own->n_forgets = 0;
	own->forget_position = NO_POSITION;
	if (!rq->again) {
		disown(rq);
		return;
	}
	own->forget_position = find(rq, JOURNAL_FORGET, journal_of(rq)->n);
	if (find(rq, JOURNAL_RESULT, journal_of(rq)->n) == NO_POSITION)
		journal_take_back(rq);
}

enum journal_past journal_past(struct request *rq, int64_t *ret_result,
			       struct journal_intent *ret_intent)
{
	const struct journal_begun *b = begun_of(rq);
	uint64_t result;

	if (!rq->again)
		return JOURNAL_NEW;
	if (journal_find(rq, JOURNAL_RESULT, &result)) {
		*ret_result = (int64_t)result;
		return JOURNAL_DONE;
	}
	if (__atomic_load_n(&b->tag, __ATOMIC_ACQUIRE) != rq->tag)
		return JOURNAL_NEW;
	*ret_intent = b->intent;
	ret_intent->name[JOURNAL_NAME_LEN - 1] = '\0';
	ret_intent->name2[JOURNAL_NAME_LEN - 1] = '\0';
	return JOURNAL_BEGUN;
}

static void name_copy(char *to, const char *from)
{
	size_t len = strnlen(from, JOURNAL_NAME_LEN - 1);

	memcpy(to, from, len);
	to[len] = '\0';
}

/* Names are copied as far as they go: most operations have none on record. */
static void intent_copy(struct journal_intent *to, const struct journal_intent *from)
{
	memcpy(to, from, offsetof(struct journal_intent, name));
	name_copy(to->name, from->name);
	name_copy(to->name2, from->name2);
}

void journal_intend(struct request *rq, const struct journal_intent *intent)
{
	struct journal_begun *b = begun_of(rq);

	/* An intent of a dead worker is over before this one, or was nobody's (hostile). */
	__atomic_store_n(&b->tag, 0, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	intent_copy(&b->intent, intent);
	CRASH_POINT("fs.intent.written");
	__atomic_store_n(&b->tag, rq->tag, __ATOMIC_RELEASE);
	CRASH_POINT("fs.intent");
}

/*
 * If there is no room, four workers have died one after the other and this one has not been able to
 * publish: the inherited items go. What is lost is that their requests' look-ups are counted once
 * too often.
 */
uint32_t journal_position(struct request *rq)
{
	struct journal_thread *j = journal_of(rq);

	if (j->n >= JOURNAL_MAX_ITEMS) {
		log_warning("thread %u: the journal is full; %u items of dead workers are dropped",
			    rq->thread->index, own_of(rq)->n_inherited);
		own_of(rq)->n_inherited = 0;
		own_of(rq)->forget_position = NO_POSITION;
		set_n(j, 0);
	}
	return j->n;
}

void journal_append(struct request *rq, enum journal_kind kind, uint64_t value)
{
	struct journal_thread *j = journal_of(rq);
	uint32_t n = journal_position(rq);

	j->item[n] = (struct journal_item){ .tag = rq->tag, .value = value, .kind = kind };
	CRASH_POINT("fs.item.written");
	set_n(j, n + 1);
}

void journal_result(struct request *rq, int64_t result)
{
	CRASH_POINT("fs.done");
	journal_append(rq, JOURNAL_RESULT, (uint64_t)result);
	CRASH_POINT("fs.result");
	__atomic_store_n(&begun_of(rq)->tag, 0, __ATOMIC_RELEASE);
	CRASH_POINT("fs.intent.over");
}

bool journal_next_forget(struct request *rq, uint32_t *ret_position, uint32_t *ret_n,
			 struct journal_item *ret_item)
{
	struct journal_thread *j = journal_of(rq);
	struct journal_own *own = own_of(rq);
	uint64_t done =
		own->forget_position == NO_POSITION ? 0 : j->item[own->forget_position].value;

	if (own->n_forgets++ < done)
		return false;
	if (own->forget_position == NO_POSITION) {
		own->forget_position = journal_position(rq);
		*ret_n = own->forget_position + 1;
	} else {
		*ret_n = j->n;
	}
	*ret_position = own->forget_position;
	*ret_item = (struct journal_item){ .tag = rq->tag,
					   .value = own->n_forgets,
					   .kind = JOURNAL_FORGET };
	return true;
}

/* Requests that a dead worker left in flight are still to be run again. */
static bool recovering(const struct thread *t)
{
	if (!t->resumed)
		return true;
	for (uint32_t i = 0; i < t->n_vrings; i++)
		if (t->vrings[i]->attached &&
		    t->vrings[i]->n_resubmitted < t->vrings[i]->n_resubmit)
			return true;
	return false;
}

static bool has_item(const struct journal_thread *j, uint64_t tag)
{
	for (uint32_t i = 0; i < j->n; i++)
		if (j->item[i].tag == tag)
			return true;
	return false;
}

void journal_published(struct fs *fs, struct thread *t, const struct request *in_hand)
{
	struct journal_thread *j = &fs->store->journal[t->index];
	struct journal_own *own = &fs->journals->own[t->index];

	if (j->n == 0 || (in_hand && has_item(j, in_hand->tag)))
		return;
	if (!recovering(t))
		own->n_inherited = 0;
	CRASH_POINT("fs.items.published");
	set_n(j, own->n_inherited);
	CRASH_POINT("fs.items.emptied");
}

void journal_resumed(struct fs *fs, struct thread *t)
{
	journal_published(fs, t, NULL);
}

bool journal_has_room(const struct fs *fs, const struct thread *t, uint32_t n)
{
	return fs->store->journal[t->index].n - fs->journals->own[t->index].n_inherited + n <=
	       JOURNAL_BATCH;
}
