/*
 * Does what an attacker inside a device process would do, from inside: system calls made by a
 * running worker or keeper itself.
 *
 *	sandbox-inject worker|keeper PID OUTSIDER-PID [vsock | fs-host|fs-own CANARY]
 *		every attempt of the tables, as TAP
 *	sandbox-inject unfiltered PID OUTSIDER-PID [fs-host|fs-own CANARY]
 *		what must be refused also where the filter allows it, as TAP
 *	sandbox-inject guest-fd|guest-socket PID OUTSIDER-PID fs-host|fs-own NUMBER
 *		what can be done to a file or socket of the front-end's that lies at this number, as TAP
 *	sandbox-inject trip PID
 *		one socket(), and the filter's signal is delivered
 *	sandbox-inject trip-renewed KEEPER-PID WORKER-PID
 *		the same in the keeper, at the first moment at which it can be told of the signal: the worker is
 *		killed, and the keeper followed until it unblocks SIGSYS in its fresh address space
 *
 * Runs in: a test, as root on the host, as the tracer of the device process.
 * Trusts:  nothing that the process says; the kernel's answers are read with ptrace.
 *
 * A new process in the sandbox would not do: the worker cannot execute one, and what is to be tried
 * is what this very process may do, with its filter, its namespaces, its ids and its descriptors. So
 * the main thread is stopped, its registers are set to a system call, it is let run over a syscall
 * instruction of its own text, and its registers are put back. The filter sees the call as the
 * process's own.
 *
 * A call that the filter refuses queues a SIGSYS, which is taken away again (except by "trip"), so
 * that one process can be asked everything. Every attempt is one that changes nothing if it were
 * allowed. A descriptor that one of them gets is looked at from outside, for what it is of, and closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/sandbox-attempts.h"

#define N(table) (sizeof(table) / sizeof(*(table)))

#define NEW_NAMESPACES (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS)

/* clang-format off */
static const struct attempt attempts[] = {
	/* paths */
	{ "open the root directory", SYS_open, { ARG_TEXT, O_RDONLY | O_DIRECTORY }, "/" },
	{ "openat the root directory", SYS_openat, { (uint64_t)AT_FDCWD, ARG_TEXT, O_RDONLY }, "/", OTHERWISE },
	{ "openat /etc/passwd", SYS_openat, { (uint64_t)AT_FDCWD, ARG_TEXT, O_RDONLY }, "/etc/passwd", OTHERWISE },
	{ "openat /proc/self/mem", SYS_openat, { (uint64_t)AT_FDCWD, ARG_TEXT, O_RDWR }, "/proc/self/mem", OTHERWISE },
	{ "openat below a descriptor", SYS_openat, { 10, ARG_TEXT, O_RDONLY }, "..", OTHERWISE },
	{ "openat2 /", SYS_openat2, { (uint64_t)AT_FDCWD, ARG_TEXT, ARG_ZEROS, 24 }, "/" },
	{ "creat a file", SYS_creat, { ARG_TEXT, 0600 }, "/file" },
	{ "open_by_handle_at", SYS_open_by_handle_at, { 10, ARG_ZEROS, 0 }, NULL },
	{ "mkdir", SYS_mkdir, { ARG_TEXT, 0700 }, "/dir" },
	{ "unlink", SYS_unlink, { ARG_TEXT }, "/file" },
	{ "stat a path", SYS_stat, { ARG_TEXT, ARG_ZEROS }, "/" },
	{ "chdir", SYS_chdir, { ARG_TEXT }, "/" },
	{ "chroot", SYS_chroot, { ARG_TEXT }, "/" },
	{ "memfd executed as a program", SYS_execve, { ARG_TEXT, 0, 0 }, "/proc/self/fd/6" },
	{ "execve", SYS_execve, { ARG_TEXT, 0, 0 }, "/bin/sh" },
	{ "execveat of another descriptor", SYS_execveat, { 6, ARG_TEXT, 0, 0, AT_EMPTY_PATH }, "" },
	{ "execveat of a path", SYS_execveat, { (uint64_t)AT_FDCWD, ARG_TEXT, 0, 0, 0 }, "/bin/sh" },

	/* sockets */
	{ "socket AF_UNIX", SYS_socket, { AF_UNIX, SOCK_STREAM, 0 }, NULL },
	{ "socket AF_INET", SYS_socket, { AF_INET, SOCK_STREAM, 0 }, NULL },
	{ "socket AF_INET6", SYS_socket, { AF_INET6, SOCK_DGRAM, 0 }, NULL },
	{ "socket AF_NETLINK", SYS_socket, { AF_NETLINK, SOCK_RAW, 0 }, NULL },
	{ "socket AF_PACKET", SYS_socket, { AF_PACKET, SOCK_RAW, 0 }, NULL },
	{ "socket AF_VSOCK", SYS_socket, { AF_VSOCK, SOCK_STREAM, 0 }, NULL },
	{ "socket AF_ALG", SYS_socket, { AF_ALG, SOCK_SEQPACKET, 0 }, NULL },
	{ "socketpair", SYS_socketpair, { AF_UNIX, SOCK_STREAM, 0, ARG_ZEROS }, NULL },
	{ "connect an abstract address", SYS_connect, { 3, ARG_SOCKET, 12 }, "@vmdev" },
	{ "bind the listening socket anew", SYS_bind, { 4, ARG_SOCKET, 12 }, "@vmdev" },
	{ "setsockopt", SYS_setsockopt, { 3, SOL_SOCKET, SO_PASSCRED, ARG_ZEROS, 4 }, NULL },

	/* other processes */
	{ "signal a process outside", SYS_kill, { ARG_OUTSIDER, 0 }, NULL, PASSES, ESRCH },
	{ "tkill a process outside", SYS_tkill, { ARG_OUTSIDER, 0 }, NULL },
	{ "pidfd_open a process outside", SYS_pidfd_open, { ARG_OUTSIDER, 0 }, NULL },
	{ "pidfd_open the keeper", SYS_pidfd_open, { 1, 0 }, NULL },
	{ "pidfd_getfd: another device's descriptor", SYS_pidfd_getfd, { 3, 10, 0 }, NULL },
	{ "pidfd_send_signal", SYS_pidfd_send_signal, { 3, 0, 0, 0 }, NULL },
	{ "process_vm_readv of vmdevd", SYS_process_vm_readv, { ARG_OUTSIDER, ARG_IOVEC, 1, ARG_IOVEC, 1, 0 }, NULL },
	{ "process_vm_writev of vmdevd", SYS_process_vm_writev, { ARG_OUTSIDER, ARG_IOVEC, 1, ARG_IOVEC, 1, 0 }, NULL },
	{ "process_vm_readv of the keeper", SYS_process_vm_readv, { 1, ARG_IOVEC, 1, ARG_IOVEC, 1, 0 }, NULL },
	{ "ptrace attach outside", SYS_ptrace, { PTRACE_SEIZE, ARG_OUTSIDER, 0, 0 }, NULL },
	{ "ptrace attach the keeper", SYS_ptrace, { PTRACE_SEIZE, 1, 0, 0 }, NULL },
	{ "ptrace traceme", SYS_ptrace, { PTRACE_TRACEME, 0, 0, 0 }, NULL },
	{ "kcmp", SYS_kcmp, { ARG_OUTSIDER, 1, 0, 0, 0 }, NULL },
	{ "sched_setscheduler", SYS_sched_setscheduler, { 0, SCHED_OTHER, ARG_ZEROS }, NULL },
	{ "setpriority", SYS_setpriority, { 0, 0, 0 }, NULL },
	{ "prlimit64 of a process outside", SYS_prlimit64, { ARG_OUTSIDER, 7, 0, ARG_ZEROS }, NULL },
	{ "prlimit64 sets a limit", SYS_prlimit64, { 0, 7, ARG_ZEROS, 0 }, NULL },

	/* mounts and namespaces */
	{ "mount", SYS_mount, { ARG_TEXT, ARG_TEXT, ARG_TEXT, 0, 0 }, "/" },
	{ "umount2", SYS_umount2, { ARG_TEXT, 2 }, "/" },
	{ "pivot_root", SYS_pivot_root, { ARG_TEXT, ARG_TEXT }, "/" },
	{ "open_tree", SYS_open_tree, { (uint64_t)AT_FDCWD, ARG_TEXT, 0 }, "/" },
	{ "fsopen", SYS_fsopen, { ARG_TEXT, 0 }, "tmpfs" },
	{ "move_mount", SYS_move_mount, { 10, ARG_TEXT, (uint64_t)AT_FDCWD, ARG_TEXT, 4 }, "/" },
	{ "mount_setattr", SYS_mount_setattr, { (uint64_t)AT_FDCWD, ARG_TEXT, 0, ARG_ZEROS, 32 }, "/" },
	{ "setns", SYS_setns, { 3, 0 }, NULL },
	{ "unshare the user namespace", SYS_unshare, { CLONE_NEWUSER }, NULL },
	{ "unshare the descriptor table", SYS_unshare, { CLONE_FILES }, NULL },
	{ "clone into new namespaces", SYS_clone, { NEW_NAMESPACES | SIGCHLD, 0, 0, 0, 0 }, NULL },
	{ "clone that escapes being waited for", SYS_clone, { CLONE_PARENT | SIGCHLD, 0, 0, 0, 0 }, NULL },
	{ "fork", SYS_fork, { 0 }, NULL },
	{ "vfork", SYS_vfork, { 0 }, NULL },
	{ "clone3", SYS_clone3, { ARG_ZEROS, 88 }, NULL, PASSES, ENOSYS },

	/* io_uring */
	{ "a new io_uring", SYS_io_uring_setup, { 8, ARG_ZEROS }, NULL, NOTHING },
	{ "io_uring_register on a ring", SYS_io_uring_register, { 16, 0xff, 0, 0 }, NULL, NOTHING },
	{ "io_setup (Linux AIO)", SYS_io_setup, { 8, ARG_ZEROS }, NULL },

	/* capabilities and privileges */
	{ "capset", SYS_capset, { ARG_ZEROS, ARG_ZEROS }, NULL, OTHERWISE },
	{ "setuid 0", SYS_setuid, { 0 }, NULL },
	{ "setresuid 0", SYS_setresuid, { 0, 0, 0 }, NULL },
	{ "setgid 0", SYS_setgid, { 0 }, NULL },
	{ "setgroups", SYS_setgroups, { 0, 0 }, NULL },
	{ "sethostname", SYS_sethostname, { ARG_TEXT, 1 }, "x" },
	{ "chown of a descriptor", SYS_fchown, { 10, 0, 0 }, NULL, OTHERWISE },
	{ "fchmod of the image", SYS_fchmod, { 10, 0666 }, NULL, OTHERWISE },
	{ "iopl", SYS_iopl, { 0 }, NULL },
	{ "init_module", SYS_init_module, { ARG_ZEROS, 0, ARG_TEXT }, "" },
	{ "finit_module", SYS_finit_module, { 10, ARG_TEXT, 0 }, "" },
	{ "kexec_load", SYS_kexec_load, { 0, 0, 0, 0 }, NULL },
	{ "reboot", SYS_reboot, { 0, 0, 0, 0 }, NULL },
	{ "swapoff", SYS_swapoff, { ARG_TEXT }, "/" },
	{ "settimeofday", SYS_settimeofday, { 0, 0 }, NULL },
	{ "syslog", SYS_syslog, { 10, 0, 0 }, NULL },

	/* the kernel's large surfaces */
	{ "bpf", SYS_bpf, { 0, ARG_ZEROS, 16 }, NULL },
	{ "perf_event_open", SYS_perf_event_open, { ARG_ZEROS, 0, (uint64_t)-1, (uint64_t)-1, 0 }, NULL },
	{ "userfaultfd", SYS_userfaultfd, { 0 }, NULL },
	{ "keyctl", SYS_keyctl, { KEYCTL_GET_KEYRING_ID, (uint64_t)KEY_SPEC_SESSION_KEYRING, 0 }, NULL },
	{ "add_key", SYS_add_key, { ARG_TEXT, ARG_TEXT, 0, 0, 0 }, "user" },
	{ "request_key", SYS_request_key, { ARG_TEXT, ARG_TEXT, 0, 0 }, "user" },
	{ "inotify_init1", SYS_inotify_init1, { 0 }, NULL },
	{ "fanotify_init", SYS_fanotify_init, { 0, 0 }, NULL },
	{ "landlock_create_ruleset", SYS_landlock_create_ruleset, { 0, 0, 1 }, NULL },
	{ "shmget", SYS_shmget, { 0, 4096, 0 }, NULL },
	{ "mq_open", SYS_mq_open, { ARG_TEXT, 0, 0, 0 }, "q" },
	{ "name_to_handle_at", SYS_name_to_handle_at, { 10, ARG_TEXT, ARG_ZEROS, ARG_ZEROS, AT_EMPTY_PATH }, "", OTHERWISE },
	{ "personality", SYS_personality, { 0xffffffff }, NULL },
	{ "modify_ldt", SYS_modify_ldt, { 0, ARG_ZEROS, 0 }, NULL },

	/* code */
	{ "mmap executable memory", SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, 6, 0 }, NULL },
	{ "mmap anonymous executable memory", SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0 }, NULL },
	{ "mprotect to executable", SYS_mprotect, { ARG_ZEROS, 4096, PROT_READ | PROT_EXEC }, NULL },
	{ "pkey_mprotect to executable", SYS_pkey_mprotect, { ARG_ZEROS, 4096, PROT_READ | PROT_EXEC, (uint64_t)-1 }, NULL },

	/* calls that are allowed, with arguments that are not */
	{ "ioctl TIOCSTI", SYS_ioctl, { 2, TIOCSTI, ARG_ZEROS }, NULL },
	{ "ioctl TIOCLINUX", SYS_ioctl, { 2, TIOCLINUX, ARG_ZEROS }, NULL },
	{ "ioctl BLKDISCARD", SYS_ioctl, { 10, 0x1277, ARG_ZEROS }, NULL },
	{ "ioctl FIOASYNC", SYS_ioctl, { 3, FIOASYNC, ARG_ZEROS }, NULL },
	{ "prctl PR_SET_DUMPABLE 1", SYS_prctl, { PR_SET_DUMPABLE, 1, 0, 0, 0 }, NULL },
	{ "prctl PR_SET_SECCOMP", SYS_prctl, { PR_SET_SECCOMP, 1, 0, 0, 0 }, NULL },
	{ "prctl PR_SET_PTRACER", SYS_prctl, { PR_SET_PTRACER, 1, 0, 0, 0 }, NULL },
	{ "prctl PR_CAP_AMBIENT", SYS_prctl, { PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0 }, NULL },
	{ "prctl PR_SET_MM", SYS_prctl, { PR_SET_MM, PR_SET_MM_BRK, 0, 0, 0 }, NULL },
	{ "fcntl F_SETOWN", SYS_fcntl, { 3, F_SETOWN, ARG_OUTSIDER }, NULL },
	{ "fcntl F_SETSIG", SYS_fcntl, { 3, 10, SIGIO }, NULL },
	{ "fcntl F_OFD_SETLK", SYS_fcntl, { 10, F_OFD_SETLK, ARG_ZEROS }, NULL, OTHERWISE },
	{ "fcntl F_SETFL with O_ASYNC", SYS_fcntl, { 3, F_SETFL, O_ASYNC }, NULL },
	{ "fcntl F_SETFL without O_NONBLOCK", SYS_fcntl, { 0, F_SETFL, 0 }, NULL },
	{ "seccomp with a listener", SYS_seccomp, { 1, 8, ARG_ZEROS }, NULL },
	{ "seccomp strict mode", SYS_seccomp, { 0, 0, 0 }, NULL },
	{ "arch_prctl ARCH_SET_GS", SYS_arch_prctl, { 0x1001, 0 }, NULL },
	{ "futex with priority inheritance", SYS_futex, { ARG_ZEROS, 6, 0, 0, 0, 0 }, NULL },
	{ "futex requeue with priority inheritance", SYS_futex, { ARG_ZEROS, 12, 0, 0, 0, 0 }, NULL },
	{ "truncate the image by path", SYS_truncate, { ARG_TEXT, 0 }, "/" },
};
/* clang-format on */

