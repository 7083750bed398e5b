// SPDX-License-Identifier: GPL-2.0-only
/*
 * Control ioctls of a device: copying of arguments, state checks, dispatch. No
 * policy. The order of the checks is the ABI's, kernel-abi.md §1.5.
 */
#include "ploop.h"

#include <linux/capability.h>
#include <linux/uaccess.h>

/**
 * struct command - a control ioctl
 * @cmd: the whole 32-bit number
 * @fn: carries it out, under ctl_mutex
 */
struct command {
	unsigned int cmd;
	int (*fn)(struct ploop_device *plo, struct block_device *bdev, void __user *arg);
};

/* Maintenance is under way, or a merge that has failed can be carried on. */
static bool is_busy(const struct ploop_device *plo)
{
	return plo->maintenance != PLOOP_MNTN_OFF || plo->trans;
}

/* The first delta that brings a cookie names the device. */
static int copy_cookie(struct ploop_device *plo, const struct ploop_ctl *ctl,
		       const struct ploop_ctl_delta __user *arg, char *cookie)
{
	if (!(ctl->flags & PLOOP_CTLF_COOKIE) || plo->cookie[0]) {
		memcpy(cookie, plo->cookie, PLOOP_COOKIE_SIZE);
		return 0;
	}
	cookie[PLOOP_COOKIE_SIZE - 1] = 0;
	return copy_from_user(cookie, arg->cookie, PLOOP_COOKIE_SIZE - 1) ? -EFAULT : 0;
}

static int copy_ctl(struct ploop_ctl *ctl, struct ploop_ctl_chunk *chunk, void __user *arg)
{
	if (copy_from_user(ctl, arg, sizeof(*ctl)))
		return -EFAULT;
	if (ctl->chunks != 1)
		return -EINVAL;
	return copy_from_user(chunk, arg + sizeof(*ctl), sizeof(*chunk)) ? -EFAULT : 0;
}

static int ioc_add_delta(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	struct ploop_ctl_chunk chunk;
	char cookie[PLOOP_COOKIE_SIZE];
	struct ploop_ctl ctl;
	int err;

	err = copy_ctl(&ctl, &chunk, arg);
	if (err)
		return err;
	err = copy_cookie(plo, &ctl, arg, cookie);
	if (err)
		return err;
	if (test_bit(PLOOP_S_RUNNING, &plo->state))
		return -EBUSY;
	if (is_busy(plo))
		return -EBUSY;
	err = ploop_delta_add(plo, &ctl, &chunk);
	if (!err)
		memcpy(plo->cookie, cookie, PLOOP_COOKIE_SIZE);
	return err;
}

static int ioc_snapshot(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	struct ploop_ctl_chunk chunk;
	struct ploop_ctl ctl;
	int err;

	if (!plo->nr_deltas)
		return -ENOENT;
	if (!test_bit(PLOOP_S_RUNNING, &plo->state))
		return ioc_add_delta(plo, bdev, arg);
	if (is_busy(plo))
		return -EBUSY;
	err = copy_ctl(&ctl, &chunk, arg);
	return err ? err : ploop_snapshot(plo, &ctl, &chunk);
}

static int ioc_del_delta(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	u32 level;

	if (copy_from_user(&level, arg, sizeof(level)))
		return -EFAULT;
	if (is_busy(plo))
		return -EBUSY;
	return ploop_stack_delete(plo, level);
}

static int ioc_replace_delta(struct ploop_device *plo, struct block_device *bdev,
			     void __user *arg)
{
	struct ploop_ctl_chunk chunk;
	struct ploop_ctl ctl;
	int err;

	err = copy_ctl(&ctl, &chunk, arg);
	if (err)
		return err;
	if (is_busy(plo))
		return -EBUSY;
	return ploop_stack_replace(plo, &ctl, &chunk);
}

