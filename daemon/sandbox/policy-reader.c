/* Strict reading. See policy-reader.h. */
#include <errno.h>
#include <string.h>

#include "daemon/sandbox/fail.h"
#include "daemon/sandbox/policy-reader.h"
#include "devices/base/scope.h"

int reader_refuse(struct reader *r, const char *what)
{
	return fail(r->ret_error, -EINVAL, "%s: %s: %s", r->path, r->key[0] ? r->key : "document",
		    what);
}

size_t reader_down(struct reader *r, const char *name)
{
	size_t len = strlen(r->key);

	snprintf(r->key + len, sizeof(r->key) - len, "%s%s", len ? "." : "", name);
	return len;
}

size_t reader_down_index(struct reader *r, size_t i)
{
	size_t len = strlen(r->key);

	snprintf(r->key + len, sizeof(r->key) - len, "[%zu]", i);
	return len;
}

void reader_up(struct reader *r, size_t len)
{
	r->key[len] = '\0';
}

static int read_known_key(struct reader *r, const struct reader_key *keys, const char *name,
			  struct json_object *value, void *object)
{
	size_t len = reader_down(r, name);
	int e;

	for (; keys->name && strcmp(keys->name, name) != 0; keys++)
		;
	e = keys->name ? keys->read(r, value, object) : reader_refuse(r, "unknown key");
	if (e >= 0)
		reader_up(r, len);
	return e;
}

int reader_object(struct reader *r, struct json_object *value, const struct reader_key *keys,
		  void *object)
{
	if (!json_object_is_type(value, json_type_object))
		return reader_refuse(r, "must be an object");
	json_object_object_foreach (value, name, member) {
		int e = read_known_key(r, keys, name, member, object);

		if (e < 0)
			return e;
	}
	for (; keys->name; keys++) {
		if (!keys->required || json_object_object_get_ex(value, keys->name, NULL))
			continue;
		reader_down(r, keys->name);
		return reader_refuse(r, "is missing");
	}
	return 0;
}

int reader_array(struct reader *r, struct json_object *value, read_fn read, size_t size,
		 void **array, size_t *n)
{
	size_t n_elements;

	if (!json_object_is_type(value, json_type_array))
		return reader_refuse(r, "must be an array");
	n_elements = json_object_array_length(value);
	*array = calloc(n_elements ? n_elements : 1, size);
	if (!*array)
		return -ENOMEM;
	for (size_t i = 0; i < n_elements; i++) {
		size_t len = reader_down_index(r, i);
		int e;

		*n = i + 1;
		e = read(r, json_object_array_get_idx(value, i), (char *)*array + i * size);
		if (e < 0)
			return e;
		reader_up(r, len);
	}
	return 0;
}

int reader_text(struct reader *r, struct json_object *value, char **ret)
{
	const char *text;

	if (!json_object_is_type(value, json_type_string))
		return reader_refuse(r, "must be a text");
	text = json_object_get_string(value);
	if (text[0] == '\0')
		return reader_refuse(r, "may not be empty");
	free(*ret);
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

int reader_u64(struct reader *r, struct json_object *value, uint64_t *ret)
{
	if (!json_object_is_type(value, json_type_int) ||
	    (json_object_get_int64(value) < 0 && json_object_get_uint64(value) == 0))
		return reader_refuse(r, "must be a whole number, not negative");
	*ret = json_object_get_uint64(value);
	return 0;
}

int reader_bool(struct reader *r, struct json_object *value, bool *ret)
{
	if (!json_object_is_type(value, json_type_boolean))
		return reader_refuse(r, "must be true or false");
	*ret = json_object_get_boolean(value);
	return 0;
}

int reader_word(struct reader *r, struct json_object *value, const struct reader_word *words,
		uint64_t *ret)
{
	const char *text = json_object_get_string(value);

	if (!json_object_is_type(value, json_type_string))
		return reader_refuse(r, "must be a text");
	for (; words->name; words++) {
		if (strcmp(words->name, text) == 0) {
			*ret = words->value;
			return 0;
		}
	}
	return fail(r->ret_error, -EINVAL, "%s: %s: unknown word \"%s\"", r->path, r->key, text);
}

static const struct reader_word feature_words[] = {
	{ "io_uring", POLICY_FEATURE_IO_URING },
	{ "device-nodes", POLICY_FEATURE_DEVICE_NODES },
	{ NULL },
};

static int read_features(struct reader *r, struct json_object *value, void *object)
{
	unsigned *features = object;

	if (!json_object_is_type(value, json_type_array))
		return reader_refuse(r, "must be an array");
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		size_t len = reader_down_index(r, i);
		uint64_t feature = 0;
		int e = reader_word(r, json_object_array_get_idx(value, i), feature_words,
				    &feature);

		if (e < 0)
			return e;
		*features |= (unsigned)feature;
		reader_up(r, len);
	}
	return 0;
}

static const struct reader_key condition_keys[] = {
	{ "features", read_features, true },
	{ NULL },
};

int reader_condition(struct reader *r, struct json_object *value, unsigned *ret_features)
{
	return reader_object(r, value, condition_keys, ret_features);
}
