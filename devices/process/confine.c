/* The worker's filter. See confine.h. */
#include "devices/process/confine.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/process/contract.h"

static int install(const struct sock_filter *filter, uint64_t len)
{
	struct sock_fprog prog = {
		.len = (unsigned short)(len / sizeof(*filter)),
		.filter = (struct sock_filter *)(uintptr_t)filter,
	};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog) != 0)
		return -errno;
	return 0;
}

int confine_worker(bool filtered)
{
	uint64_t len;
	void *map;
	int r;

	if (!filtered)
		return 0;
	r = fd_size(CONTRACT_FD_FILTER, &len);
	if (r < 0)
		return r;
	if (len == 0 || len % sizeof(struct sock_filter) ||
	    len / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return -EINVAL;
	map = mmap(NULL, len, PROT_READ, MAP_SHARED, CONTRACT_FD_FILTER, 0);
	if (map == MAP_FAILED)
		return -errno;
	r = install(map, len);
	if (r == 0)
		munmap(map, len);
	return r;
}
