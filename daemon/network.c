/* Switches and user-mode stacks. See network.h. */
#include "daemon/network.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/helper.h"
#include "daemon/journal.h"
#include "daemon/sandbox/fail.h"
#include "daemon/stack.h"
#include "devices/base/error.h"
#include "devices/base/list.h"
#include "devices/base/log.h"
#include "devices/base/scope.h"
#include "devices/base/wire.h"
#include "devices/process/contract.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

enum {
	NAME_LEN = 160,		/* VM/DEVICE, or a switch's */
	STREAM_ID = UINT32_MAX, /* of the one stream of a user-mode stack's switch */
};

struct network;

struct port {
	struct list link; /* of its network's */
	char vm[64], device[64];
	uint32_t id;
	uint32_t n_queues;
	int memory, kick, calls[CONTRACT_PORT_MAX_QUEUES];
	size_t message_len;
	uint8_t message[CONTRACT_SWITCH_MSG_MAX_LEN]; /* what the switch is told */
};

/* A vmdev-switch with its ports. */
struct network {
	struct list link;
	struct networks *all;
	char name[NAME_LEN];
	bool is_user;
	bool ready; /* the program has said so, and has the ports */
	uint32_t uid_index, stack_uid_index;
	struct helper *program;
	struct list ports;
	/* of a user-mode stack */
	struct user_config config;
	uint32_t mtu;
	struct helper *stack;
	int stream; /* the switch's end, until it is sent; -1 */
};

struct networks {
	struct networks_spec spec;
	struct list list;
	uint32_t next_id;
	uint32_t next_uid_index;
};

static struct network *find(struct networks *n, const char *name, bool is_user)
{
	struct network *net;

	list_for_each (net, &n->list, link)
		if (net->is_user == is_user && strcmp(net->name, name) == 0)
			return net;
	return NULL;
}

/* ---- what the switch is told ---- */

static void put_vlans(struct wire_writer *w, const struct switch_config *c)
{
	bool any = c && c->access == 0 && c->native == 0 && c->n_trunk == 0;

	wire_put_u16(w, (uint16_t)(c ? c->access + c->native : 0));
	wire_put_u16(w, (uint16_t)(!c || any ? 1 : c->n_trunk));
	if (!c || any) {
		wire_put_u16(w, 1);
		wire_put_u16(w, 4094);
		return;
	}
	for (uint32_t i = 0; i < c->n_trunk; i++) {
		wire_put_u16(w, c->trunk[i].first);
		wire_put_u16(w, c->trunk[i].last);
	}
}

static void put_addresses(struct wire_writer *w, const struct switch_config *c)
{
	wire_put_u16(w, (uint16_t)(c ? c->n_addresses : 0));
	for (uint32_t i = 0; c && i < c->n_addresses; i++)
		wire_put_bytes(w, c->addresses[i], sizeof(c->addresses[i]));
}

static uint32_t flags_of(const struct switch_config *c)
{
	uint32_t flags = 0;

	if (!c)
		return CONTRACT_PORT_TAGGED | CONTRACT_PORT_UNTAGGED;
	if (c->bind)
		flags |= CONTRACT_PORT_BOUND;
	if (c->access == 0)
		flags |= CONTRACT_PORT_TAGGED;
	if (c->n_trunk == 0 || c->native > 0)
		flags |= CONTRACT_PORT_UNTAGGED;
	return flags;
}

static void make_message(struct port *p, const struct network_port *spec)
{
	struct wire_writer w = wire_writer(p->message, sizeof(p->message));
	char name[NAME_LEN];

	(void)snprintf(name, sizeof(name), "%s/%s", p->vm, p->device);
	wire_put_u32(&w, CONTRACT_SWITCH_MSG_PORT);
	wire_put_u32(&w, p->id);
	wire_put_u32(&w, flags_of(spec->lan));
	wire_put_bytes(&w, spec->mac, sizeof(spec->mac));
	put_vlans(&w, spec->lan);
	put_addresses(&w, spec->lan);
	wire_put_u32(&w, p->n_queues);
	wire_put_text(&w, name);
	p->message_len = wire_len(&w);
}

/*
 * A helper that does not take its messages is as good as dead. One that is dead is replaced anyway.
 */
