/* Capabilities. See caps.h. */
#include <cap-ng.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/sandbox/caps.h"
#include "devices/base/error.h"

enum { WORDS = 2 };

static int get_sets(struct __user_cap_data_struct data[WORDS])
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return errno_or((int)syscall(SYS_capget, &header, data));
}

static bool is_as_asked(uint64_t kept)
{
	struct __user_cap_data_struct data[WORDS];

	if (get_sets(data) < 0)
		return false;
	for (int i = 0; i < WORDS; i++) {
		uint32_t word = (uint32_t)(kept >> (32 * i));

		if (data[i].effective != word || data[i].permitted != word ||
		    data[i].inheritable != word)
			return false;
	}
	/* Beyond the last capability that the kernel knows the answer is an error. */
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		int want = cap < 64 && (kept >> cap & 1);

		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) != want ||
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) != want)
			return false;
	}
	return true;
}

static int set_all(uint64_t kept)
{
	capng_clear(CAPNG_SELECT_ALL);
	for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (kept >> cap & 1)
			capng_update(CAPNG_ADD,
				     CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_INHERITABLE |
					     CAPNG_BOUNDING_SET,
				     cap);
	errno = 0;
	if (capng_apply(CAPNG_SELECT_CAPS) != 0)
		return errno ? -errno : -EPERM;
	return 0;
}

/* Ambient needs permitted and inheritable; libcap-ng's own order empties it on the way. */
static int raise_ambient(uint64_t kept)
{
	for (unsigned long cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (kept >> cap & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return -errno;
	return 0;
}

/* While CAP_SETPCAP is there: the bounding set, and what may be inherited. */
static int prepare(uint64_t kept)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[WORDS];
	int r = get_sets(data);

	for (int i = 0; i < WORDS; i++)
		data[i].inheritable = (uint32_t)(kept >> (32 * i));
	if (r >= 0)
		r = errno_or((int)syscall(SYS_capset, &header, data));
	if (r >= 0)
		r = errno_or(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
	if (r >= 0)
		r = raise_ambient(kept);
	for (unsigned long cap = 0; r >= 0 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (cap >= 64 || !(kept >> cap & 1))
			r = errno_or(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
	if (r < 0)
		return r;
	r = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	return r < 0 ? -errno
		     : errno_or(prctl(PR_SET_SECUREBITS,
				      r | SECBIT_NO_CAP_AMBIENT_RAISE |
					      SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
				      0, 0, 0));
}

int caps_keep(uint64_t kept)
{
	int r = prepare(kept);

	if (r >= 0)
		r = set_all(kept);
	if (r < 0)
		return r;
	return is_as_asked(kept) ? 0 : -EPERM;
}
