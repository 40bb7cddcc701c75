/*
 * The root directory: an empty, read-only file system, and no other mount in sight.
 *
 * Runs in: the exec child, in its own mount namespace, with capabilities in its user namespace.
 * Trusts:  nothing.
 */
#pragma once

/*
 * Makes a fresh tmpfs the root and detaches the host's. Afterwards no path leads anywhere: there is
 * one empty directory that nobody may write. 0 or a negative errno.
 */
int root_enter(void);
