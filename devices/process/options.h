/*
 * What a device program was asked to do: the options that all types share.
 *
 * Runs in: program start; again each time the keeper begins anew; its worker has the same copy.
 * Trusts:  who started it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum options_mode {
	OPTIONS_BY_HAND,  /* nothing is in place: open the resources, then go on as below */
	OPTIONS_ARRANGED, /* by hand, descriptors at contract numbers, no vmdevd, no filter */
	OPTIONS_CONTRACT, /* started by vmdevd */
};

/* What the keeper tells itself across its exec; the worker has no way to write it. */
struct options_resume {
	bool set;
	uint32_t generation;
	uint32_t n_threads;
	uint32_t n_faults;	    /* in the present interval */
	uint64_t interval_start_ns; /* CLOCK_MONOTONIC */
	uint32_t n_stillborn;	    /* workers in a row that died before they served */
	uint64_t sessions_paid_ns;  /* until when those that were had take up their time */
	pid_t worker;		    /* it runs already; 0: start one */
};

struct options {
	enum options_mode mode;
	const char *name;	 /* VM/DEVICE, for records */
	const char *socket_path; /* by hand */
	int fd;			 /* by hand: a socket, listening or connected; -1: none */
	pid_t keeper;		 /* by hand: the keeper's pid, set by itself */
	bool connected;		 /* the session's socket is there already, at CONTRACT_FD_SESSION */
	uint32_t queues; /* virtqueues: what --queues counts, and what goes with it (program.h) */
	uint32_t queue_size;
	uint32_t restart_limit;
	uint64_t restart_interval_ns;
	uint64_t restart_backoff_ns;
	uint64_t hang_timeout_ns; /* 0: no watchdog */
	bool no_io_uring;
	uint64_t uring_opcodes; /* that rings may have, bit n for opcode n */
	bool print_capabilities;
	bool list_crash_points;
	bool help;
	struct options_resume resume;
};

/* An option of the device type: "--name=VALUE", or "--name" if it takes none. */
struct options_row {
	const char *name;
	const char *value; /* what it is called in the help; NULL: takes none */
	const char *help;
	/* 0, or a negative errno for a value that cannot be used; value is NULL without one. */
	int (*set)(void *config, const char *value);
};

/*
 * Parse argv: the shared options into *o, the type's rows (ended by a NULL name) into config.
 * Strings point into argv. 0, or -EINVAL after having said on stderr which argument is wrong and
 * what is accepted.
 */
int options_parse(struct options *o, const struct options_row *rows, void *config,
		  char *const *argv);

/* To stdout: the rows, and the options that every device program has. */
void options_help(const char *program, const struct options_row *rows);

/*
 * argv for the keeper's exec: with --resume, and with --arranged and --connected where that is so.
 * Storage is static; NULL-terminated.
 */
char *const *options_for_exec(char *const *argv, const struct options *o);
