/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Device nodes: names, numbers, partitions.
 */
#ifndef PLOOP_NODE_H
#define PLOOP_NODE_H

#include <stdbool.h>
#include <sys/types.h>

/** PLOOP_NODE_PATH: bytes that hold the path of any node */
#define PLOOP_NODE_PATH		64

int ploop_node_index_of(dev_t dev);
bool ploop_node_is_name(const char *arg);
int ploop_node_parse(const char *arg, int *index);
int ploop_node_wait(int index, char node[PLOOP_NODE_PATH]);
int ploop_node_find_partition(const char *disk, int partno, bool *found);
int ploop_node_wait_partition(int disk_fd, int index, int partno, char node[PLOOP_NODE_PATH]);

#endif /* PLOOP_NODE_H */
