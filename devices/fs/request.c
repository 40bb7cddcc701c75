/*
 * From chain to request, and from result to answer. Each byte of the chain is read once. See
 * request.h.
 */
#include "devices/fs/request.h"

#include <errno.h>
#include <string.h>

#include "devices/fs/fs-private.h"
#include "devices/fs/operation.h"
#include "devices/virtio/iov.h"

enum { NAME_MAX_LEN = 255 };

/* Drop len bytes from the front of iov[0..*n), in place. There are as many. */
static struct iovec *drop_front(struct iovec *iov, uint32_t *n, size_t len)
{
	while (*n > 0 && iov->iov_len <= len) {
		len -= iov->iov_len;
		iov++;
		(*n)--;
	}
	if (len > 0) {
		iov->iov_base = (uint8_t *)iov->iov_base + len;
		iov->iov_len -= len;
	}
	return iov;
}

/* Where the answer goes: its header apart from the room for payload. */
static void load_out(struct request *rq, const struct chain *c)
{
	uint32_t n = c->n_writable;
	struct iovec *out = c->iov + c->n_readable;

	rq->n_header = rq->n_out = rq->out_len = 0;
	if (c->writable_len < sizeof(struct fuse_out_header))
		return;
	/* An element has a byte at least, or is left out: as many as there is room for. */
	rq->n_header = (uint32_t)iov_slice(out, n, 0, sizeof(struct fuse_out_header), rq->header,
					   REQUEST_HEADER_IOV);
	rq->out = drop_front(out, &n, sizeof(struct fuse_out_header));
	rq->n_out = n;
	rq->out_len = c->writable_len - (uint32_t)sizeof(struct fuse_out_header);
}

/* Only the first len bytes of iov[0..n); the number of vectors. */
static uint32_t cut_off(struct iovec *iov, uint32_t n, size_t len)
{
	uint32_t i = 0;

	for (; i < n && len > 0; i++) {
		if (iov[i].iov_len > len)
			iov[i].iov_len = len;
		len -= iov[i].iov_len;
	}
	return i;
}

/* The fixed arguments; what follows them in the chain is data. */
static int load_data(struct request *rq, const struct chain *c, const struct operation *op,
		     uint8_t *args)
{
	uint32_t fixed = (uint32_t)sizeof(rq->in) + op->args_min;
	uint32_t n = c->n_readable;
	struct iovec *data;

	iov_read(c->iov, n, sizeof(rq->in), args, op->args_min);
	rq->args_len = op->args_min;
	rq->data_len = rq->in.len - fixed;
	data = drop_front(c->iov, &n, fixed);
	rq->data = data;
	/* A chain may be longer than its request. */
	rq->n_data = c->readable_len > rq->in.len ? cut_off(data, n, rq->data_len) : n;
	return 0;
}

bool request_load(struct request *rq, const struct chain *c)
{
	load_out(rq, c);
	if (iov_read(c->iov, c->n_readable, 0, &rq->in, sizeof(rq->in)) < sizeof(rq->in)) {
		memset(&rq->in, 0, sizeof(rq->in));
		return false;
	}
	return rq->in.len >= sizeof(rq->in) && rq->in.len <= c->readable_len;
}

int request_load_args(struct request *rq, const struct chain *c, const struct operation *op,
		      uint8_t *args)
{
	uint32_t len = rq->in.len - (uint32_t)sizeof(rq->in);
	int r = 0;

	rq->args = args;
	rq->args_len = 0;
	rq->data = NULL;
	rq->n_data = rq->data_len = 0;
	if (len < op->args_min)
		return -EINVAL;
	if (op->flags & OPERATION_DATA) {
		r = load_data(rq, c, op, args);
	} else {
		if (len > REQUEST_ARGS_MAX)
			return -E2BIG;
		iov_read(c->iov, c->n_readable, sizeof(rq->in), args, len);
		rq->args_len = len;
	}
	args[rq->args_len] = 0;
	return r;
}

const char *request_text(const struct request *rq, uint32_t offset, uint32_t *ret_end)
{
	const uint8_t *text, *end;

	if (offset >= rq->args_len)
		return NULL;
	text = rq->args + offset;
	end = memchr(text, 0, rq->args_len - offset);
	if (!end)
		return NULL;
	*ret_end = (uint32_t)(end - rq->args) + 1;
	return (const char *)text;
}

const char *request_name(const struct request *rq, uint32_t offset, uint32_t *ret_end,
			 int *ret_error)
{
	const char *name = request_text(rq, offset, ret_end);

	*ret_error = -EINVAL;
	if (!name || !*name || strchr(name, '/') || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return NULL;
	if (strlen(name) > NAME_MAX_LEN) {
		*ret_error = -ENAMETOOLONG;
		return NULL;
	}
	return name;
}

int request_reply(struct request *rq, const void *payload, uint32_t len)
{
	if (len > rq->out_len)
		return -EINVAL;
	iov_write(rq->out, rq->n_out, 0, payload, len);
	rq->reply_len = len;
	return 0;
}

uint32_t request_reply_iov(const struct request *rq, uint32_t len, struct iovec *ret_iov)
{
	if (len > rq->out_len)
		len = rq->out_len;
	return (uint32_t)iov_slice(rq->out, rq->n_out, 0, len, ret_iov, REQUEST_MAX_IOV);
}

void request_reply_filled(struct request *rq, uint32_t len)
{
	rq->reply_len = len;
}

/* Tell the front-end which pages have been written, while it migrates the guest. */
static void log_written(const struct request *rq)
{
	const struct memory *m = rq->ring->queue.memory;
	uint32_t left = rq->reply_len;

	if (!memory_logs(m))
		return;
	for (uint32_t i = 0; i < rq->n_header; i++)
		memory_log_host(m, rq->header[i].iov_base, rq->header[i].iov_len);
	for (uint32_t i = 0; i < rq->n_out && left > 0; i++) {
		uint32_t n = rq->out[i].iov_len < left ? (uint32_t)rq->out[i].iov_len : left;

		memory_log_host(m, rq->out[i].iov_base, n);
		left -= n;
	}
}

uint32_t request_end(struct request *rq, int result)
{
	struct fuse_out_header out = { .unique = rq->in.unique };

	if (result == REQUEST_NO_REPLY || rq->n_header == 0)
		return 0;
	if (result < 0)
		rq->reply_len = 0;
	out.error = result < 0 ? result : 0;
	out.len = (uint32_t)sizeof(out) + rq->reply_len;
	iov_write(rq->header, rq->n_header, 0, &out, sizeof(out));
	log_written(rq);
	return out.len;
}
