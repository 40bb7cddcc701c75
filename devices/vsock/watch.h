/*
 * What of the host's is ready: sockets of connections, and the device's own (sources): two that listen,
 * and the broker's channel.
 *
 * Runs in: worker, one I/O thread. Trusts: nothing that a host program does.
 *
 * They are in the thread's epoll (model.h: event). What is ready is remembered until it has been dealt with, so that neither a
 * full ring nor a guest without a driver makes the thread spin:
 *
 *	connections	edge-triggered; remembered in sets
 *	sources		level-triggered, so that one can be taken from it and nothing be asked in vain. One
 *			that is told of again before it has been dealt with is not listened to until it is.
 */
#pragma once

#include "devices/vsock/conn.h"

/* Sources into the epoll. 0 or a negative errno. */
int watch_init(struct vsock *v);

/* Watch a connection's socket. */
void watch_conn(struct vsock *v, struct conn *c);

/* Its socket takes no more for now; it has taken all. */
void watch_for_room(struct vsock *v, struct conn *c);
void watch_for_no_room(struct vsock *v, struct conn *c);

/* An event of the thread's. */
void watch_event(struct vsock *v, uint64_t data, uint32_t events);

/* One thing has been taken from it, or nothing is there. What else comes is told of. */
void watch_dealt_with(struct vsock *v, enum source_name which);

/* The broker's channel takes no more: until it does, nothing is asked. */
void watch_broker_full(struct vsock *v);
/* It has ended. */
void watch_no_broker(struct vsock *v);
