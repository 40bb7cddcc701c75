/*
 * The contract's messages, on vmdevd's side.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing: the worker shares the keeper's descriptors and may say what it likes, as often
 * as it likes. A message is decoded field by field and consumed exactly; then the table of states
 * decides whether it has a place.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <seccomp.h>

#include "daemon/device-private.h"
#include "devices/base/wire.h"
#include "devices/process/contract.h"

/* One message as it came. */
struct message {
	struct wire_reader reader;
	pid_t sender;
	uint32_t type;
};

static void happened(struct device *d, const char *what, const char *key, json_object *value)
{
	json_object *details = json_object_new_object();

	json_object_object_add(details, key, value);
	d->host->happened(d->host->arg, d, what, details);
	json_object_put(details);
}

static bool take_ready(struct device *d, struct message *m)
{
	uint32_t generation = wire_get_u32(&m->reader);

	if (!wire_done(&m->reader))
		return false;
	d->generation = generation;
	d->worker_pid = m->sender;
	return device_handle(d, DEVICE_EVENT_READY);
}

static bool take_connected(struct device *d, struct message *m)
{
	return wire_done(&m->reader) && device_handle(d, DEVICE_EVENT_FRONTEND_CAME);
}

static bool take_disconnected(struct device *d, struct message *m)
{
	return wire_done(&m->reader) && device_handle(d, DEVICE_EVENT_FRONTEND_WENT);
}

static void tell_violation(struct device *d, const char *who, uint32_t number)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)number);

	d->n_violations++;
	if (name)
		(void)snprintf(d->last_violation, sizeof(d->last_violation), "%s", name);
	else
		(void)snprintf(d->last_violation, sizeof(d->last_violation), "number %u", number);
	free(name);
	if (log_rate_pass(&d->death_rate, NULL))
		device_journal(d, LOG_LEVEL_WARNING, JOURNAL_VIOLATION,
			       "the %s tried the system call %s, which its filter refuses: "
			       "either it was attacked or the policy lacks a rule",
			       who, d->last_violation);
	happened(d, "violation", "syscall", json_object_new_string(d->last_violation));
}

static void tell_death(struct device *d, uint32_t signal, uint32_t status)
{
	const char *name = signal && signal < NSIG ? sigabbrev_np((int)signal) : NULL;
	char how[64];
	uint32_t n_dropped;

	if (name)
		(void)snprintf(how, sizeof(how), "killed by SIG%s", name);
	else if (signal)
		(void)snprintf(how, sizeof(how), "killed by signal %u", signal);
	else
		(void)snprintf(how, sizeof(how), "exited with status %u", status);
	if (log_rate_pass(&d->death_rate, &n_dropped))
		device_journal(d, LOG_LEVEL_WARNING, JOURNAL_WORKER_DIED,
			       "the worker was %s; recovering%s", how,
			       n_dropped ? " (and more before that)" : "");
	happened(d, "died", "how", json_object_new_string(how));
}

static bool take_died(struct device *d, struct message *m)
{
	uint32_t generation = wire_get_u32(&m->reader), signal = wire_get_u32(&m->reader),
		 status = wire_get_u32(&m->reader), syscall = wire_get_u32(&m->reader);

	if (!wire_done(&m->reader))
		return false;
	if (!device_handle(d, DEVICE_EVENT_DIED))
		return false;
	d->generation = generation;
	if (syscall)
		tell_violation(d, "worker", syscall - 1);
	tell_death(d, signal, status);
	return true;
}

/* Its end follows, and is judged by its exit status. */
static bool take_refused(struct device *d, struct message *m)
{
	uint32_t number = wire_get_u32(&m->reader);

	if (!wire_done(&m->reader))
		return false;
	tell_violation(d, "keeper", number);
	(void)snprintf(d->failure, sizeof(d->failure),
		       "the keeper's filter refused the system call %s", d->last_violation);
	return true;
}

static bool take_recovered(struct device *d, struct message *m)
{
	uint32_t generation = wire_get_u32(&m->reader);
	uint64_t duration_ns = wire_get_u64(&m->reader);

	if (!wire_done(&m->reader) || !device_handle(d, DEVICE_EVENT_RECOVERED))
		return false;
	d->generation = generation;
	d->last_recovery_ns = duration_ns;
	d->has_recovered = true;
	happened(d, "recovered", "recovery_ms", device_ms_to_json(duration_ns));
	return true;
}

