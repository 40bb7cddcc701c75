/*
 * Applying documents: the comparison of what should be with what is.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing in a document.
 *
 * Three steps, and only the last one changes anything:
 *	parse    every document, collecting every error of each;
 *	compare  into a list of changes, and ask whether the resources of each change can be had;
 *	act      on the list, from top to bottom; removals come first, as they set images free. What
 *		 takes long, a launch, only gets a turn (turns.h).
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/journal.h"
#include "daemon/launch.h"
#include "daemon/manager-private.h"
#include "daemon/syntax.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/log.h"
#include "devices/base/scope.h"

enum change_kind { CHANGE_NONE, CHANGE_REMOVE, CHANGE_CREATE, CHANGE_CHANGE, CHANGE_START };

static const char *const change_names[] = {
	[CHANGE_NONE] = "none",	    [CHANGE_REMOVE] = "remove", [CHANGE_CREATE] = "create",
	[CHANGE_CHANGE] = "change", [CHANGE_START] = "start",
};

struct change {
	enum change_kind kind;
	const struct device_config *config; /* the new one; of a removal the old one */
	const char *file;
	bool relaunch; /* a change that a running device cannot take */
	const char *keys[N_DEVICE_CONFIG_KEYS + 1];
};

/* One call of manager_apply. */
struct apply {
	struct manager *manager;
	const struct manager_apply_spec *spec;
	struct config_errors *errors;
	struct vm_config **vms;
	size_t n_vms;
	struct change *changes;
	size_t n_changes;
};

/* ---- parse ---- */

static int parse_one(struct apply *a, const struct document *document)
{
	struct config_source source = {
		.file = document->file,
		.text = document->text,
		.len = document->len,
		.runtime_dir = a->manager->spec.runtime_dir,
	};
	struct config_errors errors = { 0 };
	struct vm_config *vm;
	struct entry *e;
	int r;

	r = config_parse(&source, &vm, &errors);
	for (size_t i = 0; i < errors.n; i++)
		config_errors_add(a->errors, "%s", errors.lines[i]);
	a->errors->n_more += errors.n_more;
	config_errors_done(&errors);
	if (r < 0)
		return r == -EINVAL ? 0 : r;
	list_for_each (e, &a->manager->entries, link) {
		if (!a->spec->at_start || strcmp(device_config(e->device)->vm, vm->name) != 0)
			continue;
		config_errors_add(a->errors,
				  "%s:1: vm: \"%s\" is described by another file of this directory "
				  "already; expected one document for each VM",
				  vm->file, vm->name);
		break;
	}
	for (size_t i = 0; i < a->n_vms; i++)
		if (strcmp(a->vms[i]->name, vm->name) == 0)
			config_errors_add(a->errors,
					  "%s:1: vm: \"%s\" is described by %s already; expected "
					  "one document for each VM",
					  vm->file, vm->name, a->vms[i]->file);
	a->vms[a->n_vms++] = vm;
	return 0;
}

static int parse_all(struct apply *a)
{
	int r = 0;

	a->vms = calloc(a->spec->n_documents + 1, sizeof(*a->vms));
	if (!a->vms)
		return -ENOMEM;
	for (size_t i = 0; i < a->spec->n_documents && r == 0; i++)
		r = parse_one(a, &a->spec->documents[i]);
	return r;
}

/* ---- addresses ---- */

/* Does any device but this one have it? */
static bool cid_taken(struct apply *a, uint64_t cid, const char *but)
{
	struct entry *e;

	list_for_each (e, &a->manager->entries, link) {
		const struct device_config *c = device_config(e->device);

		if (c->cid == cid && strcmp(c->full_name, but) != 0)
			return true;
	}
	for (size_t i = 0; i < a->n_vms; i++)
		for (size_t k = 0; k < a->vms[i]->n_devices; k++) {
			const struct device_config *c = &a->vms[i]->devices[k];

			if (c->cid == cid && strcmp(c->full_name, but) != 0)
				return true;
		}
	return false;
}

