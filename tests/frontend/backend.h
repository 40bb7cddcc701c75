/* A back-end program under test, started by hand in a directory of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	BACKEND_MAX_ARGS = 32,
};

struct backend_spec {
	const char *program; /* vmdev-blk, vmdev-blk-crash, …, or qemu-storage-daemon */
	const char *image;   /* NULL: a fresh sparse file of image_len in the directory */
	const char
		*share; /* a file system device shares this directory; "": a fresh one. NULL: blk */
	const char *dir; /* NULL: a fresh one below $TMPDIR or /var/tmp */
	unsigned cid;	 /* a vsock device of this guest; 0: another device */
	bool net;	 /* a network device, whose host side args name */
	uint64_t image_len;
	unsigned n_queues;
	unsigned queue_size;
	const char *cache;	 /* none, writeback, writethrough; NULL: writeback */
	const char *const *args; /* more, NULL-terminated; may be NULL */
	const char *const *env;	 /* "NAME=value", NULL-terminated; may be NULL */
	int fd;			 /* > 0: a connected vhost-user socket, for --fd */
	const char *log;	 /* stderr goes here; NULL: DIR/log */
	bool contract;		 /* not by hand, but as vmdevd does (contract.h) */
};

struct backend {
	pid_t pid;   /* of the keeper, for our own programs */
	int control; /* vmdevd's end of the contract socket; 0: started by hand */
	char dir[128];
	char socket[160];
	char uds[160]; /* a vsock device's, for host programs */
	char image[256];
	char share[256]; /* empty: no file system device */
	char log[256];
	bool own_dir, own_image, own_share;
};

/* 0 when the program accepts connections; else negative errno, and nothing is left behind. */
int backend_start(struct backend *b, const struct backend_spec *spec);
int backend_stop(struct backend *b,
		 int *ret_status); /* SIGTERM; wait status; -ETIMEDOUT after 5 s */
bool backend_alive(struct backend *b);
void backend_show_log(const struct backend *b);
bool backend_log_has(const struct backend *b, const char *text); /* in one of its lines */
void backend_show_end(const struct backend *b);
void backend_done(struct backend *b); /* ends what still runs, removes the directory */

/*
 * Not dead: a process may wait to be reaped, for seconds if that is left to the host's init.
 */
bool backend_process_lives(pid_t pid);

/*
 * The worker: the eldest child of the keeper that lives and does not stand by. 0 while there is none. One that is being
 * killed may live for a while.
 */
pid_t backend_worker(pid_t keeper);
unsigned backend_n_children(pid_t keeper); /* dead ones that are not reaped among them */
pid_t backend_worker_await(pid_t keeper, pid_t not_this, int timeout_ms);
int backend_run(const char *program, const char *const *args, char *out, size_t out_len);
