/*
 * The root directory: an empty, read-only file system or the one directory that the device shares,
 * and no other mount in sight.
 *
 * Runs in: the exec child, in its own mount namespace, with capabilities there.
 * Trusts:  nothing.
 */
#pragma once

/*
 * Makes a fresh tmpfs the root and detaches the host's. Afterwards no path leads anywhere: there is
 * one empty directory that nobody may write. 0 or a negative errno.
 */
int root_enter(void);

/*
 * Makes the tree of a detached mount the root and detaches the host's. tree stays open and names
 * the root directory from then on. 0 or a negative errno.
 */
int root_enter_tree(int tree);

/*
 * Makes a root of what a program of the host's needs to start: /usr as the host has it, read-only,
 * nosuid, nodev, the links into it (/lib, /bin, ...), a copy of /etc/resolv.conf, a proc as below,
 * and an empty /tmp; and detaches the host's. 0 or a negative errno.
 */
int root_enter_files(void);

/*
 * Mounts a proc that shows nothing but processes, of this PID namespace, read-only, attached
 * nowhere; at the descriptor number, not CLOEXEC. Before the host's /proc goes out of sight: in a
 * user namespace the kernel demands to see one.
 */
int root_make_proc(int number);
