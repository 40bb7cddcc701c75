/*
 * frontend-vsock-hostile: a guest that sends nonsense hurts the connections that it is about, and nothing else.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says.
 *
 *	frontend-vsock-hostile --program=vmdev-vsock [--packets=N] [--seed=S]
 *
 * While streams and messages run, whose every byte is checked, packets with lies in each field are sent: lengths, CIDs, operations, types, flags,
 * chains too short for a header, data beyond any credit on connections that are there for that, and requests for
 * thousands of connections. The streams have to end as they would, and no worker may have died.
 */
#include "tests/frontend/backend.h"
#include "tests/frontend/fill.h"
#include "tests/frontend/trial.h"
#include "tests/frontend/vsock-script.h"

#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VICTIM_PORT = 900000, N_STREAMS = 8, STREAM_LEN = 1500000 };

static struct fill_random chance;
static unsigned n_packets = 20000, n_sent;

static uint32_t any_number(void)
{
	static const uint32_t numbers[] = { 0,	  1,	 2,	3,	43,	   44,	      45,
					    4096, 65535, 65536, 262144, INT32_MAX, UINT32_MAX };

	return numbers[fill_below(&chance, sizeof(numbers) / sizeof(*numbers))];
}

/* Never of a stream's address: those have ports of their own. */
static void nonsense(struct vs_script *s)
{
	static uint8_t bytes[VD_TX_LEN];
	struct virtio_vsock_hdr h = {
		.src_cid = fill_below(&chance, 8) ? VD_CID : any_number(),
		.dst_cid = fill_below(&chance, 4) ? 2 : any_number(),
		.src_port = VICTIM_PORT + (uint32_t)fill_below(&chance, 5000),
		.dst_port = fill_below(&chance, 2) ? 5000 + (uint32_t)fill_below(&chance, 2) + 900
						   : any_number(),
		.type = fill_below(&chance, 4) ? (uint16_t)(1 + fill_below(&chance, 2))
					       : (uint16_t)any_number(),
		.op = (uint16_t)fill_below(&chance, 10),
		.flags = any_number(),
		.len = any_number(),
		.buf_alloc = any_number(),
		.fwd_cnt = any_number(),
	};
	uint32_t len = fill_below(&chance, 3) ? (h.len < VD_TX_LEN ? h.len : VD_TX_LEN)
					      : (uint32_t)fill_below(&chance, VD_TX_LEN);

	/* A REQUEST to a port that answers would be one of the script's listening sockets'. */
	if (fill_below(&chance, 16) == 0)
		h.op = (uint16_t)any_number();
	n_sent += vd_packet(&s->vd, &h, bytes, len);
}

static void meanwhile(struct vs_script *s)
{
	for (unsigned i = 0; i < 8 && n_sent < n_packets; i++)
		nonsense(s);
}

static void script(void *arg)
{
	struct vs_script *s = arg;

	s->meanwhile = meanwhile;
	vs_begin(s, 128);
	do {
		for (unsigned i = 0; i < N_STREAMS; i++)
			vs_add(s, i & 1, i % 4 == 3, STREAM_LEN);
		vs_run(s);
	} while (n_sent < n_packets);
	vs_end(s);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "program", required_argument, NULL, 'p' },
						 { "packets", required_argument, NULL, 'n' },
						 { "seed", required_argument, NULL, 's' },
						 {} };
	static struct vs_script s;
	struct backend_spec spec = { .cid = VD_CID };
	struct backend b;
	bool died;
	int c, r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		if (c == 'p')
			spec.program = optarg;
		else if (c == 'n')
			n_packets = (unsigned)atoi(optarg);
		else if (c == 's')
			chance.state = strtoull(optarg, NULL, 0);
		else
			return 2;
	if (!spec.program)
		errx(2, "usage: frontend-vsock-hostile --program=PATH [--packets=N] [--seed=S]");
	r = backend_start(&b, &spec);
	if (r < 0)
		errx(1, "%s does not start: %s", spec.program, strerror(-r));
	s.socket = b.socket;
	s.uds = b.uds;
	r = trial_in_child(script, &s);
	died = backend_log_has(&b, "worker") || !backend_alive(&b);
	if (r || died)
		backend_show_log(&b);
	printf("%u packets of nonsense: %s\n", n_packets,
	       r      ? "a stream was hurt"
	       : died ? "a worker has died"
		      : "nothing else was hurt");
	backend_done(&b);
	return r || died;
}
