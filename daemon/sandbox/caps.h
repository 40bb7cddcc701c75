/*
 * Capabilities: those that the policy names are kept, every other one is gone for good.
 *
 * Runs in: the exec child, last of what needs any. Trusts: the kernel's answer, not libcap-ng's.
 */
#pragma once

#include <stdint.h>

/*
 * Leaves exactly the capabilities of the set (bit n: capability n) in the permitted, effective,
 * inheritable, bounding and ambient sets, looks whether that is so, and locks the ambient set. A
 * kept one survives the program's exec as the ambient set does; none can be had again. 0, a
 * negative errno, or -EPERM when the sets are not as asked.
 */
int caps_keep(uint64_t kept);
