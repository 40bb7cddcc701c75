/*
 * frontend-fence: what a dead worker has in flight may not overtake what its successor does.
 *
 * Runs in: a test program of its own, as root (it mounts FUSE). Trusts: nothing that the back-end
 *says.
 *
 *	frontend-fence --program=vmdev-blk [--without=vmdev-blk-nofence] [--stalling=vmdev-blk-crash]
 *
 * The image is a file of slowfs.h, opened with O_DIRECT. A round:
 *
 *  1. Requests A go to the device, and the file system holds them back: the kernel has taken them.
 *  2. The worker is killed. They are still in flight, and nobody can call them back.
 *  3. Each A that the device answers is followed at once by a newer request to the same place: a
 *write of B to the same sector, or, for a read, newer data in the same guest memory.
 *  4. When all of A has landed, the newer data have to be there.
 *
 * If the keeper dies with the worker, there is no fence but the image's lock, which the requests hold.
 *
 * What has nothing to do with A does not wait for it: with A held again, in a file that is opened through the page
 * cache, whose writes go aside (devices/process/uring.h), a new read is answered before A has landed. That is so after each of
 * several deaths, none of which is over: the companion, of which I/O may be in the kernel for long, does not finish dying; be it
 * that it was just about to submit something. With
 * --stalling it is so even if all other threads die just after the keeper has looked at them.
 *
 * A back-end that resubmits without waiting answers A early and loses B when the first A lands. The
 *fence is that nothing of A is answered before the held request has landed, so it is counted how
 *many were answered early. With --without, the same rounds run against a build without the fence,
 *and the test *fails* if that one comes through: then it would have proved nothing.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/blk.h"
#include "tests/frontend/fill.h"
#include "tests/frontend/slowfs.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	IMAGE_LEN = 16 << 20,
	MAX_REQUESTS = 800,
	MANY = 700, /* completions: more than a thread takes in two looks (process/thread.h) */
	MANY_QUEUE_SIZE = 1024,
	BLOCK = 4096,
	DELAY_MS = 800,
	N_BESIDE = 6, /* deaths while one write is held */
	LONG_DELAY_MS =
		4000, /* nothing is asserted of it but that it is not over before a read is */
	SKIPPED = 77,
};

struct round_spec {
	const char *name;
	uint32_t type;
	unsigned n_requests; /* spread over the queues */
	unsigned n_kills;    /* the successor is killed too, while it waits */
	unsigned delay_ms;   /* 0: DELAY_MS */
	bool stopped;	     /* the worker stands still until all have landed, and is killed then */
};

struct request {
	struct fe_blk b;
	struct fe_queue *q;
	uint8_t *buf;
	uint64_t sector;
	bool second; /* B is on its way, or done */
};

struct result {
	unsigned n_early;   /* answered while their held request had not landed */
	unsigned n_corrupt; /* newer data lost */
	unsigned n_errors;
	unsigned n_repeated; /* brought to the file once more though their completion was there */
	double control_ms;   /* the longest that a control message waited meanwhile */
};

struct bed {
	struct slowfs fs;
	struct backend backend;
	struct fe fe;
	struct request requests[MAX_REQUESTS];
	pid_t killed;
};

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void bed_open(struct bed *bed, struct backend_spec back)
{
	struct fe_spec spec = { .n_queues = back.n_queues,
				.queue_size = (uint16_t)back.queue_size };
	int r;

	memset(bed, 0, sizeof(*bed));
	r = slowfs_start(&bed->fs, IMAGE_LEN);
	if (r == -ENOENT || r == -ENODEV || r == -EPERM) {
		printf("skipped: FUSE cannot be mounted here (%s)\n", strerror(-r));
		exit(SKIPPED);
	}
	if (r < 0)
		errx(1, "slowfs: %s", strerror(-r));
	back.image = bed->fs.path;
	r = backend_start(&bed->backend, &back);
	if (r == 0)
		r = fe_begin(&bed->fe, bed->backend.socket, &spec);
	if (r < 0) {
		backend_show_log(&bed->backend);
		backend_done(&bed->backend);
		slowfs_stop(&bed->fs);
		errx(1, "%s: no session: %s", back.program, strerror(-r));
	}
}

static void bed_close(struct bed *bed)
{
	fe_close(&bed->fe);
	backend_done(&bed->backend);
	slowfs_stop(&bed->fs);
}

