/*
 * The methods of org.vmdev.Manager.
 *
 * Runs in: vmdevd.
 * Trusts:  no client; see bus.h. Who may change things is decided in is_permitted.
 */
#include "daemon/bus-methods.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/syntax.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

#define ERROR_NOT_FOUND	    "org.vmdev.Error.NotFound"
#define ERROR_NOT_PERMITTED "org.vmdev.Error.NotPermitted"
#define ERROR_BAD_DOCUMENT  "org.vmdev.Error.BadDocument"
#define ERROR_FAILED	    "org.vmdev.Error.Failed"

enum { MAX_DOCUMENTS = 1024 };

/* A call whose answer waits for devices to settle. */
struct call {
	sd_bus_message *message;
	struct manager *manager;
	json_object *names;   /* of the devices */
	json_object *changes; /* of Apply; NULL */
};

static const char *to_text(json_object *object)
{
	return json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE);
}

static bool is_permitted(const struct bus_peer *peer)
{
	return peer->is_known && (peer->uid == 0 || peer->uid == geteuid());
}

/* A call whose sender the system bus is asked about. */
struct inquiry {
	sd_bus_message *message;
	const struct bus_peer *peer;
	sd_bus_message_handler_t method;
};

static void inquiry_free(void *arg)
{
	struct inquiry *i = arg;

	sd_bus_message_unref(i->message);
	free(i);
}

/* The call goes on, from somebody who is known by now; from nobody, if there was no answer. */
static int on_sender(sd_bus_message *reply, void *arg, sd_bus_error *ret_error)
{
	struct inquiry *i = arg;
	struct bus_peer sender = { .manager = i->peer->manager, .version = i->peer->version };
	uint32_t uid;
	int r;

	sender.is_known = !sd_bus_message_is_method_error(reply, NULL) &&
			  sd_bus_message_read(reply, "u", &uid) >= 0;
	sender.uid = sender.is_known ? uid : (uid_t)-1;
	sender.is_asked = true;
	r = i->method(i->message, &sender, NULL);
	if (r < 0)
		(void)sd_bus_reply_method_errno(i->message, r, NULL);
	return 1;
}

/* 1: the call goes on when the answer is there. Nobody waits for it. */
static int ask_sender(sd_bus_message *m, const struct bus_peer *peer,
		      sd_bus_message_handler_t method)
{
	struct inquiry *i = calloc(1, sizeof(*i));
	sd_bus_slot *slot = NULL;
	int r;

	if (!i)
		return -ENOMEM;
	*i = (struct inquiry){ sd_bus_message_ref(m), peer, method };
	r = sd_bus_call_method_async(sd_bus_message_get_bus(m), &slot, "org.freedesktop.DBus",
				     "/org/freedesktop/DBus", "org.freedesktop.DBus",
				     "GetConnectionUnixUser", on_sender, i, "s",
				     sd_bus_message_get_sender(m));
	if (r < 0) {
		inquiry_free(i);
		return r;
	}
	(void)sd_bus_slot_set_destroy_callback(slot, inquiry_free);
	(void)sd_bus_slot_set_floating(slot, true);
	sd_bus_slot_unref(slot);
	return 1;
}

static bool is_to_be_asked(const struct bus_peer *peer)
{
	return !peer->is_known && !peer->is_asked;
}

static int refuse(sd_bus_message *m, const char *what)
{
	return sd_bus_reply_method_errorf(
		m, ERROR_NOT_PERMITTED,
		"%s is for root and the user that vmdevd runs as (uid %u): use sudo", what,
		geteuid());
}

static int refuse_at_end(sd_bus_message *m, const char *what)
{
	return sd_bus_reply_method_errorf(m, ERROR_FAILED, "cannot %s: vmdevd is stopping", what);
}

static int refuse_unknown(sd_bus_message *m, const char *selector)
{
	return sd_bus_reply_method_errorf(
		m, ERROR_NOT_FOUND,
		"there is no VM or device \"%s\"; `vmdevctl list` shows what there is", selector);
}

static int answer(sd_bus_message *m, struct bus_peer *peer, const char *text)
{
	bus_peer_is_sent(peer, text);
	return sd_bus_reply_method_return(m, "s", text);
}

/* ---- answers that wait ---- */

static json_object *describe_all(struct manager *manager, json_object *names)
{
	json_object *array = json_object_new_array();

	for (size_t i = 0; i < json_object_array_length(names); i++) {
		json_object *name = json_object_array_get_idx(names, i), *object;

		object = manager_describe(manager, json_object_get_string(name));
		if (object)
			json_object_array_add(array, object);
	}
	return array;
}

