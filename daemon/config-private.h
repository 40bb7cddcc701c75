/*
 * The inside of the reading of documents, for config-parse.c and config-values.c only.
 *
 * Runs in: vmdevd. Trusts: nothing; see config.h.
 */
#pragma once

#include <json-c/json.h>

#include "daemon/config.h"
#include "daemon/syntax.h"

#define USEC_PER_SEC UINT64_C(1000000)

/* One document on its way in. */
struct reader {
	const struct config_source *source;
	struct syntax syntax;
	struct config_errors *errors;
	struct vm_config *vm;
	struct socket_config socket;
	char detail[96]; /* what the taker of a value found wrong; "": the form says it all */
	int failure;	 /* the host's, not the document's */
};

struct key {
	const char *name;
	const char *form; /* "a whole number from 1 to 64" */
	/* False: the value is not of the form. Problems further inside are told by the taker
	 * itself. */
	bool (*take)(struct reader *r, const struct key *key, json_object *value, uint32_t id,
		     void *target);
	size_t offset; /* in the target */
	uint64_t min, max;
	const char *const *words;
	const struct key *members; /* of an object: ends with a row without a name */
	bool required;
};

/*
 * Takers of values. Each returns false for a value that is not of the key's form; more about that
 * may be in reader.detail.
 */
typedef bool config_taker(struct reader *r, const struct key *key, json_object *value, uint32_t id,
			  void *target);

config_taker take_bool, take_number, take_power_of_two, take_word, take_path, take_directory,
	take_policy, take_serial, take_name, take_nothing, take_time, take_rate, take_cpu,
	take_memory, take_pids, take_user, take_group, take_mode, take_tag, take_xattr_map,
	take_id_map, take_object, take_side, take_mac, take_interface, take_cid, take_uds,
	take_label, take_listens, take_port_list, take_forward;

/* Of what net devices are connected to: config-net.c. */
config_taker take_switch_name, take_trunk, take_addresses, take_ipv4, take_ipv6, take_user_address,
	take_user_interface, take_dns, take_user_forward;

/*
 * take_object: the members' offsets are in what the key's offset is of. take_side: the same for an
 * object whose very key is a value (struct device_config: side), one of several that exclude each
 * other.
 */

/* Members of "limits": what the cgroup sees to, and with it what the device program sees to. */
extern const struct key cgroup_limits_keys[], io_limits_keys[];

/* The value's text, or NULL if it is no string. */
const char *string_of(json_object *value);
/* The key's field in the target. */
void *target_at(const struct key *key, void *target);
