/*
 * Does what an attacker inside a device process would do, from inside: system calls made by a
 * running worker or keeper itself.
 *
 *	sandbox-inject worker|keeper PID OUTSIDER-PID [vsock | fs-host|fs-own CANARY]
 *		every attempt of the tables, as TAP
 *	sandbox-inject unfiltered PID OUTSIDER-PID [fs-host|fs-own CANARY]
 *		what must be refused also where the filter allows it, as TAP
 *	sandbox-inject guest-fd|guest-socket PID OUTSIDER-PID fs-host|fs-own NUMBER
 *		what can be done to a file or socket of the front-end's that lies at this number, as TAP
 *	sandbox-inject trip PID
 *		one socket(), and the filter's signal is delivered
 *	sandbox-inject trip-renewed KEEPER-PID WORKER-PID
 *		the same in the keeper, at the first moment at which it can be told of the signal: the worker is
 *		killed, and the keeper followed until it unblocks SIGSYS in its fresh address space
 *
 * Runs in: a test, as root on the host, as the tracer of the device process.
 * Trusts:  nothing that the process says; the kernel's answers are read with ptrace.
 *
 * A call that the filter refuses queues a SIGSYS, which is taken away again (except by "trip"), so
 * that one process can be asked everything. Every attempt is one that changes nothing if it were
 * allowed. A descriptor that one of them gets is looked at from outside, for what it is of, and closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
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
#include <sys/vfs.h>
#include <unistd.h>

#include "tests/e2e/sandbox-attempts.h"
#include "tests/e2e/sandbox-target.h"

static bool is_fs(enum ids ids)
{
	return ids == FS_HOST || ids == FS_OWN;
}

static bool judge(const struct attempt *a, bool keeper, bool refused, long result, char *words,
		  size_t size)
{
	enum answer expected = keeper && a->keeper < NOTHING ? a->keeper : SIGNAL;

	if (refused) {
		snprintf(words, size, "filter");
		return expected == SIGNAL;
	}
	if (result < 0)
		snprintf(words, size, "%s", strerrorname_np((int)-result));
	else
		snprintf(words, size, "ALLOWED, returned %ld", result);
	return expected == PASSES && result == -a->error;
}

static size_t try_all(struct target *t, const struct attempt *table, size_t n, bool keeper)
{
	size_t n_bad = 0;

	for (size_t i = 0; i < n; i++) {
		const struct attempt *a = &table[i];
		char words[128];
		long result = 0;
		bool refused, good;

		if (is_fs(t->ids) && a->keeper == OTHERWISE) {
			printf("ok %zu - %s # SKIP a file system device may: see below\n", i + 1,
			       a->what);
			continue;
		}
		if (keeper && a->keeper == NOTHING) {
			printf("ok %zu - %s # SKIP allowed: a starting worker is under this "
			       "filter\n",
			       i + 1, a->what);
			continue;
		}
		refused = inject(t, a, &result);
		if (refused)
			take_signal(t);
		good = judge(a, keeper, refused, result, words, sizeof(words));
		printf("%sok %zu - %s (%s)\n", good ? "" : "not ", i + 1, a->what, words);
		n_bad += !good;
	}
	return n_bad;
}

/* File system devices */

/* What is at this number of the process's, seen from outside. */
static int kind_of(const struct target *t, long fd)
{
	char path[64];
	struct stat st, root;
	struct statfs fs;
	int own;

	snprintf(path, sizeof(path), "/proc/%d/root", (int)t->pid);
	if (stat(path, &root) < 0)
		die(path);
	snprintf(path, sizeof(path), "/proc/%d/fd/%ld", (int)t->pid, fd);
	if (stat(path, &st) < 0 || statfs(path, &fs) < 0)
		return WORKS;
	if (st.st_dev == root.st_dev && st.st_ino == root.st_ino)
		return GIVES_ROOT;
	if (fs.f_type == PROC_SUPER_MAGIC)
		return GIVES_PROC;
	own = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (own >= 0 && fcntl(own, F_GET_SEALS) > 0) {
		close(own);
		return GIVES_SEALED;
	}
	if (own >= 0)
		close(own);
	return WORKS;
}

