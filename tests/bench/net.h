/* The parts of frontend-bench-net: see net.c. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/frontend/session.h"

enum {
	NET_HEADER_LEN = 12, /* struct virtio_net_hdr_v1 */
	NET_MTU_FRAME = 1514,
	NET_LONG_LEN = 65536, /* a GSO frame, the longest that is sent here */
	NET_BATCH = 64,
	NET_QUEUE_SIZE = 256,
};

/* Header and frame, NET_HEADER_LEN + len bytes: a TCP segment, a long one to be cut up. */
void net_make_frame(uint8_t *p, uint32_t len);

/* net-driver.c: the driver of one device. */
struct net_driver {
	struct fe fe;
	uint32_t len;	  /* of the frames that it sends, and expects */
	uint8_t *buffers; /* of the transmit queue, one for each descriptor */
	uint64_t n_sent;
	uint32_t left, got; /* of a frame that has come in part */
};

void net_driver_begin(struct net_driver *d, const char *socket, uint32_t len);
/* Send n frames, or as many as there is room for; how many. */
uint32_t net_driver_send(struct net_driver *d, uint64_t n);
/* The number of whole frames that have come, up to half a queue's buffers. */
uint32_t net_driver_receive(struct net_driver *d);
/* Sleep until a frame comes. False: none has for long. */
bool net_driver_await(struct net_driver *d);

/* net-host.c: the host's end of a tap. */
struct net_host {
	int socket; /* a packet socket on the interface */
	int index;
	int counter;
	uint32_t len;
	uint8_t *frame;
};

void net_host_begin(struct net_host *h, const char *interface, uint32_t len);
/* Put n (NET_BATCH at most) frames into the interface; how many went. */
uint32_t net_host_send(struct net_host *h, uint32_t n);
/* From now on frames that come out can be waited for. */
void net_host_listen(struct net_host *h);
/* Sleep until a frame of ours comes out of the interface. False: none has for long. */
bool net_host_await(struct net_host *h);
/* Frames that have come out of the interface, of whomever. */
uint64_t net_host_arrived(const struct net_host *h);

/* net-bare.c: what a device has to do at the least, without any device, in a process of its own. */
enum net_bare_work { NET_BARE_WRITE, NET_BARE_READ, NET_BARE_ECHO };

struct net_bare {
	pid_t pid;
	int kick, call;	  /* eventfds: a driver's, for NET_BARE_ECHO */
	uint64_t *n_done; /* frames read or written */
};

/* The tap, up and running, which becomes the interface of that name. */
int net_bare_open(const char *interface);
void net_bare_begin(struct net_bare *b, int tap, enum net_bare_work work, uint32_t len);

/* net-pass.c: the same for frames from guest to guest, without guests: three processes, and two rings between them. */
struct net_pass {
	pid_t pids[3];
	uint64_t *n_done; /* frames that have come */
};

void net_pass_begin(struct net_pass *b, uint32_t len);
