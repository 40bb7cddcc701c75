/*
 * Claims about host file systems that take their time: a slow disk, leases, what has to be durable.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/fs-file.h"
#include "tests/frontend/slowfs.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct backend_spec plain = { .share = "", .n_queues = 2 };

enum { KIB = 1 << 10, MIB = 1 << 20 };

/* A back-end in whose directory the file at slow/file answers late. args: more of its arguments, or NULL. */
static void start_slow(const char *program, const char *const *args, struct slowfs *slow,
		       struct backend *b, struct fc *c, struct file *ret)
{
	const struct backend_spec spec = {
		.program = program, .share = "", .n_queues = 1, .args = args
	};
	static const struct fc_spec everything;
	struct fuse_entry_out dir, e;
	struct fuse_open_out o;
	char path[700];
	int r = slowfs_start(slow, 16 * MIB);

	if (r == -ENOENT || r == -ENODEV)
		claim_skip("this kernel has no FUSE");
	expect_ok(r);
	expect_ok(backend_start(b, &spec));
	snprintf(path, sizeof(path), "%s/slow", b->share);
	expect(mkdir(path, 0755) == 0, "%s: %s", path, strerror(errno));
	expect(mount(slow->dir, path, NULL, MS_BIND, NULL) == 0, "%s: %s", path, strerror(errno));
	expect_ok(fc_begin(c, b->socket, &everything));
	expect_ok(fc_lookup(c, FC_ROOT, "slow", &dir));
	expect_ok(fc_lookup(c, dir.nodeid, strrchr(slow->path, '/') + 1, &e));
	expect_ok(fc_open(c, e.nodeid, O_RDWR, &o));
	*ret = (struct file){ .node = e.nodeid, .fh = o.fh };
}

static void stop_slow(struct slowfs *slow, struct backend *b, struct fc *c)
{
	char path[700];

	fc_end(c);
	snprintf(path, sizeof(path), "%s/slow", b->share);
	umount2(path, MNT_DETACH);
	backend_done(b);
	slowfs_stop(slow);
}

static void what_waits_for_a_disk_holds_nobody_up(struct claim_context *x)
{
	static struct slowfs slow;
	static struct backend b;
	static struct fc c;
	struct file file;
	struct fc_call read_call;

	start_slow(x->program, NULL, &slow, &b, &c, &file);
	slow.control->delay_ms = 1500;
	slow.control->n_reads_to_delay = 1;
	fc_call_init(&read_call, &c.fe.mem);
	fc_add(&c, FC_REQUESTS, &read_call,
	       &(struct fc_op){
		       .opcode = FUSE_READ,
		       .nodeid = file.node,
		       .part = { { &(struct fuse_read_in){ .fh = file.fh, .size = 256 * KIB },
				   sizeof(struct fuse_read_in) } },
		       .n_parts = 1,
		       .room = 256 * KIB });
	expect_ok(fc_getattr(&c, FC_ROOT, NULL));
	expect(!read_call.done, "the read was answered before the request behind it");
	expect_is(slow.control->n_landed, 0);
	expect_ok(fc_wait(&c, FC_REQUESTS, &read_call));
	expect_is(read_call.reply_len, 256 * KIB);
	stop_slow(&slow, &b, &c);
}

static int slow_truncate(struct fc *c, const struct file *file)
{
	struct fuse_setattr_in in = { .valid = FATTR_SIZE | FATTR_FH, .fh = file->fh, .size = 9 };

	return fc_setattr(c, file->node, &in, NULL);
}

static int slow_open(struct fc *c, const struct file *file)
{
	return fc_open(c, file->node, O_RDONLY, &(struct fuse_open_out){ 0 });
}

static int slow_flush(struct fc *c, const struct file *file)
{
	struct fuse_flush_in in = { .fh = file->fh };

	return fc_run(c, &(struct fc_op){ .opcode = FUSE_FLUSH,
					  .nodeid = file->node,
					  .part = { { &in, sizeof(in) } },
					  .n_parts = 1 });
}

static int slow_write(struct fc *c, const struct file *file)
{
	return fc_write(c, file->node, file->fh, 0, "text", 4) == 4 ? 0 : -EIO;
}

/* Of one batch, so that no turn of the device's loop comes between two of them. */
static int slow_opens(struct fc *c, const struct file *file)
{
	struct fuse_open_in in = { .flags = O_RDONLY };
	struct fc_call calls[6];
	int r = 0;

	for (unsigned i = 0; i < 6; i++) {
		fc_call_init(&calls[i], &c->fe.mem);
		fc_add(c, FC_REQUESTS, &calls[i],
		       &(struct fc_op){ .opcode = FUSE_OPEN,
					.nodeid = file->node,
					.part = { { &in, sizeof(in) } },
					.n_parts = 1,
					.room = sizeof(struct fuse_open_out) });
	}
	fc_kick(c, FC_REQUESTS);
	for (unsigned i = 0; i < 6 && r == 0; i++)
		r = fc_wait(c, FC_REQUESTS, &calls[i]);
	return r;
}

