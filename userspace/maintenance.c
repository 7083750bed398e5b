// SPDX-License-Identifier: GPL-2.0-only
#include "maintenance.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cancel.h"
#include "lock.h"
#include "progress.h"
#include "reloc.h"
#include "report.h"
#include "size.h"

/* the driver gets the news of so many moved clusters at once */
#define MAPS_PER_CALL	16384u
/* how often to look how far the driver is */
#define LOOK_MS		200
/* how often to wake a thread that shall not wait any more */
#define WAKE_MS		50
/* a process that tracked writes and was killed does so for a moment yet */
#define STALE_S		5

/**
 * struct call - an ioctl that takes long
 * @fd: the device
 * @request: its number
 * @arg: its argument
 * @error: its answer, 0 or an errno
 * @ended: an eventfd that becomes readable when there is one
 */
struct call {
	int fd;
	unsigned long request;
	void *arg;
	int error;
	int ended;
};

/**
 * ploop_maintenance_name() - name of what is done to the images of a device
 * @state: enum ploop_maintenance
 *
 * Return: the name, as the user's page has it.
 */
const char *ploop_maintenance_name(unsigned int state)
{
	switch (state) {
	case PLOOP_MNTN_OFF:
		return "OFF";
	case PLOOP_MNTN_BALLOON:
		return "BALLOON";
	case PLOOP_MNTN_FBLOADED:
		return "FBLOADED";
	case PLOOP_MNTN_SNAPSHOT:
		return "SNAPSHOT";
	case PLOOP_MNTN_TRACK:
		return "TRACK";
	case PLOOP_MNTN_DISCARD:
		return "DISCARD";
	case PLOOP_MNTN_MERGE:
		return "MERGE";
	case PLOOP_MNTN_GROW:
		return "GROW";
	case PLOOP_MNTN_RELOC:
		return "RELOC";
	}
	return "UNKNOWN";
}

/**
 * ploop_maintenance_refuse() - say what a device is busy with, and what to do
 * @info: the device, in any state but OFF
 *
 * Return: PLOOP_EXIT_BUSY.
 */
int ploop_maintenance_refuse(const struct ploop_info *info)
{
	const char *name = ploop_maintenance_name(info->maintenance);

	switch (info->maintenance) {
	case PLOOP_MNTN_BALLOON:
		return ploop_fail(PLOOP_EXIT_BUSY,
				  "%s is in state %s: if no command works on its balloon any more, run `ploop balloon clear -d %s`, then `ploop balloon check -d %s`",
				  info->node, name, info->node, info->node);
	case PLOOP_MNTN_FBLOADED:
	case PLOOP_MNTN_RELOC:
	case PLOOP_MNTN_DISCARD:
		return ploop_fail(PLOOP_EXIT_BUSY,
				  "%s is in state %s, a balloon or discard command was interrupted: run `ploop balloon complete -d %s` first",
				  info->node, name, info->node);
	case PLOOP_MNTN_MERGE:
	case PLOOP_MNTN_GROW:
		return ploop_fail(PLOOP_EXIT_BUSY,
				  "%s is busy with %s: wait for that to end, see `ploop info %s`",
				  info->node, name, info->node);
	}
	return ploop_fail(PLOOP_EXIT_BUSY, "%s is busy with %s: wait for that to end", info->node,
			  name);
}

static void *issue(void *data)
{
	struct call *call = data;
	const uint64_t one = 1;

	call->error = ioctl(call->fd, call->request, call->arg) ? errno : 0;
	if (write(call->ended, &one, sizeof(one)) < 0)
		abort();
	return NULL;
}

/* its only purpose is to end a system call */
static void wake_up(int signo)
{
	(void)signo;
}

/* until the thread has its answer; a signal to us makes it give up waiting */
static void watch_call(struct call *call, pthread_t thread, int index,
		       struct ploop_progress *progress)
{
	struct pollfd pfd[2] = {
		{ .fd = call->ended, .events = POLLIN },
		{ .fd = ploop_cancel_fd(), .events = POLLIN },
	};

