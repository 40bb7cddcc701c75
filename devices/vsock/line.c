/* CONNECT and OK. See line.h. */
#include "devices/vsock/line.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char word[] = "connect";
enum { WORD_LEN = sizeof(word) - 1 };

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* In capitals or not: so have others. What has come of it is right. */
static bool begins_with_word(const uint8_t *text, uint32_t len)
{
	for (uint32_t i = 0; i < len && i < WORD_LEN; i++)
		if ((text[i] | 0x20) != word[i])
			return false;
	return len <= WORD_LEN || is_blank(text[WORD_LEN]);
}

static bool digits_to_port(const uint8_t *p, const uint8_t *end, uint32_t *ret_port)
{
	uint64_t v = 0;

	if (p == end)
		return false;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return false;
		v = v * 10 + (uint64_t)(*p - '0');
		if (v > UINT32_MAX)
			return false;
	}
	*ret_port = (uint32_t)v;
	return true;
}

int line_parse(const uint8_t *text, uint32_t len, uint32_t *ret_port)
{
	uint32_t max = len < LINE_MAX_LEN ? len : LINE_MAX_LEN;
	const uint8_t *newline = memchr(text, '\n', max), *end = newline, *port;

	if (!begins_with_word(text, max))
		return LINE_BAD;
	if (!newline)
		return max == LINE_MAX_LEN ? LINE_BAD : LINE_MORE;
	for (port = text + WORD_LEN; port < end && is_blank(*port); port++)
		;
	while (end > port && is_blank(end[-1]))
		end--;
	if (!digits_to_port(port, end, ret_port))
		return LINE_BAD;
	return (int)(newline - text) + 1;
}

uint32_t line_answer(uint8_t *text, uint32_t port)
{
	return (uint32_t)snprintf((char *)text, LINE_MAX_LEN, "OK %u\n", port);
}
