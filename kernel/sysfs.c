// SPDX-License-Identifier: GPL-2.0-only
/*
 * sysfs of a device: pdelta/<level>/, pstate/, pstat/ and ptune/ below the
 * disk. Nothing here takes ctl_mutex: its holders remove these files, and wait
 * for their readers.
 */
#include "ploop.h"

#include <linux/dcache.h>
#include <linux/device.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

/**
 * struct node - a directory
 * @kobj: the directory
 * @owner: device or delta it shows; outlives the directory
 */
struct node {
	struct kobject kobj;
	void *owner;
};

/**
 * struct entry - a file
 * @attr: name and mode
 * @show: print it
 * @store: change it
 */
struct entry {
	struct attribute attr;
	ssize_t (*show)(void *owner, const struct entry *e, char *buf);
	ssize_t (*store)(void *owner, const struct entry *e, const char *buf, size_t len);
};

static ssize_t node_show(struct kobject *kobj, struct attribute *attr, char *buf)
{
	struct entry *e = container_of(attr, struct entry, attr);

	return e->show(container_of(kobj, struct node, kobj)->owner, e, buf);
}

static ssize_t node_store(struct kobject *kobj, struct attribute *attr, const char *buf,
			  size_t len)
{
	struct entry *e = container_of(attr, struct entry, attr);

	if (!e->store)
		return -EIO;
	return e->store(container_of(kobj, struct node, kobj)->owner, e, buf, len);
}

static void node_release(struct kobject *kobj)
{
	kfree(container_of(kobj, struct node, kobj));
}

static const struct sysfs_ops node_ops = {
	.show	= node_show,
	.store	= node_store,
};

#define FILE_OF(dir, type, file, bits, fn, fmt, ...)				\
	static ssize_t dir##_##file##_show(void *owner, const struct entry *e,	\
					   char *buf)				\
	{									\
		type *o = owner;						\
										\
		return sysfs_emit(buf, fmt "\n", __VA_ARGS__);			\
	}									\
	static struct entry dir##_##file = {					\
		.attr = { .name = #file, .mode = bits },			\
		.show = dir##_##file##_show,					\
		.store = fn,							\
	}

/* A file that prints a value, and one that also takes one by DIR_FILE_store(). */
#define SHOW(dir, type, file, ...) \
	FILE_OF(dir, type, file, 0444, NULL, __VA_ARGS__)
#define EDIT(dir, type, file, ...) \
	FILE_OF(dir, type, file, 0644, dir##_##file##_store, __VA_ARGS__)

/* pdelta */
SHOW(delta, struct ploop_delta, level, "%u", o->level);
SHOW(delta, struct ploop_delta, format, "%s", o->fmt->name);
SHOW(delta, struct ploop_delta, io, "%s", o->io->name);
SHOW(delta, struct ploop_delta, ro, "%d", o->rdonly);

SHOW(delta, struct ploop_delta, transparent, "%d", READ_ONCE(o->plo->trans) == o);

SHOW(delta, struct ploop_delta, mapping, "%s", ploop_stable_show(o));

static ssize_t delta_image_show(void *owner, const struct entry *e, char *buf)
{
	struct ploop_delta *delta = owner;
	char *path = d_path(&delta->path, buf, PAGE_SIZE - 1);
	size_t len;

	if (IS_ERR(path))
		return PTR_ERR(path);
	len = strlen(path);
	memmove(buf, path, len);
	buf[len] = '\n';
	return len + 1;
}

static struct entry delta_image = {
	.attr = { .name = "image", .mode = 0444 },
	.show = delta_image_show,
};

static ssize_t delta_image_info_show(void *owner, const struct entry *e, char *buf)
{
	struct inode *inode = d_inode(((struct ploop_delta *)owner)->path.dentry);
	dev_t dev = inode->i_sb->s_dev;

	return sysfs_emit(buf, "ino:%llu\nsdev:%u:%u\n", (u64)inode->i_ino, MAJOR(dev),
			  MINOR(dev));
}

static struct entry delta_image_info = {
	.attr = { .name = "image_info", .mode = 0444 },
	.show = delta_image_info_show,
};

static struct attribute *delta_attrs[] = {
	&delta_level.attr,
	&delta_image.attr,
	&delta_image_info.attr,
	&delta_format.attr,
	&delta_io.attr,
	&delta_ro.attr,
	&delta_transparent.attr,
	&delta_mapping.attr,
	NULL,
};
ATTRIBUTE_GROUPS(delta);

/* pstat */
static const char * const stat_names[PLOOP_NR_STATS] = {
	[PLOOP_STAT_BIO_IN]		= "bio_in",
	[PLOOP_STAT_BIO_OUT]		= "bio_out",
	[PLOOP_STAT_BIO_SPLITS]		= "bio_splits",
	[PLOOP_STAT_BIO_RZERO]		= "bio_rzero",
	[PLOOP_STAT_BIO_WZERO]		= "bio_wzero",
	[PLOOP_STAT_BIO_ALLOC]		= "bio_alloc",
	[PLOOP_STAT_BIO_ALLOC_WHOLE]	= "bio_alloc_whole",
	[PLOOP_STAT_BIO_COWS]		= "bio_cows",
	[PLOOP_STAT_BIO_WHOLE_COWS]	= "bio_whole_cows",
	[PLOOP_STAT_BIO_LOCKOUTS]	= "bio_lockouts",
	[PLOOP_STAT_BIO_FLUSH_IN]	= "bio_flush_in",
	[PLOOP_STAT_BIO_FUA_IN]		= "bio_fua_in",
	[PLOOP_STAT_BIO_FSYNC]		= "bio_fsync",
	[PLOOP_STAT_BIO_FLUSH_SKIP]	= "bio_flush_skip",
	[PLOOP_STAT_BIO_DISCARD]	= "bio_discard",
	[PLOOP_STAT_BIO_PARKED]		= "bio_parked",
	[PLOOP_STAT_MAP_SINGLE_WRITES]	= "map_single_writes",
	[PLOOP_STAT_CLUSTERS_FREED]	= "clusters_freed",
	[PLOOP_STAT_BIO_FAST]		= "bio_fast",
};

static struct entry stat_entries[PLOOP_NR_STATS];
static struct attribute *stat_attrs[PLOOP_NR_STATS + 1];
ATTRIBUTE_GROUPS(stat);

static u64 stat_sum(struct ploop_device *plo, enum ploop_stat id)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu_ptr(plo->stats, cpu)->count[id];
	return sum;
}

