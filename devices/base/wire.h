/*
 * Messages as bytes, little endian, read and written field by field, within bounds.
 *
 *	struct wire_reader r = wire_reader(buf, len);
 *	uint32_t type = wire_get_u32(&r);
 *	uint64_t size = wire_get_u64(&r);
 *	if (!wire_done(&r))
 *		return MESSAGE_BAD;
 *
 * Runs in: every process. Trusts: nothing: the bytes come from a peer.
 *
 * Invariants:
 *  1. Neither reader nor writer touches a byte outside of what it was given.
 *  2. Once bad is set it stays so; gets yield 0 (or empty text), puts write nothing.
 *  3. wire_done() is true only if nothing went wrong and no byte is left over.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire_reader {
	const uint8_t *p, *end; /* what is left */
	bool bad;
};

struct wire_writer {
	uint8_t *start, *p, *end; /* what is written lies from start to p */
	bool bad;
};

struct wire_reader wire_reader(const void *buf, size_t len);

uint8_t wire_get_u8(struct wire_reader *r);
uint16_t wire_get_u16(struct wire_reader *r);
uint32_t wire_get_u32(struct wire_reader *r);
uint64_t wire_get_u64(struct wire_reader *r);

/* len bytes into buf; zeros if there are not as many. */
void wire_get_bytes(struct wire_reader *r, void *buf, size_t len);

/*
 * All that is left, as text, into buf with a NUL; returns its length. Bad if it does not fit or is
 * not UTF-8 free of control characters (a newline too): it ends up in somebody's log.
 */
size_t wire_get_text(struct wire_reader *r, char *buf, size_t buf_len);

/* Bytes that are left. */
size_t wire_left(const struct wire_reader *r);

/* Exactly consumed: everything was there, and nothing is left. */
bool wire_done(const struct wire_reader *r);

struct wire_writer wire_writer(void *buf, size_t len);

void wire_put_u8(struct wire_writer *w, uint8_t v);
void wire_put_u16(struct wire_writer *w, uint16_t v);
void wire_put_u32(struct wire_writer *w, uint32_t v);
void wire_put_u64(struct wire_writer *w, uint64_t v);
void wire_put_bytes(struct wire_writer *w, const void *buf, size_t len);

/*
 * Text to the end of the message, without a NUL. Text that does not fit is cut, between characters;
 * control characters become '?' and what is not UTF-8 too, so that wire_get_text() accepts it.
 */
void wire_put_text(struct wire_writer *w, const char *text);

/* Bytes written; 0 if something did not fit (a message is never empty). */
size_t wire_len(const struct wire_writer *w);
