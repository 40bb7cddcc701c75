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

struct state *state_map(void)
{
	void *p = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, CONTRACT_FD_STATE, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int create_at(const char *name, uint64_t len, int number)
{
	scope_fd int fd = fd_open_memfd(name, len, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);

	if (fd < 0)
		return fd;
	return fd_move(take_fd(&fd), number, false);
}

int state_create(uint64_t inflight_len, uint32_t generation)
{
	struct state *s;
	int r;

	r = create_at("vmdev-state", sizeof(struct state), CONTRACT_FD_STATE);
	if (r >= 0)
		r = create_at("vmdev-inflight", inflight_len, CONTRACT_FD_INFLIGHT);
	if (r < 0)
		return r;
	s = state_map();
	if (!s)
		return -errno;
	s->magic = STATE_MAGIC;
	s->version = STATE_VERSION;
	s->generation = generation;
	munmap(s, sizeof(*s));
	return 0;
}

bool state_check(const struct state *s)
{
	return s->magic == STATE_MAGIC && s->version == STATE_VERSION;
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

int state_thread_register(struct state *s, uint32_t i)
{
	return state_register(&s->thread[i]);
}

void state_next_generation(struct state *s)
{
	for (uint32_t i = 0; i < STATE_THREADS; i++) {
		s->thread[i].word = 0;
		s->thread[i].beat = 0;
		s->thread[i].idle = 0;
		s->thread[i].completed = 0;
	}
	s->end = STATE_END_NONE;
	s->ready = 0;
	s->generation++;
}
