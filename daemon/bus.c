/*
 * Who is connected to the manager's interface.
 *
 * Runs in: vmdevd.
 * Trusts:  see bus.h.
 *
 * A client costs a descriptor, what it has queued, and the time that its calls take. Connections
 * are limited in all and per user. Who lets pile up what it is sent, events or answers, is hung up
 * on rather than waited for. And calls are served after all else (priority.h), in turns. Nothing
 * here blocks: sd-bus reads and writes from the event loop.
 */
#include "daemon/bus.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/bus-methods.h"
#include "daemon/journal.h"
#include "daemon/listener.h"
#include "daemon/priority.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/list.h"
#include "devices/base/log.h"
#include "devices/base/scope.h"

enum {
	MAX_CLIENTS = 256,
	MAX_CLIENTS_OF_OTHERS = 128, /* than root, whom nobody can lock out */
	MAX_CLIENTS_PER_USER = 32,   /* root excepted */
	/* bytes that a client has not read, if they are of more than one message */
	MAX_QUEUED_LEN = 4 << 20,
	REJOIN_USEC = 1000000,
	REST_USEC = 100000, /* when there is no descriptor for who connects */
};

/* Members of this group may look (units/vmdev.sysusers); without it only root may. */
#define BUS_GROUP "vmdev"

struct client {
	struct list link;
	struct bus *bus;
	struct bus_peer peer;
	sd_bus *connection;
	bool is_over; /* has gone, or does not read what it is sent: the sweep closes it */
};

struct bus {
	sd_event *event;
	struct manager *manager;
	const char *version;
	char *path;
	int listen_fd;
	sd_event_source *accept;
	sd_event_source *rest;	/* runs while nobody is accepted */
	sd_event_source *sweep; /* closes clients when none of their calls is being dispatched */
	struct list clients;
	unsigned n_clients;
	sd_id128_t id;
	sd_bus *system; /* the system bus; NULL: there is none */
	bool has_lost_system;
	sd_event_source *rejoin; /* looks for it */
	struct bus_peer system_peer;
};

static struct client *client_free(struct client *c)
{
	list_remove(&c->link);
	c->bus->n_clients--;
	if (c->connection) {
		sd_bus_detach_event(c->connection);
		sd_bus_close_unref(c->connection);
	}
	free(c);
	return NULL;
}

/* Not at once: one of its messages may be in hand. */
static void client_end(struct client *c)
{
	c->is_over = true;
	(void)sd_event_source_set_enabled(c->bus->sweep, SD_EVENT_ONESHOT);
}

/* A client's connection has ended, by its own will or because it broke the protocol. */
static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	client_end(userdata);
	return 0;
}

/* sd-bus knows how many messages wait, not how long they are. */
static bool is_deaf(const struct client *c)
{
	uint64_t n = 0;

	(void)sd_bus_get_n_queued_write(c->connection, &n);
	return n > BUS_MAX_QUEUED || (n > 1 && bus_peer_len(&c->peer, n) > MAX_QUEUED_LEN);
}

/* Before anything is made of a message, those that sd-bus itself would answer among them. */
static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct client *c = userdata;

	if (!c->is_over && sd_bus_message_is_method_call(m, NULL, NULL) > 0 && is_deaf(c))
		client_end(c);
	return c->is_over; /* 1: nobody else gets it */
}

static unsigned count_of_user(const struct bus *bus, uid_t uid)
{
	struct client *c;
	unsigned n = 0;

	list_for_each (c, &bus->clients, link)
		n += c->peer.uid == uid;
	return n;
}

static bool has_room(const struct bus *bus, uid_t uid)
{
	if (bus->n_clients >= MAX_CLIENTS)
		return false;
	return uid == 0 || (bus->n_clients - count_of_user(bus, 0) < MAX_CLIENTS_OF_OTHERS &&
			    count_of_user(bus, uid) < MAX_CLIENTS_PER_USER);
}