struct cid_asker {
	struct apply *apply;
	const char *name;
};

static bool taken_by_others(void *arg, uint64_t cid)
{
	struct cid_asker *asker = arg;

	return cid_taken(asker->apply, cid, asker->name);
}

static int give_cid(struct apply *a, struct device_config *c)
{
	struct cid_asker asker = { a, c->full_name };
	scope_free char *error = NULL;

	if (c->type != DEVICE_TYPE_VSOCK || c->cid != 0)
		return 0;
	if (!a->manager->cids &&
	    cids_load(a->manager->spec.runtime_dir, &a->manager->cids, &error) < 0) {
		config_errors_add(a->errors, "%s: cid: \"auto\": %s", c->full_name,
				  error ? error : error_text(-ENOMEM));
		return 0;
	}
	c->cid = cids_find(a->manager->cids, c->full_name, taken_by_others, &asker);
	return c->cid ? 0 : -ENOSPC;
}

static int give_cids(struct apply *a)
{
	int r = 0;

	for (size_t i = 0; i < a->n_vms; i++)
		for (size_t k = 0; k < a->vms[i]->n_devices && r == 0; k++)
			r = give_cid(a, &a->vms[i]->devices[k]);
	return r;
}

static bool is_described(void *arg, const char *name)
{
	const struct apply *a = arg;

	for (size_t i = 0; i < a->n_vms; i++)
		for (size_t k = 0; k < a->vms[i]->n_devices; k++)
			if (strcmp(a->vms[i]->devices[k].full_name, name) == 0)
				return true;
	return manager_find(a->manager, name) != NULL;
}

/*
 * Written down before a guest can see it. The devices can be had without that, and have others
 * after a restart.
 */
static void keep_cids(struct apply *a)
{
	int r = 0;

	if (!a->manager->cids)
		return;
	for (size_t i = 0; i < a->n_vms; i++)
		for (size_t k = 0; k < a->vms[i]->n_devices && r == 0; k++) {
			const struct device_config *c = &a->vms[i]->devices[k];

			if (c->type == DEVICE_TYPE_VSOCK && c->cid_auto)
				r = cids_set(a->manager->cids, c->full_name, c->cid);
		}
	if (r == 0)
		r = cids_save(a->manager->cids, is_described, a);
	if (r < 0)
		journal_write(&(struct journal_about){ .level = LOG_LEVEL_ERROR },
			      "the table of CIDs cannot be written: %s", error_text(r));
}

/* ---- what only one may have ---- */

static bool is_described_here(const struct apply *a, const char *vm)
{
	for (size_t i = 0; i < a->n_vms; i++)
		if (strcmp(a->vms[i]->name, vm) == 0)
			return true;
	return false;
}

static bool tell_if_clash(struct apply *a, const struct vm_config *vm,
			  const struct device_config *c, const struct device_config *other)
{
	const struct type_single *single = type_clash(other, c);
	json_object *value;

	if (!single)
		return false;
	value = single->value(c);
	config_errors_add(a->errors, "%s: %s: %s: %s is %s of %s already; expected %s", vm->file,
			  c->full_name, single->key,
			  json_object_to_json_string_ext(value, JSON_C_TO_STRING_NOSLASHESCAPE),
			  single->what, other->full_name, single->expected);
	json_object_put(value);
	return true;
}

/* Of devices of two VMs; within a document it has been seen (config-parse.c). */
static void check_clash(struct apply *a, const struct vm_config *vm, const struct device_config *c)
{
	struct entry *e;

	list_for_each (e, &a->manager->entries, link) {
		const struct device_config *other = device_config(e->device);

		if (!e->removing && !is_described_here(a, other->vm) &&
		    tell_if_clash(a, vm, c, other))
			return;
	}
	for (size_t i = 0; i < a->n_vms && a->vms[i] != vm; i++)
		for (size_t k = 0; k < a->vms[i]->n_devices; k++)
			if (tell_if_clash(a, vm, c, &a->vms[i]->devices[k]))
				return;
}

