/*
 * vmdevctl's inside: what its verbs share.
 *
 * Runs in: vmdevctl, as whoever calls it.
 * Trusts:  vmdevd, to which it is connected. Texts that come from there go to a terminal: vmdevd
 * has replaced control characters.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <systemd/sd-bus.h>

enum ctl_exit {
	CTL_DONE = 0,
	CTL_FAILED = 1,
	CTL_USAGE = 2,
	CTL_NOT_FOUND = 3, /* or not running */
	CTL_NOT_PERMITTED = 4,
};

struct ctl {
	const char *address; /* of vmdevd's bus */
	const char *host;    /* NULL: here */
	/* of the document that is read from stdin, for messages; NULL: "stdin" */
	const char *name;
	bool json;
	bool quiet;
	bool no_pager;
	bool dry_run;
	sd_bus *bus; /* NULL: not connected yet */
};

struct verb {
	const char *name;
	const char *args; /* for the help */
	const char *help;
	int min_args, max_args; /* max -1: any number */
	enum ctl_exit (*run)(struct ctl *ctl, int argc,
			     char **argv); /* argv[0] is the first argument */
	bool takes_json, takes_dry_run;
	bool only_prints; /* to be quiet is to do nothing */
};

/* The groups of verbs, each in its own file; each ends with a row without a name. */
extern const struct verb apply_verbs[];
extern const struct verb show_verbs[];
extern const struct verb control_verbs[];
extern const struct verb watch_verbs[];
extern const struct verb attach_verbs[];
extern const struct verb doctor_verbs[];

/* bus.c: errors are told on stderr by these, so that a verb only returns their exit status. */

/* CTL_DONE: ctl->bus is connected. */
enum ctl_exit ctl_connect(struct ctl *ctl);
/* Calls a method that takes a selector. On CTL_DONE the caller puts *ret. */
enum ctl_exit ctl_call(struct ctl *ctl, const char *method, const char *selector,
		       json_object **ret);
/* Sends a call whose arguments are complete; takes the message. */
enum ctl_exit ctl_call_message(struct ctl *ctl, sd_bus_message *message, json_object **ret);
enum ctl_exit ctl_new_message(struct ctl *ctl, const char *method, sd_bus_message **ret);
#define CTL_PATH      "/org/vmdev"
#define CTL_INTERFACE "org.vmdev.Manager"

/* output.c */

__attribute__((format(printf, 1, 2))) void ctl_error(const char *format, ...);
void ctl_print_json(json_object *object);
/* As one word of a shell's, whatever it holds; to be freed; NULL: no memory. */
char *ctl_quote(const char *word);
/* A text member, or `otherwise` if it is missing, null or no text. */
const char *ctl_text(json_object *object, const char *key, const char *otherwise);
int64_t ctl_number(json_object *object, const char *key);
bool ctl_has(json_object *object, const char *key);

enum ctl_colour { CTL_PLAIN, CTL_GOOD, CTL_BAD, CTL_WARN, CTL_BOLD, CTL_DIM };
/* The escape sequence, or "" where output is no terminal or NO_COLOR is set. CTL_PLAIN resets. */
const char *ctl_colour(enum ctl_colour colour);
enum ctl_colour ctl_colour_of_state(const char *state);

/* Aligned columns: cells are collected, then printed at once. */
struct table;
struct table *table_new(const char *const *heads, unsigned n_columns);
/* One more cell; after n_columns of them the next row begins. */
void table_add(struct table *table, enum ctl_colour colour, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void table_print(const struct table *table);
struct table *table_free(struct table *table);

/* A pager for long output, as systemctl has it: only on a terminal, and only if the text is long.
 */
void ctl_pager_start(struct ctl *ctl);
void ctl_pager_stop(void);
