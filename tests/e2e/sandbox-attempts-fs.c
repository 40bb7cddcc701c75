/*
 * What an attacker inside a file system device tries. See sandbox-attempts.h.
 *
 * Runs in: a test. Trusts: nothing.
 *
 * Such a device opens files, and with the host's ids it has capabilities that are the host's. What keeps them to the
 * shared directory is that nothing else can be named: so most attempts are to name something else, by a path, by a link of
 * proc, or by a descriptor that the device was given.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "devices/process/contract.h"
#include "tests/e2e/sandbox-attempts.h"

#define N(table) (sizeof(table) / sizeof(*(table)))

enum {
	ROOT = CONTRACT_FD_FS_ROOT,
	PROC = CONTRACT_FD_FS_PROC,
	GAP = 12, /* one of the keeper's fillers: /dev/null */
};

/* As makedev() says it, which is no constant. */
#define DEV_NULL_NUMBER (1 << 8 | 3)
#define DEV_SOME_DISK	(254 << 8)

#define CWD  ((uint64_t)AT_FDCWD)
#define HERE ((uint64_t)-1)
#define DIR  (O_RDONLY | O_DIRECTORY)

/* clang-format off */
const struct fs_attempt fs_attempts[] = {
	/* paths: whatever is above, absolute or a link, it is the shared directory */
	{ "the root directory", SYS_openat, { CWD, ARG_TEXT, DIR }, "/", GIVES_ROOT, GIVES_ROOT },
	{ "above the shared directory", SYS_openat, { ROOT, ARG_TEXT, DIR }, "..", GIVES_ROOT, GIVES_ROOT },
	{ "far above it", SYS_openat, { ROOT, ARG_TEXT, O_PATH }, "../../..", GIVES_ROOT, GIVES_ROOT },
	{ "above a directory in it", SYS_openat, { ROOT, ARG_TEXT, DIR }, "inner/../..", GIVES_ROOT, GIVES_ROOT },
	{ "above what is mounted in it", SYS_openat, { ROOT, ARG_TEXT, DIR }, "mounted/../..", GIVES_ROOT, GIVES_ROOT },
	{ "/etc/passwd", SYS_openat, { CWD, ARG_TEXT, O_RDONLY }, "/etc/passwd", ENOENT, ENOENT },
	{ "the canary by its path", SYS_openat, { CWD, ARG_TEXT, O_RDONLY }, "$", ENOENT, ENOENT },
	{ "the canary from far above", SYS_openat, { ROOT, ARG_TEXT, O_RDWR }, "../../../../../../../..$", ENOENT, ENOENT },
	{ "the canary by a symbolic link", SYS_openat, { ROOT, ARG_TEXT, O_RDONLY }, "exit", ENOENT, ENOENT },
	{ "the canary by a relative symbolic link", SYS_openat, { ROOT, ARG_TEXT, O_RDONLY }, "exit-up", ENOENT, ENOENT },
	{ "its attributes", SYS_statx, { ROOT, ARG_TEXT, 0, 0xfff, ARG_ZEROS }, "exit", ENOENT, ENOENT },
	{ "its mode", SYS_fchmodat, { ROOT, ARG_TEXT, 0666 }, "../../../../../../../..$", ENOENT, ENOENT },
	{ "its owner", SYS_fchownat, { ROOT, ARG_TEXT, 0, 0, AT_SYMLINK_NOFOLLOW }, "../../../../../../../..$", ENOENT, ENOENT },
	{ "its removal", SYS_unlinkat, { ROOT, ARG_TEXT, 0 }, "../../../../../../../..$", ENOENT, ENOENT },
	{ "another name for it", SYS_linkat, { ROOT, ARG_TEXT, ROOT, ARG_NAME, 0 }, "../../../../../../../..$", ENOENT, ENOENT },
	{ "its renaming", SYS_renameat2, { ROOT, ARG_TEXT, ROOT, ARG_NAME, 0 }, "../../../../../../../..$", ENOENT, ENOENT },
	{ "its extended attributes", SYS_setxattr, { ARG_TEXT, ARG_NAME, ARG_ZEROS, 1, 0 }, "$", ENOENT, ENOENT },
	{ "a file by its handle", SYS_open_by_handle_at, { ROOT, ARG_HANDLE, O_RDONLY }, NULL, FILTER, FILTER },
	{ "a handle, good for nothing but comparing", SYS_name_to_handle_at, { ROOT, ARG_TEXT, ARG_HANDLE, ARG_ZEROS, AT_EMPTY_PATH }, "", WORKS, WORKS },

	/* a directory that the host moves away: what is in it stays in reach, what is above it does not come into it */
	{ "a directory in it", SYS_openat, { ROOT, ARG_TEXT, O_PATH | O_DIRECTORY }, "inner", WORKS, WORKS },
	{ "which the host moves out", HOST_MOVES_OUT, { ARG_LAST }, NULL, WORKS, WORKS },
	{ "above it", SYS_openat, { ARG_LAST, ARG_TEXT, O_PATH }, "..", ENOENT, ENOENT },
	{ "the canary from there", SYS_openat, { ARG_LAST, ARG_TEXT, O_RDONLY }, "../outside/canary", ENOENT, ENOENT },
	{ "and moves back", HOST_MOVES_BACK, { ARG_LAST }, NULL, WORKS, WORKS },
	{ "above it is again", SYS_openat, { ARG_LAST, ARG_TEXT, DIR }, "..", GIVES_ROOT, GIVES_ROOT },

	/* the sandbox's proc */
	{ "above proc, which is mounted nowhere", SYS_openat, { PROC, ARG_TEXT, O_PATH }, "..", GIVES_PROC, GIVES_PROC },
	{ "the canary from above proc", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "../../../../../../../..$", ENOENT, ENOENT },
	{ "its own root directory", SYS_openat, { PROC, ARG_TEXT, DIR }, "self/root", GIVES_ROOT, GIVES_ROOT },
	{ "above that", SYS_openat, { PROC, ARG_TEXT, DIR }, "self/root/..", GIVES_ROOT, GIVES_ROOT },
	{ "the shared directory anew, and above", SYS_openat, { PROC, ARG_TEXT, DIR }, "self/fd/10/..", GIVES_ROOT, GIVES_ROOT },
	{ "the keeper's root directory", SYS_openat, { PROC, ARG_TEXT, DIR }, "1/root", EACCES, EACCES, GIVES_ROOT },
	{ "the keeper's working directory", SYS_openat, { PROC, ARG_TEXT, DIR }, "1/cwd", EACCES, EACCES, GIVES_ROOT },
	{ "a descriptor of the keeper's", SYS_openat, { PROC, ARG_TEXT, O_PATH }, "1/fd/10", EACCES, EACCES, GIVES_ROOT },
	{ "the keeper's memory", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "1/mem", EACCES, EACCES, NOT_ASKED },
	{ "the keeper's memory, to write", SYS_openat, { PROC, ARG_TEXT, O_RDWR }, "1/mem", EROFS, EROFS, NOT_ASKED },
	{ "the keeper's environment", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "1/environ", EACCES, EACCES, NOT_ASKED },
	{ "where the keeper's memory is", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "1/maps", EACCES, EACCES, NOT_ASKED },
	{ "the keeper's program", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "1/exe", EACCES, EACCES, NOT_ASKED },
	{ "the keeper's namespaces", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "1/ns/mnt", EACCES, EACCES, NOT_ASKED },
	{ "its own memory, to write: code would change with it", SYS_openat, { PROC, ARG_TEXT, O_RDWR }, "self/mem", EROFS, EROFS },
	{ "the same of a thread", SYS_openat, { PROC, ARG_TEXT, O_WRONLY }, "thread-self/mem", EROFS, EROFS },
	{ "its own memory, to read", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "self/mem", GIVES_PROC, GIVES_PROC },
	{ "a map of ids", SYS_openat, { PROC, ARG_TEXT, O_WRONLY }, "self/uid_map", EROFS, EROFS },
	{ "what is dumped", SYS_openat, { PROC, ARG_TEXT, O_WRONLY }, "self/coredump_filter", EROFS, EROFS },
	{ "what dies first when memory is short", SYS_openat, { PROC, ARG_TEXT, O_WRONLY }, "self/oom_score_adj", EROFS, EROFS },
	{ "a process outside", SYS_openat, { PROC, ARG_TEXT, DIR }, "#", ENOENT, ENOENT },
	{ "its root directory", SYS_openat, { PROC, ARG_TEXT, DIR }, "#/root", ENOENT, ENOENT },
	{ "a sysctl", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "sys/kernel/core_pattern", ENOENT, ENOENT },
	{ "the magic system request", SYS_openat, { PROC, ARG_TEXT, O_WRONLY }, "sysrq-trigger", ENOENT, ENOENT },
	{ "the kernel's memory", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "kcore", ENOENT, ENOENT },
	{ "the kernel's symbols", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "kallsyms", ENOENT, ENOENT },
	{ "the kernel's keys", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "keys", ENOENT, ENOENT },

	/* descriptors that lead to mounts of the host's */
	{ "the program, to write", SYS_openat, { PROC, ARG_TEXT, O_RDWR }, "self/fd/5", ETXTBSY, EACCES },
	{ "what runs, to write", SYS_openat, { PROC, ARG_TEXT, O_RDWR }, "self/exe", ETXTBSY, EACCES },
	{ "the program, emptied", SYS_openat, { PROC, ARG_TEXT, O_WRONLY | O_TRUNC }, "self/fd/5", EROFS, EROFS },
	{ "the program's mode", SYS_fchmod, { CONTRACT_FD_PROGRAM, 0755 }, NULL, EROFS, EROFS },
	{ "the program's owner", SYS_fchown, { CONTRACT_FD_PROGRAM, HERE, HERE }, NULL, EROFS, EROFS },
	{ "the program's times", SYS_utimensat, { CONTRACT_FD_PROGRAM, 0, 0, 0 }, NULL, EROFS, EROFS },
	{ "the program's mode, by proc", SYS_fchmodat, { PROC, ARG_TEXT, 0755 }, "self/exe", EROFS, EROFS },
	{ "an attribute of the program's", SYS_removexattr, { ARG_TEXT, ARG_NAME }, "5", EROFS, EROFS, NOT_ASKED },
	{ "another name for the program", SYS_linkat, { PROC, ARG_TEXT, ROOT, ARG_NAME, AT_SYMLINK_FOLLOW }, "self/fd/5", EXDEV, EXDEV },
	{ "another name for what runs", SYS_linkat, { PROC, ARG_TEXT, ROOT, ARG_NAME, AT_SYMLINK_FOLLOW }, "self/exe", EXDEV, EXDEV },
	{ "a directory beside the program", SYS_openat, { PROC, ARG_TEXT, DIR }, "self/exe/..", ENOTDIR, ENOTDIR },
	{ "the mode of /dev/null", SYS_fchmod, { 0, 0666 }, NULL, EROFS, EROFS },
	{ "the mode of /dev/null, at a filler", SYS_fchmod, { GAP, 0666 }, NULL, EROFS, EROFS },
	{ "the owner of /dev/null", SYS_fchown, { 1, HERE, HERE }, NULL, EROFS, EROFS },
	{ "the times of /dev/null", SYS_utimensat, { GAP, 0, 0, 0 }, NULL, EROFS, EROFS },
	{ "an attribute of /dev/null", SYS_removexattr, { ARG_TEXT, ARG_NAME }, "0", EROFS, EROFS, NOT_ASKED },
	{ "another name for /dev/null", SYS_linkat, { PROC, ARG_TEXT, ROOT, ARG_NAME, AT_SYMLINK_FOLLOW }, "self/fd/0", EXDEV, EXDEV },
	{ "a directory entry for what has none", SYS_linkat, { CONTRACT_FD_PROGRAM, ARG_TEXT, ROOT, ARG_NAME, AT_EMPTY_PATH }, "", FILTER, FILTER },
	{ "the filter, to write: it opens, as memfds do", SYS_openat, { PROC, ARG_TEXT, O_RDWR }, "self/fd/7", GIVES_SEALED, GIVES_SEALED },
	{ "and cannot be written", SYS_pwritev2, { ARG_LAST, ARG_IOVEC, 1, 0, 0, 0 }, NULL, EPERM, EPERM },
	{ "or cut off", SYS_ftruncate, { ARG_LAST, 0 }, NULL, EPERM, EPERM },
	{ "or mapped to be written", SYS_mmap, { 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ARG_LAST, 0 }, NULL, EPERM, EPERM },
	{ "the filter where it is, to write", SYS_pwritev2, { CONTRACT_FD_FILTER, ARG_IOVEC, 1, 0, 0, 0 }, NULL, EBADF, EBADF },
	{ "the size of the state", SYS_ftruncate, { CONTRACT_FD_STATE, 0 }, NULL, EPERM, EPERM },
	{ "a socket by its number", SYS_openat, { PROC, ARG_TEXT, O_RDWR }, "self/fd/4", ENXIO, ENXIO },
	{ "closing what the contract owns", SYS_close, { GAP }, NULL, FILTER, FILTER, NOT_ASKED },
	{ "closing it by a number of more bits", SYS_close, { UINT64_C(1) << 32 | GAP }, NULL, FILTER, FILTER, NOT_ASKED },
	{ "another file at a number of the contract's", SYS_dup2, { ROOT, GAP }, NULL, FILTER, FILTER, NOT_ASKED },
	{ "a duplicate at a chosen number", SYS_fcntl, { ROOT, F_DUPFD, 12 }, NULL, FILTER, FILTER, NOT_ASKED },

	/* devices and capabilities; the device's own user has no id on disk where ids are mapped */
	{ "a device node that is there", SYS_openat, { ROOT, ARG_TEXT, O_RDWR }, "null-node", EACCES, EACCES },
	{ "a device node made", SYS_mknodat, { ROOT, ARG_TEXT, S_IFCHR | 0600, DEV_NULL_NUMBER }, "made-node", EPERM, EOVERFLOW },
	{ "every capability", SYS_capset, { ARG_CAPS, ARG_ALL_CAPS }, NULL, EPERM, EPERM },
	{ "a file mapped to be executed", SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, 6, 0 }, NULL, FILTER, FILTER },
	{ "the program mapped to be executed", SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, 5, 0 }, NULL, FILTER, FILTER },
	{ "a signal from a file that changes", SYS_openat, { ROOT, ARG_TEXT, DIR | O_ASYNC }, ".", FILTER, FILTER },
	{ "a directory that is watched", SYS_fcntl, { ROOT, F_NOTIFY, 0 }, NULL, FILTER, FILTER },
	{ "a lease", SYS_fcntl, { ROOT, F_SETLEASE, F_UNLCK }, NULL, FILTER, FILTER },
	{ "an attribute of the inode", SYS_ioctl, { ROOT, 0x40086602, ARG_ZEROS }, NULL, FILTER, FILTER },
};
const size_t fs_n_attempts = N(fs_attempts);

