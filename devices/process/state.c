/* The state memfd: made by the keeper, mapped by all. Who writes what is in state.h. */
#include "devices/process/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/scope.h"

/* Where the device type's part begins. */
static uint64_t device_offset(void)
{
	uint64_t page = 4096;

	return (sizeof(struct state) + page - 1) / page * page;
}

static struct state *map(void)
{
	void *p = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, CONTRACT_FD_STATE, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct state *state_map(uint64_t device_len)
{
	struct state *s;
	uint64_t size;
	int r = fd_size(CONTRACT_FD_STATE, &size);

	/* Before a byte of it is touched: beyond the end of a shorter one there would be SIGBUS. */
	if (r == 0 && size != device_offset() + device_len)
		r = -EBADMSG;
	s = r == 0 ? map() : NULL;
	if (s && (s->magic != STATE_MAGIC || s->version != STATE_VERSION)) {
		munmap(s, sizeof(*s));
		s = NULL;
		r = -EBADMSG;
	}
	if (r < 0)
		errno = -r;
	return s;
}

void *state_map_device(uint64_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, CONTRACT_FD_STATE,
		       (off_t)device_offset());

	return p == MAP_FAILED ? NULL : p;
}

int state_give_back(uint64_t offset, uint64_t len)
{
	return fallocate(CONTRACT_FD_STATE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)(device_offset() + offset), (off_t)len) < 0
		       ? -errno
		       : 0;
}

static int create_at(const char *name, uint64_t len, int number)
{
	scope_fd int fd = fd_open_memfd(name, len, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);

	if (fd < 0)
		return fd;
	return fd_move(take_fd(&fd), number, false);
}

int state_create(uint64_t device_len, uint64_t inflight_len, uint32_t generation)
{
	struct state *s;
	int r;

	r = create_at("vmdev-state", device_offset() + device_len, CONTRACT_FD_STATE);
	if (r >= 0)
		r = create_at("vmdev-inflight", inflight_len, CONTRACT_FD_INFLIGHT);
	if (r < 0)
		return r;
	s = map();
	if (!s)
		return -errno;
	s->magic = STATE_MAGIC;
	s->version = STATE_VERSION;
	s->generation = generation;
	munmap(s, sizeof(*s));
	return 0;
}

/* The list has one entry for ever: the kernel walks head → node → head when the thread dies. */
int state_register(struct state_thread *t)
{
	t->node.next = &t->head.list;
	t->head.list.next = &t->node;
	t->head.list_op_pending = NULL;
	t->head.futex_offset = (long)offsetof(struct state_thread, word) -
			       (long)offsetof(struct state_thread, node);
	if (syscall(SYS_set_robust_list, &t->head, sizeof(t->head)) < 0)
		return -errno;
	__atomic_store_n(&t->word, (uint32_t)gettid() | FUTEX_WAITERS, __ATOMIC_RELEASE);
	return 0;
}

/* One more crash in which this request was in hand; suspect as in struct state_thread. */
static void suspect_request(struct state *s, uint32_t suspect, uint32_t n_queues)
{
	uint32_t queue = (suspect - 1) >> 16, head = (suspect - 1) & 0xffff;

	if (suspect && queue < n_queues && head < QUEUE_MAX_SIZE &&
	    s->suspicion[queue][head] < UINT8_MAX)
		s->suspicion[queue][head]++;
}

void state_raise_suspicion(struct state *s, uint32_t n_queues)
{
	bool fault = s->fault.signo && !s->fault.counted;
	uint32_t thread = s->fault.thread;

	if (fault && thread > 0 && thread < STATE_THREADS)
		suspect_request(s, s->fault.suspect, n_queues);
	if (fault && thread == 0 && s->message_in_hand)
		s->session_faults++;
	s->message_in_hand = 0;
	s->fault.counted = 1;
}

void state_clear_threads(struct state *s, uint32_t generation)
{
	memset(state_threads(s, generation), 0, sizeof(s->threads[0]));
}

void state_begin_generation(struct state *s, uint32_t generation)
{
	s->end = STATE_END_NONE;
	s->ready = 0;
	s->generation = generation;
}
