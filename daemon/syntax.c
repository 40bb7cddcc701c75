/*
 * A strict scanner of JSON; syntax.h says why there is one.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing.
 *
 * The scanner is a small machine: `expect` says what may come next, and a stack of the open objects
 * and arrays says what to expect after a value. Each step consumes at least one byte.
 */
#include "daemon/syntax.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum expect {
	EXPECT_VALUE,	     /* any value */
	EXPECT_VALUE_OR_END, /* after '[' */
	EXPECT_KEY,	     /* after ',' in an object */
	EXPECT_KEY_OR_END,   /* after '{' */
	EXPECT_COLON,
	EXPECT_COMMA_OR_END, /* after a value inside something */
	EXPECT_NOTHING,	     /* after the document */
};

struct scanner {
	const char *p, *end;
	unsigned line;
	struct syntax *syntax;
	struct syntax_error *error;
	enum expect expect;
	uint32_t open[SYNTAX_MAX_DEPTH]; /* ids of the open objects and arrays */
	bool is_array[SYNTAX_MAX_DEPTH];
	unsigned depth;
	uint32_t id; /* of the member whose value comes next */
};

static int refuse(struct scanner *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int refuse(struct scanner *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(s->error->text, sizeof(s->error->text), format, args);
	va_end(args);
	s->error->line = s->line;
	return -EINVAL;
}

/* What stands at p, as a person would name it. */
static int refuse_byte(struct scanner *s, const char *wanted)
{
	unsigned char c;

	if (s->p == s->end)
		return refuse(s, "the document ends here; expected %s", wanted);
	c = (unsigned char)*s->p;
	if (c < 0x20 || c >= 0x7f)
		return refuse(s, "byte 0x%02x here; expected %s", c, wanted);
	return refuse(s, "'%c' here; expected %s", c, wanted);
}

static int position_add(struct scanner *s, const char *key, size_t key_len, uint32_t *ret_id)
{
	struct syntax *x = s->syntax;
	struct position *grown;
	size_t n;

	if (x->n == x->n_alloc) {
		n = x->n_alloc ? x->n_alloc * 2 : 64;
		grown = reallocarray(x->positions, n, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		x->positions = grown;
		x->n_alloc = n;
	}
	x->positions[x->n] = (struct position){
		.parent = s->depth ? s->open[s->depth - 1] : 0,
		.line = s->line,
		.key = key,
		.key_len = (uint32_t)key_len,
	};
	*ret_id = (uint32_t)x->n++;
	return 0;
}

/* RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF. 0: not a character. */
static size_t utf8_len(const unsigned char *p, const unsigned char *end)
{
	static const struct {
		unsigned char mask, lead, len;
		uint32_t min;
	} forms[] = {
		{ 0x80, 0x00, 1, 0 },
		{ 0xe0, 0xc0, 2, 0x80 },
		{ 0xf0, 0xe0, 3, 0x800 },
		{ 0xf8, 0xf0, 4, 0x10000 },
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		uint32_t c;

		if ((*p & forms[i].mask) != forms[i].lead)
			continue;
		if ((size_t)(end - p) < forms[i].len)
			return 0;
		c = *p & (unsigned char)~forms[i].mask;
		for (size_t k = 1; k < forms[i].len; k++) {
			if ((p[k] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (p[k] & 0x3f);
		}
		if (c < forms[i].min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return 0;
		return forms[i].len;
	}
	return 0;
}

static int scan_escape(struct scanner *s)
{
	unsigned v = 0;

	s->p++; /* the backslash */
	if (s->p < s->end && *s->p && strchr("\"\\/bfnrt", *s->p)) {
		s->p++;
		return 0;
	}
	if (s->p == s->end || *s->p != 'u')
		return refuse_byte(s, "one of \" \\ / b f n r t u after a backslash");
	s->p++;
	for (unsigned i = 0; i < 4; i++, s->p++) {
		const char *digits = "0123456789abcdefABCDEF", *at;

		at = s->p < s->end && *s->p ? strchr(digits, *s->p) : NULL;
		if (!at)
			return refuse_byte(s, "four hexadecimal digits after \\u");
		v = v << 4 | (unsigned)(at - digits >= 16 ? at - digits - 6 : at - digits);
	}
	if (v == 0)
		return refuse(s, "the character NUL in a string");
	if (v >= 0xd800 && v <= 0xdfff)
		return refuse(
			s, "half a character (\\u%04x) in a string; write the character itself", v);
	return 0;
}

/* p is at the opening quote; the text between the quotes is *ret_text. */
static int scan_string(struct scanner *s, const char **ret_text, size_t *ret_len, bool *ret_escaped)
{
	const char *start = ++s->p;
	bool escaped = false;
	size_t n;
	int r;

	while (s->p < s->end && *s->p != '"') {
		if (*s->p == '\\') {
			escaped = true;
			r = scan_escape(s);
			if (r < 0)
				return r;
			continue;
		}
		if ((unsigned char)*s->p < 0x20)
			return refuse_byte(s, "'\"': a string ends on its own line");
		n = utf8_len((const unsigned char *)s->p, (const unsigned char *)s->end);
		if (n == 0)
			return refuse(s, "a byte that is not UTF-8 (0x%02x)", (unsigned char)*s->p);
		s->p += n;
	}
	if (s->p == s->end)
		return refuse_byte(s, "'\"'");
	*ret_text = start;
	*ret_len = (size_t)(s->p - start);
	*ret_escaped = escaped;
	s->p++;
	return 0;
}

static size_t skip_digits(struct scanner *s)
{
	const char *start = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return (size_t)(s->p - start);
}

static int scan_number(struct scanner *s)
{
	if (*s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0') {
		s->p++;
		if (s->p < s->end && *s->p >= '0' && *s->p <= '9')
			return refuse(s, "a number with a leading zero (octal modes are strings, "
					 "such as \"0660\")");
	} else if (!skip_digits(s)) {
		return refuse_byte(s, "a digit");
	}
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (!skip_digits(s))
			return refuse_byte(s, "a digit");
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (!skip_digits(s))
			return refuse_byte(s, "a digit");
	}
	return 0;
}

static int scan_word(struct scanner *s)
{
	static const char *const words[] = { "true", "false", "null" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t n = strlen(words[i]);

		if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
			s->p += n;
			return 0;
		}
	}
	return refuse_byte(s, "a value: a string in double quotes, a number, true, false, "
			      "{...} or [...]");
}

static void value_end(struct scanner *s)
{
	s->expect = s->depth ? EXPECT_COMMA_OR_END : EXPECT_NOTHING;
}

static int scan_open(struct scanner *s, bool is_array)
{
	if (s->depth == SYNTAX_MAX_DEPTH)
		return refuse(s, "nested too deeply; at most %u levels", SYNTAX_MAX_DEPTH);
	s->open[s->depth] = s->id;
	s->is_array[s->depth++] = is_array;
	s->expect = is_array ? EXPECT_VALUE_OR_END : EXPECT_KEY_OR_END;
	s->p++;
	return 0;
}

static int scan_close(struct scanner *s)
{
	s->depth--;
	s->p++;
	value_end(s);
	return 0;
}

static int scan_value(struct scanner *s)
{
	const char *text;
	bool escaped;
	size_t len;
	int r = 0;

	if (s->depth && s->is_array[s->depth - 1]) {
		r = position_add(s, NULL, 0, &s->id);
		if (r < 0)
			return r;
	}
	if (*s->p == '{' || *s->p == '[')
		return scan_open(s, *s->p == '[');
	if (*s->p == '"')
		r = scan_string(s, &text, &len, &escaped);
	else if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
		r = scan_number(s);
	else
		r = scan_word(s);
	if (r < 0)
		return r;
	value_end(s);
	return 0;
}

static int scan_key(struct scanner *s)
{
	const char *key;
	bool escaped;
	size_t len;
	int r;

	if (*s->p != '"')
		return refuse_byte(s, "a key in double quotes");
	r = scan_string(s, &key, &len, &escaped);
	if (r < 0)
		return r;
	if (escaped) /* or else one key could be written in two ways */
		return refuse(s, "a key with a backslash; expected a key without escapes");
	r = position_add(s, key, len, &s->id);
	if (r < 0)
		return r;
	s->expect = EXPECT_COLON;
	return 0;
}

static int scan_comma_or_end(struct scanner *s)
{
	bool is_array = s->is_array[s->depth - 1];

	if (*s->p == (is_array ? ']' : '}'))
		return scan_close(s);
	if (*s->p != ',')
		return refuse_byte(s, is_array ? "',' or ']'" : "',' or '}'");
	s->p++;
	s->expect = is_array ? EXPECT_VALUE : EXPECT_KEY;
	return 0;
}

static int scan_step(struct scanner *s)
{
	switch (s->expect) {
	case EXPECT_VALUE_OR_END:
		if (*s->p == ']')
			return scan_close(s);
		return scan_value(s);
	case EXPECT_VALUE:
		return scan_value(s);
	case EXPECT_KEY_OR_END:
		if (*s->p == '}')
			return scan_close(s);
		return scan_key(s);
	case EXPECT_KEY:
		return scan_key(s);
	case EXPECT_COLON:
		if (*s->p != ':')
			return refuse_byte(s, "':'");
		s->p++;
		s->expect = EXPECT_VALUE;
		return 0;
	case EXPECT_COMMA_OR_END:
		return scan_comma_or_end(s);
	case EXPECT_NOTHING:
		break;
	}
	return refuse_byte(s, "nothing after the document");
}

static void skip_space(struct scanner *s)
{
	for (; s->p < s->end; s->p++) {
		if (*s->p == '\n')
			s->line++;
		else if (*s->p != ' ' && *s->p != '\t' && *s->p != '\r')
			return;
	}
}

static int scan(struct scanner *s)
{
	int r;

	r = position_add(s, NULL, 0, &s->id);
	if (r < 0)
		return r;
	for (;;) {
		skip_space(s);
		if (s->p == s->end)
			break;
		r = scan_step(s);
		if (r < 0)
			return r;
	}
	return s->expect == EXPECT_NOTHING ? 0 : refuse_byte(s, "the rest of the document");
}

static int key_compare(const struct position *a, uint32_t parent, const char *key, size_t len)
{
	size_t n = a->key_len < len ? a->key_len : len;
	int r;

	if (a->parent != parent)
		return a->parent < parent ? -1 : 1;
	r = n ? memcmp(a->key, key, n) : 0;
	if (r)
		return r;
	return a->key_len < len ? -1 : a->key_len > len;
}

static int id_compare(const void *left, const void *right, void *arg)
{
	const struct syntax *x = arg;
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	const struct position *pb = &x->positions[b];
	int r;

	r = key_compare(&x->positions[a], pb->parent, pb->key, pb->key_len);
	return r ? r : (a > b) - (a < b);
}

/* Sorts the keys, and refuses one that stands twice in one object. */
static int keys_sort(struct scanner *s)
{
	struct syntax *x = s->syntax;

	x->by_key = calloc(x->n, sizeof(*x->by_key));
	if (!x->by_key)
		return -ENOMEM;
	for (size_t i = 0; i < x->n; i++)
		x->by_key[i] = (uint32_t)i;
	qsort_r(x->by_key, x->n, sizeof(*x->by_key), id_compare, x);
	for (size_t i = 1; i < x->n; i++) {
		const struct position *a = &x->positions[x->by_key[i - 1]];
		const struct position *b = &x->positions[x->by_key[i]];
		char path[120];

		if (!a->key || !b->key || key_compare(a, b->parent, b->key, b->key_len) != 0)
			continue;
		s->line = b->line;
		syntax_path(x, x->by_key[i], path, sizeof(path));
		return refuse(s, "%s: given twice, first in line %u; expected each key once", path,
			      a->line);
	}
	return 0;
}

int syntax_scan(const char *text, size_t len, struct syntax *ret, struct syntax_error *ret_error)
{
	struct syntax syntax = { 0 };
	struct scanner s = {
		.p = text,
		.end = text + len,
		.line = 1,
		.syntax = &syntax,
		.error = ret_error,
	};
	int r;

	if (len > SYNTAX_MAX_LEN)
		return refuse(&s, "the document has %zu bytes; expected at most %u", len,
			      SYNTAX_MAX_LEN);
	r = scan(&s);
	if (r == 0)
		r = keys_sort(&s);
	if (r < 0) {
		syntax_done(&syntax);
		return r;
	}
	*ret = syntax;
	return 0;
}

void syntax_done(struct syntax *syntax)
{
	free(syntax->positions);
	free(syntax->by_key);
	*syntax = (struct syntax){ 0 };
}

uint32_t syntax_find(const struct syntax *syntax, uint32_t parent, const char *key)
{
	size_t low = 0, high = syntax->n, key_len = strlen(key);

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		uint32_t id = syntax->by_key[mid];
		int r = key_compare(&syntax->positions[id], parent, key, key_len);

		if (r == 0 && syntax->positions[id].key)
			return id;
		if (r < 0 || r == 0)
			low = mid + 1;
		else
			high = mid;
	}
	return UINT32_MAX;
}

void syntax_path(const struct syntax *syntax, uint32_t id, char *ret_path, size_t size)
{
	uint32_t ids[SYNTAX_MAX_DEPTH + 1];
	size_t n = 0, at = 0;

	for (; id && n < SYNTAX_MAX_DEPTH + 1; id = syntax->positions[id].parent)
		ids[n++] = id;
	ret_path[0] = '\0';
	while (n--) {
		const struct position *p = &syntax->positions[ids[n]];
		const char *key = p->key ? p->key : "[]";
		size_t key_len = p->key ? p->key_len : 2;

		if (at && at + 1 < size)
			ret_path[at++] = '.';
		for (size_t i = 0; i < key_len && at + 1 < size; i++) {
			unsigned char c = (unsigned char)key[i];

			ret_path[at++] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
		}
		ret_path[at] = '\0';
	}
}
