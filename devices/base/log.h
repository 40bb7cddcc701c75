/*
 * Log records: one line to descriptor 2, "<PRIORITY>text" as sd-daemon(3) has it, in one write, so
 * that records of several processes on one pipe do not mix.
 *
 * Runs in: every process. Trusts: nothing: control bytes of a record's text are replaced, so that
 * no peer can forge a line. Works under the worker's filter (only write) and does not allocate.
 *
 * A person at a terminal sees no priorities (log_look).
 *
 * A reader that does not read must not stop the writer, which may be in the data path: vmdevd gives
 * its devices a pipe whose writing end does not block, and a program started by hand makes one of
 * its own (log_never_wait). A record that finds no room is lost, and counted; the next one that
 * finds some is preceded by that number.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The priorities of syslog(3), which are the ones that the journal knows. */
enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

enum { LOG_MAX_LEN = 1024 }; /* bytes of a record, with priority and newline; the rest is cut */

/*
 * Is descriptor 2 a terminal (or another character device)? From here on a person reads records
 * there: without priorities. fstat() alone, which every filter allows.
 */
void log_look(void);

/*
 * If descriptor 2 is a pipe or a terminal, open it anew without blocking: other programs that have
 * it keep theirs as it was. 0 or a negative errno.
 */
int log_never_wait(void);

/* Records above this level are dropped; LOG_LEVEL_INFO at start. */
void log_set_level(int level);
int log_get_level(void);

/* Write a record. errno is kept. Prefer the macros, which do not evaluate what is not logged. */
void log_write(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_at(level, ...)                                                                         \
	do {                                                                                       \
		if ((level) <= log_get_level())                                                    \
			log_write((level), __VA_ARGS__);                                           \
	} while (0)

#define log_debug(...)	 log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)	 log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_notice(...)	 log_at(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...)	 log_at(LOG_LEVEL_ERROR, __VA_ARGS__)

/*
 * A limit for records that a peer can provoke: at most burst in each interval. Zero-initialise the
 * last three.
 */
struct log_rate {
	uint64_t interval_ns;
	uint32_t burst;
	uint32_t n;	     /* records let through in the present interval */
	uint32_t n_dropped;  /* not let through since the last one that was */
	uint64_t started_ns; /* CLOCK_MONOTONIC */
};

/*
 * May one more record be written? If so, *ret_n_dropped is the number of those refused since the
 * last one, to be told with it. ret_n_dropped may be NULL.
 */
bool log_rate_pass(struct log_rate *rate, uint32_t *ret_n_dropped);