static void request_prepare(struct bed *bed, struct request *r, struct fe_queue *q, unsigned block)
{
	if (!r->buf) {
		fe_blk_init(&r->b, &bed->fe.mem);
		r->buf = fe_memory_alloc(&bed->fe.mem, BLOCK, BLOCK);
	}
	r->q = q;
	r->b.user = r;
	r->sector = (uint64_t)block * (BLOCK / 512);
	r->second = false;
}

static void request_submit(struct request *r, uint32_t type)
{
	struct fe_sg sg = { r->buf, BLOCK };
	struct fe_blk_op op = { .type = type,
				.sector = r->sector,
				.data = &sg,
				.n_data = 1,
				.indirect = r->q->indirect };

	if (fe_blk_add(r->q, &r->b, &op) < 0)
		errx(99, "test bug: no room in the ring");
	fe_queue_kick(r->q);
}

static void await_held(const struct bed *bed, unsigned n)
{
	double until = now_ms() + 5000;

	while (bed->fs.control->n_held < n) {
		if (now_ms() > until)
			errx(1, "the back-end does not bring the requests to the file system");
		usleep(200);
	}
}

/* All of A, held by the file system when this returns. */
static void submit_held(struct bed *bed, const struct round_spec *spec)
{
	struct slowfs_control *c = bed->fs.control;
	struct request *r;
	unsigned i;

	c->delay_ms = spec->delay_ms ? spec->delay_ms : DELAY_MS;
	if (spec->type == VIRTIO_BLK_T_OUT)
		c->n_writes_to_delay = (int)spec->n_requests;
	else
		c->n_reads_to_delay = (int)spec->n_requests;
	for (i = 0; i < spec->n_requests; i++) {
		r = &bed->requests[i];
		request_prepare(bed, r, &bed->fe.queues[i % bed->fe.n_queues], i);
		fill_pattern(r->buf, BLOCK, i, 'A');
		request_submit(r, spec->type);
	}
	await_held(bed, spec->n_requests);
}

static void kill_worker(struct bed *bed)
{
	pid_t worker = backend_worker_await(bed->backend.pid, bed->killed, 2000);

	if (!worker)
		errx(1, "there is no worker to kill");
	bed->killed = worker;
	kill(worker, SIGKILL);
}

/*
 * Until all but n_held have landed. Their completions are there when the successor looks for the first time: if that is all, it
 * opens its fence at once, and has to have taken each of them by then.
 */
static void stop_worker_until(struct bed *bed, unsigned n_held)
{
	pid_t worker = backend_worker_await(bed->backend.pid, bed->killed, 2000);
	double until = now_ms() + 5000;

	if (!worker || kill(worker, SIGSTOP) < 0)
		errx(1, "there is no worker to stop");
	while (bed->fs.control->n_held > n_held) {
		if (now_ms() > until)
			errx(1, "the held requests do not land");
		usleep(1000);
	}
}

static double ask_control(struct bed *bed)
{
	double start = now_ms();
	uint64_t features;

	if (fe_ask(&bed->fe, FE_GET_FEATURES, NULL, 0, &features) < 0)
		errx(1, "the connection was lost");
	return now_ms() - start;
}

/* What A was, is answered; the newer data follow at once. */
static void follow_up(struct request *r, uint32_t type, unsigned i)
{
	r->second = true;
	fill_pattern(r->buf, BLOCK, i, 'B');
	if (type == VIRTIO_BLK_T_OUT)
		request_submit(r, type);
}

static unsigned reap(struct bed *bed, const struct round_spec *spec, struct result *result)
{
	struct fe_used used;
	struct request *r;
	unsigned k, n = 0;

	for (k = 0; k < bed->fe.n_queues; k++)
		while (fe_queue_pop(&bed->fe.queues[k], &used)) {
			r = ((struct fe_blk *)used.user)->user;
			result->n_errors += *r->b.status != VIRTIO_BLK_S_OK;
			if (r->second) {
				n++;
				continue;
			}
			result->n_early += bed->fs.control->n_held > 0;
			follow_up(r, spec->type, (unsigned)(r - bed->requests));
			n += spec->type != VIRTIO_BLK_T_OUT;
		}
	return n;
}

