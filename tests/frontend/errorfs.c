/*
 * A backing file system whose errors are chosen by the test: disk full, quota, read-only, I/O.
 *
 * Runs in: a child of the test, as root. Trusts: the kernel's FUSE requests.
 *
 * "f122" is a regular file whose changes fail with error 122, "d122" a directory in which nothing is found, and nothing can be made or
 * removed. Nothing else is there.
 */
#include "tests/frontend/errorfs.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	BUFFER_LEN = (128 << 10) + 4096,
	DIRECTORY = 1 << 16, /* in a node id; its lower half is 16 + the error */
	NODE_BASE = 16,
};

static int error_of(uint64_t node)
{
	return -(int)((node & (DIRECTORY - 1)) - NODE_BASE);
}

static void reply(int fd, uint64_t unique, int error, const void *body, size_t len)
{
	struct fuse_out_header h = { .len = (uint32_t)(sizeof(h) + len),
				     .error = error,
				     .unique = unique };
	struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)(uintptr_t)body, len } };

	if (writev(fd, iov, 2) < 0 && errno != ENOENT)
		warn("errorfs: reply");
}

static struct fuse_attr attr_of(uint64_t node)
{
	bool directory = node == FUSE_ROOT_ID || node & DIRECTORY;

	return (struct fuse_attr){ .ino = node,
				   .nlink = 1,
				   .blksize = 4096,
				   .size = 4096,
				   .mode = directory ? S_IFDIR | 0755 : S_IFREG | 0644 };
}

static void do_init(int fd, const struct fuse_in_header *h, const void *in)
{
	const struct fuse_init_in *init = in;
	struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION,
				     .minor = FUSE_KERNEL_MINOR_VERSION,
				     .flags = init->flags & FUSE_BIG_WRITES,
				     .max_write = 64 << 10,
				     .time_gran = 1 };

	reply(fd, h->unique, 0, &out, sizeof(out));
}

static void do_lookup(int fd, const struct fuse_in_header *h, const char *name)
{
	struct fuse_entry_out out = { .generation = 1 };

	if (h->nodeid != FUSE_ROOT_ID || (name[0] != 'f' && name[0] != 'd')) {
		reply(fd, h->unique, -ENOENT, NULL, 0);
		return;
	}
	out.nodeid = NODE_BASE + (uint64_t)atoi(name + 1);
	if (name[0] == 'd')
		out.nodeid |= DIRECTORY;
	out.attr = attr_of(out.nodeid);
	reply(fd, h->unique, 0, &out, sizeof(out));
}

static void serve_one(int fd, const struct fuse_in_header *h, const void *in)
{
	struct fuse_attr_out attr = { .attr = attr_of(h->nodeid) };
	struct fuse_open_out open = { .open_flags = FOPEN_DIRECT_IO };

	switch (h->opcode) {
	case FUSE_INIT:
		do_init(fd, h, in);
		break;
	case FUSE_LOOKUP:
		do_lookup(fd, h, in);
		break;
	case FUSE_GETATTR:
		reply(fd, h->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		reply(fd, h->unique, 0, &open, sizeof(open));
		break;
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		reply(fd, h->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	case FUSE_READ:
	case FUSE_WRITE:
	case FUSE_FSYNC:
	case FUSE_FALLOCATE:
	case FUSE_SETATTR:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_MKDIR:
	case FUSE_MKNOD:
	case FUSE_CREATE:
	case FUSE_SYMLINK:
		reply(fd, h->unique, error_of(h->nodeid), NULL, 0);
		break;
	default:
		reply(fd, h->unique, -ENOSYS, NULL, 0);
	}
}

static void serve(int fd)
{
	static uint64_t buffer[BUFFER_LEN / sizeof(uint64_t)];

	for (;;) {
		const struct fuse_in_header *h = (const void *)buffer;
		ssize_t n = read(fd, buffer, sizeof(buffer));

		if (n < 0 && (errno == EINTR || errno == ENOENT))
			continue;
		if (n < (ssize_t)sizeof(*h))
			_exit(0); /* unmounted */
		serve_one(fd, h, h + 1);
	}
}

int errorfs_start(struct errorfs *e, const char *dir)
{
	char options[100];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	snprintf(e->dir, sizeof(e->dir), "%s", dir);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		 fd);
	if (mount("errorfs", dir, "fuse.errorfs", 0, options) < 0)
		return -errno;
	e->pid = fork();
	if (e->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(fd);
	}
	close(fd);
	return 0;
}

void errorfs_stop(struct errorfs *e)
{
	umount2(e->dir, MNT_DETACH);
	kill(e->pid, SIGKILL);
	waitpid(e->pid, NULL, 0);
}
