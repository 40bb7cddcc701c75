/*
 * Reading a policy. See policy.h, and policies/README.md for the format.
 *
 * Every object of the document has a table of the keys that it knows, each with the function that
 * reads its value; what is in no table is an error. The reader carries the path of the key that it
 * is at ("seccomp.syscalls[3].args[0].op"), so that an error can say where.
 */
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <unistd.h>

#include "daemon/sandbox/fail.h"
#include "daemon/sandbox/policy-reader.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

enum { POLICY_MAX_LEN = 1024 * 1024 };

static int read_worker_seccomp(struct reader *r, struct json_object *value, void *object)
{
	return reader_seccomp(r, value, &((struct policy *)object)->worker);
}

static int read_keeper_seccomp(struct reader *r, struct json_object *value, void *object)
{
	return reader_seccomp(r, value, &((struct policy *)object)->keeper);
}

static const struct reader_key keeper_keys[] = {
	{ "seccomp", read_keeper_seccomp, true },
	{ NULL },
};

static int read_keeper(struct reader *r, struct json_object *value, void *object)
{
	return reader_object(r, value, keeper_keys, object);
}

/* namespaces */

static const struct reader_word namespace_words[] = {
	{ "user", CLONE_NEWUSER },     { "pid", CLONE_NEWPID },
	{ "mount", CLONE_NEWNS },      { "network", CLONE_NEWNET },
	{ "ipc", CLONE_NEWIPC },       { "uts", CLONE_NEWUTS },
	{ "cgroup", CLONE_NEWCGROUP }, { NULL },
};

static int read_namespace_type(struct reader *r, struct json_object *value, void *object)
{
	struct policy_namespace *ns = object;
	int e = reader_word(r, value, namespace_words, &ns->flag);

	return e < 0 ? e : reader_text(r, value, &ns->type);
}

static int read_namespace_comment(struct reader *r, struct json_object *value, void *object)
{
	return reader_text(r, value, &((struct policy_namespace *)object)->comment);
}

static const struct reader_key namespace_keys[] = {
	{ "type", read_namespace_type, true },
	{ "comment", read_namespace_comment, true },
	{ NULL },
};

static int read_namespace(struct reader *r, struct json_object *value, void *object)
{
	return reader_object(r, value, namespace_keys, object);
}

static int read_namespaces(struct reader *r, struct json_object *value, void *object)
{
	struct policy *policy = object;
	uint64_t seen = 0;
	int e = reader_array(r, value, read_namespace, sizeof(*policy->namespaces),
			     (void **)&policy->namespaces, &policy->n_namespaces);

	if (e < 0)
		return e;
	for (size_t i = 0; i < policy->n_namespaces; i++) {
		if (seen & policy->namespaces[i].flag)
			return reader_refuse(r, "names a namespace twice");
		seen |= policy->namespaces[i].flag;
	}
	for (const struct reader_word *word = namespace_words; word->name; word++)
		if (!(seen & word->value))
			return fail(r->ret_error, -EINVAL,
				    "%s: %s: \"%s\" is missing: a device has all seven of its own",
				    r->path, r->key, word->name);
	return 0;
}

/* capabilities */

static int read_capability_name(struct reader *r, struct json_object *value, void *object)
{
	struct policy_capability *capability = object;
	int e = reader_text(r, value, &capability->name);
	int number;

	if (e < 0)
		return e;
	if (strncmp(capability->name, "CAP_", strlen("CAP_")) != 0)
		return reader_refuse(r, "must be the name of a capability, CAP_…");
	number = capng_name_to_capability(capability->name + strlen("CAP_"));
	if (number < 0 || number >= 64)
		return reader_refuse(r, "no such capability");
	capability->number = (uint64_t)number;
	return 0;
}

static int read_capability_includes(struct reader *r, struct json_object *value, void *object)
{
	return reader_condition(r, value, &((struct policy_capability *)object)->includes);
}

static int read_capability_comment(struct reader *r, struct json_object *value, void *object)
{
	return reader_text(r, value, &((struct policy_capability *)object)->comment);
}

static const struct reader_key capability_keys[] = {
	{ "capability", read_capability_name, true },
	{ "includes", read_capability_includes, false },
	{ "comment", read_capability_comment, true },
	{ NULL },
};

static int read_capability(struct reader *r, struct json_object *value, void *object)
{
	return reader_object(r, value, capability_keys, object);
}

static int read_capabilities(struct reader *r, struct json_object *value, void *object)
{
	struct policy *policy = object;

	return reader_array(r, value, read_capability, sizeof(*policy->capabilities),
			    (void **)&policy->capabilities, &policy->n_capabilities);
}

