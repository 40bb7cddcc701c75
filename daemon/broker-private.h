/*
 * The inside of the broker, for broker*.c only.
 *
 * Runs in: vmdevd. Trusts: see broker.h.
 */
#pragma once

#include "daemon/broker.h"
#include "daemon/config.h"
#include "daemon/listener.h"
#include "devices/base/list.h"

enum { BROKER_N_SOCKETS = 2 };

/* ---- broker-share.c ---- */

/*
 * Connections from other guests that the device has, or that are on the way to it. vmdevd gives them away and is not told of
 * their end. An epoll instance knows: it does not keep a file open, and what is closed everywhere drops out of it. Nobody ever
 * waits for it; who is in it is read in its fdinfo (proc(5)), where each has the CID that it came from.
 */
struct share {
	int set;	   /* the epoll instance; -1: none yet */
	struct list peers; /* of struct share_peer */
	uint32_t n; /* in it, at most: those that have ended since the last count are among them */
	uint64_t counted_usec; /* when that was */
};

void share_init(struct share *share);
/* Forgets all. */
void share_clear(struct share *share);
/*
 * One more, the file of fd, from the guest at cid. 0; -ENOBUFS: it has its share, or all others together have theirs;
 * or what the kernel says.
 */
int share_take(struct share *share, uint64_t cid, int fd);

/* ---- broker-connect.c ---- */

enum { BROKER_MAX_GROUPS = 64 };

/* Whom vmdevd is, while it connects as somebody else. It has one thread. */
struct broker_self {
	uid_t uid;
	gid_t gid;
	gid_t groups[BROKER_MAX_GROUPS];
	int n_groups;
};

/* False: this cannot be had, and nothing has changed. */
bool broker_become(const struct socket_config *owner, struct broker_self *ret);
void broker_become_oneself(const struct broker_self *self);

/*
 * Between these two: a connected socket for what the guest wants of the host, or a negative errno; -EAGAIN: not yet, ask again.
 * *fd is what the last try has left: -1 at first.
 */
int broker_connect(const struct device_config *config, const struct broker_call *call, int *fd);

/*
 * Whoever is at the other end cannot send descriptors there (Linux 6.16; nothing before): a worker that its guest owns would take
 * them.
 */
void broker_no_rights(int fd);
/*
 * Is there what the document names besides paths: sockets that vmdevd was started with, the host's AF_VSOCK? Nobody is connected to.
 * 0 or a negative errno and a text.
 */
int broker_check_ways(const struct device_config *config, char **ret_error);

/* ---- broker-asks.c ---- */

struct broker {
	struct broker_spec spec;
	const struct device_config *config; /* of what runs; NULL: nothing does, or is about to */
	struct socket_config owner;
	char *uds; /* where the sockets are; NULL: there are none */
	struct listener listening[BROKER_N_SOCKETS];
	int channel;  /* -1: the device does not run */
	bool hung_up; /* nobody is at the other end */
	sd_event_source *io, *timer;
	struct list asks;
	unsigned n_asks;
	unsigned n_unsent;  /* of them, those that have an answer, for which there was no room */
	uint64_t paid_usec; /* until when what has been asked takes up its time: see may_ask */
	struct share share;
};

/* A letter of the contract's, with a descriptor unless it is negative. 0 or a negative errno. */
struct wire_writer;
int broker_send(const struct broker *b, const struct wire_writer *w, int fd);
/* Forget what has been asked. */
void broker_asks_clear(struct broker *b);