static ssize_t stat_show(void *owner, const struct entry *e, char *buf)
{
	struct ploop_device *plo = owner;
	unsigned int id = e - stat_entries;

	return sysfs_emit(buf, "%u\n", (u32)(stat_sum(plo, id) - READ_ONCE(plo->stat_base[id])));
}

/* Counts go on from the number written; the counters themselves never go back. */
static ssize_t stat_store(void *owner, const struct entry *e, const char *buf, size_t len)
{
	struct ploop_device *plo = owner;
	unsigned int id = e - stat_entries;
	u32 value;
	int err = kstrtou32(buf, 0, &value);

	if (err)
		return err;
	WRITE_ONCE(plo->stat_base[id], stat_sum(plo, id) - value);
	return len;
}

/* pstate */
static u32 active_reqs(struct ploop_device *plo)
{
	return stat_sum(plo, PLOOP_STAT_BIO_IN) - stat_sum(plo, PLOOP_STAT_BIO_OUT);
}

/* A merge that has failed is still one: another MERGE carries it on. */
static int maintenance_of(const struct ploop_device *plo)
{
	return READ_ONCE(plo->trans) ? PLOOP_MNTN_MERGE : READ_ONCE(plo->maintenance);
}

static u64 moved(struct ploop_device *plo)
{
	return atomic64_read(&plo->move.done);
}

SHOW(state, struct ploop_device, block_size, "%u", 1U << o->cluster_log);
SHOW(state, struct ploop_device, fmt_version, "%u", o->version);
SHOW(state, struct ploop_device, total_bios, "%u", (u32)stat_sum(o, PLOOP_STAT_BIO_IN));
SHOW(state, struct ploop_device, active_reqs, "%u", active_reqs(o));
SHOW(state, struct ploop_device, running, "%d", test_bit(PLOOP_S_RUNNING, &o->state));
SHOW(state, struct ploop_device, maintenance, "%d", maintenance_of(o));
SHOW(state, struct ploop_device, progress, "%llu %llu", moved(o), READ_ONCE(o->move.total));
SHOW(state, struct ploop_device, locked, "%d", READ_ONCE(o->reserved));
SHOW(state, struct ploop_device, top, "%u", READ_ONCE(o->nr_deltas) - 1);
SHOW(state, struct ploop_device, cookie, "%s", o->cookie);
SHOW(state, struct ploop_device, open_count, "%u", disk_openers(o->disk));

/*
 * Pages of 4 KiB. The map is freed by CLEAR while this file stays: the two
 * numbers it is made of live in the map, so look at it under an epoch.
 */
static ssize_t state_map_pages_show(void *owner, const struct entry *e, char *buf)
{
	struct ploop_device *plo = owner;
	int epoch = ploop_epoch_get(&plo->epoch);
	size_t bytes = 0;

	if (epoch != PLOOP_EPOCH_NONE) {
		bytes = ploop_map_bytes(plo->map);
		ploop_epoch_put(&plo->epoch, epoch);
	}
	return sysfs_emit(buf, "%zu\n", DIV_ROUND_UP(bytes, PLOOP1_PAGE));
}