/*
 * Of a process whose filter lets all this through (tests/e2e/sandbox gives it such a policy): the
 * other mechanisms alone. In each row the error that they give.
 */
/* clang-format off */
static const struct attempt unfiltered[] = {
	{ "root: open the root directory", SYS_openat, { (uint64_t)AT_FDCWD, ARG_TEXT, O_RDONLY }, "/", PASSES, EACCES },
	{ "root: open /etc/passwd", SYS_openat, { (uint64_t)AT_FDCWD, ARG_TEXT, O_RDONLY }, "/etc/passwd", PASSES, EACCES },
	{ "root: open what is above it", SYS_openat, { (uint64_t)AT_FDCWD, ARG_TEXT, O_RDONLY }, "../../etc", PASSES, EACCES },
	{ "root: make a directory", SYS_mkdir, { ARG_TEXT, 0700 }, "/dir", PASSES, EACCES },
	{ "pid namespace: signal vmdevd", SYS_kill, { ARG_OUTSIDER, 0 }, NULL, PASSES, ESRCH },
	{ "pid namespace: pidfd_open vmdevd", SYS_pidfd_open, { ARG_OUTSIDER, 0 }, NULL, PASSES, ESRCH },
	{ "pid namespace: ptrace vmdevd", SYS_ptrace, { PTRACE_SEIZE, ARG_OUTSIDER, 0, 0 }, NULL, PASSES, ESRCH },
	{ "pid namespace: read vmdevd's memory", SYS_process_vm_readv, { ARG_OUTSIDER, ARG_IOVEC, 1, ARG_IOVEC, 1, 0 }, NULL, PASSES, ESRCH },
	{ "not dumpable: ptrace the keeper", SYS_ptrace, { PTRACE_SEIZE, 1, 0, 0 }, NULL, PASSES, EPERM },
	{ "not dumpable: read the keeper's memory", SYS_process_vm_readv, { 1, ARG_IOVEC, 1, ARG_IOVEC, 1, 0 }, NULL, PASSES, EPERM },
	{ "capabilities: mount", SYS_mount, { ARG_TEXT, ARG_TEXT, ARG_TEXT, 0, 0 }, "/", PASSES, EPERM },
	{ "capabilities: umount", SYS_umount2, { ARG_TEXT, MNT_DETACH }, "/", PASSES, EPERM },
	{ "capabilities: pivot_root", SYS_pivot_root, { ARG_TEXT, ARG_TEXT }, "/", PASSES, EPERM },
	{ "capabilities: a new mount namespace", SYS_unshare, { CLONE_NEWNS }, NULL, PASSES, EPERM },
	{ "capabilities: the host's name", SYS_sethostname, { ARG_TEXT, 1 }, "x", PASSES, EPERM },
	{ "capabilities: a raw socket", SYS_socket, { AF_PACKET, SOCK_RAW, 0 }, NULL, PASSES, EPERM },
	{ "capabilities: other groups", SYS_setgroups, { 1, ARG_ZEROS }, NULL, PASSES, EPERM },
	{ "capabilities: the image's owner", SYS_fchown, { 10, 0, 0 }, NULL, PASSES, EINVAL },
	{ "ids: user 0 does not exist", SYS_setresuid, { 0, 0, 0 }, NULL, PASSES, EINVAL },
	{ "ids: group 0 does not exist", SYS_setresgid, { 0, 0, 0 }, NULL, PASSES, EINVAL },
	{ "ids: the image's mode", SYS_fchmod, { 10, 0666 }, NULL, PASSES, EPERM },
	{ "network namespace: nobody to talk to", SYS_bind, { 4, ARG_SOCKET, 12 }, "@vmdev", PASSES, EINVAL },
};
/* clang-format on */

