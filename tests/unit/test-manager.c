/*
 * The manager and its bus: documents that are compared with what is, errors that change nothing,
 * and clients of each kind.
 *
 * Runs in: the test, as any user. No device program is there, so that each device that is started
 *          fails at once: what is looked at here is which devices there are.
 * Trusts:  nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

#include "daemon/bus.h"
#include "daemon/journal.h"
#include "daemon/manager.h"
#include "daemon/text.h"
#include "devices/base/log.h"
#include "devices/base/scope.h"
#include "tests/unit/unit.h"

#define TWO                                                                                        \
	"{\"vm\": \"a\", \"devices\": {\"x\": {\"type\": \"blk\", \"path\": \"/nowhere/x\"}, "     \
	"\"y\": {\"type\": \"blk\", \"path\": \"/nowhere/y\"}}}"
#define ONE_CHANGED                                                                                \
	"{\"vm\": \"a\", \"devices\": {\"x\": {\"type\": \"blk\", \"path\": \"/nowhere/x\", "      \
	"\"queues\": 2}}}"
#define OTHER "{\"vm\": \"b\", \"devices\": {\"z\": {\"type\": \"blk\", \"path\": \"/nowhere/z\"}}}"
#define BAD   "{\"vm\": \"b\",\n\"devices\": {\"z\": {\"type\": \"blk\", \"path\": \"z\"}}}"

struct fixture {
	sd_event *event;
	struct manager *manager;
	struct bus *bus;
	char dir[64];
	unsigned n_events;
	char last_event[400];
	bool done;
};

static void on_happened(void *arg, const char *json)
{
	struct fixture *f = arg;

	f->n_events++;
	(void)snprintf(f->last_event, sizeof(f->last_event), "%s", json);
	bus_emit(f->bus, json);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct manager_spec spec = {
		.program_dir = "/nowhere",
		.policy_dir = "/nowhere",
		.override_dir = "/nowhere",
		.happened = on_happened,
		.arg = f,
	};
	struct bus_spec bus;
	char *error = NULL;

	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/vmdev-test-manager-XXXXXX");
	if (!mkdtemp(f->dir) || sd_event_new(&f->event) < 0)
		return -1;
	spec.event = f->event;
	spec.runtime_dir = f->dir;
	if (manager_new(&spec, &f->manager) < 0)
		return -1;
	bus = (struct bus_spec){ f->event, f->manager, f->dir, "0" };
	*state = f;
	return bus_new(&bus, &f->bus, &error);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	bus_free(f->bus);
	manager_free(f->manager);
	sd_event_unref(f->event);
	if (rmdir(f->dir) < 0)
		return -1;
	free(f);
	return 0;
}

static void on_done(void *arg)
{
	*(bool *)arg = true;
}

/* As at start, when missing images do not matter. Returns the changes. */
static json_object *apply(struct fixture *f, const char *text, bool dry_run)
{
	struct document document = { "test.json", text, strlen(text) };
	struct manager_apply_spec spec = {
		.documents = &document,
		.n_documents = 1,
		.dry_run = dry_run,
	};
	struct config_errors errors = { 0 };
	json_object *changes = NULL;
	int r;

	spec.at_start = manager_count(f->manager).n_devices == 0;
	r = manager_apply(f->manager, &spec, &changes, &errors);
	for (size_t i = 0; i < errors.n; i++)
		print_error("%s\n", errors.lines[i]);
	assert_int_equal(r, 0);
	return changes;
}

static void settle(struct fixture *f)
{
	json_object *names = manager_select(f->manager, "");
	bool done = false;

	assert_int_equal(manager_wait(f->manager, names, on_done, &done), 0);
	json_object_put(names);
	for (unsigned i = 0; i < 2000 && !done; i++)
		(void)sd_event_run(f->event, 1000);
	assert_true(done);
}

