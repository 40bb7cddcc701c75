/*
 * The fixture: a back-end program under test.
 *
 * Runs in: test programs. Trusts: its caller.
 *
 * The program is a child of the test and dies with it. Its stderr is a file in its directory, shown
 * when a claim fails.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/contract.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct argv {
	char text[BACKEND_MAX_ARGS][320];
	char *list[BACKEND_MAX_ARGS + 1];
	unsigned n;
};

static void argv_add(struct argv *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void argv_add(struct argv *a, const char *format, ...)
{
	va_list list;

	if (a->n == BACKEND_MAX_ARGS)
		abort();
	va_start(list, format);
	vsnprintf(a->text[a->n], sizeof(a->text[0]), format, list);
	va_end(list);
	a->list[a->n] = a->text[a->n];
	a->list[++a->n] = NULL;
}

static bool is_storage_daemon(const char *program)
{
	return strstr(program, "qemu-storage-daemon") != NULL;
}

static void argv_storage_daemon(struct argv *a, const struct backend *b,
				const struct backend_spec *spec)
{
	bool direct = spec->cache && !strcmp(spec->cache, "none");

	argv_add(a, "--blockdev");
	argv_add(a, "file,node-name=f,filename=%s,cache.direct=%s,aio=io_uring,discard=unmap",
		 b->image, direct ? "on" : "off");
	argv_add(a, "--export");
	argv_add(a,
		 "vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path=%s,writable=on,"
		 "num-queues=%u",
		 b->socket, spec->n_queues ? spec->n_queues : 1);
}

static void argv_build(struct argv *a, const struct backend *b, const struct backend_spec *spec)
{
	const char *const *arg;

	a->n = 0;
	argv_add(a, "%s", spec->program);
	if (is_storage_daemon(spec->program)) {
		argv_storage_daemon(a, b, spec);
		return;
	}
	argv_add(a, "--name=test/%s", b->share[0] ? "share" : "disk");
	if (spec->contract)
		argv_add(a, "--contract");
	else if (spec->fd > 0)
		argv_add(a, "--fd=%d", spec->fd);
	else
		argv_add(a, "--socket-path=%s", b->socket);
	if (!spec->cid)
		argv_add(a, "--queues=%u", spec->n_queues ? spec->n_queues : 1);
	argv_add(a, "--queue-size=%u", spec->queue_size ? spec->queue_size : 256);
	if (spec->cid) {
		argv_add(a, "--guest-cid=%u", spec->cid);
		argv_add(a, "--uds-path=%s", b->uds);
	} else if (spec->net) {
		/* args say it all */
	} else if (b->share[0]) {
		argv_add(a, "--shared-dir=%s", b->share);
		argv_add(a, "--tag=test");
		argv_add(a, "--cache=%s", spec->cache ? spec->cache : "auto");
	} else {
		if (!spec->contract)
			argv_add(a, "--blk-file=%s", b->image);
		argv_add(a, "--cache=%s", spec->cache ? spec->cache : "writeback");
	}
	for (arg = spec->args; arg && *arg; arg++)
		argv_add(a, "%s", *arg);
}

static int directory_make(struct backend *b, const struct backend_spec *spec)
{
	const char *tmp = getenv("TMPDIR");

	/* Not /tmp: where that is a tmpfs, it can do less than other file systems, and lists an entry twice. */
	if (spec->dir) {
		snprintf(b->dir, sizeof(b->dir), "%s", spec->dir);
	} else {
		snprintf(b->dir, sizeof(b->dir), "%s/vmdev-test-XXXXXX", tmp ? tmp : "/var/tmp");
		if (!mkdtemp(b->dir))
			return -errno;
		b->own_dir = true;
	}
	snprintf(b->socket, sizeof(b->socket), "%s/s", b->dir);
	snprintf(b->uds, sizeof(b->uds), "%s/uds", b->dir);
	snprintf(b->log, sizeof(b->log), "%s", spec->log ? spec->log : "");
	if (!spec->log)
		snprintf(b->log, sizeof(b->log), "%s/log", b->dir);
	return 0;
}

