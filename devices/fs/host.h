/*
 * Calls that the host may let wait.
 *
 * Runs in: worker, I/O threads. Trusts: nothing.
 *
 * The host's file system may be as slow as it likes (a network's, a disk that spins up, a throttled
 * one), whatever it is asked: a thread that waits for it does not hang, and neither does one that
 * waits for a lock that such a thread holds. So each system call on the shared files, and each lock
 * that is held over one, stands in HOST(). What is ours stays outside: a loop that does not end is
 * still found by the watchdog.
 */
#pragma once

#include "devices/base/fd.h"
#include "devices/process/state.h"

/* The calling thread, as its watchdog sees it; by itself, nobody in particular. */
extern _Thread_local struct state_thread *host_thread;

/* The calling thread, t, takes a request up: it makes progress. */
static inline void host_take_up(struct state_thread *t)
{
	host_thread = t;
	__atomic_store_n(&t->beat, t->beat + 1, __ATOMIC_RELAXED);
}

static inline uint32_t host_begin(void)
{
	uint32_t before = __atomic_load_n(&host_thread->idle, __ATOMIC_RELAXED);

	state_thread_blocks(host_thread);
	return before;
}

static inline void host_end(uint32_t before)
{
	__atomic_store_n(&host_thread->idle, before, __ATOMIC_RELAXED);
}

/* The value of call; errno is as call leaves it. */
#define HOST(call)                                                                                 \
	({                                                                                         \
		uint32_t host_before_ = host_begin();                                              \
		__typeof__(call) host_value_ = (call);                                             \
                                                                                                   \
		host_end(host_before_);                                                            \
		host_value_;                                                                       \
	})

/* Closing may write, or free what a file was. Keeps errno, and is -1, as fd_close(). */
static inline int host_close(int fd)
{
	return HOST(fd_close(fd));
}

static inline void host_fd_cleanup(int *fd)
{
	if (*fd >= 0)
		host_close(*fd);
}

/* As scope_fd, for a descriptor of a shared file. */
#define host_fd __attribute__((cleanup(host_fd_cleanup)))