static bool take_poison(struct device *d, struct message *m)
{
	uint32_t queue = wire_get_u32(&m->reader), head = wire_get_u32(&m->reader);

	if (!wire_done(&m->reader))
		return false;
	d->n_poisoned++;
	if (log_rate_pass(&d->protocol_rate, NULL))
		device_journal(
			d, LOG_LEVEL_WARNING, JOURNAL_POISON,
			"a request (queue %u, head %u) has crashed the worker three times; the "
			"guest gets an error for it",
			queue, head);
	happened(d, "poison", "queue", json_object_new_int64(queue));
	return true;
}

static bool take_failed(struct device *d, struct message *m)
{
	char text[CONTRACT_MSG_MAX_LEN + 1];

	wire_get_text(&m->reader, text, sizeof(text));
	if (!wire_done(&m->reader) || text[0] == '\0')
		return false;
	(void)snprintf(d->failure, sizeof(d->failure), "%s", text);
	return true;
}

static bool take_protocol(struct device *d, struct message *m)
{
	char text[CONTRACT_MSG_MAX_LEN + 1];
	uint32_t n_dropped;

	wire_get_text(&m->reader, text, sizeof(text));
	if (!wire_done(&m->reader) || text[0] == '\0')
		return false;
	d->n_protocol_errors++;
	if (log_rate_pass(&d->protocol_rate, &n_dropped))
		device_journal(d, LOG_LEVEL_WARNING, JOURNAL_PROTOCOL,
			       "the front-end broke the protocol, its session was closed: %s",
			       text);
	happened(d, "protocol", "text", json_object_new_string(text));
	return true;
}

#define ROW(type) ((type)-CONTRACT_MSG_READY)

static const struct {
	bool (*take)(struct device *d, struct message *m);
} takers[] = {
	[ROW(CONTRACT_MSG_READY)] = { take_ready },
	[ROW(CONTRACT_MSG_CONNECTED)] = { take_connected },
	[ROW(CONTRACT_MSG_DISCONNECTED)] = { take_disconnected },
	[ROW(CONTRACT_MSG_DIED)] = { take_died },
	[ROW(CONTRACT_MSG_RECOVERED)] = { take_recovered },
	[ROW(CONTRACT_MSG_POISON)] = { take_poison },
	[ROW(CONTRACT_MSG_FAILED)] = { take_failed },
	[ROW(CONTRACT_MSG_PROTOCOL)] = { take_protocol },
	[ROW(CONTRACT_MSG_REFUSED)] = { take_refused },
};

static void dispatch(struct device *d, struct message *m)
{
	uint32_t i =
		m->type - CONTRACT_MSG_READY; /* wraps below the first: not less than the count */

	if (i < sizeof(takers) / sizeof(takers[0]) && takers[i].take(d, m))
		return;
	d->n_refused++;
	if (log_rate_pass(&d->refuse_rate, NULL))
		device_journal(
			d, LOG_LEVEL_WARNING, JOURNAL_PLAIN,
			"a message of type %u from pid %d is malformed or out of place in state "
			"%s: ignored",
			m->type, m->sender, device_state_to_string(d->state));
}

static pid_t sender_of(struct msghdr *header)
{
	struct cmsghdr *c;
	struct ucred creds;

	for (c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS ||
		    c->cmsg_len != CMSG_LEN(sizeof(creds)))
			continue;
		memcpy(&creds, CMSG_DATA(c), sizeof(creds));
		return creds.pid;
	}
	return 0;
}

enum receipt { RECEIVED, NOTHING_YET, ENDED };

/*
 * One datagram. Descriptors that come along are not taken: there is room in the control buffer for
 * credentials alone, and the kernel closes what does not fit. A datagram without a byte has
 * credentials, the end of the connection has none.
 */
static enum receipt receive(struct device *d, struct message *ret, uint8_t *buf, size_t size)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = { buf, size };
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(d->launched.control_fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? NOTHING_YET : ENDED;
	ret->sender = sender_of(&header);
	if (n == 0 && ret->sender == 0)
		return ENDED;
	ret->reader = wire_reader(buf, (size_t)n);
	ret->reader.bad = (header.msg_flags & MSG_TRUNC) != 0;
	ret->type = wire_get_u32(&ret->reader);
	return RECEIVED;
}

void device_contract_read(struct device *d, unsigned max)
{
	uint8_t buf[CONTRACT_MSG_MAX_LEN];
	struct message m;

	for (unsigned i = 0; i < max && d->control; i++) {
		switch (receive(d, &m, buf, sizeof(buf))) {
		case RECEIVED:
			dispatch(d, &m);
			break;
		case ENDED: /* no news: the keeper's end is, and comes by its pidfd */
			(void)sd_event_source_set_enabled(d->control, SD_EVENT_OFF);
			return;
		case NOTHING_YET:
			return;
		}
	}
}