/* "create a/x, ..." */
static char *changes_to_text(json_object *changes)
{
	char *text = strdup("");

	for (size_t i = 0; i < json_object_array_length(changes); i++) {
		json_object *change = json_object_array_get_idx(changes, i), *kind, *device;
		char *more;

		json_object_object_get_ex(change, "change", &kind);
		json_object_object_get_ex(change, "device", &device);
		more = text_format("%s%s%s %s", text, i ? ", " : "", json_object_get_string(kind),
				   json_object_get_string(device));
		free(text);
		text = more;
	}
	json_object_put(changes);
	return text;
}

static char *names_to_text(struct fixture *f)
{
	json_object *names = manager_select(f->manager, "");
	char *text = strdup(json_object_to_json_string_ext(names, JSON_C_TO_STRING_NOSLASHESCAPE));

	json_object_put(names);
	return text;
}

static void assert_names(struct fixture *f, const char *want)
{
	scope_free char *names = names_to_text(f);

	assert_string_equal(names, want);
}

/* ---- the manager ---- */

static void write_file(const char *dir, const char *name, const char *text)
{
	scope_free char *path = text_format("%s/%s", dir, name);
	scope_file FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
}

static void a_document_creates_its_devices(void **state)
{
	struct fixture *f = *state;
	scope_free char *changes = changes_to_text(apply(f, TWO, false));

	assert_string_equal(changes, "create a/x, create a/y");
	settle(f);
	assert_names(f, "[\"a/x\",\"a/y\"]");
}

static void a_dry_run_says_the_same_and_changes_nothing(void **state)
{
	struct fixture *f = *state;
	scope_free char *changes = changes_to_text(apply(f, TWO, true));

	assert_string_equal(changes, "create a/x, create a/y");
	assert_names(f, "[]");
	assert_int_equal(f->n_events, 0);
}

#define VSOCK "{\"vm\": \"v\", \"devices\": {\"x\": {\"type\": \"vsock\", \"group\": \"g\"}}}"

static void addresses_are_written_down_when_a_document_is_applied(void **state)
{
	struct fixture *f = *state;
	scope_free char *path = text_format("%s/cids", f->dir);
	struct document documents[] = { { "v.json", VSOCK, strlen(VSOCK) },
					{ "bad.json", BAD, strlen(BAD) } };
	struct manager_apply_spec spec = { .documents = documents,
					   .n_documents = 2,
					   .at_start = true };
	struct config_errors errors = { 0 };
	json_object *changes = NULL;

	json_object_put(apply(f, VSOCK, true));
	assert_int_not_equal(access(path, F_OK), 0);
	assert_int_equal(manager_apply(f->manager, &spec, &changes, &errors), -EINVAL);
	config_errors_done(&errors);
	assert_int_not_equal(access(path, F_OK), 0);
	json_object_put(apply(f, VSOCK, false));
	assert_int_equal(access(path, F_OK), 0);
	settle(f);
	assert_int_equal(unlink(path), 0);
}

static void a_damaged_table_of_addresses_refuses_those_who_ask_for_one(void **state)
{
	struct fixture *f = *state;
	scope_free char *path = text_format("%s/cids", f->dir);
	struct document document = { "v.json", VSOCK, strlen(VSOCK) };
	struct manager_apply_spec spec = { .documents = &document,
					   .n_documents = 1,
					   .at_start = true };
	struct config_errors errors = { 0 };
	json_object *changes = NULL;

	write_file(f->dir, "cids", "{");
	assert_int_equal(manager_apply(f->manager, &spec, &changes, &errors), -EINVAL);
	assert_non_null(strstr(errors.lines[0], "cids, cannot be read"));
	config_errors_done(&errors);
	json_object_put(apply(f, OTHER, false)); /* nobody else is concerned */
	settle(f);
	assert_int_equal(unlink(path), 0);
}

