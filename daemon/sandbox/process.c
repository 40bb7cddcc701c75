/* Inherited attributes. See process.h. */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/sandbox/policy.h"
#include "daemon/sandbox/process.h"
#include "devices/base/error.h"
#include "devices/base/log.h"
#include "devices/process/contract.h"

int process_reset_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	/* clone3 has removed the handlers; what vmdevd ignores (SIGPIPE) is still ignored. */
	for (int number = 1; number <= SIGRTMAX; number++) {
		/* KILL, STOP, and the two that the C library keeps for itself. */
		if (number == SIGKILL || number == SIGSTOP || (number >= 32 && number < SIGRTMIN))
			continue;
		if (sigaction(number, &action, NULL) < 0)
			return -errno;
	}
	sigemptyset(&none);
	return errno_or(sigprocmask(SIG_SETMASK, &none, NULL));
}

int process_leave_session(void)
{
	umask(0077);
	return errno_or(setsid()) < 0 ? -errno : 0;
}

int process_forbid_dumps(void)
{
	return errno_or(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
}

int process_forbid_new_privileges(void)
{
	return errno_or(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/*
 * Who may not raise the limit of descriptors makes do with what there is: fewer files are kept
 * open.
 */
static int limit_to_what_there_is(const struct policy_rlimit *rlimit)
{
	struct rlimit have;

	if (getrlimit(RLIMIT_NOFILE, &have) < 0)
		return -errno;
	if (have.rlim_max < CONTRACT_FD_LIMIT)
		return -EPERM;
	log_notice("sandbox: this host allows %llu descriptors, not %llu (LimitNOFILE= of vmdevd)",
		   (unsigned long long)have.rlim_max, (unsigned long long)rlimit->value.rlim_max);
	have.rlim_cur = have.rlim_max;
	return errno_or(setrlimit(RLIMIT_NOFILE, &have));
}

/* Of the files that were handed in: an image, say. */
static rlim_t longest_resource(void)
{
	rlim_t longest = 0;
	struct stat st;

	for (int fd = CONTRACT_FD_RESOURCE; fd <= CONTRACT_FD_RESOURCE_MAX; fd++)
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (rlim_t)st.st_size > longest)
			longest = (rlim_t)st.st_size;
	return longest;
}

int process_limit(const struct policy_rlimit *rlimit)
{
	struct rlimit value = rlimit->value;
	rlim_t least = rlimit->resource == RLIMIT_FSIZE ? longest_resource() : 0;
	int r;

	if (value.rlim_cur < least)
		value.rlim_cur = least;
	if (value.rlim_max < least)
		value.rlim_max = least;
	r = errno_or(setrlimit((__rlimit_resource_t)rlimit->resource, &value));

	return r == -EPERM && rlimit->resource == RLIMIT_NOFILE ? limit_to_what_there_is(rlimit)
								: r;
}
