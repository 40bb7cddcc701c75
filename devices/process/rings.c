/* Virtqueues attached, followed and detached as the image says. See rings.h. */
#include "devices/process/rings.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/log.h"
#include "devices/base/touch.h"
#include "devices/process/fault.h"
#include "devices/process/worker.h"

uint64_t rings_region_len(uint32_t n_queues, uint32_t queue_size)
{
	uint64_t page = 4096;

	return (n_queues * inflight_queue_len(queue_size) + page - 1) / page * page;
}

static struct thread *thread_of(const struct rings_spec *spec, struct thread *threads, uint32_t i)
{
	if (spec->thread_of)
		return &threads[spec->thread_of(i, spec->n_queues, spec->n_threads)];
	return &threads[i % spec->n_threads];
}

int rings_init(struct rings *rs, struct state *state, struct memory *memory, struct thread *threads,
	       struct model *model, const struct rings_spec *spec)
{
	uint32_t n_queues = spec->n_queues;
	size_t len = rings_region_len(n_queues, spec->queue_size);
	void *own = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			 CONTRACT_FD_INFLIGHT, 0);

	if (own == MAP_FAILED)
		return -errno;
	*rs = (struct rings){
		.state = state,
		.memory = memory,
		.model = model,
		.threads = threads,
		.n_threads = spec->n_threads,
		.n_queues = n_queues,
		.queue_size = spec->queue_size,
		.own = own,
		.theirs_fd = IMAGE_NO_FD,
	};
	rs->vrings = mmap(NULL, n_queues * sizeof(*rs->vrings), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (rs->vrings == MAP_FAILED)
		return -errno;
	for (uint32_t i = 0; i < n_queues; i++) {
		struct vring *r = &rs->vrings[i];
		struct thread *t = thread_of(spec, threads, i);

		r->index = i;
		r->kick = r->call = r->err = IMAGE_NO_FD;
		r->thread = t;
		r->suspicion = state->suspicion[i];
		r->went_aside = state->went_aside[i];
		t->vrings[t->n_vrings++] = r;
	}
	return 0;
}

void rings_touch(struct rings *rs)
{
	for (uint32_t i = 0; i < rs->n_queues; i++)
		touch(&rs->vrings[i], offsetof(struct vring, resubmit) + TOUCH_PAGE);
}

static struct inflight_region *own_region(const struct rings *rs, uint32_t i)
{
	return (struct inflight_region *)(void *)(rs->own + i * inflight_queue_len(rs->queue_size));
}

void rings_begin(struct rings *rs, uint32_t index, uint32_t size, uint32_t n_unanswered)
{
	struct inflight_region *own = own_region(rs, index);

	if (n_unanswered > 0 && inflight_count(own, size) == n_unanswered)
		return;
	memset(own, 0, inflight_queue_len(rs->queue_size));
	memset(rs->state->suspicion[index], 0, sizeof(rs->state->suspicion[index]));
	memset(rs->state->went_aside[index], 0, sizeof(rs->state->went_aside[index]));
}

/* The front-end's region as the image has it; the map follows the descriptor. */
static void map_theirs(struct rings *rs, const struct image *im)
{
	uint64_t slack = im->inflight_offset % 4096;
	void *map;

	if (rs->theirs_fd == im->inflight_fd)
		return;
	fault_watch(NULL, 0);
	if (rs->theirs_map)
		munmap(rs->theirs_map, rs->theirs_len);
	rs->theirs = rs->theirs_map = NULL;
	rs->theirs_fd = im->inflight_fd;
	if (im->inflight_fd == IMAGE_NO_FD)
		return;
	rs->theirs_len = im->inflight_len + slack;
	map = mmap(NULL, rs->theirs_len, PROT_READ | PROT_WRITE, MAP_SHARED, im->inflight_fd,
		   (off_t)(im->inflight_offset - slack));
	if (map == MAP_FAILED) {
		log_warning("the front-end's in-flight region cannot be mapped: %s",
			    strerror(errno));
		return;
	}
	rs->theirs_map = map;
	fault_watch(map, rs->theirs_len);
	rs->theirs = rs->theirs_map + slack;
}

/* Where ring i's requests in flight are recorded; NULL if the front-end's region has no place. */
static struct inflight_region *region_of(const struct rings *rs, const struct image *im, uint32_t i)
{
	if (im->inflight_fd == IMAGE_NO_FD)
		return own_region(rs, i);
	if (!rs->theirs || i >= im->inflight_queues || im->vrings[i].size > im->inflight_size)
		return NULL;
	return (struct inflight_region *)(void *)(rs->theirs +
						  i * inflight_queue_len(im->inflight_size));
}

static struct queue_spec spec_of(const struct image_vring *v)
{
	return (struct queue_spec){
		.size = v->size,
		.desc = { v->desc },
		.avail = { v->avail },
		.used = { v->used },
		.used_log = { v->log },
		.log_used = v->log_used,
		.event_idx = v->event_idx,
		.indirect = v->indirect,
		.base = v->base,
	};
}

/*
 * A write to a call or err descriptor must never block a thread, whatever kind of file it is. Its
 * other flags go: the worker's filter allows none of them, and whoever sent it has no use for one.
 */
static void set_nonblock(int fd)
{
	int flags;

	if (fd == IMAGE_NO_FD)
		return;
	flags = fcntl(fd, F_GETFL);
	if (flags >= 0 && !(flags & O_NONBLOCK))
		fcntl(fd, F_SETFL, O_NONBLOCK);
}