uint64_t policy_capabilities(const struct policy *policy, unsigned features)
{
	uint64_t kept = 0;

	for (size_t i = 0; i < policy->n_capabilities; i++)
		if ((policy->capabilities[i].includes & ~features) == 0)
			kept |= UINT64_C(1) << policy->capabilities[i].number;
	return kept;
}

/* rlimits */

static const struct reader_word rlimit_words[] = {
	{ "RLIMIT_AS", RLIMIT_AS },	      { "RLIMIT_CORE", RLIMIT_CORE },
	{ "RLIMIT_CPU", RLIMIT_CPU },	      { "RLIMIT_DATA", RLIMIT_DATA },
	{ "RLIMIT_FSIZE", RLIMIT_FSIZE },     { "RLIMIT_LOCKS", RLIMIT_LOCKS },
	{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK }, { "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
	{ "RLIMIT_NICE", RLIMIT_NICE },	      { "RLIMIT_NOFILE", RLIMIT_NOFILE },
	{ "RLIMIT_NPROC", RLIMIT_NPROC },     { "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
	{ "RLIMIT_RTTIME", RLIMIT_RTTIME },   { "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
	{ "RLIMIT_STACK", RLIMIT_STACK },     { NULL },
};

static int read_rlimit_type(struct reader *r, struct json_object *value, void *object)
{
	struct policy_rlimit *rlimit = object;
	uint64_t resource = 0;
	int e = reader_word(r, value, rlimit_words, &resource);

	if (e < 0)
		return e;
	rlimit->resource = (int)resource;
	return reader_text(r, value, &rlimit->type);
}

static int read_rlimit_soft(struct reader *r, struct json_object *value, void *object)
{
	uint64_t limit = 0;
	int e = reader_u64(r, value, &limit);

	((struct policy_rlimit *)object)->value.rlim_cur = (rlim_t)limit;
	return e;
}

static int read_rlimit_hard(struct reader *r, struct json_object *value, void *object)
{
	uint64_t limit = 0;
	int e = reader_u64(r, value, &limit);

	((struct policy_rlimit *)object)->value.rlim_max = (rlim_t)limit;
	return e;
}

static int read_rlimit_comment(struct reader *r, struct json_object *value, void *object)
{
	return reader_text(r, value, &((struct policy_rlimit *)object)->comment);
}

static const struct reader_key rlimit_keys[] = {
	{ "type", read_rlimit_type, true },
	{ "soft", read_rlimit_soft, true },
	{ "hard", read_rlimit_hard, true },
	{ "comment", read_rlimit_comment, true },
	{ NULL },
};

static int read_rlimit(struct reader *r, struct json_object *value, void *object)
{
	struct policy_rlimit *rlimit = object;
	int e = reader_object(r, value, rlimit_keys, rlimit);

	if (e >= 0 && rlimit->value.rlim_cur > rlimit->value.rlim_max)
		return reader_refuse(r, "soft is above hard");
	return e;
}

static int read_rlimits(struct reader *r, struct json_object *value, void *object)
{
	struct policy *policy = object;

	return reader_array(r, value, read_rlimit, sizeof(*policy->rlimits),
			    (void **)&policy->rlimits, &policy->n_rlimits);
}

/* io_uring, landlock, and what must be empty */

/* What can be done with files and sockets that are there already. */
#define OPCODE(op)                                                                                 \
	{                                                                                          \
#op, op                                                                            \
	}
static const struct reader_word opcode_words[] = {
	OPCODE(IORING_OP_NOP),
	OPCODE(IORING_OP_READ),
	OPCODE(IORING_OP_WRITE),
	OPCODE(IORING_OP_READV),
	OPCODE(IORING_OP_WRITEV),
	OPCODE(IORING_OP_READ_FIXED),
	OPCODE(IORING_OP_WRITE_FIXED),
	OPCODE(IORING_OP_FSYNC),
	OPCODE(IORING_OP_SYNC_FILE_RANGE),
	OPCODE(IORING_OP_FALLOCATE),
	OPCODE(IORING_OP_FADVISE),
	OPCODE(IORING_OP_POLL_ADD),
	OPCODE(IORING_OP_POLL_REMOVE),
	OPCODE(IORING_OP_SEND),
	OPCODE(IORING_OP_RECV),
	OPCODE(IORING_OP_SENDMSG),
	OPCODE(IORING_OP_RECVMSG),
	OPCODE(IORING_OP_SEND_ZC),
	OPCODE(IORING_OP_SENDMSG_ZC),
	OPCODE(IORING_OP_ACCEPT),
	OPCODE(IORING_OP_SHUTDOWN),
	OPCODE(IORING_OP_SPLICE),
	OPCODE(IORING_OP_TEE),
	OPCODE(IORING_OP_TIMEOUT),
	OPCODE(IORING_OP_TIMEOUT_REMOVE),
	OPCODE(IORING_OP_LINK_TIMEOUT),
	OPCODE(IORING_OP_ASYNC_CANCEL),
	OPCODE(IORING_OP_MSG_RING),
	OPCODE(IORING_OP_EPOLL_CTL),
	{ NULL },
};

static int read_opcode_name(struct reader *r, struct json_object *value, void *object)
{
	struct policy_opcode *opcode = object;
	int e = reader_word(r, value, opcode_words, &opcode->number);

	return e < 0 ? e : reader_text(r, value, &opcode->name);
}

static int read_opcode_comment(struct reader *r, struct json_object *value, void *object)
{
	return reader_text(r, value, &((struct policy_opcode *)object)->comment);
}

static const struct reader_key opcode_keys[] = {
	{ "opcode", read_opcode_name, true },
	{ "comment", read_opcode_comment, true },
	{ NULL },
};

static int read_opcode(struct reader *r, struct json_object *value, void *object)
{
	return reader_object(r, value, opcode_keys, object);
}

static int read_io_uring(struct reader *r, struct json_object *value, void *object)
{
	struct policy *policy = object;

	return reader_array(r, value, read_opcode, sizeof(*policy->opcodes),
			    (void **)&policy->opcodes, &policy->n_opcodes);
}

uint64_t policy_opcodes(const struct policy *policy)
{
	uint64_t opcodes = 0;

	for (size_t i = 0; i < policy->n_opcodes; i++)
		opcodes |= UINT64_C(1) << policy->opcodes[i].number;
	return opcodes;
}

static int read_landlock_required(struct reader *r, struct json_object *value, void *object)
{
	return reader_bool(r, value, &((struct policy *)object)->landlock_required);
}

static int read_landlock_comment(struct reader *r, struct json_object *value, void *object)
{
	return reader_text(r, value, &((struct policy *)object)->landlock_comment);
}

static int read_landlock_files(struct reader *r, struct json_object *value, void *object)
{
	return reader_bool(r, value, &((struct policy *)object)->landlock_files);
}

static const struct reader_key landlock_keys[] = {
	{ "required", read_landlock_required, true },
	{ "files", read_landlock_files, false },
	{ "comment", read_landlock_comment, true },
	{ NULL },
};

static int read_landlock(struct reader *r, struct json_object *value, void *object)
{
	return reader_object(r, value, landlock_keys, object);
}

static int read_empty(struct reader *r, struct json_object *value, void *object)
{
	(void)object;
	if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) > 0)
		return reader_refuse(r, "must be []: a device's root directory has no mount");
	return 0;
}

/* the document */

static int read_type(struct reader *r, struct json_object *value, void *object)
{
	return reader_text(r, value, &((struct policy *)object)->type);
}

static const struct reader_key policy_keys[] = {
	{ "type", read_type, true },
	{ "seccomp", read_worker_seccomp, true },
	{ "keeper", read_keeper, true },
	{ "capabilities", read_capabilities, true },
	{ "namespaces", read_namespaces, true },
	{ "rlimits", read_rlimits, true },
	{ "mounts", read_empty, true },
	{ "landlock", read_landlock, true },
	{ "io_uring", read_io_uring, true },
	{ NULL },
};

static unsigned line_of(const char *text, size_t offset)
{
	unsigned line = 1;

	for (size_t i = 0; i < offset && text[i]; i++)
		line += text[i] == '\n';
	return line;
}

static int parse_json(const char *text, const char *path, struct json_object **ret,
		      char **ret_error)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *root;
	enum json_tokener_error error;
	size_t end;

	if (!tokener)
		return -ENOMEM;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tokener, text, (int)strlen(text) + 1);
	error = json_tokener_get_error(tokener);
	end = json_tokener_get_parse_end(tokener);
	json_tokener_free(tokener);
	if (error != json_tokener_success)
		return fail(ret_error, -EINVAL, "%s:%u: not JSON: %s", path, line_of(text, end),
			    json_tokener_error_desc(error));
	if (text[end + strspn(text + end, " \t\r\n")] != '\0') {
		json_object_put(root);
		return fail(ret_error, -EINVAL, "%s:%u: something follows the document", path,
			    line_of(text, end));
	}
	*ret = root;
	return 0;
}

