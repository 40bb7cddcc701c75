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
 *     sandbox and is never closed by a worker. (Exception: between sessions, when no worker runs,
 *     the keeper replaces CONTRACT_FD_STATE and CONTRACT_FD_INFLIGHT and lets the I/O rings go.)
 *  2. Every descriptor from CONTRACT_FD_SESSION up belongs to the vhost-user session in the state
 *     memfd, or to the worker's own loops. One that the session does not name is a leftover of a
 *     killed worker, and its successor closes it. To that end the keeper fills the gaps below
 *     CONTRACT_FD_SESSION with /dev/null: every number that the kernel gives out is one of these.
 *  3. Contract descriptors have no CLOEXEC: the keeper re-executes itself and they outlive that.
 */
#pragma once

#include <stdint.h>

enum {
	/* stderr: one line a record, "<PRIORITY>text" (sd-daemon(3)) */
	CONTRACT_FD_LOG = 2,
	/* SOCK_SEQPACKET to vmdevd; absent when run by hand */
	CONTRACT_FD_CONTROL = 3,
	/* listening Unix stream socket; absent with --fd of a connected one */
	CONTRACT_FD_LISTEN = 4,
	/* the device program itself, for execveat(AT_EMPTY_PATH) */
	CONTRACT_FD_PROGRAM = 5,
	/* state memfd, made by the keeper */
	CONTRACT_FD_STATE = 6,
	/* sealed memfd: the worker's struct sock_filter[]; absent when run by hand */
	CONTRACT_FD_FILTER = 7,
	/* the device's own in-flight region, made by the keeper */
	CONTRACT_FD_INFLIGHT = 8,
	/* eventfd made by the keeper: it asks the worker to stop */
	CONTRACT_FD_STOP = 9,
	/* first and last of the device type's resources */
	CONTRACT_FD_RESOURCE = 10,
	CONTRACT_FD_RESOURCE_MAX = 15,
	/*
	 * io_uring of I/O thread i: CONTRACT_FD_RING + i for transfers, CONTRACT_FD_RING +
	 * CONTRACT_MAX_THREADS + i for what is done aside (process/aside.h)
	 */
	CONTRACT_FD_RING = 16,
	CONTRACT_FD_RING_MAX = 47,
	/* first number of the vhost-user session's descriptors */
	CONTRACT_FD_SESSION = 48,
	/* RLIMIT_NOFILE of a sandbox: 509 memory slots and 64 rings fit */
	CONTRACT_FD_LIMIT = 2048,
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
 * Exit statuses, of worker and keeper; 0 is "stopped because asked to, I/O drained". Anything not
 * listed here is a crash. (vmdevd goes by the keeper's; the keeper does not wait for the worker's,
 * it has the reason from state: enum state_end.)
 */
enum contract_exit {
	CONTRACT_EXIT_STOPPED = 0,
	CONTRACT_EXIT_USAGE = 2,    /* program: unusable arguments */
	CONTRACT_EXIT_SESSION = 80, /* worker: the session is over and drained, start a fresh one */
	CONTRACT_EXIT_FAULT = 81,   /* worker: a fatal signal, described in state */
	CONTRACT_EXIT_STATE = 82,   /* worker, keeper: state does not pass its checks (rung 2) */
	CONTRACT_EXIT_HOST = 83,    /* worker, keeper: the host failed; MSG_FAILED says how */
	CONTRACT_EXIT_LIMIT = 84,   /* keeper: too many crashes (rung 3) */
	/* the exec child of vmdevd, before the program runs: a step of the sandbox plan failed;
	 * the text is on its stderr */
	CONTRACT_EXIT_SANDBOX = 85,
};

/*
 * Messages: one datagram each, little endian, in this order and nothing after it:
 *	u32 type, then the fields named in the comment; text is UTF-8 to the end of the datagram.
 */
#define CONTRACT_MSG_MAX_LEN 512u

enum contract_msg {
	/* vmdevd → device */

	/* drain and exit with CONTRACT_EXIT_STOPPED */
	CONTRACT_MSG_STOP = 1,

	/* device → vmdevd */

	/* u32 generation: a worker serves (again); sent after each start. Its SCM_CREDENTIALS give
	 * vmdevd the worker's pid. */
	CONTRACT_MSG_READY = 64,
	/* a front-end has connected; it has gone */
	CONTRACT_MSG_CONNECTED,
	CONTRACT_MSG_DISCONNECTED,
	/* u32 generation, u32 signal, u32 status (0), u32 syscall + 1 (0: none; the system call
	 * that the filter refused): recovery begins */
	CONTRACT_MSG_DIED,
	/* u32 generation, u64 duration_ns: death noticed to rings resumed */
	CONTRACT_MSG_RECOVERED,
	/* u32 queue, u32 head: a request failed after three crashes */
	CONTRACT_MSG_POISON,
	/* text: why the sender is about to exit */
	CONTRACT_MSG_FAILED,
	/* text: the front-end broke the protocol; its session was closed */
	CONTRACT_MSG_PROTOCOL,
};