static bool gives_descriptor(long nr)
{
	return nr == SYS_openat || nr == SYS_openat2 || nr == SYS_open_by_handle_at ||
	       nr == SYS_open_tree || nr == SYS_fsopen || nr == SYS_socket || nr == SYS_pidfd_open;
}

static const char *outcome_to_text(int outcome, long result)
{
	static char text[64];

	switch (outcome) {
	case FILTER:
		return "filter";
	case WORKS:
		snprintf(text, sizeof(text), "allowed, returned %ld", result);
		return text;
	case GIVES_ROOT:
		return "the shared directory";
	case GIVES_PROC:
		return "the sandbox's proc";
	case GIVES_SEALED:
		return "a sealed memfd";
	default:
		return strerrorname_np(outcome);
	}
}

/* Gives back what the attempt before got. */
static void close_last(struct target *t)
{
	const struct attempt a = { "close", SYS_close, { t->last }, NULL };
	long result;

	if (t->last != UINT64_MAX)
		inject(t, &a, &result);
	t->last = UINT64_MAX;
}

static bool uses_last(const struct fs_attempt *f)
{
	for (size_t i = 0; i < sizeof(f->args) / sizeof(f->args[0]); i++)
		if (f->args[i] == ARG_LAST)
			return true;
	return false;
}

/* DIR/share/inner and DIR/inner, where the canary is DIR/outside/canary. */
static int move_inner(const struct target *t, bool out)
{
	const char *end = strstr(t->canary, "/outside/");
	char inside[512], outside[512];
	int len = end ? (int)(end - t->canary) : 0;

	snprintf(inside, sizeof(inside), "%.*s/share/inner", len, t->canary);
	snprintf(outside, sizeof(outside), "%.*s/inner", len, t->canary);
	if (rename(out ? inside : outside, out ? outside : inside) < 0)
		die(inside);
	return WORKS;
}

static int outcome_of(struct target *t, const struct fs_attempt *f, long *ret_result)
{
	struct attempt a = { .what = f->what, .nr = f->nr, .text = f->text };
	int kind;

	memcpy(a.args, f->args, sizeof(a.args));
	if (!uses_last(f))
		close_last(t);
	if (f->nr < 0)
		return move_inner(t, f->nr == HOST_MOVES_OUT);
	if (inject(t, &a, ret_result)) {
		take_signal(t);
		return FILTER;
	}
	if (*ret_result < 0)
		return (int)-*ret_result;
	if (!gives_descriptor(f->nr))
		return WORKS;
	kind = kind_of(t, *ret_result);
	if (uses_last(f))
		close_last(t);
	t->last = (uint64_t)*ret_result;
	return kind;
}

static size_t try_fs(struct target *t, const struct fs_attempt *table, size_t n, bool keeper)
{
	size_t n_bad = 0;

	t->last = UINT64_MAX;
	for (size_t i = 0; i < n; i++) {
		const struct fs_attempt *f = &table[i];
		int expected = t->ids == FS_HOST ? f->host : f->own;
		int outcome;
		long result = 0;

		if (keeper && f->keeper != THE_SAME)
			expected = f->keeper;
		if (expected == NOT_ASKED) {
			printf("ok %zu - %s # SKIP not of the keeper\n", i + 1, f->what);
			continue;
		}
		outcome = outcome_of(t, f, &result);
		printf("%sok %zu - %s (%s)", outcome == expected ? "" : "not ", i + 1, f->what,
		       outcome_to_text(outcome, result));
		if (outcome != expected)
			printf(" expected: %s", outcome_to_text(expected, 0));
		printf("\n");
		n_bad += outcome != expected;
	}
	close_last(t);
	return n_bad;
}

/* Both tables of a running worker or keeper. */
static int ask(struct target *t, bool keeper)
{
	size_t n_bad;

	attach(t);
	n_bad = try_all(t, attempts, n_attempts, keeper);
	if (is_fs(t->ids))
		n_bad += try_fs(t, fs_attempts, fs_n_attempts, keeper);
	if (t->ids == VSOCK)
		n_bad += try_all(t, vsock_attempts, n_vsock_attempts, keeper);
	detach(t);
	return n_bad == 0 ? 0 : 1;
}

