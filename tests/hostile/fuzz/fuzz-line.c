/* What a host program writes first, byte by byte: once it cannot be a line it never will be, and a line is the same whatever follows it. */
#include <string.h>

#include "devices/vsock/line.h"
#include "tests/hostile/fuzz/fuzz.h"

static void is_right(const uint8_t *text, int line_len, uint32_t port)
{
	uint8_t answer[LINE_MAX_LEN];
	uint32_t len = line_answer(answer, port);

	CLAIM(line_len <= LINE_MAX_LEN && text[line_len - 1] == '\n');
	CLAIM(memchr(text, '\n', (size_t)line_len) == text + line_len - 1);
	CLAIM(len > 4 && len < LINE_MAX_LEN && answer[len - 1] == '\n');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	int before = LINE_MORE;
	uint32_t port_before = 0;

	for (uint32_t n = 1; n <= len && n < 2 * LINE_MAX_LEN; n++) {
		/* In memory of exactly this length. */
		uint8_t *text = malloc(n);
		uint32_t port = 0;
		int r;

		CLAIM(text);
		memcpy(text, data, n);
		r = line_parse(text, n, &port);
		CLAIM(before == LINE_MORE || (r == before && port == port_before));
		CLAIM(r != LINE_MORE || n < LINE_MAX_LEN);
		if (r > 0)
			is_right(text, r, port);
		before = r;
		port_before = port;
		free(text);
	}
	return 0;
}