static void check_sent(struct network *net, int r)
{
	if (r >= 0 || r == -ENOTCONN || r == -EPIPE || r == -ECONNRESET)
		return;
	journal_error("switch %s does not take its messages: %s; it is started anew", net->name,
		      error_text(r));
	helper_restart(net->program);
}

static void send_port(struct network *net, const struct port *p)
{
	int fds[CONTRACT_SWITCH_MAX_FDS] = { p->memory, p->kick };

	memcpy(fds + 2, p->calls, p->n_queues * sizeof(*fds));
	check_sent(net,
		   helper_send(net->program, p->message, p->message_len, fds, 2 + p->n_queues));
}

static void send_remove(struct network *net, uint32_t id)
{
	uint8_t bytes[8];
	struct wire_writer w = wire_writer(bytes, sizeof(bytes));

	wire_put_u32(&w, CONTRACT_SWITCH_MSG_REMOVE);
	wire_put_u32(&w, id);
	check_sent(net, helper_send(net->program, bytes, wire_len(&w), NULL, 0));
}

/* The stream's end is the switch's alone from now on: it ends when that does. */
static void send_stream(struct network *net)
{
	uint8_t bytes[CONTRACT_SWITCH_MSG_MAX_LEN];
	struct wire_writer w = wire_writer(bytes, sizeof(bytes));
	const uint8_t no_mac[6] = { 0 };

	wire_put_u32(&w, CONTRACT_SWITCH_MSG_STREAM);
	wire_put_u32(&w, STREAM_ID);
	wire_put_u32(&w, flags_of(NULL));
	wire_put_bytes(&w, no_mac, sizeof(no_mac));
	put_vlans(&w, NULL);
	put_addresses(&w, NULL);
	wire_put_u32(&w, 0);
	wire_put_text(&w, "passt");
	check_sent(net, helper_send(net->program, bytes, wire_len(&w), &net->stream, 1));
	net->stream = fd_close(net->stream);
}

/* ---- the switch ---- */

static const char *policy_find(const struct networks *n, char *room, size_t size)
{
	(void)snprintf(room, size, "%s/switch.json", n->spec.override_dir);
	return access(room, F_OK) == 0 ? room : "switch";
}

static struct launch_spec program_spec(const struct networks *n, char *const *argv, char *program,
				       char *policy, size_t size)
{
	static const struct launch_limits none = { NULL };

	(void)snprintf(program, size, "%s/%svmdev-switch", n->spec.program_dir,
		       n->spec.is_build_tree ? "net/switch/" : "");
	return (struct launch_spec){
		.program_path = program,
		.argv = argv,
		.listen_fd = -1,
		.policy = policy_find(n, policy, size),
		.policy_dir = n->spec.policy_dir,
		.resource = { .plan = { .type = "switch",
					.ids = PLAN_IDS_ONE,
					.helper = true,
					.fd_limit = CONTRACT_FD_LIMIT_SWITCH } },
		.limits = &none,
	};
}

static int launch_program(void *arg, struct launched *ret, char **ret_error)
{
	struct network *net = arg;
	char option[NAME_LEN + 16], program[4096], policy[4096], cgroup[NAME_LEN + 16];
	char *argv[] = { (char *)"vmdev-switch", (char *)"--contract", option, NULL };
	struct launch_spec spec = program_spec(net->all, argv, program, policy, sizeof(program));

	(void)snprintf(option, sizeof(option), "--name=%s", net->name);
	(void)snprintf(cgroup, sizeof(cgroup), ":%s:%s", net->is_user ? "user" : "switch",
		       net->name);
	for (char *p = cgroup; *p; p++)
		if (*p == '/')
			*p = ':';
	spec.name = net->name;
	spec.uid_index = net->uid_index;
	spec.cgroup_name = cgroup;
	return launch_device(&spec, ret, ret_error);
}

static void send_begin(struct network *net)
{
	uint8_t bytes[4];
	struct wire_writer w = wire_writer(bytes, sizeof(bytes));

	wire_put_u32(&w, CONTRACT_SWITCH_MSG_BEGIN);
	check_sent(net, helper_send(net->program, bytes, wire_len(&w), NULL, 0));
}

static void on_ready(struct network *net)
{
	struct port *p;

	net->ready = true;
	list_for_each (p, &net->ports, link)
		send_port(net, p);
	send_begin(net);
	if (net->stream >= 0)
		send_stream(net);
}

