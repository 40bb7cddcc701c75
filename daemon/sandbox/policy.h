/*
 * A policy: what one device type may do, as an administrator reads it (policies/README.md).
 *
 * Runs in: vmdevd, vmdevctl, the tests.
 * Trusts:  the file's owner (it is the administrator's), but not its spelling: an unknown word, a
 *          value of the wrong type and a rule without a reason are errors that name file and key.
 *
 * Invariants:
 *  1. A policy that was returned is complete: every namespace is there, every rule has its reason,
 *     every name is known to this machine's libseccomp.
 *  2. No rule has the default action: a rule that says nothing is a mistake.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

/* What the kernel offers and a rule may depend on, as a set of bits. */
enum policy_feature {
	POLICY_FEATURE_IO_URING = 1u << 0,
	POLICY_FEATURE_DEVICE_NODES = 1u << 1, /* the document lets the guest make them */
};

/* One comparison of one argument; the meaning of op, value and value_two is libseccomp's. */
struct policy_arg {
	unsigned index;
	int op; /* enum scmp_compare */
	uint64_t value;
	uint64_t value_two; /* for SCMP_CMP_MASKED_EQ: what the masked argument equals */
};

struct policy_rule {
	char **names; /* system calls */
	size_t n_names;
	uint32_t action; /* SCMP_ACT_* with the errno in it */
	struct policy_arg args[6];
	size_t n_args;
	unsigned includes; /* features without which the rule is left out */
	unsigned excludes; /* features with which the rule is left out */
	char *comment;
};

struct policy_seccomp {
	uint32_t default_action;
	struct policy_rule *rules;
	size_t n_rules;
};

struct policy_namespace {
	uint64_t flag; /* CLONE_NEW* */
	char *type;
	char *comment;
};

struct policy_capability {
	uint64_t number; /* CAP_* */
	char *name;
	unsigned includes; /* features without which it is not kept */
	char *comment;
};

struct policy_rlimit {
	int resource;
	char *type; /* "RLIMIT_NOFILE" */
	struct rlimit value;
	char *comment;
};

struct policy_opcode {
	uint64_t number;
	char *name; /* "IORING_OP_READV" */
	char *comment;
};

struct policy {
	char *path; /* where it was read, for messages */
	char *type; /* the device type that it is for */
	struct policy_seccomp worker;
	struct policy_seccomp keeper; /* in addition to all that the worker may do */
	struct policy_namespace *namespaces;
	size_t n_namespaces;
	struct policy_capability *capabilities;
	size_t n_capabilities;
	struct policy_rlimit *rlimits;
	size_t n_rlimits;
	struct policy_opcode *opcodes;
	size_t n_opcodes;
	bool landlock_required; /* refuse to start where the kernel has no Landlock */
	bool landlock_files;	/* leave alone what can be done to files */
	char *landlock_comment;
};

/*
 * The file of this name below dir ("blk" is dir/blk.json), or at this absolute path. 0, or a
 * negative errno with a text.
 */
int policy_load(const char *name, const char *dir, struct policy **ret, char **ret_error);

/* The same from a text; path is only for messages. */
int policy_parse(const char *text, const char *path, struct policy **ret, char **ret_error);

struct policy *policy_free(struct policy *policy);

/* Is the rule part of a filter for a kernel with these features? */
bool policy_rule_applies(const struct policy_rule *rule, unsigned features);

/* The capabilities that are kept with these features, bit n for capability n. */
uint64_t policy_capabilities(const struct policy *policy, unsigned features);

/* The opcodes of its I/O rings, bit n for opcode n. */
uint64_t policy_opcodes(const struct policy *policy);

/* The number of different system calls that the filter lets through with these features. */
size_t policy_count_allowed(const struct policy_seccomp *seccomp, unsigned features);