/* The connection as a server's end of a D-Bus without a bus. */
static int connection_start(struct client *c, int *fd)
{
	int r;

	r = sd_bus_new(&c->connection);
	if (r >= 0)
		r = sd_bus_set_fd(c->connection, *fd, *fd);
	if (r < 0)
		return r;
	take_fd(fd); /* the connection's from here on */
	r = sd_bus_set_server(c->connection, 1, c->bus->id);
	if (r >= 0)
		r = sd_bus_set_sender(c->connection, "org.vmdev");
	if (r >= 0)
		r = sd_bus_add_filter(c->connection, NULL, on_message, c);
	if (r >= 0)
		r = bus_methods_add(c->connection, &c->peer);
	if (r >= 0)
		r = sd_bus_match_signal_async(
			c->connection, NULL, NULL, "/org/freedesktop/DBus/Local",
			"org.freedesktop.DBus.Local", "Disconnected", on_disconnected, NULL, c);
	if (r >= 0)
		r = sd_bus_start(c->connection);
	if (r >= 0)
		r = sd_bus_attach_event(c->connection, c->bus->event, PRIORITY_ASKERS);
	return r;
}

static int client_new(struct bus *bus, int *fd)
{
	struct ucred creds;
	socklen_t len = sizeof(creds);
	struct client *c;
	int r;

	if (getsockopt(*fd, SOL_SOCKET, SO_PEERCRED, &creds, &len) < 0)
		return -errno;
	if (!has_room(bus, creds.uid))
		return -EMFILE;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->bus = bus;
	c->peer = (struct bus_peer){
		.manager = bus->manager,
		.is_known = true,
		.uid = creds.uid,
		.version = bus->version,
	};
	list_append(&bus->clients, &c->link);
	bus->n_clients++;
	r = connection_start(c, fd);
	if (r < 0)
		client_free(c);
	return r;
}

/* Whoever waits to be accepted goes on waiting, and would be told of again and again. */
static void rest(struct bus *bus)
{
	if (sd_event_source_set_time_relative(bus->rest, REST_USEC) >= 0 &&
	    sd_event_source_set_enabled(bus->rest, SD_EVENT_ONESHOT) >= 0)
		(void)sd_event_source_set_enabled(bus->accept, SD_EVENT_OFF);
}

static int on_rested(sd_event_source *source, uint64_t usec, void *arg)
{
	struct bus *bus = arg;

	(void)sd_event_source_set_enabled(bus->accept, SD_EVENT_ON);
	return 0;
}

static int on_accept(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct bus *bus = arg;
	scope_fd int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int r;

	if (client < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			rest(bus);
		return 0;
	}
	r = client_new(bus, &client);
	if (r < 0)
		journal_write(&(struct journal_about){ .level = LOG_LEVEL_DEBUG },
			      "a client of the bus was refused: %s", error_text(r));
	return 0;
}

/* ---- the system bus ---- */

static int on_name(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const sd_bus_error *error = sd_bus_message_get_error(m);

	if (error)
		journal_warning("not on the system bus: %s", error->message);
	return 1;
}

/* It ends, and another one may follow. Not closed at once: this is a message of its own. */
static int on_system_lost(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus *bus = userdata;

	bus->has_lost_system = true;
	(void)sd_event_source_set_time_relative(bus->rejoin, REJOIN_USEC);
	(void)sd_event_source_set_enabled(bus->rejoin, SD_EVENT_ONESHOT);
	return 0;
}

/* Nothing depends on the system bus: without it, vmdevctl uses RUNTIME/bus as it does anyway. */
static void system_bus_join(struct bus *bus)
{
	int r;

	(void)sd_event_source_set_time_relative(bus->rejoin, REJOIN_USEC);
	(void)sd_event_source_set_enabled(bus->rejoin, SD_EVENT_ONESHOT);
	if (access("/run/dbus/system_bus_socket", F_OK) < 0 || geteuid() != 0)
		return;
	r = sd_bus_open_system(&bus->system);
	if (r < 0)
		return;
	(void)sd_event_source_set_enabled(bus->rejoin, SD_EVENT_OFF);
	bus->has_lost_system = false;
	bus->system_peer = (struct bus_peer){ .manager = bus->manager, .version = bus->version };
	r = bus_methods_add(bus->system, &bus->system_peer);
	if (r >= 0)
		r = sd_bus_match_signal_async(
			bus->system, NULL, NULL, "/org/freedesktop/DBus/Local",
			"org.freedesktop.DBus.Local", "Disconnected", on_system_lost, NULL, bus);
	if (r >= 0)
		r = sd_bus_request_name_async(bus->system, NULL, "org.vmdev", 0, on_name, NULL);
	if (r >= 0)
		r = sd_bus_attach_event(bus->system, bus->event, PRIORITY_ASKERS);
	if (r < 0)
		bus->system = sd_bus_close_unref(bus->system);
}