/*
 * What holds without the filter. What works here is the filter's alone to refuse, and is said: with the host's ids a device
 * could take any user and group of the host's, and kill nobody, for want of a process to name.
 */
const struct fs_attempt fs_unfiltered[] = {
	{ "root: /etc/passwd", SYS_openat2, { CWD, ARG_TEXT, ARG_ZEROS, 24 }, "/etc/passwd", ENOENT, ENOENT },
	{ "root: the canary from far above", SYS_openat2, { ROOT, ARG_TEXT, ARG_ZEROS, 24 }, "../../../../../../../..$", ENOENT, ENOENT },
	{ "pid namespace: signal vmdevd", SYS_kill, { ARG_OUTSIDER, 0 }, NULL, ESRCH, ESRCH },
	{ "pid namespace: pidfd_open vmdevd", SYS_pidfd_open, { ARG_OUTSIDER, 0 }, NULL, ESRCH, ESRCH },
	{ "pid namespace: ptrace vmdevd", SYS_ptrace, { PTRACE_SEIZE, ARG_OUTSIDER, 0, 0 }, NULL, ESRCH, ESRCH },
	{ "pid namespace: read vmdevd's memory", SYS_process_vm_readv, { ARG_OUTSIDER, ARG_IOVEC, 1, ARG_IOVEC, 1, 0 }, NULL, ESRCH, ESRCH },
	{ "not dumpable: ptrace the keeper", SYS_ptrace, { PTRACE_SEIZE, 1, 0, 0 }, NULL, EPERM, EPERM },
	{ "not dumpable: read the keeper's memory", SYS_process_vm_readv, { 1, ARG_IOVEC, 1, ARG_IOVEC, 1, 0 }, NULL, EPERM, EPERM },
	{ "the shared directory, to open by handle in it", SYS_openat, { ROOT, ARG_TEXT, DIR }, ".", GIVES_ROOT, GIVES_ROOT },
	{ "capabilities: a file by its handle", SYS_open_by_handle_at, { ARG_LAST, ARG_HANDLE, O_RDONLY }, NULL, EPERM, EPERM },
	{ "capabilities: mount", SYS_mount, { ARG_TEXT, ARG_TEXT, ARG_TEXT, 0, 0 }, "/", EPERM, EPERM },
	{ "capabilities: umount", SYS_umount2, { ARG_TEXT, MNT_DETACH }, "/", EPERM, EPERM },
	{ "capabilities: umount what is mounted in it", SYS_umount2, { ARG_TEXT, MNT_DETACH }, "/mounted", EPERM, EPERM },
	{ "capabilities: a copy of the mount", SYS_open_tree, { ROOT, ARG_TEXT, OPEN_TREE_CLONE | AT_EMPTY_PATH }, "", EPERM, EPERM },
	{ "capabilities: nodev taken away", SYS_mount_setattr, { ROOT, ARG_TEXT, AT_EMPTY_PATH, ARG_ZEROS, 32 }, "", EPERM, EPERM },
	{ "capabilities: a file system", SYS_fsopen, { ARG_TEXT, 0 }, "tmpfs", EPERM, EPERM },
	{ "capabilities: pivot_root", SYS_pivot_root, { ARG_TEXT, ARG_TEXT }, "/", EPERM, EPERM },
	{ "capabilities: chroot", SYS_chroot, { ARG_TEXT }, "/", EPERM, EPERM },
	{ "capabilities: a new mount namespace", SYS_unshare, { CLONE_NEWNS }, NULL, EPERM, EPERM },
	{ "a descriptor of its mount namespace", SYS_openat, { PROC, ARG_TEXT, O_RDONLY }, "self/ns/mnt", WORKS, WORKS },
	{ "capabilities: which is entered", SYS_setns, { ARG_LAST, 0 }, NULL, EPERM, EPERM },
	{ "capabilities: the host's name", SYS_sethostname, { ARG_TEXT, 1 }, "x", EPERM, EPERM },
	{ "capabilities: a raw socket", SYS_socket, { AF_PACKET, SOCK_RAW, 0 }, NULL, EPERM, EPERM },
	{ "capabilities: another kernel", SYS_reboot, { RB_DISABLE_CAD, 0, 0, 0 }, NULL, EPERM, EPERM },
	{ "capabilities: a device node", SYS_mknodat, { ROOT, ARG_TEXT, S_IFBLK | 0600, DEV_SOME_DISK }, "made-node", EPERM, EOVERFLOW },
	{ "network namespace: nobody to talk to", SYS_bind, { 4, ARG_SOCKET, 12 }, "@vmdev", EINVAL, EINVAL },
	{ "the filter alone: another group of the host's", SYS_setgroups, { 0, 0 }, NULL, WORKS, WORKS },
};
const size_t fs_n_unfiltered = N(fs_unfiltered);

