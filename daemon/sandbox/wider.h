/*
 * Where a policy allows more than the one that is shipped for the type.
 *
 * Runs in: vmdevd. Trusts: both policies, as policy.h has checked them.
 *
 * An administrator's policy may narrow the shipped one as it likes; where it widens it, that is
 * said: in the journal at each start, and in the device's status. It is compared rule by rule, as
 * written: a rule is no wider if the shipped policy has one for the same system call that asks for
 * nothing more of the arguments. So a rule that is only written differently may be named here; one
 * that is wider is never left out.
 */
#pragma once

#include "daemon/sandbox/policy.h"

/*
 * "seccomp: socket; capabilities: CAP_…", to be freed; *ret is NULL if it is nowhere wider. 0 or
 * -ENOMEM.
 */
int policy_wider(const struct policy *policy, const struct policy *shipped, char **ret);
