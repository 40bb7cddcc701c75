/* Messages to vmdevd. See tell.h. */
#include "devices/process/tell.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/wire.h"
#include "devices/process/contract.h"

static int tell_enabled;

void tell_enable(int enabled)
{
	tell_enabled = enabled;
}

/* sendmmsg: the one sending call of the worker's filter. (musl's sendmmsg() makes another one.) */
static void send_message(const struct wire_writer *w)
{
	struct iovec iov = { .iov_base = w->start, .iov_len = wire_len(w) };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };

	if (tell_enabled && iov.iov_len > 0)
		syscall(SYS_sendmmsg, CONTRACT_FD_CONTROL, &m, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void tell(uint32_t type, uint32_t n, const uint32_t *fields)
{
	uint8_t buf[CONTRACT_MSG_MAX_LEN];
	struct wire_writer w = wire_writer(buf, sizeof(buf));

	wire_put_u32(&w, type);
	for (uint32_t i = 0; i < n; i++)
		wire_put_u32(&w, fields[i]);
	send_message(&w);
}

void tell_recovered(uint32_t generation, uint64_t duration_ns)
{
	uint8_t buf[CONTRACT_MSG_MAX_LEN];
	struct wire_writer w = wire_writer(buf, sizeof(buf));

	wire_put_u32(&w, CONTRACT_MSG_RECOVERED);
	wire_put_u32(&w, generation);
	wire_put_u64(&w, duration_ns);
	send_message(&w);
}

void tell_text(uint32_t type, const char *fmt, ...)
{
	uint8_t buf[CONTRACT_MSG_MAX_LEN];
	struct wire_writer w = wire_writer(buf, sizeof(buf));
	char text[CONTRACT_MSG_MAX_LEN - 8];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	wire_put_u32(&w, type);
	wire_put_text(&w, text);
	send_message(&w);
}