static int ask_unfiltered(struct target *t)
{
	size_t n_bad;

	attach(t);
	n_bad = is_fs(t->ids) ? try_fs(t, fs_unfiltered, fs_n_unfiltered, false)
			      : try_all(t, unfiltered, n_unfiltered, true);
	detach(t);
	return n_bad == 0 ? 0 : 1;
}

static int ask_guest_fd(struct target *t, bool socket)
{
	size_t n_bad;

	attach(t);
	n_bad = try_fs(t, socket ? fs_guest_socket : fs_guest_fd,
		       socket ? fs_n_guest_socket : fs_n_guest_fd, false);
	detach(t);
	return n_bad == 0 ? 0 : 1;
}

/* The same call, and the signal is not taken away: the worker's handler has it. */
static int trip(struct target *t, pid_t worker)
{
	static const struct attempt a = {
		"socket AF_INET", SYS_socket, { AF_INET, SOCK_STREAM, 0 }, NULL
	};
	long result;

	if (worker)
		attach_renewed(t, worker);
	else
		attach_at_work(t);
	if (!inject(t, &a, &result)) {
		detach(t);
		fprintf(stderr, "sandbox-inject: the filter let socket() through\n");
		return 1;
	}
	if (ptrace(PTRACE_DETACH, t->pid, NULL, NULL) < 0)
		die("PTRACE_DETACH");
	return 0;
}

/* As on a host whose kernel has none: io_uring_setup is answered with ENOSYS, for all that comes of
 * the program. */
static int hide_io_uring(char **argv)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(filter) / sizeof(*filter), .filter = filter };

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		die("seccomp");
	execv(argv[0], argv);
	die(argv[0]);
}

static pid_t parse_pid(const char *text)
{
	char *end;
	long pid = strtol(text, &end, 10);

	if (*end != '\0' || pid <= 0) {
		fprintf(stderr, "sandbox-inject: \"%s\" is not a pid\n", text);
		exit(2);
	}
	return (pid_t)pid;
}

static enum ids parse_ids(const char *text)
{
	if (strcmp(text, "fs-host") == 0)
		return FS_HOST;
	if (strcmp(text, "fs-own") == 0)
		return FS_OWN;
	fprintf(stderr, "sandbox-inject: \"%s\" is neither fs-host nor fs-own\n", text);
	exit(2);
}

int main(int argc, char **argv)
{
	struct target t = { .mem = -1, .canary = "", .number = "-1", .last = UINT64_MAX };

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 2 && strcmp(argv[1], "hide-io-uring") == 0)
		return hide_io_uring(argv + 2);
	if (argc == 3 && strcmp(argv[1], "trip") == 0) {
		t.pid = parse_pid(argv[2]);
		return trip(&t, 0);
	}
	if (argc == 4 && strcmp(argv[1], "trip-renewed") == 0) {
		t.pid = parse_pid(argv[2]);
		return trip(&t, parse_pid(argv[3]));
	}
	if (argc == 4 || (argc == 5 && strcmp(argv[4], "vsock") == 0) || argc == 6) {
		t.pid = parse_pid(argv[2]);
		t.outsider = parse_pid(argv[3]);
		t.ids = argc == 6 ? parse_ids(argv[4]) : argc == 5 ? VSOCK : BLK;
		t.canary = t.number = argc == 6 ? argv[5] : "";
		if (strcmp(argv[1], "unfiltered") == 0)
			return ask_unfiltered(&t);
		if (strcmp(argv[1], "guest-fd") == 0 && argc == 6)
			return ask_guest_fd(&t, false);
		if (strcmp(argv[1], "guest-socket") == 0 && argc == 6)
			return ask_guest_fd(&t, true);
		if (strcmp(argv[1], "worker") == 0 || strcmp(argv[1], "keeper") == 0)
			return ask(&t, strcmp(argv[1], "keeper") == 0);
	}
	fprintf(stderr, "usage: sandbox-inject worker|keeper|unfiltered PID OUTSIDER-PID "
			"[vsock | fs-host|fs-own CANARY]\n"
			"       sandbox-inject guest-fd|guest-socket PID OUTSIDER-PID "
			"fs-host|fs-own NUMBER\n"
			"       sandbox-inject trip PID\n"
			"       sandbox-inject trip-renewed KEEPER-PID WORKER-PID\n"
			"       sandbox-inject hide-io-uring PROGRAM...\n");
	return 2;
}
