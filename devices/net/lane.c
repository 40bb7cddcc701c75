/* Rings of frames. The order of the stores here is the theory of lane.h. */
#include "devices/net/lane.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/base/crash.h"
#include "devices/base/fd.h"

_Static_assert((LANE_RING_LEN & LANE_MASK) == 0, "positions are taken modulo the length");
_Static_assert(LANE_RING_LEN >= 8 * LANE_MAX_LEN, "several of the longest fit");
_Static_assert(LANE_LEN_WORD + LANE_HEADER_LEN == (int)LANE_ALIGN, "frames are aligned");

int lane_map(struct lane_map *m, int fd, uint32_t n_queues)
{
	uint64_t size = 0;
	void *p;
	int r = fd_size(fd, &size);

	if (r < 0)
		return r;
	if (n_queues == 0 || n_queues > LANE_MAX_QUEUES || size != contract_port_len(n_queues))
		return -EBADMSG;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*m = (struct lane_map){
		.area = p,
		.rings = (uint8_t *)p + CONTRACT_PORT_AREA_LEN,
		.n_queues = n_queues,
	};
	return 0;
}

void lane_unmap(struct lane_map *m)
{
	if (m->area)
		munmap(m->area, contract_port_len(m->n_queues));
	m->area = NULL;
}

static bool possible(uint32_t tail, uint32_t head)
{
	return tail - head <= LANE_RING_LEN && tail % LANE_ALIGN == 0 && head % LANE_ALIGN == 0;
}

static void open_end(struct lane *f, const struct lane_map *m, uint32_t queue,
		     enum lane_direction d)
{
	assert(queue < m->n_queues);
	*f = (struct lane){
		.words = &m->area->words[queue][d],
		.bytes = m->rings +
			 (size_t)(queue * N_LANE_DIRECTIONS + (uint32_t)d) * LANE_RING_LEN,
	};
}

void lane_open_writer(struct lane *f, const struct lane_map *m, uint32_t queue,
		      enum lane_direction d)
{
	open_end(f, m, queue, d);
	f->at = __atomic_load_n(&f->words->tail, __ATOMIC_ACQUIRE);
	f->other = __atomic_load_n(&f->words->head, __ATOMIC_ACQUIRE);
	f->called = f->at;
	if (possible(f->at, f->other))
		return;
	f->n_resets++;
	f->at = f->other = f->called = f->other & ~(uint32_t)(LANE_ALIGN - 1);
	__atomic_store_n(&f->words->tail, f->at, __ATOMIC_RELEASE);
}

/* The ring is empty from here on: what was in it cannot be told apart. */
static void reset_reader(struct lane *f, uint32_t tail)
{
	f->n_resets++;
	f->at = f->other = tail & ~(uint32_t)(LANE_ALIGN - 1);
	f->step = 0;
	__atomic_store_n(&f->words->head, f->at, __ATOMIC_RELEASE);
}

void lane_open_reader(struct lane *f, const struct lane_map *m, uint32_t queue,
		      enum lane_direction d)
{
	uint32_t tail;

	open_end(f, m, queue, d);
	f->at = __atomic_load_n(&f->words->head, __ATOMIC_ACQUIRE);
	tail = __atomic_load_n(&f->words->tail, __ATOMIC_ACQUIRE);
	f->other = f->at;
	if (!possible(tail, f->at))
		reset_reader(f, tail);
}

/*
 * How far the writer may go on, from what is known of the reader or, if that is not enough, anew.
 */
static bool has_room(struct lane *f, uint32_t step)
{
	uint32_t head;

	if (LANE_RING_LEN - (f->at - f->other) >= step)
		return true;
	head = __atomic_load_n(&f->words->head, __ATOMIC_ACQUIRE);
	if (!possible(f->at, head)) {
		/*
		 * The reader's own loss: its frames are dropped until it says something possible.
		 */
		f->n_resets++;
		return false;
	}
	f->other = head;
	return LANE_RING_LEN - (f->at - f->other) >= step;
}

void *lane_reserve_anew(struct lane *f, uint32_t len)
{
	uint32_t step = lane_step_of(len);
	uint32_t left = LANE_RING_LEN - (f->at & LANE_MASK);

	if (left < step) {
		if (!has_room(f, left + step))
			return NULL;
		*lane_len_at(f, f->at) = 0;
		f->at += left;
	} else if (!has_room(f, step)) {
		return NULL;
	}
	f->step = step;
	return f->bytes + (f->at & LANE_MASK) + LANE_LEN_WORD;
}

