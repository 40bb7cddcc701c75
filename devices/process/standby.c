/* How a stand-by gets its turn. See standby.h. */
#include "devices/process/standby.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TURN = SIGUSR1 };

static pid_t giver;
static uint32_t turn; /* futex */

static void on_turn(int signo, siginfo_t *info, void *context)
{
	if (info->si_code == SI_USER && info->si_pid == giver)
		__atomic_store_n(&turn, 1, __ATOMIC_RELEASE);
}

static void mask(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, TURN);
	sigprocmask(how, &set, NULL);
}

void standby_hold(void)
{
	mask(SIG_BLOCK);
}

/*
 * A signal that comes before the futex sleeps finds the word changed, one that comes later ends the
 * sleep.
 */
void standby_await_turn(pid_t keeper)
{
	struct sigaction sa = { .sa_sigaction = on_turn, .sa_flags = SA_SIGINFO };

	giver = keeper;
	sigaction(TURN, &sa, NULL);
	mask(SIG_UNBLOCK);
	while (!__atomic_load_n(&turn, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	mask(SIG_BLOCK);
}

int standby_give_turn(pid_t standby)
{
	return kill(standby, TURN) < 0 ? -errno : 0;
}
