/*
 * A vsock device between a guest that sends anything and host programs that do anything, and whose worker dies: the input is a list of
 * operations. Whatever comes, the state is one that the next worker takes, and no packet is for anybody but this guest.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "devices/base/wire.h"
#include "tests/hostile/fuzz/fuzz.h"
#include "tests/unit/vsock-bench.h"

enum { MAX_HOSTS = 24, PORTS = 4, FIRST_PORT = 1024, MAX_PAYLOAD = BENCH_TX_LEN - 44 };

static int hosts[MAX_HOSTS];
static unsigned n_hosts;
static bool rx_changed; /* its buffers may be each other's parts: what is in them says nothing */
static uint8_t bytes[BENCH_TX_LEN];

static void keep(int host)
{
	if (n_hosts < MAX_HOSTS)
		hosts[n_hosts++] = host;
	else
		close(host);
}

static void any_packet(struct wire_reader *r)
{
	struct virtio_vsock_hdr h = { 0 };
	uint32_t len;

	wire_get_bytes(r, &h, sizeof(h));
	len = wire_get_u16(r) % (MAX_PAYLOAD + 1);
	bench_send(&h, bytes, len);
}

/* One that has a connection's address, likely. */
static void likely_packet(struct wire_reader *r)
{
	uint8_t op = wire_get_u8(r), ports = wire_get_u8(r);
	struct virtio_vsock_hdr h = bench_header(op % 9, FIRST_PORT + ports % PORTS,
						 BENCH_HOST_PORT + ports / PORTS % 2);
	const struct store *s = bench_store();

	/* To one that a host program has opened: the device has chosen the port. */
	if (ports & 0x80 && s->n_conns > 0) {
		const struct conn *c = &s->conns[ports % s->n_conns];

		h.dst_cid = c->peer_cid;
		h.dst_port = c->peer_port;
		h.src_port = c->guest_port;
	}
	h.type = 1 + (op >> 7);
	h.flags = wire_get_u8(r);
	h.len = wire_get_u16(r);
	h.buf_alloc = wire_get_u32(r);
	h.fwd_cnt = wire_get_u32(r);
	bench_send(&h, bytes, h.len <= MAX_PAYLOAD ? h.len : MAX_PAYLOAD);
}

static void answer(uint8_t how)
{
	uint64_t serial;
	int pair[2];

	if (!bench_asked(&serial))
		return;
	if (how & 1) {
		bench_answer(serial, how, -1);
		return;
	}
	CLAIM(socketpair(AF_UNIX, (how & 2 ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_NONBLOCK, 0,
			 pair) == 0);
	if (how & 4)
		bench_incoming(how, 7, FIRST_PORT + how % PORTS, pair[1]);
	else
		bench_answer(serial + (how >> 6), 0, pair[1]);
	close(pair[1]);
	/* Above what a connection's socket of the device's may have. */
	if (n_hosts < MAX_HOSTS && (hosts[n_hosts] = dup2(pair[0], 900 + (int)n_hosts)) >= 0)
		n_hosts++;
	close(pair[0]);
}

static void host(struct wire_reader *r)
{
	uint8_t which = wire_get_u8(r), n = wire_get_u8(r);
	uint8_t text[255] = { 0 };
	int fd = n_hosts ? hosts[which % n_hosts] : -1;

	switch (which >> 6) {
	case 0:
	case 1:
		wire_get_bytes(r, text, n);
		(void)!send(fd, text, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 2:
		(void)!recv(fd, text, n, MSG_DONTWAIT);
		break;
	default:
		shutdown(fd, n % 3);
	}
}

/* A guest, behind its device's back. */
static void scribble(struct wire_reader *r)
{
	uint8_t where = wire_get_u8(r);
	unsigned ring = where >> 7 ? VSOCK_TX : VSOCK_RX;
	struct ring_desc *d = bench_desc(ring, where % BENCH_SIZE);

	rx_changed |= ring == VSOCK_RX;
	d->len = wire_get_u16(r);
	d->flags = wire_get_u8(r) % 8;
	d->next = wire_get_u8(r) % (BENCH_SIZE + 1);
}

static void read_packets(void)
{
	struct virtio_vsock_hdr h;
	uint8_t payload[BENCH_RX_LEN];

	while (bench_receive(&h, payload)) {
		if (rx_changed)
			continue;
		CLAIM(h.dst_cid == BENCH_CID);
		CLAIM(h.len <= BENCH_RX_LEN - sizeof(h));
		/* Bytes of a connection that has ended meanwhile have no operation any more. */
		CLAIM(h.len == 0 || h.op == VIRTIO_VSOCK_OP_RW || h.op == VIRTIO_VSOCK_OP_INVALID);
	}
}

static void step(struct wire_reader *r)
{
	switch (wire_get_u8(r) % 10) {
	case 0:
		any_packet(r);
		break;
	case 1:
	case 2:
		likely_packet(r);
		break;
	case 3:
		bench_half_turn();
		break;
	case 4:
		bench_turn();
		read_packets();
		break;
	case 5:
		CLAIM(bench_begin());
		break;
	case 6:
		if (n_hosts < MAX_HOSTS)
			keep(bench_connect(wire_get_u8(r) & 1));
		break;
	case 7:
		host(r);
		break;
	case 8:
		answer(wire_get_u8(r));
		break;
	default:
		scribble(r);
	}
	CLAIM(store_check(bench_store()));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct wire_reader r = wire_reader(data, len);

	rx_changed = false;
	CLAIM(bench_session(0));
	while (wire_left(&r) > 0 && !r.bad)
		step(&r);
	bench_turn();
	CLAIM(bench_begin());
	bench_turn();
	CLAIM(store_check(bench_store()));
	while (n_hosts > 0)
		close(hosts[--n_hosts]);
	return 0;
}
