/* Connections through a vsock device. See vsock-script.h. */
#include "tests/frontend/vsock-script.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ENDLESS (UINT64_C(1) << 40)

enum {
	STREAM = VIRTIO_VSOCK_TYPE_STREAM,
	SEQPACKET = VIRTIO_VSOCK_TYPE_SEQPACKET,
	HOST_PORT = 5000,
	GUEST_PORT = 6000,
	NOBODY = 5999,
	PEER_PORT = 7000,
	MAX_PIECE = 40000,
	SOCKET_LEN = 220000, /* about what a host socket takes without a reader */
	TIMEOUT_S = 40,
	N_ASKS = 4,
};

uint64_t vs_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static uint64_t chance(struct vs_script *s, uint64_t below)
{
	return mix(s->random++) % below;
}

/* The bytes from a position on; up: from the guest to the host. */
static void fill(const struct vs_stream *t, bool up, uint64_t pos, uint8_t *to, uint32_t len)
{
	for (uint32_t i = 0; i < len;) {
		uint64_t word = mix(t->key * 2 + up + (pos + i) / 8 * 977);
		uint32_t at = (pos + i) % 8, n = 8 - at < len - i ? 8 - at : len - i;

		memcpy(to + i, (uint8_t *)&word + at, n);
		i += n;
	}
}

static void check(struct vs_script *s, const struct vs_stream *t, bool up, uint64_t pos,
		  const uint8_t *bytes, uint32_t len)
{
	static uint8_t wanted[2 * MAX_PIECE];

	fill(t, up, pos, wanted, len);
	if (memcmp(bytes, wanted, len) != 0)
		vd_fail("stream %llu %s: bytes from %llu on are not those that were sent",
			(unsigned long long)t->key, up ? "up" : "down", (unsigned long long)pos);
	if (pos + len > t->len)
		vd_fail("stream %llu %s: more bytes than were sent", (unsigned long long)t->key,
			up ? "up" : "down");
	s->n_bytes += len;
	s->last_moved_ns = vs_now_ns();
}

/* The piece that begins at a position: for messages, the message. */
static uint32_t piece_at(const struct vs_stream *t, bool up, uint64_t pos)
{
	uint64_t len = 1 + mix(t->key ^ pos ^ (up ? 77 : 0)) %
				   (t->key % 3 == 0 && t->len <= 500000 ? 300 : MAX_PIECE);

	return (uint32_t)(len < t->len - pos ? len : t->len - pos);
}

/* The guest's end */

static struct vs_stream *stream_of(struct vs_script *s, const struct vd_conn *c)
{
	for (unsigned i = 0; i < VS_STREAMS; i++)
		if (s->streams[i].used && s->streams[i].guest == c)
			return &s->streams[i];
	vd_fail("a connection of nobody's");
}

static void guest_got(struct vd *vd, struct vd_conn *c, const uint8_t *bytes, uint32_t len,
		      bool end)
{
	struct vs_script *s = vd->arg;
	struct vs_stream *t = stream_of(s, c);

	if (t->seqpacket) {
		if (t->message_left == 0)
			t->message_left = piece_at(t, false, t->guest_got);
		if (len > t->message_left || end != (len == t->message_left))
			vd_fail("a message has lost its boundary");
		t->message_left -= len;
	}
	check(s, t, false, t->guest_got, bytes, len);
	t->guest_got += len;
	vd_read(vd, c, len);
}

static void guest_asked(struct vd *vd, struct vd_conn *c)
{
	struct vs_script *s = vd->arg;

	/* Which of the streams it is, the port says. */
	for (unsigned i = 0; i < VS_STREAMS; i++) {
		struct vs_stream *t = &s->streams[i];

		if (!t->used || !t->by_host || t->guest || c->port != GUEST_PORT + i)
			continue;
		t->guest = c;
		vd_accept(vd, c);
		return;
	}
	vd_reset(vd, c);
}

