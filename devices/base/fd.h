/*
 * File descriptors: small operations that the processes share.
 *
 * Runs in: every process. Trusts: nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* Close fd (negative: nothing to do) and return -1, for `fd = fd_close(fd)`. errno is kept. */
int fd_close(int fd);

/*
 * Move fd to this number, in place of whatever was open there: fd itself is closed, if it is
 * another. Returns number, or a negative errno with fd as it was.
 */
int fd_move(int fd, int number, bool cloexec);

/* Set O_NONBLOCK. 0 or a negative errno. */
int fd_set_nonblock(int fd);

/* Set or clear FD_CLOEXEC. 0 or a negative errno. */
int fd_set_cloexec(int fd, bool cloexec);

/*
 * A memfd of this size, zeros, with CLOEXEC, never executable, and these F_SEAL_* on it. The
 * descriptor, or a negative errno.
 */
int fd_open_memfd(const char *name, size_t size, unsigned seals);

/* Add F_SEAL_* to a memfd, when its contents are complete. 0 or a negative errno. */
int fd_add_seals(int fd, unsigned seals);

/*
 * fstat() by the system call of that name, which is the one that a worker's filter lets through:
 * Debian 12's glibc makes newfstatat of it. 0 or a negative errno.
 */
int fd_stat(int fd, struct stat *ret);

/* The size of the file or memfd in *ret_size. 0 or a negative errno. */
int fd_size(int fd, uint64_t *ret_size);

/* Write all of buf to fd, over short writes and EINTR. 0 or a negative errno. */
int fd_write_all(int fd, const void *buf, size_t len);
