/*
 * What is behind a network device: the host's end of a tap, or the switch's end of a port. Whole frames go in and come out.
 *
 * Runs in: test programs, in a network namespace of their own. Trusts: nothing that the device writes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	NW_QUEUES = 2,
	NW_MAX_FRAME = 66000,
	NW_ARGS = 4,
};

struct nw_header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

struct nw_words;

/* One end of one of a port's rings. */
struct nw_lane {
	struct nw_words *words;
	uint8_t *bytes;
	uint32_t at;
};

struct net_wire {
	bool port;
	/* A tap's: what is put in, and what comes out. */
	int in, out;
	/* A port's: */
	int memory, kick, queue[NW_QUEUES];
	uint8_t *map;
	struct nw_lane to_device[NW_QUEUES], to_switch[NW_QUEUES];
	char text[2][64];
	const char *args[NW_ARGS]; /* for the program, NULL-terminated */
};

/* Once a process: a network namespace of its own in which nobody sends but who is asked to. False: there is none. */
bool nw_isolate(void);

/* Before the program starts: it is to get args. A tap is the program's; nw_open_tap() when it is there. */
void nw_prepare(struct net_wire *w, bool port);
int nw_open_tap(struct net_wire *w, unsigned mtu);
void nw_close(struct net_wire *w);

/* A frame for the device, from the host's queue, which a tap chooses itself. False: there is no room. */
bool nw_send(struct net_wire *w, unsigned queue, const struct nw_header *h, const uint8_t *frame,
	     uint32_t len);

/* A frame that the device has sent, and its header: its length; 0: there is none. */
uint32_t nw_receive(struct net_wire *w, struct nw_header *ret_h, uint8_t *frame);

/* In another process than the last one's: go on where that one was, without what it has left. */
void nw_resume(struct net_wire *w);

/* The sum of the Internet's checksums (RFC 1071) over p[0..len), begun with v. */
uint16_t nw_sum(const uint8_t *p, uint32_t len, uint32_t v);

/* In network order. */
void nw_put16(uint8_t *p, uint32_t v);
