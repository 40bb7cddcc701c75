/*
 * The contract between vmdevd and the processes of one device.
 *
 * Runs in: vmdevd, keeper, worker (constants and one wire format; no code).
 * Trusts:  nothing. vmdevd takes every message for hostile input: the worker shares the keeper's
 *          file descriptor table and so can speak on the contract socket in the keeper's name.
 *
 * A device program is started as
 *
 *	vmdev-blk --contract --name=VM/DEVICE [options of the device type]
 *
 * with the file descriptors below at fixed numbers. Its argument vector is its whole configuration,
 * the same options as when it is run by hand; run by hand, the program opens the resources
 * itself, puts them at the same numbers, and goes on as if vmdevd had done it. The arguments
 * hold no secret: they can be read in /proc/PID/cmdline.
 *
 * Invariants:
 *  1. Every descriptor below CONTRACT_FD_SESSION is owned by the contract: it lives as long as the
 *     sandbox and is never closed by a worker. (Exception: the keeper replaces CONTRACT_FD_STATE
 *and CONTRACT_FD_INFLIGHT between sessions, when no worker runs.)
 *  2. Every descriptor from CONTRACT_FD_SESSION up belongs to the vhost-user session in the state
 *memfd. One that the session does not name is a leftover of a killed worker and is closed.
 *     To that end the keeper fills the gaps below CONTRACT_FD_SESSION with /dev/null: the kernel
 *gives every new descriptor a number of the session.
 *  3. Contract descriptors have no CLOEXEC: the keeper re-executes itself and they outlive that.
 */
#pragma once

#include <stdint.h>

enum {
	CONTRACT_FD_LOG = 2,	 /* stderr: one line a record, "<PRIORITY>text" (sd-daemon(3)) */
	CONTRACT_FD_CONTROL = 3, /* SOCK_SEQPACKET to vmdevd; absent when run by hand */
	CONTRACT_FD_LISTEN = 4,	 /* listening Unix stream socket; absent with --fd */
	CONTRACT_FD_PROGRAM = 5, /* the device program itself, for execveat(AT_EMPTY_PATH) */
	CONTRACT_FD_STATE = 6,	 /* state memfd, made by the keeper */
	CONTRACT_FD_FILTER =
		7, /* sealed memfd: the worker's struct sock_filter[]; absent by hand */
	CONTRACT_FD_INFLIGHT = 8,  /* the device's own in-flight region, made by the keeper */
	CONTRACT_FD_STOP = 9,	   /* eventfd made by the keeper: it asks the worker to stop */
	CONTRACT_FD_RESOURCE = 10, /* first of the device type's resources */
	CONTRACT_FD_RESOURCE_MAX = 15,
	CONTRACT_FD_RING = 16, /* io_uring of I/O thread i is CONTRACT_FD_RING + i */
	CONTRACT_FD_RING_MAX = 47,
	CONTRACT_FD_SESSION = 48, /* first number of the vhost-user session's descriptors */
	CONTRACT_FD_LIMIT =
		2048, /* RLIMIT_NOFILE of a sandbox: 509 memory slots and 64 rings fit */
};

/* Resources of a blk device. */
enum {
	CONTRACT_FD_BLK_IMAGE = CONTRACT_FD_RESOURCE, /* opened with the flags of its cache mode */
};

enum {
	CONTRACT_MAX_THREADS = 16, /* I/O threads in a worker; the main thread is one more */
	CONTRACT_MAX_QUEUES = 64,
};

/*
 * Exit statuses. Worker to keeper, and keeper to vmdevd; 0 is "stopped because asked to, I/O
 * drained". Anything not listed here is a crash.
 */
enum contract_exit {
	CONTRACT_EXIT_STOPPED = 0,
	CONTRACT_EXIT_USAGE = 2,    /* program: unusable arguments */
	CONTRACT_EXIT_SESSION = 80, /* worker: the session is over and drained, start a fresh one */
	CONTRACT_EXIT_FAULT = 81,   /* worker: a fatal signal, described in state */
	CONTRACT_EXIT_STATE = 82,   /* worker, keeper: state does not pass its checks (rung 2) */
	CONTRACT_EXIT_HOST = 83, /* worker, keeper: the host failed; CONTRACT_MSG_FAILED says how */
	CONTRACT_EXIT_LIMIT = 84, /* keeper: too many crashes (rung 3) */
	/* the exec child of vmdevd, before the program runs, exits with: */
	CONTRACT_EXIT_SANDBOX =
		85, /* a step of the sandbox plan failed; the text is on its stderr */
};

/*
 * Messages: one datagram each, little endian, in this order and nothing after it:
 *	u32 type, then the fields named in the comment; text is UTF-8 to the end of the datagram.
 */
#define CONTRACT_MSG_MAX_LEN 512u

enum contract_msg {
	/* vmdevd → device */
	CONTRACT_MSG_STOP = 1, /* drain and exit with CONTRACT_EXIT_STOPPED */

	/* device → vmdevd. SCM_CREDENTIALS of READY gives vmdevd the worker's pid. */
	CONTRACT_MSG_READY =
		64,		/* u32 generation: a worker serves (again); sent after each start */
	CONTRACT_MSG_CONNECTED, /* a front-end has connected */
	CONTRACT_MSG_DISCONNECTED,
	CONTRACT_MSG_DIED,	/* u32 generation, u32 signal (0: exited), u32 status, u32 syscall+1
				 * (0: none; the system call that the filter refused): recovery begins */
	CONTRACT_MSG_RECOVERED, /* u32 generation, u64 duration_ns: death noticed to rings resumed
				 */
	CONTRACT_MSG_POISON,	/* u32 queue, u32 head: a request failed after three crashes */
	CONTRACT_MSG_FAILED,	/* text: why the sender is about to exit */
	CONTRACT_MSG_PROTOCOL,	/* text: the front-end broke the protocol; its session was closed */
};
