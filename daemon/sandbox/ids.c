/* Ids. See ids.h. */
#include <errno.h>
#include <grp.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/sandbox/ids.h"
#include "devices/base/error.h"

int ids_lock_securebits(void)
{
	/*
	 * NO_SETUID_FIXUP also leaves us our capabilities when the user changes: the root directory
	 * and the bounding set still need them. They go in caps_keep(), which locks the ambient
	 * set. Those that a device keeps stay when it takes a guest's user for its own to make a
	 * file.
	 */
	return errno_or(prctl(PR_SET_SECUREBITS,
			      SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
				      SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED,
			      0, 0, 0));
}

int ids_become(uint32_t id)
{
	if (setgroups(0, NULL) < 0 || setresgid(id, id, id) < 0 || setresuid(id, id, id) < 0)
		return -errno;
	return 0;
}
