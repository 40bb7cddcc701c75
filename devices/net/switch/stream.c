/* Frames on a stream socket. See stream.h. */
#include "devices/net/switch/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/fd.h"

const char *stream_verdict_to_string(enum stream_verdict v)
{
	static const char *const names[] = {
		[STREAM_OK] = "ok",
		[STREAM_AGAIN] = "not now",
		[STREAM_ENDED] = "the stream has ended",
		[STREAM_BAD_LEN] = "a length that no frame has",
	};

	_Static_assert(sizeof(names) / sizeof(*names) == STREAM_BAD_LEN + 1, "a name for each");
	return names[v];
}

struct stream *stream_new(int socket)
{
	struct stream *s = malloc(sizeof(*s));

	if (!s) {
		fd_close(socket);
		return NULL;
	}
	s->socket = socket;
	s->in_at = s->in_end = s->out_at = s->out_end = 0;
	memset(s->in, 0, LANE_HEADER_LEN);
	return s;
}

struct stream *stream_free(struct stream *s)
{
	if (s)
		fd_close(s->socket);
	free(s);
	return NULL;
}

static uint32_t get_len(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_len(uint8_t *p, uint32_t len)
{
	p[0] = (uint8_t)(len >> 24);
	p[1] = (uint8_t)(len >> 16);
	p[2] = (uint8_t)(len >> 8);
	p[3] = (uint8_t)len;
}

/* ---- in ---- */

static uint8_t *in_place(struct stream *s, uint32_t at)
{
	return s->in + LANE_HEADER_LEN + at;
}

/* The length of the frame that begins here: 0 if that is not known yet. */
static enum stream_verdict next_len(struct stream *s, uint32_t *ret_len)
{
	uint32_t len;

	if (s->in_end - s->in_at < STREAM_PREFIX_LEN)
		return STREAM_AGAIN;
	len = get_len(in_place(s, s->in_at));
	if (len < LANE_ETHER_LEN || len > LANE_MAX_LEN - LANE_HEADER_LEN)
		return STREAM_BAD_LEN;
	*ret_len = len;
	return STREAM_OK;
}

enum stream_verdict stream_look(struct stream *s, const void **ret_record, uint32_t *ret_len)
{
	uint32_t len;
	enum stream_verdict v = next_len(s, &len);
	uint8_t *record;

	if (v != STREAM_OK)
		return v;
	if (s->in_end - s->in_at - STREAM_PREFIX_LEN < len)
		return STREAM_AGAIN;
	/* The header lies over the prefix, and over what came before it and is done with. */
	record = in_place(s, s->in_at) + STREAM_PREFIX_LEN - LANE_HEADER_LEN;
	memset(record, 0, LANE_HEADER_LEN - STREAM_PREFIX_LEN);
	*ret_record = record;
	*ret_len = LANE_HEADER_LEN + len;
	return STREAM_OK;
}

void stream_next(struct stream *s)
{
	s->in_at += STREAM_PREFIX_LEN + get_len(in_place(s, s->in_at));
}

enum stream_verdict stream_receive(struct stream *s)
{
	ssize_t n;

	/* To the start, so that the next frame finds room whole. */
	memmove(in_place(s, 0), in_place(s, s->in_at), s->in_end - s->in_at);
	s->in_end -= s->in_at;
	s->in_at = 0;
	do
		n = recv(s->socket, in_place(s, s->in_end), STREAM_IN_LEN - s->in_end,
			 MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? STREAM_AGAIN : STREAM_ENDED;
	if (n == 0)
		return STREAM_ENDED;
	s->in_end += (uint32_t)n;
	return STREAM_OK;
}

/* ---- out ---- */

static ssize_t send_parts(int socket, struct iovec *iov, size_t n)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t sent;

	do
		sent = sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent;
}

enum stream_verdict stream_flush(struct stream *s)
{
	while (s->out_at < s->out_end) {
		struct iovec iov = { s->out + s->out_at, s->out_end - s->out_at };
		ssize_t n = send_parts(s->socket, &iov, 1);

		if (n < 0)
			return errno == EAGAIN ? STREAM_AGAIN : STREAM_ENDED;
		s->out_at += (uint32_t)n;
	}
	return STREAM_OK;
}

/* The frame that went out in part, or the rest of it: kept until the socket has room. */
static void keep(struct stream *s, const struct iovec *iov, uint32_t n, uint32_t sent)
{
	s->out_end = 0;
	for (uint32_t i = 0; i < n; i++) {
		memcpy(s->out + s->out_end, iov[i].iov_base, iov[i].iov_len);
		s->out_end += (uint32_t)iov[i].iov_len;
	}
	s->out_at = sent;
}

enum stream_verdict stream_send(struct stream *s, const void *head, uint32_t head_len,
				const void *rest, uint32_t rest_len)
{
	uint8_t prefix[STREAM_PREFIX_LEN];
	struct iovec iov[] = { { prefix, sizeof(prefix) },
			       { (void *)(uintptr_t)head, head_len },
			       { (void *)(uintptr_t)rest, rest_len } };
	enum stream_verdict v = stream_flush(s);
	ssize_t n;

	if (v != STREAM_OK)
		return v;
	put_len(prefix, head_len + rest_len);
	n = send_parts(s->socket, iov, 3);
	if (n < 0)
		return errno == EAGAIN ? STREAM_AGAIN : STREAM_ENDED;
	if ((size_t)n < sizeof(prefix) + head_len + rest_len)
		keep(s, iov, 3, (uint32_t)n);
	return STREAM_OK;
}
