/*
 * Claims about a vsock device whose guest and host programs mean it ill: it is they who suffer, each on the connection that it is about.
 * Streams whose every byte is known run meanwhile, and have to end as they would; after it the device has as many descriptors and as
 * much memory as before, and the same worker.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says; /proc of the host.
 */
#include "tests/frontend/claim.h"
#include "tests/frontend/vsock-script.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	N_ATTEMPTS = 65536,
	A_TURN = 24, /* attempts in a turn of the streams */
	AT_A_TIME = 8192,
	N_SILENT = 500,
	STREAM_LEN = 1000000,
	DEAF_PORT = 5010, /* of a host program that does not read */
	DEAD_PORT = 4999, /* of nobody */
	LINE_MS = 5000,	  /* devices/vsock/host.c */
	PATIENCE_MS = 12000,
	STATE_FD = 6, /* devices/process/contract.h */
};

static const struct backend_spec device = { .cid = VD_CID };

struct baseline {
	pid_t worker;
	unsigned n_fds;
	blkcnt_t blocks; /* of the state's memory */
};

static struct baseline measure(const struct claim_context *x)
{
	struct baseline b = { .worker = backend_worker(x->backend.pid) };
	char path[64];
	struct stat st;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", b.worker);
	d = opendir(path);
	expect(d, "no worker");
	while (readdir(d))
		b.n_fds++;
	closedir(d);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", b.worker, STATE_FD);
	expect_ok(stat(path, &st));
	b.blocks = st.st_blocks;
	return b;
}

/* A page for each of the first 64 KiB of connections that were never used before is no leak: they are used again. */
static bool same(const struct baseline *a, const struct baseline *b)
{
	return a->worker == b->worker && a->n_fds == b->n_fds &&
	       b->blocks <= a->blocks + (blkcnt_t)((1 << 20) / 512);
}

static void back_to(struct claim_context *x, struct vs_script *s, const struct baseline *before)
{
	uint64_t end = vs_now_ns() + PATIENCE_MS * UINT64_C(1000000);
	struct baseline now;

	do {
		vd_poll(&s->vd);
		now = measure(x);
		usleep(1000);
	} while (!same(before, &now) && vs_now_ns() < end);
	expect_is(now.worker, before->worker);
	expect_is(now.n_fds, before->n_fds);
	expect(same(before, &now), "%lld blocks of memory, %lld before", (long long)now.blocks,
	       (long long)before->blocks);
}

static void streams(struct vs_script *s, uint64_t len)
{
	for (unsigned i = 0; i < 4; i++)
		vs_add(s, i & 1, i == 3, len);
	vs_run(s);
}

static struct vs_script *begin(struct claim_context *x, struct baseline *ret)
{
	static struct vs_script s;
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	s.socket = x->backend.socket;
	s.uds = x->backend.uds;
	vs_begin(&s, 128);
	streams(&s, 100000);
	*ret = measure(x);
	return &s;
}

static void end(struct claim_context *x, struct vs_script *s, const struct baseline *before)
{
	s->meanwhile = NULL;
	streams(s, 100000);
	back_to(x, s, before);
	vs_end(s);
}

/* From the guest */

static unsigned n_attempts;

static void ask_for_one(struct vs_script *s)
{
	struct virtio_vsock_hdr h = { .src_cid = VD_CID,
				      .dst_cid = n_attempts % 8 == 7 ? 99 : 2,
				      .src_port = 100000 + n_attempts,
				      .dst_port = DEAD_PORT,
				      .type = 1 + n_attempts % 2,
				      .op = VIRTIO_VSOCK_OP_REQUEST,
				      .buf_alloc = VD_ALLOC };

	n_attempts += vd_packet(&s->vd, &h, NULL, 0);
}

static bool all_open(const struct vs_script *s)
{
	for (unsigned i = 0; i < VS_STREAMS; i++)
		if (s->streams[i].used &&
		    (!s->streams[i].guest || s->streams[i].guest->state == VD_ASKED))
			return false;
	return true;
}

/* More at a time than its device has room for: then it has no others, either, but those that are open. */
static void guest_asks(struct vs_script *s)
{
	for (unsigned i = 0; i < A_TURN && n_attempts < N_ATTEMPTS && all_open(s) &&
			     n_attempts - s->vd.n_unknown < AT_A_TIME;
	     i++)
		ask_for_one(s);
}

static void await_answers(struct vs_script *s)
{
	uint64_t until = vs_now_ns() + PATIENCE_MS * UINT64_C(1000000);

	while (s->vd.n_unknown != n_attempts && vs_now_ns() < until)
		vd_poll(&s->vd);
	expect_is(s->vd.n_unknown, n_attempts);
}

static void a_guest_that_asks_for_65536_connections_hurts_nobody(struct claim_context *x)
{
	struct baseline before;
	struct vs_script *s = begin(x, &before);

	s->vd.n_unknown = 0;
	s->meanwhile = guest_asks;
	while (n_attempts < N_ATTEMPTS) {
		streams(s, STREAM_LEN);
		await_answers(s);
	}
	end(x, s, &before);
}

