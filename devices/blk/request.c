/* Understanding what the driver asks for. Each byte of it is hostile, and read once. */
#include "devices/blk/request.h"

#include <assert.h>
#include <linux/virtio_blk.h>
#include <string.h>

#include "devices/virtio/iov.h"

uint8_t *blk_request_status_byte(const struct chain *c)
{
	const struct iovec *last = &c->iov[c->n_readable + c->n_writable - 1];

	if (c->writable_len == 0)
		return NULL;
	while (last->iov_len == 0)
		last--;
	return (uint8_t *)last->iov_base + last->iov_len - 1;
}

/* Drop n bytes from the front of iov[0..*n_iov), in place. There are as many. */
static struct iovec *drop_front(struct iovec *iov, uint32_t *n_iov, size_t n)
{
	while (*n_iov > 0 && iov->iov_len <= n) {
		n -= iov->iov_len;
		iov++;
		(*n_iov)--;
	}
	if (n > 0) {
		iov->iov_base = (uint8_t *)iov->iov_base + n;
		iov->iov_len -= n;
	}
	return iov;
}

static void drop_last_byte(struct iovec *iov, uint32_t *n_iov)
{
	while (iov[*n_iov - 1].iov_len == 0)
		(*n_iov)--;
	if (--iov[*n_iov - 1].iov_len == 0)
		(*n_iov)--;
}

static void answer(struct blk_request *rq, uint8_t status)
{
	rq->kind = REQUEST_ANSWER;
	rq->status = status;
}

static bool range_ok(uint64_t sector, uint64_t n_sectors, const struct request_limits *l)
{
	uint64_t per_block = l->block_len / REQUEST_SECTOR;

	return sector <= l->sectors && n_sectors <= l->sectors - sector &&
	       sector % per_block == 0 && n_sectors % per_block == 0;
}

static void transfer(struct blk_request *rq, enum request_kind kind, uint64_t sector, uint32_t len,
		     const struct request_limits *l)
{
	if (len % REQUEST_SECTOR || !range_ok(sector, len / REQUEST_SECTOR, l) ||
	    (kind == REQUEST_WRITE && l->readonly)) {
		answer(rq, VIRTIO_BLK_S_IOERR);
		return;
	}
	rq->kind = len == 0 ? REQUEST_ANSWER : (uint8_t)kind;
	rq->status = VIRTIO_BLK_S_OK;
	rq->offset = sector * REQUEST_SECTOR;
	rq->len = len;
}

/* VIRTIO 1.3 §5.2.6.2: unmap must be 0 in a discard, the other flag bits in both. */
static uint8_t add_range(struct blk_request *rq, uint32_t type,
			 const struct virtio_blk_discard_write_zeroes *r,
			 const struct request_limits *l)
{
	uint32_t allowed = type == VIRTIO_BLK_T_WRITE_ZEROES ? 1 : 0;

	if (r->flags & ~allowed)
		return VIRTIO_BLK_S_UNSUPP;
	if (!range_ok(r->sector, r->num_sectors, l))
		return VIRTIO_BLK_S_IOERR;
	if (r->num_sectors > 0)
		rq->room->ranges[rq->n_ranges++] = (struct request_range){
			.offset = r->sector * REQUEST_SECTOR,
			.len = (uint64_t)r->num_sectors * REQUEST_SECTOR,
			.unmap = r->flags & 1,
		};
	return VIRTIO_BLK_S_OK;
}

static void erase(struct blk_request *rq, uint32_t type, const struct request_limits *l)
{
	struct virtio_blk_discard_write_zeroes r[REQUEST_MAX_RANGES];
	size_t len = iov_len(rq->data, rq->n_iov);
	uint8_t status = VIRTIO_BLK_S_OK;

	if (len == 0 || len % sizeof(*r) || len > sizeof(r) || l->readonly) {
		answer(rq, VIRTIO_BLK_S_IOERR);
		return;
	}
	iov_read(rq->data, rq->n_iov, 0, r, len);
	for (uint32_t i = 0; i < len / sizeof(*r) && status == VIRTIO_BLK_S_OK; i++)
		status = add_range(rq, type, &r[i], l);
	if (status != VIRTIO_BLK_S_OK || rq->n_ranges == 0)
		answer(rq, status);
	else
		rq->kind = type == VIRTIO_BLK_T_DISCARD ? REQUEST_DISCARD : REQUEST_ZERO;
}