static void a_change_whose_image_is_missing_is_refused_as_a_whole(void **state)
{
	struct fixture *f = *state;
	struct document document = { "test.json", ONE_CHANGED, strlen(ONE_CHANGED) };
	struct manager_apply_spec spec = { .documents = &document,
					   .n_documents = 1,
					   .dry_run = true };
	struct config_errors errors = { 0 };
	json_object *ignored = NULL;

	json_object_put(apply(f, TWO, false));
	settle(f);
	assert_int_equal(manager_apply(f->manager, &spec, &ignored, &errors), -EINVAL);
	assert_int_equal(errors.n, 1);
	assert_non_null(strstr(errors.lines[0], "test.json: a/x: "));
	config_errors_done(&errors);
	assert_names(f, "[\"a/x\",\"a/y\"]");
}

#define VM(name, device) "{\"vm\": \"" name "\", \"devices\": {\"d\": {" device "}}}"
#define NET		 "\"type\": \"net\", \"tap\": {\"name\": \"t0\"}"
#define DISK		 "\"type\": \"blk\", \"path\": \"/nowhere/z\""
#define UDS		 "\"type\": \"vsock\", \"uds\": \"/nowhere/u\""
#define CID		 "\"type\": \"vsock\", \"cid\": 77, \"group\": \"g\""

