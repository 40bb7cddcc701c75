/*
 * vmdevd's part of the contract (devices/process/contract.h), for tests.
 *
 * Runs in: test programs. Trusts: its caller.
 *
 * The worker's filter is one that allows everything: what is to be seen here are messages, and processes that die.
 */
#include "tests/frontend/contract.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	OUT_OF_THE_WAY = 200, /* above every number of the contract */
	STOP_MS = 10000,
};

static int open_listener(const struct backend *b)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (strlen(b->socket) >= sizeof(addr.sun_path))
		return -1;
	strcpy(addr.sun_path, b->socket);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0)
		return -1;
	return fd;
}

static int open_image(const struct backend *b, const struct backend_spec *spec)
{
	bool direct = spec->cache && !strcmp(spec->cache, "none");

	return open(b->image, O_RDWR | O_CLOEXEC | (direct ? O_DIRECT : 0));
}

static int open_filter(void)
{
	static const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	int fd = memfd_create("filter", MFD_CLOEXEC);

	return fd >= 0 && write(fd, &allow, sizeof(allow)) == (ssize_t)sizeof(allow) ? fd : -1;
}

void contract_arrange(const struct backend *b, const struct backend_spec *spec, int control)
{
	const struct {
		int fd, number;
	} places[] = {
		{ control, CONTRACT_FD_CONTROL },
		{ open_listener(b), CONTRACT_FD_LISTEN },
		{ open(spec->program, O_RDONLY | O_CLOEXEC), CONTRACT_FD_PROGRAM },
		{ open_filter(), CONTRACT_FD_FILTER },
		{ open_image(b, spec), CONTRACT_FD_BLK_IMAGE },
	};
	enum { N = sizeof(places) / sizeof(*places) };
	int moved[N];

	/* First all out of the way: one may be where another has to go. */
	for (int i = 0; i < N; i++) {
		moved[i] = fcntl(places[i].fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
		if (moved[i] < 0)
			err(127, "descriptor %d of the contract", places[i].number);
	}
	for (int i = 0; i < N; i++)
		if (dup2(moved[i], places[i].number) < 0)
			err(127, "descriptor %d of the contract", places[i].number);
}

static void take(struct contract_news *news, const uint8_t *bytes, size_t len)
{
	uint32_t type;

	if (len < sizeof(type))
		errx(1, "the device told %zu bytes: that is no message", len);
	memcpy(&type, bytes, sizeof(type));
	switch (type) {
	case CONTRACT_MSG_READY:
		news->n_ready++;
		break;
	case CONTRACT_MSG_CONNECTED:
		news->n_sessions += !news->connected;
		news->connected = true;
		break;
	case CONTRACT_MSG_DISCONNECTED:
		news->connected = false;
		break;
	case CONTRACT_MSG_DIED:
		news->n_died++;
		break;
	case CONTRACT_MSG_RECOVERED:
		news->n_recovered++;
		break;
	case CONTRACT_MSG_FAILED:
		len -= sizeof(type);
		memcpy(news->failure, bytes + sizeof(type), len);
		news->failure[len] = 0;
		break;
	default:
		break;
	}
}

void contract_read(struct backend *b, struct contract_news *news)
{
	uint8_t bytes[CONTRACT_MSG_MAX_LEN];
	ssize_t n;

	while ((n = recv(b->control, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		take(news, bytes, (size_t)n);
}

int contract_stop(struct backend *b, int *ret_status)
{
	uint32_t type = CONTRACT_MSG_STOP;

	if (send(b->control, &type, sizeof(type), MSG_NOSIGNAL) != (ssize_t)sizeof(type))
		return -errno;
	for (int i = 0; i < STOP_MS; i++) {
		if (waitpid(b->pid, ret_status, WNOHANG) == b->pid) {
			b->pid = 0;
			return 0;
		}
		usleep(1000);
	}
	return -ETIMEDOUT;
}