static int ioc_truncate(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	struct ploop_truncate_ctl ctl;

	if (copy_from_user(&ctl, arg, sizeof(ctl)))
		return -EFAULT;
	return ploop_stack_truncate(plo, &ctl);
}

static int ioc_update_index(struct ploop_device *plo, struct block_device *bdev,
			    void __user *arg)
{
	struct ploop_index_update_ctl ctl;

	if (!plo->nr_deltas)
		return -ENOENT;
	if (copy_from_user(&ctl, arg, sizeof(ctl)))
		return -EFAULT;
	return ploop_stack_update_index(plo, &ctl, arg + sizeof(ctl));
}

static int ioc_merge(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	if (plo->maintenance != PLOOP_MNTN_OFF && plo->maintenance != PLOOP_MNTN_MERGE)
		return -EBUSY;
	return ploop_merge(plo);
}

static int ioc_grow(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	struct ploop_ctl ctl;
	u64 size;

	if (!plo->nr_deltas)
		return -ENOENT;
	if (plo->maintenance == PLOOP_MNTN_GROW)
		return ploop_grow_wait(plo);
	if (is_busy(plo))
		return -EBUSY;
	if (copy_from_user(&ctl, arg, sizeof(ctl)))
		return -EFAULT;
	if (ctl.cluster_log != plo->cluster_log)
		return -EINVAL;
	size = ctl.flags & PLOOP_CTLF_CLUBLKS ? (u64)ctl.size << plo->cluster_log : ctl.size;
	return ploop_grow(plo, size);
}

static int ioc_balloon(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	struct ploop_balloon_ctl ctl;
	int err;

	if (!plo->top)
		return -ENOENT;
	if (copy_from_user(&ctl, arg, sizeof(ctl)))
		return -EFAULT;
	err = ploop_balloon(plo, &ctl);
	if (err)
		return err;
	return copy_to_user(arg, &ctl, sizeof(ctl)) ? -EFAULT : 0;
}

static int ioc_freeblks(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	struct ploop_freeblks_ctl ctl;
	int err;

	if (!plo->top)
		return -ENOENT;
	if (plo->maintenance != PLOOP_MNTN_BALLOON)
		return plo->maintenance == PLOOP_MNTN_OFF ? -EINVAL : -EBUSY;
	if (copy_from_user(&ctl, arg, sizeof(ctl)))
		return -EFAULT;
	err = ploop_balloon_load(plo, &ctl, arg + sizeof(ctl));
	if (err)
		return err;
	ctl.alloc_head = plo->balloon.head;
	return copy_to_user(arg, &ctl, sizeof(ctl)) ? -EFAULT : 0;
}

static int ioc_fbget(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	struct ploop_freeblks_ctl ctl;
	int err;

	if (!plo->top)
		return -ENOENT;
	if (!ploop_balloon_has_list(plo))
		return -EINVAL;
	if (copy_from_user(&ctl, arg, sizeof(ctl)))
		return -EFAULT;
	err = ploop_balloon_get(plo, &ctl, arg + sizeof(ctl));
	if (err)
		return err;
	return copy_to_user(arg, &ctl, sizeof(ctl)) ? -EFAULT : 0;
}

static int ioc_fbdrop(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	return plo->top ? ploop_balloon_drop(plo) : -ENOENT;
}

static int ioc_relocblks(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	struct ploop_relocblks_ctl ctl;
	int err;

	if (!plo->top)
		return -ENOENT;
	if (plo->maintenance != PLOOP_MNTN_FBLOADED && plo->maintenance != PLOOP_MNTN_RELOC)
		return -EINVAL;
	if (copy_from_user(&ctl, arg, sizeof(ctl)))
		return -EFAULT;
	err = ploop_reloc(plo, &ctl, arg + sizeof(ctl));
	if (err)
		return err;
	return copy_to_user(arg, &ctl, sizeof(ctl)) ? -EFAULT : 0;
}

