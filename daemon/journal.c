/*
 * Records for the operator; journal.h says where they go.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing in a record's text.
 */
/* The source's own file and line are of no use to an operator. */
#define SD_JOURNAL_SUPPRESS_LOCATION

#include "daemon/journal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/log.h"

/* Stable: never changed, never used again for something else. */
static const char *const message_ids[] = {
	[JOURNAL_PLAIN] = NULL,
	[JOURNAL_DEVICE_FAILED] = "05107d8b843d41cab65aa78e7755339a",
	[JOURNAL_WORKER_DIED] = "b371d61f8e8fd3f0c4a9dfb2fc4b7bec",
	[JOURNAL_DEVICE_RELAUNCHED] = "91b20c022b36bf6aad8567275cd63b2c",
	[JOURNAL_VIOLATION] = "644f175fd9bcabf6051b41691c56e558",
	[JOURNAL_POISON] = "16516401414ab240cf7cbe7a02b71f16",
	[JOURNAL_PROTOCOL] = "23ef86a1f914c74b9f689fdd7d7ab2c8",
	[JOURNAL_DOCUMENT_REFUSED] = "f1f892cb34663b9b6aff5ff533c0d092",
};
static_assert(sizeof(message_ids) / sizeof(message_ids[0]) == N_JOURNAL_IDS, "an id is missing");

static bool use_journal;

/* systemd.exec(5): JOURNAL_STREAM is "DEVICE:INODE" of the stream, if nobody has redirected it. */
void journal_init(bool use_stderr)
{
	const char *text = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	use_journal = !use_stderr && text && sscanf(text, "%llu:%llu", &dev, &ino) == 2 &&
		      fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static void to_journal(const struct journal_about *about, char *text)
{
	char priority[16], message_id[64], vm[96], device[160], message[LOG_MAX_LEN + 16];
	struct iovec iov[5];
	int n = 0;

#define FIELD(buffer, ...)                                                                         \
	do {                                                                                       \
		int len_ = snprintf(buffer, sizeof(buffer), __VA_ARGS__);                          \
		if (len_ > 0 && (size_t)len_ < sizeof(buffer))                                     \
			iov[n++] = (struct iovec){ buffer, (size_t)len_ };                         \
	} while (0)
	FIELD(message, "MESSAGE=%s", text);
	FIELD(priority, "PRIORITY=%d", about->level);
	if (message_ids[about->id])
		FIELD(message_id, "MESSAGE_ID=%s", message_ids[about->id]);
	if (about->device) {
		FIELD(vm, "VMDEV_VM=%s", about->vm);
		FIELD(device, "VMDEV_DEVICE=%s/%s", about->vm, about->device);
	}
#undef FIELD
	(void)sd_journal_sendv(iov, n);
}

void journal_write(const struct journal_about *about, const char *format, ...)
{
	char text[LOG_MAX_LEN];
	va_list args;
	int at = 0;

	if (about->level > log_get_level())
		return;
	if (about->device)
		at = snprintf(text, sizeof(text), "%s/%s: ", about->vm, about->device);
	va_start(args, format);
	(void)vsnprintf(text + at, sizeof(text) - (size_t)at - 1, format, args);
	va_end(args);
	for (char *p = text; *p; p++)
		if (((unsigned char)*p < 0x20 && *p != '\n') || *p == 0x7f)
			*p = '?';
	if (use_journal) {
		to_journal(about, text);
	} else {
		size_t len = 0;

		while (text[len])
			len++;
		text[len++] = '\n'; /* there is room: see the - 1 above */
		(void)fd_write_all(STDERR_FILENO, text, len);
	}
}
