/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The sending side of `ploop copy`.
 */
#ifndef PLOOP_SEND_H
#define PLOOP_SEND_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct ploop_send_params - what to send, and how
 * @index: N of ploopN
 * @fd: where to: a pipe, a socket or a file
 * @stop: shell command that ends all I/O to the device, or NULL
 * @rate: bytes per second at most, until @stop; 0: as fast as it goes
 * @local: the receiver is a thread of this process, which says itself what is
 *         wrong with it
 */
struct ploop_send_params {
	int index;
	int fd;
	const char *stop;
	uint64_t rate;
	bool local;
};

int ploop_send(const struct ploop_send_params *params, bool *receiver_gone);

#endif /* PLOOP_SEND_H */
