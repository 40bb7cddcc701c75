/*
 * Strict reading of a policy's JSON: typed values, tables of known keys and words, and errors that
 * name file and key.
 *
 * Runs in: as policy.h. Trusts: nothing.
 *
 * The reader carries the path of the key that it is at ("seccomp.syscalls[3].args[0].op"). It is
 * left there when something is refused; nothing is read after that.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/sandbox/policy.h"

struct reader {
	const char *path; /* of the file */
	char key[256];	  /* of the value at hand */
	char **ret_error;
};

typedef int (*read_fn)(struct reader *r, struct json_object *value, void *object);

struct reader_key {
	const char *name;
	read_fn read;
	bool required;
};

struct reader_word {
	const char *name;
	uint64_t value;
};

/* -EINVAL, and an error that says where the reader is and what is wrong there. */
int reader_refuse(struct reader *r, const char *what);

/* Go down to a member, or an element; returns the length to give to reader_up. */
size_t reader_down(struct reader *r, const char *name);
size_t reader_down_index(struct reader *r, size_t i);
void reader_up(struct reader *r, size_t len);

/* Reads the members of an object by a table that ends with a NULL name. */
int reader_object(struct reader *r, struct json_object *value, const struct reader_key *keys,
		  void *object);

/*
 * Reads an array into a fresh one of elements of this size. *array and *n are set at once, so that
 * whatever is half read when an element turns out bad is freed with the policy.
 */
int reader_array(struct reader *r, struct json_object *value, read_fn read, size_t size,
		 void **array, size_t *n);

/* Values. A text is not empty and replaces *ret; a word is one of a table that ends with a NULL
 * name. */
int reader_text(struct reader *r, struct json_object *value, char **ret);
int reader_u64(struct reader *r, struct json_object *value, uint64_t *ret);
int reader_bool(struct reader *r, struct json_object *value, bool *ret);
int reader_word(struct reader *r, struct json_object *value, const struct reader_word *words,
		uint64_t *ret);

/* The value of a key "includes" or "excludes": a set of enum policy_feature. */
int reader_condition(struct reader *r, struct json_object *value, unsigned *ret_features);

/* policy-seccomp.c: the value of a key "seccomp". */
int reader_seccomp(struct reader *r, struct json_object *value, struct policy_seccomp *seccomp);
