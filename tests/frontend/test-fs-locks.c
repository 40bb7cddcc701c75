/*
 * Claims about locks on files of a shared directory: between guest processes, with the host's, over deaths.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/fs-claim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static const struct backend_spec plain = { .share = "", .n_queues = 3 };

enum {
	ANNE = 1001, /* lock owners, as the guest's kernel makes them of processes */
	BERT = 1002,
	CARL = 1003,
	WHOLE = -1, /* the end of a range: the file's, whatever that will be */
};

struct file {
	uint64_t node, fh;
};

struct range {
	int64_t start, end;
	uint32_t type;
};

static struct file open_file(struct fs_claim *f, uint32_t flags)
{
	struct fuse_entry_out e;
	struct fuse_open_out o;

	if (!fs_claim_exists(f, "file"))
		fs_claim_write(f, "file", "");
	expect_ok(fc_lookup(&f->c, f->dir, "file", &e));
	expect_ok(fc_open(&f->c, e.nodeid, flags, &o));
	return (struct file){ e.nodeid, o.fh };
}

static struct fuse_lk_in lock_of(const struct file *file, uint64_t owner, struct range r)
{
	return (struct fuse_lk_in){ .fh = file->fh,
				    .owner = owner,
				    .lk = { .start = (uint64_t)r.start,
					    .end = r.end == WHOLE ? INT64_MAX : (uint64_t)r.end,
					    .type = r.type,
					    .pid = (uint32_t)owner } };
}

/* in must live until the request is done. */
static struct fc_op op_of(uint32_t opcode, const struct file *file, const void *in, size_t len)
{
	return (struct fc_op){
		.opcode = opcode, .nodeid = file->node, .part = { { in, len } }, .n_parts = 1
	};
}

static int set(struct fs_claim *f, const struct file *file, uint64_t owner, struct range r)
{
	struct fuse_lk_in in = lock_of(file, owner, r);
	struct fc_op op = op_of(FUSE_SETLK, file, &in, sizeof(in));

	return fc_run(&f->c, &op);
}

static struct fuse_file_lock get(struct fs_claim *f, const struct file *file, uint64_t owner,
				 struct range r)
{
	struct fuse_lk_in in = lock_of(file, owner, r);
	struct fc_op op = op_of(FUSE_GETLK, file, &in, sizeof(in));
	struct fuse_lk_out out;

	op.room = sizeof(out);
	expect_ok(fc_run(&f->c, &op));
	memcpy(&out, f->c.call.reply, sizeof(out));
	return out.lk;
}

static int flock_set(struct fs_claim *f, const struct file *file, uint32_t type)
{
	struct fuse_lk_in in = lock_of(file, file->fh, (struct range){ 0, WHOLE, type });
	struct fc_op op = op_of(FUSE_SETLK, file, &in, sizeof(in));

	in.lk_flags = FUSE_LK_FLOCK;
	return fc_run(&f->c, &op);
}

static int flush(struct fs_claim *f, const struct file *file, uint64_t owner)
{
	struct fuse_flush_in in = { .fh = file->fh, .lock_owner = owner };
	struct fc_op op = op_of(FUSE_FLUSH, file, &in, sizeof(in));

	return fc_run(&f->c, &op);
}

/* A request that is not waited for. in lives as long as it does. */
struct waiter {
	struct fc_call call;
	struct fuse_lk_in in;
};

static void start_waiting(struct fs_claim *f, struct waiter *w, const struct file *file,
			  struct fuse_lk_in in)
{
	struct fc_op op;

	w->in = in;
	op = op_of(FUSE_SETLKW, file, &w->in, sizeof(w->in));
	if (!w->call.header)
		fc_call_init(&w->call, &f->c.fe.mem);
	fc_add(&f->c, f->c.queue, &w->call, &op);
	fc_kick(&f->c, f->c.queue);
}

static bool still_waits(struct fs_claim *f, const struct waiter *w)
{
	usleep(30000);
	fc_reap(&f->c, f->c.queue);
	return !w->call.done;
}

