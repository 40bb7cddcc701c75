/*
 * What a device writes to its stderr, cut wherever it likes: whatever it is, vmdevd forwards and keeps
 * lines of its own size, of characters that a terminal may see, of no higher level than an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "daemon/lines.h"
#include "devices/base/wire.h"
#include "tests/hostile/fuzz/fuzz.h"

static unsigned n_forwarded;

/* What wire_put_text() leaves is what wire_get_text() takes. */
static void claim_text(const char *text)
{
	uint8_t bytes[2 * LINES_MAX_LEN];
	char back[LINES_MAX_LEN + 1];
	struct wire_writer w = wire_writer(bytes, sizeof(bytes));
	struct wire_reader r;

	CLAIM(text[0] != '\0' && strlen(text) <= LINES_MAX_LEN);
	wire_put_text(&w, text);
	r = wire_reader(bytes, wire_len(&w));
	wire_get_text(&r, back, sizeof(back));
	CLAIM(wire_done(&r) && strcmp(back, text) == 0);
}

static void line(void *arg, int level, const char *text)
{
	CLAIM(level >= LOG_LEVEL_ERROR && level <= 7);
	claim_text(text);
	n_forwarded++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct lines lines;
	int ends[2];
	unsigned n = 0;

	CLAIM(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
	lines_init(&lines);
	n_forwarded = 0;
	/* The first byte of a piece is its length. */
	while (len > 0) {
		size_t piece = data[0] < len - 1 ? data[0] : len - 1;

		CLAIM(write(ends[1], data + 1, piece) == (ssize_t)piece);
		CLAIM(lines_read(&lines, ends[0], line, NULL) == 0);
		data += 1 + piece;
		len -= 1 + piece;
	}
	close(ends[1]);
	CLAIM(lines_read(&lines, ends[0], line, NULL) == -EPIPE);
	close(ends[0]);
	for (const char *text; (text = lines_get(&lines, n)); n++)
		claim_text(text);
	CLAIM(n <= LINES_KEPT && n == (n_forwarded < LINES_KEPT ? n_forwarded : LINES_KEPT));
	return 0;
}
