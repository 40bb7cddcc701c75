/*
 * A backing store with delayed O_DIRECT reads and writes, without device-mapper.
 *
 * Runs in: a child of the fence test, as root. Trusts: the kernel's FUSE requests.
 *
 * The file system has one file, "disk", held in memory. It is opened with FOPEN_DIRECT_IO and the
 * connection has FUSE_ASYNC_DIO, so an io_uring write to it is a background request: the submitter
 * does not wait, and what the submitter is killed with goes on. That is how block I/O behaves too.
 * A write that the test has chosen is taken from the kernel at once (its data is copied out of
 * guest memory then), and lands in the file, and is answered, only after the delay.
 *
 * FUSE_INTERRUPT is never sent for background requests; should a kernel send one, it is counted,
 * and not obeyed, so that the test can say that its premise was wrong.
 *
 * The protocol is spoken directly on /dev/fuse: no library is needed for eleven requests.
 */
#include "tests/frontend/slowfs.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	FILE_NODE = 2,
	MAX_HELD = 1024,
	MAX_BACKGROUND = MAX_HELD + 128, /* requests that the kernel sends before one is answered */
	MAX_WRITE = 1 << 20,
	BUFFER_LEN = MAX_WRITE + 4096,
};

struct held {
	uint64_t unique, offset, due_ns;
	uint32_t len;
	uint8_t *data;	/* of a write; NULL: a read, or */
	uint8_t *whole; /* another request as it came */
};

struct server {
	int fd;
	uint8_t *disk;
	uint64_t size;
	struct slowfs_control *control;
	struct held held[MAX_HELD];
	unsigned n_held;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void reply(struct server *s, uint64_t unique, int error, const void *body, size_t len)
{
	struct fuse_out_header h = { .len = (uint32_t)(sizeof(h) + len),
				     .error = error,
				     .unique = unique };
	struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)(uintptr_t)body, len } };

	if (writev(s->fd, iov, 2) < 0 && errno != ENOENT)
		warn("slowfs: reply");
}

static void fill_attr(const struct server *s, uint64_t node, struct fuse_attr *a)
{
	*a = (struct fuse_attr){ .ino = node, .nlink = 1, .blksize = 4096, .mode = S_IFDIR | 0755 };
	if (node == FILE_NODE) {
		a->mode = S_IFREG | 0600;
		a->size = s->size;
		a->blocks = s->size / 512;
	}
}

static void do_init(struct server *s, const struct fuse_in_header *h, const void *in)
{
	const struct fuse_init_in *init = in;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = 0,
		.flags = init->flags &
			 (FUSE_ASYNC_DIO | FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES),
		.max_background = MAX_BACKGROUND,
		.congestion_threshold = MAX_BACKGROUND,
		.max_write = MAX_WRITE,
		.max_pages = MAX_WRITE / 4096,
		.time_gran = 1,
	};

	reply(s, h->unique, 0, &out, sizeof(out));
}

static void do_lookup(struct server *s, const struct fuse_in_header *h, const void *in)
{
	struct fuse_entry_out out = {
		.nodeid = FILE_NODE, .generation = 1, .entry_valid = 3600, .attr_valid = 3600
	};

	if (h->nodeid != FUSE_ROOT_ID || strcmp(in, "disk") != 0) {
		reply(s, h->unique, -ENOENT, NULL, 0);
		return;
	}
	fill_attr(s, FILE_NODE, &out.attr);
	reply(s, h->unique, 0, &out, sizeof(out));
}

static void do_getattr(struct server *s, const struct fuse_in_header *h)
{
	struct fuse_attr_out out = { .attr_valid = 3600 };

	fill_attr(s, h->nodeid, &out.attr);
	reply(s, h->unique, 0, &out, sizeof(out));
}

static void do_open(struct server *s, const struct fuse_in_header *h)
{
	struct fuse_open_out out = { .open_flags = FOPEN_DIRECT_IO };

	reply(s, h->unique, 0, &out, sizeof(out));
}

static void read_land(struct server *s, uint64_t unique, uint64_t offset, uint32_t len)
{
	uint64_t left = offset < s->size ? s->size - offset : 0;

	s->control->n_reads++;
	reply(s, unique, 0, s->disk + offset, len < left ? len : left);
}

static struct held *hold(struct server *s, uint64_t unique, uint64_t offset, uint32_t len)
{
	struct held *d = &s->held[s->n_held++];

	*d = (struct held){
		.unique = unique,
		.offset = offset,
		.len = len,
		.due_ns = now_ns() + s->control->delay_ms * UINT64_C(1000000),
	};
	s->control->n_held++;
	return d;
}

static void do_read(struct server *s, const struct fuse_in_header *h, const void *in)
{
	const struct fuse_read_in *r = in;

	if (s->control->n_reads_to_delay > 0 && s->n_held < MAX_HELD) {
		s->control->n_reads_to_delay--;
		hold(s, h->unique, r->offset, r->size);
	} else
		read_land(s, h->unique, r->offset, r->size);
}

static void write_land(struct server *s, uint64_t unique, uint64_t offset, const void *data,
		       uint32_t len)
{
	struct fuse_write_out out = { .size = len };

	memcpy(s->disk + offset, data, len);
	s->control->n_writes++;
	reply(s, unique, 0, &out, sizeof(out));
}

static void write_hold(struct server *s, const struct fuse_in_header *h,
		       const struct fuse_write_in *w)
{
	uint8_t *data = malloc(w->size + 1);

	if (!data)
		err(1, "slowfs");
	memcpy(data, w + 1, w->size);
	hold(s, h->unique, w->offset, w->size)->data = data;
}