static void guest_turn(struct vs_script *s, struct vs_stream *t)
{
	static uint8_t bytes[MAX_PIECE];
	struct vd_conn *c = t->guest;
	uint32_t len;

	if (!c || c->state == VD_ASKED)
		return;
	if (c->state == VD_REFUSED)
		vd_fail("a connection was refused");
	if (c->state == VD_RESET && !(t->guest_shut && t->guest_eof) && !t->aborted)
		vd_fail("a connection was reset: %llu of %llu sent, %llu received",
			(unsigned long long)t->guest_sent, (unsigned long long)t->len,
			(unsigned long long)t->guest_got);
	if (c->state != VD_OPEN)
		return;
	if (c->peer_done & VIRTIO_VSOCK_SHUTDOWN_SEND && !t->guest_eof) {
		t->guest_eof = true;
		if (t->guest_got != t->len && !t->aborted)
			vd_fail("the guest saw the end after %llu of %llu bytes",
				(unsigned long long)t->guest_got, (unsigned long long)t->len);
	}
	if (t->guest_sent < t->len) {
		len = piece_at(t, true, t->guest_sent);
		fill(t, true, t->guest_sent, bytes, len);
		t->guest_sent += vd_send(&s->vd, c, bytes, len, true);
	} else if (!t->guest_shut) {
		t->guest_shut = true;
		vd_shutdown(&s->vd, c, VIRTIO_VSOCK_SHUTDOWN_SEND);
	} else if (t->guest_eof && t->host_eof && !(c->done & VIRTIO_VSOCK_SHUTDOWN_RCV)) {
		vd_shutdown(&s->vd, c, VIRTIO_VSOCK_SHUTDOWN_RCV);
	}
}

/* The host's end */