/* Two VMs that want one thing, in one call or one after the other. */
static void what_only_one_may_have_is_had_by_one(void **state)
{
	static const struct {
		const char *a, *b, *said;
	} cases[] = {
		{ VM("a", NET), VM("b", NET),
		  "b.json: b/d: tap: \"t0\" is the interface of a/d already" },
		{ VM("a", DISK), VM("b", DISK),
		  "b.json: b/d: path: \"/nowhere/z\" is the image of a/d" },
		{ VM("a", UDS), VM("b", UDS),
		  "b.json: b/d: uds: \"/nowhere/u\" is the socket of a/d" },
		{ VM("a", CID), VM("b", CID), "b.json: b/d: cid: 77 is the CID of a/d already" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct document documents[] = { { "a.json", cases[i].a, strlen(cases[i].a) },
						{ "b.json", cases[i].b, strlen(cases[i].b) } };
		struct manager_apply_spec both = { .documents = documents,
						   .n_documents = 2,
						   .at_start = true };
		struct manager_apply_spec one = { .documents = &documents[1],
						  .n_documents = 1,
						  .at_start = true };
		struct config_errors errors = { 0 };
		json_object *changes = NULL;
		struct fixture *f;
		void *fresh;
		char *cids;

		assert_int_equal(setup(&fresh), 0);
		f = fresh;
		assert_int_equal(manager_apply(f->manager, &both, &changes, &errors), -EINVAL);
		assert_int_equal(errors.n, 1);
		assert_non_null(strstr(errors.lines[0], cases[i].said));
		config_errors_done(&errors);
		json_object_put(apply(f, cases[i].a, false));
		assert_int_equal(manager_apply(f->manager, &one, &changes, &errors), -EINVAL);
		assert_non_null(strstr(errors.lines[0], cases[i].said));
		config_errors_done(&errors);
		json_object_put(apply(f, cases[i].a, false)); /* its own is not another's */
		settle(f);
		assert_names(f, "[\"a/d\"]");
		cids = text_format("%s/cids", f->dir);
		(void)unlink(cids);
		free(cids);
		assert_int_equal(teardown(&fresh), 0);
	}
}

/* policies/ of the source tree; NULL when the test does not run from the build tree. */
static char *policies(void)
{
	const char *slash = strrchr(__FILE__, '/');
	char *path = text_format("%.*s/../../policies", (int)(slash - __FILE__), __FILE__);

	if (access(path, F_OK) == 0)
		return path;
	free(path);
	return NULL;
}

/* With images that are there, and a program that is one only by name: it fails when it is started.
 */
static void the_changed_are_changed_and_the_missing_removed(void **state)
{
	struct fixture *f = *state;
	scope_free char *policy_dir = policies(), *changes = NULL, *two = NULL, *one = NULL;
	scope_free char *program = text_format("%s/vmdev-blk", f->dir);
	struct manager_spec spec = { f->event,	 f->dir,     f->dir,	  false,
				     policy_dir, "/nowhere", on_happened, f };

	if (!policy_dir)
		unit_skip("policies/ is not found from here");
	manager_free(f->manager);
	bus_free(f->bus);
	f->bus = NULL;
	assert_int_equal(manager_new(&spec, &f->manager), 0);
	write_file(f->dir, "x", "image");
	write_file(f->dir, "vmdev-blk", "no program");
	assert_int_equal(chmod(program, 0755), 0);
	two = text_format("{\"vm\": \"a\", \"devices\": {\"x\": {\"type\": \"blk\", \"path\": "
			  "\"%s/x\"}, \"y\": {\"type\": \"blk\", \"path\": \"%s/vmdev-blk\"}}}",
			  f->dir, f->dir);
	one = text_format("{\"vm\": \"a\", \"devices\": {\"x\": {\"type\": \"blk\", \"path\": "
			  "\"%s/x\", \"queues\": 2}}}",
			  f->dir);
	json_object_put(apply(f, two, false));
	settle(f);
	changes = changes_to_text(apply(f, one, false));
	assert_string_equal(changes, "remove a/y, change a/x");
	settle(f);
	assert_names(f, "[\"a/x\"]");
	(void)unlink(program);
	program[strlen(program) - strlen("vmdev-blk")] = 'x';
	program[strlen(program) - strlen("mdev-blk")] = '\0';
	(void)unlink(program);
}

static void applying_again_starts_what_has_failed_and_nothing_else(void **state)
{
	struct fixture *f = *state;
	scope_free char *again = NULL;

	json_object_put(apply(f, TWO, false));
	settle(f);
	again = changes_to_text(apply(f, TWO, true));
	assert_string_equal(again, "start a/x, start a/y");
}

static void one_bad_document_of_two_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct document documents[] = { { "one.json", TWO, strlen(TWO) },
					{ "two.json", BAD, strlen(BAD) } };
	struct manager_apply_spec spec = { .documents = documents,
					   .n_documents = 2,
					   .at_start = true };
	struct config_errors errors = { 0 };
	json_object *changes = NULL;

	assert_int_equal(manager_apply(f->manager, &spec, &changes, &errors), -EINVAL);
	assert_null(changes);
	assert_int_equal(errors.n, 1);
	assert_non_null(strstr(errors.lines[0], "two.json:2: devices.z.path: "));
	config_errors_done(&errors);
	assert_names(f, "[]");
	assert_int_equal(f->n_events, 0);
}

static void one_vm_in_two_documents_is_refused(void **state)
{
	struct fixture *f = *state;
	struct document documents[] = { { "one.json", TWO, strlen(TWO) },
					{ "two.json", ONE_CHANGED, strlen(ONE_CHANGED) } };
	struct manager_apply_spec spec = { .documents = documents,
					   .n_documents = 2,
					   .at_start = true };
	struct config_errors errors = { 0 };
	json_object *changes = NULL;

	assert_int_equal(manager_apply(f->manager, &spec, &changes, &errors), -EINVAL);
	assert_non_null(strstr(errors.lines[0], "two.json:1: vm: \"a\" is described by one.json"));
	config_errors_done(&errors);
	assert_names(f, "[]");
}

static void a_missing_image_is_refused_before_anything_changes(void **state)
{
	struct fixture *f = *state;
	struct document document = { "test.json", OTHER, strlen(OTHER) };
	struct manager_apply_spec spec = { .documents = &document, .n_documents = 1 };
	struct config_errors errors = { 0 };
	json_object *changes = NULL;

	json_object_put(apply(f, TWO, false));
	settle(f);
	assert_int_equal(manager_apply(f->manager, &spec, &changes, &errors), -EINVAL);
	assert_int_equal(errors.n, 1);
	config_errors_done(&errors);
	assert_names(f, "[\"a/x\",\"a/y\"]");
}

