/*
 * The descriptor table that a device begins with: contract.h's, and not one more.
 *
 * Runs in: vmdevd (raise), the exec child. Trusts: nothing.
 */
#pragma once

/*
 * A CLOEXEC duplicate of fd with a number above all that the contract fixes, so that the child can
 * place descriptors one after the other without overwriting one that it still needs. Negative
 * errno.
 */
int descriptors_raise(int fd);

/* Puts fd at number, not CLOEXEC. */
int descriptors_place(int fd, int number);

/* Closes every descriptor whose number is not among these, which are in rising order. */
int descriptors_close_others(const int *numbers, unsigned n);