/* Of a device that has connected sockets of others', and no ring: what else could be done with those. */
/* clang-format off */
static const struct attempt vsock_attempts[] = {
	{ "vsock: connect the listening socket to a path", SYS_connect, { 10, ARG_SOCKET, 110 }, "/run/vmdev/bus" },
	{ "vsock: connect the broker's channel elsewhere", SYS_connect, { 12, ARG_SOCKET, 12 }, "@vmdev" },
	{ "vsock: bind host programs' socket anew", SYS_bind, { 10, ARG_SOCKET, 12 }, "@vmdev" },
	{ "vsock: listen with another backlog", SYS_listen, { 10, 4096 }, NULL },
	{ "vsock: sendto an address", SYS_sendto, { 12, ARG_TEXT, 1, 0, ARG_SOCKET, 12 }, "@vmdev" },
	{ "vsock: sendmsg", SYS_sendmsg, { 12, ARG_MESSAGE, 0 }, NULL },
	{ "vsock: read of the broker's channel", SYS_read, { 12, ARG_ZEROS, 1 }, NULL },
	{ "vsock: recvfrom", SYS_recvfrom, { 12, ARG_ZEROS, 1, MSG_DONTWAIT, 0, 0 }, NULL },
	{ "vsock: setsockopt SO_PASSCRED of host programs' socket", SYS_setsockopt, { 10, SOL_SOCKET, SO_PASSCRED, ARG_ZEROS, 4 }, NULL },
	{ "vsock: setsockopt SO_SNDBUF", SYS_setsockopt, { 12, SOL_SOCKET, SO_SNDBUF, ARG_ZEROS, 4 }, NULL },
	{ "vsock: ioctl FIONREAD", SYS_ioctl, { 12, FIONREAD, ARG_ZEROS }, NULL },
	{ "vsock: ioctl SIOCGIFCONF", SYS_ioctl, { 10, 0x8912, ARG_ZEROS }, NULL },
	{ "vsock: a descriptor of a socket's file", SYS_ioctl, { 10, 0x89e0, 0 }, NULL },
	{ "vsock: getsockopt SO_PEERPIDFD", SYS_getsockopt, { 12, SOL_SOCKET, 77, ARG_ZEROS, ARG_ZEROS }, NULL },
	{ "vsock: an io_uring", SYS_io_uring_setup, { 8, ARG_ZEROS }, NULL },
	{ "vsock: splice", SYS_splice, { 12, 0, 2, 0, 1, 0 }, NULL },
	{ "vsock: sendfile of guest memory", SYS_sendfile, { 12, 6, 0, 1 }, NULL },
	{ "vsock: vmsplice", SYS_vmsplice, { 2, ARG_IOVEC, 1, 0 }, NULL },
	{ "vsock: fcntl F_DUPFD", SYS_fcntl, { 12, F_DUPFD, 48 }, NULL },
	{ "vsock: fcntl F_SETLEASE", SYS_fcntl, { 6, F_SETLEASE, F_WRLCK }, NULL },
	{ "vsock: madvise that poisons memory", SYS_madvise, { ARG_ZEROS, 4096, 100 }, NULL },
	{ "vsock: pwrite to the program", SYS_pwrite64, { 5, ARG_TEXT, 1, 0 }, "x" },
	{ "vsock: pread of the filter", SYS_pread64, { 7, ARG_ZEROS, 1, 0 }, NULL },
	{ "vsock: close the filter", SYS_close, { 7 }, NULL, NOTHING },
	{ "vsock: close the listening socket", SYS_close, { 10 }, NULL, NOTHING },
	{ "vsock: a memfd", SYS_memfd_create, { ARG_TEXT, 0 }, "x", NOTHING },
	{ "vsock: dup2 over the program", SYS_dup2, { 6, 5 }, NULL, NOTHING },
	{ "vsock: getpeername of the broker's channel", SYS_getpeername, { 12, ARG_ZEROS, ARG_ZEROS }, NULL, NOTHING },
};
/* clang-format on */