static int answer(struct fs_claim *f, struct waiter *w)
{
	return fc_wait(&f->c, f->c.queue, &w->call);
}

static void kill_worker(struct claim_context *x)
{
	pid_t worker = backend_worker_await(x->backend.pid, 0, 2000);

	expect(worker > 0 && kill(worker, SIGKILL) == 0, "no worker");
	expect(backend_worker_await(x->backend.pid, worker, 5000) > 0, "no successor");
}

#define READ(a, b)   ((struct range){ a, b, F_RDLCK })
#define WRITE(a, b)  ((struct range){ a, b, F_WRLCK })
#define UNLOCK(a, b) ((struct range){ a, b, F_UNLCK })

static void owners_exclude_each_other(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "owners", NULL);
	struct file a = open_file(f, O_RDWR), b = open_file(f, O_RDWR);

	expect_ok(set(f, &a, ANNE, WRITE(10, 19)));
	expect_is(set(f, &b, BERT, WRITE(19, 30)), -EAGAIN);
	expect_is(set(f, &b, BERT, READ(0, WHOLE)), -EAGAIN);
	expect_ok(set(f, &b, BERT, WRITE(20, WHOLE)));
	expect_ok(set(f, &b, BERT, READ(0, 9)));
	/* The same owner by another handle is the same owner. */
	expect_ok(set(f, &b, ANNE, WRITE(15, 19)));
	/* What is given up in part is free in part. */
	expect_ok(set(f, &a, ANNE, UNLOCK(12, 13)));
	expect_ok(set(f, &b, BERT, WRITE(12, 13)));
	expect_is(set(f, &b, BERT, WRITE(11, 13)), -EAGAIN);
	/* A write lock that becomes a read lock is shared. */
	expect_ok(set(f, &a, ANNE, READ(14, 19)));
	expect_ok(set(f, &b, BERT, READ(14, 19)));
	expect_is(set(f, &a, ANNE, WRITE(14, 14)), -EAGAIN);
	expect_ok(set(f, &b, BERT, UNLOCK(0, WHOLE)));
	expect_ok(set(f, &a, ANNE, WRITE(0, WHOLE)));
	fs_claim_end(f);
}

static void who_stands_in_the_way_is_told(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "getlk", NULL);
	struct file file = open_file(f, O_RDWR);
	struct fuse_file_lock lk;

	lk = get(f, &file, BERT, WRITE(0, WHOLE));
	expect_is(lk.type, F_UNLCK);
	expect_ok(set(f, &file, ANNE, WRITE(10, 19)));
	expect_ok(set(f, &file, CARL, READ(100, WHOLE)));
	lk = get(f, &file, BERT, READ(5, 15));
	expect(lk.type == F_WRLCK && lk.start == 10 && lk.end == 19 && lk.pid == ANNE,
	       "%u %lu-%lu of %u", lk.type, lk.start, lk.end, lk.pid);
	lk = get(f, &file, BERT, WRITE(50, 200));
	expect(lk.type == F_RDLCK && lk.start == 100 && lk.end == INT64_MAX && lk.pid == CARL,
	       "%u %lu-%lu of %u", lk.type, lk.start, lk.end, lk.pid);
	expect_is(get(f, &file, BERT, READ(100, 200)).type, F_UNLCK);
	/* One's own is not in one's way. */
	expect_is(get(f, &file, ANNE, WRITE(10, 19)).type, F_UNLCK);
	fs_claim_end(f);
}

static void ranges_that_are_none_are_refused(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "ranges", NULL);
	struct file file = open_file(f, O_RDWR), closed = file;
	struct file readable = open_file(f, O_RDONLY);

	expect_is(set(f, &file, ANNE, WRITE(20, 10)), -EINVAL);
	expect_is(set(f, &file, ANNE, WRITE(INT64_MIN, 10)), -EINVAL);
	expect_is(set(f, &file, ANNE, (struct range){ 0, 10, 17 }), -EINVAL);
	expect_is(set(f, &readable, ANNE, WRITE(0, 10)), -EBADF);
	expect_ok(set(f, &readable, ANNE, READ(0, 10)));
	/* To give up what one does not have is fine. */
	expect_ok(set(f, &file, CARL, UNLOCK(0, WHOLE)));
	closed.fh += 5;
	expect_is(set(f, &closed, ANNE, READ(0, 10)), -EBADF);
	closed = file;
	closed.node = f->dir;
	expect_is(set(f, &closed, ANNE, READ(0, 10)), -EBADF);
	fs_claim_end(f);
}

