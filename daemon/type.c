/* The device types that this version has. See type.h. */
#include "daemon/type.h"

const struct type *type_get(enum device_type type)
{
	static const struct type *const types[N_DEVICE_TYPES] = {
		[DEVICE_TYPE_BLK] = &type_blk,
		[DEVICE_TYPE_NET] = &type_net,
		[DEVICE_TYPE_FS] = &type_fs,
		[DEVICE_TYPE_VSOCK] = &type_vsock,
	};

	return types[type];
}

const struct type_single *type_clash(const struct device_config *a, const struct device_config *b)
{
	const struct type_single *single = type_get(a->type)->singles;

	if (a->type != b->type || !single)
		return NULL;
	for (; single->key; single++)
		if (single->clash(a, b))
			return single;
	return NULL;
}

void json_put_text(json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, text && text[0] ? json_object_new_string(text) : NULL);
}

void json_put_number(json_object *object, const char *key, uint64_t v)
{
	json_object_object_add(object, key, json_object_new_int64((int64_t)v));
}

void json_put_bool(json_object *object, const char *key, bool v)
{
	json_object_object_add(object, key, json_object_new_boolean(v));
}