/* Whose sandbox it is. */
enum ids { BLK, VSOCK, FS_HOST, FS_OWN };

static bool is_fs(enum ids ids)
{
	return ids == FS_HOST || ids == FS_OWN;
}

struct target {
	pid_t pid;
	pid_t inner_pid; /* the process as it knows itself */
	pid_t outsider;
	enum ids ids;
	const char *canary; /* the path of a file outside */
	const char *number; /* of a descriptor, in decimal */
	uint64_t last;	    /* the descriptor that the attempt before got */
	int mem;
	uint64_t syscall_at; /* a syscall instruction */
	uint64_t scratch;    /* below its stack */
	struct user_regs_struct saved;
};

enum {
	SCRATCH_TEXT = 0,
	SCRATCH_SOCKET = 256,
	SCRATCH_ZEROS = 512,
	SCRATCH_IOVEC = 1024,
	SCRATCH_CAPS = 1088,
	SCRATCH_ALL_CAPS = 1104,
	SCRATCH_HANDLE = 1152,
	SCRATCH_NAME = 1344,
	SCRATCH_MESSAGE = 1408,
	SCRATCH_CONTROL = 1472,
	SCRATCH_BYTE = 1504,
	SCRATCH_LEN = 1536,
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "sandbox-inject: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void await_stop(const struct target *t, int *ret_status)
{
	if (waitpid(t->pid, ret_status, __WALL) != t->pid)
		die("waitpid");
	if (!WIFSTOPPED(*ret_status)) {
		printf("Bail out! the process ended (status 0x%x)\n", (unsigned)*ret_status);
		exit(1);
	}
}

/* A syscall instruction in the process's own text; its address. */
static uint64_t find_syscall(const struct target *t)
{
	char path[64], line[512];
	uint64_t start, end;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)t->pid);
	maps = fopen(path, "re");
	if (!maps)
		die(path);
	while (fgets(line, sizeof(line), maps)) {
		char perms[8];
		uint8_t *text;
		uint8_t *hit;

		if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) != 3 || perms[2] != 'x')
			continue;
		text = malloc(end - start);
		if (!text ||
		    pread(t->mem, text, end - start, (off_t)start) != (ssize_t)(end - start)) {
			free(text);
			continue;
		}
		hit = memmem(text, end - start, "\x0f\x05", 2);
		start += hit ? (uint64_t)(hit - text) : 0;
		free(text);
		if (hit) {
			fclose(maps);
			return start;
		}
	}
	die("no syscall instruction");
}

