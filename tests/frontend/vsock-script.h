/*
 * What is done over a vsock device while its worker dies: streams and messages, each of whose bytes is known in advance.
 *
 * Runs in: test programs. Trusts: nothing that comes out of the device.
 */
#pragma once

#include "tests/frontend/vsock-driver.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { VS_STREAMS = 80 };

/* Both ends of one connection. The host's end is slow now and then, so that bytes have to wait for it. */
struct vs_stream {
	bool used, seqpacket, by_host, aborted;
	uint64_t key;
	uint64_t len; /* each way */
	struct vd_conn *guest;
	int host;    /* -1: not yet */
	bool asking; /* a host program awaits the answer to its CONNECT */
	unsigned line_len;
	uint64_t guest_sent, guest_got, host_sent, host_got;
	bool guest_eof, host_eof;   /* have been seen there */
	bool guest_shut, host_shut; /* have been done there */
	char line[40];
	uint64_t sleeps_until_ns; /* the host's end */
	uint64_t message_left;
};

struct vs_script {
	const char *socket, *uds;
	struct vd vd;
	int listening[2]; /* host ports 5000, SOCK_STREAM, and 5001, SOCK_SEQPACKET */
	struct vs_stream streams[VS_STREAMS];
	struct vs_stream peers[2]; /* what each of two guests' ends receives */
	struct vd_conn *peer_ends[2];
	uint64_t deadline_ns;
	uint64_t n_bytes;
	uint64_t random;
	/* Now and then; NULL: nothing. */
	void (*meanwhile)(struct vs_script *s);
	uint64_t last_moved_ns; /* when a byte last arrived somewhere */
};

uint64_t vs_now_ns(void);
void vs_begin(struct vs_script *s, uint16_t ring_size);
/* One more connection, that moves len bytes each way and is then closed by both. */
struct vs_stream *vs_add(struct vs_script *s, bool by_host, bool seqpacket, uint64_t len);
/* A turn of everything; false: all streams have ended as they had to. */
bool vs_turn(struct vs_script *s);
/* What has become of each, on stderr. */
void vs_show(const struct vs_script *s);
/* Until all have. */
void vs_run(struct vs_script *s);
void vs_end(struct vs_script *s);

/*
 * Kill a worker; returns when its successor serves, and how long that took. 0: it had gone already. (Bytes that are in sockets and
 * rings move without any.)
 */
uint64_t vs_kill(struct vs_script *s, pid_t worker);

/* All that the device does, once over. */
void vs_script(struct vs_script *s);
