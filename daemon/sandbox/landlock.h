/*
 * Landlock: no file, no network port, no abstract socket and no signal beyond the sandbox, by a
 * second, independent mechanism.
 *
 * Runs in: the exec child. Trusts: nothing.
 */
#pragma once

#include <stdbool.h>

/*
 * Denies everything that this kernel's Landlock can deny. The one exception is to read and execute
 * the program itself, because the keeper executes itself anew; with files, what can be done to
 * files is left alone, for a device whose root directory is what it shares. 0, or a negative errno:
 * -ENOSYS or -EOPNOTSUPP where the kernel has no Landlock.
 */
int landlock_deny(int program_fd, bool files);
