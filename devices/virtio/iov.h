/*
 * Copying out of and into scattered guest memory.
 *
 * Runs in: worker. Trusts: that each element is a mapped range; not what is in it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Sum of the lengths. */
size_t iov_len(const struct iovec *iov, uint32_t n);

/* Copy up to len bytes between buf and the iov from offset on; the number copied. */
size_t iov_read(const struct iovec *iov, uint32_t n, size_t offset, void *buf, size_t len);
size_t iov_write(const struct iovec *iov, uint32_t n, size_t offset, const void *buf, size_t len);
size_t iov_zero(const struct iovec *iov, uint32_t n, size_t offset, size_t len);

/*
 * Describe bytes [offset, offset + len) of in[0..n) in out[0..max): the number of elements, or -1
 * if max is too small or the range is not inside. in and out may not overlap.
 */
int iov_slice(const struct iovec *in, uint32_t n, size_t offset, size_t len, struct iovec *out,
	      uint32_t max);