static void whoever_waits_gets_it_when_it_is_free(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "wait", NULL);
	struct file file = open_file(f, O_RDWR);
	static struct waiter bert, carl;

	expect_ok(set(f, &file, ANNE, WRITE(0, 99)));
	start_waiting(f, &bert, &file, lock_of(&file, BERT, WRITE(0, 9)));
	start_waiting(f, &carl, &file, lock_of(&file, CARL, READ(50, WHOLE)));
	expect(still_waits(f, &bert) && still_waits(f, &carl), "not waited for");
	/* Others are served meanwhile. */
	expect_is(fc_write(&f->c, file.node, file.fh, 0, "text", 4), 4);
	expect_ok(set(f, &file, ANNE, UNLOCK(0, 49)));
	expect_ok(answer(f, &bert));
	expect_is(set(f, &file, ANNE, READ(5, 5)), -EAGAIN);
	expect(still_waits(f, &carl), "got what Anne has");
	expect_ok(flush(f, &file, ANNE));
	expect_ok(answer(f, &carl));
	expect_is(set(f, &file, ANNE, WRITE(60, 60)), -EAGAIN);
	/* What is free is not waited for. */
	start_waiting(f, &bert, &file, lock_of(&file, BERT, WRITE(0, 49)));
	expect_ok(answer(f, &bert));
	fs_claim_end(f);
}

static struct file open_other(struct fs_claim *f)
{
	struct fc_opened o;

	expect_ok(fc_create(&f->c, f->dir, "other", O_RDWR | O_CREAT, S_IFREG | 0644, &o));
	return (struct file){ o.entry.nodeid, o.open.fh };
}

/* A Linux guest's process that waits for a lock cannot be killed: two that wait for each other would do so for ever. */
static void who_would_wait_for_ever_is_told(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "deadlock", NULL);
	struct file one = open_file(f, O_RDWR), two = open_other(f);
	static struct waiter anne, bert, carl;

	expect_ok(set(f, &one, ANNE, WRITE(0, 9)));
	expect_ok(set(f, &one, BERT, WRITE(10, 19)));
	expect_ok(set(f, &two, CARL, WRITE(0, WHOLE)));
	/* Anne waits for Bert, who waits for Carl. */
	start_waiting(f, &anne, &one, lock_of(&one, ANNE, WRITE(15, 15)));
	start_waiting(f, &bert, &two, lock_of(&two, BERT, READ(7, 7)));
	expect(still_waits(f, &anne) && still_waits(f, &bert), "nobody waits in a circle yet");
	start_waiting(f, &carl, &one, lock_of(&one, CARL, WRITE(5, 5)));
	expect_is(answer(f, &carl), -EDEADLK);
	expect(still_waits(f, &anne) && still_waits(f, &bert), "one is enough to be told");
	/* Also by a worker that takes over. */
	kill_worker(x);
	expect(still_waits(f, &anne) && still_waits(f, &bert), "they wait no more");
	start_waiting(f, &carl, &one, lock_of(&one, CARL, WRITE(0, 0)));
	expect_is(answer(f, &carl), -EDEADLK);
	/* Not in a circle: what nobody has who waits for Carl. And Carl can go on. */
	expect_ok(set(f, &two, CARL, UNLOCK(0, WHOLE)));
	expect_ok(answer(f, &bert));
	start_waiting(f, &carl, &one, lock_of(&one, CARL, WRITE(5, 5)));
	expect(still_waits(f, &carl), "Anne will have done with it once she has what Bert has");
	expect_ok(set(f, &one, BERT, UNLOCK(0, WHOLE)));
	expect_ok(answer(f, &anne));
	expect_ok(set(f, &one, ANNE, UNLOCK(0, WHOLE)));
	expect_ok(answer(f, &carl));
	fs_claim_end(f);
}

