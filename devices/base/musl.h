/*
 * What device programs use of Linux and the musl of Debian 12 (1.2.3) lacks or does otherwise.
 * The compiler includes it before the first line of every source of a device program that is
 * built against musl, and of nothing else (devices/meson.build).
 *
 * Runs in: keeper, worker. Trusts: nothing.
 *
 * Each of these is the plain system call, under the name that glibc has for it. The names are
 * macros, so that newer releases of musl, which declare some of them, do no harm.
 *
 *  - A worker is a child of clone() that musl did not make. musl's gettid() returns a number that
 *    it keeps in memory, which in a worker is the keeper's: the kernel is asked instead.
 *  - musl's epoll_wait() is epoll_pwait, which can also change the signal mask; a worker's filter
 *    has no need to let that through.
 *  - musl's nanosleep() is nanosleep, glibc's clock_nanosleep; so is this one.
 */
#pragma once

#include <asm/unistd.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/*
 * The kernel's struct statx, whatever musl calls by that name; STATX_DIOALIGN came with Linux 6.1.
 */
#define statx musl_statx
#include <linux/stat.h>

#define SYS_futex_waitv __NR_futex_waitv

#define gettid()			    musl_gettid()
#define close_range(first, last, flags)	    musl_close_range(first, last, flags)
#define epoll_wait(epoll, events, n, ms)    musl_epoll_wait(epoll, events, n, ms)
#define nanosleep(ts, ret_left)		    musl_nanosleep(ts, ret_left)
#define preadv2(fd, iov, n, offset, flags)  musl_preadv2(fd, iov, n, offset, flags)
#define pwritev2(fd, iov, n, offset, flags) musl_pwritev2(fd, iov, n, offset, flags)

/* musl's strerror() is this one: it does not look at the locale, unless one was set. */
#define strerrordesc_np(error) strerror(error)

static inline pid_t musl_gettid(void)
{
	return (pid_t)syscall(SYS_gettid);
}

static inline int musl_close_range(unsigned first, unsigned last, unsigned flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}

static inline int musl_epoll_wait(int epoll, struct epoll_event *events, int n, int ms)
{
	return (int)syscall(SYS_epoll_wait, epoll, events, n, ms);
}

static inline int musl_nanosleep(const struct timespec *ts, struct timespec *ret_left)
{
	return (int)syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, ts, ret_left);
}

static inline int musl_statx(int fd, const char *path, int flags, unsigned mask,
			     struct musl_statx *ret)
{
	return (int)syscall(SYS_statx, fd, path, flags, mask, ret);
}

/* The offset travels in two registers, of which 64-bit Linux ignores the second. */
static inline ssize_t musl_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	return syscall(SYS_preadv2, fd, iov, n, offset, 0, flags);
}

static inline ssize_t musl_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	return syscall(SYS_pwritev2, fd, iov, n, offset, 0, flags);
}
