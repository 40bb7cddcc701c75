/* Host resources. See resource.h. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/resource.h"
#include "daemon/sandbox/fail.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

/* QEMU's bytes (block/file-posix.c) and the permissions that they stand for. */
enum {
	LOCK_PERMISSION_BASE = 100,
	LOCK_UNSHARED_BASE = 200,
};

enum {
	PERM_CONSISTENT_READ = 1 << 0,
	PERM_WRITE = 1 << 1,
	PERM_WRITE_UNCHANGED = 1 << 2,
	PERM_RESIZE = 1 << 3,
	N_PERMS = 4,
};

enum { RETRY_MS = 10 };

/* A guest's disk: others may read it, nobody else may write it or change its size. */
static unsigned permissions_taken(bool readonly)
{
	return PERM_CONSISTENT_READ | (readonly ? 0 : PERM_WRITE);
}

static const unsigned permissions_unshared = PERM_WRITE | PERM_RESIZE;

static int lock_byte(int fd, off_t byte)
{
	struct flock lock = {
		.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1
	};

	return errno_or(fcntl(fd, F_OFD_SETLK, &lock));
}

/* 0: nobody else has locked the byte; -EAGAIN: somebody has. */
static int test_byte(int fd, off_t byte)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1
	};

	if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return -errno;
	return lock.l_type == F_UNLCK ? 0 : -EAGAIN;
}

/* First take, then look, so that of two who come at once at least one sees the other. */
static int lock_take(int fd, unsigned taken, unsigned unshared)
{
	for (int p = 0; p < N_PERMS; p++) {
		int r = 0;

		if (taken & 1u << p)
			r = lock_byte(fd, LOCK_PERMISSION_BASE + p);
		if (r >= 0 && unshared & 1u << p)
			r = lock_byte(fd, LOCK_UNSHARED_BASE + p);
		if (r < 0)
			return r == -EACCES ? -EAGAIN : r;
	}
	return 0;
}