static void get_id(struct blk_request *rq, uint32_t len, const struct request_limits *l)
{
	char id[REQUEST_ID_LEN] = { 0 };

	memcpy(id, l->serial, strnlen(l->serial, sizeof(id)));
	rq->len = len < sizeof(id) ? len : (uint32_t)sizeof(id);
	iov_write(rq->data, rq->n_iov, 0, id, rq->len);
	answer(rq, len < sizeof(id) ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

static void understand(struct blk_request *rq, const struct virtio_blk_outhdr *h, uint32_t out_len,
		       uint32_t in_len, const struct request_limits *l)
{
	switch (h->type) {
	case VIRTIO_BLK_T_IN:
		transfer(rq, REQUEST_READ, h->sector, in_len, l);
		return;
	case VIRTIO_BLK_T_OUT:
		transfer(rq, REQUEST_WRITE, h->sector, out_len, l);
		return;
	case VIRTIO_BLK_T_FLUSH:
		rq->kind = REQUEST_FLUSH;
		return;
	case VIRTIO_BLK_T_GET_ID:
		get_id(rq, in_len, l);
		return;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		if (l->discard) {
			erase(rq, h->type, l);
			return;
		}
		break;
	default:
		break;
	}
	answer(rq, VIRTIO_BLK_S_UNSUPP);
}

static struct iovec *copy_iov(struct blk_request *rq, const struct chain *c)
{
	uint32_t n = c->n_readable + c->n_writable;
	struct iovec *iov = n <= REQUEST_SMALL_IOV ? rq->small : rq->room->iov;

	/* Most often three: not worth a call of memcpy(). */
	for (uint32_t i = 0; i < n; i++)
		iov[i] = c->iov[i];
	return iov;
}

/* Load the header, once; it is as long as that. Drivers put it into one buffer of its own. */
static struct virtio_blk_outhdr load_header(const struct iovec *iov, uint32_t n)
{
	struct virtio_blk_outhdr h;
	uint64_t word[2];

	static_assert(sizeof(h) == sizeof(word), "the header is copied as two words");
	if (iov->iov_len < sizeof(h))
		iov_read(iov, n, 0, word, sizeof(word));
	else
		memcpy(word, iov->iov_base, sizeof(word));
	/* Forget where it came from: it must not be loaded again. */
	__asm__ volatile("" : "+r"(word[0]), "+r"(word[1]));
	memcpy(&h, word, sizeof(h));
	return h;
}

static void clear(struct blk_request *rq)
{
	rq->bounced = rq->aside = rq->share = rq->flushing = rq->writing_zeroes = false;
	rq->done = rq->len = rq->n_iov = rq->n_ranges = rq->range = 0;
	rq->offset = 0;
	rq->next = NULL;
}

bool blk_request_parse(struct blk_request *rq, const struct chain *c,
		       const struct request_limits *l)
{
	struct virtio_blk_outhdr h;
	struct iovec *iov;

	rq->status_byte = blk_request_status_byte(c);
	if (!rq->status_byte)
		return false;
	clear(rq);
	if (c->readable_len < sizeof(h)) {
		answer(rq, VIRTIO_BLK_S_IOERR);
		return true;
	}
	iov = copy_iov(rq, c);
	h = load_header(iov, c->n_readable);
	if (h.type == VIRTIO_BLK_T_IN || h.type == VIRTIO_BLK_T_GET_ID) {
		rq->data = iov + c->n_readable;
		rq->n_iov = c->n_writable;
		drop_last_byte(rq->data, &rq->n_iov);
	} else {
		rq->n_iov = c->n_readable;
		rq->data = drop_front(iov, &rq->n_iov, sizeof(h));
	}
	understand(rq, &h, c->readable_len - (uint32_t)sizeof(h), c->writable_len - 1, l);
	return true;
}

void blk_request_advance(struct blk_request *rq, uint32_t n)
{
	rq->done += n;
	rq->offset += n;
	if (rq->done < rq->len)
		rq->data = drop_front(rq->data, &rq->n_iov, n);
}