static void said(void *arg, const void *bytes, size_t len)
{
	struct network *net = arg;
	struct wire_reader r = wire_reader(bytes, len);
	uint32_t type = wire_get_u32(&r), value;
	char text[CONTRACT_MSG_MAX_LEN];

	if (type == CONTRACT_MSG_FAILED) {
		(void)wire_get_text(&r, text, sizeof(text));
		if (wire_done(&r))
			journal_error("switch %s: %s", net->name, text);
		return;
	}
	value = wire_get_u32(&r);
	if (!wire_done(&r))
		return;
	if (type == CONTRACT_MSG_READY && !net->ready)
		on_ready(net);
	else if (type == CONTRACT_SWITCH_MSG_GONE && value == STREAM_ID && net->stack)
		helper_restart(net->stack); /* if it has not gone itself */
}

/* Its end of the stream has gone with it: the stack ends by that, if it can be relied on. */
static void program_ended(void *arg)
{
	struct network *net = arg;

	net->ready = false;
	if (net->stack && net->stream < 0)
		helper_restart(net->stack);
}

static int start_program(struct network *net)
{
	char name[NAME_LEN + 16];
	struct helper_spec spec = {
		.event = net->all->spec.event,
		.name = name,
		.launch = launch_program,
		.said = said,
		.ended = program_ended,
		.arg = net,
	};

	(void)snprintf(name, sizeof(name), "switch %s", net->name);
	return helper_new(&spec, &net->program);
}

/* ---- the stack ---- */

static int launch_stack(void *arg, struct launched *ret, char **ret_error)
{
	struct network *net = arg;
	char cgroup[NAME_LEN + 16];
	scope_fd int theirs = -1;
	struct stack_spec spec = {
		.name = net->name,
		.cgroup_name = cgroup,
		.config = &net->config,
		.mtu = net->mtu,
		.uid_index = net->stack_uid_index,
	};
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	net->stream = fd_close(net->stream);
	net->stream = pair[0];
	spec.socket = theirs = pair[1];
	(void)snprintf(cgroup, sizeof(cgroup), ":passt:%s", net->name);
	for (char *p = cgroup; *p; p++)
		if (*p == '/')
			*p = ':';
	r = stack_launch(&spec, ret, ret_error);
	if (r < 0) {
		net->stream = fd_close(net->stream);
		return r;
	}
	if (net->ready)
		send_stream(net);
	return 0;
}

static void stack_ended(void *arg)
{
	struct network *net = arg;

	if (net->ready && net->stream < 0)
		send_remove(net, STREAM_ID);
	net->stream = fd_close(net->stream);
}

static int start_stack(struct network *net, const struct network_port *port)
{
	struct helper_spec spec = {
		.event = net->all->spec.event,
		.name = "passt",
		.vm = port->vm,
		.device = port->device,
		.launch = launch_stack,
		.ended = stack_ended,
		.arg = net,
	};

	net->config = *port->user;
	net->mtu = port->mtu;
	return helper_new(&spec, &net->stack);
}

/* ---- networks ---- */

static struct network *network_free(struct network *net)
{
	helper_free(net->stack);
	helper_free(net->program);
	fd_close(net->stream);
	list_remove(&net->link);
	free(net);
	return NULL;
}

static uint32_t next_uid_index(struct networks *n)
{
	return n->next_uid_index++ % PLAN_UID_RANGE;
}

static int network_new(struct networks *n, const char *name, const struct network_port *port,
		       struct network **ret)
{
	struct network *net = calloc(1, sizeof(*net));
	int r;

	if (!net)
		return -ENOMEM;
	net->all = n;
	net->is_user = port->user != NULL;
	net->stream = -1;
	net->uid_index = next_uid_index(n);
	net->stack_uid_index = next_uid_index(n);
	(void)snprintf(net->name, sizeof(net->name), "%s", name);
	list_init(&net->ports);
	list_append(&n->list, &net->link);
	r = start_program(net);
	if (r == 0 && net->is_user)
		r = start_stack(net, port);
	if (r < 0) {
		network_free(net);
		return r;
	}
	*ret = net;
	return 0;
}

static void port_free(struct port *p)
{
	list_remove(&p->link);
	fd_close(p->memory);
	fd_close(p->kick);
	for (uint32_t q = 0; q < p->n_queues; q++)
		fd_close(p->calls[q]);
	free(p);
}