static struct entry state_map_pages = {
	.attr = { .name = "map_pages", .mode = 0444 },
	.show = state_map_pages_show,
};

static ssize_t state_aborted_store(void *owner, const struct entry *e, const char *buf,
				   size_t len)
{
	struct ploop_device *plo = owner;
	bool on;
	int err = kstrtobool(buf, &on);

	if (err)
		return err;
	if (on)
		ploop_abort(plo, "aborted by the administrator", 0);
	else
		clear_bit(PLOOP_S_ABORT, &plo->state);
	return len;
}

EDIT(state, struct ploop_device, aborted, "%d", test_bit(PLOOP_S_ABORT, &o->state));

static int take_event(struct ploop_device *plo)
{
	if (test_and_clear_bit(PLOOP_S_EVENT_NOSPC, &plo->state))
		return PLOOP_EVENT_ENOSPC;
	if (test_bit(PLOOP_S_ABORT, &plo->state))
		return PLOOP_EVENT_ABORTED;
	if (!test_bit(PLOOP_S_RUNNING, &plo->state))
		return PLOOP_EVENT_STOPPED;
	return 0;
}

/* Sleeps until there is an event; 0 when a signal came first. */
static ssize_t state_event_show(void *owner, const struct entry *e, char *buf)
{
	struct ploop_device *plo = owner;
	int event = 0;

	wait_event_interruptible(plo->event_wait, (event = take_event(plo)));
	return sysfs_emit(buf, "%d\n", event);
}

static struct entry state_event = {
	.attr = { .name = "event", .mode = 0444 },
	.show = state_event_show,
};

static struct attribute *state_attrs[] = {
	&state_block_size.attr,
	&state_fmt_version.attr,
	&state_total_bios.attr,
	&state_active_reqs.attr,
	&state_running.attr,
	&state_maintenance.attr,
	&state_progress.attr,
	&state_locked.attr,
	&state_aborted.attr,
	&state_top.attr,
	&state_event.attr,
	&state_cookie.attr,
	&state_open_count.attr,
	&state_map_pages.attr,
	NULL,
};
ATTRIBUTE_GROUPS(state);

/* ptune */
static ssize_t tune_check_zeros_store(void *owner, const struct entry *e, const char *buf,
				      size_t len)
{
	struct ploop_device *plo = owner;
	bool on;
	int err = kstrtobool(buf, &on);

	if (err)
		return err;
	WRITE_ONCE(plo->check_zeros, on);
	return len;
}

EDIT(tune, struct ploop_device, check_zeros, "%d", READ_ONCE(o->check_zeros));

/* Not while running: clean and reusable clusters are told apart by it. */
static ssize_t tune_dense_store(void *owner, const struct entry *e, const char *buf,
				size_t len)
{
	struct ploop_device *plo = owner;
	bool on;
	int err = kstrtobool(buf, &on);

	if (err)
		return err;
	if (!mutex_trylock(&plo->ctl_mutex))
		return -EBUSY;
	if (test_bit(PLOOP_S_RUNNING, &plo->state))
		err = -EBUSY;
	else
		assign_bit(PLOOP_S_DENSE, &plo->state, on);
	mutex_unlock(&plo->ctl_mutex);
	return err ? err : len;
}

EDIT(tune, struct ploop_device, dense, "%d", test_bit(PLOOP_S_DENSE, &o->state));

/* Whoever holds a file lets go of it before this returns. */
static ssize_t tune_fast_store(void *owner, const struct entry *e, const char *buf, size_t len)
{
	struct ploop_device *plo = owner;
	bool on;
	int err = kstrtobool(buf, &on);

	if (err)
		return err;
	if (!mutex_trylock(&plo->ctl_mutex))
		return -EBUSY;
	assign_bit(PLOOP_S_SLOW, &plo->state, !on);
	ploop_stable_end(plo);
	mutex_unlock(&plo->ctl_mutex);
	return len;
}

EDIT(tune, struct ploop_device, fast, "%d", !test_bit(PLOOP_S_SLOW, &o->state));

/* Counts from the next MERGE or GROW on. */
static ssize_t tune_fsync_max_store(void *owner, const struct entry *e, const char *buf,
				    size_t len)
{
	struct ploop_device *plo = owner;
	u32 value;
	int err = kstrtou32(buf, 0, &value);

	if (err)
		return err;
	if (!value || value > PLOOP_FSYNC_MAX_LIMIT)
		return -EINVAL;
	WRITE_ONCE(plo->fsync_max, value);
	return len;
}

EDIT(tune, struct ploop_device, fsync_max, "%d", READ_ONCE(o->fsync_max));

