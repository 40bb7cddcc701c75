/*
 * The file system device model: configuration space, requests from ring to answer, set-up. See
 * fs.h.
 */
#include "devices/fs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_fs.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/crash.h"
#include "devices/base/log.h"
#include "devices/fs/errand.h"
#include "devices/fs/fs-private.h"
#include "devices/fs/host.h"
#include "devices/fs/operation.h"
#include "devices/process/worker.h"
#include "devices/virtio/feature.h"

enum {
	TAKE_BATCH = 32,
	TAKE_BYTES = 256 << 10, /* of data in a batch: the first requests of it wait so long */
	JOURNAL_ROOM = 8,	/* what any request needs that does not ask for itself */
	RETRY_NS = 2000000,	/* between two looks whether a lock has become free */
	/* Pace, see below. */
	DRIVER_AWAY_NS = 100000, /* one that takes longer has nothing to ask for */
	SAMPLES = 8,		 /* that an average is made of */
};

static struct fs the_fs;

static struct fs *fs_of(struct device *d)
{
	return (struct fs *)(void *)d;
}

static struct fs_thread *mine(struct fs *fs, const struct thread *t)
{
	return &fs->threads[t->index];
}

/* Configuration space (VIRTIO 1.3 §5.11.4) */

static void config_read(struct device *d, const struct image *im, uint32_t offset, uint32_t len,
			uint8_t *ret_bytes)
{
	const struct fs *fs = fs_of(d);
	struct virtio_fs_config c = { .num_request_queues = d->n_queues - FS_EXTRA_QUEUES };

	/* Padded with NULs, without one when it fills the field. */
	memcpy(c.tag, fs->config.tag, strnlen(fs->config.tag, sizeof(c.tag)));
	memcpy(ret_bytes, (const uint8_t *)&c + offset, len);
}

static bool config_write(struct device *d, struct image *im, uint32_t offset, uint32_t len,
			 const uint8_t *bytes)
{
	return false;
}

static void reset(struct device *d, struct image *im)
{
	init_reset(fs_of(d));
}

static void configure(struct device *d, const struct image *im)
{
}

/* Requests */

static struct chain spare_chain(struct fs *fs, const struct thread *t)
{
	return (struct chain){ .iov = mine(fs, t)->iov, .iov_max = REQUEST_MAX_IOV };
}

/* A tag of 0 means none, so the ring's part begins at 1. */
static uint64_t tag_of(const struct vring *r, uint16_t head)
{
	return tag_make(r->index + 1, head, inflight_counter(&r->queue.inflight, head));
}

static int operate(struct request *rq, const struct chain *c)
{
	const struct operation *op = operation_find(rq->in.opcode);
	struct fs *fs = rq->fs;
	int r;

	if (!op)
		return -ENOSYS;
	if (!(op->flags & OPERATION_BEFORE_INIT) && !init_done(fs))
		return -EIO;
	if ((op->flags & OPERATION_WRITES) && fs->config.readonly)
		return -EROFS;
	r = request_load_args(rq, c, op, mine(fs, rq->thread)->args);
	if (r < 0)
		return r;
	if (!journal_has_room(fs, rq->thread, JOURNAL_ROOM))
		thread_publish(rq->thread);
	journal_begin(rq);
	return op->run(rq);
}

static void finish(struct request *rq, int result)
{
	uint32_t len = request_end(rq, result);

	CRASH_POINT("fs.answered");
	thread_push(rq->thread, rq->ring, rq->head, len);
}

/* Tried again later; the request stays in flight. False: too many do. */
static bool wait_for_it(struct request *rq)
{
	struct fs_thread *ft = mine(rq->fs, rq->thread);
	bool room = ft->n_waiting < FS_MAX_WAITING;

	if (!room)
		return false;
	pthread_mutex_lock(&ft->lock);
	ft->waiting[ft->n_waiting] = (struct fs_waiting){ .ring = rq->ring,
							  .head = rq->head,
							  .opcode = rq->in.opcode,
							  .unique = rq->in.unique,
							  .tag = rq->tag,
							  .since_ns = clock_now_ns() };
	ft->n_waiting++;
	pthread_mutex_unlock(&ft->lock);
	thread_wait_begin(rq->thread, rq->ring);
	return true;
}

enum how {
	FIRST,	/* just taken */
	AGAIN,	/* a dead worker had it in flight */
	WAITED, /* REQUEST_WAITS */
};

/* Of one that waited: a guest may have made another of it, which would not have come to wait. */
static bool is_as_it_was(const struct request *rq, const struct fs_waiting *w)
{
	return rq->in.opcode == w->opcode && rq->in.unique == w->unique;
}

