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
 * earlier one gave up: descriptors, process attributes, cgroup namespace, ids, root, limits,
 * capabilities, no_new_privs, Landlock, filter, program.
 *  2. The system call filter is the last step before the program.
 *  3. Every step has a reason that a person can read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "daemon/launch.h"
#include "daemon/sandbox/policy.h"

/* Who owns what a descriptor of the child is for; the numbers are contract.h's. */
enum plan_fd {
	PLAN_FD_INPUT,
	PLAN_FD_OUTPUT,
	PLAN_FD_LOG,
	PLAN_FD_CONTROL,
	PLAN_FD_LISTEN,
	PLAN_FD_PROGRAM,
	PLAN_FD_FILTER,
	PLAN_FD_IMAGE,
	_PLAN_FD_N,
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
	PLAN_ROOT,
	PLAN_RLIMIT,
	PLAN_CAPABILITIES,
	PLAN_NOT_DUMPABLE,
	PLAN_NO_NEW_PRIVS,
	PLAN_LANDLOCK,
	PLAN_FILTER,
	PLAN_PROGRAM,
	_PLAN_STEP_TYPE_N,
};

struct plan_step {
	enum plan_step_type type;
	const char *reason; /* static, or the policy's comment */
	union {
		uint64_t clone_flags; /* PLAN_CLONE: CLONE_NEW* */
		uint32_t id;	      /* PLAN_MAP_IDS, PLAN_IDS: user and group alike */
		const struct policy_rlimit *rlimit; /* PLAN_RLIMIT */
		bool required; /* PLAN_LANDLOCK: an error where the kernel has none */
		struct {
			enum plan_fd role;
			int number;
		} fd; /* PLAN_DESCRIPTOR */
	};
};

enum { PLAN_MAX_STEPS = 64 };

/* Refers to the policy that it was made from, which must outlive it. */
struct plan {
	struct plan_step steps[PLAN_MAX_STEPS];
	size_t n_steps;
};

enum {
	PLAN_UID_BASE = 1900000000, /* the user of the device with uid_index 0 */
	PLAN_UID_RANGE = 0x100000,
};

/* -EINVAL and a text when the policy and the contract contradict each other. */
int plan_make(const struct policy *policy, uint32_t uid_index, struct plan *ret, char **ret_error);

/* "namespaces", "rlimit", … */
const char *plan_step_to_string(enum plan_step_type type);

/* Is the step done by vmdevd itself, not by the exec child? */
bool plan_step_in_parent(enum plan_step_type type);

/* What exactly the step does, in a few words: "RLIMIT_NOFILE 2048". */
void plan_step_describe(const struct plan_step *step, char *text, size_t size);

/* The whole plan, a line per step: where, what, why. */
void plan_print(const struct plan *plan, FILE *file);
