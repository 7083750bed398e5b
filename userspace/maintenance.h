/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Commands that change the images of a running device: one at a time.
 */
#ifndef PLOOP_MAINTENANCE_H
#define PLOOP_MAINTENANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "device.h"
#include "sysfs.h"

/**
 * struct ploop_maintenance_session - a device that is ours for some command
 * @dev: the device
 * @info: all about it
 * @lock_fd: keeps other commands away while it is open
 * @finished: state of an operation that somebody began, and that was completed
 *            first; PLOOP_MNTN_OFF for none
 */
struct ploop_maintenance_session {
	struct ploop_device dev;
	struct ploop_info info;
	int lock_fd;
	unsigned int finished;
};

const char *ploop_maintenance_name(unsigned int state);
int ploop_maintenance_refuse(const struct ploop_info *info);
int ploop_maintenance_open(struct ploop_maintenance_session *session, int index);
int ploop_maintenance_begin(struct ploop_maintenance_session *session, int index);
int ploop_maintenance_refresh(struct ploop_maintenance_session *session);
void ploop_maintenance_end(struct ploop_maintenance_session *session);

int ploop_maintenance_open_level(const struct ploop_maintenance_session *session,
				 unsigned int level, bool writable, struct ploop_image *img);
int ploop_maintenance_call(const struct ploop_device *dev, unsigned long request, void *arg,
			   const char *what);
int ploop_maintenance_failed(const struct ploop_device *dev, unsigned int state, int error);

int ploop_maintenance_merge_top(struct ploop_maintenance_session *session);
int ploop_maintenance_grow(struct ploop_maintenance_session *session, uint64_t size);
int ploop_maintenance_delete(struct ploop_maintenance_session *session, unsigned int level);
int ploop_maintenance_update_index(struct ploop_maintenance_session *session, unsigned int level,
				   const struct ploop_reloc_map *map, size_t n);

#endif /* PLOOP_MAINTENANCE_H */
