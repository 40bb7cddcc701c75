/*
 * The plan of a sandbox: what is done between "vmdevd wants this device" and the first instruction
 * of its program, as an ordered list of steps.
 *
 * Runs in: vmdevd, vmdevctl (to print it), the tests.
 * Trusts:  its input, which policy and config have checked.
 *
 * Making the plan is a pure function: it opens nothing, asks the kernel nothing and changes
 * nothing, so that it can be tested, printed and reviewed. daemon/sandbox/apply carries it out.
 *
 * Invariants, held by the order of the steps and tested:
 *  1. No step of the child comes before its ids are mapped, and no step needs a privilege that an
 * earlier one gave up: descriptors, process attributes, cgroup namespace, ids, proc, root, limits,
 * capabilities, no_new_privs, Landlock, filter, program.
 *  2. The system call filter is the last step before the program.
 *  3. Every step has a reason that a person can read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "daemon/sandbox/namespaces.h"
#include "daemon/sandbox/policy.h"
#include "devices/process/contract.h"

/* Who owns what a descriptor of the child is for; the numbers are contract.h's. */
enum plan_fd {
	PLAN_FD_INPUT,
	PLAN_FD_OUTPUT,
	PLAN_FD_LOG,
	PLAN_FD_CONTROL,
	PLAN_FD_LISTEN,
	PLAN_FD_PROGRAM,
	PLAN_FD_FILTER,
	PLAN_FD_RESOURCE, /* the first of the device's own */
	_PLAN_FD_N = PLAN_FD_RESOURCE + CONTRACT_MAX_QUEUES,
};

enum { PLAN_MAX_RESOURCES = _PLAN_FD_N - PLAN_FD_RESOURCE };

/* One descriptor of a device's own, which its type opens. */
struct plan_resource {
	const char *name;   /* "image" */
	int number;	    /* of contract.h's; ascending in a table of them */
	const char *reason; /* why the device needs it */
};

enum plan_step_type {
	/* in vmdevd */
	PLAN_CGROUP,
	PLAN_CLONE,
	PLAN_MAP_IDS,
	/* in the exec child */
	PLAN_DESCRIPTOR,
	PLAN_CLOSE_OTHERS,
	PLAN_SIGNALS,
	PLAN_SESSION,
	PLAN_CGROUP_NAMESPACE,
	PLAN_HOSTNAME,
	PLAN_SECUREBITS,
	PLAN_IDS,
	PLAN_PROC,
	PLAN_ROOT,
	PLAN_FILES,
	PLAN_RLIMIT,
	PLAN_CAPABILITIES,
	PLAN_NOT_DUMPABLE,
	PLAN_NO_NEW_PRIVS,
	PLAN_LANDLOCK,
	PLAN_FILTER,
	PLAN_PROGRAM,
	PLAN_EXECUTE,
	_PLAN_STEP_TYPE_N,
};

struct plan_step {
	enum plan_step_type type;
	const char *reason; /* static, or the policy's comment */
	union {
		uint64_t clone_flags;	   /* PLAN_CLONE: CLONE_NEW* */
		uint32_t id;		   /* PLAN_IDS: user and group alike */
		struct namespaces_map map; /* PLAN_MAP_IDS */
		bool tree;		   /* PLAN_ROOT: the shared directory, not an empty one */
		uint64_t kept;		   /* PLAN_CAPABILITIES: bit n for capability n */
		const struct policy_rlimit *rlimit; /* PLAN_RLIMIT */
		struct {
			bool required; /* an error where the kernel has none */
			bool files;    /* what can be done to files is left alone */
		} landlock;	       /* PLAN_LANDLOCK */
		struct {
			int role; /* enum plan_fd, or PLAN_FD_RESOURCE + its place in the table */
			int number;
			const char *name;
		} fd; /* PLAN_DESCRIPTOR */
	};
};

enum { PLAN_MAX_STEPS = 64 + PLAN_MAX_RESOURCES };

/* Refers to the policy and the resources that it was made from, which must outlive it. */
struct plan {
	struct plan_step steps[PLAN_MAX_STEPS];
	size_t n_steps;
};

enum {
	PLAN_UID_BASE = 1900000000, /* the user of the device with uid_index 0 */
	PLAN_UID_RANGE = 0x8000,
	/* and of helpers (daemon/helper.h), which are numbered for themselves */
	PLAN_UID_HELPERS = PLAN_UID_BASE + PLAN_UID_RANGE,
	/* Of a device that makes files for many users of its guest's: 65,536 ids of its own. */
	PLAN_RANGE_BASE = 2000000000,
	PLAN_RANGE_LEN = 0x10000,
};

/* Which users and groups there are in the sandbox. */
enum plan_ids {
	PLAN_IDS_ONE,	/* the device's own, in a user namespace */
	PLAN_IDS_RANGE, /* 65,536, in a user namespace; the device's own is the last */
	PLAN_IDS_HOST,	/* the host's: no user namespace */
};

struct plan_spec {
	const char *type; /* of device, or "switch": whose policy this has to be */
	uint32_t uid_index;
	enum plan_ids ids;
	bool helper; /* no device: its user is a helper's, and nobody connects to it */
	bool tree;   /* its first resource is a directory, which becomes the root */
	const struct plan_resource *resources;
	uint32_t n_resources; /* at most PLAN_MAX_RESOURCES */
	uint32_t fd_limit;    /* what the contract says of the device type */
	unsigned features;    /* enum policy_feature: what capabilities may depend on */
};

/* The first host id of PLAN_IDS_RANGE. */
uint32_t plan_range_start(uint32_t uid_index);

/* -EINVAL and a text when the policy and the contract contradict each other. */
int plan_make(const struct policy *policy, const struct plan_spec *spec, struct plan *ret,
	      char **ret_error);

/*
 * For a program of the host's (daemon/foreign.h), which has one descriptor of its own. The resource
 * must outlive the plan.
 */
int plan_make_foreign(uint32_t uid_index, const struct plan_resource *resource, struct plan *ret,
		      char **ret_error);

/* "namespaces", "rlimit", … */
const char *plan_step_to_string(enum plan_step_type type);

/* Is the step done by vmdevd itself, not by the exec child? */
bool plan_step_in_parent(enum plan_step_type type);

/* What exactly the step does, in a few words: "RLIMIT_NOFILE 2048". */
void plan_step_describe(const struct plan_step *step, char *text, size_t size);

/* The whole plan, a line per step: where, what, why. */
void plan_print(const struct plan *plan, FILE *file);