/*
 * Whoever owns the front-end and the worker can hand one to the other a file that the front-end may read. With the host's ids
 * the device's capabilities are good for it, with ids of its own they are not.
 */
const struct fs_attempt fs_guest_fd[] = {
	{ "its mode", SYS_fchmod, { ARG_NUMBER, 0600 }, NULL, WORKS, EPERM },
	{ "its owner", SYS_fchown, { ARG_NUMBER, 0, 0 }, NULL, WORKS, EPERM },
	{ "its times", SYS_utimensat, { ARG_NUMBER, 0, 0, 0 }, NULL, WORKS, EACCES },
	{ "another name for it", SYS_linkat, { PROC, ARG_TEXT, ROOT, ARG_NAME, AT_SYMLINK_FOLLOW }, "self/fd/@", EXDEV, EXDEV },
	{ "opened to be written", SYS_openat, { PROC, ARG_TEXT, O_RDWR }, "self/fd/@", WORKS, EACCES },
};
const size_t fs_n_guest_fd = N(fs_guest_fd);

/* The same of a socket, whose other end asks who is there. With ids of its own the device's root is nobody's. */
const struct fs_attempt fs_guest_socket[] = {
	{ "a message of the root user's", SYS_sendmmsg, { ARG_NUMBER, ARG_MESSAGE, 1, 0 }, NULL, WORKS, WORKS },
};
const size_t fs_n_guest_socket = N(fs_guest_socket);
/* clang-format on */