static void disk_check(struct bed *bed, const struct round_spec *spec, struct result *result)
{
	static uint8_t got[BLOCK] __attribute__((aligned(BLOCK)));
	int fd = open(bed->fs.path, O_RDONLY | O_CLOEXEC);
	unsigned i;

	for (i = 0; i < spec->n_requests; i++) {
		const uint8_t *p = got;

		if (spec->type != VIRTIO_BLK_T_OUT)
			p = bed->requests[i].buf;
		else if (pread(fd, got, BLOCK, (off_t)i * BLOCK) != BLOCK)
			err(1, "%s", bed->fs.path);
		result->n_corrupt += !fill_matches(p, BLOCK, i, 'B');
	}
	close(fd);
}

static unsigned count_transfers(const struct bed *bed)
{
	return bed->fs.control->n_reads + bed->fs.control->n_writes;
}

static void round_run(struct bed *bed, const struct round_spec *spec, struct result *result)
{
	double until = now_ms() + 20000, ms;
	unsigned i, done = 0, before = count_transfers(bed);

	submit_held(bed, spec);
	if (spec->stopped)
		stop_worker_until(bed, 0);
	for (i = 0; i < spec->n_kills; i++) {
		kill_worker(bed);
		usleep(20000);
	}
	while (done < spec->n_requests || bed->fs.control->n_held > 0) {
		ms = ask_control(bed);
		result->control_ms = ms > result->control_ms ? ms : result->control_ms;
		done += reap(bed, spec, result);
		if (now_ms() > until)
			errx(1, "%s: %u of %u requests were never answered", spec->name,
			     spec->n_requests - done, spec->n_requests);
		usleep(500);
	}
	usleep(20000);
	if (spec->stopped)
		result->n_repeated = count_transfers(bed) - before -
				     spec->n_requests * (spec->type == VIRTIO_BLK_T_OUT ? 2 : 1);
	disk_check(bed, spec, result);
}

static const struct round_spec rounds[] = {
	{ "one write", VIRTIO_BLK_T_OUT, 1, 1 },
	{ "sixteen writes on two queues", VIRTIO_BLK_T_OUT, 16, 1 },
	{ "sixteen writes, killed three times", VIRTIO_BLK_T_OUT, 16, 3 },
	{ "sixteen reads on two queues", VIRTIO_BLK_T_IN, 16, 1 },
	{ "one write, again", VIRTIO_BLK_T_OUT, 1, 1 },
};

static const struct round_spec many_rounds[] = {
	{ "700 reads, completed before the kill", VIRTIO_BLK_T_IN, MANY, 1, .stopped = true },
	{ "700 writes, completed before the kill", VIRTIO_BLK_T_OUT, MANY, 1, .stopped = true },
};

static void rounds_run(struct bed *bed, const struct round_spec *specs, unsigned n,
		       struct result *sum)
{
	unsigned i, k;

	for (i = 0; i < n; i++) {
		struct result r = {};

		round_run(bed, &specs[i], &r);
		printf("  %-38s answered before the old one landed %2u, newer data lost %2u, "
		       "errors "
		       "%u, slowest control reply %.1f ms\n",
		       specs[i].name, r.n_early, r.n_corrupt, r.n_errors, r.control_ms);
		sum->n_early += r.n_early;
		sum->n_corrupt += r.n_corrupt;
		sum->n_errors += r.n_errors;
		sum->n_repeated += r.n_repeated;
		if (r.n_repeated)
			printf("  of these, repeated though they were completed: %u\n",
			       r.n_repeated);
	}
	for (k = 0; k < bed->fe.n_queues; k++)
		sum->n_errors += (unsigned)bed->fe.queues[k].n_bogus;
	if (bed->fs.control->n_interrupts)
		errx(1, "the kernel interrupted FUSE requests: this test's premise is wrong here");
	if (fe_gone(&bed->fe))
		errx(1, "the connection was closed");
}

static struct result program_run(const char *program)
{
	struct result sum = {};
	static struct bed bed;

	printf("%s:\n", strrchr(program, '/') ? strrchr(program, '/') + 1 : program);
	bed_open(&bed, (struct backend_spec){ .program = program, .cache = "none", .n_queues = 2 });
	rounds_run(&bed, rounds, sizeof(rounds) / sizeof(*rounds), &sum);
	bed_close(&bed);
	return sum;
}

static struct result many_run(const char *program)
{
	struct result sum = {};
	static struct bed bed;