/* The last of the pids in its status: that of its own namespace. */
static pid_t read_inner_pid(pid_t pid)
{
	char path[64], line[256];
	pid_t inner = pid;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	if (!file)
		die(path);
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "NSpid:", 6) == 0)
			inner = (pid_t)strtol(strrchr(line, '\t'), NULL, 10);
	fclose(file);
	return inner;
}

static void attach(struct target *t)
{
	char path[64];
	int status;

	t->inner_pid = read_inner_pid(t->pid);

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)t->pid);
	t->mem = open(path, O_RDWR | O_CLOEXEC);
	if (t->mem < 0)
		die(path);
	if (ptrace(PTRACE_SEIZE, t->pid, NULL, (void *)(intptr_t)PTRACE_O_TRACESYSGOOD) < 0)
		die("PTRACE_SEIZE");
	if (ptrace(PTRACE_INTERRUPT, t->pid, NULL, NULL) < 0)
		die("PTRACE_INTERRUPT");
	await_stop(t, &status);
	if (ptrace(PTRACE_GETREGS, t->pid, NULL, &t->saved) < 0)
		die("PTRACE_GETREGS");
	t->syscall_at = find_syscall(t);
	t->scratch = ((t->saved.rsp - 128) & ~UINT64_C(63)) - SCRATCH_LEN;
}

static void detach(const struct target *t)
{
	if (ptrace(PTRACE_SETREGS, t->pid, NULL, &t->saved) < 0)
		die("PTRACE_SETREGS");
	if (ptrace(PTRACE_DETACH, t->pid, NULL, NULL) < 0)
		die("PTRACE_DETACH");
}

/* The text with what stands for something in it replaced. */
static void expand(const struct target *t, const char *text, char *ret, size_t size)
{
	size_t len = 0;
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)t->outsider);
	for (; *text && len + 1 < size; text++) {
		const char *with = t->ids == BLK  ? NULL
				   : *text == '$' ? t->canary
				   : *text == '#' ? pid
				   : *text == '@' ? t->number
						  : NULL;

		len += with ? (size_t)snprintf(ret + len, size - len, "%s", with) : 1;
		if (!with)
			ret[len - 1] = *text;
	}
	ret[len < size ? len : size - 1] = '\0';
}

