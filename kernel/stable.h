/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_STABLE_H
#define PLOOP_STABLE_H

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>

#include "hostmap.h"

struct ploop_delta;
struct ploop_device;
struct ploop_io;

/**
 * struct ploop_stable - the promise of the host not to move the blocks of a file
 * @delta: whose file [const]
 * @map: where clusters lie, while the promise holds
 * @on: @map may be used [atomic]
 * @held: the engine holds the file: whoever changes it keeps us from learning
 *        [@mutex; read without it]
 * @lost: it has to let go [atomic]
 * @paused: nobody asks for the promise [@mutex]
 * @gen: counts how often it ended [atomic]
 * @bdev: where the blocks are [const while @held]
 * @nowait: @bdev does not block who asks for that [const while @held]
 * @inode: the file's [const while @held]
 * @aops: what @inode had when the promise was made: ext4 takes others when it begins
 *        to journal data [const while @held]
 * @why: why there is no promise, for sysfs; a literal [atomic]
 * @retry: it is not asked for again before this, jiffies [atomic]
 * @mutex: see lock ranking
 * @work: asks for the promise, or ends it
 */
struct ploop_stable {
	struct ploop_delta *delta;
	struct ploop_hostmap map;
	bool on;
	bool held;
	bool lost;
	bool paused;
	atomic_t gen;
	struct block_device *bdev;
	bool nowait;
	struct inode *inode;
	const struct address_space_operations *aops;
	const char *why;
	unsigned long retry;
	struct mutex mutex;
	struct work_struct work;
};

void ploop_stable_init(struct ploop_delta *delta);
void ploop_stable_pause(struct ploop_delta *delta);
void ploop_stable_resume(struct ploop_delta *delta);
void ploop_stable_lose(struct ploop_delta *delta, const char *why);
void ploop_stable_end(struct ploop_device *plo);
void ploop_stable_touch(struct ploop_delta *delta, u32 iblk, u32 off, u32 len);
bool ploop_stable_begin_change(struct ploop_io *io, struct ploop_delta *delta, u32 iblk);
void ploop_stable_end_change(struct ploop_delta *delta, u32 iblk);
void ploop_stable_forget(struct ploop_delta *delta, loff_t pos, loff_t len);
const char *ploop_stable_show(const struct ploop_delta *delta);

/* Does the filesystem write as it did? Context: any; the promise holds. */
static inline bool ploop_stable_unchanged(const struct ploop_stable *st)
{
	return READ_ONCE(st->inode->i_mapping->a_ops) == st->aops;
}

#endif /* PLOOP_STABLE_H */
