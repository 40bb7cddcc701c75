/* Log records. See log.h. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/log.h"

static int log_level = LOG_LEVEL_INFO;
static uint32_t log_n_lost;
static bool log_plain; /* without priorities */

static_assert(LOG_MAX_LEN <= PIPE_BUF, "a write to a pipe is all or nothing");

void log_set_level(int level)
{
	log_level = level;
}

int log_get_level(void)
{
	return log_level;
}

void log_look(void)
{
	struct stat st;

	log_plain = fd_stat(STDERR_FILENO, &st) == 0 && S_ISCHR(st.st_mode);
}

int log_never_wait(void)
{
	struct stat st;
	int fd, r = fd_stat(STDERR_FILENO, &st);

	if (r < 0)
		return r;
	if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode))
		return 0;
	fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	fd = fd_move(fd, STDERR_FILENO, false);
	return fd < 0 ? fd : 0;
}

enum { PREFIX_LEN = 3 }; /* "<N>" */

/* One record, or nothing of it: it is shorter than PIPE_BUF. n_lost: that is lost with it. */
static void log_put(const char *record, size_t len, uint32_t n_lost)
{
	size_t skip = log_plain ? PREFIX_LEN : 0;

	/* Nobody is left to be told if this fails. */
	if (write(STDERR_FILENO, record + skip, len - skip) < 0 && errno == EAGAIN)
		__atomic_add_fetch(&log_n_lost, n_lost, __ATOMIC_RELAXED);
}

/* Tell how many were lost, if there is room now. */
static void log_put_lost(void)
{
	uint32_t n = __atomic_exchange_n(&log_n_lost, 0, __ATOMIC_RELAXED);
	char note[96];
	int len;

	if (n == 0)
		return;
	len = snprintf(note, sizeof(note),
		       "<%d>%u records were lost here: nobody had read those before\n",
		       LOG_LEVEL_WARNING, n);
	log_put(note, (size_t)len, n);
}

/* Control bytes become '?'; bytes from 0x80 up stay, they may be UTF-8. */
static void log_clean(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
}

void log_write(int level, const char *fmt, ...)
{
	char record[LOG_MAX_LEN];
	int saved = errno, n;
	size_t len;
	va_list args;

	record[0] = '<';
	record[1] = (char)('0' + (level & 7));
	record[2] = '>';
	/* One byte is vsnprintf's NUL, whose place the newline takes. */
	va_start(args, fmt);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it is, one line above */
	n = vsnprintf(record + PREFIX_LEN, sizeof(record) - PREFIX_LEN, fmt, args);
	va_end(args);
	len = n < 0 ? 0 : (size_t)n;
	if (len > sizeof(record) - PREFIX_LEN - 1)
		len = sizeof(record) - PREFIX_LEN - 1;
	log_clean(record + PREFIX_LEN, len);
	record[PREFIX_LEN + len] = '\n';
	log_put_lost();
	log_put(record, PREFIX_LEN + len + 1, 1);
	errno = saved;
}

bool log_rate_pass(struct log_rate *rate, uint32_t *ret_n_dropped)
{
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	if (rate->n == 0 || now - rate->started_ns >= rate->interval_ns) {
		rate->started_ns = now;
		rate->n = 0;
	}
	if (rate->n >= rate->burst) {
		rate->n_dropped++;
		return false;
	}
	rate->n++;
	if (ret_n_dropped)
		*ret_n_dropped = rate->n_dropped;
	rate->n_dropped = 0;
	return true;
}