/* One byte that claims to be from user and group 0. */
static void fill_message(const struct target *t, char *scratch)
{
	const struct iovec *byte = (void *)(t->scratch + SCRATCH_BYTE);
	const struct mmsghdr message = { .msg_hdr = {
						 .msg_iov = (struct iovec *)(uintptr_t)byte,
						 .msg_iovlen = 1,
						 .msg_control =
							 (void *)(t->scratch + SCRATCH_CONTROL),
						 .msg_controllen = CMSG_SPACE(sizeof(struct ucred)),
					 } };
	const struct iovec vector = { (void *)(t->scratch + SCRATCH_ZEROS), 1 };
	const struct ucred who = { .pid = t->inner_pid };
	struct cmsghdr head = {
		.cmsg_len = CMSG_LEN(sizeof(who)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_CREDENTIALS,
	};

	memcpy(scratch + SCRATCH_MESSAGE, &message, sizeof(message));
	memcpy(scratch + SCRATCH_CONTROL, &head, sizeof(head));
	memcpy(scratch + SCRATCH_CONTROL + CMSG_LEN(0), &who, sizeof(who));
	memcpy(scratch + SCRATCH_BYTE, &vector, sizeof(vector));
}

static void write_scratch(const struct target *t, const char *text)
{
	char scratch[SCRATCH_LEN] = { 0 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const uint64_t vector[] = { t->scratch + SCRATCH_ZEROS, 8 }; /* struct iovec */
	const struct __user_cap_header_struct caps = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct {
		unsigned len;
		int type;
	} handle = { 128, 1 }; /* struct file_handle */

	snprintf(scratch + SCRATCH_NAME, SCRATCH_LEN - SCRATCH_NAME, "user.vmdev");
	memcpy(scratch + SCRATCH_CAPS, &caps, sizeof(caps));
	memset(scratch + SCRATCH_ALL_CAPS, 0xff, 2 * sizeof(struct __user_cap_data_struct));
	memcpy(scratch + SCRATCH_HANDLE, &handle, sizeof(handle));
	fill_message(t, scratch);
	if (text) {
		expand(t, text, scratch + SCRATCH_TEXT, SCRATCH_SOCKET - SCRATCH_TEXT);
		snprintf(address.sun_path, sizeof(address.sun_path), "%s", text);
		if (address.sun_path[0] == '@')
			address.sun_path[0] = '\0';
		memcpy(scratch + SCRATCH_SOCKET, &address, sizeof(address));
	}
	memcpy(scratch + SCRATCH_IOVEC, &vector, sizeof(vector));
	if (pwrite(t->mem, scratch, sizeof(scratch), (off_t)t->scratch) != sizeof(scratch))
		die("writing the process's stack");
}

static uint64_t resolve(const struct target *t, uint64_t arg)
{
	switch (arg) {
	case ARG_TEXT:
		return t->scratch + SCRATCH_TEXT;
	case ARG_SOCKET:
		return t->scratch + SCRATCH_SOCKET;
	case ARG_IOVEC:
		return t->scratch + SCRATCH_IOVEC;
	case ARG_ZEROS:
		return t->scratch + SCRATCH_ZEROS;
	case ARG_NAME:
		return t->scratch + SCRATCH_NAME;
	case ARG_MESSAGE:
		return t->scratch + SCRATCH_MESSAGE;
	case ARG_CAPS:
		return t->scratch + SCRATCH_CAPS;
	case ARG_ALL_CAPS:
		return t->scratch + SCRATCH_ALL_CAPS;
	case ARG_HANDLE:
		return t->scratch + SCRATCH_HANDLE;
	case ARG_OUTSIDER:
		return (uint64_t)t->outsider;
	case ARG_LAST:
		return t->last;
	case ARG_NUMBER:
		return strtoull(t->number, NULL, 10);
	default:
		return arg;
	}
}

/* Runs the process to the next entry to or exit from a system call. */
static void run_to_boundary(const struct target *t)
{
	int status;

	do {
		if (ptrace(PTRACE_SYSCALL, t->pid, NULL, NULL) < 0)
			die("PTRACE_SYSCALL");
		await_stop(t, &status);
	} while (WSTOPSIG(status) != (SIGTRAP | 0x80));
}

/* Is a SIGSYS of this very call waiting for the thread? */
static bool signal_is_queued(const struct target *t, long nr)
{
	struct __ptrace_peeksiginfo_args args = { .off = 0, .flags = 0, .nr = 8 };
	siginfo_t infos[8];
	long n = ptrace(PTRACE_PEEKSIGINFO, t->pid, &args, infos);

	for (long i = 0; i < n; i++)
		if (infos[i].si_signo == SIGSYS && infos[i].si_syscall == (int)nr)
			return true;
	return false;
}

/* Lets the queued SIGSYS come as far as the tracer, and no further. */
static void take_signal(const struct target *t)
{
	int status;

	do {
		if (ptrace(PTRACE_SINGLESTEP, t->pid, NULL, NULL) < 0)
			die("PTRACE_SINGLESTEP");
		await_stop(t, &status);
	} while (WSTOPSIG(status) != SIGSYS);
}

/* Makes the process do one system call. True: its filter refused; else *ret_result is what it
 * returned. */
static bool inject(const struct target *t, const struct attempt *a, long *ret_result)
{
	struct user_regs_struct regs = t->saved;

	write_scratch(t, a->text);
	regs.rip = t->syscall_at;
	regs.rax = (uint64_t)a->nr;
	regs.orig_rax = (uint64_t)-1;
	regs.rdi = resolve(t, a->args[0]);
	regs.rsi = resolve(t, a->args[1]);
	regs.rdx = resolve(t, a->args[2]);
	regs.r10 = resolve(t, a->args[3]);
	regs.r8 = resolve(t, a->args[4]);
	regs.r9 = resolve(t, a->args[5]);
	if (ptrace(PTRACE_SETREGS, t->pid, NULL, &regs) < 0)
		die("PTRACE_SETREGS");
	run_to_boundary(t);
	run_to_boundary(t);
	if (ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) < 0)
		die("PTRACE_GETREGS");
	*ret_result = (long)regs.rax;
	return signal_is_queued(t, a->nr);
}

static bool judge(const struct attempt *a, bool keeper, bool refused, long result, char *words,
		  size_t size)
{
	enum answer expected = keeper && a->keeper < NOTHING ? a->keeper : SIGNAL;

	if (refused) {
		snprintf(words, size, "filter");
		return expected == SIGNAL;
	}
	if (result < 0)
		snprintf(words, size, "%s", strerrorname_np((int)-result));
	else
		snprintf(words, size, "ALLOWED, returned %ld", result);
	return expected == PASSES && result == -a->error;
}

static size_t try_all(struct target *t, const struct attempt *table, size_t n, bool keeper)
{
	size_t n_bad = 0;

	for (size_t i = 0; i < n; i++) {
		const struct attempt *a = &table[i];
		char words[128];
		long result = 0;
		bool refused, good;

		if (is_fs(t->ids) && a->keeper == OTHERWISE) {
			printf("ok %zu - %s # SKIP a file system device may: see below\n", i + 1,
			       a->what);
			continue;
		}
		if (keeper && a->keeper == NOTHING) {
			printf("ok %zu - %s # SKIP allowed: a starting worker is under this "
			       "filter\n",
			       i + 1, a->what);
			continue;
		}
		refused = inject(t, a, &result);
		if (refused)
			take_signal(t);
		good = judge(a, keeper, refused, result, words, sizeof(words));
		printf("%sok %zu - %s (%s)\n", good ? "" : "not ", i + 1, a->what, words);
		n_bad += !good;
	}
	return n_bad;
}

/* File system devices */

/* What is at this number of the process's, seen from outside. */
static int kind_of(const struct target *t, long fd)
{
	char path[64];
	struct stat st, root;
	struct statfs fs;
	int own;

	snprintf(path, sizeof(path), "/proc/%d/root", (int)t->pid);
	if (stat(path, &root) < 0)
		die(path);
	snprintf(path, sizeof(path), "/proc/%d/fd/%ld", (int)t->pid, fd);
	if (stat(path, &st) < 0 || statfs(path, &fs) < 0)
		return WORKS;
	if (st.st_dev == root.st_dev && st.st_ino == root.st_ino)
		return GIVES_ROOT;
	if (fs.f_type == PROC_SUPER_MAGIC)
		return GIVES_PROC;
	own = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (own >= 0 && fcntl(own, F_GET_SEALS) > 0) {
		close(own);
		return GIVES_SEALED;
	}
	if (own >= 0)
		close(own);
	return WORKS;
}

static bool gives_descriptor(long nr)
{
	return nr == SYS_openat || nr == SYS_openat2 || nr == SYS_open_by_handle_at ||
	       nr == SYS_open_tree || nr == SYS_fsopen || nr == SYS_socket || nr == SYS_pidfd_open;
}

static const char *outcome_to_text(int outcome, long result)
{
	static char text[64];

	switch (outcome) {
	case FILTER:
		return "filter";
	case WORKS:
		snprintf(text, sizeof(text), "allowed, returned %ld", result);
		return text;
	case GIVES_ROOT:
		return "the shared directory";
	case GIVES_PROC:
		return "the sandbox's proc";
	case GIVES_SEALED:
		return "a sealed memfd";
	default:
		return strerrorname_np(outcome);
	}
}

/* Gives back what the attempt before got. */
static void close_last(struct target *t)
{
	const struct attempt a = { "close", SYS_close, { t->last }, NULL };
	long result;

	if (t->last != UINT64_MAX)
		inject(t, &a, &result);
	t->last = UINT64_MAX;
}

static bool uses_last(const struct fs_attempt *f)
{
	for (size_t i = 0; i < N(f->args); i++)
		if (f->args[i] == ARG_LAST)
			return true;
	return false;
}

/* DIR/share/inner and DIR/inner, where the canary is DIR/outside/canary. */
static int move_inner(const struct target *t, bool out)
{
	const char *end = strstr(t->canary, "/outside/");
	char inside[512], outside[512];
	int len = end ? (int)(end - t->canary) : 0;

	snprintf(inside, sizeof(inside), "%.*s/share/inner", len, t->canary);
	snprintf(outside, sizeof(outside), "%.*s/inner", len, t->canary);
	if (rename(out ? inside : outside, out ? outside : inside) < 0)
		die(inside);
	return WORKS;
}

static int outcome_of(struct target *t, const struct fs_attempt *f, long *ret_result)
{
	struct attempt a = { .what = f->what, .nr = f->nr, .text = f->text };
	int kind;

	memcpy(a.args, f->args, sizeof(a.args));
	if (!uses_last(f))
		close_last(t);
	if (f->nr < 0)
		return move_inner(t, f->nr == HOST_MOVES_OUT);
	if (inject(t, &a, ret_result)) {
		take_signal(t);
		return FILTER;
	}
	if (*ret_result < 0)
		return (int)-*ret_result;
	if (!gives_descriptor(f->nr))
		return WORKS;
	kind = kind_of(t, *ret_result);
	if (uses_last(f))
		close_last(t);
	t->last = (uint64_t)*ret_result;
	return kind;
}

static size_t try_fs(struct target *t, const struct fs_attempt *table, size_t n, bool keeper)
{
	size_t n_bad = 0;

	t->last = UINT64_MAX;
	for (size_t i = 0; i < n; i++) {
		const struct fs_attempt *f = &table[i];
		int expected = t->ids == FS_HOST ? f->host : f->own;
		int outcome;
		long result = 0;

		if (keeper && f->keeper != THE_SAME)
			expected = f->keeper;
		if (expected == NOT_ASKED) {
			printf("ok %zu - %s # SKIP not of the keeper\n", i + 1, f->what);
			continue;
		}
		outcome = outcome_of(t, f, &result);
		printf("%sok %zu - %s (%s)", outcome == expected ? "" : "not ", i + 1, f->what,
		       outcome_to_text(outcome, result));
		if (outcome != expected)
			printf(" expected: %s", outcome_to_text(expected, 0));
		printf("\n");
		n_bad += outcome != expected;
	}
	close_last(t);
	return n_bad;
}

/* Both tables of a running worker or keeper. */
static int ask(struct target *t, bool keeper)
{
	size_t n_bad;

	attach(t);
	n_bad = try_all(t, attempts, N(attempts), keeper);
	if (is_fs(t->ids))
		n_bad += try_fs(t, fs_attempts, fs_n_attempts, keeper);
	if (t->ids == VSOCK)
		n_bad += try_all(t, vsock_attempts, N(vsock_attempts), keeper);
	detach(t);
	return n_bad == 0 ? 0 : 1;
}

static int ask_unfiltered(struct target *t)
{
	size_t n_bad;

	attach(t);
	n_bad = is_fs(t->ids) ? try_fs(t, fs_unfiltered, fs_n_unfiltered, false)
			      : try_all(t, unfiltered, N(unfiltered), true);
	detach(t);
	return n_bad == 0 ? 0 : 1;
}

static int ask_guest_fd(struct target *t, bool socket)
{
	size_t n_bad;

	attach(t);
	n_bad = try_fs(t, socket ? fs_guest_socket : fs_guest_fd,
		       socket ? fs_n_guest_socket : fs_n_guest_fd, false);
	detach(t);
	return n_bad == 0 ? 0 : 1;
}

static bool is_blocked(const struct target *t, int number)
{
	uint64_t mask = 0;

	if (ptrace(PTRACE_GETSIGMASK, t->pid, (void *)sizeof(mask), &mask) < 0)
		die("PTRACE_GETSIGMASK");
	return mask >> (number - 1) & 1;
}

/*
 * A keeper that is just beginning itself anew has its signals blocked, and no handlers yet: asked then, what the
 * filter sends would be lost, as it is PID 1.
 */
static void attach_at_work(struct target *t)
{
	attach(t);
	while (is_blocked(t, SIGSYS)) {
		detach(t);
		usleep(1000);
		close(t->mem);
		attach(t);
	}
}

/* To the next stop at a system call; signals on the way are delivered. */
static void run_to_syscall(const struct target *t)
{
	int status, signo = 0;

	do {
		if (ptrace(PTRACE_SYSCALL, t->pid, NULL, (void *)(intptr_t)signo) < 0)
			die("PTRACE_SYSCALL");
		await_stop(t, &status);
		signo = status >> 16 ? 0 : WSTOPSIG(status);
	} while (signo != (SIGTRAP | 0x80));
}

/* It stands at the entry to a call that unblocks SIGSYS. */
static bool unblocks_sigsys(const struct target *t)
{
	struct __ptrace_syscall_info info;
	uint64_t mask = 0;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, t->pid, (void *)sizeof(info), &info) < 0)
		die("PTRACE_GET_SYSCALL_INFO");
	if (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != SYS_rt_sigprocmask ||
	    info.entry.args[0] != SIG_UNBLOCK || info.entry.args[1] == 0)
		return false;
	if (pread(t->mem, &mask, sizeof(mask), (off_t)info.entry.args[1]) != sizeof(mask))
		die("the signal mask");
	return mask >> (SIGSYS - 1) & 1;
}

