/* A device process that is made to do system calls. See sandbox-target.h. */
#include "tests/e2e/sandbox-target.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SCRATCH_TEXT = 0,
	SCRATCH_SOCKET = 256,
	SCRATCH_ZEROS = 512,
	SCRATCH_IOVEC = 1024,
	SCRATCH_CAPS = 1088,
	SCRATCH_ALL_CAPS = 1104,
	SCRATCH_HANDLE = 1152,
	SCRATCH_NAME = 1344,
	SCRATCH_MESSAGE = 1408,
	SCRATCH_CONTROL = 1472,
	SCRATCH_BYTE = 1504,
	SCRATCH_LEN = 1536,
};

_Noreturn void die(const char *what)
{
	fprintf(stderr, "sandbox-inject: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void await_stop(const struct target *t, int *ret_status)
{
	if (waitpid(t->pid, ret_status, __WALL) != t->pid)
		die("waitpid");
	if (!WIFSTOPPED(*ret_status)) {
		printf("Bail out! the process ended (status 0x%x)\n", (unsigned)*ret_status);
		exit(1);
	}
}

/* A syscall instruction in the process's own text; its address. */
static uint64_t find_syscall(const struct target *t)
{
	char path[64], line[512];
	uint64_t start, end;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)t->pid);
	maps = fopen(path, "re");
	if (!maps)
		die(path);
	while (fgets(line, sizeof(line), maps)) {
		char perms[8];
		uint8_t *text;
		uint8_t *hit;

		if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) != 3 || perms[2] != 'x')
			continue;
		text = malloc(end - start);
		if (!text ||
		    pread(t->mem, text, end - start, (off_t)start) != (ssize_t)(end - start)) {
			free(text);
			continue;
		}
		hit = memmem(text, end - start, "\x0f\x05", 2);
		start += hit ? (uint64_t)(hit - text) : 0;
		free(text);
		if (hit) {
			fclose(maps);
			return start;
		}
	}
	die("no syscall instruction");
}

/* The last of the pids in its status: that of its own namespace. */
static pid_t read_inner_pid(pid_t pid)
{
	char path[64], line[256];
	pid_t inner = pid;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	if (!file)
		die(path);
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "NSpid:", 6) == 0)
			inner = (pid_t)strtol(strrchr(line, '\t'), NULL, 10);
	fclose(file);
	return inner;
}

void attach(struct target *t)
{
	char path[64];
	int status;

	t->inner_pid = read_inner_pid(t->pid);

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)t->pid);
	t->mem = open(path, O_RDWR | O_CLOEXEC);
	if (t->mem < 0)
		die(path);
	if (ptrace(PTRACE_SEIZE, t->pid, NULL, (void *)(intptr_t)PTRACE_O_TRACESYSGOOD) < 0)
		die("PTRACE_SEIZE");
	if (ptrace(PTRACE_INTERRUPT, t->pid, NULL, NULL) < 0)
		die("PTRACE_INTERRUPT");
	await_stop(t, &status);
	if (ptrace(PTRACE_GETREGS, t->pid, NULL, &t->saved) < 0)
		die("PTRACE_GETREGS");
	t->syscall_at = find_syscall(t);
	t->scratch = ((t->saved.rsp - 128) & ~UINT64_C(63)) - SCRATCH_LEN;
}

void detach(const struct target *t)
{
	if (ptrace(PTRACE_SETREGS, t->pid, NULL, &t->saved) < 0)
		die("PTRACE_SETREGS");
	if (ptrace(PTRACE_DETACH, t->pid, NULL, NULL) < 0)
		die("PTRACE_DETACH");
}

/* The text with what stands for something in it replaced. */
static void expand(const struct target *t, const char *text, char *ret, size_t size)
{
	size_t len = 0;
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)t->outsider);
	for (; *text && len + 1 < size; text++) {
		const char *with = t->ids == BLK  ? NULL
				   : *text == '$' ? t->canary
				   : *text == '#' ? pid
				   : *text == '@' ? t->number
						  : NULL;

		len += with ? (size_t)snprintf(ret + len, size - len, "%s", with) : 1;
		if (!with)
			ret[len - 1] = *text;
	}
	ret[len < size ? len : size - 1] = '\0';
}

