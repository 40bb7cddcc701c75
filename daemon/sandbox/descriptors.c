/* The descriptor table. See descriptors.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "daemon/sandbox/descriptors.h"
#include "devices/base/error.h"
#include "devices/process/contract.h"

int descriptors_raise(int fd)
{
	return errno_or(fcntl(fd, F_DUPFD_CLOEXEC, CONTRACT_FD_SESSION));
}

int descriptors_place(int fd, int number)
{
	return errno_or(dup2(fd, number));
}

int descriptors_close_others(const int *numbers, unsigned n)
{
	unsigned first = 0;

	for (unsigned i = 0; i < n; i++) {
		unsigned number = (unsigned)numbers[i];

		if (number > first && close_range(first, number - 1, 0) < 0)
			return -errno;
		first = number + 1;
	}
	return errno_or(close_range(first, UINT_MAX, 0));
}