/* Over the keeper's renewal: it stops in the new program, where SIGSYS has just been unblocked. */
static void attach_renewed(struct target *t, pid_t worker)
{
	attach(t);
	if (kill(worker, SIGKILL) < 0)
		die("kill");
	do
		run_to_syscall(t);
	while (!unblocks_sigsys(t));
	run_to_syscall(t);
	if (ptrace(PTRACE_GETREGS, t->pid, NULL, &t->saved) < 0)
		die("PTRACE_GETREGS");
	t->syscall_at = find_syscall(t);
	t->scratch = ((t->saved.rsp - 128) & ~UINT64_C(63)) - SCRATCH_LEN;
}

/* The same call, and the signal is not taken away: the worker's handler has it. */
static int trip(struct target *t, pid_t worker)
{
	static const struct attempt a = {
		"socket AF_INET", SYS_socket, { AF_INET, SOCK_STREAM, 0 }, NULL
	};
	long result;

	if (worker)
		attach_renewed(t, worker);
	else
		attach_at_work(t);
	if (!inject(t, &a, &result)) {
		detach(t);
		fprintf(stderr, "sandbox-inject: the filter let socket() through\n");
		return 1;
	}
	if (ptrace(PTRACE_DETACH, t->pid, NULL, NULL) < 0)
		die("PTRACE_DETACH");
	return 0;
}