static void remove_removes_one_device_or_all_of_a_vm(void **state)
{
	struct fixture *f = *state;
	json_object *names;

	json_object_put(apply(f, TWO, false));
	settle(f);
	names = manager_select(f->manager, "a/y");
	manager_command(f->manager, MANAGER_REMOVE, names);
	json_object_put(names);
	settle(f);
	assert_names(f, "[\"a/x\"]");
	names = manager_select(f->manager, "a");
	manager_command(f->manager, MANAGER_REMOVE, names);
	json_object_put(names);
	settle(f);
	assert_names(f, "[]");
	assert_null(manager_select(f->manager, "a"));
}

static void a_bad_file_at_start_leaves_the_others(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "1-bad.json", "2-good.json", "3-same-vm.json",
					     "4-not.txt", ".5-hidden.json" };
	char dir[] = "/tmp/vmdev-test-documents-XXXXXX";

	assert_non_null(mkdtemp(dir));
	write_file(dir, names[0], BAD);
	write_file(dir, names[1], TWO);
	write_file(dir, names[2], ONE_CHANGED);
	write_file(dir, names[3], "no document");
	write_file(dir, names[4], "no document");
	assert_int_equal(manager_apply_directory(f->manager, dir), 2);
	settle(f);
	assert_names(f, "[\"a/x\",\"a/y\"]");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		scope_free char *path = text_format("%s/%s", dir, names[i]);

		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(manager_apply_directory(f->manager, dir), 0); /* gone: nothing to apply */
}

/* ---- the bus ---- */

struct answer {
	bool is_there;
	char error[64]; /* "": none */
	char text[4096];
};

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct answer *a = userdata;
	const sd_bus_error *error = sd_bus_message_get_error(m);
	const char *text = "";

	a->is_there = true;
	if (error)
		(void)snprintf(a->error, sizeof(a->error), "%s", error->name);
	else
		(void)sd_bus_message_read(m, "s", &text);
	(void)snprintf(a->text, sizeof(a->text), "%s", error ? error->message : text);
	return 1;
}

static sd_bus *client_new(struct fixture *f)
{
	scope_free char *address = text_format("unix:path=%s/bus", f->dir);
	sd_bus *client = NULL;

	assert_true(sd_bus_new(&client) >= 0);
	assert_true(sd_bus_set_address(client, address) >= 0);
	assert_true(sd_bus_start(client) >= 0);
	assert_true(sd_bus_attach_event(client, f->event, 0) >= 0);
	return client;
}

static struct answer wait_for(struct fixture *f, struct answer *a)
{
	for (unsigned i = 0; i < 5000 && !a->is_there; i++)
		(void)sd_event_run(f->event, 1000);
	assert_true(a->is_there);
	return *a;
}

static struct answer call(struct fixture *f, const char *method, const char *selector)
{
	struct answer a = { 0 };
	sd_bus *client = client_new(f);

	assert_true(sd_bus_call_method_async(client, NULL, "org.vmdev", "/org/vmdev",
					     "org.vmdev.Manager", method, on_answer, &a, "s",
					     selector) >= 0);
	(void)wait_for(f, &a);
	sd_bus_detach_event(client);
	sd_bus_close_unref(client);
	return a;
}

static struct answer call_apply(struct fixture *f, const char *text)
{
	struct answer a = { 0 };
	sd_bus *client = client_new(f);

	assert_true(sd_bus_call_method_async(client, NULL, "org.vmdev", "/org/vmdev",
					     "org.vmdev.Manager", "Apply", on_answer, &a, "a(ss)b",
					     1, "test.json", text, 0) >= 0);
	(void)wait_for(f, &a);
	sd_bus_detach_event(client);
	sd_bus_close_unref(client);
	return a;
}

