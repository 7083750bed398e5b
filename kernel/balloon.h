/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_BALLOON_H
#define PLOOP_BALLOON_H

/* Space that is given up on demand. */

#include <linux/mutex.h>
#include <linux/ploop.h>
#include <linux/wait.h>

struct ploop_device;
struct ploop_io;

/**
 * struct ploop_balloon - clusters whose content the user gives up
 * @mutex: see lock ranking
 * @list: them, by cluster of the file, or NULL [ctl_mutex; mutex in DISCARD]
 * @nr: elements of @list [as @list]
 * @io: the discard that @list is from; not completed yet [mutex]
 * @wait: sleepers in DISCARD_WAIT
 * @head: end of the file when @list was loaded, clusters [ctl_mutex]
 * @level: level of the top then [ctl_mutex]
 * @window: RELOCBLKS does not look below this cluster of the file [ctl_mutex]
 * @target: it is to end here in this round, clusters [ctl_mutex]
 * @rounds: rounds of moving that RELOCBLKS has begun [ctl_mutex]
 * @cut: clusters that it has cut off [ctl_mutex]
 */
struct ploop_balloon {
	struct mutex mutex;
	struct ploop_freeblks_extent *list;
	u32 nr;
	struct ploop_io *io;
	wait_queue_head_t wait;
	u64 head;
	u8 level;
	u64 window;
	u64 target;
	unsigned int rounds;
	u64 cut;
};

/* balloon.c */
int ploop_balloon(struct ploop_device *plo, struct ploop_balloon_ctl *ctl);
int ploop_balloon_load(struct ploop_device *plo, const struct ploop_freeblks_ctl *ctl,
		       const struct ploop_freeblks_extent __user *extents);
int ploop_balloon_get(struct ploop_device *plo, struct ploop_freeblks_ctl *ctl,
		      struct ploop_freeblks_extent __user *extents);
bool ploop_balloon_has(const struct ploop_balloon *b, u32 clu, u32 iblk);
bool ploop_balloon_has_list(struct ploop_device *plo);
int ploop_balloon_drop(struct ploop_device *plo);
int ploop_balloon_check(struct ploop_device *plo, struct ploop_freeblks_extent *list, u32 *nr);
void ploop_balloon_sort(struct ploop_freeblks_extent *list, u32 nr);
void ploop_balloon_stop(struct ploop_device *plo);
void ploop_balloon_leave(struct ploop_device *plo);
int ploop_balloon_check_top(struct ploop_device *plo);
void ploop_balloon_keep_mapped(struct ploop_device *plo);

/* collect.c */
int ploop_collect_start(struct ploop_device *plo);
int ploop_collect_end(struct ploop_device *plo);
int ploop_collect_wait(struct ploop_device *plo);
int ploop_collect_filter(struct ploop_device *plo, unsigned long min);
void ploop_collect_discard(struct ploop_io *io);
void ploop_collect_complete(struct ploop_device *plo);

/* reloc.c */
int ploop_reloc(struct ploop_device *plo, struct ploop_relocblks_ctl *ctl,
		const struct ploop_relocblks_extent __user *extents);
int ploop_reloc_check(struct ploop_device *plo, const struct ploop_relocblks_extent *list,
		      u32 nr);
void ploop_reloc_stop(struct ploop_device *plo);

#endif /* PLOOP_BALLOON_H */