static int lock_test(int fd, unsigned taken, unsigned unshared)
{
	for (int p = 0; p < N_PERMS; p++) {
		int r = 0;

		if (taken & 1u << p)
			r = test_byte(fd, LOCK_UNSHARED_BASE + p);
		if (r >= 0 && unshared & 1u << p)
			r = test_byte(fd, LOCK_PERMISSION_BASE + p);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Who holds a lock: the kernel does not say for OFD locks, so look for processes that have the file
 * open. */

struct holder {
	int pid;
	char comm[32];
	char device[160]; /* VM/DEVICE, if it is one of ours */
};

static int read_proc(int pid, const char *name, char *text, size_t size)
{
	char path[64];
	scope_fd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (int)n : -ENOENT;
}

/* The value of --name= in the command line of a device program. */
static void read_device_name(int pid, char *name, size_t size)
{
	char text[4096];
	int len = read_proc(pid, "cmdline", text, sizeof(text));

	name[0] = '\0';
	if (len <= 0 || !strstr(text, "vmdev-"))
		return;
	for (const char *p = text; p < text + len; p += strlen(p) + 1)
		if (strncmp(p, "--name=", strlen("--name=")) == 0)
			snprintf(name, size, "%s", p + strlen("--name="));
}

/* Does this descriptor of that process hold a lock? */
static bool has_lock(int pid, const char *fd)
{
	char name[64], text[4096];

	snprintf(name, sizeof(name), "fdinfo/%.20s", fd);
	return read_proc(pid, name, text, sizeof(text)) > 0 && strstr(text, "\nlock:");
}

static bool process_holds(int pid, const struct stat *image)
{
	char path[64];
	scope_fd int dir = -1;
	DIR *stream;
	bool holds = false;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	stream = opendir(path);
	if (!stream)
		return false;
	for (struct dirent *entry; !holds && (entry = readdir(stream));) {
		struct stat st;

		holds = isdigit((unsigned char)entry->d_name[0]) &&
			fstatat(dirfd(stream), entry->d_name, &st, 0) == 0 &&
			st.st_dev == image->st_dev && st.st_ino == image->st_ino &&
			has_lock(pid, entry->d_name);
	}
	closedir(stream);
	return holds;
}

/* Finds a process other than this one that has a lock on the file. */
static bool find_holder(int fd, struct holder *ret)
{
	struct stat image;
	DIR *stream;
	bool found = false;

	if (fstat(fd, &image) < 0 || !(stream = opendir("/proc")))
		return false;
	for (struct dirent *entry; !found && (entry = readdir(stream));) {
		int pid = atoi(entry->d_name);

		if (pid <= 0 || pid == (int)getpid() || !process_holds(pid, &image))
			continue;
		found = true;
		ret->pid = pid;
		if (read_proc(pid, "comm", ret->comm, sizeof(ret->comm)) <= 0)
			snprintf(ret->comm, sizeof(ret->comm), "?");
		ret->comm[strcspn(ret->comm, "\n")] = '\0';
		read_device_name(pid, ret->device, sizeof(ret->device));
	}
	closedir(stream);
	return found;
}

static int fail_locked(const struct resource_image *image, int fd, char **ret_error)
{
	struct holder holder;

	if (!find_holder(fd, &holder))
		return fail(
			ret_error, -EBUSY,
			"image %s is locked by a process that cannot be found here: one that is "
			"just ending, or one on another host",
			image->path);
	if (holder.device[0])
		return fail(ret_error, -EBUSY, "image %s is in use by vmdev device %s (%s, pid %d)",
			    image->path, holder.device, holder.comm, holder.pid);
	return fail(ret_error, -EBUSY, "image %s is in use by %s (pid %d)", image->path,
		    holder.comm, holder.pid);
}

/* Is the lock held by nobody who will keep it: by a process of this very device, or by one that is
 * gone? */
static bool lock_will_go(const struct resource_image *image, int fd)
{
	struct holder holder;

	return !find_holder(fd, &holder) || strcmp(holder.device, image->name) == 0;
}

static int lock_image(const struct resource_image *image, int fd, int timeout_ms, char **ret_error)
{
	const struct timespec pause = { .tv_nsec = RETRY_MS * 1000000L };
	unsigned taken = permissions_taken(image->readonly);
	int r = lock_take(fd, taken, permissions_unshared);

	if (r >= 0)
		r = lock_test(fd, taken, permissions_unshared);
	for (int waited_ms = 0; r == -EAGAIN && waited_ms < timeout_ms; waited_ms += RETRY_MS) {
		if (!lock_will_go(image, fd))
			break;
		nanosleep(&pause, NULL);
		r = lock_take(fd, taken, permissions_unshared);
		if (r >= 0)
			r = lock_test(fd, taken, permissions_unshared);
	}
	if (r == -EAGAIN)
		return fail_locked(image, fd, ret_error);
	if (r < 0)
		return fail(ret_error, r, "image %s cannot be locked: %s", image->path,
			    error_text(r));
	return 0;
}

static const char *file_kind(mode_t mode)
{
	if (S_ISDIR(mode))
		return "a directory";
	if (S_ISCHR(mode))
		return "a character device";
	if (S_ISFIFO(mode))
		return "a pipe";
	if (S_ISSOCK(mode))
		return "a socket";
	return "not a file";
}

static int fail_open(const struct resource_image *image, int error, char **ret_error)
{
	if (error == -EINVAL && strcmp(image->cache, "none") == 0)
		return fail(ret_error, error,
			    "image %s: its file system does not support O_DIRECT; use cache "
			    "\"writeback\" or \"writethrough\"",
			    image->path);
	if (error == -EBUSY)
		return fail(
			ret_error, error,
			"image %s: the block device is in use by this host (mounted, or part of "
			"a volume)",
			image->path);
	if (error == -EROFS)
		return fail(ret_error, error,
			    "image %s is on a read-only file system; set \"readonly\": true",
			    image->path);
	return fail(ret_error, error, "image %s cannot be opened: %s", image->path,
		    error_text(error));
}

static int image_flags(const struct resource_image *image, mode_t mode)
{
	int flags = O_CLOEXEC | O_NOCTTY | (image->readonly ? O_RDONLY : O_RDWR);

	if (strcmp(image->cache, "none") == 0)
		flags |= O_DIRECT;
	/* On a block device, without O_CREAT: fails if the host itself has a claim on the device.
	 */
	if (S_ISBLK(mode) && !image->readonly)
		flags |= O_EXCL;
	return flags;
}

/* Look first, open then, and the same file: an open of the wrong kind of file can hang or act. */
static int open_image(const struct resource_image *image, int *ret_fd, char **ret_error)
{
	scope_fd int path_fd = open(image->path, O_PATH | O_CLOEXEC);
	char link[64];
	struct stat st;
	int fd;

	if (path_fd < 0)
		return fail_open(image, -errno, ret_error);
	if (fstat(path_fd, &st) < 0)
		return fail_open(image, -errno, ret_error);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return fail(ret_error, -EINVAL,
			    "image %s is %s; it must be a regular file or a block device",
			    image->path, file_kind(st.st_mode));
	snprintf(link, sizeof(link), "/proc/self/fd/%d", path_fd);
	fd = open(link, image_flags(image, st.st_mode));
	if (fd < 0)
		return fail_open(image, -errno, ret_error);
	*ret_fd = fd;
	return 0;
}

int resource_check_image(const struct resource_image *image, char **ret_error)
{
	scope_fd int fd = -1;
	int r = open_image(image, &fd, ret_error);

	if (r < 0)
		return r;
	r = lock_test(fd, permissions_taken(image->readonly), permissions_unshared);
	/* A running device may be checked against its own document. */
	if (r == -EAGAIN && lock_will_go(image, fd))
		return 0;
	if (r == -EAGAIN)
		return fail_locked(image, fd, ret_error);
	if (r < 0)
		return fail(ret_error, r, "image %s cannot be locked: %s", image->path,
			    error_text(r));
	return 0;
}

int resource_open_image(const struct resource_image *image, int timeout_ms, int *ret_fd,
			char **ret_error)
{
	scope_fd int fd = -1;
	int r = open_image(image, &fd, ret_error);

	if (r >= 0)
		r = lock_image(image, fd, timeout_ms, ret_error);
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}
