/*
 * A file of the host's that a device gets and may not change: its program, /dev/null.
 *
 * Runs in: vmdevd.
 *
 * A descriptor that is open for reading is more than that to a device with capabilities: through it
 * the file gets another mode or owner, and through its link in proc, or that of what runs, it is
 * opened anew for writing. What refuses all of this is the mount that the descriptor belongs to:
 * the file alone, as a read-only mount that is attached nowhere.
 */
#pragma once

/*
 * path opened so: O_RDONLY, or O_RDWR for a device node, which a read-only mount does not keep from
 * being written.
 */
int lend_file(const char *path, int flags, int *ret_fd);
