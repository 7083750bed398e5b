/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Merges images of a running device.
 */
#ifndef PLOOP_MERGE_ONLINE_H
#define PLOOP_MERGE_ONLINE_H

/** PLOOP_LEVELS_ALL: ploop_levels.low: from the base to the top */
#define PLOOP_LEVELS_ALL	(-1)

/**
 * struct ploop_levels - what to merge
 * @low: the level that gets the data, or PLOOP_LEVELS_ALL
 * @high: the topmost level whose data it gets
 */
struct ploop_levels {
	int low;
	int high;
};

int ploop_merge_online(int index, const struct ploop_levels *levels);

#endif /* PLOOP_MERGE_ONLINE_H */