/* What became of each change, beside the change itself. */
static void complete_changes(struct call *call)
{
	for (size_t i = 0; i < json_object_array_length(call->changes); i++) {
		json_object *change = json_object_array_get_idx(call->changes, i), *value, *device;

		json_object_object_get_ex(change, "device", &value);
		device = manager_describe(call->manager, json_object_get_string(value));
		if (!device)
			continue;
		if (json_object_object_get_ex(device, "state", &value))
			json_object_object_add(change, "state", json_object_get(value));
		if (json_object_object_get_ex(device, "reason", &value))
			json_object_object_add(change, "reason", json_object_get(value));
		if (json_object_object_get_ex(device, "socket", &value))
			json_object_object_add(change, "socket", json_object_get(value));
		json_object_put(device);
	}
}

static struct call *call_free(struct call *call)
{
	sd_bus_message_unref(call->message);
	json_object_put(call->names);
	json_object_put(call->changes);
	free(call);
	return NULL;
}

static void call_answer(void *arg)
{
	struct call *call = arg;
	json_object *result = NULL;

	if (call->changes)
		complete_changes(call);
	else
		result = describe_all(call->manager, call->names);
	/* A client that has gone meanwhile needs no answer. */
	(void)sd_bus_reply_method_return(call->message, "s",
					 to_text(call->changes ? call->changes : result));
	json_object_put(result);
	call_free(call);
}

/* Takes names and changes. 1: the answer comes later. */
static int answer_later(sd_bus_message *m, struct manager *manager, json_object *names,
			json_object *changes)
{
	struct call *call = calloc(1, sizeof(*call));
	int r;

	if (!call) {
		json_object_put(names);
		json_object_put(changes);
		return -ENOMEM;
	}
	*call = (struct call){
		.message = sd_bus_message_ref(m),
		.manager = manager,
		.names = names,
		.changes = changes,
	};
	r = manager_wait(manager, names, call_answer, call);
	if (r < 0) {
		call_free(call);
		return r;
	}
	return 1;
}

/* ---- methods ---- */

static int read_documents(sd_bus_message *m, struct document *documents, size_t *ret_n)
{
	const char *file, *text;
	size_t n = 0;
	int r;

	r = sd_bus_message_enter_container(m, 'a', "(ss)");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_read(m, "(ss)", &file, &text)) > 0) {
		if (n == MAX_DOCUMENTS)
			return -E2BIG;
		documents[n++] = (struct document){ file, text, strlen(text) };
	}
	if (r < 0)
		return r;
	*ret_n = n;
	return sd_bus_message_exit_container(m);
}

static json_object *names_of_changes(json_object *changes)
{
	json_object *names = json_object_new_array(), *value;

	for (size_t i = 0; i < json_object_array_length(changes); i++) {
		json_object *change = json_object_array_get_idx(changes, i);

		json_object_object_get_ex(change, "device", &value);
		json_object_array_add(names, json_object_get(value));
	}
	return names;
}

static int refuse_documents(sd_bus_message *m, int r, const struct config_errors *errors)
{
	scope_free char *text = config_errors_to_text(errors);

	if (r == -EINVAL && text)
		return sd_bus_reply_method_errorf(m, ERROR_BAD_DOCUMENT, "%s", text);
	return sd_bus_reply_method_errorf(m, ERROR_FAILED, "cannot apply: %s", error_text(r));
}

static int apply(sd_bus_message *m, struct manager *manager, struct document *documents)
{
	struct manager_apply_spec spec = { .documents = documents };
	struct config_errors errors = { 0 };
	json_object *changes = NULL;
	int r, dry_run;

	r = read_documents(m, documents, &spec.n_documents);
	if (r == -E2BIG)
		return sd_bus_reply_method_errorf(
			m, ERROR_FAILED, "more than %u documents in one call", MAX_DOCUMENTS);
	if (r >= 0)
		r = sd_bus_message_read(m, "b", &dry_run);
	if (r < 0)
		return r;
	spec.dry_run = dry_run;
	r = manager_apply(manager, &spec, &changes, &errors);
	if (r < 0)
		r = refuse_documents(m, r, &errors);
	else if (dry_run)
		r = sd_bus_reply_method_return(m, "s", to_text(changes));
	else
		r = answer_later(m, manager, names_of_changes(changes), json_object_get(changes));
	config_errors_done(&errors);
	json_object_put(changes);
	return r;
}

