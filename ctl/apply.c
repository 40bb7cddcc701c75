/*
 * The verb apply: documents to vmdevd, and what changed.
 *
 * Runs in: vmdevctl. Trusts: see ctl.h.
 *
 * The documents' texts are sent, not their names: vmdevctl reads them as its own user, and vmdevd,
 * which checks everything about them, never opens a path that a client names.
 */
#include <errno.h>
#include <string.h>

#include "ctl/ctl.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

enum { MAX_LEN = 1024 * 1024 }; /* vmdevd takes less, and says so itself */

static int read_all(FILE *f, char **ret_text, size_t *ret_len)
{
	scope_free char *text = malloc(MAX_LEN + 1);
	size_t n;

	if (!text)
		return -ENOMEM;
	n = fread(text, 1, MAX_LEN + 1, f);
	if (ferror(f))
		return errno ? -errno : -EIO;
	if (n > MAX_LEN)
		return -EFBIG;
	text[n] = '\0';
	*ret_len = n;
	*ret_text = take_ptr(text);
	return 0;
}

static enum ctl_exit read_file(const char *name, char **ret_text)
{
	scope_file FILE *f = NULL;
	size_t len = 0;
	int r;

	*ret_text = NULL;
	if (strcmp(name, "-") != 0)
		f = fopen(name, "re");
	if (!f && strcmp(name, "-") != 0)
		r = -errno;
	else
		r = read_all(f ? f : stdin, ret_text, &len);
	if (r < 0 || !*ret_text) {
		ctl_error("%s: cannot be read: %s", name, error_text(r));
		return CTL_FAILED;
	}
	if (strlen(*ret_text) != len) {
		free(*ret_text);
		ctl_error("%s: has a NUL byte; expected a JSON document in UTF-8", name);
		return CTL_FAILED;
	}
	return CTL_DONE;
}

static const char *name_of(const struct ctl *ctl, const char *name)
{
	if (strcmp(name, "-") != 0)
		return name;
	return ctl->name ? ctl->name : "stdin";
}

static enum ctl_exit add_document(const struct ctl *ctl, sd_bus_message *message, const char *name)
{
	char *text = NULL;
	enum ctl_exit exit = read_file(name, &text);
	int r;

	if (exit)
		return exit;
	r = sd_bus_message_append(message, "(ss)", name_of(ctl, name), text);
	free(text);
	if (r >= 0)
		return CTL_DONE;
	if (r == -EINVAL)
		ctl_error("%s: is not UTF-8; expected a JSON document in UTF-8", name);
	else
		ctl_error("%s: cannot be sent: %s", name, error_text(r));
	return CTL_FAILED;
}

static enum ctl_exit send_documents(struct ctl *ctl, int argc, char **argv, json_object **ret)
{
	sd_bus_message *message = NULL;
	enum ctl_exit exit = ctl_new_message(ctl, "Apply", &message);
	int r = 0;

	if (exit)
		return exit;
	r = sd_bus_message_open_container(message, 'a', "(ss)");
	for (int i = 0; i < argc && r >= 0 && exit == CTL_DONE; i++)
		exit = add_document(ctl, message, argv[i]);
	if (exit == CTL_DONE && r >= 0)
		r = sd_bus_message_close_container(message);
	if (exit == CTL_DONE && r >= 0)
		r = sd_bus_message_append(message, "b", ctl->dry_run);
	if (exit || r < 0) {
		sd_bus_message_unref(message);
		if (!exit)
			ctl_error("cannot make a call: %s", error_text(r));
		return CTL_FAILED;
	}
	return ctl_call_message(ctl, message, ret);
}

static void print_change(const struct ctl *ctl, json_object *change)
{
	const char *kind = ctl_text(change, "change", "?");
	static const struct {
		const char *kind, *sign, *done, *planned;
		enum ctl_colour colour;
	} rows[] = {
		{ "create", "+", "created", "would be created", CTL_GOOD },
		{ "change", "~", "changed", "would be changed", CTL_WARN },
		{ "start", "+", "started again", "would be started again", CTL_GOOD },
		{ "remove", "-", "removed", "would be removed", CTL_BAD },
		{ "none", "=", "unchanged", "stays as it is", CTL_DIM },
	};
	json_object *keys;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].kind, kind) != 0)
			continue;
		printf("%s%s%s %s %s", ctl_colour(rows[i].colour), rows[i].sign,
		       ctl_colour(CTL_PLAIN), ctl_text(change, "device", "?"),
		       ctl->dry_run ? rows[i].planned : rows[i].done);
	}
	if (json_object_object_get_ex(change, "keys", &keys))
		for (size_t i = 0; i < json_object_array_length(keys); i++)
			printf("%s%s", i ? ", " : ": ",
			       json_object_get_string(json_object_array_get_idx(keys, i)));
	if (ctl_has(change, "error"))
		printf(", but %snot done%s", ctl_colour(CTL_BAD), ctl_colour(CTL_PLAIN));
	else if (strcmp(ctl_text(change, "state", ""), "failed") == 0)
		printf(", but %sfailed%s", ctl_colour(CTL_BAD), ctl_colour(CTL_PLAIN));
	else if (strcmp(kind, "create") == 0 && ctl_has(change, "socket"))
		printf(" at %s", ctl_text(change, "socket", ""));
	putchar('\n');
}

static enum ctl_exit tell_failed(json_object *changes)
{
	enum ctl_exit exit = CTL_DONE;

	for (size_t i = 0; i < json_object_array_length(changes); i++) {
		json_object *change = json_object_array_get_idx(changes, i);

		if (ctl_has(change, "error"))
			ctl_error("%s: cannot be changed: %s", ctl_text(change, "device", "?"),
				  ctl_text(change, "error", ""));
		else if (strcmp(ctl_text(change, "state", ""), "failed") == 0)
			ctl_error("%s: failed: %s", ctl_text(change, "device", "?"),
				  ctl_text(change, "reason", "no reason"));
		else
			continue;
		exit = CTL_FAILED;
	}
	return exit;
}

static enum ctl_exit run_apply(struct ctl *ctl, int argc, char **argv)
{
	json_object *changes;
	enum ctl_exit exit = send_documents(ctl, argc, argv, &changes);

	if (exit)
		return exit;
	if (ctl->json)
		ctl_print_json(changes);
	for (size_t i = 0; i < json_object_array_length(changes) && !ctl->json && !ctl->quiet; i++)
		print_change(ctl, json_object_array_get_idx(changes, i));
	fflush(stdout);
	exit = tell_failed(changes);
	json_object_put(changes);
	return exit;
}

const struct verb apply_verbs[] = {
	{ "apply", "FILE...", "make VMs' devices what the documents say (- reads stdin)", 1, -1,
	  run_apply, .takes_json = true, .takes_dry_run = true },
	{ 0 },
};
