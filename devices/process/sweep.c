/* Closing what a dead worker left open. See sweep.h. */
#include "devices/process/sweep.h"

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/process/contract.h"

enum {
	WORD_BITS = 64,
	/* A worker without a session opens an epoll, an eventfd and an epoll for each thread. */
	STRAY_LIMIT = CONTRACT_FD_SESSION + 2 * CONTRACT_MAX_THREADS + 8,
};

/* Too large for the stack; a worker sweeps once. */
static uint64_t kept[CONTRACT_FD_LIMIT_MAX / WORD_BITS];

static void keep(int fd, void *arg)
{
	if (fd >= 0 && fd < CONTRACT_FD_LIMIT_MAX)
		kept[fd / WORD_BITS] |= UINT64_C(1) << (fd % WORD_BITS);
}

/*
 * The first number from fd on that is kept, or is not (invert all bits); the limit if there is
 * none.
 */
static int next(int fd, uint64_t invert)
{
	while (fd < CONTRACT_FD_LIMIT_MAX) {
		uint64_t rest = (kept[fd / WORD_BITS] ^ invert) >> (fd % WORD_BITS);

		if (rest)
			return fd + __builtin_ctzll(rest);
		fd = (fd / WORD_BITS + 1) * WORD_BITS;
	}
	return CONTRACT_FD_LIMIT_MAX;
}

/* One call for each gap: numbers are given out from below, so there are few. */
static void close_others(void)
{
	int start = next(CONTRACT_FD_SESSION, ~UINT64_C(0));

	for (;;) {
		int end = next(start, 0);

		if (end >= CONTRACT_FD_LIMIT_MAX)
			break;
		close_range((unsigned)start, (unsigned)end - 1, 0);
		start = next(end, ~UINT64_C(0));
	}
	close_range((unsigned)start, ~0u, 0);
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
	if (m->ops->for_each_fd)
		m->ops->for_each_fd(&m->device, keep, NULL);
	if (given)
		stray = CONTRACT_FD_SESSION;
	else if (session_image(s)->connection == IMAGE_NO_FD)
		stray = find_stray();
	if (stray >= 0)
		keep(stray, NULL);
	close_others();
	return stray;
}