/* Returns false if it waits (again). w: the entry of one that has waited, else NULL. */
static bool run(struct fs *fs, struct thread *t, struct vring *r, const struct chain *c,
		enum how how, const struct fs_waiting *w)
{
	struct fs_thread *ft = mine(fs, t);
	struct request rq = {
		.fs = fs,
		.thread = t,
		.ring = r,
		.head = c->head,
		.again = how == AGAIN,
		.waited = how == WAITED,
		.waited_ns = w ? clock_now_ns() - w->since_ns : 0,
		.tag = tag_of(r, c->head),
		.payload = ft->payload,
	};
	int result = -EINVAL;

	host_take_up(t->shared);
	ft->in_hand = &rq;
	if (request_load(&rq, c) && (!w || is_as_it_was(&rq, w)))
		result = operate(&rq, c);
	ft->in_hand = NULL;
	if (result == REQUEST_ASIDE)
		return true;
	if (result == REQUEST_WAITS) {
		if (w || wait_for_it(&rq))
			return false;
		lock_wait_over(rq.tag);
		result = -ENOLCK;
	}
	finish(&rq, result);
	return true;
}

static uint32_t retry_waiting(struct fs *fs, struct thread *t);

/*
 * Pace. To signal a driver that sleeps is dear, so it is done once for many answers; and where its
 * processor has to be woken first, some time passes until it asks for more. So it is signalled when
 * what is left in the ring will last that long, and finds all answers when it comes. How long it
 * takes shows in the time from a signal to its next request: next to nothing where it shares our
 * processor and runs while we signal; then it is signalled when nothing is left.
 */
static void pace_sample(struct fs_pace *p)
{
	uint64_t gap = clock_now_ns() - p->signalled_ns;

	p->awaited = false;
	if (gap < DRIVER_AWAY_NS)
		p->gap_ns = ((SAMPLES - 1) * p->gap_ns + gap) / SAMPLES;
}

static void pace_begin(struct fs_pace *p)
{
	if (p->awaited)
		pace_sample(p);
}

static void pace_published(struct fs_pace *p, const struct vring *r)
{
	if (p->n_signals == r->n_signals)
		return;
	p->n_signals = r->n_signals;
	p->signalled_ns = clock_now_ns();
	p->seen = p->looked_at;
	p->awaited = true;
}

/* Between two requests of a batch, while there is another. */
static void pace_go_on(struct fs_pace *p, struct thread *t, const struct vring *r)
{
	p->looked_at = queue_avail_idx(&r->queue);
	if (p->awaited && p->looked_at != p->seen)
		pace_sample(p);
	if (p->awaited)
		thread_show(t);
	else if (queue_n_available(&r->queue) * t->request_ns <= p->gap_ns)
		thread_publish(t);
}

static uint32_t take(struct device *d, struct thread *t, struct vring *r)
{
	struct fs *fs = fs_of(d);
	struct fs_pace *pace = &fs->paces[r->index];
	uint32_t n = retry_waiting(fs, t), taken = 0, bytes = 0;

	while (taken < TAKE_BATCH && bytes < TAKE_BYTES) {
		struct chain c = spare_chain(fs, t);

		if (queue_pop(&r->queue, &c) != QUEUE_OK)
			break;
		if (taken++ == 0) {
			queue_disable_notify(&r->queue);
			pace_begin(pace);
		}
		thread_taken(t, r);
		bytes += c.readable_len + c.writable_len;
		thread_take_up(t, r, c.head);
		run(fs, t, r, &c, FIRST, NULL);
		thread_set_down(t);
		CRASH_POINT("fs.done");
		if (queue_n_available(&r->queue) > 0)
			pace_go_on(pace, t, r);
	}
	return n + taken;
}

/* As run(). */
static bool run_head(struct fs *fs, struct thread *t, struct vring *r, uint16_t head, enum how how,
		     const struct fs_waiting *w)
{
	struct chain c = spare_chain(fs, t);
	bool done = true;

	thread_take_up(t, r, head);
	if (queue_load_again(&r->queue, head, &c) == QUEUE_OK)
		done = run(fs, t, r, &c, how, w);
	else
		thread_push(t, r, head, 0); /* its descriptors were changed: nowhere to answer */
	thread_set_down(t);
	return done;
}

static void resubmit(struct device *d, struct thread *t, struct vring *r, uint16_t head)
{
	run_head(fs_of(d), t, r, head, AGAIN, NULL);
}