/* Who was interrupted waits for nobody. */
static void who_does_not_wait_any_more_stands_in_no_circle(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "no-deadlock", NULL);
	struct file one = open_file(f, O_RDWR), two = open_other(f);
	struct fuse_interrupt_in in;
	struct fc_op op = op_of(FUSE_INTERRUPT, &one, &in, sizeof(in));
	static struct waiter anne, bert;

	op.no_answer = true;
	expect_ok(set(f, &one, ANNE, WRITE(0, 9)));
	expect_ok(set(f, &two, BERT, WRITE(0, 9)));
	start_waiting(f, &anne, &two, lock_of(&two, ANNE, WRITE(0, 9)));
	expect(still_waits(f, &anne), "not waited for");
	in.unique = anne.call.unique;
	fc_add(&f->c, FC_HIPRIO, &f->c.call, &op);
	fc_kick(&f->c, FC_HIPRIO);
	fc_wait(&f->c, FC_HIPRIO, &f->c.call);
	expect_is(answer(f, &anne), -EINTR);
	start_waiting(f, &bert, &one, lock_of(&one, BERT, WRITE(0, 9)));
	expect(still_waits(f, &bert), "Anne waits for nobody");
	expect_ok(set(f, &one, ANNE, UNLOCK(0, WHOLE)));
	expect_ok(answer(f, &bert));
	fs_claim_end(f);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Somebody who waits for a lock slows nobody else down. */
static void waiting_does_not_slow_others(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "slow", NULL);
	struct file file = open_file(f, O_RDWR);
	static struct waiter bert;
	uint64_t begin;

	expect_ok(set(f, &file, ANNE, WRITE(0, WHOLE)));
	start_waiting(f, &bert, &file, lock_of(&file, BERT, WRITE(0, WHOLE)));
	expect(still_waits(f, &bert), "not waited for");
	begin = now_ns();
	for (unsigned i = 0; i < 2000; i++)
		expect_ok(fc_getattr(&f->c, file.node, NULL));
	/* A retry only every 2 ms would be 4 s. */
	expect(now_ns() - begin < 1500000000, "%lu ms for 2000 requests",
	       (now_ns() - begin) / 1000000);
	expect(still_waits(f, &bert), "not waited for");
	fs_claim_end(f);
}

static void whoever_waits_can_be_interrupted(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "interrupt", NULL);
	struct file file = open_file(f, O_RDWR);
	static struct waiter bert, carl;
	struct fuse_interrupt_in in;
	struct fc_op op = { .opcode = FUSE_INTERRUPT,
			    .part = { { &in, sizeof(in) } },
			    .n_parts = 1,
			    .no_answer = true };
	struct fc_call interrupt;

	fc_call_init(&interrupt, &f->c.fe.mem);
	expect_ok(set(f, &file, ANNE, WRITE(0, WHOLE)));
	start_waiting(f, &bert, &file, lock_of(&file, BERT, WRITE(0, 9)));
	start_waiting(f, &carl, &file, lock_of(&file, CARL, WRITE(0, 9)));
	expect(still_waits(f, &bert), "not waited for");
	in.unique = bert.call.unique;
	fc_add(&f->c, FC_HIPRIO, &interrupt, &op);
	fc_kick(&f->c, FC_HIPRIO);
	expect_is(answer(f, &bert), -EINTR);
	expect(still_waits(f, &carl), "the other one was interrupted");
	expect_ok(set(f, &file, ANNE, UNLOCK(0, WHOLE)));
	expect_ok(answer(f, &carl));
	/* Bert has nothing. */
	expect_ok(set(f, &file, CARL, UNLOCK(0, WHOLE)));
	expect_ok(set(f, &file, ANNE, WRITE(0, WHOLE)));
	fs_claim_end(f);
}