/* The one who waits is woken by the one who takes its word away. */
static bool take_wait(uint32_t *waits)
{
	/* Pairs with the barrier in await_*(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(waits, __ATOMIC_RELAXED) == 0)
		return false;
	__atomic_store_n(waits, 0, __ATOMIC_RELAXED);
	return true;
}

void lane_show(struct lane *f)
{
	CRASH_POINT("lane.written");
	__atomic_store_n(&f->words->tail, f->at, __ATOMIC_RELEASE);
	CRASH_POINT("lane.published");
}

bool lane_call(struct lane *f, bool more)
{
	if (f->called == f->at || (more && f->at - f->called < LANE_CALL_LEN))
		return false;
	f->called = f->at;
	return take_wait(&f->words->reader_waits);
}

bool lane_publish(struct lane *f)
{
	lane_show(f);
	return lane_call(f, false);
}

static void say_waits(uint32_t *waits)
{
	__atomic_store_n(waits, 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool lane_await_room(struct lane *f)
{
	/* A record of any length, and the rest of the ring before it. */
	enum { ENOUGH = 2 * (LANE_MAX_LEN + LANE_ALIGN) };

	say_waits(&f->words->writer_waits);
	if (!has_room(f, ENOUGH))
		return true;
	__atomic_store_n(&f->words->writer_waits, 0, __ATOMIC_RELAXED);
	return false;
}

/* Are there n more bytes to be read? */
static bool has_bytes(struct lane *f, uint32_t n)
{
	uint32_t tail;

	if (lane_seen(f) >= n)
		return true;
	tail = __atomic_load_n(&f->words->tail, __ATOMIC_ACQUIRE);
	if (!possible(tail, f->at))
		reset_reader(f, tail);
	f->other = tail & ~(uint32_t)(LANE_ALIGN - 1);
	return lane_seen(f) >= n;
}

/* The length at the present position: 0 if there is none that can be used. */
static uint32_t usable_len(struct lane *f)
{
	uint32_t left = LANE_RING_LEN - (f->at & LANE_MASK);
	uint32_t len = __atomic_load_n(lane_len_at(f, f->at), __ATOMIC_RELAXED);

	if (len == 0 && left < LANE_RING_LEN && lane_seen(f) >= left) {
		f->at += left;
		if (!has_bytes(f, LANE_ALIGN))
			return 0;
		len = __atomic_load_n(lane_len_at(f, f->at), __ATOMIC_RELAXED);
		left = LANE_RING_LEN;
	}
	if (len < LANE_MIN_LEN || len > LANE_MAX_LEN || lane_step_of(len) > left ||
	    lane_step_of(len) > lane_seen(f)) {
		reset_reader(f, f->other);
		return 0;
	}
	return len;
}

const void *lane_look_anew(struct lane *f, uint32_t *ret_len)
{
	uint32_t len;

	if (!has_bytes(f, LANE_ALIGN))
		return NULL;
	len = usable_len(f);
	if (len == 0)
		return NULL;
	f->step = lane_step_of(len);
	*ret_len = len;
	return f->bytes + (f->at & LANE_MASK) + LANE_LEN_WORD;
}

bool lane_release_to(struct lane *f, uint32_t at)
{
	CRASH_POINT("lane.read");
	__atomic_store_n(&f->words->head, at, __ATOMIC_RELEASE);
	CRASH_POINT("lane.released");
	/* Not for each record: a writer that waits is woken when it can go on for a while. */
	return f->other - at <= LANE_RING_LEN / 2 && take_wait(&f->words->writer_waits);
}

bool lane_release(struct lane *f)
{
	return lane_release_to(f, f->at);
}

void lane_go_on(struct lane *f, uint32_t at)
{
	uint32_t tail = __atomic_load_n(&f->words->tail, __ATOMIC_ACQUIRE);

	if (at % LANE_ALIGN != 0 || !possible(tail, f->at) || at - f->at > tail - f->at)
		return;
	f->at = f->other = at;
	__atomic_store_n(&f->words->head, at, __ATOMIC_RELEASE);
}

bool lane_await(struct lane *f)
{
	say_waits(&f->words->reader_waits);
	if (!has_bytes(f, LANE_ALIGN))
		return true;
	__atomic_store_n(&f->words->reader_waits, 0, __ATOMIC_RELAXED);
	return false;
}
