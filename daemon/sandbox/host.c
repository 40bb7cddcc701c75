/* What this host has. See host.h. */
#include "daemon/sandbox/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/scope.h"

/*
 * The sysctl (Linux 6.6) says 0 for all, 1 for a group, 2 for nobody; where there is none, an
 * absurd call tells a kernel that has io_uring (EFAULT) from one that has not (ENOSYS) or hides it
 * (EPERM).
 */
bool host_has_io_uring(void)
{
	scope_fd int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);
	char value = '0';

	if (fd >= 0 && (read(fd, &value, 1) != 1 || value != '0')) {
		errno = EPERM;
		return false;
	}
	return syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == EFAULT;
}

int host_find_cgroups(char **ret_point, char **ret_root)
{
	scope_file FILE *file = fopen("/proc/self/mountinfo", "re");
	scope_free char *line = NULL;
	size_t size = 0;

	if (!file)
		return -errno;
	while (getline(&line, &size, file) > 0) {
		char root[1024], point[1024];
		const char *type = strstr(line, " - ");

		if (!type || strncmp(type, " - cgroup2 ", strlen(" - cgroup2 ")) != 0 ||
		    sscanf(line, "%*s %*s %*s %1023s %1023s", root, point) != 2)
			continue;
		*ret_root = strdup(root);
		*ret_point = strdup(point);
		return *ret_root && *ret_point ? 0 : -ENOMEM;
	}
	return -ENOENT;
}