/* The descriptor that a ring signals is another now. True: it is. */
static bool set_signal_fd(int *fd, int now)
{
	if (*fd == now)
		return false;
	set_nonblock(now);
	*fd = now;
	return true;
}

/*
 * Whatever was published may not have been signalled: by a worker that was killed in between, by
 * the back-end of an earlier connection, or for want of a descriptor (vhost-user.rst, "Inflight
 * I/O tracking").
 */
static void set_call(struct vring *r, int call)
{
	if (set_signal_fd(&r->call, call))
		thread_signal_fd(call);
}

static void set_kick(struct vring *r, int kick)
{
	if (r->kick == kick)
		return;
	if (r->kick != IMAGE_NO_FD)
		thread_unwatch(r->thread, r->kick);
	if (kick != IMAGE_NO_FD)
		thread_watch(r->thread, r, kick);
	r->kick = kick;
}

static void break_ring(struct vring *r, enum queue_verdict v)
{
	r->queue.broken = true;
	r->queue.broken_why = v;
}

/*
 * Every request that stops a ring, or takes its memory away, drains it (vhost/request.c). What
 * waits in it stays on record, and no answer is made up for it: a ring that goes on from where it
 * was goes on with it.
 */
static void lay_down(struct rings *rs, struct vring *r)
{
	assert(r->n_inflight == r->n_waiting);
	if (r->n_waiting > 0)
		rs->model->ops->ring_detached(&rs->model->device, r->thread, r);
	r->thread->n_inflight -= r->n_inflight;
	r->n_inflight = 0;
}

static void attach(struct rings *rs, struct vring *r, const struct image *im)
{
	struct inflight_region *region = region_of(rs, im, r->index);
	struct queue_spec spec = spec_of(&im->vrings[r->index]);
	enum queue_verdict v = QUEUE_BAD_INFLIGHT;

	lay_down(rs, r);
	memset(&r->queue, 0, sizeof(r->queue));
	r->n_resubmit = r->n_resubmitted = r->n_deferred = 0;
	r->attached = true;
	if (region)
		v = queue_start(&r->queue, rs->memory, &spec, region, r->resubmit, &r->n_resubmit);
	r->queue.watch = (struct queue_watch){ .in_hand = &r->thread->shared->suspect,
					       .index = r->index,
					       .suspicion = r->suspicion,
					       .limit = WORKER_POISON_LIMIT };
	CRASH_POINT("rings.attached");
	r->broken_told = r->lost && v == QUEUE_BAD_ADDRESS;
	r->lost = v == QUEUE_BAD_ADDRESS;
	if (v != QUEUE_OK) {
		r->queue.last_avail = spec.base;
		break_ring(r, v);
		return;
	}
	r->n_inflight = r->n_resubmit;
	r->thread->n_inflight += r->n_resubmit;
	rs->model->ops->ring_attached(&rs->model->device, r->thread, r);
}

static void detach(struct rings *rs, struct vring *r)
{
	lay_down(rs, r);
	set_kick(r, IMAGE_NO_FD);
	r->call = r->err =
		IMAGE_NO_FD; /* the next ones may have the same numbers and be other files */
	r->attached = r->lost = false;
}

/*
 * Guest memory has changed. A front-end may take a region away and give it back a moment later,
 * larger perhaps: the ring waits for that, with nothing in flight.
 */
static void remap(struct vring *r, const struct queue_spec *spec)
{
	enum queue_verdict v = queue_remap(&r->queue, spec);

	if (v == QUEUE_OK)
		return;
	break_ring(r, v);
	r->lost = r->broken_told = v == QUEUE_BAD_ADDRESS;
	if (r->lost)
		log_info("ring %u: the memory that it is in is gone; it waits for it", r->index);
}

static void follow(struct rings *rs, struct vring *r, const struct image *im)
{
	const struct image_vring *v = &im->vrings[r->index];
	struct queue_spec spec = spec_of(v);

	if (!r->attached || r->lost)
		attach(rs, r, im);
	else if (!r->queue.broken)
		remap(r, &spec);
	/* Each kick is to show from now on; later the ring is not written to without one. */
	if (r->enabled && !v->enabled)
		queue_enable_notify(&r->queue);
	r->enabled = v->enabled;
	set_call(r, v->call);
	set_signal_fd(&r->err, v->err);
	set_kick(r, v->kick);
}

static void count_polled(struct rings *rs)
{
	for (uint32_t i = 0; i < rs->n_threads; i++)
		rs->threads[i].n_polled = 0;
	for (uint32_t i = 0; i < rs->n_queues; i++) {
		const struct vring *r = &rs->vrings[i];

		if (r->attached && r->kick == IMAGE_NO_FD)
			r->thread->n_polled++;
	}
}

void rings_apply(struct rings *rs, const struct image *im)
{
	map_theirs(rs, im);
	for (uint32_t i = 0; i < rs->n_queues; i++) {
		struct vring *r = &rs->vrings[i];

		if (im->vrings[i].started)
			follow(rs, r, im);
		else if (r->attached)
			detach(rs, r);
	}
	count_polled(rs);
}

uint16_t rings_base(const struct rings *rs, uint32_t index)
{
	return queue_base(&rs->vrings[index].queue);
}
