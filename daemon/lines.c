/*
 * A device's stderr; lines.h says what is done with it.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing.
 */
#include "daemon/lines.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "devices/base/wire.h"

void lines_init(struct lines *lines)
{
	*lines = (struct lines){
		.rate = {
			.interval_ns = LINES_INTERVAL_S * UINT64_C(1000000000),
			.burst = LINES_BURST,
		},
	};
}

typedef void (*line_fn)(void *arg, int level, const char *text);

static void keep(struct lines *lines, const char *text)
{
	(void)snprintf(lines->kept[lines->next], sizeof(lines->kept[0]), "%s", text);
	lines->next = (lines->next + 1) % LINES_KEPT;
	if (lines->n < LINES_KEPT)
		lines->n++;
}

/* The line in partial is complete: sd-daemon(3)'s "<N>" first, if it is there. */
static void complete(struct lines *lines, line_fn line, void *arg)
{
	char *text = lines->partial, clean[LINES_MAX_LEN + 1], note[64];
	struct wire_writer w = wire_writer(clean, sizeof(clean) - 1);
	int level = LOG_LEVEL_INFO;
	uint32_t n_dropped;

	text[lines->partial_len] = '\0';
	if (lines->partial_len >= 3 && text[0] == '<' && text[1] >= '0' && text[1] <= '7' &&
	    text[2] == '>') {
		level = text[1] - '0';
		text += 3;
	}
	lines->partial_len = 0;
	if (text[0] == '\0')
		return;
	if (level < LOG_LEVEL_ERROR) /* a device cannot raise more alarm than an error */
		level = LOG_LEVEL_ERROR;
	if (!log_rate_pass(&lines->rate, &n_dropped))
		return;
	wire_put_text(&w, text); /* what is no character becomes '?' */
	*w.p = '\0';
	if (n_dropped) {
		(void)snprintf(note, sizeof(note), "%u lines were not shown: too many at once",
			       n_dropped);
		keep(lines, note);
		line(arg, LOG_LEVEL_NOTICE, note);
	}
	keep(lines, clean);
	line(arg, level, clean);
}

static void add(struct lines *lines, unsigned char c, line_fn line, void *arg)
{
	if (c == '\n') {
		complete(lines, line, arg);
		return;
	}
	if (lines->partial_len + 1 >= sizeof(lines->partial))
		return;
	if (c == '\0') /* the one control character that would end a text */
		c = '?';
	lines->partial[lines->partial_len++] = (char)c;
}

int lines_read(struct lines *lines, int fd, line_fn line, void *arg)
{
	char buf[4096];

	for (unsigned i = 0; i < 16; i++) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (n == 0) {
			if (lines->partial_len)
				complete(lines, line, arg);
			return -EPIPE;
		}
		for (ssize_t k = 0; k < n; k++)
			add(lines, (unsigned char)buf[k], line, arg);
	}
	return 0;
}

const char *lines_get(const struct lines *lines, unsigned i)
{
	if (i >= lines->n)
		return NULL;
	return lines->kept[(lines->next + LINES_KEPT - lines->n + i) % LINES_KEPT];
}
