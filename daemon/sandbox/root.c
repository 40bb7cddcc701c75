/*
 * The root directory. See root.h.
 *
 * The file system is mounted on top of "/", so that no directory of the host is needed as a mount
 * point; pivot_root(".", ".") then puts the old root on top of the new one at the same place, from
 * where it is detached with everything below it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/sandbox/root.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

/* Linux 5.10; glibc of Debian 12 has it, older ones not. */
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

struct tmpfs_spec {
	const char *mode, *size, *nr_inodes; /* tmpfs(5) */
	bool readonly;			     /* from the start */
};

/* A tmpfs that is attached nowhere yet. */
static int make_tmpfs(const struct tmpfs_spec *spec)
{
	const struct {
		const char *key, *value;
	} options[] = { { "mode", spec->mode },
			{ "size", spec->size },
			{ "nr_inodes", spec->nr_inodes } };
	unsigned attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	scope_fd int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++)
		if (fsconfig(fs, FSCONFIG_SET_STRING, options[i].key, options[i].value, 0) < 0)
			return -errno;
	if (spec->readonly && fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0)
		return -errno;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	if (spec->readonly)
		attr |= MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSYMFOLLOW;
	return errno_or(fsmount(fs, FSMOUNT_CLOEXEC, attr));
}

/* Nothing that is mounted or detached here may travel back to the host. */
static int make_private(void)
{
	return errno_or(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

static int enter(int tree)
{
	if (move_mount(tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(tree) < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

int root_enter(void)
{
	/* No room for a byte, no inode but its root, which nobody may open. */
	static const struct tmpfs_spec empty = { "0000", "4096", "1", .readonly = true };
	scope_fd int root = -1;
	int r = make_private();

	if (r < 0)
		return r;
	root = make_tmpfs(&empty);
	return root < 0 ? root : enter(root);
}

int root_enter_tree(int tree)
{
	int r = make_private();

	return r < 0 ? r : enter(tree);
}

static int make_proc(void)
{
	scope_fd int fs = fsopen("proc", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "subset", "pid", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	return errno_or(fsmount(fs, FSMOUNT_CLOEXEC,
				MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					MOUNT_ATTR_NOEXEC));
}

int root_make_proc(int number)
{
	scope_fd int proc = make_proc();

	return proc < 0 ? proc : errno_or(dup2(proc, number));
}

/* ---- files of the host's ---- */

enum { RESOLV_MAX_LEN = 16384 };

static int clone_usr(void)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
					       MOUNT_ATTR_NODEV };
	scope_fd int fd = (int)syscall(SYS_open_tree, AT_FDCWD, "/usr",
				       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return -errno;
	return take_fd(&fd);
}

/* What the host's top directory has as links into /usr. A real directory is not there, then. */
static const char *const links[] = { "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32" };
enum { N_LINKS = sizeof(links) / sizeof(*links) };

struct files {
	int usr, proc;
	char targets[N_LINKS][64]; /* "": none */
	char resolv[RESOLV_MAX_LEN];
	ssize_t resolv_len; /* negative: the host has none */
};

static int gather(struct files *f)
{
	scope_fd int resolv = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);

	f->resolv_len = resolv < 0 ? -1 : read(resolv, f->resolv, sizeof(f->resolv));
	for (size_t i = 0; i < N_LINKS; i++) {
		ssize_t n = readlink(links[i], f->targets[i], sizeof(f->targets[i]) - 1);

		f->targets[i][n > 0 ? n : 0] = '\0';
	}
	f->usr = clone_usr();
	f->proc = make_proc();
	return f->usr < 0 ? f->usr : f->proc < 0 ? f->proc : 0;
}

static int write_resolv(const struct files *f)
{
	scope_fd int fd = -1;

	if (f->resolv_len < 0)
		return 0;
	fd = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	return fd < 0 ? -errno : fd_write_all(fd, f->resolv, (size_t)f->resolv_len);
}

static int lay_out(const struct files *f)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };

	umask(022);
	if (mkdir("/usr", 0755) < 0 || mkdir("/etc", 0755) < 0 || mkdir("/tmp", 0755) < 0 ||
	    mkdir("/proc", 0555) < 0 ||
	    move_mount(f->usr, "", AT_FDCWD, "/usr", MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
	    move_mount(f->proc, "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	for (size_t i = 0; i < N_LINKS; i++)
		if (f->targets[i][0] && symlink(f->targets[i], links[i]) < 0)
			return -errno;
	if (write_resolv(f) < 0 || mount_setattr(AT_FDCWD, "/", 0, &attr, sizeof(attr)) < 0)
		return -errno;
	umask(077);
	return 0;
}

int root_enter_files(void)
{
	static const struct tmpfs_spec small = { "0755", "65536", "32", .readonly = false };
	struct files files = { .usr = -1, .proc = -1 };
	scope_fd int root = -1;
	int r = make_private();

	if (r >= 0)
		r = gather(&files);
	if (r >= 0)
		r = root = make_tmpfs(&small);
	if (r >= 0)
		r = enter(root);
	if (r >= 0)
		r = lay_out(&files);
	fd_close(files.usr);
	fd_close(files.proc);
	return r;
}