static int listen_deaf(const struct vs_script *s)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(name.sun_path, sizeof(name.sun_path), "%.90s_%d", s->uds, DEAF_PORT);
	unlink(name.sun_path);
	expect_is(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	expect_is(listen(fd, 4), 0);
	return fd;
}

static struct vd_conn *connect_deaf(struct vs_script *s, int listening, int *ret_host)
{
	struct vd_conn *c = vd_connect(&s->vd, 2, DEAF_PORT, VIRTIO_VSOCK_TYPE_STREAM);

	*ret_host = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	expect(*ret_host >= 0, "%s", strerror(errno));
	while (c->state == VD_ASKED)
		vd_poll(&s->vd);
	expect_is(c->state, VD_OPEN);
	return c;
}

static void end_deaf(struct vs_script *s, int listening)
{
	char path[128];

	close(listening);
	snprintf(path, sizeof(path), "%.90s_%d", s->uds, DEAF_PORT);
	unlink(path);
}

/* What the device and the socket hold is all that can be sent; the others go on. */
static void a_host_program_that_never_reads_stops_its_connection_only(struct claim_context *x)
{
	static const uint8_t bytes[4096];
	struct baseline before;
	struct vs_script *s = begin(x, &before);
	uint64_t until = vs_now_ns() + PATIENCE_MS * UINT64_C(1000000);
	int listening = listen_deaf(s), host[8];
	struct vd_conn *c[8];

	for (unsigned i = 0; i < 8; i++)
		c[i] = connect_deaf(s, listening, &host[i]);
	for (unsigned i = 0; i < 8; i++)
		while (c[i]->sent < VD_ALLOC && vs_now_ns() < until) {
			vd_send(&s->vd, c[i], bytes, sizeof(bytes), true);
			vd_poll(&s->vd);
		}
	streams(s, STREAM_LEN);
	for (unsigned i = 0; i < 8; i++)
		for (unsigned n = 0; n < 1000; n++) {
			vd_send(&s->vd, c[i], bytes, sizeof(bytes), true);
			vd_poll(&s->vd);
		}
	streams(s, STREAM_LEN);
	for (unsigned i = 0; i < 8; i++) {
		expect_is(c[i]->state, VD_OPEN);
		expect(c[i]->sent >= VD_ALLOC && c[i]->sent < 1 << 20, "%u bytes sent", c[i]->sent);
		if (i < 4)
			vd_reset(&s->vd, c[i]);
		close(host[i]);
	}
	for (unsigned i = 4; i < 8; i++) {
		while (!(c[i]->peer_done & VIRTIO_VSOCK_SHUTDOWN_RCV) && c[i]->state == VD_OPEN)
			vd_poll(&s->vd);
		if (c[i]->state == VD_OPEN)
			vd_reset(&s->vd, c[i]);
	}
	end_deaf(s, listening);
	end(x, s, &before);
}

static void data_beyond_its_credit_costs_a_guest_that_connection(struct claim_context *x)
{
	static const uint8_t bytes[16384];
	struct baseline before;
	struct vs_script *s = begin(x, &before);
	int listening = listen_deaf(s), host;

	for (unsigned i = 0; i < 20; i++) {
		struct vd_conn *c = connect_deaf(s, listening, &host);
		struct virtio_vsock_hdr h = vd_header(c, VIRTIO_VSOCK_OP_RW);

		h.len = sizeof(bytes);
		while (c->state == VD_OPEN) {
			c->sent += vd_packet(&s->vd, &h, bytes, sizeof(bytes)) ? sizeof(bytes) : 0;
			vd_poll(&s->vd);
		}
		expect_is(c->state, VD_RESET);
		vd_free(c);
		close(host);
	}
	end_deaf(s, listening);
	streams(s, STREAM_LEN);
	end(x, s, &before);
}

/* From host programs */

static int host_connect(const struct vs_script *s, bool seqpacket)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX,
			(seqpacket ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK,
			0);

	snprintf(name.sun_path, sizeof(name.sun_path), "%.90s%s", s->uds,
		 seqpacket ? ".seqpacket" : "");
	if (fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0)
		return fd;
	close(fd);
	return -1; /* as many wait to be accepted as may */
}