/* Whatever the guest asks for: a worker that waits for the host does not hang, and nobody is to blame. */
static void a_slow_host_is_no_hang(struct claim_context *x)
{
	static const struct {
		const char *what;
		int (*run)(struct fc *c, const struct file *file);
		unsigned opcode, n, ms;
	} rows[] = { { "open", slow_open, FUSE_OPEN, 1, 1200 },
		     { "opens", slow_opens, FUSE_OPEN, 6, 250 },
		     { "truncate", slow_truncate, FUSE_SETATTR, 1, 1200 },
		     { "write", slow_write, FUSE_WRITE, 1, 1200 },
		     { "flush", slow_flush, FUSE_FLUSH, 1, 1200 } };
	static const char *const args[] = { "--hang-timeout=500000", NULL };
	static struct slowfs slow;
	static struct backend b;
	static struct fc c;
	struct file file;
	pid_t worker;

	start_slow(x->program, args, &slow, &b, &c, &file);
	worker = backend_worker_await(b.pid, 0, 2000);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		slow.control->delay_ms = rows[i].ms;
		slow.control->other_opcode = rows[i].opcode;
		slow.control->n_others_to_delay = (int)rows[i].n;
		expect(rows[i].run(&c, &file) == 0, "%s fails", rows[i].what);
		expect_is(slow.control->n_others_to_delay, 0);
		expect(backend_worker(b.pid) == worker, "%s had the worker killed", rows[i].what);
	}
	stop_slow(&slow, &b, &c);
}

/* Two at a time, so that what can be done aside is. The flags that the host's file system sees. */
static uint32_t flags_on_the_host(struct fc *c, const struct slowfs *slow, const struct file *file,
				  uint32_t flags)
{
	uint8_t *page = fe_memory_alloc(&c->fe.mem, 4096, 4096);
	struct fuse_write_in in = { .fh = file->fh, .size = 4096, .flags = flags };
	struct fc_call calls[2];

	slow->control->write_flags = ~0u;
	for (unsigned i = 0; i < 2; i++) {
		fc_call_init(&calls[i], &c->fe.mem);
		fc_add(c, FC_REQUESTS, &calls[i],
		       &(struct fc_op){ .opcode = FUSE_WRITE,
					.nodeid = file->node,
					.part = { { &in, sizeof(in) }, { page, 4096 } },
					.n_parts = 2,
					.room = sizeof(struct fuse_write_out) });
	}
	fc_kick(c, FC_REQUESTS);
	for (unsigned i = 0; i < 2; i++)
		expect_ok(fc_wait(c, FC_REQUESTS, &calls[i]));
	return slow->control->write_flags;
}

/* RWF_DSYNC and RWF_SYNC, and O_DSYNC set by fcntl(), reach the device with each write alone. */
static void synchronous_writes_are_so_for_the_host(struct claim_context *x)
{
	static const char *const uncached_args[] = { "--cache=none", NULL };
	static const char *const direct_args[] = { "--cache=none", "--direct-io", NULL };
	static struct slowfs slow;
	static struct backend b;
	static struct fc c;
	struct file file;

	for (unsigned way = 0; way < 2; way++) {
		const uint32_t flags = O_RDWR | (way ? O_DIRECT : 0);
		struct fuse_open_out o;

		start_slow(x->program, way ? direct_args : uncached_args, &slow, &b, &c, &file);
		expect_ok(fc_open(&c, file.node, flags, &o));
		file.fh = o.fh;
		expect_is(flags_on_the_host(&c, &slow, &file, flags) & O_SYNC, 0);
		expect_is(flags_on_the_host(&c, &slow, &file, flags | O_DSYNC) & O_SYNC, O_DSYNC);
		expect_is(flags_on_the_host(&c, &slow, &file, flags | O_SYNC) & O_SYNC, O_SYNC);
		stop_slow(&slow, &b, &c);
		memset(&c, 0, sizeof(c));
	}
}

static void lease_breaks(int number)
{
}

/* A host process that has a lease on the file, and takes its time when it is told to give it up. */
static pid_t lease_begin(const char *path)
{
	int ready[2];
	pid_t pid;
	char c;

	expect(pipe(ready) == 0, "%s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		sigset_t io;
		int fd = open(path, O_RDWR | O_CLOEXEC);

		sigemptyset(&io);
		sigaddset(&io, SIGIO);
		sigprocmask(SIG_BLOCK, &io, NULL);
		signal(SIGIO, lease_breaks);
		if (fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0 || write(ready[1], "", 1) < 0)
			_exit(1);
		sigwaitinfo(&io, NULL);
		usleep(200000);
		_exit(0);
	}
	close(ready[1]);
	expect(read(ready[0], &c, 1) == 1, "no lease");
	close(ready[0]);
	return pid;
}

