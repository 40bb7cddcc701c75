/*
 * Is damage of every kind found? See self-test.c.
 *
 * Runs in: the host.
 * Trusts:  its argument.
 */
#pragma once

/* Uses (and overwrites) the file at path; returns an exit status. */
int self_test(const char *path);
