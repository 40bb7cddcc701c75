/*
 * The broker of a vsock device: who makes its host sockets, since the device can make none.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing that comes on the channel: its other end is the guest's, perhaps. Which ports a guest
 *          may reach, and which guests it may, is decided here, not in the device.
 *
 * The device asks for a connection (process/contract.h: enum contract_vsock_msg), the broker makes it and
 * answers with the connected socket, or with why there is none:
 *
 *	CID 2, the host		the socket that "listen" names for the port, else UDS_PORT
 *	a CID of "forward"	the host's own AF_VSOCK
 *	another guest's		one end of a socket pair; the other is handed to that guest's device, if
 *				both are of one group and that one may be reached on the port
 *
 * Connections are made as the user and group of the document's "socket": these must be allowed to
 * connect and to reach the socket's directory, and are whom a program sees that asks who has (SO_PEERCRED).
 *
 * Nothing here waits. Questions that cannot be answered at once (a listening socket whose backlog is full, a
 * channel without room) are kept, few of them and not for ever; while there are that many, no more are read. What a device's
 * questions may cost is limited (broker-asks.c), and so is what one guest may have of another (broker-share.c). So the worst that
 * a device can do with it is to make its own wait.
 *
 * An answer is sent once; whether the worker that reads it is the one that asked makes no difference, since the
 * channel outlives workers. With the sandbox, the channel and all questions go.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct broker;
struct device_config;
struct socket_config;

/* A connection as it is asked for. */
struct broker_call {
	uint64_t serial;
	uint64_t cid; /* whom to */
	uint32_t port, own_port;
	uint32_t type; /* of the contract's: 1 SOCK_STREAM, 2 SOCK_SEQPACKET */
};

struct broker_spec {
	sd_event *event;
	int64_t priority;
	/* Give fd to the device of another guest. 0, or a negative errno; fd stays the caller's. */
	int (*offer)(void *arg, const struct broker_call *call, int fd);
	void *arg;
	uint64_t patience_usec; /* with what cannot be answered; 0: 5 s */
};

/* 0 or -ENOMEM. */
int broker_new(const struct broker_spec *spec, struct broker **ret);

/* Accepts NULL, returns NULL. */
struct broker *broker_free(struct broker *b);

/*
 * Before a launch: make the sockets that host programs connect to, or keep those that are there. config has to outlive what
 * follows. 0 or a negative errno and a text.
 */
int broker_prepare(struct broker *b, const struct device_config *config, char **ret_error);

/* For the launch (launch.h): what is a struct broker_resource. */
struct broker_resource {
	struct broker *broker; /* the device's, broker_prepare has been at it; not for the check */
	const struct device_config *config;
	const char *runtime_dir;
};

int broker_check(const void *what, char **ret_error);
int broker_open(const void *what, uint32_t uid_index, int *ret_fds, char **ret_error);

/* The device runs: serve its channel. 0 or a negative errno. */
int broker_start(struct broker *b);

/* The sandbox has ended. */
void broker_stop(struct broker *b);

/* The device is out of service: its sockets go. */
void broker_close(struct broker *b);

/* Another owner and mode, for sockets and for connecting. */
int broker_set_owner(struct broker *b, const struct socket_config *owner, char **ret_error);

/* A connection from another guest, whose CID is cid. As broker_spec.offer. */
int broker_incoming(struct broker *b, uint64_t cid, const struct broker_call *call, int fd);
