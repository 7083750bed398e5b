// SPDX-License-Identifier: GPL-2.0-only
#include "reloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cancel.h"
#include "file.h"
#include "report.h"

/* values of ploop_balloon_ctl.keep_intact */
#define MAY_END		0
#define ONLY_ASK	2

static int balloon_call(struct ploop_maintenance_session *session, struct ploop_balloon_ctl *arg)
{
	if (!ioctl(session->dev.fd, PLOOP_IOC_BALLOON, arg)) {
		session->info.maintenance = arg->mntn_type;
		return 0;
	}
	if (errno == EOPNOTSUPP)
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "the top image of %s is raw: only ploop1 images become shorter; put one on top with `ploop snapshot`",
				  session->dev.node);
	if (errno == EROFS)
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "%s is read-only: mount it without -r to change its balloon",
				  session->dev.node);
	return ploop_fail_errno(PLOOP_EXIT_IOCTL, "the driver does not accept a balloon on %s",
				session->dev.node);
}

/**
 * ploop_reloc_begin() - make the driver expect a list of free clusters
 * @session: the device, in state OFF, or BALLOON of a command that was killed
 *
 * From now on the index on the disk tells the truth.
 *
 * Return: 0 or an exit code.
 */
int ploop_reloc_begin(struct ploop_maintenance_session *session)
{
	struct ploop_balloon_ctl arg = { .inflate = 1 };
	int rc;

	rc = balloon_call(session, &arg);
	if (rc)
		return rc;
	return arg.mntn_type == PLOOP_MNTN_BALLOON ? 0 : ploop_maintenance_refuse(&session->info);
}

/**
 * ploop_reloc_end() - leave state BALLOON; another state than that stays
 * @session: the device
 *
 * Return: 0 or an exit code; the state is in @session's info.
 */
int ploop_reloc_end(struct ploop_maintenance_session *session)
{
	struct ploop_balloon_ctl arg = { .keep_intact = MAY_END };

	return balloon_call(session, &arg);
}

static unsigned int top_level(const struct ploop_maintenance_session *session)
{
	return (unsigned int)session->info.n_deltas - 1;
}

