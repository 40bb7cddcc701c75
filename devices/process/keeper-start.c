/* Workers and stand-bys are started, given their turn, and reaped. See keeper-private.h. */
#include "devices/process/keeper-private.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/base/clock.h"
#include "devices/base/log.h"
#include "devices/process/contract.h"
#include "devices/process/standby.h"
#include "devices/process/worker.h"

enum {
	AGAIN_AFTER_NS = 1000000000, /* the loss of a stand-by: another */
};

/*
 * fork with one descriptor table for both. The stack and all memory are copies (no CLONE_VM), so
 * the child returns here like the parent.
 */
static pid_t clone_sharing_files(void)
{
	return (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
}

static void reset_signals(void)
{
	signal(SIGCHLD, SIG_DFL);
	signal(SIGTERM, SIG_IGN); /* the keeper's to handle */
	signal(SIGINT, SIG_IGN);
}

/*
 * To grow a table that is shared costs a grace period of RCU, in the midst of a worker's request:
 * it gets its size before, while it is not. (Where the limit could not be raised, it stays small.)
 */
static void grow_table(const struct keeper *k)
{
	int last = (int)k->program->fd_limit - 1;

	if (k->program->fd_limit > CONTRACT_FD_LIMIT && fcntl(last, F_GETFD) < 0 &&
	    dup2(0, last) >= 0)
		close(last);
}

/*
 * A worker of this generation, whose turn it is, or to come. A negative errno on failure.
 */
static pid_t clone_worker(struct keeper *k, uint32_t generation, bool ahead)
{
	pid_t pid;

	state_clear_threads(k->state, generation);
	k->options->keeper = getpid();
	pid = clone_sharing_files();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		reset_signals();
		munmap(k->state, sizeof(*k->state));
		k->options->resume.generation = generation;
		worker_main(k->program, k->options, k->program->config, ahead);
	}
	return pid;
}

/* The eldest that is gone. False: nobody is. */
static bool reap_one(struct keeper *k)
{
	int status;
	pid_t pid = waitpid(-1, &status, WNOHANG);

	if (pid == k->worker && pid > 0)
		k->reaped = true;
	if (pid == k->standby && pid > 0) {
		log_notice("the stand-by has gone (%s %d)",
			   WIFSIGNALED(status) ? "signal" : "status",
			   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		k->standby = 0;
		standby_end();
		k->renew_ns = clock_now_ns() + AGAIN_AFTER_NS;
	}
	return pid > 0;
}

void keeper_reap(struct keeper *k)
{
	while (reap_one(k))
		;
}

/* The next worker, at work while this one is. Without it, recovery takes a little longer. */
void keeper_start_standby(struct keeper *k)
{
	pid_t pid = standby_begin();

	if (pid == 0)
		pid = clone_worker(k, k->options->resume.generation + 1, true);
	if (pid > 0) {
		k->standby = pid;
		return;
	}
	log_warning("no stand-by can be started: %s", strerror(-pid));
	standby_end();
}

void keeper_end_standby(struct keeper *k)
{
	if (k->standby == 0)
		return;
	kill(k->standby, SIGKILL);
	while (waitpid(k->standby, NULL, 0) < 0 && errno == EINTR)
		;
	k->standby = 0;
	standby_end();
}

/* One that somebody has stopped would not notice its turn. */
static bool standby_there(struct keeper *k)
{
	int status = 0;

	if (k->standby == 0)
		return false;
	if (waitpid(k->standby, &status, WNOHANG | WUNTRACED) == 0)
		return true;
	if (WIFSTOPPED(status))
		keeper_end_standby(k);
	return false;
}

static pid_t next_worker(struct keeper *k, uint32_t generation)
{
	pid_t pid = standby_there(k) ? k->standby : 0;

	if (k->standby > 0 && pid == 0)
		standby_end();
	k->standby = 0;
	if (pid > 0) {
		standby_give_turn();
		return pid;
	}
	grow_table(k);
	return clone_worker(k, generation, false);
}

int keeper_start_worker(struct keeper *k)
{
	uint32_t generation = ++k->options->resume.generation;
	uint64_t last_turn_ns = k->turn_ns;
	pid_t pid;

	state_begin_generation(k->state, generation);
	pid = next_worker(k, generation);
	if (pid < 0)
		return pid;
	k->worker = pid;
	k->threads = state_threads(k->state, generation);
	memset(k->beats, 0, sizeof(k->beats));
	memset(k->beat_ns, 0, sizeof(k->beat_ns));
	k->reaped = false;
	k->overdue = false;
	k->turn_ns = clock_now_ns();
	k->stop_ns = k->still_ns = 0;
	k->only_drains = k->state->session_over == STATE_END_STOPPED;
	k->fresh = false;
	k->renew_ns = k->turn_ns + KEEPER_RENEW_AFTER_NS;
	/*
	 * The last one may not have reaped the one before it, and a keeper that has begun anew does
	 * not know. Each that is dead counts as a task.
	 */
	if (last_turn_ns == 0 || k->turn_ns - last_turn_ns < KEEPER_REAP_AFTER_NS)
		reap_one(k);
	return 0;
}
