/* The disk image: opened by hand, its facts asked of the kernel. See image.h. */
#include "devices/blk/image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/lock.h"
#include "devices/base/log.h"
#include "devices/base/scope.h"
#include "devices/process/contract.h"

enum { SECTOR = 512, DEFAULT_DIRECT_ALIGN = 4096 };

static int say(const char *what, const char *path, int error)
{
	log_error("%s %s: %s", what, path, strerror(-error));
	return error;
}

static int say_locked(const char *path, int fd, int error)
{
	struct lock_holder h = { .pid = 0 };

	if (error != -EAGAIN)
		return say("cannot lock image", path, error);
	if (lock_find_holder(fd, &h))
		log_error("image %s is in use by %s (%s, pid %d)", path,
			  h.device[0] ? h.device : "another process", h.comm, h.pid);
	else
		log_error("image %s is in use by another process", path);
	return -EBUSY;
}

/*
 * The guest's reads are no accesses of the host's: to note them would cost a tenth of a small one.
 * Only the file's owner and root may ask for that.
 */
static int open_quietly(const char *path, int flags)
{
	int fd = open(path, flags | O_NOATIME);

	return fd < 0 && errno == EPERM ? open(path, flags) : fd;
}

int disk_image_arrange(const char *path, enum image_cache cache, bool readonly)
{
	int flags = (readonly ? O_RDONLY : O_RDWR) | (cache == IMAGE_CACHE_NONE ? O_DIRECT : 0);
	scope_fd int fd = -1;
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return say("cannot use image", path, -errno);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		log_error("cannot use image %s: neither a regular file nor a block device", path);
		return -ENOTBLK;
	}
	fd = open_quietly(path, flags | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 && errno == EINVAL && cache == IMAGE_CACHE_NONE)
		return say("no direct I/O here (try --cache=writeback):", path, -EINVAL);
	if (fd < 0)
		return say("cannot open image", path, -errno);
	r = lock_image(fd, readonly);
	if (r < 0)
		return say_locked(path, fd, r);
	r = fd_move(take_fd(&fd), CONTRACT_FD_BLK_IMAGE, false);
	return r < 0 ? r : 0;
}

/* Direct I/O's alignments as the kernel tells them (Linux 6.1), else what always works. */
static void direct_alignment(struct disk_image *im)
{
	struct statx stx;

	im->memory_align = DEFAULT_DIRECT_ALIGN;
	if (!im->block_device)
		im->block_len = SECTOR;
	if (statx(CONTRACT_FD_BLK_IMAGE, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0 ||
	    !(stx.stx_mask & STATX_DIOALIGN) || stx.stx_dio_mem_align == 0)
		return;
	im->memory_align = stx.stx_dio_mem_align;
	if (stx.stx_dio_offset_align > im->block_len)
		im->block_len = stx.stx_dio_offset_align;
}

static int block_facts(struct disk_image *im, uint64_t *ret_size)
{
	int fd = CONTRACT_FD_BLK_IMAGE;
	int logical = SECTOR, offset = 0;
	unsigned physical = 0;

	if (ioctl(fd, BLKGETSIZE64, ret_size) < 0 || ioctl(fd, BLKSSZGET, &logical) < 0)
		return -errno;
	im->block_len = (uint32_t)logical;
	if (ioctl(fd, BLKPBSZGET, &physical) == 0)
		im->physical_len = physical;
	if (ioctl(fd, BLKIOMIN, &im->io_min) < 0)
		im->io_min = 0;
	if (ioctl(fd, BLKIOOPT, &im->io_opt) < 0)
		im->io_opt = 0;
	if (ioctl(fd, BLKALIGNOFF, &offset) == 0 && offset > 0)
		im->align_offset = (uint32_t)offset;
	return 0;
}

/*
 * What can be written of a file of this size. vmdevd's limit is how long the image was when the
 * sandbox was made: what it has grown by since, the next one has.
 */
static uint64_t usable_size(uint64_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur >= size)
		return size;
	log_notice("the image has grown; a restart of the device makes use of that");
	return limit.rlim_cur;
}

int disk_image_init(struct disk_image *im)
{
	int flags = fcntl(CONTRACT_FD_BLK_IMAGE, F_GETFL);
	uint64_t size;
	struct stat st;
	int r = flags < 0 ? -errno : fd_stat(CONTRACT_FD_BLK_IMAGE, &st);

	*im = (struct disk_image){ .block_len = SECTOR, .memory_align = 1 };
	if (r < 0)
		return say("image", "descriptor", r);
	im->block_device = S_ISBLK(st.st_mode);
	im->direct = (flags & O_DIRECT) != 0;
	im->readonly = (flags & O_ACCMODE) == O_RDONLY;
	size = (uint64_t)st.st_size;
	im->physical_len = (uint32_t)st.st_blksize;
	if (im->block_device)
		r = block_facts(im, &size);
	else if (!im->readonly)
		size = usable_size(size);
	if (r < 0)
		return say("image", "device", r);
	if (im->direct)
		direct_alignment(im);
	im->sectors = size / im->block_len * (im->block_len / SECTOR);
	if (im->sectors * SECTOR != size)
		log_notice("the image's last %llu bytes are no whole block: they are not seen",
			   (unsigned long long)(size - im->sectors * SECTOR));
	return 0;
}
