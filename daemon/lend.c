/* Files that devices may not change. See lend.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/lend.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

static int make_mount(const char *path, int *ret_fd)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID,
		.propagation = MS_PRIVATE,
	};
	scope_fd int file = open(path, O_PATH | O_CLOEXEC);
	scope_fd int mount = -1;

	if (file < 0)
		return -errno;
	mount = open_tree(file, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (mount < 0 || mount_setattr(mount, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return -errno;
	*ret_fd = take_fd(&mount);
	return 0;
}

/* The mount lives as long as what is open in it. */
int lend_file(const char *path, int flags, int *ret_fd)
{
	scope_fd int mount = -1;
	char link[64];
	int r = make_mount(path, &mount);

	if (r < 0)
		return r;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", mount);
	r = errno_or(open(link, flags | O_CLOEXEC | O_NOCTTY));
	if (r < 0)
		return r;
	*ret_fd = r;
	return 0;
}