static int method_apply(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_peer *peer = userdata;
	struct document *documents;
	int r;

	if (is_to_be_asked(peer))
		return ask_sender(m, peer, method_apply);
	if (!is_permitted(peer))
		return refuse(m, "apply");
	if (manager_refuses_changes(peer->manager))
		return refuse_at_end(m, "apply");
	documents = calloc(MAX_DOCUMENTS, sizeof(*documents));
	if (!documents)
		return -ENOMEM;
	r = apply(m, peer->manager, documents);
	free(documents);
	return r;
}

static int method_list(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_peer *peer = userdata;
	json_object *names, *devices;
	const char *selector;
	int r;

	r = sd_bus_message_read(m, "s", &selector);
	if (r < 0)
		return r;
	names = manager_select(peer->manager, selector);
	if (!names)
		return refuse_unknown(m, selector);
	devices = describe_all(peer->manager, names);
	r = answer(m, peer, to_text(devices));
	json_object_put(devices);
	json_object_put(names);
	return r;
}

static int command(sd_bus_message *m, struct bus_peer *peer, enum manager_verb verb,
		   const char *verb_name, sd_bus_message_handler_t method)
{
	const char *selector;
	json_object *names;
	int r;

	if (is_to_be_asked(peer))
		return ask_sender(m, peer, method);
	if (!is_permitted(peer))
		return refuse(m, verb_name);
	if (manager_refuses_changes(peer->manager) &&
	    (verb == MANAGER_START || verb == MANAGER_RESTART))
		return refuse_at_end(m, verb_name);
	r = sd_bus_message_read(m, "s", &selector);
	if (r < 0)
		return r;
	names = selector[0] ? manager_select(peer->manager, selector) : NULL;
	if (!names)
		return refuse_unknown(m, selector);
	if (!manager_command(peer->manager, verb, names)) {
		r = sd_bus_reply_method_errorf(m, ERROR_NOT_FOUND,
					       "cannot %s %s: it is being removed", verb_name,
					       selector);
		json_object_put(names);
		return r;
	}
	return answer_later(m, peer->manager, names, NULL);
}

static int method_start(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	return command(m, userdata, MANAGER_START, "start", method_start);
}

static int method_stop(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	return command(m, userdata, MANAGER_STOP, "stop", method_stop);
}

static int method_restart(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	return command(m, userdata, MANAGER_RESTART, "restart", method_restart);
}

static int method_remove(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	return command(m, userdata, MANAGER_REMOVE, "remove", method_remove);
}

/* UNPRIVILEGED: sd-bus has no say in who may call; each method asks is_permitted. */
#define METHOD(name, in, in_names, handler)                                                        \
	SD_BUS_METHOD_WITH_NAMES(name, in, in_names, "s", SD_BUS_PARAM(result), handler,           \
				 SD_BUS_VTABLE_UNPRIVILEGED)

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(0),
	METHOD("Apply", "a(ss)b", SD_BUS_PARAM(documents) SD_BUS_PARAM(dry_run), method_apply),
	METHOD("List", "s", SD_BUS_PARAM(selector), method_list),
	METHOD("Start", "s", SD_BUS_PARAM(selector), method_start),
	METHOD("Stop", "s", SD_BUS_PARAM(selector), method_stop),
	METHOD("Restart", "s", SD_BUS_PARAM(selector), method_restart),
	METHOD("Remove", "s", SD_BUS_PARAM(selector), method_remove),
	SD_BUS_PROPERTY("Version", "s", NULL, offsetof(struct bus_peer, version),
			SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_SIGNAL_WITH_NAMES("Event", "s", SD_BUS_PARAM(json), 0),
	SD_BUS_VTABLE_END,
};

void bus_peer_is_sent(struct bus_peer *peer, const char *text)
{
	size_t len = strlen(text);

	peer->lens[peer->n_sent++ % BUS_MAX_QUEUED] = len > UINT32_MAX ? UINT32_MAX : (uint32_t)len;
}

uint64_t bus_peer_len(const struct bus_peer *peer, uint64_t n)
{
	uint64_t sum = 0;

	for (uint64_t i = 1; i <= n && i <= BUS_MAX_QUEUED && i <= peer->n_sent; i++)
		sum += peer->lens[(peer->n_sent - i) % BUS_MAX_QUEUED];
	return sum;
}

int bus_methods_add(sd_bus *connection, struct bus_peer *peer)
{
	return sd_bus_add_object_vtable(connection, NULL, BUS_PATH, BUS_INTERFACE, vtable, peer);
}