static void host_asks(struct vs_script *s)
{
	static const char *const texts[] = { "", "C", "CONNECT 77\n", "\n", "CONNECT 77" };

	for (unsigned i = 0; i < A_TURN && n_attempts < N_ATTEMPTS; i++) {
		const char *text = texts[n_attempts % 5];
		int fd = host_connect(s, n_attempts % 3 == 0);

		if (fd < 0)
			return;
		(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
		close(fd);
		n_attempts++;
	}
}

static void host_programs_that_connect_65536_times_hurt_nobody(struct claim_context *x)
{
	struct baseline before;
	struct vs_script *s = begin(x, &before);

	s->meanwhile = host_asks;
	while (n_attempts < N_ATTEMPTS)
		streams(s, STREAM_LEN);
	end(x, s, &before);
}

/* In ms; the stream's turns go on. */
static int64_t hung_up_after(struct vs_script *s, int fd)
{
	uint64_t begun = vs_now_ns();
	char byte;

	while (recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN) {
		vd_poll(&s->vd);
		usleep(200);
		if (vs_now_ns() - begun > PATIENCE_MS * UINT64_C(1000000))
			return -1;
	}
	return (int64_t)((vs_now_ns() - begun) / 1000000);
}

static void what_is_no_line_is_hung_up_on(struct claim_context *x)
{
	static const char *const texts[] = {
		"GET / HTTP/1.0\r\n\r\n",
		"CONNECT\n",
		"CONNECT 4294967296\n",
		"CONNECT -1\n",
		"CONNECT 1 2\n",
		"connect 1\n",
		"CONNECT 11111111111111111111111111111111111111111111",
		"\xff\xff\xff\xff",
	};
	struct baseline before;
	struct vs_script *s = begin(x, &before);

	for (unsigned i = 0; i < 2 * sizeof(texts) / sizeof(*texts); i++) {
		int fd = host_connect(s, i & 1);
		int64_t ms;

		expect(fd >= 0, "it cannot connect");
		expect(send(fd, texts[i / 2], strlen(texts[i / 2]), MSG_NOSIGNAL) > 0, "%s",
		       strerror(errno));
		ms = hung_up_after(s, fd);
		expect(ms >= 0 && ms < LINE_MS / 2, "\"%s\" is hung up on after %lld ms",
		       texts[i / 2], (long long)ms);
		close(fd);
	}
	end(x, s, &before);
}

static int trickling;

/* One byte now and then: a line has its time, not each byte. */
static void trickle(struct vs_script *s)
{
	static uint64_t last;

	if (vs_now_ns() - last < 400000000)
		return;
	last = vs_now_ns();
	(void)!send(trickling, "C", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void who_does_not_come_to_the_point_is_hung_up_on_in_time(struct claim_context *x)
{
	static int silent[N_SILENT];
	struct baseline before;
	struct vs_script *s = begin(x, &before);
	uint64_t begun = vs_now_ns();
	int64_t ms;

	for (unsigned i = 0; i < N_SILENT; i++) {
		/* Some ask a guest that has no time to answer. */
		while ((silent[i] = host_connect(s, false)) < 0)
			vd_poll(&s->vd);
		if (i % 3 == 1)
			(void)!send(silent[i], "CONNECT 5", 9, MSG_NOSIGNAL);
	}
	trickling = silent[0];
	s->meanwhile = trickle;
	streams(s, STREAM_LEN);
	for (unsigned i = 0; i < N_SILENT; i++) {
		expect(hung_up_after(s, silent[i]) >= 0, "one is never hung up on");
		close(silent[i]);
	}
	ms = (int64_t)((vs_now_ns() - begun) / 1000000);
	expect(ms >= LINE_MS - 100 && ms < LINE_MS + 5000, "after %lld ms", (long long)ms);
	end(x, s, &before);
}

static void never_mind(struct vd *vd, struct vd_conn *c)
{
}

static void a_guest_that_does_not_answer_is_not_waited_for(struct claim_context *x)
{
	struct baseline before;
	struct vs_script *s = begin(x, &before);
	void (*on_request)(struct vd * vd, struct vd_conn * c) = s->vd.on_request;
	int fd[20];

	s->vd.on_request = never_mind;
	for (unsigned i = 0; i < 20; i++) {
		fd[i] = host_connect(s, false);
		expect(fd[i] >= 0 && send(fd[i], "CONNECT 9\n", 10, MSG_NOSIGNAL) == 10, "%s",
		       strerror(errno));
	}
	for (unsigned i = 0; i < 20; i++) {
		expect(hung_up_after(s, fd[i]) >= 0, "it is waited for");
		close(fd[i]);
	}
	for (unsigned i = 0; i < VD_CONNS; i++)
		if (s->vd.conns[i].state != VD_FREE)
			vd_free(&s->vd.conns[i]);
	s->vd.on_request = on_request;
	end(x, s, &before);
}

#define C(name)                                                                                    \
	{                                                                                          \
#name, name, &device                                                               \
	}

static const struct claim claims[] = {
	C(a_guest_that_asks_for_65536_connections_hurts_nobody),
	C(a_host_program_that_never_reads_stops_its_connection_only),
	C(data_beyond_its_credit_costs_a_guest_that_connection),
	C(host_programs_that_connect_65536_times_hurt_nobody),
	C(what_is_no_line_is_hung_up_on),
	C(who_does_not_come_to_the_point_is_hung_up_on_in_time),
	C(a_guest_that_does_not_answer_is_not_waited_for),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
