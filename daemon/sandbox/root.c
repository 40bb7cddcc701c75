/*
 * The root directory. See root.h.
 *
 * The file system is mounted on top of "/", so that no directory of the host is needed as a mount
 * point; pivot_root(".", ".") then puts the old root on top of the new one at the same place, from
 * where it is detached with everything below it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/sandbox/root.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

/* Linux 5.10; glibc of Debian 12 has it, older ones not. */
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

/* An empty tmpfs that is attached nowhere yet: no room for a byte, no inode but its root, which
 * nobody may open. */
static int make_empty_mount(void)
{
	static const struct {
		const char *key, *value;
	} options[] = { { "mode", "0000" }, { "size", "4096" }, { "nr_inodes", "1" } };
	scope_fd int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++)
		if (fsconfig(fs, FSCONFIG_SET_STRING, options[i].key, options[i].value, 0) < 0)
			return -errno;
	if (fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	return errno_or(fsmount(fs, FSMOUNT_CLOEXEC,
				MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW));
}

int root_enter(void)
{
	scope_fd int root = -1;

	/* Nothing that is mounted or detached here may travel back to the host. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	root = make_empty_mount();
	if (root < 0)
		return root;
	if (move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(root) < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}