/* A guest that makes another request of one that waits: refused, and the device goes on. */
static void what_waits_stays_what_it_was(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "changed", NULL);
	struct file file = open_file(f, O_RDWR);
	struct fuse_fsync_in in = { .fh = file.fh };
	pid_t worker = backend_worker_await(x->backend.pid, 0, 2000);
	static struct waiter bert;
	struct fc_call calls[16];

	expect_ok(set(f, &file, ANNE, WRITE(0, WHOLE)));
	start_waiting(f, &bert, &file, lock_of(&file, BERT, WRITE(0, 9)));
	expect(still_waits(f, &bert), "not waited for");
	/* So many that syncing is done aside. */
	for (unsigned i = 0; i < 16; i++) {
		struct fc_op op = op_of(FUSE_FSYNC, &file, &in, sizeof(in));

		fc_call_init(&calls[i], &f->c.fe.mem);
		fc_add(&f->c, f->c.queue, &calls[i], &op);
	}
	fc_kick(&f->c, f->c.queue);
	for (unsigned i = 0; i < 16; i++)
		expect_ok(fc_wait(&f->c, f->c.queue, &calls[i]));
	bert.call.header->opcode = FUSE_FSYNC;
	expect_is(answer(f, &bert), -EINVAL);
	expect_ok(set(f, &file, ANNE, READ(0, WHOLE)));
	expect(backend_worker(x->backend.pid) == worker, "the worker has died");
	fs_claim_end(f);
}

/*
 * A machine that is halted for a moment stops its queues, and takes them up where they were. Linux
 * makes ERESTARTSYS of an EINTR, for a signal that is not there: a program would see error 512.
 */
static void whoever_waits_goes_on_when_the_queue_does(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "stop", NULL);
	struct fe_queue *q = &f->c.fe.queues[f->c.queue];
	struct file file = open_file(f, O_RDWR);
	static struct waiter bert;
	uint16_t base;
	unsigned i;

	expect_ok(set(f, &file, ANNE, WRITE(0, WHOLE)));
	start_waiting(f, &bert, &file, lock_of(&file, BERT, WRITE(0, 9)));
	for (i = 0; i < 4; i++) {
		expect(still_waits(f, &bert), "not waited for");
		expect_ok(fe_queue_stop(&f->c.fe, q, &base));
		expect(still_waits(f, &bert), "answered by a queue that is stopped");
		if (i % 2)
			kill_worker(x);
		expect_ok(fe_queue_start(&f->c.fe, q, base));
		expect_ok(fe_queue_enable(&f->c.fe, q, true));
		expect_ok(set(f, &file, ANNE, READ(20, 30)));
	}
	expect(still_waits(f, &bert), "not waited for");
	expect_ok(set(f, &file, ANNE, UNLOCK(0, WHOLE)));
	expect_ok(answer(f, &bert));
	expect_is(set(f, &file, ANNE, READ(0, 0)), -EAGAIN);
	fs_claim_end(f);
}

/* Memory that is added, say; or a queue that the front-end disables for a moment. */
static void what_stops_no_queue_ends_no_waiting(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "memory", NULL);
	struct fe_queue *q = &f->c.fe.queues[f->c.queue];
	struct file file = open_file(f, O_RDWR);
	static const struct fe_spec same;
	static struct waiter bert;

	expect_ok(set(f, &file, ANNE, WRITE(0, WHOLE)));
	start_waiting(f, &bert, &file, lock_of(&file, BERT, WRITE(0, 9)));
	expect(still_waits(f, &bert), "not waited for");
	expect_ok(fe_send_memory(&f->c.fe, &same));
	expect(still_waits(f, &bert), "not waited for with other memory");
	expect_ok(set(f, &file, ANNE, WRITE(0, WHOLE)));
	expect_ok(fe_queue_enable(&f->c.fe, q, false));
	expect(still_waits(f, &bert), "answered by a disabled queue");
	expect_ok(fe_queue_enable(&f->c.fe, q, true));
	expect_ok(set(f, &file, ANNE, UNLOCK(0, WHOLE)));
	expect_ok(answer(f, &bert));
	fs_claim_end(f);
}