static struct attribute *tune_attrs[] = {
	&tune_check_zeros.attr,
	&tune_fsync_max.attr,
	&tune_dense.attr,
	&tune_fast.attr,
	NULL,
};
ATTRIBUTE_GROUPS(tune);

static const struct attribute_group *no_groups[] = { NULL };

#define NODE_TYPE(name, groups)						\
	static const struct kobj_type name##_type = {			\
		.release = node_release,				\
		.sysfs_ops = &node_ops,					\
		.default_groups = groups,				\
	}
NODE_TYPE(delta, delta_groups);
NODE_TYPE(stat, stat_groups);
NODE_TYPE(state, state_groups);
NODE_TYPE(tune, tune_groups);
NODE_TYPE(dir, no_groups);

static struct kobject *node_add(const struct kobj_type *type, struct kobject *parent,
				void *owner, const char *name)
{
	struct node *node = kzalloc(sizeof(*node), GFP_KERNEL);

	if (!node)
		return NULL;
	node->owner = owner;
	if (!kobject_init_and_add(&node->kobj, type, parent, "%s", name))
		return &node->kobj;
	kobject_put(&node->kobj);
	return NULL;
}

/* Waits for readers of the directory's files. */
static void node_del(struct kobject *kobj)
{
	if (!kobj)
		return;
	kobject_del(kobj);
	kobject_put(kobj);
}

/**
 * ploop_sysfs_init() - fill the table of pstat
 *
 * Context: module init.
 */
void __init ploop_sysfs_init(void)
{
	unsigned int i;

	for (i = 0; i < PLOOP_NR_STATS; i++) {
		stat_entries[i] = (struct entry) {
			.attr = { .name = stat_names[i], .mode = 0644 },
			.show = stat_show,
			.store = stat_store,
		};
		stat_attrs[i] = &stat_entries[i].attr;
	}
}

/**
 * ploop_sysfs_add() - make the directories of a device
 * @plo: device whose disk was added
 *
 * Context: process, may sleep.
 * Return: 0 or -ENOMEM, nothing made.
 */
int ploop_sysfs_add(struct ploop_device *plo)
{
	struct kobject *disk = &disk_to_dev(plo->disk)->kobj;

	plo->kobj_state = node_add(&state_type, disk, plo, "pstate");
	plo->kobj_stat = node_add(&stat_type, disk, plo, "pstat");
	plo->kobj_tune = node_add(&tune_type, disk, plo, "ptune");
	plo->kobj_delta = node_add(&dir_type, disk, plo, "pdelta");
	if (plo->kobj_state && plo->kobj_stat && plo->kobj_tune && plo->kobj_delta)
		return 0;
	ploop_sysfs_remove(plo);
	return -ENOMEM;
}

/**
 * ploop_sysfs_remove() - remove the directories of a device
 * @plo: device without deltas
 *
 * Context: process, may sleep.
 */
void ploop_sysfs_remove(struct ploop_device *plo)
{
	node_del(plo->kobj_delta);
	node_del(plo->kobj_tune);
	node_del(plo->kobj_stat);
	node_del(plo->kobj_state);
}

/**
 * ploop_sysfs_add_delta() - make the directory of a delta
 * @delta: open delta, level set
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0 or -ENOMEM.
 */
int ploop_sysfs_add_delta(struct ploop_delta *delta)
{
	char name[sizeof("255")];

	snprintf(name, sizeof(name), "%u", delta->level);
	delta->kobj = node_add(&delta_type, delta->plo->kobj_delta, delta, name);
	return delta->kobj ? 0 : -ENOMEM;
}

/**
 * ploop_sysfs_remove_delta() - remove the directory of a delta
 * @delta: the delta; nobody reads its files after this
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_sysfs_remove_delta(struct ploop_delta *delta)
{
	node_del(delta->kobj);
	delta->kobj = NULL;
}

/**
 * ploop_sysfs_rename_delta() - the level of a delta changed
 * @delta: the delta; no other has a directory of its new level
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_sysfs_rename_delta(struct ploop_delta *delta)
{
	char name[sizeof("255")];

	snprintf(name, sizeof(name), "%u", delta->level);
	if (kobject_rename(delta->kobj, name))
		ploop_warn(delta->plo, "no memory to rename level %u in sysfs\n", delta->level);
}

/**
 * ploop_event_work() - tell that the host is full
 * @work: ploop_device.event_work
 *
 * Context: worker of index_wq.
 */
void ploop_event_work(struct work_struct *work)
{
	struct ploop_device *plo = container_of(work, struct ploop_device, event_work);
	char *env[2] = { "PLOOP_EVENT=ENOSPC" };

	ploop_warn(plo, "host filesystem is full: writers wait until there is space\n");
	wake_up_interruptible(&plo->event_wait);
	kobject_uevent_env(&disk_to_dev(plo->disk)->kobj, KOBJ_CHANGE, env);
}
