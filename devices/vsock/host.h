/*
 * Host programs' connections: accepting, asking, greeting, and opening.
 *
 * Runs in: worker, one I/O thread. Trusts: nothing that a host program sends.
 *
 * A program that connects to the device's socket says "CONNECT PORT\n"; the guest is asked; when it
 * accepts, the program gets "OK PORT\n" and the stream begins. The line is looked at first
 * and taken off when it is complete, so that a byte of the stream that follows is never touched. With
 * another guest at the other end (brokered by vmdevd) nothing is asked, and the answer is one byte.
 */
#pragma once

#include "devices/vsock/conn.h"

/* A dead worker was about to accept: before what nobody names is closed. */
void host_recover_accept(struct vsock *v);

/* Connections of a dead worker are watched, what was in hand is settled. */
void host_recover(struct vsock *v);

/* Accept who waits; the number accepted. */
uint32_t host_accept(struct vsock *v);

/* A socket that is not open yet can be read: a line, or another guest's answer. */
void host_listen_to(struct vsock *v, struct conn *c);

/* The guest has accepted: tell who asked. */
void host_greet(struct vsock *v, struct conn *c);

/* A deadline has passed. */
void host_time_out(struct vsock *v, struct conn *c);

/* It begins, with this socket, in state OPEN, and the guest is told. */
void host_open(struct vsock *v, struct conn *c);