/* Whether it runs now or not: both could be started. */
static void check_clashes(struct apply *a)
{
	for (size_t i = 0; i < a->n_vms; i++)
		for (size_t k = 0; k < a->vms[i]->n_devices; k++)
			check_clash(a, a->vms[i], &a->vms[i]->devices[k]);
}

/* ---- compare ---- */

static const struct device_config *find_config(const struct vm_config *vm, const char *name)
{
	for (size_t i = 0; i < vm->n_devices; i++)
		if (strcmp(vm->devices[i].name, name) == 0)
			return &vm->devices[i];
	return NULL;
}

static void compare_device(struct apply *a, const struct vm_config *vm,
			   const struct device_config *config)
{
	struct entry *e = manager_find(a->manager, config->full_name);
	struct change *c = &a->changes[a->n_changes++];

	*c = (struct change){ .kind = CHANGE_CREATE, .config = config, .file = vm->file };
	if (!e || e->removing)
		return;
	if (device_config_compare(device_config(e->device), config, c->keys)) {
		c->kind = CHANGE_CHANGE;
		for (size_t i = 0; c->keys[i]; i++)
			c->relaunch |= strncmp(c->keys[i], "socket.", strlen("socket.")) != 0;
		return;
	}
	c->kind = device_state(e->device) == DEVICE_STOPPED ||
				  device_state(e->device) == DEVICE_STOPPING ||
				  device_state(e->device) == DEVICE_FAILED
			  ? CHANGE_START
			  : CHANGE_NONE;
}

static void compare_removed(struct apply *a, const struct vm_config *vm)
{
	struct entry *e;

	list_for_each (e, &a->manager->entries, link) {
		const struct device_config *config = device_config(e->device);

		if (strcmp(config->vm, vm->name) == 0 && !e->removing &&
		    !find_config(vm, config->name))
			a->changes[a->n_changes++] = (struct change){
				.kind = CHANGE_REMOVE,
				.config = config,
				.file = vm->file,
			};
	}
}

static int compare_all(struct apply *a)
{
	size_t n = 0;
	struct entry *e;

	list_for_each (e, &a->manager->entries, link)
		n++;
	for (size_t i = 0; i < a->n_vms; i++)
		n += a->vms[i]->n_devices;
	a->changes = calloc(n + 1, sizeof(*a->changes));
	if (!a->changes)
		return -ENOMEM;
	for (size_t i = 0; i < a->n_vms; i++)
		compare_removed(a, a->vms[i]);
	for (size_t i = 0; i < a->n_vms; i++)
		for (size_t k = 0; k < a->vms[i]->n_devices; k++)
			compare_device(a, a->vms[i], &a->vms[i]->devices[k]);
	return 0;
}

static bool holds(const struct entry *e, const struct device_config *config)
{
	return type_clash(device_config(e->device), config);
}

/* A device of ours that this very call stops or removes may have the resource now. */
static bool is_freed_here(const struct apply *a, const struct device_config *config)
{
	struct entry *e;

	list_for_each (e, &a->manager->entries, link)
		if (e->removing && holds(e, config))
			return true;
	for (size_t i = 0; i < a->n_changes; i++) {
		const struct change *c = &a->changes[i];

		if (c->kind != CHANGE_REMOVE && c->kind != CHANGE_CHANGE)
			continue;
		e = manager_find(a->manager, c->config->full_name);
		if (e && holds(e, config))
			return true;
	}
	return false;
}

