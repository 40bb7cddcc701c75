/*
 * The guest's side of a vsock device: a driver that checks every packet against the rules of VIRTIO 1.3 §5.10.6.
 *
 * Runs in: test programs. Trusts: nothing that the device sends; what is wrong ends the program.
 */
#pragma once

#include "tests/frontend/session.h"

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	VD_CID = 42,
	VD_RX_LEN = 4096 - 320, /* as Linux has it */
	VD_RX_MAX = 128,
	VD_TX_MAX = 64,
	VD_TX_LEN = 64 << 10,
	VD_CONNS = 256,
	VD_STRAY_PORT = 815, /* that no connection has */
	VD_ALLOC = 256 << 10,
};

enum vd_state { VD_FREE, VD_ASKED, VD_OPEN, VD_REFUSED, VD_RESET };

struct vd_conn {
	enum vd_state state;
	uint64_t peer_cid;
	uint32_t port, peer_port;
	uint16_t type;
	uint32_t alloc;		 /* what we grant */
	uint32_t granted;	 /* lowest grant that the device may still go by */
	uint32_t received, read; /* bytes; read: the device has been told that they are */
	uint32_t sent, peer_alloc, peer_fwd;
	uint8_t peer_done, done; /* shutdown flags */
	bool message_ended;	 /* the last data packet had EOM */
	void *owner;
};

struct vd {
	struct fe fe;
	struct vd_conn conns[VD_CONNS];
	void *rx[VD_RX_MAX];
	uint8_t *tx[VD_TX_MAX];
	bool tx_busy[VD_TX_MAX];
	unsigned n_rx_posted, rx_wanted; /* how many buffers to post */
	bool hold_rx;			 /* post no more */
	/* What happens to a connection; c is as it is after that. */
	void (*on_request)(struct vd *vd,
			   struct vd_conn *c); /* somebody wants to connect: vd_accept, vd_reset */
	void (*on_data)(struct vd *vd, struct vd_conn *c, const uint8_t *bytes, uint32_t len,
			bool end);
	void *arg;
	uint32_t stray;	    /* the peer's port of the last RST for VD_STRAY_PORT */
	unsigned n_unknown; /* RSTs for ports of no connection's */
	unsigned n_resets_wanted;
};

void vd_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A session with rings of this size; the buffers are posted. */
void vd_begin(struct vd *vd, const char *socket, uint16_t size);

/* Take what the device has given back; the number of packets. */
unsigned vd_poll(struct vd *vd);
/* Descriptors to sleep on: calls. */
int vd_call_fd(const struct vd *vd, unsigned queue);

struct vd_conn *vd_connect(struct vd *vd, uint64_t cid, uint32_t port, uint16_t type);
void vd_accept(struct vd *vd, struct vd_conn *c);
void vd_reset(struct vd *vd, struct vd_conn *c);
void vd_shutdown(struct vd *vd, struct vd_conn *c, uint8_t flags);
/* n bytes of ours have been read: the device is told now and then. */
void vd_read(struct vd *vd, struct vd_conn *c, uint32_t n);
/* Send up to len bytes, as credit and a free buffer allow; how many. */
uint32_t vd_send(struct vd *vd, struct vd_conn *c, const void *bytes, uint32_t len, bool end);
void vd_free(struct vd_conn *c);

/* Any packet. False: no buffer is free. */
bool vd_packet(struct vd *vd, const struct virtio_vsock_hdr *h, const void *bytes, uint32_t len);
struct virtio_vsock_hdr vd_header(const struct vd_conn *c, uint16_t op);