static int ioc_discard_init(struct ploop_device *plo, struct block_device *bdev,
			    void __user *arg)
{
	if (!plo->top)
		return -EINVAL;
	if (!plo->top->fmt->stackable)
		return -EOPNOTSUPP;
	return is_busy(plo) ? -EBUSY : ploop_collect_start(plo);
}

static int ioc_discard_fini(struct ploop_device *plo, struct block_device *bdev,
			    void __user *arg)
{
	return ploop_collect_end(plo);
}

static int ioc_discard_wait(struct ploop_device *plo, struct block_device *bdev,
			    void __user *arg)
{
	return ploop_collect_wait(plo);
}

/* The argument itself is the number. */
static int ioc_fbfilter(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	return ploop_collect_filter(plo, (unsigned long)arg);
}

static int ioc_track_init(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	struct ploop_track_extent ext;
	int err;

	if (is_busy(plo))
		return -EBUSY;
	if (!plo->top)
		return -ENOENT;
	err = ploop_track_start(plo, &ext);
	if (!err && copy_to_user(arg, &ext, sizeof(ext))) {
		ploop_track_stop(plo);
		err = -EFAULT;
	}
	return err;
}

static int ioc_track_stop(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	return ploop_track_finish(plo);
}

static int ioc_track_abort(struct ploop_device *plo, struct block_device *bdev,
			   void __user *arg)
{
	ploop_track_stop(plo);
	return 0;
}

static int ioc_track_setpos(struct ploop_device *plo, struct block_device *bdev,
			    void __user *arg)
{
	u64 pos;

	if (plo->maintenance != PLOOP_MNTN_TRACK)
		return -EINVAL;
	return copy_from_user(&pos, arg, sizeof(pos)) ? -EFAULT : ploop_track_set_pos(plo, pos);
}

static int ioc_track_read(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	struct ploop_track_extent ext;
	int err;

	err = ploop_track_read(plo, &ext);
	if (!err && copy_to_user(arg, &ext, sizeof(ext))) {
		ploop_track_lose(plo);
		err = -EFAULT;
	}
	return err;
}

static int ioc_freeze(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	return ploop_fs_freeze(plo);
}

static int ioc_thaw(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	if (!test_bit(PLOOP_S_RUNNING, &plo->state))
		return -EINVAL;
	ploop_fs_thaw(plo);
	return 0;
}

static int ioc_clear(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	/* STOP left what was under way. */
	if (test_bit(PLOOP_S_RUNNING, &plo->state))
		return -EBUSY;
	ploop_delta_clear(plo);
	return 0;
}

static int ioc_stop(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	return ploop_stop(plo, bdev);
}

static int ioc_start(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	return ploop_start(plo);
}

static int ioc_sync(struct ploop_device *plo, struct block_device *bdev, void __user *arg)
{
	if (!plo->top)
		return -ENOENT;
	if (plo->top->rdonly || !plo->top->fmt->sync)
		return 0;
	if (test_bit(PLOOP_S_ABORT, &plo->state))
		return -EIO;
	return ploop_sync(plo);
}

static int ioc_max_delta_size(struct ploop_device *plo, struct block_device *bdev,
			      void __user *arg)
{
	u64 sectors;

	if (copy_from_user(&sectors, arg, sizeof(sectors)))
		return -EFAULT;
	if (!plo->top)
		return -EINVAL;
	mutex_lock(&plo->top->alloc.mutex);
	plo->top->max_clusters = sectors >> plo->cluster_log;
	mutex_unlock(&plo->top->alloc.mutex);
	return 0;
}

