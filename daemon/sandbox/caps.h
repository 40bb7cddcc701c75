/*
 * Capabilities: all gone.
 *
 * Runs in: the exec child, last of what needs any. Trusts: the kernel's answer, not libcap-ng's.
 */
#pragma once

/*
 * Empties the permitted, effective, inheritable, bounding and ambient sets, and looks whether they
 * are. 0, a negative errno, or -EPERM when one is left.
 */
int caps_drop(void);