static int check_one(struct apply *a, const struct change *c)
{
	scope_free char *error = NULL;
	char **argv = device_config_argv(c->config);
	struct device_launch_texts texts;
	struct launch_spec spec;
	int r;

	if (!argv)
		return -ENOMEM;
	spec = device_launch_spec(&a->manager->host, c->config, argv, &texts);
	r = launch_check(&spec, &error);
	strv_free(argv);
	if (r == -EBUSY && is_freed_here(a, c->config))
		r = 0;
	if (r < 0)
		config_errors_add(a->errors, "%s: %s: %s", c->file, c->config->full_name,
				  error ? error : error_text(r));
	return 0;
}

/* What is changed while it is there: can its socket be given another owner? */
static void check_socket(struct apply *a, const struct change *c)
{
	const struct entry *e = manager_find(a->manager, c->config->full_name);
	scope_free char *error = NULL;
	int r = e ? device_check_reconfigure(e->device, &error) : 0;

	if (r < 0)
		config_errors_add(a->errors, "%s: %s: %s", c->file, c->config->full_name,
				  error ? error : error_text(r));
}

static int check_all(struct apply *a)
{
	int r = 0;

	for (size_t i = 0; i < a->n_changes && r == 0; i++) {
		const struct change *c = &a->changes[i];

		if (c->kind == CHANGE_CREATE || c->kind == CHANGE_CHANGE)
			check_socket(a, c);
		if (c->kind == CHANGE_CREATE || (c->kind == CHANGE_CHANGE && c->relaunch))
			r = check_one(a, c);
	}
	return r;
}

/* ---- act ---- */

static int act_create(struct manager *m, const struct change *c, char **ret_error)
{
	struct entry *e = manager_find(m, c->config->full_name);
	int r;

	if (e) { /* on its way out: it stays, with another configuration */
		r = device_reconfigure(e->device, c->config, ret_error);
		if (r < 0)
			return r;
		e->removing = false;
		(void)device_handle(e->device, DEVICE_EVENT_RESTART);
		return 0;
	}
	r = manager_entry_new(m, c->config);
	if (r == 0)
		(void)device_handle(manager_find(m, c->config->full_name)->device,
				    DEVICE_EVENT_START);
	return r;
}

static int act_change(struct manager *m, const struct change *c, char **ret_error)
{
	struct entry *e = manager_find(m, c->config->full_name);
	int r = device_reconfigure(e->device, c->config, ret_error);

	if (r == 0)
		(void)device_handle(e->device,
				    c->relaunch ? DEVICE_EVENT_RESTART : DEVICE_EVENT_START);
	return r;
}

static int act(struct manager *m, const struct change *c, char **ret_error)
{
	struct entry *e;

	switch (c->kind) {
	case CHANGE_NONE:
		return 0;
	case CHANGE_CREATE:
		return act_create(m, c, ret_error);
	case CHANGE_CHANGE:
		return act_change(m, c, ret_error);
	case CHANGE_START:
		e = manager_find(m, c->config->full_name);
		(void)device_handle(e->device, DEVICE_EVENT_START);
		return 0;
	case CHANGE_REMOVE:
		e = manager_find(m, c->config->full_name);
		e->removing = true;
		(void)device_handle(e->device, DEVICE_EVENT_STOP);
		return 0;
	}
	return 0;
}

/*
 * All of it, whatever becomes of a part: what cannot be done has been looked for before, so that it
 * has changed meanwhile, and of that the devices concerned are told by their names.
 */
static void act_all(struct apply *a, json_object *changes)
{
	for (size_t i = 0; i < a->n_changes; i++) {
		json_object *change = json_object_array_get_idx(changes, i), *name;
		scope_free char *error = NULL;
		int r = act(a->manager, &a->changes[i], &error);

		if (r >= 0)
			continue;
		json_object_object_add(change, "error",
				       json_object_new_string(error ? error : error_text(r)));
		json_object_object_get_ex(change, "device", &name);
		journal_error("%s: cannot be changed: %s", json_object_get_string(name),
			      error ? error : error_text(r));
	}
}