static void what_somebody_has_a_lease_on_is_waited_for(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "lease", NULL);
	const char *path = fs_claim_path(f, "file");
	struct fuse_setattr_in in = { .valid = FATTR_SIZE, .size = 2 };
	struct fuse_open_in open_in = { .flags = O_RDONLY };
	struct fuse_entry_out e;
	struct fc_call call;
	struct file file;
	pid_t pid;

	fs_claim_write(f, "file", "text");
	pid = lease_begin(path);
	file = open_existing(f, "file", O_RDWR);
	expect_ok(fc_release(&f->c, file.node, file.fh));
	waitpid(pid, NULL, 0);
	pid = lease_begin(path);
	expect_ok(fc_lookup(&f->c, f->dir, "file", &e));
	expect_ok(fc_setattr(&f->c, e.nodeid, &in, NULL));
	expect(fs_claim_holds(f, "file", "te"), "not truncated");
	waitpid(pid, NULL, 0);
	/* Nobody else waits. */
	pid = lease_begin(path);
	fc_call_init(&call, &f->c.fe.mem);
	fc_add(&f->c, FC_REQUESTS, &call,
	       &(struct fc_op){ .opcode = FUSE_OPEN,
				.nodeid = e.nodeid,
				.part = { { &open_in, sizeof(open_in) } },
				.n_parts = 1,
				.room = sizeof(struct fuse_open_out) });
	fc_kick(&f->c, FC_REQUESTS);
	expect_ok(fc_getattr(&f->c, FC_ROOT, NULL));
	expect(!call.done, "the lease was not heeded");
	expect_ok(fc_wait(&f->c, FC_REQUESTS, &call));
	waitpid(pid, NULL, 0);
	fs_claim_end(f);
}

static bool file_has(const char *path, const char *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	static char buffer[16 * MIB];
	ssize_t n = fd < 0 ? -1 : read(fd, buffer, sizeof(buffer));

	close(fd);
	return n > 0 && memmem(buffer, (size_t)n, text, strlen(text));
}

/* For a guest that takes them for one. What is on the disk of the inner one is a file here. */
static void sync_is_for_all_file_systems_below(struct claim_context *x)
{
	struct backend_spec spec = { .program = x->program, .share = "", .n_queues = 1 };
	static const struct fc_spec everything;
	static struct backend b;
	static struct fc c;
	struct fuse_syncfs_in in = {};
	struct fuse_entry_out e;
	struct fc_opened o;
	char disk[200], command[1500];

	expect(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0,
	       "%s", strerror(errno));
	expect_ok(backend_start(&b, &spec));
	snprintf(disk, sizeof(disk), "%s/disk", b.dir);
	snprintf(command, sizeof(command),
		 "mkdir %s/inner && truncate -s 16M %s && mkfs.ext4 -q -O ^has_journal %s && "
		 "mount -o loop %s %s/inner 2>/dev/null",
		 b.share, disk, disk, disk, b.share);
	if (system(command) != 0) {
		backend_done(&b);
		claim_skip("no loop device with ext4 here");
	}
	expect_ok(fc_begin(&c, b.socket, &everything));
	expect_ok(fc_lookup(&c, FC_ROOT, "inner", &e));
	expect_ok(fc_create(&c, e.nodeid, "file", O_RDWR | O_CREAT, S_IFREG | 0644, &o));
	expect_is(fc_write(&c, o.entry.nodeid, o.open.fh, 0, "to be durable", 13), 13);
	expect(!file_has(disk, "to be durable"), "it is on the disk before");
	expect_ok(fc_run(&c, &(struct fc_op){ .opcode = FUSE_SYNCFS,
					      .nodeid = FC_ROOT,
					      .part = { { &in, sizeof(in) } },
					      .n_parts = 1 }));
	expect(file_has(disk, "to be durable"), "it is not on the disk");
	fc_end(&c);
	snprintf(command, sizeof(command), "%s/inner", b.share);
	backend_stop(&b, &(int){ 0 });
	umount2(command, MNT_DETACH);
	backend_done(&b);
}

#define CLAIM(name, spec)                                                                          \
	{                                                                                          \
#name, name, &spec                                                                 \
	}

static const struct claim claims[] = {
	CLAIM(what_waits_for_a_disk_holds_nobody_up, plain),
	CLAIM(a_slow_host_is_no_hang, plain),
	CLAIM(synchronous_writes_are_so_for_the_host, plain),
	CLAIM(what_somebody_has_a_lease_on_is_waited_for, plain),
	CLAIM(sync_is_for_all_file_systems_below, plain),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
