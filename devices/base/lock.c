/* Locks on images. See lock.h. */
#include "devices/base/lock.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

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

/*
 * Who holds a lock: the kernel does not say for OFD locks, but /proc/PID/fdinfo shows a
 * descriptor's locks, with the file's device and inode, from the kernel's own record. Nothing is
 * asked of the files themselves: one of any process may be on a file system that does not answer.
 */

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

/* Does this descriptor of that process hold a lock on the file of that name (name_file())? */
static bool has_lock(int pid, const char *fd, const char *file)
{
	char name[64], text[4096], *line;

	snprintf(name, sizeof(name), "fdinfo/%.20s", fd);
	if (read_proc(pid, name, text, sizeof(text)) <= 0)
		return false;
	line = strstr(text, "\nlock:");
	return line && strstr(line, file);
}

/*
 * How the kernel names a file that is locked: " MAJOR:MINOR:INODE ". From our own share of its lock
 * if we have one (lock_take), for some file systems tell stat() of another device.
 */
static bool name_file(int fd, char *file, size_t size)
{
	char name[64], text[4096], tag[48], *line;
	struct stat st;

	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	line = read_proc((int)getpid(), name, text, sizeof(text)) > 0 ? strstr(text, "\nlock:")
								      : NULL;
	if (line && sscanf(line, " lock: %*s %*s %*s %*s %*s %47s", tag) == 1)
		return snprintf(file, size, " %s ", tag) > 0;
	if (fstat(fd, &st) < 0)
		return false;
	return snprintf(file, size, " %02x:%02x:%lu ", major(st.st_dev), minor(st.st_dev),
			(unsigned long)st.st_ino) > 0;
}

static bool process_holds(int pid, const char *file)
{
	char path[64];
	DIR *stream;
	bool holds = false;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", pid);
	stream = opendir(path);
	if (!stream)
		return false;
	for (struct dirent *entry; !holds && (entry = readdir(stream));)
		holds = isdigit((unsigned char)entry->d_name[0]) &&
			has_lock(pid, entry->d_name, file);
	closedir(stream);
	return holds;
}

bool lock_find_holder(int fd, struct lock_holder *ret)
{
	char file[64];
	DIR *stream;
	bool found = false;

	if (!name_file(fd, file, sizeof(file)) || !(stream = opendir("/proc")))
		return false;
	for (struct dirent *entry; !found && (entry = readdir(stream));) {
		int pid = atoi(entry->d_name);

		if (pid <= 0 || pid == (int)getpid() || !process_holds(pid, file))
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

int lock_image(int fd, bool readonly)
{
	int r = lock_take(fd, permissions_taken(readonly), permissions_unshared);

	return r < 0 ? r : lock_image_test(fd, readonly);
}

void lock_release(int fd)
{
	struct flock all = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	(void)fcntl(fd, F_OFD_SETLK, &all);
}

int lock_image_test(int fd, bool readonly)
{
	return lock_test(fd, permissions_taken(readonly), permissions_unshared);
}
