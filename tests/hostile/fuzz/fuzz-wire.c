/* The reader and the writer of messages, driven by the message itself: each byte chooses a field.
 */
#include <string.h>

#include "devices/base/wire.h"
#include "tests/hostile/fuzz/fuzz.h"

/* What the reader yields, the writer puts, into a buffer that may be too small. */
static void field(struct wire_reader *r, struct wire_writer *w, uint8_t which)
{
	uint8_t bytes[5];
	char text[32];
	size_t n;

	switch (which % 6) {
	case 0:
		wire_put_u8(w, wire_get_u8(r));
		break;
	case 1:
		wire_put_u16(w, wire_get_u16(r));
		break;
	case 2:
		wire_put_u32(w, wire_get_u32(r));
		break;
	case 3:
		wire_put_u64(w, wire_get_u64(r));
		break;
	case 4:
		wire_get_bytes(r, bytes, sizeof(bytes));
		wire_put_bytes(w, bytes, sizeof(bytes));
		break;
	default:
		n = wire_get_text(r, text, sizeof(text));
		CLAIM(n < sizeof(text) && strlen(text) == n);
		CLAIM(r->bad || wire_left(r) == 0);
		wire_put_text(w, text);
	}
}

/* Whatever the text was, what wire_put_text() makes of it can be read. */
static void text(const uint8_t *data, size_t len)
{
	char in[64], out[64];
	uint8_t buf[40];
	struct wire_writer w = wire_writer(buf, sizeof(buf));
	struct wire_reader r;
	size_t n = len < sizeof(in) - 1 ? len : sizeof(in) - 1;

	memcpy(in, data, n);
	in[n] = '\0';
	wire_put_text(&w, in);
	CLAIM(!w.bad);
	r = wire_reader(buf, wire_len(&w));
	wire_get_text(&r, out, sizeof(out));
	CLAIM(wire_done(&r));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t out[48];
	struct wire_reader r = wire_reader(data, len);
	struct wire_writer w = wire_writer(out, sizeof(out));
	size_t at = 0;
	bool bad = false;

	while (!wire_done(&r) && !r.bad) {
		uint8_t which = wire_get_u8(&r);

		wire_put_u8(&w, which);
		field(&r, &w, which);
		CLAIM(!bad || w.bad);
		bad = w.bad;
		CLAIM(wire_left(&r) <= len - at);
		at = len - wire_left(&r);
	}
	CLAIM(wire_len(&w) <= sizeof(out));
	/* Read to the end and written whole, with no text cut for want of room: a copy. */
	if (wire_done(&r) && !w.bad && wire_len(&w) + 4 <= sizeof(out))
		CLAIM(wire_len(&w) == len && (len == 0 || memcmp(out, data, len) == 0));
	if (len > 0)
		text(data, len);
	return 0;
}