static int on_rejoin(sd_event_source *source, uint64_t usec, void *arg)
{
	struct bus *bus = arg;

	if (bus->has_lost_system) {
		sd_bus_detach_event(bus->system);
		bus->system = sd_bus_close_unref(bus->system);
		bus->has_lost_system = false;
	}
	system_bus_join(bus);
	return 0;
}

/* ---- life ---- */

static void emit(sd_bus *connection, const char *json)
{
	(void)sd_bus_emit_signal(connection, BUS_PATH, BUS_INTERFACE, "Event", "s", json);
}

static void emit_to(struct client *c, const char *json)
{
	bus_peer_is_sent(&c->peer, json);
	emit(c->connection, json);
}

static int on_sweep(sd_event_source *source, void *arg)
{
	struct bus *bus = arg;
	struct client *c;

	list_for_each (c, &bus->clients, link)
		if (c->is_over)
			client_free(c);
	return 0;
}

void bus_emit(struct bus *bus, const char *json)
{
	struct client *c;

	if (!bus)
		return;
	list_for_each (c, &bus->clients, link) {
		if (is_deaf(c))
			client_end(c);
		else if (!c->is_over && sd_bus_is_ready(c->connection) > 0)
			emit_to(c, json);
	}
	if (bus->system && !bus->has_lost_system)
		emit(bus->system, json);
}

static int bus_listen(struct bus *bus, char **ret_error)
{
	struct socket_config owner = { .uid = geteuid(), .gid = getegid(), .mode = 0600 };
	struct group *group = geteuid() == 0 ? getgrnam(BUS_GROUP) : NULL;
	int r;

	if (group) {
		owner.gid = group->gr_gid;
		owner.mode = 0660;
	}
	r = listener_open(bus->path, &owner, &bus->listen_fd, ret_error);
	if (r < 0)
		return r;
	r = sd_event_add_io(bus->event, &bus->accept, bus->listen_fd, EPOLLIN, on_accept, bus);
	if (r >= 0)
		r = sd_event_source_set_priority(bus->accept, PRIORITY_ASKERS);
	if (r >= 0)
		r = sd_event_add_time_relative(bus->event, &bus->rest, CLOCK_MONOTONIC, 0, 1000,
					       on_rested, bus);
	if (r >= 0)
		r = sd_event_source_set_enabled(bus->rest, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time_relative(bus->event, &bus->rejoin, CLOCK_MONOTONIC, 0, 1000,
					       on_rejoin, bus);
	if (r >= 0)
		r = sd_event_source_set_enabled(bus->rejoin, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_defer(bus->event, &bus->sweep, on_sweep, bus);
	if (r >= 0)
		r = sd_event_source_set_enabled(bus->sweep, SD_EVENT_OFF);
	return r < 0 ? r : 0;
}

int bus_new(const struct bus_spec *spec, struct bus **ret, char **ret_error)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	int r;

	*ret_error = NULL;
	if (!bus)
		return -ENOMEM;
	bus->event = spec->event;
	bus->manager = spec->manager;
	bus->version = spec->version;
	bus->listen_fd = -1;
	list_init(&bus->clients);
	bus->path = text_format("%s/bus", spec->runtime_dir);
	r = bus->path ? sd_id128_randomize(&bus->id) : -ENOMEM;
	if (r >= 0)
		r = bus_listen(bus, ret_error);
	if (r < 0) {
		bus_free(bus);
		return r;
	}
	system_bus_join(bus);
	*ret = bus;
	return 0;
}

struct bus *bus_free(struct bus *bus)
{
	struct client *c;

	if (!bus)
		return NULL;
	list_for_each (c, &bus->clients, link) {
		/* One go, without waiting: an answer that is queued, for a client that reads. */
		(void)sd_bus_process(c->connection, NULL);
		client_free(c);
	}
	if (bus->system && !bus->has_lost_system)
		(void)sd_bus_process(bus->system, NULL); /* as above: nobody is waited for */
	if (bus->system)
		sd_bus_detach_event(bus->system);
	sd_bus_close_unref(bus->system);
	sd_event_source_disable_unref(bus->accept);
	sd_event_source_disable_unref(bus->rest);
	sd_event_source_disable_unref(bus->rejoin);
	sd_event_source_disable_unref(bus->sweep);
	if (bus->listen_fd >= 0) {
		fd_close(bus->listen_fd);
		(void)unlink(bus->path);
	}
	free(bus->path);
	free(bus);
	return NULL;
}