/* the top, as it is on the disk: what the driver writes does not go through our cache */
static int open_top(const struct ploop_maintenance_session *session, struct ploop_image *img)
{
	int direct, rc;

	if (ioctl(session->dev.fd, PLOOP_IOC_SYNC))
		return ploop_fail_errno(PLOOP_EXIT_FSYNC, "cannot sync %s", session->dev.node);
	rc = ploop_maintenance_open_level(session, top_level(session), false, img);
	if (rc)
		return rc;
	direct = ploop_file_reopen(img->fd, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (direct < 0)
		return 0;
	close(img->fd);
	img->fd = direct;
	return 0;
}

/**
 * ploop_reloc_find() - find the clusters of the top image
 * @session: the device
 * @ranges: look only at these clusters; NULL: at all
 * @extents: out: those it has; freed by ploop_extents_free() also when this fails
 *
 * Return: 0 or an exit code.
 */
int ploop_reloc_find(const struct ploop_maintenance_session *session,
		     const struct ploop_ranges *ranges, struct ploop_extents *extents)
{
	struct ploop_image img;
	int rc;

	memset(extents, 0, sizeof(*extents));
	rc = open_top(session, &img);
	if (rc)
		return rc;
	rc = ploop_extents_find(extents, &img, ranges);
	ploop_image_close(&img);
	return rc;
}

static struct ploop_freeblks_ctl *new_list(size_t n)
{
	struct ploop_freeblks_ctl *arg;

	arg = calloc(1, sizeof(*arg) + n * sizeof(*arg->extents));
	if (arg)
		arg->n_extents = (uint32_t)n;
	else
		ploop_fail_memory();
	return arg;
}

/**
 * ploop_reloc_load() - give up the content of clusters
 * @session: the device, in state BALLOON; then in state FBLOADED
 * @extents: clusters of the top that nobody needs
 *
 * Return: 0 or an exit code.
 */
int ploop_reloc_load(struct ploop_maintenance_session *session,
		     const struct ploop_extents *extents)
{
	struct ploop_freeblks_ctl *arg = new_list(extents->n);
	int rc = 0;

	if (!arg)
		return PLOOP_EXIT_MEMORY;
	arg->level = (uint8_t)top_level(session);
	memcpy(arg->extents, extents->extent, extents->n * sizeof(*arg->extents));
	if (ioctl(session->dev.fd, PLOOP_IOC_FREEBLKS, arg))
		rc = ploop_fail_errno(PLOOP_EXIT_IOCTL,
				      "%s did not accept the list of free clusters; dmesg may say why",
				      session->dev.node);
	else
		session->info.maintenance = PLOOP_MNTN_FBLOADED;
	free(arg);
	return rc;
}

/* level, head: as they were when it was loaded */
static int read_list(struct ploop_maintenance_session *session, struct ploop_freeblks_ctl **list)
{
	struct ploop_freeblks_ctl count = { 0 };

	*list = NULL;
	if (!ioctl(session->dev.fd, PLOOP_IOC_FBGET, &count)) {
		*list = new_list(count.n_extents);
		if (!*list)
			return PLOOP_EXIT_MEMORY;
		if (!ioctl(session->dev.fd, PLOOP_IOC_FBGET, *list))
			return 0;
	}
	return ploop_fail_errno(PLOOP_EXIT_IOCTL, "cannot read the list of free clusters of %s",
				session->dev.node);
}

static int relocate(struct ploop_maintenance_session *session, struct ploop_relocblks_ctl *arg)
{
	int error;

	do {
		error = ploop_maintenance_call(&session->dev, PLOOP_IOC_RELOCBLKS, arg,
					       "relocating");
		/* it goes on: ask again without a list */
		if (error == EINTR)
			arg->n_extents = arg->n_scanned = 0;
	} while (error == EINTR && !ploop_cancelled());
	/* another one waited for it, and got the number */
	if (error == EALREADY)
		arg->alloc_head = 0;
	return error == EALREADY ? 0 : error;
}

/*
 * The image cannot be made shorter. The clusters are given back where they are,
 * so that the device is not stuck.
 */
static int drop_list(struct ploop_maintenance_session *session, int error)
{
	if (ioctl(session->dev.fd, PLOOP_IOC_FBDROP))
		return ploop_maintenance_failed(&session->dev, PLOOP_MNTN_RELOC, error);
	ploop_note("the driver cannot make the top image of %s shorter (%s): its space is given back inside the file",
		   session->dev.node, strerror(error));
	return 0;
}

static int run_list(struct ploop_maintenance_session *session,
		    const struct ploop_freeblks_ctl *list, uint32_t *cut)
{
	const struct ploop_extents loaded = {
		.extent = (struct ploop_freeblks_extent *)list->extents,
		.n = list->n_extents,
	};
	struct ploop_relocblks_ctl *arg;
	struct ploop_extents mapped;
	struct ploop_image img;
	int error, rc;

	rc = open_top(session, &img);
	if (rc)
		return rc;
	rc = ploop_extents_find(&mapped, &img, NULL);
	if (rc)
		goto out_close_top;
	arg = ploop_extents_window(&mapped, &loaded, img.first, list->alloc_head);
	if (!arg) {
		rc = ploop_fail_memory();
		goto out_close_top;
	}
	arg->level = list->level;
	error = relocate(session, arg);
	if (!error)
		*cut = arg->alloc_head;
	else if (error == EINVAL || error == ENOMEM)
		rc = drop_list(session, error);
	else
		rc = ploop_maintenance_failed(&session->dev, PLOOP_MNTN_RELOC, error);
	free(arg);
out_close_top:
	ploop_extents_free(&mapped);
	ploop_image_close(&img);
	return rc;
}

/**
 * ploop_reloc_run() - make the top image shorter by the clusters that were given up
 * @session: the device, in state FBLOADED; then in state OFF
 * @cut: out: clusters the file is shorter by
 *
 * Return: 0 or an exit code.
 */
int ploop_reloc_run(struct ploop_maintenance_session *session, uint32_t *cut)
{
	struct ploop_freeblks_ctl *list;
	int rc;

	*cut = 0;
	rc = read_list(session, &list);
	if (!rc)
		rc = run_list(session, list, cut);
	free(list);
	return rc;
}

/**
 * ploop_reloc_wait() - wait for a relocation that is under way
 * @session: the device, in state RELOC; then in state OFF
 * @cut: out: clusters the file is shorter by; or NULL
 *
 * Return: 0 or an errno.
 */
int ploop_reloc_wait(struct ploop_maintenance_session *session, uint32_t *cut)
{
	struct ploop_balloon_ctl state = { .keep_intact = ONLY_ASK };
	struct ploop_relocblks_ctl arg = { 0 };
	int error = 0;

	if (ioctl(session->dev.fd, PLOOP_IOC_BALLOON, &state))
		return errno;
	if (state.mntn_type == PLOOP_MNTN_RELOC) {
		arg.alloc_head = state.alloc_head;
		arg.level = state.level;
		error = relocate(session, &arg);
	}
	if (cut)
		*cut = error ? 0 : arg.alloc_head;
	return error;
}

/**
 * ploop_reloc_end_discard() - end the collecting of discards, by whomever it was begun
 * @session: the device
 *
 * Return: 0 or an exit code.
 */
int ploop_reloc_end_discard(struct ploop_maintenance_session *session)
{
	/* EBUSY: the state is another one */
	if (ioctl(session->dev.fd, PLOOP_IOC_DISCARD_FINI) && errno != EBUSY)
		return ploop_fail_errno(PLOOP_EXIT_IOCTL,
					"cannot end the collecting of discards of %s",
					session->dev.node);
	return 0;
}
