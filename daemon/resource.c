/* Host resources. See resource.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/resource.h"
#include "daemon/sandbox/fail.h"
#include "devices/base/error.h"
#include "devices/base/lock.h"
#include "devices/base/scope.h"

enum { RETRY_MS = 10 };

static int fail_locked(const struct resource_image *image, int fd, char **ret_error)
{
	struct lock_holder holder;

	if (!lock_find_holder(fd, &holder))
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
	struct lock_holder holder;

	return !lock_find_holder(fd, &holder) || strcmp(holder.device, image->name) == 0;
}

static int take_lock(const struct resource_image *image, int fd, int timeout_ms, char **ret_error)
{
	const struct timespec pause = { .tv_nsec = RETRY_MS * 1000000L };
	int r = lock_image(fd, image->readonly);

	for (int waited_ms = 0; r == -EAGAIN && waited_ms < timeout_ms; waited_ms += RETRY_MS) {
		if (!lock_will_go(image, fd))
			break;
		nanosleep(&pause, NULL);
		r = lock_image(fd, image->readonly);
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
	r = lock_image_test(fd, image->readonly);
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
		r = take_lock(image, fd, timeout_ms, ret_error);
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}