static void do_write(struct server *s, const struct fuse_in_header *h, const void *in)
{
	const struct fuse_write_in *w = in;

	s->control->write_flags &= w->flags;
	if (w->offset > s->size || w->size > s->size - w->offset)
		reply(s, h->unique, -ENOSPC, NULL, 0);
	else if (s->control->n_writes_to_delay > 0 && s->n_held < MAX_HELD) {
		s->control->n_writes_to_delay--;
		write_hold(s, h, w);
	} else
		write_land(s, h->unique, w->offset, w + 1, w->size);
}

static void handle_now(struct server *s, const uint8_t *buf)
{
	const struct fuse_in_header *h = (const void *)buf;
	const void *in = h + 1;

	switch (h->opcode) {
	case FUSE_INIT:
		do_init(s, h, in);
		break;
	case FUSE_LOOKUP:
		do_lookup(s, h, in);
		break;
	case FUSE_GETATTR:
		do_getattr(s, h);
		break;
	case FUSE_OPEN:
		do_open(s, h);
		break;
	case FUSE_READ:
		do_read(s, h, in);
		break;
	case FUSE_WRITE:
		do_write(s, h, in);
		break;
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_RELEASE:
	case FUSE_DESTROY:
		reply(s, h->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		break;
	case FUSE_INTERRUPT:
		s->control->n_interrupts++;
		break;
	case FUSE_SETATTR:
		do_getattr(s, h);
		break;
	default:
		reply(s, h->unique, -ENOSYS, NULL, 0);
	}
}

static void handle(struct server *s, const uint8_t *buf)
{
	const struct fuse_in_header *h = (const void *)buf;
	struct held *d;

	if (h->opcode != s->control->other_opcode || s->control->n_others_to_delay <= 0 ||
	    s->n_held >= MAX_HELD) {
		handle_now(s, buf);
		return;
	}
	s->control->n_others_to_delay--;
	d = hold(s, h->unique, 0, h->len);
	d->whole = malloc(h->len);
	if (!d->whole)
		err(1, "slowfs");
	memcpy(d->whole, buf, h->len);
}

/* Lands what is due; the milliseconds until the next, or -1. */
static int held_land(struct server *s)
{
	uint64_t now = now_ns(), next = UINT64_MAX;
	unsigned i = 0;

	while (i < s->n_held) {
		struct held *d = &s->held[i];

		if (d->due_ns > now) {
			next = d->due_ns < next ? d->due_ns : next;
			i++;
			continue;
		}
		if (d->whole)
			handle_now(s, d->whole);
		else if (d->data)
			write_land(s, d->unique, d->offset, d->data, d->len);
		else
			read_land(s, d->unique, d->offset, d->len);
		free(d->data);
		free(d->whole);
		*d = s->held[--s->n_held];
		s->control->n_held--;
		s->control->n_landed++;
	}
	return next == UINT64_MAX ? -1 : (int)((next - now) / 1000000) + 1;
}

static void serve(struct server *s)
{
	uint8_t *buf = malloc(BUFFER_LEN);
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	ssize_t n;

	while (buf) {
		if (poll(&p, 1, held_land(s)) <= 0)
			continue;
		n = read(s->fd, buf, BUFFER_LEN);
		if (n >= (ssize_t)sizeof(struct fuse_in_header))
			handle(s, buf);
		else if (errno == ENODEV)
			break; /* unmounted */
		else if (errno != EINTR && errno != ENOENT && errno != EAGAIN)
			err(1, "slowfs: /dev/fuse");
	}
	free(buf);
}

static char mount_point[128];

/* Our parent has gone, or we are interrupted with it. Calls only what a signal handler may. */
static void leave(int number)
{
	umount2(mount_point, MNT_DETACH);
	rmdir(mount_point);
	_exit(0);
}

static void leave_with_parent(const struct slowfs *s)
{
	strcpy(mount_point, s->dir);
	signal(SIGTERM, leave);
	signal(SIGINT, leave);
	signal(SIGHUP, leave);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
}

static int mount_here(struct slowfs *s)
{
	const char *tmp = getenv("TMPDIR");
	char options[128];
	int fd, r;

	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	snprintf(s->dir, sizeof(s->dir), "%s/vmdev-slowfs-XXXXXX", tmp ? tmp : "/tmp");
	/* In a mount namespace of our own: however this test ends, nothing stays mounted. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    !mkdtemp(s->dir))
		goto failed;
	snprintf(s->path, sizeof(s->path), "%s/disk", s->dir);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		 fd);
	if (mount("vmdev-slowfs", s->dir, "fuse", MS_NOSUID | MS_NODEV, options) == 0)
		return fd;
	r = errno;
	rmdir(s->dir);
	errno = r;
failed:
	r = -errno;
	close(fd);
	return r;
}

int slowfs_start(struct slowfs *s, uint64_t size)
{
	struct server server = { .size = size };
	int fd;

	memset(s, 0, sizeof(*s));
	s->control = mmap(NULL, sizeof(*s->control), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->control == MAP_FAILED)
		return -errno;
	fd = mount_here(s);
	if (fd < 0)
		return fd;
	fflush(NULL);
	s->pid = fork();
	if (s->pid == 0) {
		leave_with_parent(s);
		server.fd = fd;
		server.control = s->control;
		server.disk = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				   -1, 0);
		if (server.disk == MAP_FAILED)
			err(1, "slowfs");
		serve(&server);
		_exit(0);
	}
	close(fd);
	return s->pid < 0 ? -errno : 0;
}

void slowfs_stop(struct slowfs *s)
{
	if (s->pid <= 0)
		return;
	umount2(s->dir, MNT_DETACH);
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	rmdir(s->dir);
	munmap(s->control, sizeof(*s->control));
	s->pid = 0;
}
