/*
 * Claims about the worker that stands by (devices/process/standby.h): what it holds, what becomes of it,
 * and that nothing depends on it.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says; /proc of the host.
 */
#include "tests/frontend/claim.h"
#include "tests/frontend/fill.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define IMAGE_LEN (UINT64_C(64) << 20)

enum { SOON_MS = 5000, WHILE_MS = 300, ROUNDS = 40 };

static const struct backend_spec two_queues = { .image_len = IMAGE_LEN, .n_queues = 2 };

static const char *const impatient_args[] = { "--hang-timeout=1000000", NULL };
static const struct backend_spec impatient = { .image_len = IMAGE_LEN,
					       .n_queues = 2,
					       .args = impatient_args };

static void pause_ms(int ms)
{
	usleep((useconds_t)ms * 1000);
}

static bool named(pid_t pid, const char *name)
{
	char path[64], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fgets(text, sizeof(text), f))
		text[strcspn(text, "\n")] = 0;
	fclose(f);
	return strcmp(text, name) == 0;
}

/* The keeper's child of this name; 0 if there is none. */
static pid_t child_named(pid_t keeper, const char *name)
{
	char path[64], text[256] = "", *at, *end;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", keeper, keeper);
	f = fopen(path, "re");
	if (!f || !fgets(text, sizeof(text), f))
		text[0] = 0;
	if (f)
		fclose(f);
	for (at = text;; at = end) {
		pid_t pid = (pid_t)strtol(at, &end, 10);

		if (end == at)
			return 0;
		if (named(pid, name))
			return pid;
	}
}

static pid_t await_child(const struct claim_context *x, const char *name, pid_t not_this)
{
	for (int i = 0; i < SOON_MS; i++) {
		pid_t pid = child_named(x->backend.pid, name);

		if (pid > 0 && pid != not_this)
			return pid;
		pause_ms(1);
	}
	return 0;
}

/* A build that cannot begin anew in place (docs/hacking.md) has none. */
static pid_t await_standby(const struct claim_context *x, pid_t not_this)
{
	pid_t pid = await_child(x, "vmdev-standby", not_this);

	if (pid == 0 && not_this == 0)
		claim_skip("this build has no stand-by: its C library is not musl");
	expect(pid > 0, "there is no (other) stand-by");
	return pid;
}

static pid_t killed; /* it can still be there, dying */

static pid_t worker_of(const struct claim_context *x)
{
	pid_t pid = await_child(x, "vmdev-worker", killed);

	expect(pid > 0, "there is no worker");
	return pid;
}

static void kill_worker(pid_t worker)
{
	killed = worker;
	kill(worker, SIGKILL);
}

static void work(struct claim_context *x)
{
	static unsigned round;
	uint8_t *p = fe_memory_alloc(&x->fe.mem, 4096, 4096);
	struct fe_queue *q = &x->fe.queues[round % 2];
	struct fe_sg sg = { p, 4096 };

	round++;
	fill_pattern(p, 4096, round, 1);
	expect_is(fe_blk_rw(q, &x->b, VIRTIO_BLK_T_OUT, 8, sg), VIRTIO_BLK_S_OK);
	memset(p, 0, 4096);
	expect_is(fe_blk_rw(q, &x->b, VIRTIO_BLK_T_IN, 8, sg), VIRTIO_BLK_S_OK);
	expect(fill_matches(p, 4096, round, 1), "data differ");
}

static const struct fe_spec two = { .n_queues = 2 };

