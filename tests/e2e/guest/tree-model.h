/*
 * What must be in one directory: names, the files behind them, their contents and attributes.
 *
 * Runs in: the test guest. Trusts: its callers; each model belongs to one thread.
 *
 * A file is known by its number. Names point to files; a file lives as long as a name or an open descriptor points to it, as
 * in the file system itself.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

enum {
	MODEL_NAMES = 24,
	MODEL_OPEN = 6,
	MODEL_FILES = MODEL_NAMES + MODEL_OPEN + 2,
	MODEL_MAX_LEN = 24 << 10,
	MODEL_VALUE_LEN = 24,
	MODEL_PATH_LEN = 256,
};

struct model_file {
	bool used;
	mode_t type; /* S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO */
	mode_t mode; /* permissions */
	unsigned n_names, n_open;
	uint32_t len;
	uint8_t data[MODEL_MAX_LEN]; /* contents; of a symlink its target */
	char value[MODEL_VALUE_LEN]; /* of the attribute user.t; "": there is none */
	uint64_t mtime_s;	     /* if set by us; 0: not known */
};

struct model_open {
	int fd; /* -1: free */
	struct model_file *file;
	bool append;
	bool locked; /* holds a lock on the whole file */
};

struct tree_model {
	char dir[MODEL_PATH_LEN - 64];
	struct model_file files[MODEL_FILES];
	struct model_file *names[MODEL_NAMES]; /* NULL: no such name */
	struct model_open open[MODEL_OPEN];
};

struct model_file *tree_model_make(struct tree_model *m, mode_t type, mode_t mode);
/* A name or a descriptor points to it, or no longer. */
void tree_model_hold(struct model_file *f, bool by_name);
void tree_model_drop(struct model_file *f, bool by_name);

/* The path of a name; text of MODEL_PATH_LEN. */
void tree_model_path(const struct tree_model *m, unsigned name, char *ret_text);

/*
 * Is what is at path (or behind fd, if path is NULL) this file? The answer in words; NULL: it is.
 */
const char *tree_model_check(const struct model_file *f, const char *path, int fd, char *text,
			     unsigned size);

/* The digest of one file as seen through the file system, and as the model has it: equal if all is well. */
uint64_t tree_digest_path(const char *path, const char *name);
uint64_t tree_digest_model(const struct model_file *f, const char *name);
