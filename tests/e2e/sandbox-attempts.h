/*
 * What an attacker inside a device process tries: the form of the tables of sandbox-inject.
 *
 * Runs in: a test.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Arguments that are known only at run time. */
enum {
	ARG_TEXT = 0x7e570001,	   /* the address of the attempt's text */
	ARG_ZEROS = 0x7e570002,	   /* the address of a zeroed page part */
	ARG_OUTSIDER = 0x7e570003, /* a process outside: vmdevd */
	ARG_SOCKET = 0x7e570004,   /* the address of a struct sockaddr_un with the attempt's text */
	ARG_IOVEC = 0x7e570005,	   /* the address of a struct iovec of eight bytes there */
	ARG_LAST = 0x7e570006,	   /* the descriptor that the attempt before this one got */
	ARG_CAPS = 0x7e570007,	   /* the address of a capability header of version 3 */
	ARG_ALL_CAPS = 0x7e570008, /* the address of its data: every capability in every set */
	ARG_HANDLE = 0x7e570009,   /* the address of a file handle, with a mount id after it */
	ARG_NUMBER = 0x7e57000a,   /* the number given on the command line */
	ARG_NAME = 0x7e57000b,	   /* the address of a file name, and name of an attribute */
	ARG_MESSAGE =
		0x7e57000c, /* the address of a struct mmsghdr: a byte, sent as user and group 0 */
};

/* What the filter answers. */
enum answer {
	SIGNAL = 0, /* the call never happens; SIGSYS */
	PASSES,	    /* the filter lets it through; another mechanism refuses, with attempt.error */
	NOTHING,    /* the call works, and that is right: see the attempt's words */
	OTHERWISE,  /* of a file system device another table says it */
};

struct attempt {
	const char *what;
	long nr;
	uint64_t args[6];
	const char *text;
	enum answer keeper; /* of the worker it is always SIGNAL */
	int error;	    /* for PASSES: the errno that the keeper gets */
};

/* What comes of it in a device that shares a directory: one of these, or an errno. */
enum {
	FILTER = 0,	   /* the call never happens; SIGSYS */
	WORKS = -1,	   /* and that is right: see the attempt's words */
	GIVES_ROOT = -2,   /* a descriptor of the shared directory itself */
	GIVES_PROC = -3,   /* a descriptor of something in the sandbox's own proc */
	GIVES_SEALED = -4, /* a descriptor of a sealed memfd */
};

/*
 * In the text stands $ for the path of a file outside that nobody may touch, # for the pid of the
 * process outside, @ for the number given on the command line.
 */
struct fs_attempt {
	const char *what;
	long nr;
	uint64_t args[6];
	const char *text;
	int host, own; /* with "ids": "host", and with "ids": "own" */
	int keeper;    /* where it is not the same as the worker's */
};

/* For fs_attempt.nr: done from outside, by the host. The directory "inner" is moved out of the shared one, and back. */
enum {
	HOST_MOVES_OUT = -1,
	HOST_MOVES_BACK = -2,
};

/* For fs_attempt.keeper. */
enum {
	THE_SAME = 0,
	NOT_ASKED = -100, /* it is the keeper's own, or it is allowed to a starting worker */
};

/* Of every device. */
extern const struct attempt attempts[];
extern const size_t n_attempts;
/* Of a process whose filter lets these through: what the rest of the sandbox refuses. */
extern const struct attempt unfiltered[];
extern const size_t n_unfiltered;
/* Of a device that has connected sockets of others'. */
extern const struct attempt vsock_attempts[];
extern const size_t n_vsock_attempts;

extern const struct fs_attempt fs_attempts[];
extern const size_t fs_n_attempts;
/* Of a process whose filter lets these through. */
extern const struct fs_attempt fs_unfiltered[];
extern const size_t fs_n_unfiltered;
/* With a file of the host's that the front-end opened for reading, and sent. */
extern const struct fs_attempt fs_guest_fd[];
extern const size_t fs_n_guest_fd;
/* With a socket of the front-end's. */
extern const struct fs_attempt fs_guest_socket[];
extern const size_t fs_n_guest_socket;