/* One byte that claims to be from user and group 0. */
static void fill_message(const struct target *t, char *scratch)
{
	const struct iovec *byte = (void *)(t->scratch + SCRATCH_BYTE);
	const struct mmsghdr message = { .msg_hdr = {
						 .msg_iov = (struct iovec *)(uintptr_t)byte,
						 .msg_iovlen = 1,
						 .msg_control =
							 (void *)(t->scratch + SCRATCH_CONTROL),
						 .msg_controllen = CMSG_SPACE(sizeof(struct ucred)),
					 } };
	const struct iovec vector = { (void *)(t->scratch + SCRATCH_ZEROS), 1 };
	const struct ucred who = { .pid = t->inner_pid };
	struct cmsghdr head = {
		.cmsg_len = CMSG_LEN(sizeof(who)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_CREDENTIALS,
	};

	memcpy(scratch + SCRATCH_MESSAGE, &message, sizeof(message));
	memcpy(scratch + SCRATCH_CONTROL, &head, sizeof(head));
	memcpy(scratch + SCRATCH_CONTROL + CMSG_LEN(0), &who, sizeof(who));
	memcpy(scratch + SCRATCH_BYTE, &vector, sizeof(vector));
}

static void write_scratch(const struct target *t, const char *text)
{
	char scratch[SCRATCH_LEN] = { 0 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const uint64_t vector[] = { t->scratch + SCRATCH_ZEROS, 8 }; /* struct iovec */
	const struct __user_cap_header_struct caps = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct {
		unsigned len;
		int type;
	} handle = { 128, 1 }; /* struct file_handle */

	snprintf(scratch + SCRATCH_NAME, SCRATCH_LEN - SCRATCH_NAME, "user.vmdev");
	memcpy(scratch + SCRATCH_CAPS, &caps, sizeof(caps));
	memset(scratch + SCRATCH_ALL_CAPS, 0xff, 2 * sizeof(struct __user_cap_data_struct));
	memcpy(scratch + SCRATCH_HANDLE, &handle, sizeof(handle));
	fill_message(t, scratch);
	if (text) {
		expand(t, text, scratch + SCRATCH_TEXT, SCRATCH_SOCKET - SCRATCH_TEXT);
		snprintf(address.sun_path, sizeof(address.sun_path), "%s", text);
		if (address.sun_path[0] == '@')
			address.sun_path[0] = '\0';
		memcpy(scratch + SCRATCH_SOCKET, &address, sizeof(address));
	}
	memcpy(scratch + SCRATCH_IOVEC, &vector, sizeof(vector));
	if (pwrite(t->mem, scratch, sizeof(scratch), (off_t)t->scratch) != sizeof(scratch))
		die("writing the process's stack");
}

static uint64_t resolve(const struct target *t, uint64_t arg)
{
	switch (arg) {
	case ARG_TEXT:
		return t->scratch + SCRATCH_TEXT;
	case ARG_SOCKET:
		return t->scratch + SCRATCH_SOCKET;
	case ARG_IOVEC:
		return t->scratch + SCRATCH_IOVEC;
	case ARG_ZEROS:
		return t->scratch + SCRATCH_ZEROS;
	case ARG_NAME:
		return t->scratch + SCRATCH_NAME;
	case ARG_MESSAGE:
		return t->scratch + SCRATCH_MESSAGE;
	case ARG_CAPS:
		return t->scratch + SCRATCH_CAPS;
	case ARG_ALL_CAPS:
		return t->scratch + SCRATCH_ALL_CAPS;
	case ARG_HANDLE:
		return t->scratch + SCRATCH_HANDLE;
	case ARG_OUTSIDER:
		return (uint64_t)t->outsider;
	case ARG_LAST:
		return t->last;
	case ARG_NUMBER:
		return strtoull(t->number, NULL, 10);
	default:
		return arg;
	}
}

/* Runs the process to the next entry to or exit from a system call. */
static void run_to_boundary(const struct target *t)
{
	int status;

	do {
		if (ptrace(PTRACE_SYSCALL, t->pid, NULL, NULL) < 0)
			die("PTRACE_SYSCALL");
		await_stop(t, &status);
	} while (WSTOPSIG(status) != (SIGTRAP | 0x80));
}

/* Is a SIGSYS of this very call waiting for the thread? */
static bool signal_is_queued(const struct target *t, long nr)
{
	struct __ptrace_peeksiginfo_args args = { .off = 0, .flags = 0, .nr = 8 };
	siginfo_t infos[8];
	long n = ptrace(PTRACE_PEEKSIGINFO, t->pid, &args, infos);

	for (long i = 0; i < n; i++)
		if (infos[i].si_signo == SIGSYS && infos[i].si_syscall == (int)nr)
			return true;
	return false;
}

/* Lets the queued SIGSYS come as far as the tracer, and no further. */
void take_signal(const struct target *t)
{
	int status;

	do {
		if (ptrace(PTRACE_SINGLESTEP, t->pid, NULL, NULL) < 0)
			die("PTRACE_SINGLESTEP");
		await_stop(t, &status);
	} while (WSTOPSIG(status) != SIGSYS);
}

/* Makes the process do one system call. True: its filter refused; else *ret_result is what it
 * returned. */
bool inject(const struct target *t, const struct attempt *a, long *ret_result)
{
	struct user_regs_struct regs = t->saved;

	write_scratch(t, a->text);
	regs.rip = t->syscall_at;
	regs.rax = (uint64_t)a->nr;
	regs.orig_rax = (uint64_t)-1;
	regs.rdi = resolve(t, a->args[0]);
	regs.rsi = resolve(t, a->args[1]);
	regs.rdx = resolve(t, a->args[2]);
	regs.r10 = resolve(t, a->args[3]);
	regs.r8 = resolve(t, a->args[4]);
	regs.r9 = resolve(t, a->args[5]);
	if (ptrace(PTRACE_SETREGS, t->pid, NULL, &regs) < 0)
		die("PTRACE_SETREGS");
	run_to_boundary(t);
	run_to_boundary(t);
	if (ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) < 0)
		die("PTRACE_GETREGS");
	*ret_result = (long)regs.rax;
	return signal_is_queued(t, a->nr);
}

static bool is_blocked(const struct target *t, int number)
{
	uint64_t mask = 0;

	if (ptrace(PTRACE_GETSIGMASK, t->pid, (void *)sizeof(mask), &mask) < 0)
		die("PTRACE_GETSIGMASK");
	return mask >> (number - 1) & 1;
}

/*
 * A keeper that is just beginning itself anew has its signals blocked, and no handlers yet: asked then, what the
 * filter sends would be lost, as it is PID 1.
 */
void attach_at_work(struct target *t)
{
	attach(t);
	while (is_blocked(t, SIGSYS)) {
		detach(t);
		usleep(1000);
		close(t->mem);
		attach(t);
	}
}

/* To the next stop at a system call; signals on the way are delivered. */
static void run_to_syscall(const struct target *t)
{
	int status, signo = 0;

	do {
		if (ptrace(PTRACE_SYSCALL, t->pid, NULL, (void *)(intptr_t)signo) < 0)
			die("PTRACE_SYSCALL");
		await_stop(t, &status);
		signo = status >> 16 ? 0 : WSTOPSIG(status);
	} while (signo != (SIGTRAP | 0x80));
}

/* It stands at the entry to a call that unblocks SIGSYS. */
static bool unblocks_sigsys(const struct target *t)
{
	struct __ptrace_syscall_info info;
	uint64_t mask = 0;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, t->pid, (void *)sizeof(info), &info) < 0)
		die("PTRACE_GET_SYSCALL_INFO");
	if (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != SYS_rt_sigprocmask ||
	    info.entry.args[0] != SIG_UNBLOCK || info.entry.args[1] == 0)
		return false;
	if (pread(t->mem, &mask, sizeof(mask), (off_t)info.entry.args[1]) != sizeof(mask))
		die("the signal mask");
	return mask >> (SIGSYS - 1) & 1;
}

/* Over the keeper's renewal: it stops in the new program, where SIGSYS has just been unblocked. */
void attach_renewed(struct target *t, pid_t worker)
{
	attach(t);
	if (kill(worker, SIGKILL) < 0)
		die("kill");
	do
		run_to_syscall(t);
	while (!unblocks_sigsys(t));
	run_to_syscall(t);
	if (ptrace(PTRACE_GETREGS, t->pid, NULL, &t->saved) < 0)
		die("PTRACE_GETREGS");
	t->syscall_at = find_syscall(t);
	t->scratch = ((t->saved.rsp - 128) & ~UINT64_C(63)) - SCRATCH_LEN;
}