static void a_driver_that_begins_anew_waits_for_nothing(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "anew", NULL);
	struct fe_queue *q = &f->c.fe.queues[f->c.queue];
	struct file file = open_file(f, O_RDWR);
	static struct waiter bert;
	uint16_t base;

	expect_ok(set(f, &file, ANNE, WRITE(0, WHOLE)));
	start_waiting(f, &bert, &file, lock_of(&file, BERT, WRITE(0, 9)));
	expect(still_waits(f, &bert), "not waited for");
	expect_ok(fe_queue_stop(&f->c.fe, q, &base));
	fe_queue_rewind(q);
	expect_ok(fe_queue_start(&f->c.fe, q, 0));
	expect_ok(fe_queue_enable(&f->c.fe, q, true));
	expect_ok(set(f, &file, ANNE, UNLOCK(0, WHOLE)));
	expect_ok(set(f, &file, ANNE, WRITE(0, WHOLE)));
	expect_is(q->n_bogus, 0);
	fs_claim_end(f);
}

static void closing_gives_up_the_owners_locks(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "close", NULL);
	struct file a = open_file(f, O_RDWR), b = open_file(f, O_RDWR), c = open_file(f, O_RDWR);

	expect_ok(set(f, &a, ANNE, WRITE(0, 9)));
	expect_ok(set(f, &b, ANNE, WRITE(10, 19)));
	expect_ok(set(f, &b, BERT, WRITE(20, 29)));
	/* That is POSIX: any descriptor of the file that she closes. */
	expect_ok(flush(f, &c, ANNE));
	expect_ok(set(f, &c, CARL, WRITE(0, 19)));
	expect_is(set(f, &c, CARL, WRITE(20, 29)), -EAGAIN);
	/* A lock of an open file of the guest's (F_OFD_SETLK) is never flushed: it ends with that. */
	expect_ok(fc_release(&f->c, b.node, b.fh));
	expect_ok(set(f, &c, CARL, WRITE(20, 29)));
	fs_claim_end(f);
}

static void whole_files_are_locked_by_handle(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "flock", NULL);
	struct file a = open_file(f, O_RDWR), b = open_file(f, O_RDWR), c = open_file(f, O_RDONLY);
	struct fuse_release_in in = { .fh = a.fh, .release_flags = FUSE_RELEASE_FLOCK_UNLOCK };
	struct fc_op op = op_of(FUSE_RELEASE, &a, &in, sizeof(in));
	static struct waiter waiter;
	struct fuse_lk_in lk;

	expect_ok(flock_set(f, &a, F_WRLCK));
	expect_is(flock_set(f, &b, F_RDLCK), -EAGAIN);
	expect_is(flock_set(f, &c, F_WRLCK), -EAGAIN);
	/* Record locks are another matter. */
	expect_ok(set(f, &b, BERT, WRITE(0, WHOLE)));
	lk = lock_of(&b, b.fh, WRITE(0, WHOLE));
	lk.lk_flags = FUSE_LK_FLOCK;
	start_waiting(f, &waiter, &b, lk);
	expect(still_waits(f, &waiter), "not waited for");
	expect_ok(fc_run(&f->c, &op));
	expect_ok(answer(f, &waiter));
	expect_ok(flock_set(f, &b, F_RDLCK));
	expect_ok(flock_set(f, &c, F_RDLCK));
	expect_is(flock_set(f, &b, F_WRLCK), -EAGAIN);
	expect_ok(flock_set(f, &c, F_UNLCK));
	expect_ok(flock_set(f, &b, F_WRLCK));
	fs_claim_end(f);
}

static bool host_can_lock(const struct fs_claim *f, off_t start)
{
	int fd = open(fs_claim_path(f, "file"), O_RDWR | O_CLOEXEC);
	struct flock fl = { .l_type = F_WRLCK, .l_start = start, .l_len = 1 };
	int r;

	expect(fd >= 0, "%s", strerror(errno));
	r = fcntl(fd, F_OFD_SETLK, &fl);
	close(fd);
	return r == 0;
}