static void the_bus_lists_and_names_what_is_not_there(void **state)
{
	struct fixture *f = *state;
	struct answer a;

	json_object_put(apply(f, TWO, false));
	settle(f);
	a = call(f, "List", "a/x");
	assert_string_equal(a.error, "");
	assert_non_null(strstr(a.text, "\"name\":\"a/x\""));
	assert_null(strstr(a.text, "\"name\":\"a/y\""));
	a = call(f, "List", "nobody");
	assert_string_equal(a.error, "org.vmdev.Error.NotFound");
	a = call(f, "Stop", "");
	assert_string_equal(a.error, "org.vmdev.Error.NotFound");
	a = call(f, "Remove", "a");
	assert_string_equal(a.error, "");
	assert_names(f, "[]");
}

static void a_bad_document_is_told_over_the_bus_and_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct answer a = call_apply(f, BAD);

	assert_string_equal(a.error, "org.vmdev.Error.BadDocument");
	assert_non_null(strstr(a.text, "test.json:2: devices.z.path: \"z\" is not usable; expected "
				       "the absolute path"));
	assert_names(f, "[]");
}

/* Bytes that are no D-Bus, half a handshake, a connection that says nothing. */
static void clients_that_misbehave_do_no_harm(void **state)
{
	struct fixture *f = *state;
	static const char *const words[] = { "", "GET / HTTP/1.1\r\n\r\n", "\0AUTH EXTERNAL zz\r\n",
					     "\0AUTH ANONYMOUS\r\nBEGIN\r\n" };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fds[200];
	struct answer a;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/bus", f->dir);
	for (unsigned i = 0; i < 200; i++) {
		const char *word = words[i % 4];
		size_t len = i % 4 < 2 ? strlen(word) : 1 + strlen(word + 1);

		fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(fds[i], (struct sockaddr *)&address, sizeof(address));
		(void)!write(fds[i], word, len);
		(void)sd_event_run(f->event, 0);
	}
	while (sd_event_run(f->event, 1000) > 0)
		;
	for (unsigned i = 0; i < 200; i++)
		close(fds[i]);
	while (sd_event_run(f->event, 1000) > 0)
		;
	a = call(f, "List", "");
	assert_string_equal(a.error, "");
	assert_string_equal(a.text, "[]");
}

/* A client that is gone when its answer is ready, and one that never reads its events. */
static void nobody_waits_for_a_client(void **state)
{
	struct fixture *f = *state;
	struct answer ignored = { 0 };
	sd_bus *gone = client_new(f), *deaf = client_new(f);
	struct answer a;

	assert_true(sd_bus_call_method_async(gone, NULL, "org.vmdev", "/org/vmdev",
					     "org.vmdev.Manager", "List", on_answer, &ignored, "s",
					     "") >= 0);
	(void)wait_for(f, &ignored);
	json_object_put(apply(f, TWO, false));
	assert_true(sd_bus_call_method_async(gone, NULL, "org.vmdev", "/org/vmdev",
					     "org.vmdev.Manager", "Remove", NULL, NULL, "s",
					     "a") >= 0);
	(void)sd_bus_flush(gone);
	sd_bus_detach_event(gone);
	sd_bus_close_unref(gone);
	ignored.is_there = false;
	assert_true(sd_bus_call_method_async(deaf, NULL, "org.vmdev", "/org/vmdev",
					     "org.vmdev.Manager", "List", on_answer, &ignored, "s",
					     "") >= 0);
	(void)wait_for(f, &ignored);
	sd_bus_detach_event(deaf); /* reads nothing from here on */
	for (unsigned i = 0; i < 20000; i++)
		bus_emit(f->bus,
			 "{\"event\":\"test, and some more bytes to fill the socket with\"}");
	while (sd_event_run(f->event, 1000) > 0)
		;
	sd_bus_close_unref(deaf);
	a = call(f, "List", "");
	assert_string_equal(a.error, "");
}