static int port_open(struct port *p)
{
	p->memory = fd_open_memfd("vmdev-port", contract_port_len(p->n_queues), SEALS);
	if (p->memory < 0)
		return p->memory;
	p->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->kick < 0)
		return -errno;
	for (uint32_t q = 0; q < p->n_queues; q++) {
		p->calls[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (p->calls[q] < 0)
			return -errno;
	}
	return 0;
}

static int port_new(struct networks *n, const struct network_port *spec, struct port **ret)
{
	struct port *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	list_init(&p->link);
	(void)snprintf(p->vm, sizeof(p->vm), "%s", spec->vm);
	(void)snprintf(p->device, sizeof(p->device), "%s", spec->device);
	p->id = n->next_id++;
	p->n_queues = spec->n_queues;
	p->memory = p->kick = -1;
	for (uint32_t q = 0; q < p->n_queues; q++)
		p->calls[q] = -1;
	r = port_open(p);
	if (r < 0) {
		port_free(p);
		return r;
	}
	make_message(p, spec);
	*ret = p;
	return 0;
}

static int copy_fds(const struct port *p, int *ret_fds)
{
	uint32_t n = 2 + p->n_queues;

	for (uint32_t i = 0; i < n; i++) {
		int fd = i == 0 ? p->memory : i == 1 ? p->kick : p->calls[i - 2];

		ret_fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, CONTRACT_FD_SESSION);
		if (ret_fds[i] >= 0)
			continue;
		while (i > 0)
			fd_close(ret_fds[--i]);
		return -errno;
	}
	return 0;
}

static void name_of(const struct network_port *port, char *name, size_t size)
{
	if (port->lan)
		(void)snprintf(name, size, "%s", port->lan->name);
	else
		(void)snprintf(name, size, "%s/%s", port->vm, port->device);
}

int networks_check(const struct networks *n, const struct network_port *port, char **ret_error)
{
	char *const none[] = { NULL };
	char program[4096], policy[4096];
	struct launch_spec spec = program_spec(n, none, program, policy, sizeof(program));
	int r = launch_check(&spec, ret_error);

	return r < 0 || !port->user ? r : stack_check(ret_error);
}

int networks_plug(struct networks *n, const struct network_port *spec, int *ret_fds,
		  char **ret_error)
{
	char name[NAME_LEN];
	struct network *net;
	struct port *p = NULL;
	bool copied;
	int r;

	networks_unplug(n, spec->vm, spec->device);
	name_of(spec, name, sizeof(name));
	r = port_new(n, spec, &p);
	if (r >= 0)
		r = copy_fds(p, ret_fds);
	copied = r >= 0;
	net = find(n, name, spec->user != NULL);
	if (r >= 0 && !net)
		r = network_new(n, name, spec, &net);
	if (r < 0) {
		if (p)
			port_free(p);
		for (uint32_t i = 0; copied && i < 2 + spec->n_queues; i++)
			fd_close(ret_fds[i]);
		return fail(ret_error, r, "no port of the network %s can be made: %s", name,
			    error_text(r));
	}
	list_append(&net->ports, &p->link);
	if (net->ready)
		send_port(net, p);
	return 0;
}

void networks_unplug(struct networks *n, const char *vm, const char *device)
{
	struct network *net;
	struct port *p;

	list_for_each (net, &n->list, link) {
		list_for_each (p, &net->ports, link) {
			if (strcmp(p->vm, vm) != 0 || strcmp(p->device, device) != 0)
				continue;
			if (net->ready)
				send_remove(net, p->id);
			port_free(p);
		}
		if (list_empty(&net->ports))
			network_free(net);
	}
}

int networks_new(const struct networks_spec *spec, struct networks **ret)
{
	struct networks *n = calloc(1, sizeof(*n));
	uint32_t start = 0;

	if (!n)
		return -ENOMEM;
	n->spec = *spec;
	list_init(&n->list);
	/* Helpers outlive a vmdevd that was killed: see manager_new. */
	(void)!getrandom(&start, sizeof(start), 0);
	n->next_uid_index = start % PLAN_UID_RANGE;
	*ret = n;
	return 0;
}

struct networks *networks_free(struct networks *n)
{
	struct network *net;
	struct port *p;

	if (!n)
		return NULL;
	list_for_each (net, &n->list, link) {
		list_for_each (p, &net->ports, link)
			port_free(p);
		network_free(net);
	}
	free(n);
	return NULL;
}