	while (poll(pfd, 2, pfd[1].fd >= 0 ? LOOK_MS : WAKE_MS) <= 0 || !pfd[0].revents) {
		uint64_t done, total;

		if (ploop_cancelled()) {
			/* again and again: one that comes before the system call is lost */
			pfd[1].fd = -1;
			pthread_kill(thread, SIGUSR1);
		}
		ploop_sysfs_progress(index, &done, &total);
		if (total)
			ploop_progress_set(progress, done, total);
	}
}

/**
 * ploop_maintenance_call() - an ioctl that may wait for long, with a bar on the terminal
 * @dev: the device
 * @request: number of the ioctl
 * @arg: its argument
 * @what: what it does, as "merging"
 *
 * Return: 0 or an errno; EINTR: a signal ended the wait, not the operation.
 */
int ploop_maintenance_call(const struct ploop_device *dev, unsigned long request, void *arg,
			   const char *what)
{
	struct call call = { .fd = dev->fd, .request = request, .arg = arg };
	const struct sigaction action = { .sa_handler = wake_up };
	struct ploop_progress progress;
	pthread_t thread;

	ploop_progress_begin(&progress, what, 0);
	sigaction(SIGUSR1, &action, NULL);
	call.ended = eventfd(0, EFD_CLOEXEC);
	if (call.ended < 0)
		return errno;
	call.error = pthread_create(&thread, NULL, issue, &call);
	if (!call.error) {
		watch_call(&call, thread, dev->index, &progress);
		pthread_join(thread, NULL);
	}
	ploop_progress_clear();
	close(call.ended);
	return call.error;
}

/**
 * ploop_maintenance_failed() - say how the wait for an operation of the driver ended
 * @dev: the device
 * @state: the operation: enum ploop_maintenance
 * @error: an errno
 *
 * Return: an exit code.
 */
int ploop_maintenance_failed(const struct ploop_device *dev, unsigned int state, int error)
{
	const char *name = ploop_maintenance_name(state);

	switch (error) {
	case EINTR:
		ploop_fail_cancelled();
		ploop_note("the driver goes on with %s of %s: run %s to wait for it (see `ploop info %s`)",
			   name, dev->node,
			   state == PLOOP_MNTN_RELOC ? "`ploop balloon complete`" :
			   "the same command again", dev->node);
		return PLOOP_EXIT_CANCELLED;
	case EIO:
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "%s of %s ended with an I/O error: dmesg says where; mend that and run the command again",
				  name, dev->node);
	case EBUSY:
		return ploop_fail(PLOOP_EXIT_BUSY,
				  "%s is busy with %s, or an image below the top is marked in use or has another user: see `ploop list` and dmesg",
				  dev->node, ploop_maintenance_name(ploop_sysfs_maintenance(dev->index)));
	}
	errno = error;
	return ploop_fail_errno(PLOOP_EXIT_IOCTL, "%s of %s failed; dmesg says why", name,
				dev->node);
}

/* somebody began and nobody waited for the end: wait now */
static int finish_running(struct ploop_maintenance_session *session)
{
	const unsigned int state = session->info.maintenance;
	int error;

	switch (state) {
	case PLOOP_MNTN_MERGE:
		error = ploop_maintenance_call(&session->dev, PLOOP_IOC_MERGE, NULL, "merging");
		break;
	case PLOOP_MNTN_GROW:
		error = ploop_maintenance_call(&session->dev, PLOOP_IOC_GROW, NULL, "growing");
		break;
	case PLOOP_MNTN_RELOC:
		error = ploop_reloc_wait(session, NULL);
		break;
	default:
		return 0;
	}
	if (error && error != EALREADY)
		return ploop_maintenance_failed(&session->dev, state, error);
	session->finished = state;
	ploop_note("%s: completed a %s that was under way", session->info.node,
		   ploop_maintenance_name(state));
	return 0;
}

static int read_info(struct ploop_info *info, int index)
{
	int rc;

	rc = ploop_sysfs_device(index, info);
	if (rc || info->n_deltas)
		return rc;
	rc = ploop_fail(PLOOP_EXIT_NOT_ATTACHED, "%s has no images; see `ploop list`", info->node);
	ploop_sysfs_free(info);
	return rc;
}