/*
 * The loop may end between the moment at which a client hangs up and that at which its connection
 * is seen to be over.
 */
static void vmdevd_may_end_while_a_client_goes(void **state)
{
	void *one;

	for (unsigned n = 0; n < 12; n++) {
		struct answer ignored = { 0 };
		struct fixture *f;
		sd_bus *client;

		assert_int_equal(setup(&one), 0);
		f = one;
		client = client_new(f);
		assert_true(sd_bus_call_method_async(client, NULL, "org.vmdev", "/org/vmdev",
						     "org.vmdev.Manager", "List", on_answer,
						     &ignored, "s", "") >= 0);
		(void)wait_for(f, &ignored);
		sd_bus_detach_event(client);
		sd_bus_close_unref(client);
		for (unsigned i = 0; i < n; i++)
			(void)sd_event_run(f->event, 0);
		assert_int_equal(teardown(&one), 0);
	}
}

static void what_is_being_removed_is_not_started(void **state)
{
	struct fixture *f = *state;
	json_object *names;

	json_object_put(apply(f, TWO, false));
	settle(f);
	names = manager_select(f->manager, "a");
	assert_true(manager_command(f->manager, MANAGER_REMOVE, names));
	assert_false(manager_command(f->manager, MANAGER_START, names));
	assert_false(manager_command(f->manager, MANAGER_RESTART, names));
	assert_true(manager_command(f->manager, MANAGER_STOP, names));
	json_object_put(names);
	settle(f);
	assert_names(f, "[]");
}

static void nothing_is_started_when_all_are_stopped_for_good(void **state)
{
	struct fixture *f = *state;
	static const char *const verbs[] = { "Start", "Restart" };
	struct answer a;

	json_object_put(apply(f, TWO, false));
	settle(f);
	manager_refuse_changes(f->manager);
	for (unsigned i = 0; i < 2; i++) {
		a = call(f, verbs[i], "a");
		assert_string_equal(a.error, "org.vmdev.Error.Failed");
		assert_non_null(strstr(a.text, "vmdevd is stopping"));
	}
	a = call_apply(f, OTHER);
	assert_string_equal(a.error, "org.vmdev.Error.Failed");
	assert_names(f, "[\"a/x\",\"a/y\"]");
	a = call(f, "Stop", "a");
	assert_string_equal(a.error, "");
	a = call(f, "List", "a");
	assert_string_equal(a.error, "");
}