static void the_hosts_processes_take_part(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "host", NULL);
	struct file file = open_file(f, O_RDWR);
	struct flock fl = { .l_type = F_WRLCK, .l_start = 50, .l_len = 10 };
	static struct waiter waiter;
	struct fuse_file_lock lk;
	int fd;

	expect_ok(set(f, &file, ANNE, WRITE(0, 9)));
	expect(!host_can_lock(f, 5), "the host does not see the guest's");
	expect(host_can_lock(f, 10), "the host sees more than there is");
	fd = open(fs_claim_path(f, "file"), O_RDWR | O_CLOEXEC);
	expect_is(fcntl(fd, F_OFD_SETLK, &fl), 0);
	expect_is(set(f, &file, ANNE, WRITE(55, 70)), -EAGAIN);
	lk = get(f, &file, ANNE, WRITE(55, 70));
	expect(lk.type == F_WRLCK && lk.start == 50 && lk.end == 59, "%u %lu-%lu", lk.type,
	       lk.start, lk.end);
	start_waiting(f, &waiter, &file, lock_of(&file, ANNE, WRITE(55, 70)));
	expect(still_waits(f, &waiter), "not waited for");
	close(fd);
	expect_ok(answer(f, &waiter));
	fs_claim_end(f);
}

static bool host_gets_a_lease(const struct fs_claim *f)
{
	int fd = open(fs_claim_path(f, "file"), O_RDONLY | O_CLOEXEC);
	int r = fcntl(fd, F_SETLEASE, F_RDLCK);

	close(fd);
	return r == 0;
}

/* The host may have a lease on it, and execute it: both want nobody who could write. */
static void who_locks_for_reading_does_not_open_for_writing(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "reading", NULL);
	struct file file = open_file(f, O_RDONLY);

	expect(host_gets_a_lease(f), "not even before");
	expect_ok(set(f, &file, ANNE, READ(0, WHOLE)));
	expect(host_gets_a_lease(f), "it is open for writing");
	expect(!host_can_lock(f, 5), "not locked");
	fs_claim_end(f);
}

static void expect_read_locks_of_anne(struct fs_claim *f, const struct file *file)
{
	struct fuse_file_lock lk;

	expect_is(set(f, file, CARL, WRITE(9, 9)), -EAGAIN);
	expect_is(set(f, file, CARL, WRITE(20, 29)), -EAGAIN);
	expect_is(set(f, file, CARL, WRITE(1000000, 1000000)), -EAGAIN);
	expect_ok(set(f, file, CARL, WRITE(10, 19)));
	expect_ok(set(f, file, CARL, READ(0, 29)));
	expect_ok(set(f, file, CARL, UNLOCK(0, WHOLE)));
	lk = get(f, file, CARL, WRITE(0, 9));
	expect(lk.type == F_RDLCK && lk.start == 0 && lk.end == 9 && lk.pid == ANNE,
	       "%u %lu-%lu of %u", lk.type, lk.start, lk.end, lk.pid);
}

static void read_locks_stay_when_a_write_lock_comes(struct claim_context *x)
{
	struct fc_spec spec = { .session = { .inflight = true } };
	struct fs_claim *f = fs_claim_begin(x, "moved", &spec);
	struct file file = open_file(f, O_RDWR);

	expect_ok(set(f, &file, ANNE, READ(0, 9)));
	expect_ok(set(f, &file, ANNE, READ(20, 29)));
	expect_ok(set(f, &file, ANNE, READ(1000, WHOLE)));
	expect_ok(set(f, &file, BERT, READ(20, 29)));
	expect_is(set(f, &file, ANNE, WRITE(20, 29)), -EAGAIN);
	expect_read_locks_of_anne(f, &file);
	expect_ok(set(f, &file, ANNE, WRITE(50, 59)));
	expect_read_locks_of_anne(f, &file);
	expect_is(set(f, &file, CARL, READ(55, 55)), -EAGAIN);
	kill_worker(x);
	expect_read_locks_of_anne(f, &file);
	expect_ok(set(f, &file, BERT, UNLOCK(0, WHOLE)));
	expect_ok(set(f, &file, ANNE, WRITE(20, 29)));
	expect_is(set(f, &file, BERT, READ(20, 29)), -EAGAIN);
	expect_ok(flush(f, &file, ANNE));
	expect_ok(set(f, &file, CARL, WRITE(0, WHOLE)));
	fs_claim_end(f);
}