/**
 * ploop_maintenance_refresh() - read all about the device again
 * @session: the session
 *
 * Return: 0 or an exit code; the session is still to be ended either way.
 */
int ploop_maintenance_refresh(struct ploop_maintenance_session *session)
{
	const int index = session->info.index;

	ploop_sysfs_free(&session->info);
	return read_info(&session->info, index);
}

/* who tracked was killed: the driver lets go what he held */
static void wait_for_stale_tracker(const struct ploop_info *info)
{
	struct ploop_deadline deadline = ploop_deadline_in(STALE_S, true);

	while (ploop_sysfs_maintenance(info->index) == PLOOP_MNTN_TRACK &&
	       ploop_deadline_pause(&deadline))
		;
}

/* the device is locked: who had the lock before may have changed everything */
static int open_device(struct ploop_maintenance_session *session)
{
	int rc;

	rc = ploop_maintenance_refresh(session);
	if (!rc)
		rc = ploop_device_open(&session->dev, session->info.index);
	if (!rc && !session->info.running)
		rc = ploop_fail(PLOOP_EXIT_DEVICE, "%s does not run: detach it and mount it again",
				session->info.node);
	return rc;
}

/**
 * ploop_maintenance_open() - get a running device for ourselves, in any state
 * @session: out: the device; to be ended by the caller when this succeeds
 * @index: N of ploopN
 *
 * Return: 0 or an exit code.
 */
int ploop_maintenance_open(struct ploop_maintenance_session *session, int index)
{
	int rc;

	memset(session, 0, sizeof(*session));
	session->dev.fd = -1;
	session->dev.control_fd = -1;
	rc = read_info(&session->info, index);
	if (rc)
		return rc;
	rc = ploop_lock_device(&session->info, 0, &session->lock_fd);
	if (!rc)
		rc = open_device(session);
	if (rc)
		ploop_maintenance_end(session);
	return rc;
}

/**
 * ploop_maintenance_begin() - get a running device for ourselves, with nothing under way
 * @session: out: the device; to be ended by the caller when this succeeds
 * @index: N of ploopN
 *
 * Waits for an operation that the driver is still busy with.
 *
 * Return: 0 or an exit code.
 */
int ploop_maintenance_begin(struct ploop_maintenance_session *session, int index)
{
	int rc;

	rc = ploop_maintenance_open(session, index);
	if (rc)
		return rc;
	rc = finish_running(session);
	if (!rc && session->info.maintenance == PLOOP_MNTN_TRACK)
		wait_for_stale_tracker(&session->info);
	if (!rc)
		rc = ploop_maintenance_refresh(session);
	if (!rc && session->info.maintenance != PLOOP_MNTN_OFF)
		rc = ploop_maintenance_refuse(&session->info);
	if (rc)
		ploop_maintenance_end(session);
	return rc;
}

/**
 * ploop_maintenance_end() - let others have the device
 * @session: the session
 */
void ploop_maintenance_end(struct ploop_maintenance_session *session)
{
	ploop_device_close(&session->dev);
	if (session->lock_fd >= 0)
		close(session->lock_fd);
	session->lock_fd = -1;
	ploop_sysfs_free(&session->info);
}

/**
 * ploop_maintenance_open_level() - open the image of a level
 * @session: the session
 * @level: the level
 * @writable: open it for writing too
 * @img: out: the image, loaded; to be closed by the caller when this succeeds
 *
 * Return: 0 or an exit code.
 */
int ploop_maintenance_open_level(const struct ploop_maintenance_session *session,
				 unsigned int level, bool writable, struct ploop_image *img)
{
	const struct ploop_info *info = &session->info;
	const struct ploop_delta *delta = &info->deltas[level];
	const bool raw = !strcmp(delta->format, ploop_format_name(PLOOP_FMT_RAW));
	int rc;

	rc = ploop_image_open(img, delta->image, writable);
	if (rc)
		return rc;
	if (ploop_sysfs_find_delta(info, img->dev, img->ino) != delta)
		rc = ploop_fail(PLOOP_EXIT_OPEN,
				"%s is not the file that %s has at level %u: it was replaced, or is in another mount namespace",
				delta->image, info->node, level);
	if (!rc)
		rc = ploop_image_load(img, raw ? PLOOP_FMT_RAW : PLOOP_FMT_PLOOP1);
	if (rc)
		ploop_image_close(img);
	return rc;
}

