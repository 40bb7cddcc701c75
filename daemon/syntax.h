/*
 * The grammar of a JSON document, and where each of its keys stands.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing: the text may come from any client of the bus.
 *
 * json-c gives the values of a document but neither the line of a key nor a word about a key given
 * twice. So a document is read twice: first here, by a strict scanner of RFC 8259 that keeps no
 * values and remembers the line of every member and element, then by json-c. What this scanner has
 * passed, json-c takes without a choice to make.
 *
 * Invariants:
 *  1. The scan is iterative, in one pass, and refuses what is larger or deeper than the limits
 * below.
 *  2. A position's parent has a smaller id than it has; id 0 is the document itself.
 *  3. Keys point into the text, which must outlive the scan's result.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
	SYNTAX_MAX_LEN = 256 * 1024, /* bytes of a document */
	SYNTAX_MAX_DEPTH = 8,	     /* nested objects and arrays */
};

struct position {
	uint32_t parent; /* id of the object or array around it */
	uint32_t line;	 /* of the key, or of the element */
	const char *key; /* NULL: an element of an array, or the document */
	uint32_t key_len;
};

struct syntax {
	struct position *positions; /* indexed by id */
	uint32_t *by_key;	    /* ids in the order of (parent, key) */
	size_t n;
	size_t n_alloc;
};

struct syntax_error {
	unsigned line;
	char text[160];
};

/*
 * 0; -EINVAL: not a document, *ret_error says where and why; -ENOMEM. *ret is to be freed with
 * syntax_done after success only.
 */
int syntax_scan(const char *text, size_t len, struct syntax *ret, struct syntax_error *ret_error);
void syntax_done(struct syntax *syntax);

/* The id of a member of the object `parent`, or UINT32_MAX. */
uint32_t syntax_find(const struct syntax *syntax, uint32_t parent, const char *key);

/* "devices.root.queues", cut to size, without control characters; "" for the document itself. */
void syntax_path(const struct syntax *syntax, uint32_t id, char *ret_path, size_t size);
