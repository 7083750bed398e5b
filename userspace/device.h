/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Devices: from reservation to removal.
 */
#ifndef PLOOP_DEVICE_H
#define PLOOP_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "image.h"
#include "node.h"

/** PLOOP_DEVICE_ANY: let the driver choose a device */
#define PLOOP_DEVICE_ANY	PLOOP_CONTROL_ANY

/**
 * struct ploop_device - an open device
 * @index: N of ploopN
 * @control_fd: /dev/ploop-control, which keeps a new device reserved; or -1
 * @fd: the whole disk, for ioctls; or -1
 * @node: path of its node
 */
struct ploop_device {
	int index;
	int control_fd;
	int fd;
	char node[PLOOP_NODE_PATH];
};

int ploop_device_reserve(struct ploop_device *dev, int index);
int ploop_device_open(struct ploop_device *dev, int index);
int ploop_device_add(struct ploop_device *dev, struct ploop_image *img, uint32_t cluster_sectors,
		     bool readonly);
int ploop_device_snapshot(struct ploop_device *dev, struct ploop_image *img,
			  uint32_t cluster_sectors, bool sync, int *error);
int ploop_device_start(struct ploop_device *dev);
int ploop_device_detach(struct ploop_device *dev, bool cancellable);
void ploop_device_close(struct ploop_device *dev);

#endif /* PLOOP_DEVICE_H */
