/*
 * Landlock. See landlock.h.
 *
 * The C library has no wrappers, and the header of Debian 12 knows only what Linux 5.19 had; what
 * came later is written out here with the version of the ABI that brought it.
 */
#include <errno.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/sandbox/landlock.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

/* struct landlock_ruleset_attr as of ABI 6; a kernel is given as much of it as it knows. */
struct ruleset_attr {
	uint64_t handled_access_fs;  /* ABI 1 */
	uint64_t handled_access_net; /* ABI 4: bind and connect TCP */
	uint64_t scoped;	     /* ABI 6: abstract Unix sockets, signals */
};

enum {
	FS_BITS_ABI_1 = 13,
	NET_ALL = 3,
	SCOPE_ALL = 3,
};

/* The number of file system rights that an ABI knows: they are bits 0 and up. */
static unsigned count_fs_rights(int abi)
{
	if (abi >= 5)
		return FS_BITS_ABI_1 + 3; /* REFER, TRUNCATE, IOCTL_DEV */
	if (abi >= 3)
		return FS_BITS_ABI_1 + 2;
	if (abi >= 2)
		return FS_BITS_ABI_1 + 1;
	return FS_BITS_ABI_1;
}

static size_t attr_size(int abi)
{
	if (abi >= 6)
		return sizeof(struct ruleset_attr);
	if (abi >= 4)
		return offsetof(struct ruleset_attr, scoped);
	return offsetof(struct ruleset_attr, handled_access_net);
}

static int allow_program(int ruleset, int program_fd)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE,
		.parent_fd = program_fd,
	};

	return errno_or(
		(int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0));
}

int landlock_deny(int program_fd, bool files)
{
	int abi =
		(int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct ruleset_attr attr = { 0 };
	scope_fd int ruleset = -1;
	int r;

	if (abi < 0)
		return -errno;
	/* A ruleset must handle something: this kernel's knows files only. */
	if (files && abi < 4)
		return 0;
	if (!files)
		attr.handled_access_fs = (UINT64_C(1) << count_fs_rights(abi)) - 1;
	attr.handled_access_net = NET_ALL;
	attr.scoped = SCOPE_ALL;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, attr_size(abi), 0);
	if (ruleset < 0)
		return -errno;
	r = files ? 0 : allow_program(ruleset, program_fd);
	if (r < 0)
		return r;
	return errno_or((int)syscall(SYS_landlock_restrict_self, ruleset, 0));
}
