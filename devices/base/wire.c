/* Messages as bytes. See wire.h. */
#include <string.h>

#include "devices/base/wire.h"

struct wire_reader wire_reader(const void *buf, size_t len)
{
	const uint8_t *p = buf;

	return (struct wire_reader){ .p = p, .end = len ? p + len : p };
}

size_t wire_left(const struct wire_reader *r)
{
	return r->bad ? 0 : (size_t)(r->end - r->p);
}

bool wire_done(const struct wire_reader *r)
{
	return !r->bad && r->p == r->end;
}

/* The next len bytes, or NULL, after which the reader is bad. */
static const uint8_t *wire_next(struct wire_reader *r, size_t len)
{
	const uint8_t *p = r->p;

	if (wire_left(r) < len) {
		r->bad = true;
		return NULL;
	}
	r->p += len;
	return p;
}

static uint64_t wire_get(struct wire_reader *r, size_t len)
{
	const uint8_t *p = wire_next(r, len);
	uint64_t v = 0;

	for (size_t i = 0; p && i < len; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint8_t wire_get_u8(struct wire_reader *r)
{
	return (uint8_t)wire_get(r, 1);
}

uint16_t wire_get_u16(struct wire_reader *r)
{
	return (uint16_t)wire_get(r, 2);
}

uint32_t wire_get_u32(struct wire_reader *r)
{
	return (uint32_t)wire_get(r, 4);
}

uint64_t wire_get_u64(struct wire_reader *r)
{
	return wire_get(r, 8);
}

void wire_get_bytes(struct wire_reader *r, void *buf, size_t len)
{
	const uint8_t *p = len ? wire_next(r, len) : NULL;

	if (p)
		memcpy(buf, p, len);
	else if (len)
		memset(buf, 0, len);
}

/*
 * The length of the character at p, 0 if it is not well-formed UTF-8 (RFC 3629: shortest form, no
 * surrogates, up to U+10FFFF) or is a control character.
 */
static size_t wire_char_len(const uint8_t *p, size_t left)
{
	size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	uint8_t low = 0x80, high = 0xbf;

	if (n == 1)
		return p[0] >= 0x20 && p[0] != 0x7f;
	if (p[0] < 0xc2 || p[0] > 0xf4 || left < n)
		return 0;
	/* The second byte's range excludes long forms, surrogates, beyond U+10FFFF, C1. */
	if (p[0] == 0xe0 || p[0] == 0xc2)
		low = 0xa0;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return n;
}

static bool wire_is_text(const uint8_t *p, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = wire_char_len(p + i, len - i);
		if (n == 0)
			return false;
	}
	return true;
}

size_t wire_get_text(struct wire_reader *r, char *buf, size_t buf_len)
{
	size_t len = wire_left(r);
	const uint8_t *p;

	if (buf_len == 0) {
		r->bad = true;
		return 0;
	}
	if (len >= buf_len || (len && !wire_is_text(r->p, len)))
		r->bad = true;
	p = r->bad || len == 0 ? NULL : wire_next(r, len);
	if (p)
		memcpy(buf, p, len);
	else
		len = 0;
	buf[len] = '\0';
	return len;
}

struct wire_writer wire_writer(void *buf, size_t len)
{
	uint8_t *p = buf;

	return (struct wire_writer){ .start = p, .p = p, .end = len ? p + len : p };
}

size_t wire_len(const struct wire_writer *w)
{
	return w->bad ? 0 : (size_t)(w->p - w->start);
}

void wire_put_bytes(struct wire_writer *w, const void *buf, size_t len)
{
	if (w->bad || (size_t)(w->end - w->p) < len) {
		w->bad = true;
		return;
	}
	if (len == 0)
		return;
	memcpy(w->p, buf, len);
	w->p += len;
}

static void wire_put(struct wire_writer *w, uint64_t v, size_t len)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(v >> (8 * i));
	wire_put_bytes(w, bytes, len);
}

void wire_put_u8(struct wire_writer *w, uint8_t v)
{
	wire_put(w, v, 1);
}

void wire_put_u16(struct wire_writer *w, uint16_t v)
{
	wire_put(w, v, 2);
}

void wire_put_u32(struct wire_writer *w, uint32_t v)
{
	wire_put(w, v, 4);
}

void wire_put_u64(struct wire_writer *w, uint64_t v)
{
	wire_put(w, v, 8);
}

void wire_put_text(struct wire_writer *w, const char *text)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t left = strlen(text);

	while (left > 0 && !w->bad) {
		size_t n = wire_char_len(p, left), step = n ? n : 1;

		if ((size_t)(w->end - w->p) < step)
			return;
		if (n)
			wire_put_bytes(w, p, n);
		else
			wire_put_u8(w, '?');
		p += step;
		left -= step;
	}
}