/* It neither spins nor forgets who waits. */
static void who_connects_when_no_descriptor_is_left_waits(void **state)
{
	struct fixture *f = *state;
	struct answer a = { 0 };
	sd_bus *client = client_new(f);
	int fds[1024];
	unsigned n = 0, n_dispatched = 0;
	struct rlimit limit, low;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = 200;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	while (n < 1024 && (fds[n] = dup(0)) >= 0)
		n++;
	for (unsigned i = 0; i < 1000; i++)
		n_dispatched += sd_event_run(f->event, 20) > 0;
	assert_true(n_dispatched < 100);
	while (n > 0)
		close(fds[--n]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(sd_bus_call_method_async(client, NULL, "org.vmdev", "/org/vmdev",
					     "org.vmdev.Manager", "List", on_answer, &a, "s",
					     "") >= 0);
	(void)wait_for(f, &a);
	assert_string_equal(a.error, "");
	sd_bus_detach_event(client);
	sd_bus_close_unref(client);
}

/* What happens as often as a device likes is told a bounded number of times, and how it ends. */
static void states_that_come_and_go_are_told_together(void **state)
{
	struct fixture *f = *state;
	unsigned n;

	json_object_put(apply(f, OTHER, false));
	settle(f);
	n = f->n_events;
	for (unsigned i = 0; i < 500; i++) {
		json_object *names = manager_select(f->manager, "b");

		manager_command(f->manager, MANAGER_RESTART, names);
		json_object_put(names);
		settle(f);
	}
	assert_in_range(f->n_events - n, 2, 300);
	for (unsigned i = 0; i < 300 && !strstr(f->last_event, "\"failed\""); i++)
		(void)sd_event_run(f->event, 10000);
	assert_non_null(strstr(f->last_event, "\"state\":\"failed\""));
}

static void others_than_root_and_the_owner_may_only_look(void **state)
{
	struct fixture *f = *state;
	struct answer a = { 0 };
	scope_free char *path = text_format("%s/bus", f->dir);
	sd_bus *client;

	if (geteuid() != 0)
		unit_skip("needs root to become somebody else");
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(chmod(f->dir, 0755), 0);
	/* Credentials are those of the moment of connecting. */
	assert_int_equal(seteuid(65534), 0);
	client = client_new(f);
	assert_int_equal(seteuid(0), 0);
	assert_true(sd_bus_call_method_async(client, NULL, "org.vmdev", "/org/vmdev",
					     "org.vmdev.Manager", "List", on_answer, &a, "s",
					     "") >= 0);
	(void)wait_for(f, &a);
	assert_string_equal(a.error, "");
	a = (struct answer){ 0 };
	assert_true(sd_bus_call_method_async(client, NULL, "org.vmdev", "/org/vmdev",
					     "org.vmdev.Manager", "Apply", on_answer, &a, "a(ss)b",
					     1, "test.json", TWO, 0) >= 0);
	(void)wait_for(f, &a);
	assert_string_equal(a.error, "org.vmdev.Error.NotPermitted");
	a = (struct answer){ 0 };
	assert_true(sd_bus_call_method_async(client, NULL, "org.vmdev", "/org/vmdev",
					     "org.vmdev.Manager", "Remove", on_answer, &a, "s",
					     "a") >= 0);
	(void)wait_for(f, &a);
	assert_string_equal(a.error, "org.vmdev.Error.NotPermitted");
	sd_bus_detach_event(client);
	sd_bus_close_unref(client);
}

int main(void)
{
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CLAIM(a_document_creates_its_devices),
		CLAIM(a_dry_run_says_the_same_and_changes_nothing),
		CLAIM(addresses_are_written_down_when_a_document_is_applied),
		CLAIM(a_damaged_table_of_addresses_refuses_those_who_ask_for_one),
		CLAIM(a_change_whose_image_is_missing_is_refused_as_a_whole),
		cmocka_unit_test(what_only_one_may_have_is_had_by_one),
		CLAIM(the_changed_are_changed_and_the_missing_removed),
		CLAIM(applying_again_starts_what_has_failed_and_nothing_else),
		CLAIM(one_bad_document_of_two_changes_nothing),
		CLAIM(one_vm_in_two_documents_is_refused),
		CLAIM(a_missing_image_is_refused_before_anything_changes),
		CLAIM(remove_removes_one_device_or_all_of_a_vm),
		CLAIM(a_bad_file_at_start_leaves_the_others),
		CLAIM(the_bus_lists_and_names_what_is_not_there),
		CLAIM(a_bad_document_is_told_over_the_bus_and_changes_nothing),
		CLAIM(clients_that_misbehave_do_no_harm),
		CLAIM(nobody_waits_for_a_client),
		cmocka_unit_test(vmdevd_may_end_while_a_client_goes),
		CLAIM(what_is_being_removed_is_not_started),
		CLAIM(nothing_is_started_when_all_are_stopped_for_good),
		CLAIM(who_connects_when_no_descriptor_is_left_waits),
		CLAIM(states_that_come_and_go_are_told_together),
		CLAIM(others_than_root_and_the_owner_may_only_look),
	};

	journal_init(true);
	log_set_level(LOG_LEVEL_ERROR - 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