static void locks_outlive_the_worker(struct claim_context *x)
{
	struct fc_spec spec = { .session = { .inflight = true } };
	struct fs_claim *f = fs_claim_begin(x, "death", &spec);
	struct file a = open_file(f, O_RDWR), b = open_file(f, O_RDWR);
	static struct waiter waiter;
	struct fuse_file_lock lk;

	expect_ok(set(f, &a, ANNE, WRITE(0, 9)));
	expect_ok(flock_set(f, &a, F_WRLCK));
	start_waiting(f, &waiter, &b, lock_of(&b, BERT, WRITE(5, 15)));
	expect(still_waits(f, &waiter), "not waited for");
	for (unsigned i = 0; i < 3; i++) {
		kill_worker(x);
		expect(!host_can_lock(f, 5), "it was free for a moment");
		expect_is(set(f, &b, CARL, WRITE(0, 0)), -EAGAIN);
		expect_is(flock_set(f, &b, F_RDLCK), -EAGAIN);
	}
	lk = get(f, &b, CARL, WRITE(0, 0));
	expect(lk.type == F_WRLCK && lk.end == 9 && lk.pid == ANNE, "of %u", lk.pid);
	expect(still_waits(f, &waiter), "not waited for");
	expect_ok(set(f, &a, ANNE, WRITE(20, 29)));
	expect_ok(flush(f, &a, ANNE));
	expect_ok(answer(f, &waiter));
	expect_ok(set(f, &b, CARL, WRITE(0, 4)));
	expect_is(set(f, &b, CARL, WRITE(5, 5)), -EAGAIN);
	fs_claim_end(f);
}

/* More owners than there is room for are refused, and no more is lost than that. */
static void owners_are_bounded(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "bounded", NULL);
	struct file file = open_file(f, O_RDWR);
	unsigned n = 0;
	int r = 0;

	while (n < 5000 && r == 0) {
		r = set(f, &file, 10000 + n, WRITE((int64_t)n, (int64_t)n));
		n += r == 0;
	}
	expect_is(r, -ENOLCK);
	expect(n >= 1000, "%u owners", n);
	expect_ok(flush(f, &file, 10000));
	expect_ok(set(f, &file, ANNE, WRITE(0, 0)));
	expect_is(set(f, &file, ANNE, WRITE(1, 1)), -EAGAIN);
	/* A session's end ends them all. */
	fs_claim_end(f);
	for (unsigned i = 0; i < 2000 && !host_can_lock(f, 1); i++)
		usleep(1000);
	expect(host_can_lock(f, 1), "held by nobody");
}

#define CLAIM(name)                                                                                \
	{                                                                                          \
#name, name, &plain                                                                \
	}

static const struct claim claims[] = {
	CLAIM(owners_exclude_each_other),
	CLAIM(who_stands_in_the_way_is_told),
	CLAIM(ranges_that_are_none_are_refused),
	CLAIM(whoever_waits_gets_it_when_it_is_free),
	CLAIM(who_would_wait_for_ever_is_told),
	CLAIM(who_does_not_wait_any_more_stands_in_no_circle),
	CLAIM(waiting_does_not_slow_others),
	CLAIM(whoever_waits_can_be_interrupted),
	CLAIM(what_waits_stays_what_it_was),
	CLAIM(whoever_waits_goes_on_when_the_queue_does),
	CLAIM(what_stops_no_queue_ends_no_waiting),
	CLAIM(a_driver_that_begins_anew_waits_for_nothing),
	CLAIM(closing_gives_up_the_owners_locks),
	CLAIM(whole_files_are_locked_by_handle),
	CLAIM(the_hosts_processes_take_part),
	CLAIM(who_locks_for_reading_does_not_open_for_writing),
	CLAIM(read_locks_stay_when_a_write_lock_comes),
	CLAIM(locks_outlive_the_worker),
	CLAIM(owners_are_bounded),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