static int image_make(struct backend *b, const struct backend_spec *spec)
{
	int fd;

	if (spec->image) {
		snprintf(b->image, sizeof(b->image), "%s", spec->image);
		return 0;
	}
	snprintf(b->image, sizeof(b->image), "%s/image", b->dir);
	fd = open(b->image, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	b->own_image = true;
	if (ftruncate(fd, (off_t)spec->image_len) < 0) {
		close(fd);
		return -errno;
	}
	close(fd);
	return 0;
}

static int share_make(struct backend *b, const struct backend_spec *spec)
{
	if (spec->share[0]) {
		snprintf(b->share, sizeof(b->share), "%s", spec->share);
		return 0;
	}
	snprintf(b->share, sizeof(b->share), "%s/share", b->dir);
	b->own_share = true;
	return mkdir(b->share, 0755) < 0 ? -errno : 0;
}

static void child_exec(const struct backend *b, const struct backend_spec *spec, struct argv *a,
		       int control, pid_t parent)
{
	const char *const *e;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	fd = open(b->log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
	if (fd >= 0)
		dup2(fd, 2);
	/* Not our own stdout: whoever reads that to its end shall not wait for a back-end. */
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		dup2(fd, 0);
		dup2(fd, 1);
	}
	if (spec->fd > 0)
		fcntl(spec->fd, F_SETFD, 0);
	if (spec->contract)
		contract_arrange(b, spec, control);
	for (e = spec->env; e && *e; e++)
		putenv((char *)(uintptr_t)*e);
	execvp(spec->program, a->list);
	dprintf(2, "%s: %s\n", spec->program, strerror(errno));
	_exit(127);
}

/*
 * A listening socket is seen in /proc/net/unix, without a connection that would be a session of its
 * own. Flags of a listening socket have __SO_ACCEPTCON, 0x10000.
 */
static bool socket_listens(const char *path)
{
	char line[512];
	bool found = false;
	FILE *f;

	f = fopen("/proc/net/unix", "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		found = strstr(line, " 00010000 ") && strlen(line) > strlen(path) &&
			!strcmp(line + strlen(line) - strlen(path), path);
	}
	if (f)
		fclose(f);
	return found;
}

static int await_ready(struct backend *b, const struct backend_spec *spec)
{
	int i, status;

	if (spec->fd > 0)
		return 0;
	for (i = 0; i < 5000; i++) {
		if (socket_listens(b->socket))
			return 0;
		if (waitpid(b->pid, &status, WNOHANG) == b->pid) {
			b->pid = 0;
			return -ECHILD;
		}
		usleep(1000);
	}
	return -ETIMEDOUT;
}

/* The one that an interrupted test would leave behind. */
static struct backend *volatile current;

/* With whatever is in it. Calls only what a signal handler may. */
static void remove_share(const struct backend *b)
{
	pid_t pid = fork();

	if (pid == 0) {
		execl("/bin/rm", "rm", "-rf", "--", b->share, NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void remove_files(const struct backend *b)
{
	unlink(b->socket);
	if (b->own_image)
		unlink(b->image);
	if (b->own_share)
		remove_share(b);
	if (b->own_dir) {
		char seqpacket[sizeof(b->uds) + 16];

		snprintf(seqpacket, sizeof(seqpacket), "%s.seqpacket", b->uds);
		unlink(b->uds);
		unlink(seqpacket);
		unlink(b->log);
		rmdir(b->dir);
	}
}

/* Calls only what a signal handler may. */
static void clean_up_and_die(int number)
{
	struct backend *b = current;

	if (b && b->pid > 0) {
		kill(b->pid, SIGKILL);
		waitpid(b->pid, NULL, 0);
	}
	if (b)
		remove_files(b);
	signal(number, SIG_DFL);
	raise(number);
}

static void clean_up_when_interrupted(struct backend *b)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	/* The signal is blocked while its handler runs, but must end the process there. */
	struct sigaction sa = { .sa_handler = clean_up_and_die, .sa_flags = SA_NODEFER };
	unsigned i;

	current = b;
	for (i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		sigaction(numbers[i], &sa, NULL);
}

int backend_start(struct backend *b, const struct backend_spec *spec)
{
	static struct argv a;
	pid_t parent = getpid();
	int r, pair[2] = { -1, -1 };

	memset(b, 0, sizeof(*b));
	clean_up_when_interrupted(b);
	r = directory_make(b, spec);
	if (r == 0)
		r = spec->cid || spec->net ? 0
		    : spec->share	   ? share_make(b, spec)
					   : image_make(b, spec);
	if (r < 0) {
		backend_done(b);
		return r;
	}
	argv_build(&a, b, spec);
	if (spec->contract && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		err(1, "contract socket");
	fflush(NULL);
	b->pid = fork();
	if (b->pid == 0)
		child_exec(b, spec, &a, pair[1], parent);
	if (spec->contract) {
		b->control = pair[0];
		close(pair[1]);
	}
	r = b->pid < 0 ? -errno : await_ready(b, spec);
	if (r < 0) {
		backend_show_log(b);
		backend_done(b);
	}
	return r;
}

int backend_stop(struct backend *b, int *ret_status)
{
	int i;

	kill(b->pid, SIGTERM);
	for (i = 0; i < 5000; i++) {
		if (waitpid(b->pid, ret_status, WNOHANG) == b->pid) {
			b->pid = 0;
			return 0;
		}
		usleep(1000);
	}
	return -ETIMEDOUT;
}

bool backend_alive(struct backend *b)
{
	siginfo_t info = {};

	return b->pid > 0 && waitid(P_PID, (id_t)b->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == 0;
}

bool backend_log_has(const struct backend *b, const char *text)
{
	char line[512];
	bool found = false;
	FILE *f = fopen(b->log, "re");

	while (f && !found && fgets(line, sizeof(line), f))
		found = strstr(line, text) != NULL;
	if (f)
		fclose(f);
	return found;
}

/* The last lines of it. */
void backend_show_log(const struct backend *b)
{
	char lines[8][256] = {};
	FILE *f = fopen(b->log, "re");
	unsigned i, n = 0;

	while (f && fgets(lines[n % 8], sizeof(lines[0]), f))
		n++;
	for (i = n < 8 ? 0 : n - 8; i < n; i++)
		fprintf(stderr, "#   back-end: %s", lines[i % 8]);
	if (f)
		fclose(f);
	backend_show_end(b);
}

/* How it ended, for a person. */
void backend_show_end(const struct backend *b)
{
	siginfo_t info = { 0 };

	if (b->pid > 0 && waitid(P_PID, (id_t)b->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	    info.si_pid)
		fprintf(stderr, "#   back-end: %s %d\n",
			info.si_code == CLD_EXITED ? "exited with" : "ended by signal",
			info.si_status);
}

/* In order if it can be; a keeper that is killed while it starts a worker could leave that behind. */
static void end_processes(struct backend *b)
{
	pid_t worker;
	int status;

	if (b->pid <= 0 || backend_stop(b, &status) == 0)
		return;
	worker = backend_worker(b->pid);
	kill(b->pid, SIGKILL);
	waitpid(b->pid, NULL, 0);
	if (worker > 0)
		kill(worker, SIGKILL);
}

void backend_done(struct backend *b)
{
	end_processes(b);
	if (b->control > 0)
		close(b->control);
	remove_files(b);
	memset(b, 0, sizeof(*b));
}

/* Its name, if it lives. */
static bool name_of_living(pid_t pid, char name[static 16])
{
	char path[64], state = 'X';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fscanf(f, "%*d (%15[^)]) %c", name, &state) != 2)
		state = 'X';
	fclose(f);
	return state != 'Z' && state != 'X';
}

bool backend_process_lives(pid_t pid)
{
	char name[16];

	return name_of_living(pid, name);
}

static bool is_worker(pid_t pid)
{
	char name[16];

	return name_of_living(pid, name) && strcmp(name, "vmdev-standby") != 0;
}

pid_t backend_worker(pid_t keeper)
{
	char path[64];
	pid_t pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", keeper, keeper);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fscanf(f, "%d", &pid) == 1 && !is_worker(pid))
		pid = 0;
	fclose(f);
	return pid;
}

unsigned backend_n_children(pid_t keeper)
{
	char path[64];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", keeper, keeper);
	f = fopen(path, "re");
	while (f && fscanf(f, "%*d") != EOF)
		n++;
	if (f)
		fclose(f);
	return n;
}

pid_t backend_worker_await(pid_t keeper, pid_t not_this, int timeout_ms)
{
	pid_t pid;
	int i;

	for (i = 0; i < timeout_ms * 10; i++) {
		pid = backend_worker(keeper);
		if (pid > 0 && pid != not_this)
			return pid;
		usleep(100);
	}
	return 0;
}

static void run_child(const char *program, const char *const *args, int out)
{
	static struct argv a;

	argv_add(&a, "%s", program);
	for (; args && *args; args++)
		argv_add(&a, "%s", *args);
	dup2(out, 1);
	execvp(program, a.list);
	_exit(127);
}

/* Runs a program to its end; what it printed, and its exit status or negative errno. */
int backend_run(const char *program, const char *const *args, char *out, size_t out_len)
{
	int pipefd[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		run_child(program, args, pipefd[1]);
	close(pipefd[1]);
	while (len + 1 < out_len && (n = read(pipefd[0], out + len, out_len - len - 1)) > 0)
		len += (size_t)n;
	out[len] = 0;
	close(pipefd[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}
