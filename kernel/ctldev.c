// SPDX-License-Identifier: GPL-2.0-only
/*
 * Getting a device: /dev/ploop-control for new clients, /proc/vz/ploop_minor
 * for old ones. Both reserve it for as long as the file is open.
 */
#include "ploop.h"

#include <linux/capability.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/uaccess.h>

#define PROC_DIR	"vz"
#define PROC_FILE	"vz/ploop_minor"

static struct proc_dir_entry *proc_dir;

/* @holder: private_data of the open file, the device it has reserved. */
static void unreserve(void **holder)
{
	struct ploop_device *plo = *holder;

	lockdep_assert_held(&ploop_devices_mutex);
	if (plo)
		plo->reserved = false;
	*holder = NULL;
}

static void reserve(void **holder, struct ploop_device *plo)
{
	unreserve(holder);
	plo->reserved = true;
	*holder = plo;
}

static int release(struct inode *inode, struct file *file)
{
	mutex_lock(&ploop_devices_mutex);
	unreserve(&file->private_data);
	mutex_unlock(&ploop_devices_mutex);
	return 0;
}

/* The device that a client names, made when it does not exist. */
static struct ploop_device *get_named(int index, void *mine)
{
	struct ploop_device *plo = ploop_device_find(index);

	if (!plo)
		return ploop_device_add(index);
	if (READ_ONCE(plo->nr_deltas) || (plo->reserved && plo != mine))
		return ERR_PTR(-EBUSY);
	return plo;
}

static int ctl_get(struct file *file, struct ploop_control_device *ctl)
{
	struct ploop_device *plo;

	if (ctl->index == PLOOP_CONTROL_ANY)
		plo = ploop_device_find_free();
	else
		plo = get_named(ctl->index, file->private_data);
	if (IS_ERR(plo))
		return PTR_ERR(plo) == -ERANGE && ctl->index == PLOOP_CONTROL_ANY ?
		       -ENOSPC : PTR_ERR(plo);
	reserve(&file->private_data, plo);
	ctl->index = plo->index;
	return 0;
}

static int ctl_remove(struct file *file, struct ploop_control_device *ctl)
{
	struct ploop_device *plo = ploop_device_find(ctl->index);
	int err;

	if (!plo)
		return -ENODEV;
	if (plo->reserved && plo != file->private_data)
		return -EBUSY;
	err = ploop_device_remove(plo);
	/* Gone: the file must not touch it when it is closed. */
	if (!err && plo == file->private_data)
		file->private_data = NULL;
	return err;
}

static long ctl_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct ploop_control_device ctl;
	int err;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (cmd != PLOOP_CTL_GET && cmd != PLOOP_CTL_REMOVE)
		return -EINVAL;
	if (copy_from_user(&ctl, (void __user *)arg, sizeof(ctl)))
		return -EFAULT;
	if (ctl.version != PLOOP_CONTROL_VERSION || ctl.flags ||
	    memchr_inv(ctl.reserved, 0, sizeof(ctl.reserved)))
		return -EINVAL;
	if (mutex_lock_killable(&ploop_devices_mutex))
		return -EINTR;
	err = cmd == PLOOP_CTL_GET ? ctl_get(file, &ctl) : ctl_remove(file, &ctl);
	mutex_unlock(&ploop_devices_mutex);
	if (!err && copy_to_user((void __user *)arg, &ctl, sizeof(ctl)))
		err = -EFAULT;
	return err;
}

static int ctl_open(struct inode *inode, struct file *file)
{
	/* misc_open() left its own pointer here. */
	file->private_data = NULL;
	return 0;
}

static const struct file_operations ctl_fops = {
	.owner		= THIS_MODULE,
	.open		= ctl_open,
	.release	= release,
	.unlocked_ioctl	= ctl_ioctl,
	.compat_ioctl	= ctl_ioctl,
	.llseek		= noop_llseek,
};

static struct miscdevice ctl_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "ploop-control",
	.fops	= &ctl_fops,
	.mode	= 0600,
};

static int minor_open(struct inode *inode, struct file *file)
{
	struct ploop_device *plo;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	mutex_lock(&ploop_devices_mutex);
	plo = ploop_device_find_free();
	if (!IS_ERR(plo))
		reserve(&file->private_data, plo);
	mutex_unlock(&ploop_devices_mutex);
	return PTR_ERR_OR_ZERO(plo);
}

static ssize_t minor_read(struct file *file, char __user *buf, size_t len, loff_t *pos)
{
	struct ploop_device *plo = file->private_data;
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", plo->index << PLOOP_MINOR_SHIFT);

	return simple_read_from_buffer(buf, len, pos, text, n);
}

static const struct proc_ops minor_ops = {
	.proc_open	= minor_open,
	.proc_read	= minor_read,
	.proc_release	= release,
	.proc_lseek	= noop_llseek,
};

/**
 * ploop_ctldev_init() - make /dev/ploop-control and /proc/vz/ploop_minor
 *
 * Context: module init.
 * Return: 0 or a negative errno.
 */
int __init ploop_ctldev_init(void)
{
	int err = misc_register(&ctl_misc);

	if (err)
		return err;
	/* NULL when another module has made the directory: then it is theirs. */
	proc_dir = proc_mkdir(PROC_DIR, NULL);
	if (proc_create(PROC_FILE, 0440, NULL, &minor_ops))
		return 0;
	if (proc_dir)
		proc_remove(proc_dir);
	misc_deregister(&ctl_misc);
	return -ENOMEM;
}

/**
 * ploop_ctldev_exit() - undo ploop_ctldev_init()
 *
 * Context: module exit.
 */
void ploop_ctldev_exit(void)
{
	remove_proc_entry(PROC_FILE, NULL);
	if (proc_dir)
		proc_remove(proc_dir);
	misc_deregister(&ctl_misc);
}
