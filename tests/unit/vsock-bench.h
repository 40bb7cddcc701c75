/*
 * A vsock device without its processes: the model itself, on rings in memory, with host sockets that are a test's. A worker's
 * death is that nothing of its memory is left but the store, the rings and the in-flight record: bench_begin() once more.
 *
 * Runs in: tests; one in a program. Trusts: the test, but what the test puts into rings, sockets and store may be anything.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/vsock/vsock.h"

enum {
	BENCH_CID = 42,
	BENCH_SIZE = 64,	/* of each ring */
	BENCH_RX_LEN = 1024,	/* of a receive buffer */
	BENCH_TX_LEN = 1024,	/* of a packet to the device, header and payload */
	BENCH_HOST_PORT = 5000, /* in bench_request() */
};

/*
 * A new session, of which nothing is left from an earlier one but how far the rings have come: as when a fresh sandbox
 * takes the place of one. False: the state is refused.
 */
bool bench_session(uint16_t used_idx);
/* A worker begins; whatever was before. False: it refuses the state. */
bool bench_begin(void);

struct store *bench_store(void);
struct vsock *bench_vsock(void);

/* The driver makes a packet available; its head. -1: no descriptor is free. */
int bench_send(const struct virtio_vsock_hdr *h, const void *payload, uint32_t len);
/* A descriptor, to be changed, as a guest may. */
struct ring_desc *bench_desc(unsigned ring, uint16_t head);
struct virtio_vsock_hdr bench_header(uint16_t op, uint32_t guest_port, uint32_t host_port);
/* The thread has a turn: everything is taken, and published. */
void bench_turn(void);
/* Chains are popped, and are in flight; a worker has done nothing about them. */
void bench_pop(unsigned ring, unsigned n);
/* So many workers have died over this head. */
void bench_suspect(uint16_t head, uint8_t n_deaths);
/* Turns, until the device touches guest memory that is not there: whose head it suspects then (struct state_thread). */
uint32_t bench_fault(void);
/* As bench_send(), with a payload at which the device faults. */
int bench_send_faulty(const struct virtio_vsock_hdr *h, uint32_t len);
/* The same without publication: so far a worker may have come when it dies. */
void bench_half_turn(void);
/* The next packet for the guest, its buffer posted again; false: there is none. */
bool bench_receive(struct virtio_vsock_hdr *ret, uint8_t payload[BENCH_RX_LEN]);
/* The next event; false: there is none. */
bool bench_event(uint32_t *ret_id);
void bench_post_event(void);

/* The end of the broker's channel that is vmdevd's. */
int bench_broker(void);
/* What the device asks for next; false: nothing. */
bool bench_asked(uint64_t *ret_serial);
void bench_answer(uint64_t serial, uint32_t error, int fd);
void bench_incoming(uint64_t cid, uint32_t port, uint32_t guest_port, int fd);

/* A guest's connection, open: the host's end of it. */
int bench_open(uint32_t guest_port, uint16_t type);
/* A host program that has connected. */
int bench_connect(bool seqpacket);
