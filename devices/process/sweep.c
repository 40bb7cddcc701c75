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

struct kept {
	uint64_t bits[CONTRACT_FD_LIMIT / WORD_BITS];
};

static void keep(int fd, void *arg)
{
	struct kept *k = arg;

	if (fd >= 0 && fd < CONTRACT_FD_LIMIT)
		k->bits[fd / WORD_BITS] |= UINT64_C(1) << (fd % WORD_BITS);
}

static bool is_kept(const struct kept *k, int fd)
{
	return (k->bits[fd / WORD_BITS] >> (fd % WORD_BITS)) & 1;
}

static void close_others(const struct kept *k)
{
	int start = CONTRACT_FD_SESSION;

	for (int fd = start; fd < CONTRACT_FD_LIMIT; fd++) {
		if (!is_kept(k, fd))
			continue;
		if (fd > start)
			close_range((unsigned)start, (unsigned)fd - 1, 0);
		start = fd + 1;
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

int sweep_session(const struct session *s, bool given)
{
	struct kept k = { 0 };
	int stray = -1;

	session_for_each_fd(s, keep, &k);
	if (given)
		stray = CONTRACT_FD_SESSION;
	else if (session_image(s)->connection == IMAGE_NO_FD)
		stray = find_stray();
	if (stray >= 0)
		keep(stray, &k);
	close_others(&k);
	return stray;
}
