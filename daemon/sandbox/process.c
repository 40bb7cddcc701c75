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

int process_limit(const struct policy_rlimit *rlimit)
{
	return errno_or(setrlimit((__rlimit_resource_t)rlimit->resource, &rlimit->value));
}