/* As on a host whose kernel has none: io_uring_setup is answered with ENOSYS, for all that comes of
 * the program. */
static int hide_io_uring(char **argv)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(filter) / sizeof(*filter), .filter = filter };

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		die("seccomp");
	execv(argv[0], argv);
	die(argv[0]);
}

static pid_t parse_pid(const char *text)
{
	char *end;
	long pid = strtol(text, &end, 10);

	if (*end != '\0' || pid <= 0) {
		fprintf(stderr, "sandbox-inject: \"%s\" is not a pid\n", text);
		exit(2);
	}
	return (pid_t)pid;
}

static enum ids parse_ids(const char *text)
{
	if (strcmp(text, "fs-host") == 0)
		return FS_HOST;
	if (strcmp(text, "fs-own") == 0)
		return FS_OWN;
	fprintf(stderr, "sandbox-inject: \"%s\" is neither fs-host nor fs-own\n", text);
	exit(2);
}

int main(int argc, char **argv)
{
	struct target t = { .mem = -1, .canary = "", .number = "-1", .last = UINT64_MAX };

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 2 && strcmp(argv[1], "hide-io-uring") == 0)
		return hide_io_uring(argv + 2);
	if (argc == 3 && strcmp(argv[1], "trip") == 0) {
		t.pid = parse_pid(argv[2]);
		return trip(&t, 0);
	}
	if (argc == 4 && strcmp(argv[1], "trip-renewed") == 0) {
		t.pid = parse_pid(argv[2]);
		return trip(&t, parse_pid(argv[3]));
	}
	if (argc == 4 || (argc == 5 && strcmp(argv[4], "vsock") == 0) || argc == 6) {
		t.pid = parse_pid(argv[2]);
		t.outsider = parse_pid(argv[3]);
		t.ids = argc == 6 ? parse_ids(argv[4]) : argc == 5 ? VSOCK : BLK;
		t.canary = t.number = argc == 6 ? argv[5] : "";
		if (strcmp(argv[1], "unfiltered") == 0)
			return ask_unfiltered(&t);
		if (strcmp(argv[1], "guest-fd") == 0 && argc == 6)
			return ask_guest_fd(&t, false);
		if (strcmp(argv[1], "guest-socket") == 0 && argc == 6)
			return ask_guest_fd(&t, true);
		if (strcmp(argv[1], "worker") == 0 || strcmp(argv[1], "keeper") == 0)
			return ask(&t, strcmp(argv[1], "keeper") == 0);
	}
	fprintf(stderr, "usage: sandbox-inject worker|keeper|unfiltered PID OUTSIDER-PID "
			"[vsock | fs-host|fs-own CANARY]\n"
			"       sandbox-inject guest-fd|guest-socket PID OUTSIDER-PID "
			"fs-host|fs-own NUMBER\n"
			"       sandbox-inject trip PID\n"
			"       sandbox-inject trip-renewed KEEPER-PID WORKER-PID\n"
			"       sandbox-inject hide-io-uring PROGRAM...\n");
	return 2;
}
