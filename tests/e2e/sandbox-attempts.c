/*
 * What an attacker inside any device process tries. See sandbox-attempts.h.
 *
 * Runs in: a test. Trusts: nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/e2e/sandbox-attempts.h"

#define N(table) (sizeof(table) / sizeof(*(table)))

#define NEW_NAMESPACES (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS)

/* clang-format off */
const struct attempt attempts[] = {
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
const size_t n_attempts = N(attempts);

/*
 * Of a process whose filter lets all this through (tests/e2e/sandbox gives it such a policy): the
 * other mechanisms alone. In each row the error that they give.
 */
/* clang-format off */
const struct attempt unfiltered[] = {
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
const size_t n_unfiltered = N(unfiltered);

/* Of a device that has connected sockets of others', and no ring: what else could be done with those. */
/* clang-format off */
const struct attempt vsock_attempts[] = {
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
const size_t n_vsock_attempts = N(vsock_attempts);