/**
 * ploop_maintenance_merge_top() - let the driver move the top into the level below
 * @session: the session; its info is old afterwards
 *
 * Return: 0 or an exit code.
 */
int ploop_maintenance_merge_top(struct ploop_maintenance_session *session)
{
	const int error = ploop_maintenance_call(&session->dev, PLOOP_IOC_MERGE, NULL, "merging");

	if (!error || error == EALREADY)
		return 0;
	return ploop_maintenance_failed(&session->dev, PLOOP_MNTN_MERGE, error);
}

/**
 * ploop_maintenance_grow() - let the driver make the device larger
 * @session: the session; its info is old afterwards
 * @size: the new size in sectors
 *
 * Return: 0 or an exit code.
 */
int ploop_maintenance_grow(struct ploop_maintenance_session *session, uint64_t size)
{
	const unsigned int log = ploop_cluster_log(session->info.cluster_sectors);
	struct ploop_ctl arg = { .cluster_log = log, .size = (uint32_t)size };
	int error;

	if (size > UINT32_MAX) {
		size = ploop_round_up(size, session->info.cluster_sectors);
		arg.flags = PLOOP_CTLF_CLUBLKS;
		arg.size = (uint32_t)(size >> log);
	}
	if (size > UINT32_MAX && size >> log > UINT32_MAX)
		error = EFBIG;
	else
		error = ploop_maintenance_call(&session->dev, PLOOP_IOC_GROW, &arg, "growing");
	if (!error || error == EALREADY)
		return 0;
	if (error == EFBIG)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "-s: %" PRIu64 " sectors are too many for the images of %s", size,
				  session->info.node);
	return ploop_maintenance_failed(&session->dev, PLOOP_MNTN_GROW, error);
}

/**
 * ploop_maintenance_delete() - take a level out of the stack
 * @session: the session; its info is old afterwards
 * @level: the level; what it holds is in the one below
 *
 * Return: 0 or an exit code.
 */
int ploop_maintenance_delete(struct ploop_maintenance_session *session, unsigned int level)
{
	uint32_t arg = level;

	if (ioctl(session->dev.fd, PLOOP_IOC_DEL_DELTA, &arg))
		return ploop_fail_errno(errno == EBUSY ? PLOOP_EXIT_BUSY : PLOOP_EXIT_IOCTL,
					"level %u of %s is merged, but cannot be taken away; dmesg may say why",
					level, session->dev.node);
	return 0;
}

static int update_index(const struct ploop_device *dev, struct ploop_index_update_ctl *arg)
{
	if (ioctl(dev->fd, PLOOP_IOC_UPDATE_INDEX, arg))
		return ploop_fail_errno(PLOOP_EXIT_IOCTL,
					"%s did not accept new places of clusters of level %u",
					dev->node, arg->level);
	return 0;
}

/**
 * ploop_maintenance_update_index() - tell the driver where clusters are now
 * @session: the session
 * @level: a read-only level
 * @map: clusters of the device, and where they are in the file
 * @n: number of @map
 *
 * Return: 0 or an exit code.
 */
int ploop_maintenance_update_index(struct ploop_maintenance_session *session, unsigned int level,
				   const struct ploop_reloc_map *map, size_t n)
{
	struct ploop_index_update_ctl *arg;
	int rc = 0;

	arg = calloc(1, sizeof(*arg) + MAPS_PER_CALL * sizeof(*map));
	if (!arg)
		return ploop_fail_memory();
	arg->level = (uint8_t)level;
	for (size_t i = 0; i < n && !rc; i += arg->n_maps) {
		arg->n_maps = n - i < MAPS_PER_CALL ? (uint32_t)(n - i) : MAPS_PER_CALL;
		memcpy(arg->reloc_map, map + i, arg->n_maps * sizeof(*map));
		rc = update_index(&session->dev, arg);
	}
	free(arg);
	return rc;
}