/* Answer a head in flight without looking at what it asks for. */
static void refuse(struct fs *fs, struct thread *t, struct vring *r, uint16_t head, int error)
{
	struct request rq = { .fs = fs, .thread = t, .ring = r, .head = head };
	struct chain c = spare_chain(fs, t);
	uint32_t len = 0;

	if (queue_load_again(&r->queue, head, &c) == QUEUE_OK) {
		request_load(&rq, &c);
		len = request_end(&rq, error);
	}
	thread_push(t, r, head, len);
}

static void poison(struct device *d, struct thread *t, struct vring *r, uint16_t head)
{
	/* If even that crashes, it is given back unseen the next time. */
	thread_take_up(t, r, head);
	if (r->suspicion[head] == WORKER_POISON_LIMIT)
		refuse(fs_of(d), t, r, head, -EIO);
	else
		thread_push(t, r, head, 0);
	thread_set_down(t);
}

static void published(struct device *d, struct thread *t)
{
	struct fs *fs = fs_of(d);

	journal_published(fs, t, mine(fs, t)->in_hand);
	for (uint32_t i = 0; i < t->n_vrings; i++)
		pace_published(&fs->paces[t->vrings[i]->index], t->vrings[i]);
}

/* Requests that wait */

static void drop_waiting(struct thread *t, struct fs_thread *ft, uint32_t i)
{
	lock_wait_over(ft->waiting[i].tag);
	thread_wait_end(t, ft->waiting[i].ring);
	pthread_mutex_lock(&ft->lock);
	ft->n_waiting--;
	memmove(&ft->waiting[i], &ft->waiting[i + 1], (ft->n_waiting - i) * sizeof(ft->waiting[0]));
	pthread_mutex_unlock(&ft->lock);
}

static bool is_interrupted(struct fs_thread *ft, uint32_t i)
{
	bool yes;

	pthread_mutex_lock(&ft->lock);
	yes = ft->waiting[i].interrupted;
	pthread_mutex_unlock(&ft->lock);
	return yes;
}

/* In the order in which they came. Returns how many wait no more. */
static uint32_t try_waiting(struct fs *fs, struct thread *t)
{
	struct fs_thread *ft = mine(fs, t);
	uint32_t n = 0;

	for (uint32_t i = 0; i < ft->n_waiting;) {
		struct vring *r = ft->waiting[i].ring;
		uint16_t head = ft->waiting[i].head;
		bool done = true;

		if (!thread_serves(r))
			done = false;
		else if (is_interrupted(ft, i))
			refuse(fs, t, r, head, -EINTR);
		else
			done = run_head(fs, t, r, head, WAITED, &ft->waiting[i]);
		if (done) {
			drop_waiting(t, ft, i);
			n++;
		} else {
			i++;
		}
	}
	return n;
}

static uint32_t retry_waiting(struct fs *fs, struct thread *t)
{
	struct fs_thread *ft = mine(fs, t);
	uint64_t now;
	uint32_t n = 0;

	if (ft->n_waiting == 0)
		return 0;
	now = clock_now_ns();
	if (now >= __atomic_load_n(&ft->retry_at_ns, __ATOMIC_RELAXED)) {
		__atomic_store_n(&ft->retry_at_ns, now + RETRY_NS, __ATOMIC_RELAXED);
		n = try_waiting(fs, t);
	}
	t->tick_ns = ft->n_waiting > 0 ? RETRY_NS : 0;
	return n;
}

void request_retry_waiting(struct request *rq)
{
	__atomic_store_n(&mine(rq->fs, rq->thread)->retry_at_ns, 0, __ATOMIC_RELAXED);
}

bool request_interrupt(struct fs *fs, uint64_t unique)
{
	bool found = false;

	for (uint32_t k = 0; k < fs->n_threads && !found; k++) {
		struct fs_thread *ft = &fs->threads[k];

		pthread_mutex_lock(&ft->lock);
		for (uint32_t i = 0; i < ft->n_waiting && !found; i++) {
			found = ft->waiting[i].unique == unique;
			ft->waiting[i].interrupted |= found;
		}
		pthread_mutex_unlock(&ft->lock);
		if (found)
			__atomic_store_n(&ft->retry_at_ns, 0, __ATOMIC_RELAXED);
	}
	return found;
}

/*
 * Nobody knows when a lock becomes free, and a ring that is to stop does not wait for that. Nor is
 * the request answered: Linux, which has no signal, would tell its program ERESTARTSYS for EINTR.
 */
