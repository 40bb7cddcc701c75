/* Strict parsing. See parse.h. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "devices/base/parse.h"

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

static bool parse_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Read the digits at *p (at least one) and step over them. */
static int parse_digits(const char **p, uint64_t *ret_v)
{
	uint64_t v = 0;
	bool wraps = false;

	if (!parse_is_digit(**p))
		return -EINVAL;
	for (; parse_is_digit(**p); (*p)++) {
		wraps |= __builtin_mul_overflow(v, 10u, &v);
		wraps |= __builtin_add_overflow(v, (uint64_t)(**p - '0'), &v);
	}
	if (wraps)
		return -ERANGE;
	*ret_v = v;
	return 0;
}

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_v)
{
	const char *p = text;
	uint64_t v = 0;
	int r = parse_digits(&p, &v);

	/* Digits that no 64 bits hold and then a letter: wrong form goes before out of range. */
	if (*p != '\0')
		return -EINVAL;
	if (r < 0)
		return r;
	if (v < min || v > max)
		return -ERANGE;
	*ret_v = v;
	return 0;
}

int parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char suffixes[] = "KMGT";
	const char *p = text;
	uint64_t v = 0, unit = 1;
	int r = parse_digits(&p, &v);

	if (r == -EINVAL)
		return r;
	if (*p != '\0') {
		const char *s = strchr(suffixes, *p++);

		if (!s || *p != '\0')
			return -EINVAL;
		unit = UINT64_C(1) << (10 * (s - suffixes + 1));
	}
	if (r < 0 || __builtin_mul_overflow(v, unit, &v))
		return -ERANGE;
	*ret_bytes = v;
	return 0;
}

#define USEC	    UINT64_C(1)
#define USEC_MSEC   (1000 * USEC)
#define USEC_SECOND (1000 * USEC_MSEC)
#define USEC_MINUTE (60 * USEC_SECOND)
#define USEC_HOUR   (60 * USEC_MINUTE)
#define USEC_DAY    (24 * USEC_HOUR)
#define USEC_WEEK   (7 * USEC_DAY)
#define USEC_MONTH  (2629800 * USEC_SECOND)  /* 30.4375 days, as systemd.time(7) */
#define USEC_YEAR   (31557600 * USEC_SECOND) /* 365.25 days */

static const struct parse_unit {
	const char *name;
	uint64_t usec;
} parse_units[] = {
	{ "usec", USEC },	    { "us", USEC },
	{ "\xc2\xb5s", USEC }, /* MICRO SIGN */
	{ "\xce\xbcs", USEC }, /* GREEK SMALL LETTER MU */
	{ "msec", USEC_MSEC },	    { "ms", USEC_MSEC },
	{ "seconds", USEC_SECOND }, { "second", USEC_SECOND },
	{ "sec", USEC_SECOND },	    { "s", USEC_SECOND },
	{ "minutes", USEC_MINUTE }, { "minute", USEC_MINUTE },
	{ "min", USEC_MINUTE },	    { "m", USEC_MINUTE },
	{ "hours", USEC_HOUR },	    { "hour", USEC_HOUR },
	{ "hr", USEC_HOUR },	    { "h", USEC_HOUR },
	{ "days", USEC_DAY },	    { "day", USEC_DAY },
	{ "d", USEC_DAY },	    { "weeks", USEC_WEEK },
	{ "week", USEC_WEEK },	    { "w", USEC_WEEK },
	{ "months", USEC_MONTH },   { "month", USEC_MONTH },
	{ "M", USEC_MONTH },	    { "years", USEC_YEAR },
	{ "year", USEC_YEAR },	    { "y", USEC_YEAR },
};

/* The unit's name ends where a blank, a digit or the text does. */
static uint64_t parse_unit(const char **p)
{
	size_t len = strcspn(*p, " 0123456789");

	if (len == 0)
		return USEC_SECOND;
	for (size_t i = 0; i < N_ELEMENTS(parse_units); i++) {
		const char *name = parse_units[i].name;

		if (strlen(name) == len && memcmp(name, *p, len) == 0) {
			*p += len;
			return parse_units[i].usec;
		}
	}
	return 0;
}

/*
 * The digits after a point, as parts of 10^9. More than nine digits are accepted, and those beyond
 * the ninth have no weight: none of them is worth a microsecond in any unit up to the minute.
 */
static int parse_fraction(const char **p, uint64_t *ret_parts)
{
	uint64_t parts = 0, weight = 100000000;

	if (!parse_is_digit(**p))
		return -EINVAL;
	for (; parse_is_digit(**p); (*p)++) {
		parts += (uint64_t)(**p - '0') * weight;
		weight /= 10;
	}
	*ret_parts = parts;
	return 0;
}

/* One "NUMBER[.FRACTION][UNIT]". */
static int parse_time_part(const char **p, uint64_t *ret_usec)
{
	uint64_t whole = 0, parts = 0, unit, usec;
	int r = parse_digits(p, &whole), r_fraction = 0;

	if (r == -EINVAL)
		return r;
	if (**p == '.') {
		(*p)++;
		r_fraction = parse_fraction(p, &parts);
	}
	*p += strspn(*p, " ");
	unit = r_fraction < 0 ? 0 : parse_unit(p);
	if (unit == 0)
		return -EINVAL;
	if (r < 0 || __builtin_mul_overflow(whole, unit, &usec))
		return -ERANGE;
	/* unit / 1000 first where it would not fit: exact for all units from the minute up. */
	if (unit <= USEC_MINUTE)
		parts = parts * unit / 1000000000;
	else
		parts = parts * (unit / 1000000) / 1000;
	if (__builtin_add_overflow(usec, parts, &usec))
		return -ERANGE;
	*ret_usec = usec;
	return 0;
}

int parse_time_usec(const char *text, uint64_t *ret_usec)
{
	size_t len = strlen(text);
	const char *p = text;
	uint64_t total = 0;
	bool wraps = false;

	if (len > 0 && text[len - 1] == ' ')
		return -EINVAL;
	if (strcmp(text, "infinity") == 0) {
		*ret_usec = UINT64_MAX;
		return 0;
	}
	do {
		uint64_t part = 0;
		int r = parse_time_part(&p, &part);

		if (r == -EINVAL)
			return r;
		wraps |= r < 0 || __builtin_add_overflow(total, part, &total);
		p += strspn(p, " ");
	} while (*p != '\0');
	/* UINT64_MAX itself means infinity and has to be written so. */
	if (wraps || total == UINT64_MAX)
		return -ERANGE;
	*ret_usec = total;
	return 0;
}

int parse_bool(const char *text, bool *ret_v)
{
	static const char *const yes[] = { "1", "yes", "y", "true", "t", "on" };
	static const char *const no[] = { "0", "no", "n", "false", "f", "off" };

	for (size_t i = 0; i < N_ELEMENTS(yes); i++) {
		if (strcasecmp(text, yes[i]) == 0) {
			*ret_v = true;
			return 0;
		}
	}
	for (size_t i = 0; i < N_ELEMENTS(no); i++) {
		if (strcasecmp(text, no[i]) == 0) {
			*ret_v = false;
			return 0;
		}
	}
	return -EINVAL;
}