static void host_greeted(struct vs_script *s, struct vs_stream *t)
{
	ssize_t n = recv(t->host, t->line + t->line_len, t->seqpacket ? 32 : 1, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		vd_fail("a host program is hung up on before it is answered");
	t->line_len += (unsigned)n;
	if (t->line[t->line_len - 1] != '\n')
		return;
	if (strncmp(t->line, "OK ", 3) != 0)
		vd_fail("a host program is answered with \"%.20s\"", t->line);
	t->asking = false;
}

static void host_send(struct vs_script *s, struct vs_stream *t)
{
	static uint8_t bytes[MAX_PIECE];
	uint32_t len = piece_at(t, false, t->host_sent);
	ssize_t n;

	fill(t, false, t->host_sent, bytes, len);
	n = send(t->host, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN)
		vd_fail("a host program cannot send: %s", strerror(errno));
	if (n > 0)
		t->host_sent += (uint64_t)n;
}

static void host_receive(struct vs_script *s, struct vs_stream *t)
{
	static uint8_t bytes[2 * MAX_PIECE];
	ssize_t n = recv(t->host, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN)
		vd_fail("a host program cannot receive: %s", strerror(errno));
	if (n < 0)
		return;
	if (n == 0) {
		t->host_eof = true;
		if (t->host_got != t->len)
			vd_fail("a host program saw the end after %llu of %llu bytes",
				(unsigned long long)t->host_got, (unsigned long long)t->len);
		return;
	}
	if (t->seqpacket && (uint64_t)n != piece_at(t, true, t->host_got))
		vd_fail("a host program got a message of another length");
	check(s, t, true, t->host_got, bytes, (uint32_t)n);
	t->host_got += (uint64_t)n;
	/* Some of the time it is away, and what comes has to wait in the device. */
	if (chance(s, 40) == 0)
		t->sleeps_until_ns = vs_now_ns() + 3000000;
}

static void host_turn(struct vs_script *s, struct vs_stream *t)
{
	if (t->host < 0)
		return;
	if (t->asking) {
		host_greeted(s, t);
		return;
	}
	if (t->host_sent < t->len)
		host_send(s, t);
	else if (!t->host_shut)
		t->host_shut = shutdown(t->host, SHUT_WR) == 0;
	if (!t->host_eof && vs_now_ns() >= t->sleeps_until_ns)
		host_receive(s, t);
}

static int host_socket(const char *path, bool seqpacket, bool listening)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, (seqpacket ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0), r;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (listening) {
		unlink(path);
		r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
		if (r == 0)
			r = listen(fd, 64);
	} else {
		r = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	}
	if (fd < 0 || r < 0)
		vd_fail("%s: %s", path, strerror(errno));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* The oldest of those that wait for their connection: a listening socket's are accepted as they were made. */
static struct vs_stream *first_unaccepted(struct vs_script *s, bool seqpacket)
{
	struct vs_stream *first = NULL;

	for (unsigned i = 0; i < VS_STREAMS; i++) {
		struct vs_stream *t = &s->streams[i];

		if (t->used && !t->by_host && t->host < 0 && t->seqpacket == seqpacket &&
		    (!first || t->key < first->key))
			first = t;
	}
	return first;
}

static void host_accept(struct vs_script *s)
{
	for (unsigned which = 0; which < 2; which++) {
		int fd;

		while ((fd = accept4(s->listening[which], NULL, NULL,
				     SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
			struct vs_stream *t = first_unaccepted(s, which);

			if (!t)
				vd_fail("a connection that nobody asked for");
			t->host = fd;
		}
	}
}

/* Streams */

struct vs_stream *vs_add(struct vs_script *s, bool by_host, bool seqpacket, uint64_t len)
{
	static uint64_t key = 1;
	unsigned i = 0;
	char path[200];
	struct vs_stream *t;

	while (i < VS_STREAMS && s->streams[i].used)
		i++;
	if (i == VS_STREAMS)
		vd_fail("too many streams");
	t = &s->streams[i];
	*t = (struct vs_stream){
		.used = true,
		.seqpacket = seqpacket,
		.by_host = by_host,
		.key = key++,
		.len = len,
		.host = -1,
		/* A long one waits for its reader at first: what comes fills socket and buffer. */
		.sleeps_until_ns = len > SOCKET_LEN ? vs_now_ns() + 60000000 : 0
	};
	if (!by_host) {
		t->guest = vd_connect(&s->vd, 2, HOST_PORT + seqpacket,
				      seqpacket ? SEQPACKET : STREAM);
		return t;
	}
	snprintf(path, sizeof(path), "%s%s", s->uds, seqpacket ? ".seqpacket" : "");
	t->host = host_socket(path, seqpacket, false);
	snprintf(t->line, sizeof(t->line), "CONNECT %u\n", GUEST_PORT + i);
	if (send(t->host, t->line, strlen(t->line), MSG_NOSIGNAL) < 0)
		vd_fail("a host program cannot ask");
	memset(t->line, 0, sizeof(t->line));
	t->asking = true;
	return t;
}

static bool over(const struct vs_stream *t)
{
	return t->guest && t->guest_eof && t->host_eof && t->guest->state == VD_RESET;
}

void vs_show(const struct vs_script *s)
{
	for (unsigned i = 0; i < VS_STREAMS; i++) {
		const struct vs_stream *t = &s->streams[i];
		const struct vd_conn *c = t->guest;

		if (!t->used)
			continue;
		fprintf(stderr,
			"#   stream %llu, %s by %s, %llu bytes: guest sent %llu got %llu eof %d "
			"shut %d, host sent "
			"%llu got %llu eof %d shut %d",
			(unsigned long long)t->key, t->seqpacket ? "messages" : "stream",
			t->by_host ? "host" : "guest", (unsigned long long)t->len,
			(unsigned long long)t->guest_sent, (unsigned long long)t->guest_got,
			t->guest_eof, t->guest_shut, (unsigned long long)t->host_sent,
			(unsigned long long)t->host_got, t->host_eof, t->host_shut);
		if (c)
			fprintf(stderr, "; state %d done %x peer done %x credit %u", c->state,
				c->done, c->peer_done, c->peer_alloc - (c->sent - c->peer_fwd));
		fprintf(stderr, "\n");
	}
	fprintf(stderr, "#   rx posted %u, tx outstanding %u\n", s->vd.n_rx_posted,
		fe_queue_outstanding(&s->vd.fe.queues[1]));
}

bool vs_turn(struct vs_script *s)
{
	bool any = false;

	if (vs_now_ns() > s->deadline_ns &&
	    vs_now_ns() > s->last_moved_ns + TIMEOUT_S * UINT64_C(1000000000)) {
		vs_show(s);
		vd_fail("nothing moves any more");
	}
	vd_poll(&s->vd);
	host_accept(s);
	for (unsigned i = 0; i < VS_STREAMS; i++) {
		struct vs_stream *t = &s->streams[i];

		if (!t->used)
			continue;
		any = true;
		guest_turn(s, t);
		host_turn(s, t);
		if (!over(t))
			continue;
		close(t->host);
		vd_free(t->guest);
		t->used = false;
	}
	if (s->meanwhile)
		s->meanwhile(s);
	return any;
}

void vs_run(struct vs_script *s)
{
	s->deadline_ns = vs_now_ns() + TIMEOUT_S * UINT64_C(1000000000);
	while (vs_turn(s))
		;
}

void vs_begin(struct vs_script *s, uint16_t ring_size)
{
	char path[200];

	s->vd.on_data = guest_got;
	s->vd.on_request = guest_asked;
	s->vd.arg = s;
	vd_begin(&s->vd, s->socket, ring_size);
	for (unsigned which = 0; which < 2; which++) {
		snprintf(path, sizeof(path), "%s_%u", s->uds, HOST_PORT + which);
		s->listening[which] = host_socket(path, which, true);
	}
}

void vs_end(struct vs_script *s)
{
	for (unsigned which = 0; which < 2; which++) {
		char path[200];

		close(s->listening[which]);
		snprintf(path, sizeof(path), "%s_%u", s->uds, HOST_PORT + which);
		unlink(path);
	}
	fe_close(&s->vd.fe);
}

/* What goes wrong in order */

static void await(struct vs_script *s, const struct vd_conn *c, enum vd_state state)
{
	uint64_t end = vs_now_ns() + 15 * UINT64_C(1000000000);

	while (c->state != state) {
		vd_poll(&s->vd);
		if (s->meanwhile)
			s->meanwhile(s);
		if (vs_now_ns() > end)
			vd_fail("state %d never comes: it is %d", state, c->state);
	}
}

/* A packet for nobody, which is answered by whoever serves the ring; each probe has an answer of its own. */
static void probe(struct vs_script *s)
{
	static uint32_t port = 4711;
	struct vd_conn stray = {
		.peer_cid = 2, .peer_port = ++port, .port = VD_STRAY_PORT, .type = STREAM
	};
	struct virtio_vsock_hdr h = vd_header(&stray, VIRTIO_VSOCK_OP_RW);
	uint64_t end = vs_now_ns() + 15 * UINT64_C(1000000000);

	h.len = 3;
	while (!vd_packet(&s->vd, &h, "abc", 3))
		vd_poll(&s->vd);
	while (s->vd.stray != port) {
		vd_poll(&s->vd);
		if (vs_now_ns() > end)
			vd_fail("a packet for nobody is not answered");
	}
}

uint64_t vs_kill(struct vs_script *s, pid_t worker)
{
	uint64_t began;

	vd_poll(&s->vd);
	if (kill(worker, SIGKILL) < 0)
		return 0;
	began = vs_now_ns();
	probe(s);
	return vs_now_ns() - began;
}

static void refusals(struct vs_script *s)
{
	struct vd_conn *c = vd_connect(&s->vd, 2, NOBODY, STREAM);

	await(s, c, VD_REFUSED);
	vd_free(c);
	probe(s);
}

/* The host program goes away in the midst of it; the guest does. */
static void aborts(struct vs_script *s)
{
	struct vs_stream *a = vs_add(s, false, false, ENDLESS),
			 *b = vs_add(s, true, false, ENDLESS);
	uint64_t end = vs_now_ns() + 15 * UINT64_C(1000000000);
	char byte;

	a->aborted = b->aborted = true;
	s->deadline_ns = end;
	while (a->guest_got < 1000 || b->host_got < 1000)
		vs_turn(s);
	close(a->host);
	a->host = -1;
	while (!(a->guest->peer_done & VIRTIO_VSOCK_SHUTDOWN_SEND) && a->guest->state == VD_OPEN)
		vs_turn(s);
	if (a->guest->state == VD_OPEN)
		vd_reset(&s->vd, a->guest);
	else
		vd_free(a->guest);
	a->used = false;
	b->used = false;
	vd_reset(&s->vd, b->guest);
	fcntl(b->host, F_SETFL, 0);
	while (recv(b->host, &byte, 1, MSG_DONTWAIT) != 0 && vs_now_ns() < end)
		if (errno == ECONNRESET)
			break;
	if (vs_now_ns() >= end)

		vd_fail("a host program does not see that the guest has gone");
	close(b->host);
}

/* Another guest: itself, as the helper of a program run by hand has it. */
static void peer_got(struct vd *vd, struct vd_conn *c, const uint8_t *bytes, uint32_t len, bool end)
{
	struct vs_script *s = vd->arg;
	struct vs_stream *t = &s->peers[c == s->peer_ends[1]];

	check(s, t, true, t->guest_got, bytes, len);
	t->guest_got += len;
	vd_read(vd, c, len);
}

static void peer_asked(struct vd *vd, struct vd_conn *c)
{
	struct vs_script *s = vd->arg;

	if (c->port != PEER_PORT) {
		vd_reset(vd, c);
		return;
	}
	s->peer_ends[1] = c;
	vd_accept(vd, c);
}

static void peer_send(struct vs_script *s, unsigned i)
{
	static uint8_t bytes[MAX_PIECE];
	struct vs_stream *t = &s->peers[!i];
	uint32_t len = piece_at(t, true, t->guest_sent);

	fill(t, true, t->guest_sent, bytes, len);
	if (t->guest_sent < t->len)
		t->guest_sent += vd_send(&s->vd, s->peer_ends[i], bytes, len, true);
}

static void peers(struct vs_script *s)
{
	uint64_t end = vs_now_ns() + 20 * UINT64_C(1000000000);
	struct vd_conn *c;

	s->vd.on_data = peer_got;
	s->vd.on_request = peer_asked;
	for (unsigned i = 0; i < 2; i++)
		s->peers[i] = (struct vs_stream){ .key = 1000 + i, .len = 200000 };
	c = vd_connect(&s->vd, VD_CID, PEER_PORT + 1, STREAM);
	await(s, c, VD_REFUSED);
	vd_free(c);
	s->peer_ends[0] = vd_connect(&s->vd, VD_CID, PEER_PORT, STREAM);
	await(s, s->peer_ends[0], VD_OPEN);
	while (s->peers[0].guest_got < 200000 || s->peers[1].guest_got < 200000) {
		peer_send(s, 0);
		peer_send(s, 1);
		vd_poll(&s->vd);
		if (s->meanwhile)
			s->meanwhile(s);
		if (vs_now_ns() > end)
			vd_fail("nothing moves between guests any more");
	}
	vd_reset(&s->vd, s->peer_ends[0]);
	while (s->peer_ends[1]->peer_done == 0 && s->peer_ends[1]->state == VD_OPEN) {
		vd_poll(&s->vd);
		if (vs_now_ns() > end)
			vd_fail("another guest does not see the end");
	}
	vd_reset(&s->vd, s->peer_ends[1]);
	s->vd.on_data = guest_got;
	s->vd.on_request = guest_asked;
}

void vs_script(struct vs_script *s)
{
	static const uint64_t lens[] = { 1, 70000, 400000 };

	for (unsigned i = 0; i < sizeof(lens) / sizeof(*lens); i++)
		for (unsigned k = 0; k < 2 * 2; k++)
			vs_add(s, k & 1, k & 2, lens[i]);
	vs_run(s);
	refusals(s);
	aborts(s);
	peers(s);
	vs_add(s, false, false, 100000);
	vs_add(s, true, true, 100000);
	vs_run(s);
}
