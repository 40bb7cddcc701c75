/* Closing what a dead worker left open. See sweep.h. */
#include "devices/process/sweep.h"

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/base/touch.h"
#include "devices/process/contract.h"

enum {
	WORD_BITS = 64,
	/* A worker without a session opens an epoll; for each thread that, an eventfd, a ring. */
	STRAY_LIMIT = CONTRACT_FD_SESSION + 3 * CONTRACT_MAX_THREADS + 8,
};

/* Too large for the stack; a worker sweeps once. */
static uint64_t kept[CONTRACT_FD_LIMIT_MAX / WORD_BITS];
static int kept_end = CONTRACT_FD_SESSION; /* from here on none is */

void sweep_prepare(uint32_t n_fds)
{
	touch(kept, n_fds / 8);
}

static void keep(int fd, void *arg)
{
	if (fd < 0 || fd >= CONTRACT_FD_LIMIT_MAX)
		return;
	kept[fd / WORD_BITS] |= UINT64_C(1) << (fd % WORD_BITS);
	if (fd >= kept_end)
		kept_end = fd + 1;
}

static void keep_set(struct model *m)
{
	uint32_t n_words = 0;
	const uint64_t *set = m->ops->fds(&m->device, &n_words);

	for (uint32_t i = 0; i < n_words && i < CONTRACT_FD_LIMIT_MAX / WORD_BITS; i++) {
		int end = (int)(i + 1) * WORD_BITS;

		kept[i] |= set[i];
		if (set[i] && end - __builtin_clzll(set[i]) > kept_end)
			kept_end = end - __builtin_clzll(set[i]);
	}
}

/* The first number from fd on that is kept, or is not (invert all bits); the end if none is. */
static int next(int fd, uint64_t invert)
{
	while (fd < kept_end) {
		uint64_t rest = (kept[fd / WORD_BITS] ^ invert) >> (fd % WORD_BITS);

		if (rest)
			return fd + __builtin_ctzll(rest);
		fd = (fd / WORD_BITS + 1) * WORD_BITS;
	}
	return kept_end;
}

/* One call for each gap: numbers are given out from below, so there are few. */
static void close_others(int limit)
{
	int start = next(CONTRACT_FD_SESSION, ~UINT64_C(0));

	while (start < kept_end) {
		int end = next(start, 0);

		close_range((unsigned)start, (unsigned)end - 1, 0);
		start = next(end, ~UINT64_C(0));
	}
	if (kept_end < limit)
		close_range((unsigned)kept_end, ~0u, 0);
}

static int find_stray(void)
{
	for (int fd = CONTRACT_FD_SESSION; fd < STRAY_LIMIT; fd++) {
		struct sockaddr_storage peer;
		socklen_t len = sizeof(peer);

		if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0)
			return fd;
	}
	return -1;
}

int sweep_session(const struct session *s, struct model *m, bool given)
{
	int stray = -1;

	session_for_each_fd(s, keep, NULL);
	if (m->ops->fds)
		keep_set(m);
	if (m->ops->for_each_fd)
		m->ops->for_each_fd(&m->device, keep, NULL);
	if (given)
		stray = CONTRACT_FD_SESSION;
	else if (session_image(s)->connection == IMAGE_NO_FD)
		stray = find_stray();
	if (stray >= 0)
		keep(stray, NULL);
	close_others(s->limits.fd_limit);
	return stray;
}
