/* Host resources. See resource.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/resource.h"
#include "daemon/sandbox/fail.h"
#include "devices/base/error.h"
#include "devices/base/lock.h"
#include "devices/base/scope.h"

static int read_parent(int pid)
{
	char path[64], text[512], *end;
	scope_fd int fd = -1;
	ssize_t n;
	int parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	end = strrchr(text, ')'); /* the name before it may have anything in it */
	return end && sscanf(end, ") %*c %d", &parent) == 1 ? parent : 0;
}

/*
 * Is it a process of the device itself? The keeper is our child, the worker is its child. (The name
 * alone would say nothing: anybody can have it in his command line.)
 */
static bool is_own(const struct resource_image *image, const struct lock_holder *holder)
{
	int parent = read_parent(holder->pid);

	return strcmp(holder->device, image->name) == 0 &&
	       (parent == getpid() || (parent > 0 && read_parent(parent) == getpid()));
}

static int fail_locked(const struct resource_image *image, const struct lock_holder *holder,
		       char **ret_error)
{
	if (holder->device[0])
		return fail(ret_error, -EBUSY, "image %s is in use by vmdev device %s (%s, pid %d)",
			    image->path, holder->device, holder->comm, holder->pid);
	return fail(ret_error, -EBUSY, "image %s is in use by %s (pid %d)", image->path,
		    holder->comm, holder->pid);
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
	/*
	 * The guest's reads are no accesses of the host's; to note them would cost a tenth of each.
	 */
	int flags = O_CLOEXEC | O_NOCTTY | O_NOATIME | (image->readonly ? O_RDONLY : O_RDWR);

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
	/* Somebody else's file on a file system that maps our root away. */
	if (fd < 0 && errno == EPERM)
		fd = open(link, image_flags(image, st.st_mode) & ~O_NOATIME);
	if (fd < 0)
		return fail_open(image, -errno, ret_error);
	*ret_fd = fd;
	return 0;
}

/* 0: nobody has a claim on it who would keep it, as far as can be seen here. */
static int check_lock(const struct resource_image *image, int fd, char **ret_error)
{
	struct lock_holder holder;
	int r = lock_image_test(fd, image->readonly);

	if (r == -EAGAIN) {
		/* A running device may be checked against its own document; who cannot be found may
		 * be just ending. */
		if (!lock_find_holder(fd, &holder) || is_own(image, &holder))
			return 0;
		return fail_locked(image, &holder, ret_error);
	}
	if (r < 0)
		return fail(ret_error, r, "image %s cannot be locked: %s", image->path,
			    error_text(r));
	return 0;
}

int resource_check(const void *what, char **ret_error)
{
	scope_fd int fd = -1;
	int r = open_image(what, &fd, ret_error);

	return r < 0 ? r : check_lock(what, fd, ret_error);
}

int resource_open(const void *what, uint32_t uid_index, int *ret_fds, char **ret_error)
{
	const struct resource_image *image = what;
	scope_fd int fd = -1;
	int r = open_image(image, &fd, ret_error);

	if (r < 0)
		return r;
	r = lock_image(fd, image->readonly);
	if (r == -EAGAIN)
		return RESOURCE_LOCKED;
	if (r < 0)
		return fail(ret_error, r, "image %s cannot be locked: %s", image->path,
			    error_text(r));
	ret_fds[0] = take_fd(&fd);
	return 0;
}