static unsigned count_fds(pid_t pid)
{
	char path[64];
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* Lines of its maps that hold this text. */
static unsigned count_maps(pid_t pid, const char *text)
{
	char path[64], line[512];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	expect(f, "no maps of %d: %s", pid, strerror(errno));
	while (fgets(line, sizeof(line), f))
		n += strstr(line, text) != NULL;
	fclose(f);
	return n;
}

static void a_standby_has_nothing_of_the_guest_and_opens_nothing(struct claim_context *x)
{
	pid_t standby, worker;
	unsigned n, with;

	claim_begin(x, &two);
	work(x);
	standby = await_standby(x, 0);
	worker = worker_of(x);
	/* Guest memory is the front-end's memfd; the state is ours. */
	expect(count_maps(worker, "memfd:guest") > 0, "the worker has no guest memory?");
	expect_is(count_maps(standby, "memfd:guest"), 0);
	expect_is(count_maps(standby, "vmdev-state"), 1);
	with = count_fds(worker);
	kill(standby, SIGKILL);
	while (kill(standby, 0) == 0)
		pause_ms(1);
	n = count_fds(worker);
	expect_is(with, n);
	work(x);
}

static void a_standby_becomes_the_worker(struct claim_context *x)
{
	claim_begin(x, &two);
	for (int i = 0; i < ROUNDS; i++) {
		pid_t standby = await_standby(x, 0), worker = worker_of(x);

		work(x);
		kill_worker(worker);
		work(x);
		expect(named(standby, "vmdev-worker"), "round %d: another took its turn", i);
	}
}

static void a_standby_that_is_lost_is_replaced_and_missed_by_nobody(struct claim_context *x)
{
	pid_t standby, worker, next;

	claim_begin(x, &two);
	standby = await_standby(x, 0);
	worker = worker_of(x);
	for (int i = 0; i < 3; i++) {
		kill(standby, SIGKILL);
		work(x);
		next = await_standby(x, standby);
		expect_is(worker_of(x), worker);
		standby = next;
	}
	kill_worker(worker);
	work(x);
	expect(named(standby, "vmdev-worker"), "another took its turn");
}

/* In any order, and with less between them than takes a keeper to notice. */
static void both_at_once_are_replaced(struct claim_context *x)
{
	claim_begin(x, &two);
	for (int i = 0; i < ROUNDS; i++) {
		pid_t standby = await_standby(x, 0), worker = worker_of(x);

		killed = worker;
		kill(i % 2 ? standby : worker, SIGKILL);
		usleep((useconds_t)(i / 2 * 20));
		kill(i % 2 ? worker : standby, SIGKILL);
		work(x);
		expect(worker_of(x) > 0, "there is no other worker");
	}
	expect(!fe_gone(&x->fe), "the connection is gone");
}

/* It has its turn, and does nothing with it: nobody knows of any progress of its. */
static void one_that_hangs_when_its_turn_comes_is_replaced(struct claim_context *x)
{
	pid_t standby, worker;

	claim_begin(x, &two);
	work(x);
	standby = await_standby(x, 0);
	worker = worker_of(x);
	/* A tracer's stop, of which the keeper is not told. */
	expect_is(ptrace(PTRACE_SEIZE, standby, NULL, NULL), 0);
	expect_is(ptrace(PTRACE_INTERRUPT, standby, NULL, NULL), 0);
	expect_is(waitpid(standby, NULL, __WALL), standby);
	kill_worker(worker);
	work(x);
	expect(!fe_gone(&x->fe), "the connection is gone");
	expect(backend_log_has(&x->backend, "is not ready"), "nothing is said of it");
	expect(worker_of(x) != standby, "it is still there");
}

static void one_that_is_stopped_is_not_given_its_turn(struct claim_context *x)
{
	pid_t standby, worker;

	claim_begin(x, &two);
	work(x);
	standby = await_standby(x, 0);
	worker = worker_of(x);
	kill(standby, SIGSTOP);
	kill_worker(worker);
	work(x);
	expect(!backend_log_has(&x->backend, "is not ready"), "it was waited for");
	expect(worker_of(x) != standby, "it is still there");
	expect(!fe_gone(&x->fe), "the connection is gone");
}

/* A page that is shared and anonymous is shown as a file of this name. */
static void nobody_else_can_give_it_its_turn(struct claim_context *x)
{
	pid_t standby, worker;

	claim_begin(x, &two);
	for (int i = 0; i < 3; i++) {
		standby = await_standby(x, 0);
		worker = worker_of(x);
		expect_is(count_maps(standby, "/dev/zero"), 1);
		expect_is(count_maps(x->backend.pid, "/dev/zero"), 1);
		expect_is(count_maps(worker, "/dev/zero"), 0);
		work(x);
		kill_worker(worker);
		work(x);
		expect(named(standby, "vmdev-worker"), "it did not take its turn when it came");
	}
}

static void the_next_session_has_another(struct claim_context *x)
{
	pid_t standby;

	claim_begin(x, &two);
	standby = await_standby(x, 0);
	fe_close(&x->fe);
	expect(await_standby(x, standby) > 0, "none");
	expect_ok(fe_begin(&x->fe, x->backend.socket, &two));
	fe_blk_init(&x->b, &x->fe.mem);
	work(x);
	kill_worker(worker_of(x));
	work(x);
}

static void it_ends_with_the_keeper(struct claim_context *x)
{
	struct backend_spec spec = two_queues;
	struct backend b;
	int status;

	spec.program = x->program;
	for (int i = 0; i < 2; i++) {
		pid_t standby;

		expect_ok(backend_start(&b, &spec));
		x->backend.pid = b.pid;
		standby = await_standby(x, 0);
		if (i == 0) {
			expect_ok(backend_stop(&b, &status));
			expect_is(kill(standby, 0), -1);
		} else {
			kill(b.pid, SIGKILL);
			for (int t = 0; t < SOON_MS && backend_process_lives(standby); t++)
				pause_ms(1);
			expect(!backend_process_lives(standby), "it lives on");
		}
		backend_done(&b);
	}
}

#define C(name)                                                                                    \
	{                                                                                          \
#name, name, &two_queues                                                           \
	}

static const struct claim claims[] = {
	C(a_standby_has_nothing_of_the_guest_and_opens_nothing),
	C(a_standby_becomes_the_worker),
	C(a_standby_that_is_lost_is_replaced_and_missed_by_nobody),
	C(both_at_once_are_replaced),
	C(nobody_else_can_give_it_its_turn),
	C(the_next_session_has_another),
	{ "one_that_hangs_when_its_turn_comes_is_replaced",
	  one_that_hangs_when_its_turn_comes_is_replaced, &impatient },
	C(one_that_is_stopped_is_not_given_its_turn),
	{ "it_ends_with_the_keeper", it_ends_with_the_keeper, NULL },
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