	bed_open(&bed, (struct backend_spec){ .program = program,
					      .cache = "none",
					      .n_queues = 1,
					      .queue_size = MANY_QUEUE_SIZE });
	rounds_run(&bed, many_rounds, sizeof(many_rounds) / sizeof(*many_rounds), &sum);
	/* A successor might not bear a completion that it does not know. */
	if (backend_log_has(&bed.backend, "died of signal")) {
		backend_show_log(&bed.backend);
		sum.n_errors++;
	}
	bed_close(&bed);
	return sum;
}

/* A new read of another place, on the queue that writes go to. True: it is answered before them. */
static bool read_is_answered(struct bed *bed)
{
	struct request *r = &bed->requests[1];
	double until = now_ms() + 20000;
	struct fe_used used;

	request_prepare(bed, r, &bed->fe.queues[0], IMAGE_LEN / 2 / BLOCK);
	request_submit(r, VIRTIO_BLK_T_IN);
	while (!fe_queue_pop(r->q, &used)) {
		if (now_ms() > until)
			errx(1, "nothing is answered");
		usleep(200);
	}
	return ((struct fe_blk *)used.user)->user == r && *r->b.status == VIRTIO_BLK_S_OK;
}

/* One read lands, another is held; then the worker dies without having looked. True: the first is answered meanwhile. */
static bool straggler_run(const char *program)
{
	static const unsigned delays_ms[] = { LONG_DELAY_MS, DELAY_MS };
	static struct bed bed;
	struct fe_used used = {};
	double until;
	bool answered;

	bed_open(&bed, (struct backend_spec){ .program = program, .cache = "none", .n_queues = 1 });
	for (unsigned i = 0; i < 2; i++) {
		struct request *r = &bed.requests[i];

		request_prepare(&bed, r, &bed.fe.queues[0], i);
		bed.fs.control->delay_ms = delays_ms[i];
		bed.fs.control->n_reads_to_delay = 1;
		request_submit(r, VIRTIO_BLK_T_IN);
		await_held(&bed, i + 1);
	}
	stop_worker_until(&bed, 1);
	kill_worker(&bed);
	for (until = now_ms() + LONG_DELAY_MS; now_ms() < until; usleep(500))
		if (fe_queue_pop(&bed.fe.queues[0], &used))
			break;
	answered = used.user && ((struct fe_blk *)used.user)->user == &bed.requests[1] &&
		   bed.fs.control->n_held == 1;
	bed_close(&bed);
	return answered;
}

/*
 * With the keeper all is gone that could wait for the dead worker's requests. What does is the lock on the image, which they
 * hold: nobody else gets it, and so no next program starts, before they have landed.
 */
static bool keeper_run(const char *program)
{
	static const struct round_spec spec = { "sixteen writes", VIRTIO_BLK_T_OUT, 16, 1 };
	struct backend_spec again = { .program = program, .n_queues = 2, .cache = "none" };
	double until = now_ms() + 20000;
	struct backend next = {};
	static struct bed bed;
	bool held;

	bed_open(&bed, again);
	again.image = bed.fs.path;
	submit_held(&bed, &spec);
	kill(bed.backend.pid, SIGKILL);
	do {
		held = bed.fs.control->n_held > 0;
		if (backend_start(&next, &again) == 0)
			break;
	} while (now_ms() < until);
	if (!backend_alive(&next))
		errx(1, "the image stays locked");
	backend_done(&next);
	bed_close(&bed);
	return !held;
}

