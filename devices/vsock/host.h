/*
 * Host programs' sockets: accepting, asking, greeting, watching.
 *
 * Runs in: worker, one I/O thread. Trusts: nothing that a host program sends.
 *
 * A program that connects to the device's socket says "CONNECT PORT\n"; the guest is asked; when it
 * accepts, the program gets "OK PORT\n" and the stream begins. The line is looked at first
 * and taken off when it is complete, so that a byte of the stream that follows is never touched. With
 * another guest at the other end (brokered by vmdevd) nothing is asked, and the answer is one byte.
 *
 * The sockets are in an epoll of their own, edge-triggered, which is in the thread's: what is
 * ready is remembered in sets until it has been dealt with, so that neither a full ring nor a guest
 * without a driver makes the thread spin.
 */
#pragma once

#include "devices/vsock/conn.h"

/* The epoll; listening sockets in it. 0 or a negative errno. */
int host_init(struct vsock *v);

/* A dead worker was about to accept: before what nobody names is closed. */
void host_recover_accept(struct vsock *v);

/* Connections of a dead worker are watched, what was in hand is settled. */
void host_recover(struct vsock *v);

/* Watch a connection's socket. */
void host_watch(struct vsock *v, struct conn *c);

/* Its socket takes no more for now; it has taken all. */
void host_await_room(struct vsock *v, struct conn *c);
void host_await_no_room(struct vsock *v, struct conn *c);

/* Look at what has become ready. */
void host_look(struct vsock *v);

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
