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
 *  3. Contract descriptors have no CLOEXEC: the keeper may execute itself and they outlive that.
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
	/*
	 * the device program itself, open for reading: for execveat(AT_EMPTY_PATH), and to be
	 * mapped anew
	 */
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
	/* the same of a fs device, whose guest's files are descriptors too */
	CONTRACT_FD_LIMIT_FS = 1 << 17,
	/* of a vsock device, each of whose connections is one */
	CONTRACT_FD_LIMIT_VSOCK = 8192,
	/* the same of vmdev-switch, which has an eventfd for each queue of each port */
	CONTRACT_FD_LIMIT_SWITCH = 1 << 14,
	CONTRACT_FD_LIMIT_MAX = CONTRACT_FD_LIMIT_FS, /* of any type */
};

/* Resources of a blk device. */
enum {
	CONTRACT_FD_BLK_IMAGE = CONTRACT_FD_RESOURCE, /* opened with the flags of its cache mode */
};

/* Resources of a fs device. */
enum {
	/* the shared directory: O_PATH | O_DIRECTORY */
	CONTRACT_FD_FS_ROOT = CONTRACT_FD_RESOURCE,
	/* a mount of proc that shows the worker itself as "self": O_PATH | O_DIRECTORY */
	CONTRACT_FD_FS_PROC,
};

/*
 * Resources of a net device. It has no I/O rings: their numbers are its queues'.
 */
enum {
	/* a port of the switch: its memory, and the eventfd that wakes the switch */
	CONTRACT_FD_NET_MEMORY = CONTRACT_FD_RESOURCE,
	CONTRACT_FD_NET_KICK,
	/*
	 * one of the host side's for each queue pair, where it has one: a tap's queue, the eventfd
	 * by which the switch wakes us
	 */
	CONTRACT_FD_NET_QUEUE = CONTRACT_FD_RING,
	CONTRACT_FD_NET_QUEUE_MAX = CONTRACT_FD_RING_MAX,
};

/* Resources of a vsock device. */
enum {
	/* listening sockets, SOCK_STREAM and SOCK_SEQPACKET; /dev/null where there is none */
	CONTRACT_FD_VSOCK_STREAM = CONTRACT_FD_RESOURCE,
	CONTRACT_FD_VSOCK_SEQPACKET,
	/* SOCK_SEQPACKET to whoever makes connections for it: vmdevd */
	CONTRACT_FD_VSOCK_BROKER,
};

enum {
	CONTRACT_MAX_THREADS = 16, /* I/O threads in a worker; the main thread is one more */
	CONTRACT_MAX_QUEUES = 64,
	CONTRACT_FS_EXTRA_QUEUES = 1, /* the one for urgent requests: not counted by --queues */
	CONTRACT_NET_MAX_PAIRS = 31,  /* with the control queue, 63 virtqueues */
	CONTRACT_VSOCK_QUEUES = 3,    /* rx, tx, event; always these */
};
_Static_assert(CONTRACT_NET_MAX_PAIRS <= CONTRACT_FD_NET_QUEUE_MAX - CONTRACT_FD_NET_QUEUE + 1 &&
		       2 * CONTRACT_NET_MAX_PAIRS + 1 <= CONTRACT_MAX_QUEUES,
	       "a number and two virtqueues for each pair");

/*
 * What options may say: vmdevd refuses anything else in a document, the program in its arguments.
 */
enum {
	CONTRACT_QUEUE_SIZE_MIN = 4, /* a request has up to three parts even without data */
	CONTRACT_QUEUE_SIZE_MAX = 1024,
};
#define CONTRACT_IOPS_MAX      UINT64_C(1000000000)
#define CONTRACT_BANDWIDTH_MIN UINT64_C(4000) /* "4K" */
#define CONTRACT_BANDWIDTH_MAX UINT64_C(1000000000000)

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
	/* u32 syscall: the keeper's filter refused it this system call; it is about to exit */
	CONTRACT_MSG_REFUSED,
};

