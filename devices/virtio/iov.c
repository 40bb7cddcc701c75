/* Copying out of and into scattered guest memory. See iov.h. */
#include <string.h>

#include "devices/base/copy.h"
#include "devices/virtio/iov.h"

/* A place in an iov: byte `offset` of element i. */
struct iov_at {
	uint32_t i;
	size_t offset;
};

static struct iov_at iov_seek(const struct iovec *iov, uint32_t n, size_t offset)
{
	struct iov_at at = { .i = 0, .offset = offset };

	while (at.i < n && at.offset >= iov[at.i].iov_len)
		at.offset -= iov[at.i++].iov_len;
	return at;
}

/* The bytes at a place, at most len of them in one piece; steps over them. 0 at the end. */
static size_t iov_next(const struct iovec *iov, uint32_t n, struct iov_at *at, size_t len,
		       uint8_t **ret_p)
{
	size_t left;

	while (at->i < n && at->offset == iov[at->i].iov_len)
		*at = (struct iov_at){ .i = at->i + 1 };
	if (at->i >= n || len == 0)
		return 0;
	left = iov[at->i].iov_len - at->offset;
	if (left > len)
		left = len;
	*ret_p = (uint8_t *)iov[at->i].iov_base + at->offset;
	at->offset += left;
	return left;
}

size_t iov_len(const struct iovec *iov, uint32_t n)
{
	size_t len = 0;

	for (uint32_t i = 0; i < n; i++)
		len += iov[i].iov_len;
	return len;
}

size_t iov_read(const struct iovec *iov, uint32_t n, size_t offset, void *buf, size_t len)
{
	struct iov_at at = iov_seek(iov, n, offset);
	size_t done = 0, step;
	uint8_t *p;

	while ((step = iov_next(iov, n, &at, len - done, &p)) > 0) {
		copy_bytes((uint8_t *)buf + done, p, step);
		done += step;
	}
	return done;
}

size_t iov_write(const struct iovec *iov, uint32_t n, size_t offset, const void *buf, size_t len)
{
	struct iov_at at = iov_seek(iov, n, offset);
	size_t done = 0, step;
	uint8_t *p;

	while ((step = iov_next(iov, n, &at, len - done, &p)) > 0) {
		copy_bytes(p, (const uint8_t *)buf + done, step);
		done += step;
	}
	return done;
}

size_t iov_zero(const struct iovec *iov, uint32_t n, size_t offset, size_t len)
{
	struct iov_at at = iov_seek(iov, n, offset);
	size_t done = 0, step;
	uint8_t *p;

	while ((step = iov_next(iov, n, &at, len - done, &p)) > 0) {
		memset(p, 0, step);
		done += step;
	}
	return done;
}

int iov_slice(const struct iovec *in, uint32_t n, size_t offset, size_t len, struct iovec *out,
	      uint32_t max)
{
	struct iov_at at = iov_seek(in, n, offset);
	uint32_t n_out = 0;
	size_t step;
	uint8_t *p;

	while ((step = iov_next(in, n, &at, len, &p)) > 0) {
		if (n_out == max)
			return -1;
		out[n_out++] = (struct iovec){ .iov_base = p, .iov_len = step };
		len -= step;
	}
	return len == 0 ? (int)n_out : -1;
}
