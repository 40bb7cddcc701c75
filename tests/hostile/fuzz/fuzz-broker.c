/*
 * What a worker that is not ours any more writes to vmdevd's broker: datagrams, each with its length before it. No question but one that
 * is of the contract's form is answered, each once; a socket is had only where the document says so.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/broker.h"
#include "daemon/config.h"
#include "devices/base/fd.h"
#include "devices/base/wire.h"
#include "devices/process/contract.h"
#include "tests/hostile/fuzz/fuzz.h"

enum { CID_HOST = 2, CID_FRIEND = 77, PORT = 1000, MAX_ASKED = 512 };

static struct device_config config = {
	.ports.host = { .limited = true, .n = 1, .ranges = { { PORT, PORT + 1 } } }
};
static sd_event *event;
static struct broker *broker;
static int channel = -1, listening;
static char dir[64], uds[80], path[96];

/* Questions of the contract's form, as they were sent. */
static struct broker_call asked[MAX_ASKED];
static unsigned n_asked, n_answered;

static int offer(void *arg, const struct broker_call *call, int fd)
{
	CLAIM(fd >= 0 && call->cid != CID_HOST && (call->type == 1 || call->type == 2));
	return call->cid == CID_FRIEND ? 0 : -EHOSTUNREACH;
}

static void clean_up(void)
{
	broker_free(broker);
	unlink(path);
	rmdir(dir);
}

static void set_up(void)
{
	struct broker_spec spec = { .offer = offer };
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	snprintf(dir, sizeof(dir), "/tmp/vmdev-fuzz-broker-XXXXXX");
	CLAIM(mkdtemp(dir) && sd_event_new(&event) >= 0);
	snprintf(uds, sizeof(uds), "%s/v", dir);
	snprintf(path, sizeof(path), "%s_%d", uds, PORT);
	snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
	config.uds = uds;
	config.socket = (struct socket_config){ geteuid(), getegid(), 0600 };
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CLAIM(bind(listening, (struct sockaddr *)&name, sizeof(name)) == 0 &&
	      listen(listening, 64) == 0);
	spec.event = event;
	CLAIM(broker_new(&spec, &broker) == 0);
	atexit(clean_up);
}

static void start(void)
{
	struct broker_resource resource = { .broker = broker };
	char *error = NULL;
	int fds[3];

	broker_stop(broker);
	fd_close(channel);
	CLAIM(broker_prepare(broker, &config, &error) == 0);
	CLAIM(broker_open(&resource, 0, fds, &error) == 0 && broker_start(broker) == 0);
	close(fds[0]);
	close(fds[1]);
	channel = fds[2];
	n_asked = n_answered = 0;
}

static void note(const uint8_t *data, size_t len)
{
	struct wire_reader r = wire_reader(data, len);
	bool ask = wire_get_u32(&r) == CONTRACT_VSOCK_ASK;
	struct broker_call call;

	call.serial = wire_get_u64(&r);
	call.cid = wire_get_u64(&r);
	call.port = wire_get_u32(&r);
	call.own_port = wire_get_u32(&r);
	call.type = wire_get_u32(&r);
	if (ask && wire_done(&r) && n_asked < MAX_ASKED)
		asked[n_asked++] = call;
}

static bool may_have(uint64_t serial, bool other_guest)
{
	for (unsigned i = 0; i < n_asked; i++)
		if (asked[i].serial == serial &&
		    asked[i].cid == (other_guest ? CID_FRIEND : CID_HOST) &&
		    (other_guest || (asked[i].port == PORT && asked[i].type == 1)))
			return true;
	return false;
}

static void judge(const uint8_t *data, size_t len, int fd)
{
	struct wire_reader r = wire_reader(data, len);
	uint32_t what = wire_get_u32(&r);
	uint64_t serial = wire_get_u64(&r);
	uint32_t error = wire_get_u32(&r), other_guest = wire_get_u32(&r);

	CLAIM(what == CONTRACT_VSOCK_ANSWER && wire_done(&r) && other_guest <= 1);
	CLAIM((error == 0) == (fd >= 0));
	CLAIM(++n_answered <= n_asked);
	if (fd >= 0)
		CLAIM(may_have(serial, other_guest));
}

static void read_answers(void)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];

	for (;;) {
		struct iovec iov = { buf, sizeof(buf) };
		struct msghdr m = { .msg_iov = &iov,
				    .msg_iovlen = 1,
				    .msg_control = control.bytes,
				    .msg_controllen = sizeof(control.bytes) };
		ssize_t n = recvmsg(channel, &m, MSG_DONTWAIT);
		int fd = -1;

		if (n <= 0)
			return;
		if (CMSG_FIRSTHDR(&m))
			memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
		judge(buf, (size_t)n, fd);
		fd_close(fd);
	}
}

static void turns(void)
{
	int fd;

	for (unsigned i = 0; i < 4; i++)
		CLAIM(sd_event_run(event, 0) >= 0);
	read_answers();
	while ((fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!broker)
		set_up();
	start();
	while (len > 0) {
		size_t n = data[0] < len - 1 ? data[0] : len - 1;

		if (send(channel, data + 1, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n)
			note(data + 1, n);
		if (n % 3 == 0)
			turns();
		data += 1 + n;
		len -= 1 + n;
	}
	turns();
	return 0;
}