/*
 * A port of the switch: what vmdevd makes for a net device whose other end is vmdev-switch, and how
 * it tells that program (devices/net/switch/). The rings in the memory are described in
 * devices/net/lane.h.
 *
 * The switch is started with CONTRACT_FD_LOG, CONTRACT_FD_CONTROL, CONTRACT_FD_PROGRAM and
 * CONTRACT_FD_FILTER, and has no other descriptor but those of its ports, which come with messages.
 */
enum {
	CONTRACT_PORT_MAX_QUEUES = CONTRACT_NET_MAX_PAIRS,
	CONTRACT_PORT_RING_LEN = 1 << 20,
	CONTRACT_PORT_AREA_LEN = 8192, /* before the rings */
	CONTRACT_SWITCH_MAX_PORTS = 256,
	CONTRACT_SWITCH_MAX_VLANS = 64, /* ranges of a trunk */
	CONTRACT_SWITCH_MAX_ADDRESSES = 16,
	CONTRACT_SWITCH_MSG_MAX_LEN = 1024,
	/*
	 * of a port: its memory and the switch's eventfd, then an eventfd of the device's a queue
	 */
	CONTRACT_SWITCH_MAX_FDS = 2 + CONTRACT_PORT_MAX_QUEUES,
};

/* Bytes of a port's memory: two rings for each pair of virtqueues. */
static inline uint64_t contract_port_len(uint32_t n_queues)
{
	return CONTRACT_PORT_AREA_LEN + UINT64_C(2) * n_queues * CONTRACT_PORT_RING_LEN;
}

enum contract_port_flags {
	CONTRACT_PORT_BOUND = 1 << 0, /* its MAC address is the only source; nobody else's */
	CONTRACT_PORT_TAGGED =
		1 << 1, /* frames keep their VLAN tags: a trunk, or no VLANs at all */
	CONTRACT_PORT_UNTAGGED = 1 << 2, /* frames without a tag are of VLAN native */
};

/*
 * Messages to the switch: one datagram each, as above. What it sends is CONTRACT_MSG_READY,
 * CONTRACT_MSG_FAILED, and CONTRACT_SWITCH_MSG_GONE.
 */
enum contract_switch_msg {
	/*
	 * u32 port, u32 flags, u8[6] mac, u16 native, u16 n, n × (u16 first, u16 last) VLANs,
	 * u16 n, n × u8[16] IP addresses (IPv4 as ::ffff:a.b.c.d; none: any), u32 n_queues,
	 * text name. With 2 + n_queues descriptors: memory, the switch's eventfd, the device's.
	 */
	CONTRACT_SWITCH_MSG_PORT = 128,
	/* the same; n_queues is 0, and the one descriptor a stream socket of a user-mode stack: u32
	 * length, big endian, and frame */
	CONTRACT_SWITCH_MSG_STREAM,
	/* u32 port: it is taken away */
	CONTRACT_SWITCH_MSG_REMOVE,
	/* all ports that there are for now have been told of: frames may go */
	CONTRACT_SWITCH_MSG_BEGIN,
	/* switch → vmdevd: u32 port: the stream has ended */
	CONTRACT_SWITCH_MSG_GONE,
};

/*
 * On the channel at CONTRACT_FD_VSOCK_BROKER, in the same form. The device makes no socket and
 * names no path: it asks, and gets a connected one. vmdevd decides who may (daemon/broker.h).
 */
#define CONTRACT_VSOCK_MSG_LEN 64u

/* SOCK_SEQPACKET host programs connect to the device's socket with this after its name. */
#define CONTRACT_VSOCK_SEQPACKET_SUFFIX ".seqpacket"

enum contract_vsock_msg {
	/*
	 * device → vmdevd: u64 serial, u64 cid, u32 port: where the guest wants to go; u32 its own
	 * port; u32 type (1: SOCK_STREAM, 2: SOCK_SEQPACKET)
	 */
	CONTRACT_VSOCK_ASK = 1,
	/*
	 * vmdevd → device: u64 serial, u32 errno, u32 1 if another guest is to accept it first,
	 * which its device tells by one byte. With a connected socket if errno is 0.
	 */
	CONTRACT_VSOCK_ANSWER = 64,
	/* vmdevd → device: u64 cid, u32 port: another guest; u32 port of this one; u32 type. With a
	 * connected socket. */
	CONTRACT_VSOCK_INCOMING,
};