static bool is_companion(const char *task)
{
	char path[320], name[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/comm", task);
	f = fopen(path, "re");
	if (f && !fgets(name, sizeof(name), f))
		name[0] = 0;
	if (f)
		fclose(f);
	return strcmp(name, "vmdev-aside\n") == 0;
}

/* The worker's companion will not finish dying until it is let go. */
static pid_t hold_companion(pid_t worker)
{
	char path[300];
	pid_t held = 0;
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", worker);
	dir = opendir(path);
	while (dir && !held && (e = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s", worker, e->d_name);
		if (is_companion(path))
			held = (pid_t)atoi(e->d_name);
	}
	if (dir)
		closedir(dir);
	if (!held || ptrace(PTRACE_SEIZE, held, NULL,
			    (void *)(PTRACE_O_TRACEEXIT | PTRACE_O_TRACESYSGOOD)) < 0)
		err(1, "the companion cannot be held");
	return held;
}

static bool enters_ring(pid_t companion)
{
	struct user_regs_struct regs;

	return ptrace(PTRACE_GETREGS, companion, NULL, &regs) == 0 &&
	       regs.orig_rax == SYS_io_uring_enter;
}

/* It has a request in hand, and the kernel has not taken that. */
static void catch_submitting(struct bed *bed, pid_t companion)
{
	struct request *w = &bed->requests[2];

	ptrace(PTRACE_INTERRUPT, companion, NULL, NULL);
	if (waitpid(companion, NULL, __WALL) != companion)
		err(1, "the companion does not stop");
	request_prepare(bed, w, &bed->fe.queues[0], 2);
	fill_pattern(w->buf, BLOCK, 2, 'A');
	request_submit(w, VIRTIO_BLK_T_OUT);
	do {
		ptrace(PTRACE_SYSCALL, companion, NULL, NULL);
		if (waitpid(companion, NULL, __WALL) != companion)
			err(1, "the companion is lost");
	} while (!enters_ring(companion));
}

static void let_go(pid_t companion)
{
	if (waitpid(companion, NULL, __WALL) == companion)
		ptrace(PTRACE_DETACH, companion, NULL, NULL);
}

/* Nobody waits for the rest of a worker whose main and I/O threads are dead. */
static bool recovers_beside(struct bed *bed, bool submitting)
{
	pid_t worker = backend_worker_await(bed->backend.pid, bed->killed, 2000);
	pid_t companion = hold_companion(worker);
	bool beside;

	if (submitting)
		catch_submitting(bed, companion);
	kill_worker(bed);
	beside = read_is_answered(bed);
	let_go(companion);
	return beside;
}

/* stalls: the build with crash points, whose keeper stands still between two looks. */
static bool beside_run(const char *program, bool stalls)
{
	static const char *const env[] = { "VMDEV_STALL_AT=keeper.looked", NULL };
	static const struct round_spec spec = { "one write through the page cache",
						VIRTIO_BLK_T_OUT, 1, 1, LONG_DELAY_MS };
	struct result result = {};
	static struct bed bed;
	bool beside;

	bed_open(&bed, (struct backend_spec){ .program = program,
					      .cache = "writeback",
					      .n_queues = 1,
					      .env = stalls ? env : NULL });
	beside = recovers_beside(&bed, true);
	while (beside && reap(&bed, &spec, &result) == 0)
		usleep(500);
	submit_held(&bed, &spec);
	for (int i = 0; beside && i < N_BESIDE; i++)
		beside = recovers_beside(&bed, false) && bed.fs.control->n_held > 0;
	while (beside && (bed.fs.control->n_held > 0 || !bed.requests[0].second)) {
		reap(&bed, &spec, &result);
		usleep(500);
	}
	bed_close(&bed);
	return beside && result.n_early == 0 && result.n_errors == 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "program", required_argument, NULL, 'p' },
						 { "without", required_argument, NULL, 'w' },
						 { "stalling", required_argument, NULL, 's' },
						 {} };
	const char *program = NULL, *without = NULL, *stalling = NULL;
	struct result with_fence, many, no_fence = {};
	bool beside, keeper, straggler;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		if (c == 'p')
			program = optarg;
		else if (c == 'w')
			without = optarg;
		else if (c == 's')
			stalling = optarg;
		else
			return 2;
	if (!program)
		errx(2, "usage: frontend-fence --program=PATH [--without=PATH] "
			"[--stalling=PATH]");
	setvbuf(stdout, NULL, _IOLBF, 0);
	with_fence = program_run(program);
	many = many_run(program);
	straggler = straggler_run(program);
	keeper = keeper_run(program);
	beside = beside_run(program, false) && (!stalling || beside_run(stalling, true));
	if (without)
		no_fence = program_run(without);
	if (with_fence.n_early || with_fence.n_corrupt || with_fence.n_errors)
		errx(1, "the fence does not hold");
	if (many.n_early || many.n_corrupt || many.n_errors || many.n_repeated)
		errx(1, "the fence opens before every completion has been taken");
	if (without && (!no_fence.n_early || !no_fence.n_corrupt))
		errx(1, "the build without the fence was not caught: this test proves nothing");
	if (!straggler)
		errx(1, "what has finished waits for what has not");
	if (!keeper)
		errx(1, "the fence does not outlive the keeper");
	if (!beside)
		errx(1, "what has nothing to do with what is fenced waits for it");
	printf("the fence holds%s\n", without ? ", and without it data are lost" : "");
	return 0;
}
