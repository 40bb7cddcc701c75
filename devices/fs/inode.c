/*
 * Inodes known to the guest: taking over, using, counting and forgetting. See inode.h,
 * inode-table.h.
 */
#include <assert.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "devices/base/crash.h"
#include "devices/base/touch.h"
#include "devices/fs/attr.h"
#include "devices/fs/host.h"
#include "devices/fs/inode-private.h"

enum { WALK_AT_ONCE = 64 }; /* indices, with the lock held */

/* The three stores of a count; the same in its first run and at take-over. */
static void hand_apply(struct inode_table *t, struct journal_thread *j)
{
	const struct inode_hand *h = &t->hand;

	__atomic_store_n(&t->word[h->index], h->word, __ATOMIC_RELEASE);
	CRASH_POINT("fs.count.word");
	j->item[h->position] = h->item;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&j->n, h->n, __ATOMIC_RELEASE);
	CRASH_POINT("fs.count.item");
	__atomic_store_n(&t->hand.armed, 0, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Locked. The inode's word and an item of rq's journal change together. */
static void commit(struct request *rq, const struct inode_hand *h)
{
	struct inode_table *t = rq->fs->inodes->table;

	t->hand = *h;
	t->hand.thread = rq->thread->index;
	CRASH_POINT("fs.hand.written");
	__atomic_store_n(&t->hand.armed, 1, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	CRASH_POINT("fs.hand");
	hand_apply(t, &rq->fs->store->journal[rq->thread->index]);
}

/* What a dead worker had in hand is done to the end. The word itself is checked with all others. */
static int hand_finish(struct fs *fs)
{
	const struct inode_hand *h = &fs->store->inodes.hand;

	if (__atomic_load_n(&h->armed, __ATOMIC_ACQUIRE) == 0)
		return 0;
	if (h->index <= INODE_ROOT || h->index >= fs->store->inodes.high ||
	    h->thread >= CONTRACT_MAX_THREADS || h->n > JOURNAL_MAX_ITEMS ||
	    h->position >= JOURNAL_MAX_ITEMS)
		return -EBADMSG;
	hand_apply(&fs->store->inodes, &fs->store->journal[h->thread]);
	return 0;
}

static bool claim(struct inodes *s, int fd)
{
	uint64_t bit;
	uint32_t at;

	if (fd < CONTRACT_FD_SESSION || fd >= INODE_FDS)
		return false;
	at = (uint32_t)fd / INODE_WORD_BITS;
	bit = UINT64_C(1) << fd % INODE_WORD_BITS;
	if (s->claimed[at] & bit)
		return false;
	s->claimed[at] |= bit;
	if (at >= s->n_claimed_words)
		s->n_claimed_words = at + 1;
	return true;
}

bool inode_claim_fd(struct fs *fs, int fd)
{
	return claim(fs->inodes, fd);
}

/* Descriptors of these are in no word any more: the sweep closes them. */
static void free_unknown(struct inodes *s, uint32_t high)
{
	for (uint32_t i = INODE_ROOT + 1; i < high; i++) {
		int fd = inode_free_if_unknown(s, i);

		if (fd >= 0)
			s->claimed[fd / INODE_WORD_BITS] &= ~(UINT64_C(1) << fd % INODE_WORD_BITS);
	}
}

/*
 * What every word says, one pass over the dense array: which indices are free, which inodes nobody
 * knows.
 */
static int take_stock(struct fs *fs)
{
	struct inodes *s = fs->inodes;
	uint32_t high = s->table->high, n_known = 0, n_parked = 0;
	bool any_unknown = false;

	for (uint32_t i = INODE_ROOT + 1; i < high; i++) {
		uint64_t word = inode_load(s, i);
		int fd = word_fd(word);

		if (word == 0)
			continue;
		if (fd == INODE_FD_PARKED)
			n_parked++;
		else if (!claim(s, fd))
			return -EBADMSG;
		s->taken[i / INODE_WORD_BITS] |= UINT64_C(1) << i % INODE_WORD_BITS;
		inode_chunk_taken(s, i);
		n_known++;
		any_unknown |= word_count(word) == 0;
	}
	s->n_known = n_known;
	s->n_parked = n_parked;
	s->n_fds = n_known - n_parked;
	inode_chunks_found(s);
	if (any_unknown)
		free_unknown(s, high);
	return 0;
}

/* As the keeper has made it: give it the root. Killed in between, it is made again. */
static int make_root(struct inodes *s, int root_fd)
{
	struct inode_table *t = s->table;
	struct inode_key key;
	struct statx st;

	if (statx(root_fd, "", AT_EMPTY_PATH, ATTR_STATX_MASK, &st) < 0)
		return -errno;
	key = inode_key_of(&st);
	t->entry[INODE_ROOT] = (struct inode_entry){
		.ino = key.ino,
		.dev = key.dev,
		.mnt = key.mnt,
		.flags = INODE_NAMELESS,
		.type = st.stx_mode & S_IFMT,
	};
	inode_store(s, INODE_ROOT, inode_word(INODE_FD_ROOT, 1));
	t->high = INODE_ROOT + 1;
	inode_unhash(s, INODE_ROOT);
	inode_hash(s, INODE_ROOT);
	CRASH_POINT("fs.root.made");
	__atomic_store_n(&t->made, 1, __ATOMIC_RELEASE);
	return 0;
}

static bool root_passes(const struct inode_table *t)
{
	return t->made == 1 && t->high > INODE_ROOT && t->high <= INODE_MAX &&
	       t->word[INODE_ROOT] == inode_word(INODE_FD_ROOT, 1) &&
	       t->entry[INODE_ROOT].generation == 0;
}

/* Two thirds of what a session and the worker's own leave; the rest is for handles. */
static uint32_t fds_allowed(void)
{
	struct rlimit limit;
	uint64_t n;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		limit.rlim_cur = CONTRACT_FD_LIMIT;
	if (limit.rlim_cur > 2 * CONTRACT_FD_LIMIT)
		n = (limit.rlim_cur - CONTRACT_FD_LIMIT) / 3 * 2;
	else
		n = limit.rlim_cur / 2;
	return n < INODE_MAX_FDS ? (uint32_t)n : INODE_MAX_FDS;
}

int inode_prepare(struct fs *fs)
{
	struct inodes *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (s == MAP_FAILED)
		return -errno;
	fs->inodes = s;
	pthread_mutex_init(&s->lock, NULL);
	s->max_fds = fds_allowed();
	s->clock = INODE_ROOT + 1;
	s->taken[0] = 1 | 1 << INODE_ROOT;
	s->n_in_chunk[0] = 1; /* the root's: always there */
	s->has_memory[0] = true;
	/* What taking stock writes, where there are not many. */
	touch(&s->taken[1], TOUCH_PAGE);
	touch(s->claimed, TOUCH_PAGE);
	touch(&s->n_claimed_words, TOUCH_PAGE);
	return 0;
}

int inode_init(struct fs *fs, int root_fd)
{
	struct inodes *s = fs->inodes;
	int r;

	fs->root_fd = root_fd;
	s->table = &fs->store->inodes;
	if (__atomic_load_n(&s->table->made, __ATOMIC_ACQUIRE) == 0)
		return make_root(s, root_fd);
	if (!root_passes(s->table))
		return -EBADMSG;
	r = hand_finish(fs);
	return r < 0 ? r : take_stock(fs);
}

struct inode *inode_get(struct fs *fs, uint64_t nodeid)
{
	struct inodes *s = fs->inodes;
	INODE_LOCKED(s);
	uint32_t index = inode_find_id(s, nodeid);

	if (index == 0)
		return NULL;
	s->node[index].in_use++;
	return &s->node[index];
}

void inode_put(struct fs *fs, struct inode *i)
{
	struct inodes *s = fs->inodes;
	host_fd int fd = -1;
	INODE_LOCKED(s);

	assert(i->in_use > 0);
	if (--i->in_use == 0)
		fd = inode_free_if_unknown(s, inode_index(s, i));
}

uint64_t inode_id(const struct fs *fs, const struct inode *i)
{
	return inode_nodeid(fs->inodes, inode_index(fs->inodes, i));
}

uint32_t inode_type(const struct fs *fs, const struct inode *i)
{
	return fs->inodes->table->entry[inode_index(fs->inodes, i)].type & S_IFMT;
}

bool inode_is_submount(const struct fs *fs, const struct inode *i)
{
	const struct inode_entry *e = &fs->inodes->table->entry[inode_index(fs->inodes, i)];

	return __atomic_load_n(&e->flags, __ATOMIC_RELAXED) & INODE_SUBMOUNT;
}

struct inode *inode_count(struct request *rq, uint32_t index)
{
	struct inodes *s = rq->fs->inodes;
	uint64_t word = inode_load(s, index);
	uint32_t position = journal_position(rq);

	if (word_count(word) == INODE_COUNT_MAX)
		return NULL;
	/* The root is never forgotten, so it need not be counted. */
	if (index != INODE_ROOT)
		commit(rq, &(struct inode_hand){
				   .index = index,
				   .word = word + 1,
				   .position = position,
				   .n = position + 1,
				   .item = { .tag = rq->tag,
					     .value = inode_nodeid(s, index),
					     .kind = JOURNAL_LOOKUP },
			   });
	s->node[index].in_use++;
	inode_set_referenced(&s->node[index], 1);
	return &s->node[index];
}

void inode_uncount(struct request *rq, uint32_t position, uint64_t nodeid)
{
	struct inodes *s = rq->fs->inodes;
	struct journal_thread *j = &rq->fs->store->journal[rq->thread->index];
	host_fd int fd = -1;
	INODE_LOCKED(s);
	uint32_t index = inode_find_id(s, nodeid);

	if (index <= INODE_ROOT) {
		/* A hostile guest has forgotten what it had not been told of. */
		__atomic_store_n(&j->item[position].tag, 0, __ATOMIC_RELEASE);
		return;
	}
	commit(rq, &(struct inode_hand){
			   .index = index,
			   .word = inode_load(s, index) - 1,
			   .position = position,
			   .n = j->n,
		   });
	fd = inode_free_if_unknown(s, index);
}

bool inode_found(struct request *rq, struct inode **ret)
{
	uint64_t nodeid;

	if (!journal_find(rq, JOURNAL_LOOKUP, &nodeid))
		return false;
	*ret = inode_get(rq->fs, nodeid);
	return *ret != NULL;
}

void inode_forget(struct request *rq, uint64_t nodeid, uint64_t n)
{
	struct inodes *s = rq->fs->inodes;
	struct inode_hand h = { 0 };
	host_fd int fd = -1;
	INODE_LOCKED(s);
	uint32_t index = inode_find_id(s, nodeid);
	uint64_t word;

	if (!journal_next_forget(rq, &h.position, &h.n, &h.item) || index <= INODE_ROOT)
		return;
	word = inode_load(s, index);
	h.index = index;
	h.word = word - (n < word_count(word) ? n : word_count(word));
	commit(rq, &h);
	fd = inode_free_if_unknown(s, index);
}

struct inode *inode_find(struct fs *fs, const struct statx *st)
{
	struct inodes *s = fs->inodes;
	struct inode_key key = inode_key_of(st);
	INODE_LOCKED(s);
	uint32_t index = inode_find_key(s, &key);

	if (index == 0 || word_count(inode_load(s, index)) == 0)
		return NULL;
	s->node[index].in_use++;
	return &s->node[index];
}

const uint64_t *inode_claimed_fds(const struct fs *fs, uint32_t *ret_n_words)
{
	*ret_n_words = fs->inodes->n_claimed_words;
	return fs->inodes->claimed;
}

void inode_for_each_fd(struct fs *fs, void (*found)(int fd, void *arg), void *arg)
{
	const struct inodes *s = fs->inodes;
	uint32_t high = s->table->high;

	for (uint32_t i = INODE_ROOT + 1; i < high; i++) {
		uint64_t word = inode_load(s, i);

		if (word_open(word))
			found(word_fd(word), arg);
	}
}

static uint32_t find_device(const struct inode_device *d, uint32_t n, uint32_t dev)
{
	uint32_t i = 0;

	while (i < n && d[i].dev != dev)
		i++;
	return i;
}

/* Some at a time, so that other threads get their turn. How many there are now. */
static uint32_t note_devices(struct inodes *s, uint32_t from, struct inode_device *ret, uint32_t n,
			     uint32_t max)
{
	INODE_LOCKED(s);

	for (uint32_t i = from; i < from + WALK_AT_ONCE && i < s->table->high; i++) {
		const struct inode_entry *e = &s->table->entry[i];
		bool directory = S_ISDIR(e->type);
		uint32_t at;

		if (word_count(inode_load(s, i)) == 0 || (!directory && !S_ISREG(e->type)))
			continue;
		at = find_device(ret, n, e->dev);
		if (at == max || (at < n && (ret[at].directory || !directory)))
			continue;
		ret[at] = (struct inode_device){ inode_nodeid(s, i), e->dev, directory };
		n += at == n;
	}
	return n;
}

uint32_t inode_devices(struct fs *fs, struct inode_device *ret, uint32_t max)
{
	struct inodes *s = fs->inodes;
	uint32_t high = __atomic_load_n(&s->table->high, __ATOMIC_RELAXED), n = 0;

	for (uint32_t i = INODE_ROOT; i < high; i += WALK_AT_ONCE)
		n = note_devices(s, i, ret, n, max);
	return n;
}

/* One at a time, so that other threads get their turn. */
static void forget_one(struct inodes *s, uint32_t index)
{
	host_fd int fd = -1;
	INODE_LOCKED(s);
	uint64_t word = inode_load(s, index);

	if (word == 0)
		return;
	inode_store(s, index, inode_word(word_fd(word), 0));
	CRASH_POINT("fs.forget_all.one");
	fd = inode_free_if_unknown(s, index);
}

void inode_forget_all(struct fs *fs)
{
	struct inodes *s = fs->inodes;
	uint32_t high = __atomic_load_n(&s->table->high, __ATOMIC_RELAXED);

	for (uint32_t i = INODE_ROOT + 1; i < high; i++)
		forget_one(s, i);
	inode_give_back(fs);
}