static json_object *changes_to_json(const struct apply *a)
{
	json_object *array = json_object_new_array();

	for (size_t i = 0; i < a->n_changes; i++) {
		const struct change *c = &a->changes[i];
		json_object *object = json_object_new_object(), *keys = json_object_new_array();

		for (size_t k = 0; c->keys[k]; k++)
			json_object_array_add(keys, json_object_new_string(c->keys[k]));
		json_object_object_add(object, "device",
				       json_object_new_string(c->config->full_name));
		json_object_object_add(object, "change",
				       json_object_new_string(change_names[c->kind]));
		json_object_object_add(object, "keys", keys);
		json_object_array_add(array, object);
	}
	return array;
}

static void apply_done(struct apply *a)
{
	for (size_t i = 0; i < a->n_vms; i++)
		vm_config_free(a->vms[i]);
	free(a->vms);
	free(a->changes);
}

static int apply_prepare(struct apply *a)
{
	int r = parse_all(a);

	if (r == 0 && a->errors->n + a->errors->n_more == 0)
		r = give_cids(a);
	if (r == 0 && a->errors->n + a->errors->n_more == 0)
		check_clashes(a);
	if (r == 0 && a->errors->n + a->errors->n_more == 0)
		r = compare_all(a);
	if (r == 0 && a->errors->n + a->errors->n_more == 0 && !a->spec->at_start)
		r = check_all(a);
	if (r == 0 && a->errors->n + a->errors->n_more)
		r = -EINVAL;
	return r;
}

int manager_apply(struct manager *m, const struct manager_apply_spec *spec,
		  json_object **ret_changes, struct config_errors *errors)
{
	struct apply a = { .manager = m, .spec = spec, .errors = errors };
	json_object *changes;
	int r;

	r = apply_prepare(&a);
	if (r < 0) {
		apply_done(&a);
		return r;
	}
	if (!spec->dry_run)
		keep_cids(&a);
	changes = changes_to_json(&a); /* first: an action may free what a change points to */
	if (!spec->dry_run)
		act_all(&a, changes);
	apply_done(&a);
	*ret_changes = changes;
	return 0;
}

/* ---- the configuration directory ---- */

static int is_document(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return entry->d_name[0] != '.' && len > 5 && strcmp(entry->d_name + len - 5, ".json") == 0;
}

static const struct journal_about refused = {
	.level = LOG_LEVEL_ERROR,
	.id = JOURNAL_DOCUMENT_REFUSED,
};

static bool apply_file(struct manager *m, const char *path)
{
	struct config_errors errors = { 0 };
	scope_free char *text = NULL;
	struct document document = { .file = path };
	struct manager_apply_spec spec = {
		.documents = &document,
		.n_documents = 1,
		.at_start = true,
	};
	json_object *changes = NULL;
	int r;

	r = text_read(path, O_NOCTTY, SYNTAX_MAX_LEN, &text, &document.len);
	if (r < 0) {
		journal_write(&refused, "%s: cannot be read: %s", path, error_text(r));
		return false;
	}
	document.text = text;
	r = manager_apply(m, &spec, &changes, &errors);
	for (size_t i = 0; i < errors.n; i++)
		journal_write(&refused, "%s", errors.lines[i]);
	if (r < 0 && r != -EINVAL)
		journal_write(&refused, "%s: %s", path, error_text(r));
	config_errors_done(&errors);
	json_object_put(changes);
	return r == 0;
}

unsigned manager_apply_directory(struct manager *m, const char *path)
{
	struct dirent **names = NULL;
	unsigned n_refused = 0;
	int n = scandir(path, &names, is_document, alphasort);

	if (n < 0 && errno != ENOENT) {
		journal_write(&refused, "%s: cannot be read: %s", path, error_text(errno));
		return 1;
	}
	for (int i = 0; i < n; i++) {
		char file[4096];

		(void)snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
		n_refused += !apply_file(m, file);
		free(names[i]);
	}
	free(names);
	return n_refused;
}
