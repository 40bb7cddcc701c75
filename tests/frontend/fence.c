/*
 * frontend-fence: what a dead worker has in flight may not overtake what its successor does.
 *
 * Runs in: a test program of its own, as root (it mounts FUSE). Trusts: nothing that the back-end
 *says.
 *
 *	frontend-fence --program=vmdev-blk [--without=vmdev-blk-nofence]
 *
 * The image is a file of slowfs.h, opened with O_DIRECT. A round:
 *
 *  1. Requests A go to the device, and the file system holds them back: the kernel has taken them.
 *  2. The worker is killed. They are still in flight, and nobody can call them back.
 *  3. Each A that the device answers is followed at once by a newer request to the same place: a
 *write of B to the same sector, or, for a read, newer data in the same guest memory.
 *  4. When all of A has landed, the newer data have to be there.
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

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	IMAGE_LEN = 16 << 20,
	MAX_REQUESTS = 32,
	BLOCK = 4096,
	DELAY_MS = 800,
	SKIPPED = 77,
};

struct round_spec {
	const char *name;
	uint32_t type;
	unsigned n_requests; /* spread over two queues */
	unsigned n_kills;    /* the successor is killed too, while it waits */
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
	double control_ms; /* the longest that a control message waited meanwhile */
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

static void bed_open(struct bed *bed, const char *program)
{
	struct fe_spec spec = { .n_queues = 2 };
	struct backend_spec back = { .program = program, .n_queues = 2, .cache = "none" };
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
		errx(1, "%s: no session: %s", program, strerror(-r));
	}
}

static void bed_close(struct bed *bed)
{
	fe_close(&bed->fe);
	backend_done(&bed->backend);
	slowfs_stop(&bed->fs);
}

static void request_submit(struct request *r, uint32_t type)
{
	struct fe_sg sg = { r->buf, BLOCK };
	struct fe_blk_op op = { .type = type, .sector = r->sector, .data = &sg, .n_data = 1 };

	if (fe_blk_add(r->q, &r->b, &op) < 0)
		errx(99, "test bug: no room in the ring");
	fe_queue_kick(r->q);
}

/* All of A, held by the file system when this returns. */
static void submit_held(struct bed *bed, const struct round_spec *spec)
{
	struct slowfs_control *c = bed->fs.control;
	double until = now_ms() + 5000;
	struct request *r;
	unsigned i;

	c->delay_ms = DELAY_MS;
	if (spec->type == VIRTIO_BLK_T_OUT)
		c->n_writes_to_delay = (int)spec->n_requests;
	else
		c->n_reads_to_delay = (int)spec->n_requests;
	for (i = 0; i < spec->n_requests; i++) {
		r = &bed->requests[i];
		if (!r->buf) {
			fe_blk_init(&r->b, &bed->fe.mem);
			r->buf = fe_memory_alloc(&bed->fe.mem, BLOCK, BLOCK);
		}
		r->q = &bed->fe.queues[i % 2];
		r->b.user = r;
		r->sector = i * (BLOCK / 512);
		r->second = false;
		fill_pattern(r->buf, BLOCK, i, 'A');
		request_submit(r, spec->type);
	}
	while (c->n_held < spec->n_requests) {
		if (now_ms() > until)
			errx(1, "the back-end does not bring the requests to the file system");
		usleep(200);
	}
}

static void kill_worker(struct bed *bed)
{
	pid_t worker = backend_worker_await(bed->backend.pid, bed->killed, 2000);

	if (!worker)
		errx(1, "there is no worker to kill");
	bed->killed = worker;
	kill(worker, SIGKILL);
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

	for (k = 0; k < 2; k++)
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

static void round_run(struct bed *bed, const struct round_spec *spec, struct result *result)
{
	double until = now_ms() + 20000, ms;
	unsigned i, done = 0;

	submit_held(bed, spec);
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
	disk_check(bed, spec, result);
}

static const struct round_spec rounds[] = {
	{ "one write", VIRTIO_BLK_T_OUT, 1, 1 },
	{ "sixteen writes on two queues", VIRTIO_BLK_T_OUT, 16, 1 },
	{ "sixteen writes, killed three times", VIRTIO_BLK_T_OUT, 16, 3 },
	{ "sixteen reads on two queues", VIRTIO_BLK_T_IN, 16, 1 },
	{ "one write, again", VIRTIO_BLK_T_OUT, 1, 1 },
};

static struct result program_run(const char *program)
{
	struct result sum = {};
	static struct bed bed;
	unsigned i, k;

	bed_open(&bed, program);
	printf("%s:\n", strrchr(program, '/') ? strrchr(program, '/') + 1 : program);
	for (i = 0; i < sizeof(rounds) / sizeof(*rounds); i++) {
		struct result r = {};

		round_run(&bed, &rounds[i], &r);
		printf("  %-36s answered before the old one landed %2u, newer data lost %2u, "
		       "errors "
		       "%u, slowest control reply %.1f ms\n",
		       rounds[i].name, r.n_early, r.n_corrupt, r.n_errors, r.control_ms);
		sum.n_early += r.n_early;
		sum.n_corrupt += r.n_corrupt;
		sum.n_errors += r.n_errors;
	}
	for (k = 0; k < 2; k++)
		sum.n_errors += (unsigned)bed.fe.queues[k].n_bogus;
	if (bed.fs.control->n_interrupts)
		errx(1, "the kernel interrupted FUSE requests: this test's premise is wrong here");
	if (fe_gone(&bed.fe))
		errx(1, "the connection was closed");
	bed_close(&bed);
	return sum;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "program", required_argument, NULL, 'p' },
						 { "without", required_argument, NULL, 'w' },
						 {} };
	const char *program = NULL, *without = NULL;
	struct result with_fence, no_fence = {};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		if (c == 'p')
			program = optarg;
		else if (c == 'w')
			without = optarg;
		else
			return 2;
	if (!program)
		errx(2, "usage: frontend-fence --program=PATH [--without=PATH]");
	setvbuf(stdout, NULL, _IOLBF, 0);
	with_fence = program_run(program);
	if (without)
		no_fence = program_run(without);
	if (with_fence.n_early || with_fence.n_corrupt || with_fence.n_errors)
		errx(1, "the fence does not hold");
	if (without && (!no_fence.n_early || !no_fence.n_corrupt))
		errx(1, "the build without the fence was not caught: this test proves nothing");
	printf("the fence holds%s\n", without ? ", and without it data are lost" : "");
	return 0;
}