int policy_parse(const char *text, const char *path, struct policy **ret, char **ret_error)
{
	struct reader reader = { .path = path, .ret_error = ret_error };
	struct json_object *root = NULL;
	struct policy *policy;
	int r;

	*ret_error = NULL;
	if (strlen(text) > POLICY_MAX_LEN)
		return fail(ret_error, -EFBIG, "%s: longer than %d bytes", path, POLICY_MAX_LEN);
	r = parse_json(text, path, &root, ret_error);
	if (r < 0)
		return r;
	policy = calloc(1, sizeof(*policy));
	if (!policy || !(policy->path = strdup(path)))
		r = -ENOMEM;
	else
		r = reader_object(&reader, root, policy_keys, policy);
	json_object_put(root);
	if (r < 0) {
		policy_free(policy);
		return r;
	}
	*ret = policy;
	return 0;
}

int policy_load(const char *name, const char *dir, struct policy **ret, char **ret_error)
{
	scope_free char *path = NULL;
	scope_free char *text = NULL;
	size_t len = 0;
	int r;

	*ret_error = NULL;
	if (name[0] == '/')
		r = asprintf(&path, "%s", name);
	else if (strchr(name, '/'))
		return fail(ret_error, -EINVAL,
			    "policy \"%s\": must be a name below %s or an absolute path", name,
			    dir);
	else
		r = asprintf(&path, "%s/%s.json", dir, name);
	if (r < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = text_read(path, O_NOCTTY, POLICY_MAX_LEN, &text, &len);
	if (r < 0)
		return fail(ret_error, r, "policy %s cannot be read: %s", path,
			    r == -EINVAL ? "it is no regular file" : error_text(r));
	if (memchr(text, '\0', len))
		return fail(ret_error, -EINVAL, "%s: there is a NUL in it: not JSON", path);
	return policy_parse(text, path, ret, ret_error);
}

static void seccomp_done(struct policy_seccomp *seccomp)
{
	for (size_t i = 0; i < seccomp->n_rules; i++) {
		struct policy_rule *rule = &seccomp->rules[i];

		for (size_t k = 0; k < rule->n_names; k++)
			free(rule->names[k]);
		free(rule->names);
		free(rule->comment);
	}
	free(seccomp->rules);
}

struct policy *policy_free(struct policy *policy)
{
	if (!policy)
		return NULL;
	seccomp_done(&policy->worker);
	seccomp_done(&policy->keeper);
	for (size_t i = 0; i < policy->n_namespaces; i++) {
		free(policy->namespaces[i].type);
		free(policy->namespaces[i].comment);
	}
	for (size_t i = 0; i < policy->n_capabilities; i++) {
		free(policy->capabilities[i].name);
		free(policy->capabilities[i].comment);
	}
	for (size_t i = 0; i < policy->n_rlimits; i++) {
		free(policy->rlimits[i].type);
		free(policy->rlimits[i].comment);
	}
	for (size_t i = 0; i < policy->n_opcodes; i++) {
		free(policy->opcodes[i].name);
		free(policy->opcodes[i].comment);
	}
	free(policy->namespaces);
	free(policy->capabilities);
	free(policy->rlimits);
	free(policy->opcodes);
	free(policy->landlock_comment);
	free(policy->type);
	free(policy->path);
	free(policy);
	return NULL;
}

bool policy_rule_applies(const struct policy_rule *rule, unsigned features)
{
	return (rule->includes & ~features) == 0 && (rule->excludes & features) == 0;
}

/* Is this the first applying rule that allows name? (rule i, name k) */
static bool is_first_mention(const struct policy_seccomp *seccomp, unsigned features, size_t i,
			     size_t k)
{
	const char *name = seccomp->rules[i].names[k];

	for (size_t a = 0; a <= i; a++) {
		const struct policy_rule *rule = &seccomp->rules[a];

		if (rule->action != SCMP_ACT_ALLOW || !policy_rule_applies(rule, features))
			continue;
		for (size_t b = 0; b < (a == i ? k : rule->n_names); b++)
			if (strcmp(rule->names[b], name) == 0)
				return false;
	}
	return true;
}

size_t policy_count_allowed(const struct policy_seccomp *seccomp, unsigned features)
{
	size_t n = 0;

	for (size_t i = 0; i < seccomp->n_rules; i++) {
		const struct policy_rule *rule = &seccomp->rules[i];

		if (rule->action != SCMP_ACT_ALLOW || !policy_rule_applies(rule, features))
			continue;
		for (size_t k = 0; k < rule->n_names; k++)
			n += is_first_mention(seccomp, features, i, k);
	}
	return n;
}
