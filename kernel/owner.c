// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a process holds on a device beyond a single ioctl: the tracker, and
 * frozen filesystems. When it dies, or the device is closed for the last time,
 * they are let go.
 */
#include "ploop.h"

#include <linux/pid.h>

/**
 * ploop_owner_take() - the calling process holds something
 * @plo: the device
 *
 * Context: process; ctl_mutex.
 */
void ploop_owner_take(struct ploop_device *plo)
{
	struct pid *old;

	lockdep_assert_held(&plo->ctl_mutex);
	spin_lock(&plo->owner_lock);
	old = plo->owner;
	plo->owner = get_pid(task_tgid(current));
	spin_unlock(&plo->owner_lock);
	put_pid(old);
}

/**
 * ploop_owner_drop() - it holds nothing any more, or only one of two things
 * @plo: the device
 *
 * Context: process; ctl_mutex.
 */
void ploop_owner_drop(struct ploop_device *plo)
{
	struct pid *old;

	lockdep_assert_held(&plo->ctl_mutex);
	if (plo->frozen || rcu_access_pointer(plo->track))
		return;
	spin_lock(&plo->owner_lock);
	old = plo->owner;
	plo->owner = NULL;
	spin_unlock(&plo->owner_lock);
	put_pid(old);
}

/*
 * Is it still that owner, and is he gone? Another one may have come. With ctl_mutex
 * or owner_lock.
 */
static bool is_gone(struct ploop_device *plo)
{
	bool gone;

	rcu_read_lock();
	gone = plo->owner && (!disk_openers(plo->disk) ||
			      !pid_task(plo->owner, PIDTYPE_TGID) ||
			      pid_task(plo->owner, PIDTYPE_TGID)->flags & PF_EXITING);
	rcu_read_unlock();
	return gone;
}

/**
 * ploop_owner_release() - somebody closes the device, or a partition
 * @plo: the device
 *
 * Context: process; open_mutex, so the rest is done by a worker.
 */
void ploop_owner_release(struct ploop_device *plo)
{
	bool dies;

	spin_lock(&plo->owner_lock);
	/* Or died earlier, having closed it, while frozen filesystems kept it open. */
	dies = is_gone(plo);
	spin_unlock(&plo->owner_lock);
	if (dies)
		queue_work(system_dfl_wq, &plo->owner_work);
}

/**
 * ploop_owner_check() - the owner may have died while filesystems froze
 * @plo: the device
 *
 * Context: process; ctl_mutex.
 */
void ploop_owner_check(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	if (plo->owner)
		queue_work(system_dfl_wq, &plo->owner_work);
}

/**
 * ploop_owner_work() - let go what a dead process held
 * @work: ploop_device.owner_work
 *
 * Context: worker.
 */
void ploop_owner_work(struct work_struct *work)
{
	struct ploop_device *plo = container_of(work, struct ploop_device, owner_work);

	mutex_lock(&plo->ctl_mutex);
	/* Filesystems freeze without ctl_mutex: ploop_owner_check() comes after that. */
	if (plo->maintenance != PLOOP_MNTN_SNAPSHOT && is_gone(plo)) {
		ploop_warn(plo, "who tracked writes or froze filesystems is gone: both end\n");
		ploop_fs_thaw(plo);
		ploop_track_stop(plo);
	}
	mutex_unlock(&plo->ctl_mutex);
}
