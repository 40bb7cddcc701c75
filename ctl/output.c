/*
 * What vmdevctl prints: tables, colours, JSON, errors, and through which pager.
 *
 * Runs in: vmdevctl. Trusts: see ctl.h.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "devices/base/scope.h"

static pid_t pager;
static bool is_paged;

void ctl_error(const char *format, ...)
{
	va_list args;

	fputs("vmdevctl: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

void ctl_print_json(json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE |
							    JSON_C_TO_STRING_PRETTY |
							    JSON_C_TO_STRING_SPACED));
}

char *ctl_quote(const char *word)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				   "_@%+=:,./-";
	char *text, *p;

	if (word[0] && word[strspn(word, safe)] == '\0')
		return strdup(word);
	text = p = malloc(strlen(word) * 4 + 3);
	if (!text)
		return NULL;
	*p++ = '\'';
	for (; *word; word++) {
		if (*word == '\'')
			p = stpcpy(p, "'\\''");
		else
			*p++ = *word;
	}
	(void)stpcpy(p, "'");
	return text;
}

const char *ctl_text(json_object *object, const char *key, const char *otherwise)
{
	json_object *value;

	if (!json_object_object_get_ex(object, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return otherwise;
	return json_object_get_string(value);
}

int64_t ctl_number(json_object *object, const char *key)
{
	json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_int64(value) : 0;
}

bool ctl_has(json_object *object, const char *key)
{
	json_object *value;

	return json_object_object_get_ex(object, key, &value) && value;
}

/* ---- colour ---- */

static bool has_colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	if ((no && no[0]) || !term || strcmp(term, "dumb") == 0)
		return false;
	return is_paged || isatty(STDOUT_FILENO);
}

const char *ctl_colour(enum ctl_colour colour)
{
	static const char *const codes[] = {
		[CTL_PLAIN] = "\033[0m", [CTL_GOOD] = "\033[32m", [CTL_BAD] = "\033[1;31m",
		[CTL_WARN] = "\033[33m", [CTL_BOLD] = "\033[1m",  [CTL_DIM] = "\033[2m",
	};

	return has_colour() ? codes[colour] : "";
}

enum ctl_colour ctl_colour_of_state(const char *state)
{
	if (strcmp(state, "connected") == 0 || strcmp(state, "ready") == 0)
		return CTL_GOOD;
	if (strcmp(state, "failed") == 0)
		return CTL_BAD;
	return strcmp(state, "stopped") == 0 ? CTL_DIM : CTL_WARN;
}

/* ---- tables ---- */

struct cell {
	char *text;
	enum ctl_colour colour;
};

struct table {
	unsigned n_columns;
	struct cell *cells; /* the first row is the heads */
	size_t n, n_alloc;
};

static void cell_add(struct table *t, enum ctl_colour colour, char *text)
{
	struct cell *grown;

	if (t->n == t->n_alloc) {
		grown = reallocarray(t->cells, t->n_alloc ? t->n_alloc * 2 : 64, sizeof(*grown));
		if (!grown)
			abort(); /* a client without memory for a table has nothing to say */
		t->cells = grown;
		t->n_alloc = t->n_alloc ? t->n_alloc * 2 : 64;
	}
	t->cells[t->n++] = (struct cell){ text, colour };
}

struct table *table_new(const char *const *heads, unsigned n_columns)
{
	struct table *t = calloc(1, sizeof(*t));

	if (!t)
		abort();
	t->n_columns = n_columns;
	for (unsigned i = 0; i < n_columns; i++)
		table_add(t, CTL_BOLD, "%s", heads[i]);
	return t;
}

void table_add(struct table *t, enum ctl_colour colour, const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		abort();
	va_end(args);
	cell_add(t, colour, text);
}

/* Columns, not bytes: the continuation bytes of UTF-8 take no place. */
static size_t width_of(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static size_t width_of_column(const struct table *t, unsigned column)
{
	size_t width = 0;

	for (size_t i = column; i < t->n; i += t->n_columns)
		if (width_of(t->cells[i].text) > width)
			width = width_of(t->cells[i].text);
	return width;
}

void table_print(const struct table *t)
{
	scope_free size_t *widths = calloc(t->n_columns, sizeof(*widths));

	if (!widths)
		abort();
	for (unsigned i = 0; i < t->n_columns; i++)
		widths[i] = width_of_column(t, i);
	for (size_t i = 0; i < t->n; i++) {
		unsigned column = i % t->n_columns;
		const struct cell *c = &t->cells[i];
		bool is_last = column + 1 == t->n_columns;
		size_t pad = is_last ? 0 : widths[column] - width_of(c->text) + 2;

		printf("%s%s%s%*s%s", c->colour ? ctl_colour(c->colour) : "", c->text,
		       c->colour ? ctl_colour(CTL_PLAIN) : "", (int)pad, "", is_last ? "\n" : "");
	}
}

struct table *table_free(struct table *t)
{
	for (size_t i = 0; t && i < t->n; i++)
		free(t->cells[i].text);
	if (t)
		free(t->cells);
	free(t);
	return NULL;
}

/* ---- pager ---- */

/*
 * The pager shows its input; `less -F` ends by itself if all of it fits on the screen. Without -S:
 * with it, a line that is wider than the screen never fits, however few there are.
 */
void ctl_pager_start(struct ctl *ctl)
{
	const char *name = getenv("PAGER");
	int ends[2];

	if (ctl->no_pager || ctl->json || pager || !isatty(STDOUT_FILENO))
		return;
	if (pipe(ends) < 0)
		return;
	fflush(stdout);
	pager = fork();
	if (pager == 0) {
		(void)dup2(ends[0], STDIN_FILENO);
		close(ends[0]);
		close(ends[1]);
		(void)setenv("LESS", "FRXMK", 0);
		execlp("/bin/sh", "sh", "-c", name && name[0] ? name : "less || cat", NULL);
		_exit(127);
	}
	close(ends[0]);
	if (pager > 0 && dup2(ends[1], STDOUT_FILENO) >= 0)
		is_paged = true;
	close(ends[1]);
}

void ctl_pager_stop(void)
{
	if (pager <= 0)
		return;
	fflush(stdout);
	close(STDOUT_FILENO);
	while (waitpid(pager, NULL, 0) < 0 && errno == EINTR)
		;
	pager = 0;
}