static const struct command commands[] = {
	{ PLOOP_IOC_ADD_DELTA,		ioc_add_delta },
	{ PLOOP_IOC_CLEAR,		ioc_clear },
	{ PLOOP_IOC_STOP,		ioc_stop },
	{ PLOOP_IOC_START,		ioc_start },
	{ PLOOP_IOC_SNAPSHOT,		ioc_snapshot },
	{ PLOOP_IOC_DEL_DELTA,		ioc_del_delta },
	{ PLOOP_IOC_SYNC,		ioc_sync },
	{ PLOOP_IOC_MERGE,		ioc_merge },
	{ PLOOP_IOC_REPLACE_DELTA,	ioc_replace_delta },
	{ PLOOP_IOC_TRUNCATE,		ioc_truncate },
	{ PLOOP_IOC_UPDATE_INDEX,	ioc_update_index },
	{ PLOOP_IOC_GROW,		ioc_grow },
	{ PLOOP_IOC_TRACK_INIT,		ioc_track_init },
	{ PLOOP_IOC_TRACK_STOP,		ioc_track_stop },
	{ PLOOP_IOC_TRACK_ABORT,	ioc_track_abort },
	{ PLOOP_IOC_TRACK_SETPOS,	ioc_track_setpos },
	{ PLOOP_IOC_TRACK_READ,		ioc_track_read },
	{ PLOOP_IOC_FREEZE,		ioc_freeze },
	{ PLOOP_IOC_THAW,		ioc_thaw },
	{ PLOOP_IOC_FBGET,		ioc_fbget },
	{ PLOOP_IOC_BALLOON,		ioc_balloon },
	{ PLOOP_IOC_FREEBLKS,		ioc_freeblks },
	{ PLOOP_IOC_RELOCBLKS,		ioc_relocblks },
	{ PLOOP_IOC_DISCARD_INIT,	ioc_discard_init },
	{ PLOOP_IOC_DISCARD_FINI,	ioc_discard_fini },
	{ PLOOP_IOC_DISCARD_WAIT,	ioc_discard_wait },
	{ PLOOP_IOC_FBDROP,		ioc_fbdrop },
	{ PLOOP_IOC_FBFILTER,		ioc_fbfilter },
	{ PLOOP_IOC_MAX_DELTA_SIZE,	ioc_max_delta_size },
};

/* Finds only; who wants the device for himself uses PLOOP_CTL_GET. */
static int ioc_getdevice(void __user *arg)
{
	struct ploop_getdevice_ctl ctl = { };
	struct ploop_device *plo;

	mutex_lock(&ploop_devices_mutex);
	plo = ploop_device_find_free();
	if (!IS_ERR(plo))
		ctl.minor = plo->index << PLOOP_MINOR_SHIFT;
	mutex_unlock(&ploop_devices_mutex);
	if (IS_ERR(plo))
		return PTR_ERR(plo);
	return copy_to_user(arg, &ctl, sizeof(ctl)) ? -EFAULT : 0;
}

static const struct command *find_command(unsigned int cmd)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].cmd == cmd)
			return &commands[i];
	return NULL;
}

/**
 * ploop_ioctl() - control ioctl on a device or one of its partitions
 * @bdev: what is open
 * @mode: how it is open
 * @cmd: number of the command
 * @arg: its argument, untrusted
 *
 * Context: process, may sleep; takes ctl_mutex, which some commands drop while
 * they wait.
 * Return: 0 or a negative errno; -EINVAL for an unknown command, which old
 * clients rely on.
 */
int ploop_ioctl(struct block_device *bdev, blk_mode_t mode, unsigned int cmd,
		unsigned long arg)
{
	struct ploop_device *plo = bdev->bd_disk->private_data;
	const struct command *c = find_command(cmd);
	int err;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	/* Takes ploop_devices_mutex, which ranks above ctl_mutex. */
	if (cmd == PLOOP_IOC_GETDEVICE)
		return ioc_getdevice((void __user *)arg);
	if (!c)
		return -EINVAL;
	if (mutex_lock_killable(&plo->ctl_mutex))
		return -EINTR;
	/* Somebody's snapshot has dropped the mutex while filesystems freeze. */
	if (plo->maintenance == PLOOP_MNTN_SNAPSHOT)
		err = -EBUSY;
	else
		err = c->fn(plo, bdev, (void __user *)arg);
	mutex_unlock(&plo->ctl_mutex);
	return err;
}