static void ring_detached(struct device *d, struct thread *t, struct vring *r)
{
	struct fs_thread *ft = mine(fs_of(d), t);

	for (uint32_t i = 0; i < ft->n_waiting;)
		if (ft->waiting[i].ring == r)
			drop_waiting(t, ft, i);
		else
			i++;
}

static void ring_attached(struct device *d, struct thread *t, struct vring *r)
{
}

void request_slow_begin(struct request *rq)
{
	thread_publish(rq->thread);
	state_thread_blocks(rq->thread->shared);
}

void request_slow_end(struct request *rq)
{
	state_thread_goes_on(rq->thread->shared);
	errand_crowd(rq);
}

/* Set-up */

static void *room_for(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int thread_init(struct device *d, struct thread *t)
{
	struct fs_thread *ft = mine(fs_of(d), t);

	ft->args = room_for(REQUEST_ARGS_MAX + 1);
	ft->payload = room_for(REQUEST_PAYLOAD_MAX);
	if (!ft->args || !ft->payload || pthread_mutex_init(&ft->lock, NULL) != 0)
		return -ENOMEM;
	return errand_init(fs_of(d), t->index);
}

/* In this order: each checks what it has against what comes before. */
static int attach(struct device *d, void *state)
{
	struct fs *fs = fs_of(d);
	int r;

	fs->proc_fd = openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fs->proc_fd < 0)
		return -errno;
	fs->store = state;
	inode_claim_fd(fs, fs->proc_fd);
	r = inode_init(fs, fs->root_fd);
	if (r == 0)
		r = handle_init(fs);
	if (r == 0)
		r = lock_init(fs);
	return r < 0 ? r : journal_init(fs);
}

/* Attaching has claimed them all. */
static const uint64_t *fds(struct device *d, uint32_t *ret_n_words)
{
	return inode_claimed_fds(fs_of(d), ret_n_words);
}

/* Small system calls are cheapest made directly: there is a ring for errands only. */
static const struct uring_spec *uring_spec(struct device *d, bool aside)
{
	return aside && fs_of(d)->use_uring ? &errand_ring : NULL;
}

static void complete(struct device *d, struct thread *t, uint64_t tag, int32_t res)
{
	errand_end(fs_of(d), t, tag, res);
}

/* What a dead worker's errands came to is not needed: their requests are run again. */
static void recover(struct device *d, struct thread *t, uint64_t tag, int32_t res)
{
}

static const struct model_ops fs_ops = {
	.config_read = config_read,
	.config_write = config_write,
	.reset = reset,
	.configure = configure,
	.attach = attach,
	.fds = fds,
	.thread_init = thread_init,
	.ring_attached = ring_attached,
	.take = take,
	.published = published,
	.complete = complete,
	.recover = recover,
	.ring_detached = ring_detached,
	.resubmit = resubmit,
	.poison = poison,
	.uring_spec = uring_spec,
};

/*
 * Descriptors are reached by their number in our own /proc/PID/fd. It is the working directory too,
 * for system calls that take no directory. No descriptor for it stays open: a stand-by has none
 * (process/standby.h).
 */
int fs_begin(void)
{
	int fd = openat(CONTRACT_FD_FS_PROC, "self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 || fchdir(fd) < 0 ? -errno : 0;

	if (r < 0)
		log_error("no usable proc file system: %s", strerror(-r));
	if (fd >= 0)
		close(fd);
	umask(0);
	return r;
}

/* A umask of its own: what is made for one guest process must not wait for another's. */
int fs_thread_begin(void)
{
	return unshare(CLONE_FS) < 0 ? -errno : 0;
}

static int prepare(struct fs *fs)
{
	int r = inode_prepare(fs);

	if (r == 0)
		r = handle_prepare(fs);
	lock_prepare();
	return r < 0 ? r : journal_prepare(fs);
}

struct model *fs_create(void *config, const struct options *o)
{
	struct fs *fs = &the_fs;
	int r = prepare(fs);

	if (r < 0) {
		log_error("no memory for the tables: %s", strerror(-r));
		return NULL;
	}

	fs->config = *(const struct fs_config *)config;
	fs->root_fd = CONTRACT_FD_FS_ROOT;
	fs->n_threads = o->resume.n_threads;
	fs->use_uring = !o->no_io_uring;
	fs->model =
		(struct model){ .device = { .features = FEATURE_VERSION_1 | FEATURE_RING_EVENT_IDX |
							FEATURE_RING_INDIRECT_DESC,
					    .n_queues = o->queues,
					    .queue_size = o->queue_size,
					    .config_len = sizeof(struct virtio_fs_config) },
				.ops = &fs_ops };
	return &fs->model;
}
