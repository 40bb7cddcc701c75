/* File descriptors. See fd.h. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"

/* Linux 6.3; glibc of Debian 12 does not name them yet. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

int fd_close(int fd)
{
	int saved = errno;

	/* Linux releases the number before close() can fail: EINTR must not be repeated. */
	if (fd >= 0)
		close(fd);
	errno = saved;
	return -1;
}

int fd_move(int fd, int number, bool cloexec)
{
	int r;

	if (fd == number) {
		r = fd_set_cloexec(fd, cloexec);
		return r < 0 ? r : number;
	}
	do
		r = dup3(fd, number, cloexec ? O_CLOEXEC : 0);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	fd_close(fd);
	return number;
}

int fd_set_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if (flags & O_NONBLOCK)
		return 0;
	return errno_or(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

int fd_set_cloexec(int fd, bool cloexec)
{
	return errno_or(fcntl(fd, F_SETFD, cloexec ? FD_CLOEXEC : 0));
}

static int fd_create_memfd(const char *name)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);

	/* Before Linux 6.3 the flag is unknown. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	return errno_or(fd);
}

int fd_open_memfd(const char *name, size_t size, unsigned seals)
{
	scope_fd int fd = fd_create_memfd(name);
	int r;

	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)size) < 0)
		return -errno;
	r = seals ? fd_add_seals(fd, seals) : 0;
	return r < 0 ? r : take_fd(&fd);
}

int fd_add_seals(int fd, unsigned seals)
{
	return errno_or(fcntl(fd, F_ADD_SEALS, seals));
}

int fd_stat(int fd, struct stat *ret)
{
	return errno_or((int)syscall(SYS_fstat, fd, ret));
}

int fd_size(int fd, uint64_t *ret_size)
{
	struct stat st;
	int r = fd_stat(fd, &st);

	if (r < 0)
		return r;
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

int fd_write_all(int fd, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}
